//! Real clients against the broker: librdkafka (current, through confluent-kafka; 2.0.2, through Debian's kcat) and
//! kafka-python. The scripts take a bootstrap address, so that they run against any broker:
//! `SMARTCITY_TEST_BOOTSTRAP=host:port cargo test -p broker --test clients` takes that one instead of ours.
//!
//! Without Python's modules or kcat a test says SKIPPED and passes, but fails where `CI` is set.

#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn python() -> String {
    std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Whether `command` runs; says loudly when it does not.
fn have(what: &str, command: &mut Command) -> bool {
    let there = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing and this is CI");
        eprintln!("SKIPPED: {what} is not on this machine");
    }
    there
}

fn have_python() -> bool {
    let modules = "import confluent_kafka, kafka";
    have(
        "Python with confluent-kafka and kafka-python (SMARTCITY_PYTHON)",
        Command::new(python()).args(["-c", modules]),
    )
}

fn have_kcat() -> bool {
    have("kcat", Command::new("kcat").arg("-V"))
}

/// A broker of our own, or the one that was asked for.
struct Target {
    bootstrap: String,
    running: Option<(Runtime, Broker, TempDir)>,
}

impl Target {
    fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("SMARTCITY_TEST_BOOTSTRAP") {
            return Self {
                bootstrap,
                running: None,
            };
        }
        let runtime = Runtime::new().unwrap();
        let dir = TempDir::new().unwrap();
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path());
        // Small, so that every test crosses segments.
        config.segment_bytes = 64 << 10;
        let broker = runtime.block_on(Broker::start(config)).unwrap();
        Self {
            bootstrap: broker.address().to_string(),
            running: Some((runtime, broker, dir)),
        }
    }

    fn stop(self) {
        if let Some((runtime, broker, _dir)) = self.running {
            runtime.block_on(broker.shutdown()).unwrap();
        }
    }
}

fn run_script(name: &str) {
    if !have_python() {
        return;
    }
    let target = Target::start();
    let status = Command::new(python())
        .arg(script(name))
        .arg(&target.bootstrap)
        .status()
        .unwrap();
    assert!(status.success(), "{name}: {status}");
    target.stop();
}

#[test]
fn python_clients_produce_consume_and_rebalance() {
    run_script("smoke.py");
}

#[test]
fn python_clients_use_transactions() {
    run_script("transactions.py");
}

#[test]
fn python_clients_administer() {
    run_script("admin.py");
}

#[test]
fn kcat_produces_and_consumes_with_every_codec() {
    if !have_kcat() {
        return;
    }
    let target = Target::start();
    let run = std::process::id();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for settings in [&["-X", "acks=all"][..], &["-X", "enable.idempotence=true"]] {
            let topic = format!("kcat-{codec}-{}-{run}", settings[1].len());
            let mut producer = Command::new("kcat")
                .args(["-b", &target.bootstrap, "-P", "-t", &topic, "-z", codec])
                .args(settings)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let lines: String = (0..3000).map(|i| format!("line {i} of {codec}\n")).collect();
            producer.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            assert!(producer.wait().unwrap().success());
            let output = Command::new("kcat")
                .args(["-b", &target.bootstrap, "-C", "-t", &topic, "-e", "-q"])
                .output()
                .unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let mut got: Vec<_> = text.lines().collect();
            let mut sent: Vec<_> = lines.lines().collect();
            got.sort_unstable();
            sent.sort_unstable();
            assert!(got == sent, "{codec}: {} of {} lines", got.len(), sent.len());
        }
    }
    target.stop();
}

const LISTEN: &str = "SMARTCITY_BROKER_TEST_LISTEN";
const DATA_DIR: &str = "SMARTCITY_BROKER_TEST_DIR";

/// Not a test: this binary started again as a broker that can be killed.
#[test]
#[ignore = "the broker process of the tests that kill one"]
fn serve_as_a_process() {
    let (Ok(listen), Ok(dir)) = (std::env::var(LISTEN), std::env::var(DATA_DIR)) else {
        return;
    };
    let mut config = BrokerConfig::new(listen.parse().unwrap(), dir);
    config.segment_bytes = 1 << 20;
    Runtime::new().unwrap().block_on(async {
        let broker = Broker::start(config).await.unwrap();
        println!("\nlistening {}", broker.address());
        std::future::pending::<()>().await;
    });
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(listen: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["serve_as_a_process", "--exact", "--ignored", "--nocapture"])
            .env(LISTEN, listen)
            .env(DATA_DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("listening ")?.parse().ok());
        Self {
            child,
            address: address.expect("the broker process did not start"),
        }
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn kill_while_producing(kind: &str) {
    if !have_python() {
        return;
    }
    let rounds: u32 = std::env::var("SMARTCITY_KILL_ROUNDS").map_or(4, |rounds| rounds.parse().unwrap());
    let dir = TempDir::new().unwrap();
    let mut process = Process::start("127.0.0.1:0", dir.path());
    let address = process.address.to_string();
    let topic = "killed";
    let producer = Command::new(python())
        .arg(script("acknowledged.py"))
        .args([&address, topic, kind, "0", &format!("{}", f64::from(rounds) * 1.0)])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for round in 0..rounds {
        thread::sleep(Duration::from_millis(600 + u64::from(round * 37 % 300)));
        process.kill();
        let started = Instant::now();
        process = Process::start(&address, dir.path());
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "restart took {:?}",
            started.elapsed()
        );
    }
    let output = producer.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("sent 0"),
        "the producer failed"
    );
    let read = Command::new(python())
        .arg(script("read_all.py"))
        .args([&address, topic, "read_uncommitted"])
        .output()
        .unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    let mut values: HashMap<(&str, &str), &str> = HashMap::new();
    for line in read.lines() {
        let mut words = line.split(' ');
        values.insert((words.next().unwrap(), words.next().unwrap()), words.next().unwrap());
    }
    let acknowledged: Vec<_> = text.lines().filter(|line| !line.starts_with("sent")).collect();
    for line in &acknowledged {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(
            values.get(&(words[0], words[1])),
            Some(&words[2]),
            "acknowledged and lost, or elsewhere: {line}"
        );
    }
    if kind == "idempotent" {
        let distinct: HashSet<_> = values.values().collect();
        assert_eq!(distinct.len(), values.len(), "idempotent records are in the log twice");
    }
    println!(
        "{kind}: {} acknowledged over {rounds} kills, {} in the log",
        acknowledged.len(),
        values.len()
    );
    assert!(acknowledged.len() > 100);
    process.kill();
}

#[test]
fn killed_while_idempotent_producers_run() {
    kill_while_producing("idempotent");
}

#[test]
fn killed_while_plain_producers_run() {
    kill_while_producing("plain");
}
