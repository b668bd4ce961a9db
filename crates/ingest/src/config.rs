//! How a job reads, batches and ends.

use crate::batch::FlushPolicy;

/// Everything about a job but what it lands, from where and to where.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// Owns the offsets in the tables: two applications land the same topic independently.
    pub application: String,
    pub flush: FlushPolicy,
    /// Threads that decode and encode.
    pub workers: usize,
    pub starting_offsets: StartingOffsets,
    /// Whether to stop when records are gone from Kafka before they have landed. Otherwise they are recorded in the `gaps`
    /// table, and reading goes on behind them.
    pub fail_on_data_loss: bool,
    pub until: Until,
}

/// Where to begin a partition that has never landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingOffsets {
    Earliest,
    Latest,
}

/// When a job ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When everything that Kafka held at the start has landed (Spark's `availableNow`).
    CaughtUp,
}
