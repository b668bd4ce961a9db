//! Which segments a topic's retention no longer keeps: decided here, acted on by the log.

use super::config::LogConfig;
use super::segment::Segment;

/// How many of the oldest segments are to be deleted: never the last one, and none with a record at or behind `held`.
pub(super) fn expired_segments(segments: &[Segment], config: &LogConfig, held: i64, now_ms: i64) -> usize {
    let closed = segments.len().saturating_sub(1);
    let mut expired = 0;
    if let Some(retention_ms) = config.retention_ms {
        let before = now_ms.saturating_sub(retention_ms);
        expired = segments[..closed]
            .iter()
            .take_while(|s| s.max_timestamp < before)
            .count();
    }
    if let Some(retention_bytes) = config.retention_bytes {
        let mut size = segments[expired..].iter().map(|s| s.len).sum::<u64>();
        // As Kafka: a segment goes only when what is left is still at least the limit.
        while expired < closed && size - segments[expired].len >= retention_bytes {
            size -= segments[expired].len;
            expired += 1;
        }
    }
    segments[..expired].iter().take_while(|s| s.next_offset <= held).count()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::TimestampType;
    use super::*;

    /// Segments of ten records and a hundred bytes each, the newest record of each a second after the one before.
    fn segments(count: i64) -> Vec<Segment> {
        let segment = |n: i64| {
            let mut segment = Segment::empty(Path::new(""), n * 10);
            (segment.next_offset, segment.len, segment.max_timestamp) = ((n + 1) * 10, 100, n * 1000);
            segment
        };
        (0..count).map(segment).collect()
    }

    fn expired(retention_ms: Option<i64>, retention_bytes: Option<u64>, held: i64) -> usize {
        let config = LogConfig {
            segment_bytes: 100,
            segment_ms: i64::MAX,
            message_bytes_max: 100,
            timestamp_type: TimestampType::Create,
            before_max_ms: i64::MAX,
            after_max_ms: i64::MAX,
            retention_ms,
            retention_bytes,
            deletes: true,
            compaction: None,
            waits_for_disk: false,
        };
        expired_segments(&segments(10), &config, held, 10_000)
    }

    #[test]
    fn time_size_and_open_transactions_decide() {
        let free = i64::MAX;
        assert_eq!(expired(None, None, free), 0);
        assert_eq!(expired(Some(5000), None, free), 5);
        assert_eq!(expired(Some(-1), None, free), 9, "never the last");
        assert_eq!(expired(None, Some(300), free), 7);
        assert_eq!(expired(None, Some(301), free), 6, "not below the limit");
        assert_eq!(expired(Some(5000), Some(300), free), 7);
        assert_eq!(expired(Some(5000), Some(300), 35), 3, "record 35 is held");
        assert_eq!(expired(Some(5000), None, 0), 0);
    }
}
