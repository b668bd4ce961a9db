//! Topics: which exist, making them, and reading the last records of one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Chunk, TopicPartition};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use crate::client_log::QuietContext;
use crate::properties::Role;
use crate::{Event, KafkaConfig, KafkaError, KafkaSource, Source, Subscription};

/// Creates the topics that do not exist yet, with the cluster's default replication.
pub async fn create_topics(config: &KafkaConfig, topics: &[&str], partitions: i32) -> Result<(), KafkaError> {
    let failed = |error: &_| KafkaError::from_call(&config.bootstrap_servers, error);
    let admin: AdminClient<QuietContext> = config
        .client(Role::Admin, &[])
        .create_with_context(QuietContext::default())
        .map_err(|error| failed(&error))?;
    let new: Vec<_> = topics
        .iter()
        .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)))
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(config.request_timeout));
    for result in admin
        .create_topics(&new, &options)
        .await
        .map_err(|error| failed(&error))?
    {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(KafkaError::Fatal(format!("topic {topic} was not created: {code}"))),
        }
    }
    Ok(())
}

/// The number of partitions of each of these topics that exists.
pub fn partition_counts(config: &KafkaConfig, topics: &[&str]) -> Result<BTreeMap<String, i32>, KafkaError> {
    let consumer: BaseConsumer<QuietContext> = config
        .client(Role::Admin, &[])
        .create_with_context(QuietContext::default())
        .map_err(|error| KafkaError::from_call(&config.bootstrap_servers, &error))?;
    let mut counts = fetch_partition_counts(&consumer, config)?;
    counts.retain(|topic, _| topics.contains(&topic.as_str()));
    Ok(counts)
}

/// The number of partitions of each topic of the cluster; 0 while the cluster does not tell.
pub(crate) fn fetch_partition_counts<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    config: &KafkaConfig,
) -> Result<BTreeMap<String, i32>, KafkaError> {
    // All topics at once: asking for one by name would create it where the cluster creates topics by itself.
    let metadata = consumer
        .client()
        .fetch_metadata(None, config.request_timeout)
        .map_err(|error| KafkaError::from_call(&config.bootstrap_servers, &error))?;
    let counts = metadata.topics().iter().map(|topic| {
        // Few partitions must not pass for all of them.
        let count = if topic.error().is_some() {
            0
        } else {
            topic.partitions().len() as i32
        };
        (topic.name().to_owned(), count)
    });
    Ok(counts.collect())
}

/// The last `records` offsets of each partition of these topics, oldest first; nothing of topics that do not exist.
pub fn tail(config: &KafkaConfig, topics: &[&str], records: i64, timeout: Duration) -> Result<Vec<Chunk>, KafkaError> {
    let deadline = Instant::now() + timeout;
    let mut source = KafkaSource::open(config, topics, Subscription::All, 8 << 20)?;
    let mut ends: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    loop {
        for event in source.poll(Duration::from_millis(20), true)? {
            match event {
                Event::Assigned(partitions) => {
                    let mut positions = Vec::new();
                    for partition in partitions {
                        let offsets = source.offsets(&partition)?;
                        if offsets.low < offsets.high {
                            positions.push((partition.clone(), offsets.low.max(offsets.high - records)));
                            ends.insert(partition, offsets.high);
                        }
                    }
                    source.assign(&positions)?;
                }
                Event::Chunk(chunk) => {
                    if ends
                        .get(chunk.topic_partition())
                        .is_some_and(|end| *end <= chunk.span().to)
                    {
                        ends.remove(chunk.topic_partition());
                    }
                    chunks.push(chunk);
                }
                Event::Revoked(_) => {}
            }
        }
        if ends.is_empty() {
            return Ok(chunks);
        }
        if Instant::now() > deadline {
            return Err(KafkaError::Unreachable {
                bootstrap_servers: config.bootstrap_servers.clone(),
                reason: format!("the last records of {} did not arrive in time", topics.join(", ")),
            });
        }
    }
}
