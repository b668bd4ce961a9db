//! Which segments of a compacted log are to be cleaned, and which of them together: decided here from what is known of
//! the segments, acted on by the cleaner.

use std::ops::Range;

use super::super::config::CompactionConfig;
use super::super::segment::Segment;

/// What is to be cleaned of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct CleanPlan {
    /// The oldest segments: how many.
    pub(in super::super) segments: usize,
    /// The share of their bytes that has not been cleaned before: the logs with most of it come first.
    pub(in super::super) dirty_ratio: f64,
}

/// Decides whether a log is cleaned. `closed` is how many of its oldest segments are complete and on the disk, `first_dirty`
/// the offset behind what was cleaned before, `stable` the last stable offset: what is behind it is undecided.
pub(in super::super) fn plan(
    segments: &[Segment],
    closed: usize,
    config: &CompactionConfig,
    first_dirty: i64,
    stable: i64,
    now_ms: i64,
) -> Option<CleanPlan> {
    let young = now_ms.saturating_sub(config.lag_min_ms);
    let cleanable = |segment: &&Segment| {
        let is_old = config.lag_min_ms == 0 || segment.max_timestamp <= young;
        segment.next_offset <= stable && is_old
    };
    let is_dirty = |segment: &&Segment| segment.next_offset > first_dirty;
    let planned = segments[..closed].iter().take_while(cleanable).count();
    let (dirty, clean): (Vec<_>, Vec<_>) = segments[..planned].iter().partition(is_dirty);
    let bytes = |segments: &[&Segment]| segments.iter().map(|segment| segment.len).sum::<u64>();
    let (dirty_bytes, clean_bytes) = (bytes(&dirty), bytes(&clean));
    if dirty_bytes == 0 {
        return None;
    }
    let dirty_ratio = dirty_bytes as f64 / (dirty_bytes + clean_bytes) as f64;
    let too_old = now_ms.saturating_sub(config.lag_max_ms);
    let must = dirty
        .iter()
        .any(|segment| segment.len > 0 && segment.first_timestamp < too_old);
    (must || dirty_ratio > config.dirty_ratio_min).then_some(CleanPlan {
        segments: planned,
        dirty_ratio,
    })
}

/// Neighbours that become one segment: as many as were together no larger than a segment may be.
pub(in super::super) fn groups(segments: &[Segment], segment_bytes: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (i, segment) in segments.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if bytes + segment.len <= segment_bytes => {
                group.end = i + 1;
                bytes += segment.len;
            }
            _ => {
                groups.push(i..i + 1);
                bytes = segment.len;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Ten segments of ten records and a hundred bytes each, a second apart, the last one being written.
    fn segments() -> Vec<Segment> {
        let segment = |n: i64| {
            let mut segment = Segment::empty(Path::new(""), n * 10);
            segment.next_offset = (n + 1) * 10;
            segment.len = 100;
            segment.first_timestamp = n * 1000;
            segment.max_timestamp = n * 1000;
            segment
        };
        (0..10).map(segment).collect()
    }

    fn planned(config: CompactionConfig, first_dirty: i64, stable: i64) -> Option<usize> {
        let plan = plan(&segments(), 9, &config, first_dirty, stable, 10_000);
        plan.map(|plan| plan.segments)
    }

    #[test]
    fn share_lag_and_open_transactions_decide() {
        let config = CompactionConfig::default();
        assert_eq!(planned(config, 0, 100), Some(9), "never the last");
        assert_eq!(planned(config, 0, 75), Some(7), "undecided records are in the eighth");
        assert_eq!(planned(config, 0, 5), None);
        assert_eq!(planned(config, 90, 100), None, "all is clean");
        assert_eq!(planned(config, 50, 100), None, "four of nine are dirty");
        assert_eq!(planned(config, 40, 100), Some(9), "five of nine are dirty");
        assert_eq!(
            planned(config, 45, 100),
            Some(9),
            "a segment is dirty that is so in part"
        );
        let lagging = |lag_min_ms| CompactionConfig { lag_min_ms, ..config };
        assert_eq!(planned(lagging(5000), 0, 100), Some(6), "younger ones are left alone");
        assert_eq!(planned(lagging(20_000), 0, 100), None);
        let late = |lag_max_ms| CompactionConfig { lag_max_ms, ..config };
        assert_eq!(
            planned(late(1500), 80, 100),
            Some(9),
            "the ninth is too old to stay dirty"
        );
        assert_eq!(planned(late(2500), 80, 100), None);
        let always = CompactionConfig {
            dirty_ratio_min: 0.0,
            ..config
        };
        assert_eq!(planned(always, 80, 100), Some(9));
        assert_eq!(planned(always, 90, 100), None);
    }

    #[test]
    fn neighbours_are_joined_up_to_the_size_of_a_segment() {
        assert_eq!(groups(&segments()[..7], 300), [0..3, 3..6, 6..7]);
        assert_eq!(groups(&segments()[..2], 10), [0..1, 1..2]);
        assert_eq!(groups(&[], 10), []);
    }
}
