//! What a running ingest says of itself and of its topics: readiness while Kafka is away, topics that are not there,
//! properties that are not the user's.

use std::path::Path;
use std::time::{Duration, Instant};

use kafka::{Event, KafkaConfig, KafkaSource, Message, Producer, Source as _, Subscription};

use crate::support::{Process, broker, count, declaration, eventually, get, run, smartcity};

/// The broker at an address that it had before.
fn broker_at(dir: &Path, address: &str) -> Process {
    let mut command = smartcity();
    command.args(["broker", "--listen", address, "--data-dir"]);
    let mut broker = Process::start(command.arg(dir.join("broker")));
    broker.wait_for("kafka broker at ", Duration::from_secs(30));
    broker
}

fn send(address: &str, topic: &str, records: i64) {
    let kafka = KafkaConfig::new(address);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(kafka::create_topics(&kafka, &[topic], 2)).unwrap();
    let producer = Producer::open(&kafka, Duration::ZERO).unwrap();
    for number in 0..records {
        let value = format!("{{\"id\":{number},\"at\":\"2026-01-01T00:00:00Z\"}}");
        let message = Message {
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        producer.send(topic, message).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// A folder with one declared stream, which names its topic itself.
fn declared(dir: &Path, name: &str, topic: &str) -> std::path::PathBuf {
    let streams = dir.join(format!("streams-{name}"));
    std::fs::create_dir_all(&streams).unwrap();
    let text = declaration(name, "");
    let text = text.replacen("key = ", &format!("topic = \"{topic}\"\nkey = "), 1);
    std::fs::write(streams.join(format!("{name}.toml")), text).unwrap();
    streams
}

#[test]
fn readiness_follows_kafka_and_liveness_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (first, address) = broker(dir.path());
    send(&address, "orders", 10);
    let streams = declared(dir.path(), "orders", "orders");
    let mut command = smartcity();
    command.args([
        "ingest",
        "--latency",
        "100ms",
        "--http-listen",
        "127.0.0.1:0",
        "--bootstrap-servers",
        &address,
    ]);
    let mut ingest = Process::start(
        command
            .arg("--streams")
            .arg(streams)
            .arg("--lake")
            .arg(dir.path().join("lake")),
    );
    let line = ingest.wait_for("progress at ", Duration::from_secs(30));
    let http = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let is = |path: &str, code: &str| get(&http, path).0.contains(code);
    eventually("ready", Duration::from_secs(30), || is("/readyz", "200"));
    ingest.wait_for("committed", Duration::from_secs(30));
    assert!(is("/health", "200") && is("/livez", "200"));
    assert!(get(&http, "/metrics").1.contains("smartcity_ingest_ready 1"));
    first.kill();
    eventually("unready", Duration::from_secs(25), || is("/readyz", "503"));
    let (_, body) = get(&http, "/readyz");
    assert!(
        body.contains("Kafka has not answered for") && body.contains("tries"),
        "{body}"
    );
    assert!(is("/livez", "200") && is("/health", "503"));
    let metrics = get(&http, "/metrics").1;
    assert!(metrics.contains("smartcity_ingest_ready 0"), "{metrics}");
    assert!(
        metrics.contains("smartcity_ingest_commit_age_seconds{stream=\"orders\"}"),
        "{metrics}"
    );
    let again = broker_at(dir.path(), &address);
    eventually("ready again", Duration::from_secs(30), || is("/readyz", "200"));
    ingest.wait_for("Kafka answers again", Duration::from_secs(5));
    ingest.stop();
    again.stop();
}

#[test]
fn a_topic_that_is_not_there_is_named_with_the_nearest() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    send(&address, "shop.orders", 5);
    let ingest = |streams: &Path, more: &[&str]| {
        let mut command = smartcity();
        command
            .args(["ingest", "--until-caught-up", "--bootstrap-servers", &address])
            .args(more);
        let output = command
            .arg("--streams")
            .arg(streams)
            .arg("--lake")
            .arg(dir.path().join("lake"))
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let misspelt = declared(dir.path(), "orders", "shop.ordres");
    let (code, told) = ingest(&misspelt, &[]);
    assert_eq!(code, Some(2), "{told}");
    assert!(
        told.contains("error: there is no such topic in Kafka: shop.ordres (did you mean `shop.orders`?)"),
        "{told}"
    );
    // One of two: the other is read, and it is said.
    std::fs::write(
        misspelt.join("payments.toml"),
        declaration("payments", "").replacen("key = ", "topic = \"shop.orders\"\nkey = ", 1),
    )
    .unwrap();
    let (code, told) = ingest(&misspelt, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("shop.ordres") && told.contains("shop.orders") && told.contains("no such topic"),
        "{told}"
    );
    assert_eq!(count(&dir.path().join("lake"), "payments"), 5);
    // The lake knows its tables without the declarations.
    let status = run(smartcity()
        .args(["status", "--json", "--lake"])
        .arg(dir.path().join("lake")));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let tables = status["streams"].as_array().unwrap();
    let payments = tables.iter().find(|table| table["stream"] == "payments").unwrap();
    assert_eq!(
        (&payments["rows"], &payments["declared"]),
        (&5.into(), &false.into()),
        "{status}"
    );
    assert!(payments["last_ingested"].is_string(), "{status}");
    let text = run(smartcity().args(["status", "--lake"]).arg(dir.path().join("lake")));
    assert!(
        text.contains("payments: 5 rows, 0 dead letters (not declared here"),
        "{text}"
    );
    broker.stop();
}

#[test]
fn properties_that_exactly_once_rests_on_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("settings.toml");
    std::fs::write(
        &settings,
        "[kafka.properties]\n\"enable.auto.commit\" = \"true\"\n\"isolation.level\" = \"read_uncommitted\"\n\
         \"client.rack\" = \"a\"\n\"acks\" = \"1\"\n\"key.deserializer\" = \"x\"\n\"group.id\" = \"mine\"\n",
    )
    .unwrap();
    for command in [&["ingest"][..], &["simulate"], &["up"]] {
        let output = smartcity()
            .args(command)
            .arg("--config")
            .arg(&settings)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command:?}: {told}");
        for part in [
            "enable.auto.commit=true",
            "isolation.level=",
            "acks=1",
            "key.deserializer",
            "kafka.group_id",
        ] {
            assert!(told.contains(part), "{command:?}: {part} is not in {told}");
        }
        assert!(!told.contains("client.rack"), "{told}");
    }
}

/// A second member of a group takes over half of the partitions of one that has started this many of four.
fn revoked(address: &str, started: usize) {
    let topic = format!("revoked-{started}");
    let config = KafkaConfig::new(address);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(kafka::create_topics(&config, &[&topic], 4)).unwrap();
    let open = || {
        let group_id = topic.clone();
        KafkaSource::open(&config, &[&topic], Subscription::Group { group_id }, 8 << 20).unwrap()
    };
    let poll = |source: &mut KafkaSource| source.poll(Duration::from_millis(20), true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut first = open();
    let all = 'all: loop {
        assert!(Instant::now() < deadline, "nothing was assigned");
        for event in poll(&mut first) {
            if let Event::Assigned(partitions) = event {
                break 'all partitions;
            }
        }
    };
    assert_eq!(all.len(), 4);
    let start = |source: &mut KafkaSource, partitions: &[model::TopicPartition]| {
        let starts: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
        source.assign(&starts).unwrap();
    };
    start(&mut first, &all[..started]);
    let mut second = open();
    let mut taken = 0;
    while taken < 2 {
        assert!(
            Instant::now() < deadline,
            "{started} started: the second member has {taken} partitions"
        );
        for event in poll(&mut first) {
            match event {
                Event::Revoked(revoked) => first.unassign(&revoked).unwrap(),
                Event::Assigned(more) => start(&mut first, &more),
                Event::Chunk(_) => {}
            }
        }
        for event in poll(&mut second) {
            if let Event::Assigned(partitions) = event {
                taken += partitions.len();
                start(&mut second, &partitions);
            }
        }
    }
}

#[test]
fn what_was_never_started_can_be_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    for started in [4, 1, 0] {
        revoked(&address, started);
    }
    broker.stop();
}
