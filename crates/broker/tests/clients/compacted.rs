//! What keeps its state in compacted topics: Kafka Connect's and Kafka Streams' topics through the Java client, and a real
//! schema registry, over restarts of the broker and of the registry, with the cleaner at work.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{free_port, have, jars, script, succeeds};

struct Running {
    runtime: Runtime,
    broker: Broker,
}

impl Running {
    fn start(dir: &Path, listen: SocketAddr) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut config = BrokerConfig::new(listen, dir);
        config.cleaner_interval = Duration::from_millis(200);
        let broker = runtime.block_on(Broker::start(config)).unwrap();
        Self { runtime, broker }
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.shutdown()).unwrap();
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Bytes of a topic's segments.
fn size(dir: &Path, topic: &str) -> u64 {
    let mut bytes = 0;
    for partition in std::fs::read_dir(dir.join("topics").join(topic))
        .unwrap()
        .map(|it| it.unwrap().path())
    {
        let Ok(files) = std::fs::read_dir(partition) else {
            continue;
        };
        let logs = files
            .map(|file| file.unwrap())
            .filter(|file| file.path().extension().is_some_and(|it| it == "log"));
        bytes += logs.map(|file| file.metadata().map_or(0, |it| it.len())).sum::<u64>();
    }
    bytes
}

#[test]
fn the_topics_of_connect_and_streams_are_compacted_and_read_back() {
    let Some(jars) = jars() else { return };
    let java = |address: SocketAddr, what: &str| {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
            .arg("-cp")
            .arg(jars.join("*"))
            .arg(script("Compacted.java"))
            .args([&address.to_string(), what]);
        succeeds(&mut java);
    };
    let dir = TempDir::new().unwrap();
    let running = Running::start(dir.path(), any_port());
    java(running.broker.address(), "write");
    java(running.broker.address(), "read");
    // 6,000 records, of which 20 are to stay, and what is in the segment being written.
    let deadline = Instant::now() + Duration::from_secs(60);
    for topic in [
        "connect-configs",
        "connect-status",
        "app-store-changelog",
        "app-window-changelog",
        "_schemas",
    ] {
        while size(dir.path(), topic) > 120_000 {
            assert!(Instant::now() < deadline, "{topic}: {} bytes", size(dir.path(), topic));
            thread::sleep(Duration::from_millis(100));
        }
    }
    java(running.broker.address(), "read");
    running.stop();
    let running = Running::start(dir.path(), any_port());
    java(running.broker.address(), "read");
    running.stop();
}

/// Apicurio's registry with its storage in Kafka: schemas and ids outlive a restart of the registry and of the broker.
#[test]
fn a_schema_registry_keeps_its_schemas() {
    let script = Path::new("../../tests/kafka/real-registry");
    if !have(
        "a schema registry (Java 21 or newer, Maven)",
        Command::new(script).arg("--files"),
    ) {
        return;
    }
    let (dir, registry_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let registry = |broker: SocketAddr| {
        let port = free_port().to_string();
        let mut start = Command::new(script);
        start
            .arg("start")
            .arg(registry_dir.path())
            .args([&port, &broker.to_string()]);
        let output = start.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the registry did not start: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let stop = || succeeds(Command::new(script).arg("stop").arg(registry_dir.path()));
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body"])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}");
        text
    };
    let schema = |n: usize| {
        format!(
            r#"{{"schema": "{{\"type\": \"record\", \"name\": \"r{n}\", \"fields\": [{{\"name\": \"f\", \"type\": \"long\"}}]}}"}}"#
        )
    };
    let register = |base: &str, n: usize| {
        let url = format!("{base}/subjects/s{n}-value/versions");
        let json = "Content-Type: application/vnd.schemaregistry.v1+json";
        curl(&["-X", "POST", "-H", json, "-d", &schema(n), &url])
    };
    let subjects = |base: &str| {
        let mut names: Vec<_> = curl(&[&format!("{base}/subjects")])
            .split('"')
            .map(str::to_owned)
            .filter(|it| it.starts_with('s'))
            .collect();
        names.sort();
        names
    };

    let running = Running::start(dir.path(), any_port());
    let address = running.broker.address();
    let base = registry(address);
    let ids: Vec<_> = (0..5).map(|n| register(&base, n)).collect();
    let expected: Vec<_> = (0..5).map(|n| format!("s{n}-value")).collect();
    assert_eq!(subjects(&base), expected);
    stop();
    let base = registry(address);
    assert_eq!(subjects(&base), expected, "after a restart of the registry");
    stop();
    running.stop();
    let running = Running::start(dir.path(), address);
    let base = registry(address);
    assert_eq!(subjects(&base), expected, "after a restart of both");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(&register(&base, n), id, "the same schema has the same id");
    }
    stop();
    running.stop();
}
