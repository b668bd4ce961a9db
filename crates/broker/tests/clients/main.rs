//! One suite of real clients for any broker: librdkafka (current, through confluent-kafka; 2.0.2, through Debian's kcat),
//! kafka-python, the Java client by way of Kafka's own tools, franz-go, and our own `kafka` crate. Each test runs one of
//! them against a broker of ours, and one test runs all of them against a real Apache Kafka with the same assertions.
//! `SMARTCITY_TEST_BOOTSTRAP=host:port cargo test -p broker --test clients` takes that broker instead of ours.
//!
//! Where a client is not on the machine its test says SKIPPED and passes, but fails where `CI` is set.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod compacted;
mod kcat;
mod killed;
mod ours;
#[path = "../../../../tests/skip.rs"]
mod skip;
mod support;

use std::process::Command;
use std::thread;

use support::{RealKafka, Target, franz, have, have_python, jars, python, script, succeeds};

fn python_script(bootstrap: &str, name: &str) {
    if have_python() {
        succeeds(Command::new(python()).arg(script(name)).arg(bootstrap));
    }
}

fn librdkafka(bootstrap: &str) {
    python_script(bootstrap, "librdkafka.py");
}

fn librdkafka_admin(bootstrap: &str) {
    python_script(bootstrap, "librdkafka_admin.py");
}

fn librdkafka_transactions(bootstrap: &str) {
    python_script(bootstrap, "librdkafka_transactions.py");
}

fn kafka_python(bootstrap: &str) {
    python_script(bootstrap, "kafka_python.py");
}

fn old_librdkafka(bootstrap: &str) {
    if have("kcat", Command::new("kcat").arg("-V")) {
        kcat::run(bootstrap);
    }
}

fn java_tools(bootstrap: &str) {
    let Some(jars) = jars() else { return };
    let source = script("Tools.java");
    let mut java = Command::new("java");
    // Short-lived: compiling hot code well would cost more than it gains.
    java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
        .arg(format!("-Dtools.source={}", source.display()))
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(source)
        .arg(bootstrap);
    succeeds(&mut java);
}

fn franz_go(bootstrap: &str) {
    let Some(program) = franz() else { return };
    succeeds(Command::new(program).arg(bootstrap));
}

fn against_ours(client: fn(&str)) {
    let target = Target::start();
    client(&target.bootstrap);
    target.stop();
}

#[test]
fn librdkafka_produces_consumes_and_rebalances() {
    against_ours(librdkafka);
}

#[test]
fn librdkafka_administers() {
    against_ours(librdkafka_admin);
}

#[test]
fn librdkafka_uses_transactions() {
    against_ours(librdkafka_transactions);
}

#[test]
fn kafka_python_does_all_it_can() {
    against_ours(kafka_python);
}

#[test]
fn kcat_produces_and_consumes() {
    against_ours(old_librdkafka);
}

#[test]
fn the_tools_of_kafka_work() {
    against_ours(java_tools);
}

#[test]
fn franz_go_is_answered_as_kafka_answers() {
    against_ours(franz_go);
}

#[test]
fn our_crate_reads_and_writes() {
    against_ours(ours::run);
}

#[test]
fn a_real_kafka_passes_the_same_suite() {
    // Whoever names a broker means that one alone.
    if std::env::var_os("SMARTCITY_TEST_BOOTSTRAP").is_some() {
        return;
    }
    // It takes as long as all the others together.
    if std::env::var_os("CI").is_none() {
        skip::skip("CI=true, with which the suite runs against a real Apache Kafka as well,");
        return;
    }
    let Some(kafka) = RealKafka::start() else { return };
    let lanes: [&[fn(&str)]; 3] = [
        &[java_tools],
        &[librdkafka, librdkafka_transactions, ours::run],
        &[franz_go, librdkafka_admin, kafka_python, old_librdkafka],
    ];
    // A lane's panic comes out of the scope once all have ended.
    thread::scope(|scope| {
        for lane in lanes {
            let bootstrap = &kafka.bootstrap;
            scope.spawn(move || lane.iter().for_each(|client| client(bootstrap)));
        }
    });
}
