//! What a topic's settings say about its logs.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampType {
    Create,
    LogAppend,
}

/// The settings of one topic, the broker's where it has none.
#[derive(Debug, Clone, PartialEq)]
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
    /// Whether retention deletes (`cleanup.policy` with `delete`).
    pub(crate) deletes: bool,
    /// How the log is compacted (`cleanup.policy` with `compact`); `None` where it is not.
    pub(crate) compaction: Option<CompactionConfig>,
    /// Whether records count, for readers as for their producer, when they are on the disk, and not before.
    pub(crate) waits_for_disk: bool,
}

impl LogConfig {
    /// A segment is closed at this age, in milliseconds: what is being written is never cleaned.
    pub(super) fn segment_ms(&self) -> i64 {
        let lag = self.compaction.as_ref().map_or(i64::MAX, |it| it.lag_max_ms);
        self.segment_ms.min(lag)
    }
}

/// When a log is cleaned and what of it may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CompactionConfig {
    /// `min.cleanable.dirty.ratio`: a log is cleaned when more than this share of its bytes has not been cleaned yet.
    pub(crate) dirty_ratio_min: f64,
    /// `min.compaction.lag.ms`: younger records are left alone.
    pub(crate) lag_min_ms: i64,
    /// `max.compaction.lag.ms`: with an older record a log is cleaned whatever the share.
    pub(crate) lag_max_ms: i64,
    /// `delete.retention.ms`: how long tombstones stay after a log was cleaned, for readers to see them.
    pub(crate) delete_retention_ms: i64,
}

impl Default for CompactionConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            dirty_ratio_min: 0.5,
            lag_min_ms: 0,
            lag_max_ms: i64::MAX,
            delete_retention_ms: 24 * 3600 * 1000,
        }
    }
}
