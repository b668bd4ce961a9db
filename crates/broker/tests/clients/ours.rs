//! Our own `kafka` crate, with which the pipeline writes and reads: what it counts on holds with this broker too.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::{Event, KafkaConfig, KafkaError, KafkaSource, PartitionOffsets, Producer, Source, Subscription};
use model::{Chunk, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio::runtime::Runtime;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(bootstrap: &str) {
    let run = std::process::id();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        reads_what_was_sent(bootstrap, codec, &format!("ours-{codec}-{run}"));
    }
    shares_partitions(bootstrap, &format!("ours-group-{run}"));
    skips_what_was_aborted(bootstrap, &format!("ours-transactions-{run}"));
}

fn create(config: &KafkaConfig, topic: &str, partitions: i32) {
    let runtime = Runtime::new().unwrap();
    // The second finds it there, which is no error.
    for _ in 0..2 {
        runtime
            .block_on(kafka::create_topics(config, &[topic], partitions))
            .unwrap();
    }
    let counts = kafka::partition_counts(config, &[topic, "ours-nowhere"]).unwrap();
    assert_eq!(counts, BTreeMap::from([(topic.to_owned(), partitions)]));
}

fn all(topic: &str) -> Vec<TopicPartition> {
    (0..PARTITIONS)
        .map(|partition| TopicPartition::new(topic, partition))
        .collect()
}

fn key(number: usize) -> String {
    format!("key {}", number % 100)
}

/// Every tenth is a tombstone.
fn value(number: usize) -> Option<String> {
    (number % 10 != 0).then(|| format!("record {number}"))
}

fn send(config: &KafkaConfig, topic: &str) {
    let producer = Producer::open(config, Duration::from_millis(5)).unwrap();
    for number in 0..RECORDS {
        let value = value(number);
        let value = value.as_ref().map(String::as_bytes);
        producer.send(topic, key(number).as_bytes(), value).unwrap();
    }
    let delivery = producer.flush(PATIENCE).unwrap();
    assert_eq!((delivery.sent, delivery.delivered), (RECORDS as u64, RECORDS as u64));
}

/// A source with the partitions that it was given, none of them read yet.
fn open(config: &KafkaConfig, topic: &str) -> (KafkaSource, Vec<TopicPartition>) {
    let mut source = KafkaSource::open(config, &[topic], Subscription::All, 8 << 20).unwrap();
    match source.poll(Duration::ZERO, true).unwrap().pop() {
        Some(Event::Assigned(partitions)) => (source, partitions),
        other => panic!("{other:?}"),
    }
}

/// Chunks up to each partition's end; that their spans join without a gap is what exactly-once stands on.
fn read(source: &mut KafkaSource, from: &[(TopicPartition, i64)]) -> Vec<Chunk> {
    let mut left: BTreeMap<TopicPartition, (i64, i64)> = BTreeMap::new();
    for (partition, position) in from {
        left.insert(
            partition.clone(),
            (*position, source.offsets(partition).unwrap().high),
        );
    }
    source.assign(from).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut chunks = Vec::new();
    while left.values().any(|(position, high)| position < high) {
        assert!(Instant::now() < end, "waiting for {left:?}");
        for event in source.poll(Duration::from_millis(50), true).unwrap() {
            let Event::Chunk(chunk) = event else { continue };
            let (position, _) = left.get_mut(chunk.topic_partition()).unwrap();
            assert_eq!(chunk.span().from, *position, "{}", chunk.topic_partition());
            *position = chunk.span().to;
            chunks.push(chunk);
        }
    }
    chunks
}

type Records = BTreeMap<String, Vec<Option<String>>>;

/// Values by key, in the order in which they came.
fn by_key(chunks: &[Chunk]) -> Records {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut records = Records::new();
    for record in chunks.iter().flat_map(Chunk::iter) {
        let of_key = records.entry(text(record.key.unwrap())).or_default();
        of_key.push(record.value.map(text));
    }
    records
}

fn reads_what_was_sent(bootstrap: &str, codec: &str, topic: &str) {
    let mut config = KafkaConfig::new(bootstrap);
    create(&config, topic, PARTITIONS);
    config
        .properties
        .insert("compression.type".to_owned(), codec.to_owned());
    send(&config, topic);
    let mut expected = Records::new();
    for number in 0..RECORDS {
        expected.entry(key(number)).or_default().push(value(number));
    }

    let (mut source, partitions) = open(&config, topic);
    assert_eq!(partitions, all(topic));
    let start: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
    let chunks = read(&mut source, &start);
    // Order holds for each key, so all of a key's records are in one partition.
    assert!(by_key(&chunks) == expected, "{codec}");
    for partition in &partitions {
        let PartitionOffsets { low, high } = source.offsets(partition).unwrap();
        assert_eq!((low, Some(high)), (0, source.high_watermark(partition)), "{partition}");
    }

    // From the middle of a batch, with the partitions moved while they are held.
    let middle: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 7)).collect();
    let again = read(&mut source, &middle);
    let records = |chunks: &[Chunk]| chunks.iter().map(Chunk::len).sum::<usize>();
    assert_eq!(records(&again), RECORDS - 7 * partitions.len(), "{codec}");
    let last = kafka::tail(&config, &[topic], 3, PATIENCE).unwrap();
    assert_eq!(records(&last), 3 * partitions.len(), "{codec}");

    let beyond = [(partitions[0].clone(), RECORDS as i64 * 2)];
    source.assign(&beyond).unwrap();
    let end = Instant::now() + PATIENCE;
    let error = loop {
        match source.poll(Duration::from_millis(50), true) {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < end, "an offset that is not there was waited for"),
        }
    };
    assert!(
        matches!(&error, KafkaError::OffsetOutOfRange { topic_partition } if *topic_partition == partitions[0]),
        "{error}"
    );
}

/// One member of a group as the pipeline is one: it alone knows where to begin.
struct Member {
    source: KafkaSource,
    held: Vec<TopicPartition>,
}

impl Member {
    fn join(config: &KafkaConfig, topic: &str) -> Self {
        let group_id = format!("{topic}-members");
        let subscription = Subscription::Group { group_id };
        Self {
            source: KafkaSource::open(config, &[topic], subscription, 8 << 20).unwrap(),
            held: Vec::new(),
        }
    }

    /// Answers what the group decides.
    fn poll(&mut self) {
        for event in self.source.poll(Duration::from_millis(50), false).unwrap() {
            match event {
                Event::Assigned(partitions) => {
                    let positions: Vec<_> = partitions.iter().map(|partition| (partition.clone(), 0)).collect();
                    self.source.assign(&positions).unwrap();
                    self.source.report_positions(&positions);
                    self.held.extend(partitions);
                }
                Event::Revoked(partitions) => {
                    self.held.retain(|held| !partitions.contains(held));
                    self.source.unassign(&partitions).unwrap();
                }
                Event::Chunk(_) => panic!("no records were asked for"),
            }
        }
    }
}

fn shares_partitions(bootstrap: &str, topic: &str) {
    let config = KafkaConfig::new(bootstrap);
    create(&config, topic, PARTITIONS);
    let mut members = vec![Member::join(&config, topic)];
    settle(&mut members, topic, &[4]);
    members.push(Member::join(&config, topic));
    settle(&mut members, topic, &[2, 2]);
    members.swap_remove(0);
    settle(&mut members, topic, &[4]);
}

/// Waits until each member holds so many partitions, all of them once.
fn settle(members: &mut [Member], topic: &str, counts: &[usize]) {
    let end = Instant::now() + PATIENCE;
    while !members.iter().map(|member| member.held.len()).eq(counts.iter().copied()) {
        let held: Vec<_> = members.iter().map(|member| &member.held).collect();
        assert!(Instant::now() < end, "{held:?} instead of {counts:?}");
        members.iter_mut().for_each(Member::poll);
    }
    let mut held: Vec<_> = members.iter().flat_map(|member| member.held.clone()).collect();
    held.sort();
    assert_eq!(held, all(topic));
}

/// Aborted records and control records are offsets without a record: no chunk has them, the spans count them.
fn skips_what_was_aborted(bootstrap: &str, topic: &str) {
    let config = KafkaConfig::new(bootstrap);
    create(&config, topic, 1);
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", topic)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    for (value, commit) in [("first", true), ("aborted", false), ("second", true), ("aborted", false)] {
        producer.begin_transaction().unwrap();
        for _ in 0..5 {
            producer.send(BaseRecord::to(topic).key("key").payload(value)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
    let (mut source, partitions) = open(&config, topic);
    // Four times five records and a marker.
    assert_eq!(source.offsets(&partitions[0]).unwrap().high, 24);
    let chunks = read(&mut source, &[(partitions[0].clone(), 0)]);
    let committed = [["first"; 5], ["second"; 5]].concat();
    let values = committed.iter().map(|value| Some((*value).to_owned())).collect();
    assert_eq!(by_key(&chunks), Records::from([("key".to_owned(), values)]));
}
