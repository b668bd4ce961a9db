//! Why a job stopped. Bad data is never among the reasons: it is a row of the dead-letter table.

use std::fmt;
use std::time::Duration;

use kafka::KafkaError;
use lake::LakeError;
use model::TopicPartition;
use thiserror::Error;

use crate::tolerance::Excess;

#[derive(Debug, Error)]
pub enum IngestError {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("stream {stream}: {source}")]
    Lake { stream: String, source: LakeError },
    /// Kafka no longer holds records that have not landed. Going on would hide it.
    #[error(
        "{topic_partition}: {lost}. The table has landed everything before offset {recorded}; Kafka now holds \
         [{low}, {high})."
    )]
    DataLoss {
        topic_partition: TopicPartition,
        lost: String,
        recorded: i64,
        low: i64,
        high: i64,
    },
    /// Where to read from is recorded before anything is read, so the record was removed.
    #[error("{topic_partition}: the table records no offset to read from")]
    NoStart { topic_partition: TopicPartition },
    /// The topic was deleted, and another has its name. Its offsets say nothing about what was committed.
    #[error(
        "{topic} was recreated: the table's rows are of the topic with the id {bound}, and Kafka now has one with the id \
         {found}. What the old one held beyond the recorded offsets is gone."
    )]
    TopicRecreated {
        topic: String,
        bound: String,
        found: String,
    },
    /// A run that ends by itself has nothing to read: none of its topics exists.
    #[error("{} in Kafka: {}", if topics.len() == 1 { "there is no such topic" } else { "none of these topics is" },
        topics.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NoTopics { topics: Vec<MissingTopic> },
    /// The job was asked to stop and something did not answer in time. Nothing is lost: the next start reads it again.
    #[error(
        "stopped after {} s without having committed all that was read{}",
        timeout.as_secs_f64(), if outages.is_empty() { String::new() } else { format!(": {outages}") }
    )]
    ShutdownTimeout { timeout: Duration, outages: String },
    /// The job ended in the middle of it, for a reason that is reported elsewhere.
    #[error("the job is ending")]
    Ending,
    /// Kafka holds these records and does not hand them out.
    #[error("{topic_partition}: nothing came from offset {offset} on for a minute")]
    Silent {
        topic_partition: TopicPartition,
        offset: i64,
    },
    /// More of a stream is broken than is tolerated. Nothing of it is lost: the next run reads on from what has landed.
    #[error(
        "stream {stream} was stopped: {excess} (ingest.errors_tolerance); it goes on where it was at the next start"
    )]
    TooManyErrors { stream: String, excess: Excess },
    /// A thread of ours ended without a word; a mistake in this program.
    #[error("{0} ended unexpectedly")]
    Lost(&'static str),
}

impl IngestError {
    /// The same may succeed later without anyone's doing.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            IngestError::Kafka(error) => error.is_retryable(),
            IngestError::Lake { source, .. } => source.is_retryable(),
            // Whoever tries again asks first whether the job goes on.
            IngestError::Ending => true,
            _ => false,
        }
    }
}

/// A topic that a stream names and Kafka does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTopic {
    pub topic: String,
    /// One that Kafka has and that may be meant.
    pub nearest: Option<String>,
}

impl fmt::Display for MissingTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.nearest {
            Some(nearest) => write!(f, "{} (did you mean `{nearest}`?)", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}
