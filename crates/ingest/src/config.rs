//! How a job reads, batches and ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::FlushPolicy;
use crate::dlq_topic::DlqTopic;
use crate::tolerance::ErrorsTolerance;

/// Everything about a job but what it lands, from where and to where.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Owns the offsets in the tables: two applications land the same topic independently.
    pub application: String,
    pub flush: FlushPolicy,
    /// Threads that decode and encode.
    pub workers: usize,
    pub starting_offsets: StartingOffsets,
    /// Whether to stop when records are gone from Kafka before they are committed. Otherwise they are recorded in the `gaps`
    /// table, and reading goes on behind them.
    pub fail_on_data_loss: bool,
    /// How much of a stream may be broken before it is stopped.
    pub errors_tolerance: ErrorsTolerance,
    /// Where dead letters go as well.
    pub dlq_topic: Option<Arc<DlqTopic>>,
    /// Topics that have another id since their cluster was migrated, with that id: the same records at the same offsets.
    pub migrated_topics: BTreeMap<String, String>,
    pub until: Until,
    /// How long a job that is stopped may take to commit what it has read.
    pub shutdown_timeout: Duration,
}

/// Where an application starts to read a topic of which it has never recorded anything. Decided once, for all partitions
/// that the topic has then; those that are added later are read from their beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingOffsets {
    Earliest,
    Latest,
}

impl StartingOffsets {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            StartingOffsets::Earliest => "earliest",
            StartingOffsets::Latest => "latest",
        }
    }
}

/// When a job ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When everything that Kafka held at the start has landed (Spark's `availableNow`).
    CaughtUp,
}
