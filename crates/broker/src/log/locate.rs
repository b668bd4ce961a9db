//! Where in a log's segments something is: by offset, by time, or among the aborted transactions.
//!
//! Segments come in their order, never none; the last one is being written.

use std::fs::File;
use std::sync::Arc;

use super::aborted::{self, AbortedTransaction};
use super::error::{LogError, StorageAt};
use super::read::{ReadPlan, TimestampPlan};
use super::segment::Segment;

/// The last segment that starts at or before the offset.
fn position_of(segments: &[Segment], offset: i64) -> usize {
    segments
        .partition_point(|segment| segment.base_offset <= offset)
        .saturating_sub(1)
}

/// A place to read about `bytes_max` from: batches that hold `offset` and later ones, all before `upper`. `written` is the
/// file of the last segment.
pub(super) fn read_plan(
    segments: &[Segment],
    written: &Arc<File>,
    offset: i64,
    upper: i64,
    bytes_max: usize,
) -> Result<ReadPlan, LogError> {
    // Past a segment's end, in a gap that the cleaner left, the next one that is not empty holds what follows.
    let first = position_of(segments, offset);
    let holds = |segment: &Segment| segment.next_offset > offset && segment.len > 0;
    let i = segments[first..]
        .iter()
        .position(holds)
        .map_or(segments.len() - 1, |behind| first + behind);
    let segment = &segments[i];
    let position = segment.place_of_offset(offset).at("read the index of", &segment.path)?;
    let position_max = position.saturating_add(bytes_max as u64);
    let inside = if segment.len <= position_max && segment.next_offset <= upper {
        position
    } else {
        let place = segment.last_place_within(position_max, upper);
        place.at("read the index of", &segment.path)?
    };
    let file = (i + 1 == segments.len()).then(|| Arc::clone(written));
    Ok(ReadPlan {
        path: segment.path.clone(),
        file,
        position,
        end: segment.len,
        end_offset: segment.next_offset,
        inside,
        offset,
        upper,
    })
}

/// About how many bytes lie behind `offset`, at least 1.
pub(super) fn bytes_from(segments: &[Segment], offset: i64) -> u64 {
    let after = segments.iter().rev().take_while(|s| s.base_offset > offset);
    let after: u64 = after.map(|s| s.len).sum();
    let segment = &segments[position_of(segments, offset)];
    let inside = segment
        .place_of_offset(offset)
        .map_or(0, |position| segment.len.saturating_sub(position));
    (after + inside).max(1)
}

/// Where to look for the first record at or after a time, among those from an offset on; `None` when all of them are
/// earlier.
pub(super) fn timestamp(
    segments: &[Segment],
    timestamp: i64,
    from: i64,
    log_start: i64,
) -> Result<Option<TimestampPlan>, LogError> {
    let mut segments = segments.iter();
    let found = segments.find(|s| s.max_timestamp >= timestamp && s.next_offset > from);
    let Some(segment) = found else { return Ok(None) };
    let position = segment
        .place_of_timestamp(timestamp)
        .at("read the index of", &segment.path)?;
    Ok(Some(timestamp_plan(segment, position, timestamp, log_start)))
}

/// Where to look for the record with the latest time; `None` when there is no record.
pub(super) fn max_timestamp(segments: &[Segment], log_start: i64) -> Result<Option<TimestampPlan>, LogError> {
    let filled = segments.iter().filter(|s| s.len > 0);
    let Some(segment) = filled.rev().max_by_key(|s| s.max_timestamp) else {
        return Ok(None);
    };
    let position = segment
        .place_of_offset(segment.max_timestamp_at)
        .at("read the index of", &segment.path)?;
    Ok(Some(timestamp_plan(
        segment,
        position,
        segment.max_timestamp,
        log_start,
    )))
}

fn timestamp_plan(segment: &Segment, position: u64, timestamp: i64, log_start: i64) -> TimestampPlan {
    TimestampPlan {
        path: segment.path.clone(),
        position,
        end: segment.len,
        timestamp,
        log_start,
        next_offset: segment.next_offset,
    }
}

/// Aborted transactions with records in `[from, to)`.
pub(super) fn aborted(segments: &[Segment], from: i64, to: i64) -> Result<Vec<AbortedTransaction>, LogError> {
    let mut found = Vec::new();
    let first = segments.partition_point(|segment| segment.next_offset <= from);
    for segment in segments[first..].iter().filter(|segment| segment.aborted > 0) {
        let path = &segment.path;
        let done = aborted::find(path, segment.aborted, from, to, &mut found);
        if done.at("read the aborted transactions of", path)? {
            break;
        }
    }
    Ok(found)
}
