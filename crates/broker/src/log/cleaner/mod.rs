//! The log cleaner: of each key of a compacted topic (`cleanup.policy=compact`) the last record stays.
//!
//! `policy` decides which of a log's oldest segments are cleaned, `keys` holds the last offset of each key, `retain` decides
//! what stays of a batch. A pass reads what has not been cleaned yet to learn the keys, as many as its memory holds, and
//! then writes all planned segments again, several small ones as one.
//!
//! A crash loses nothing: each new file is written beside, synced and renamed, and its name says which files it replaces
//! (`names`). The segment being written and undecided transactions are never touched. Nothing here holds the log's lock
//! but the moment in which segments are exchanged.

mod keys;
mod policy;
mod retain;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::files;

use super::aborted;
use super::batch::BatchHeader;
use super::config::CompactionConfig;
use super::error::{LogError, StorageAt};
use super::locate;
use super::names::SegmentName;
use super::producers::{LastBatch, Producers};
use super::records::{each, unpacked};
use super::segment::{Boot, Scanner, Segment, index_path};

use keys::KeyMap;
use retain::{Retained, Retention};

pub(super) use policy::{CleanPlan, plan};
pub(crate) use retain::Counts;

const WRITE_BYTES: usize = 1 << 20;

/// A log that is due to be cleaned, as it was when that was decided.
#[derive(Debug)]
pub(crate) struct CleanJob {
    pub(super) dir: PathBuf,
    /// All of the log; aborted transactions are looked up behind what is cleaned too.
    pub(super) segments: Vec<Segment>,
    pub(super) plan: CleanPlan,
    pub(super) first_dirty: i64,
    pub(super) config: CompactionConfig,
    pub(super) segment_bytes: u64,
    pub(super) last_batches: HashMap<i64, LastBatch>,
    pub(super) now_ms: i64,
}

/// A file to take the place of some segments. It counts when it has been renamed.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(super) sources: Vec<SegmentName>,
    pub(super) segment: Segment,
    /// Where the file is until then.
    pub(super) written_to: PathBuf,
}

/// The log that is being cleaned, as far as the cleaner changes it.
pub(crate) trait Exchange {
    /// Exchanges segments for what was made of them; false when they are no longer there.
    fn replace(&self, replacement: &Replacement) -> Result<bool, LogError>;

    /// Deletes the files that have been replaced.
    fn remove_replaced(&self, replacement: &Replacement) -> Result<(), LogError>;
}

/// What a pass did to one log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    pub(crate) counts: Counts,
    pub(crate) bytes_before: u64,
    pub(crate) bytes_after: u64,
    /// Of the memory that the keys took.
    pub(crate) keys_bytes: usize,
    /// Behind what is clean now.
    pub(crate) upto: i64,
    /// Whether all keys had room; the rest is for the next pass.
    pub(crate) is_complete: bool,
}

impl CleanJob {
    pub(crate) fn dirty_ratio(&self) -> f64 {
        self.plan.dirty_ratio
    }

    /// Cleans the log, with at most `keys_bytes_max` bytes for the keys. When segments are no longer there the pass ends,
    /// and what it has done until then counts.
    pub(crate) fn run(&self, keys_bytes_max: usize, log: &impl Exchange) -> Result<Cleaned, LogError> {
        let (keys, is_complete) = self.read_keys(keys_bytes_max)?;
        let planned = &self.segments[..self.plan.segments];
        let count = planned.partition_point(|segment| segment.base_offset <= keys.latest_offset());
        let mut cleaned = Cleaned {
            keys_bytes: keys.bytes(),
            is_complete,
            upto: self.first_dirty,
            ..Cleaned::default()
        };
        let mut pass = Pass {
            retention: Retention::new(&keys, &self.last_batches, self.now_ms, self.config.delete_retention_ms),
            producers: Producers::default(),
        };
        for group in policy::groups(&planned[..count], self.segment_bytes) {
            let (replacement, is_changed) = self
                .write(group.clone(), &mut pass)
                .inspect_err(|_| self.give_up(&group))?;
            let before: u64 = self.segments[group.clone()].iter().map(|segment| segment.len).sum();
            cleaned.bytes_before += before;
            cleaned.bytes_after += replacement.segment.len;
            if is_changed || group.len() > 1 {
                let replaced = log.replace(&replacement);
                if !replaced.inspect_err(|_| self.give_up(&group))? {
                    self.give_up(&group);
                    return Ok(cleaned);
                }
                // A power cut must not take the new file when the old ones are gone.
                files::sync_dir(&self.dir).at("sync", &self.dir)?;
                log.remove_replaced(&replacement)?;
            } else {
                self.give_up(&group);
            }
            cleaned.counts = pass.retention.counts;
        }
        cleaned.upto = match self.segments.get(count) {
            Some(next) if is_complete && count == self.plan.segments => next.base_offset,
            _ => keys.latest_offset() + 1,
        };
        Ok(cleaned)
    }

    /// The last offset of each key in what has not been cleaned yet, and whether all of them had room.
    fn read_keys(&self, bytes_max: usize) -> Result<(KeyMap, bool), LogError> {
        let planned = &self.segments[..self.plan.segments];
        let end = planned.last().map_or(0, |segment| segment.next_offset);
        let offsets = u64::try_from(end - self.first_dirty).unwrap_or(0);
        let mut keys = KeyMap::new(offsets, bytes_max);
        keys.seen_before(self.first_dirty);
        for segment in planned.iter().filter(|segment| segment.next_offset > self.first_dirty) {
            let aborted = self.aborted_in(segment)?;
            let start = segment.place_of_offset(self.first_dirty);
            let start = start.at("read the index of", &segment.path)?;
            let mut is_full = false;
            each_batch(segment, start, |header, batch| {
                let skipped = header.is_control() || aborted.contains(header);
                is_full = !skipped && !self.put(&mut keys, header, batch);
                if !is_full {
                    keys.seen_before(header.next_offset());
                }
                Ok(!is_full)
            })?;
            if is_full {
                return Ok((keys, false));
            }
            keys.seen_before(segment.next_offset);
        }
        Ok((keys, true))
    }

    /// Takes note of a batch's keys; false when there is no room for one. What cannot be read is left to `retain`.
    fn put(&self, keys: &mut KeyMap, header: &BatchHeader, batch: &[u8]) -> bool {
        let Ok(unpacked) = unpacked(header, batch) else {
            return true;
        };
        if each(header, &unpacked).any(|record| record.is_err()) {
            return true;
        }
        for record in each(header, &unpacked).flatten() {
            let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
            let key = record.key.filter(|_| offset >= self.first_dirty);
            if key.is_some_and(|key| !keys.put(key, offset)) {
                keys.seen_before(offset);
                return false;
            }
        }
        true
    }

    /// Writes what stays of neighbours into one file, synced, with its index and aborted transactions in place.
    fn write(&self, group: Range<usize>, pass: &mut Pass<'_>) -> Result<(Replacement, bool), LogError> {
        let sources = &self.segments[group.clone()];
        let name = self.name(&group);
        let mut output = Output::create(&self.dir, name)?;
        let mut is_changed = false;
        for source in sources {
            let aborted = self.aborted_in(source)?;
            each_batch(source, 0, |header, batch| {
                match pass.retention.batch(header, batch, aborted.contains(header)) {
                    Retained::Whole => output.push(batch, &mut pass.producers)?,
                    Retained::Rewritten(bytes) => {
                        is_changed = true;
                        output.push(&bytes, &mut pass.producers)?;
                    }
                    Retained::Nothing => is_changed = true,
                }
                Ok(true)
            })?;
        }
        let (segment, written_to) = output.finish()?;
        let sources = sources.iter().map(|source| source.name).collect();
        let replacement = Replacement {
            sources,
            segment,
            written_to,
        };
        Ok((replacement, is_changed))
    }

    fn name(&self, group: &Range<usize>) -> SegmentName {
        let sources = &self.segments[group.clone()];
        let last = &sources[sources.len() - 1];
        let generation = self.segments.iter().map(|segment| segment.name.generation).max();
        SegmentName {
            base_offset: sources[0].base_offset,
            end_offset: last.next_offset.max(last.name.end_offset),
            generation: generation.unwrap_or(0) + 1,
        }
    }

    /// Deletes what was written for a group and does not count; at the latest the next start does.
    fn give_up(&self, group: &Range<usize>) {
        let path = self.name(group).path(&self.dir);
        let _ = files::remove_if_there(&written_to(&path));
        let _ = super::recovery::remove_segment(&path);
    }

    fn aborted_in(&self, segment: &Segment) -> Result<Aborted, LogError> {
        let mut by_producer: HashMap<i64, Vec<(i64, i64)>> = HashMap::new();
        for aborted in locate::aborted(&self.segments, segment.base_offset, segment.next_offset)? {
            let of_producer = by_producer.entry(aborted.producer_id).or_default();
            of_producer.push((aborted.first_offset, aborted.last_offset));
        }
        Ok(Aborted { by_producer })
    }
}

fn written_to(path: &Path) -> PathBuf {
    path.with_extension("cleaned")
}

/// What goes through all of a log.
struct Pass<'a> {
    retention: Retention<'a>,
    /// Of what stays: the aborted transactions of the new files follow from it, as they do at a start.
    producers: Producers,
}

/// The aborted transactions with records in a segment.
struct Aborted {
    /// From the first record to the marker.
    by_producer: HashMap<i64, Vec<(i64, i64)>>,
}

impl Aborted {
    fn contains(&self, header: &BatchHeader) -> bool {
        let is_inside = |&(first, last): &(i64, i64)| (first..=last).contains(&header.base_offset);
        header.is_transactional()
            && !header.is_control()
            && self
                .by_producer
                .get(&header.producer_id)
                .is_some_and(|of_producer| of_producer.iter().any(is_inside))
    }
}

/// Gives each batch of a segment from a place on; ends early where `on_batch` answers false. A batch that is broken is an
/// error: nothing broken is to be written again as if it were good.
fn each_batch(
    segment: &Segment,
    start: u64,
    mut on_batch: impl FnMut(&BatchHeader, &[u8]) -> Result<bool, LogError>,
) -> Result<(), LogError> {
    let path = &segment.path;
    let file = File::open(path).at("open", path)?;
    let mut scanner = Scanner::new(&file, start, segment.len);
    let mut behind = start;
    while let Some((position, header, batch)) = scanner.next(true).at("read", path)? {
        behind = position + header.size as u64;
        if !on_batch(&header, batch)? {
            return Ok(());
        }
    }
    if behind == segment.len {
        Ok(())
    } else {
        Err(broken(path, behind))
    }
}

/// A file being written.
struct Output {
    segment: Segment,
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
}

impl Output {
    fn create(dir: &Path, name: SegmentName) -> Result<Self, LogError> {
        let segment = Segment::named(dir, name);
        let path = written_to(&segment.path);
        let file = files::create(&path).at("create", &path)?;
        let aborted = aborted::aborted_path(&segment.path);
        files::remove_if_there(&aborted).at("delete", &aborted)?;
        Ok(Self {
            segment,
            path,
            file,
            buffer: Vec::with_capacity(WRITE_BYTES),
        })
    }

    fn push(&mut self, batch: &[u8], producers: &mut Producers) -> Result<(), LogError> {
        let header = BatchHeader::parse(batch).map_err(|_| broken(&self.path, 0))?;
        if let Some(entry) = producers.aborted_by(&header, batch, header.base_offset) {
            let noted = aborted::put(&self.segment.path, self.segment.aborted, entry);
            noted.at("note an abort of", &self.segment.path)?;
            self.segment.aborted += 1;
        }
        producers.appended(&header, header.base_offset);
        self.segment.push(&header, header.base_offset);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        files::append(&self.file, &self.path, &self.buffer, &[]).at("write", &self.path)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(Segment, PathBuf), LogError> {
        self.flush()?;
        files::sync(&self.file, &self.path).at("sync", &self.path)?;
        if self.segment.aborted > 0 {
            aborted::sync(&self.segment.path).at("sync the aborted transactions of", &self.segment.path)?;
        }
        let index = index_path(&self.segment.path);
        self.segment.write_index(Boot::Any).at("write", &index)?;
        let synced = File::open(&index).and_then(|file| files::sync(&file, &index));
        synced.at("sync", &index)?;
        self.segment.index_on_disk();
        Ok((self.segment, self.path))
    }
}

fn broken(path: &Path, position: u64) -> LogError {
    LogError::Storage {
        action: "clean",
        path: path.to_path_buf(),
        source: io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the batch at byte {position} is broken"),
        ),
    }
}
