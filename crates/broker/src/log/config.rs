//! What a topic's settings say about its logs.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampType {
    Create,
    LogAppend,
}

/// The settings of one topic, the broker's where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogConfig {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) message_bytes_max: usize,
    pub(crate) timestamp_type: TimestampType,
    /// How far a record's own time may lie before the broker's.
    pub(crate) before_max_ms: i64,
    /// How far a record's own time may lie after the broker's.
    pub(crate) after_max_ms: i64,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) retention_bytes: Option<u64>,
    /// Whether retention deletes at all (`cleanup.policy=delete`).
    pub(crate) deletes: bool,
}
