//! What Kafka does to a reader in a year: partitions added, transactions aborted, records deleted and compacted, a topic made
//! anew. Each record lands once, or it is said what is missing. Against the embedded broker and against a real Apache Kafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Process, broker, count, declaration, eventually, query, real_kafka_with, run, smartcity};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::runtime::Runtime;

const STREAMS: [&str; 8] = [
    "added",
    "aborted",
    "trimmed",
    "remade",
    "swapped",
    "compacted",
    "quiet",
    "grown",
];
const LATEST: [&str; 2] = ["--starting-offsets", "latest"];
const PATIENCE: Duration = Duration::from_secs(60);

struct City {
    address: String,
    streams: PathBuf,
    lake: PathBuf,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
}

type Producer = ThreadedProducer<DefaultProducerContext>;

impl City {
    fn new(address: &str, dir: &Path) -> Self {
        let streams = dir.join("streams");
        std::fs::create_dir(&streams).unwrap();
        for name in STREAMS {
            std::fs::write(streams.join(format!("{name}.toml")), declaration(name, "")).unwrap();
        }
        Self {
            address: address.to_owned(),
            streams,
            lake: dir.join("lake"),
            admin: Self::client(address).create().unwrap(),
            runtime: Runtime::new().unwrap(),
        }
    }

    fn client(address: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address);
        config
    }

    fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        // One that is being deleted is in the way for a moment.
        eventually("the topic is made", PATIENCE, || {
            let made = self.admin.create_topics([&new], &AdminOptions::new());
            self.runtime.block_on(made).unwrap().iter().all(Result::is_ok)
        });
    }

    fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let mut config = Self::client(&self.address);
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    fn send(producer: &Producer, topic: &str, partition: i32, numbers: std::ops::Range<i64>) {
        for number in numbers {
            let value = format!(r#"{{"id":{number},"at":"2026-01-01T00:00:00Z"}}"#);
            // Ten keys, for the topic that keeps the last of each.
            let key = format!("{}", number % 10);
            producer
                .send(BaseRecord::to(topic).partition(partition).key(&key).payload(&value))
                .unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn ingest(&self, stream: &str, more: &[&str]) -> Command {
        let mut command = smartcity();
        command.args(["ingest", "--only", stream, "--bootstrap-servers", &self.address]);
        command
            .args(more)
            .arg("--streams")
            .arg(&self.streams)
            .arg("--lake")
            .arg(&self.lake);
        command
    }

    fn land(&self, stream: &str) {
        run(&mut self.ingest(stream, &["--until-caught-up"]));
    }

    /// Lands nothing and says why.
    fn refuses(&self, stream: &str, why: &str) {
        let output = self.ingest(stream, &["--until-caught-up"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains(why), "{told}");
    }

    fn verify(&self, table: &str) {
        let mut command = smartcity();
        command.args(["lake", "verify", "--against-kafka", "--table", table]);
        command
            .args(["--bootstrap-servers", &self.address])
            .arg("--streams")
            .arg(&self.streams);
        run(command.arg("--lake").arg(&self.lake));
    }

    fn partitions_that_are_added_are_read(&self) {
        self.create("added", 1, &[]);
        let producer = self.producer(&[]);
        Self::send(&producer, "added", 0, 0..100);
        let ingest = Process::start(&mut self.ingest("added", &["--latency", "100ms"]));
        eventually("the first partition", PATIENCE, || {
            self.lake.join("data/added").exists() && count(&self.lake, "added") == 100
        });
        let (three, options) = (NewPartitions::new("added", 3), AdminOptions::new());
        let added = self.admin.create_partitions([&three], &options);
        assert!(self.runtime.block_on(added).unwrap().iter().all(Result::is_ok));
        // A producer that knew the topic before learns of them late.
        let producer = self.producer(&[]);
        Self::send(&producer, "added", 1, 100..200);
        Self::send(&producer, "added", 2, 200..300);
        eventually("the partitions that were added", PATIENCE, || {
            count(&self.lake, "added") == 300
        });
        ingest.stop();
        self.verify("added");
    }

    fn ids(&self, table: &str) -> Vec<i64> {
        let rows = query(&self.lake, &format!("select id from {table} order by id"));
        rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
    }

    /// What is sent while nothing runs is read, in a partition without rows as well.
    fn latest_is_decided_once(&self) {
        self.create("quiet", 2, &[]);
        let producer = self.producer(&[]);
        Self::send(&producer, "quiet", 0, 0..3);
        let land = || run(self.ingest("quiet", &["--until-caught-up"]).args(LATEST));
        land();
        Self::send(&producer, "quiet", 0, 10..15);
        Self::send(&producer, "quiet", 1, 20..25);
        land();
        let sent: Vec<i64> = (10..15).chain(20..25).collect();
        assert_eq!(self.ids("quiet"), sent);
        self.verify("quiet");
    }

    /// Also what was sent before the client has heard of the partition (KAFKA-12261).
    fn latest_is_not_decided_for_partitions_that_are_added(&self) {
        self.create("grown", 1, &[]);
        Self::send(&self.producer(&[]), "grown", 0, 0..3);
        let mut ingest = Process::start(self.ingest("grown", &["--latency", "100ms"]).args(LATEST));
        ingest.wait_for("reading", PATIENCE);
        let (two, options) = (NewPartitions::new("grown", 2), AdminOptions::new());
        let added = self.admin.create_partitions([&two], &options);
        assert!(self.runtime.block_on(added).unwrap().iter().all(Result::is_ok));
        Self::send(&self.producer(&[]), "grown", 1, 10..15);
        eventually("the partition that was added", PATIENCE, || {
            count(&self.lake, "grown") == 5
        });
        ingest.stop();
        assert_eq!(self.ids("grown"), (10..15).collect::<Vec<_>>());
        self.verify("grown");
    }

    /// Records of two topics have the same partition and offset.
    fn a_dead_letter_of_a_renamed_topic_is_replayed(&self, dir: &Path) {
        let declare = |topic: &str, max: i64| {
            let named = format!("name = \"renamed\"\ntopic = \"{topic}\"");
            let bounded = format!("doc = \"Number.\"\nmax = {max}");
            let text = declaration("renamed", "").replacen("name = \"renamed\"", &named, 1);
            let folder = dir.join(format!("{topic}_{max}"));
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(
                folder.join("renamed.toml"),
                text.replacen("doc = \"Number.\"", &bounded, 1),
            )
            .unwrap();
            folder
        };
        let command = |words: &[&str], streams: &Path| {
            let mut command = smartcity();
            command.args(words).arg("--streams").arg(streams);
            command.arg("--lake").arg(&self.lake);
            command
        };
        let kafka = ["--bootstrap-servers", self.address.as_str()];
        let producer = self.producer(&[]);
        for topic in ["renamed_old", "renamed_new"] {
            self.create(topic, 1, &[]);
        }
        Self::send(&producer, "renamed_old", 0, 0..5);
        Self::send(&producer, "renamed_new", 0, 100..102);
        Self::send(&producer, "renamed_new", 0, 600..601);
        Self::send(&producer, "renamed_new", 0, 103..104);
        for topic in ["renamed_old", "renamed_new"] {
            let mut ingest = command(&["ingest", "--until-caught-up"], &declare(topic, 500));
            run(ingest.args(kafka));
        }
        assert_eq!(self.ids("renamed"), [0, 1, 2, 3, 4, 100, 101, 103]);
        let lenient = declare("renamed_new", 700);
        run(&mut command(&["dlq", "replay"], &lenient));
        assert_eq!(self.ids("renamed"), [0, 1, 2, 3, 4, 100, 101, 103, 600]);
        let left = query(
            &self.lake,
            "select count(*) as n from dead_letters where topic = 'renamed_new'",
        );
        assert_eq!(left[0]["n"], 0);
        run(&mut command(&["lake", "verify", "--table", "renamed"], &lenient));
        let mut compare = command(&["lake", "verify", "--against-kafka", "--table", "renamed"], &lenient);
        run(compare.args(kafka));
    }

    fn what_was_aborted_never_lands(&self) {
        self.create("aborted", 1, &[]);
        let producer = self.producer(&[("transactional.id", "faults")]);
        producer.init_transactions(PATIENCE).unwrap();
        for (round, commit) in [true, false, false, true, false].into_iter().enumerate() {
            producer.begin_transaction().unwrap();
            Self::send(&producer, "aborted", 0, round as i64 * 20..(round as i64 + 1) * 20);
            match commit {
                true => producer.commit_transaction(PATIENCE).unwrap(),
                false => producer.abort_transaction(PATIENCE).unwrap(),
            }
            self.land("aborted");
        }
        let sums = &query(&self.lake, "select count(*) as rows, sum(id) as ids from aborted")[0];
        let ids: i64 = (0..20).chain(60..80).sum();
        assert_eq!((&sums["rows"], &sums["ids"]), (&40.into(), &ids.into()));
        self.verify("aborted");
    }

    fn what_is_gone_is_told(&self) {
        self.create("trimmed", 1, &[]);
        let producer = self.producer(&[]);
        Self::send(&producer, "trimmed", 0, 0..50);
        self.land("trimmed");
        Self::send(&producer, "trimmed", 0, 50..100);
        let mut until = TopicPartitionList::new();
        until.add_partition_offset("trimmed", 0, Offset::Offset(80)).unwrap();
        let deleted = self.admin.delete_records(&until, &AdminOptions::new());
        self.runtime.block_on(deleted).unwrap();
        self.refuses("trimmed", "offsets 50 to 79 are gone from Kafka");
        run(&mut self.ingest("trimmed", &["--until-caught-up", "--fail-on-data-loss", "false"]));
        assert_eq!(count(&self.lake, "trimmed"), 70);
        let gaps = query(
            &self.lake,
            "select from_offset, to_offset from gaps where topic = 'trimmed'",
        );
        assert_eq!(gaps, [serde_json::json!({"from_offset": 50, "to_offset": 80})]);
        run(smartcity()
            .args(["lake", "verify", "--table", "trimmed", "--lake"])
            .arg(&self.lake));
    }

    fn make_anew(&self, topic: &str) {
        let deleted = self.admin.delete_topics(&[topic], &AdminOptions::new());
        assert!(self.runtime.block_on(deleted).unwrap().iter().all(Result::is_ok));
        self.create(topic, 1, &[]);
    }

    /// Neither while it is shorter than the old one, nor when it has grown past what has landed.
    fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one(&self) {
        self.create("remade", 1, &[]);
        Self::send(&self.producer(&[]), "remade", 0, 0..50);
        self.land("remade");
        self.make_anew("remade");
        for numbers in [0..10, 10..80] {
            Self::send(&self.producer(&[]), "remade", 0, numbers);
            self.refuses("remade", "remade was recreated");
        }
        assert_eq!(count(&self.lake, "remade"), 50);
    }

    /// The same under a running ingest.
    fn a_topic_that_is_made_anew_stops_ingest(&self) {
        self.create("swapped", 1, &[]);
        Self::send(&self.producer(&[]), "swapped", 0, 0..50);
        self.land("swapped");
        let mut ingest = Process::start(&mut self.ingest("swapped", &["--latency", "100ms"]));
        ingest.wait_for("reading", PATIENCE);
        self.make_anew("swapped");
        ingest.wait_for("swapped was recreated", PATIENCE);
        assert_eq!(count(&self.lake, "swapped"), 50);
    }

    /// Only a real Kafka compacts.
    fn what_was_compacted_leaves_no_hole(&self) {
        let quickly = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "500"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "500"),
        ];
        self.create("compacted", 1, &quickly);
        let producer = self.producer(&[]);
        Self::send(&producer, "compacted", 0, 0..500);
        self.land("compacted");
        // Each closes a segment; what was before it may be compacted.
        let mut sent = 500;
        let records = || {
            kafka::tail(
                &kafka::KafkaConfig::new(&self.address),
                &["compacted"],
                10_000,
                PATIENCE,
            )
            .unwrap()
        };
        eventually("compaction", PATIENCE, || {
            Self::send(&producer, "compacted", 0, sent..sent + 20);
            sent += 20;
            std::thread::sleep(Duration::from_millis(600));
            records().iter().map(model::Chunk::len).sum::<usize>() < 400
        });
        self.land("compacted");
        let rows = count(&self.lake, "compacted");
        assert!((510..=sent).contains(&rows), "{rows} rows of {sent} records");
        run(smartcity()
            .args(["lake", "verify", "--table", "compacted", "--lake"])
            .arg(&self.lake));
    }
}

fn check(city: &City) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            city.partitions_that_are_added_are_read();
            city.latest_is_decided_once();
            city.latest_is_not_decided_for_partitions_that_are_added();
        });
        scope.spawn(|| {
            city.what_was_aborted_never_lands();
            city.what_is_gone_is_told();
            city.a_topic_that_was_made_anew_is_not_taken_for_the_old_one();
            city.a_topic_that_is_made_anew_stops_ingest();
        });
    });
}

#[test]
fn ingest_outlives_the_embedded_broker_s_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, address) = broker(dir.path());
    let city = City::new(&address, dir.path());
    check(&city);
    city.a_dead_letter_of_a_renamed_topic_is_replayed(dir.path());
    broker.stop();
}

#[test]
fn ingest_outlives_a_real_kafka_s_changes() {
    let dir = tempfile::tempdir().unwrap();
    let quickly = "log.cleaner.backoff.ms=500\n";
    let Some((_kafka, address)) = real_kafka_with(&dir.path().join("kafka"), quickly) else {
        return;
    };
    let city = City::new(&address, dir.path());
    std::thread::scope(|scope| {
        scope.spawn(|| city.what_was_compacted_leaves_no_hole());
        check(&city);
    });
}
