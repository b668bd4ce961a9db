//! Brokers that are killed while producers run. `SMARTCITY_KILL_ROUNDS=20` makes it the long form.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig};
use kafka::{Event, KafkaConfig, KafkaSource, Message, Producer, Source as _, Subscription};
use model::TopicPartition;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::support::{have_python, python, script};

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
            .args(["killed::serve_as_a_process", "--exact", "--ignored", "--nocapture"])
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

/// Our reader, as a static member (KIP-345). When the broker is away for longer than the session, librdkafka forgets its
/// member id, and the broker, back again, takes it for a second member of the same name.
#[test]
fn a_static_member_of_ours_outlives_an_outage_longer_than_its_session() {
    let dir = TempDir::new().unwrap();
    let process = Process::start("127.0.0.1:0", dir.path());
    let address = process.address.to_string();
    let mut config = KafkaConfig::new(&address);
    let static_member = [
        ("group.instance.id", "one"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "500"),
    ];
    let static_member = static_member.map(|(name, value)| (name.to_owned(), value.to_owned()));
    config.properties.extend(static_member);
    let topic = "static";
    let runtime = Runtime::new().unwrap();
    runtime.block_on(kafka::create_topics(&config, &[topic], 1)).unwrap();
    let group_id = topic.to_owned();
    let mut source = KafkaSource::open(&config, &[topic], Subscription::Group { group_id }, 8 << 20).unwrap();

    let place = TopicPartition::new(topic, 0);
    let mut read = 0;
    let mut until = |what: &str, source: &mut KafkaSource, is_it: fn(&Event) -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            assert!(Instant::now() < end, "{what}");
            for event in source.poll(Duration::from_millis(50), true).unwrap() {
                match &event {
                    Event::Assigned(_) => source.assign(&[(place.clone(), read)]).unwrap(),
                    Event::Chunk(chunk) => {
                        assert_eq!(chunk.span().from, read);
                        read = chunk.span().to;
                    }
                    Event::Revoked(_) => {}
                }
                if is_it(&event) {
                    return;
                }
            }
        }
    };
    let send = |number: &[u8]| {
        let producer = Producer::open(&config, Duration::from_millis(5)).unwrap();
        let message = Message {
            key: None,
            value: Some(number),
            headers: &[],
        };
        producer.send(topic, message).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();
    };
    send(b"1");
    until("the first record", &mut source, |event| {
        matches!(event, Event::Chunk(_))
    });
    process.kill();
    until("the session's end", &mut source, |event| {
        matches!(event, Event::Revoked(_))
    });
    // Its last batch takes a while to land, and meanwhile the broker is back.
    let process = Process::start(&address, dir.path());
    thread::sleep(Duration::from_secs(3));
    source.unassign(&[TopicPartition::new(topic, 0)]).unwrap();
    send(b"2");
    until("the second record", &mut source, |event| {
        matches!(event, Event::Chunk(_))
    });
    drop(source);
    process.kill();
}
