//! The read path as the rest of the program sees it: chunks and assignments come out, positions go in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{Chunk, TopicPartition};

use crate::KafkaError;

/// What a source has to say.
#[derive(Debug)]
pub enum Event {
    /// Records of one partition; its span starts where the partition's last one ended.
    Chunk(Chunk),
    /// These partitions are ours from now on. Nothing is read until [`Source::assign`] says from where.
    Assigned(Vec<TopicPartition>),
    /// These partitions go to someone else, once [`Source::unassign`] lets them.
    Revoked(Vec<TopicPartition>),
}

/// The offsets a partition holds: `[low, high)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub low: i64,
    /// With `read_committed` the last stable offset.
    pub high: i64,
}

/// A log of partitions to read from. The caller owns the positions: a source never resumes from anywhere by itself.
pub trait Source: Send {
    /// Waits at most `timeout` and hands over what there is, in order per partition. With `records` false only
    /// assignments are served: the way to hold back records (back-pressure) without losing the group membership.
    ///
    /// # Errors
    /// Only what retrying cannot mend; a broker that is away is waited for.
    fn poll(&mut self, timeout: Duration, records: bool) -> Result<Vec<Event>, KafkaError>;

    /// Starts or moves partitions: each is read from the given offset on. An assignment may be answered in parts: what is
    /// not named yet is read later. Called with none it tells the group that the assignment is known.
    fn assign(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), KafkaError>;

    /// Reads no more of these partitions until they are resumed. They stay ours until they are let go.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError>;

    /// Reads paused partitions on, from where they were paused.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError>;

    /// Lets partitions go, those that were never started as well.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError>;

    /// The offsets that the log holds now, asked of the cluster.
    fn offsets(&mut self, partition: &TopicPartition) -> Result<PartitionOffsets, KafkaError>;

    /// How many partitions each topic of the cluster has now, asked of the cluster.
    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError>;

    /// For whoever asks for topics' ids while this source is busy elsewhere.
    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError>;

    /// The high watermark as of the last fetch; no request. `None` before the first.
    fn high_watermark(&self, partition: &TopicPartition) -> Option<i64>;

    /// Tells the group how far the table has come. For lag monitors only; nothing is ever read back.
    fn report_positions(&mut self, positions: &[(TopicPartition, i64)]);
}

/// Which topic it is that has a name now.
pub trait TopicIds: Send + Sync {
    /// Kafka's id of the topic (KIP-516), as its tools print it: another topic of the same name has another one. `None`
    /// when there is no such topic, or the brokers are older than ids (2.8). Blocks, at most `timeout`.
    ///
    /// # Errors
    /// No answer in time, or none that tells.
    fn topic_id(&self, topic: &str, timeout: Duration) -> Result<Option<String>, KafkaError>;
}
