//! Leaders move, brokers die and the group's coordinator with them: librdkafka's own mock cluster, of three brokers.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kafka::{Event, KafkaConfig, KafkaSource, Message, Producer, Source, Subscription};
use model::TopicPartition;
use rdkafka::mocking::{MockCluster, MockCoordinator};

const TOPIC: &str = "readings";
const GROUP: &str = "readers";
const PARTITIONS: i32 = 2;
const BROKERS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// What was read: each chunk must begin where its partition's last one ended.
struct Reader {
    source: KafkaSource,
    next: HashMap<TopicPartition, i64>,
    records: u64,
}

impl Reader {
    fn poll(&mut self) {
        for event in self.source.poll(Duration::from_millis(50), true).unwrap() {
            match event {
                Event::Chunk(chunk) => {
                    let next = self.next.get_mut(chunk.topic_partition()).unwrap();
                    assert_eq!(chunk.span().from, *next, "{}", chunk.topic_partition());
                    *next = chunk.span().to;
                    self.records += chunk.len() as u64;
                }
                Event::Assigned(partitions) => {
                    let positions = partitions.into_iter().map(|partition| {
                        let next = *self.next.entry(partition.clone()).or_default();
                        (partition, next)
                    });
                    self.source.assign(&positions.collect::<Vec<_>>()).unwrap();
                }
                Event::Revoked(partitions) => self.source.unassign(&partitions).unwrap(),
            }
        }
    }

    fn read(&mut self, records: u64, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.records < records {
            assert!(
                Instant::now() < deadline,
                "{what}: {} of {records} records came",
                self.records
            );
            self.poll();
        }
        assert_eq!(self.records, records, "{what}");
    }
}

#[test]
fn each_record_comes_once_wherever_its_leader_is() {
    let cluster = MockCluster::new(BROKERS).unwrap();
    cluster.create_topic(TOPIC, PARTITIONS, BROKERS).unwrap();
    let leaders = |number: i32| {
        for partition in 0..PARTITIONS {
            let leader = (number + partition) % BROKERS + 1;
            cluster.partition_leader(TOPIC, partition, Some(leader)).unwrap();
        }
    };
    leaders(0);
    let config = KafkaConfig::new(cluster.bootstrap_servers());
    let group_id = GROUP.to_owned();
    let mut reader = Reader {
        source: KafkaSource::open(&config, &[TOPIC], Subscription::Group { group_id }, 8 << 20).unwrap(),
        next: HashMap::new(),
        records: 0,
    };
    let producer = Producer::open(&config, Duration::from_millis(5)).unwrap();
    let mut sent = 0;
    for round in 0..6 {
        for number in 0..200 {
            let key = format!("{number}");
            let message = Message {
                key: Some(key.as_bytes()),
                value: Some(b"{}"),
                headers: &[],
            };
            producer.send(TOPIC, message).unwrap();
        }
        sent += 200;
        let what = match round % 3 {
            0 => {
                leaders(round + 1);
                "the leaders moved"
            }
            1 => {
                let broker = round % BROKERS + 1;
                cluster.broker_down(broker).unwrap();
                // The two others.
                leaders(broker);
                let group = MockCoordinator::Group(GROUP.to_owned());
                cluster.coordinator(group, broker % BROKERS + 1).unwrap();
                "a broker died"
            }
            _ => {
                (1..=BROKERS).for_each(|broker| cluster.broker_down(broker).unwrap());
                (0..10).for_each(|_| reader.poll());
                (1..=BROKERS).for_each(|broker| cluster.broker_up(broker).unwrap());
                "all were away for a while"
            }
        };
        producer.flush(PATIENCE).unwrap();
        reader.read(sent, what);
    }
}
