//! Why a job stopped. Bad data is never among the reasons: it is a row of the dead-letter table.

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
    /// The topic was deleted, and another has its name. Its offsets say nothing about what has landed.
    #[error(
        "{topic} was made anew: the table's rows are of the topic with the id {bound}, and Kafka now has one with the id \
         {found}. What the old one held beyond the recorded offsets is gone."
    )]
    TopicRecreated {
        topic: String,
        bound: String,
        found: String,
    },
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
            IngestError::Kafka(error) => matches!(error, KafkaError::Unreachable { .. }),
            IngestError::Lake { source, .. } => source.is_retryable(),
            _ => false,
        }
    }
}
