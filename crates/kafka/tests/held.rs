//! Partitions that are held back: assigned and not started yet, or paused. The group goes on, and no record is lost or read
//! twice. Against librdkafka's own mock cluster.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kafka::{Event, KafkaConfig, KafkaSource, Message, Producer, Source, Subscription};
use model::TopicPartition;
use rdkafka::mocking::MockCluster;

const TOPIC: &str = "readings";
const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn place(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

fn open(config: &KafkaConfig) -> KafkaSource {
    let group_id = "readers".to_owned();
    KafkaSource::open(config, &[TOPIC], Subscription::Group { group_id }, 8 << 20).unwrap()
}

fn send(config: &KafkaConfig, records: u32) {
    let producer = Producer::open(config, Duration::from_millis(5)).unwrap();
    for number in 0..records {
        let key = number.to_string();
        let message = Message {
            key: Some(key.as_bytes()),
            value: Some(b"{}"),
            headers: &[],
        };
        producer.send(TOPIC, message).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The next offset of each partition; each chunk must begin where its partition's last one ended.
#[derive(Default)]
struct Read {
    next: HashMap<TopicPartition, i64>,
    records: usize,
}

impl Read {
    fn poll(&mut self, source: &mut KafkaSource) -> Vec<Event> {
        let mut others = Vec::new();
        for event in source.poll(Duration::from_millis(50), true).unwrap() {
            match event {
                Event::Chunk(chunk) => {
                    let next = self.next.entry(chunk.topic_partition().clone()).or_default();
                    assert_eq!(chunk.span().from, *next, "{}", chunk.topic_partition());
                    *next = chunk.span().to;
                    self.records += chunk.len();
                }
                other => others.push(other),
            }
        }
        others
    }
}

/// Polls until the group assigns something; it is not answered.
fn assigned(source: &mut KafkaSource, read: &mut Read) -> Vec<TopicPartition> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "nothing was assigned");
        for event in read.poll(source) {
            if let Event::Assigned(partitions) = event
                && !partitions.is_empty()
            {
                return partitions;
            }
        }
    }
}

#[test]
fn an_assignment_may_be_answered_late_and_in_parts() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let mut config = KafkaConfig::new(cluster.bootstrap_servers());
    let quickly = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let quickly = quickly.map(|(key, value)| (key.to_owned(), value.to_owned()));
    config.properties.extend(quickly);
    send(&config, 400);
    let (mut source, mut read) = (open(&config), Read::default());
    let partitions = assigned(&mut source, &mut read);
    assert_eq!(partitions.len(), PARTITIONS as usize);
    // As long as whoever knows the offsets does not answer. The member is not expelled: it polls.
    let late = Instant::now() + Duration::from_secs(9);
    source.assign(&[]).unwrap();
    while Instant::now() < late {
        let events = read.poll(&mut source);
        assert!(events.is_empty(), "{events:?}");
    }
    assert_eq!(read.records, 0);
    for partition in &partitions {
        source.assign(&[(partition.clone(), 0)]).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while read.records < 400 {
        assert!(Instant::now() < deadline, "{} of 400 records", read.records);
        assert!(read.poll(&mut source).is_empty());
    }
}

#[test]
fn a_paused_partition_goes_on_where_it_was() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
    let config = KafkaConfig::new(cluster.bootstrap_servers());
    let (mut source, mut read) = (open(&config), Read::default());
    let partitions = assigned(&mut source, &mut read);
    let starts = partitions.into_iter().map(|partition| (partition, 0));
    source.assign(&starts.collect::<Vec<_>>()).unwrap();
    let mut sent = 0;
    for round in 0..8 {
        let held = [place(round % PARTITIONS), place((round + 1) % PARTITIONS)];
        source.pause(&held).unwrap();
        let before: Vec<_> = held.iter().map(|held| read.next.get(held).copied()).collect();
        send(&config, 500);
        sent += 500;
        // What the others got comes meanwhile, and nothing of these.
        let others = Instant::now() + Duration::from_millis(700);
        while Instant::now() < others {
            read.poll(&mut source);
        }
        let after: Vec<_> = held.iter().map(|held| read.next.get(held).copied()).collect();
        assert_eq!(before, after, "round {round}");
        source.resume(&held).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while read.records < sent {
            assert!(
                Instant::now() < deadline,
                "round {round}: {} of {sent} records",
                read.records
            );
            read.poll(&mut source);
        }
        assert_eq!(read.records, sent);
    }
}
