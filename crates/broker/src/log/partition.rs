//! The log of one partition: where batches are appended, and from where they are found again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;

use crate::files::{self, write_atomically, write_rebuildable};

use super::aborted::{self, AbortedTransaction};
use super::batch::{BatchHeader, patched_prefix, with_append_time};
use super::cleaner::{self, CleanJob, Exchange, Replacement};
use super::config::{LogConfig, TimestampType};
use super::error::{LogError, StorageAt};
use super::locate;
use super::producers::{ProducerView, Producers, Snapshot, Verdict};
use super::read::{ReadPlan, TimestampPlan};
use super::records::first_outside;
use super::recovery::{find_segments, open_segments, read_snapshot, remove_segment};
use super::retention::expired_segments;
use super::segment::Segment;
use super::upkeep::Upkeep;

/// A start after a kill scans about this much of each partition, and what was written in the last second.
const CHECKPOINT_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// One node has one leader for ever.
pub(crate) const LEADER_EPOCH: i32 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    /// -1 unless the broker's time was written into the batch.
    pub(crate) log_append_time: i64,
    /// It was there already: a client sent it twice.
    pub(crate) duplicate: bool,
}

/// A file to be synced.
#[derive(Debug, Clone)]
pub(crate) struct Unsynced {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// Whether its name may not be on the disk either.
    is_new: bool,
}

impl Unsynced {
    /// Returns when the file is on the disk, with its name.
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        files::sync(&self.file, &self.path).at("sync", &self.path)?;
        if self.is_new {
            files::sync_parent(&self.path).at("sync the folder of", &self.path)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct PartitionLog {
    dir: PathBuf,
    config: LogConfig,
    /// Never empty; the last one is being written.
    segments: Vec<Segment>,
    /// The last segment's file, opened for appending.
    file: Arc<File>,
    log_start: i64,
    producers: Producers,
    /// A failed write left bytes behind the end that are still to be cut off.
    torn: bool,
    /// Files with batches that may not be on the disk yet; those of closed segments come first.
    unsynced: Vec<Unsynced>,
    /// Behind what is on the disk.
    synced_offset: i64,
    /// A sync has failed. The system may have dropped what it did not write, so nothing can be promised any more.
    has_failed: bool,
    /// Its topic is gone; another one of the same name may have the folder.
    is_deleted: bool,
    /// Behind what the cleaner has cleaned.
    first_dirty: i64,
    /// Producers' state at the last roll, for upkeep to write.
    pending_snapshot: Option<Snapshot>,
    /// The length of the last segment at which its next checkpoint is due.
    checkpoint_at: u64,
    /// When the first record of the last segment was written here.
    segment_since_ms: i64,
}

impl PartitionLog {
    /// Opens the log, making the folder when missing: cuts a torn tail, rebuilds what indexes or snapshots lack, and leaves
    /// all that readers will see on the disk where that is asked for.
    pub(crate) fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<Self, LogError> {
        files::create_dir_all(dir).at("create", dir)?;
        let log_start = read_offset(&log_start_path(dir));
        let names = find_segments(dir)?;
        let (mut segments, producers) = match open_segments(dir, &names, read_snapshot(dir))? {
            Some(opened) => opened,
            None => {
                tracing::warn!(dir = %dir.display(), "producers' state does not fit the log: reading all of it");
                open_segments(dir, &names, None)?.unwrap_or_default()
            }
        };
        if segments.is_empty() {
            segments.push(Segment::empty(dir, log_start.unwrap_or(0)));
        }
        let last = segments.len() - 1;
        if segments[last].name.generation > 0 {
            // What the cleaner wrote is not appended to: what came behind it has been lost.
            let next_offset = segments[last].next_offset.max(segments[last].name.end_offset);
            segments.push(Segment::empty(dir, next_offset));
        }
        let active = &segments[segments.len() - 1];
        let next_offset = active.next_offset;
        let checkpoint_at = active.len + CHECKPOINT_BYTES;
        let path = active.path.clone();
        let file = files::open_append(&path).at("open", &path)?;
        let log_start = log_start.unwrap_or(0).clamp(segments[0].base_offset, next_offset);
        let first_dirty = read_offset(&cleaner_offset_path(dir)).unwrap_or(0);
        let mut log = Self {
            dir: dir.to_path_buf(),
            config,
            first_dirty: first_dirty.min(active.base_offset),
            segments,
            file: Arc::new(file),
            log_start,
            producers,
            torn: false,
            unsynced: Vec::new(),
            synced_offset: next_offset,
            has_failed: false,
            is_deleted: false,
            pending_snapshot: None,
            checkpoint_at,
            segment_since_ms: now_ms,
        };
        log.unsynced = log.doubtful()?;
        if log.config.waits_for_disk && next_offset > log.segments[0].base_offset {
            log.unsynced.iter().try_for_each(Unsynced::sync)?;
            log.unsynced.clear();
        }
        Ok(log)
    }

    /// After a start: the files that a killed process may have written and not synced.
    fn doubtful(&self) -> Result<Vec<Unsynced>, LogError> {
        let last = self.segments.len() - 1;
        let mut doubtful = Vec::new();
        for segment in self.segments[..last].iter().filter(|s| s.index_in_memory()) {
            doubtful.push(Unsynced {
                file: Arc::new(File::open(&segment.path).at("open", &segment.path)?),
                path: segment.path.clone(),
                is_new: true,
            });
        }
        doubtful.push(Unsynced {
            file: Arc::clone(&self.file),
            path: self.active().path.clone(),
            is_new: true,
        });
        Ok(doubtful)
    }

    pub(crate) fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The offset that the next record will get.
    pub(crate) fn end_offset(&self) -> i64 {
        self.active().next_offset
    }

    /// What readers see lies before this offset. Where acknowledgements wait for the disk, so do readers: what one of
    /// them has passed on must not be gone after a power cut, with other records in its place.
    pub(crate) fn high_watermark(&self) -> i64 {
        if self.config.waits_for_disk {
            self.synced_offset
        } else {
            self.end_offset()
        }
    }

    /// Readers of committed records see what lies before this offset.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        let open = self.producers.first_open_offset().unwrap_or(i64::MAX);
        open.min(self.high_watermark())
    }

    /// Bytes of all segments.
    pub(crate) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub(crate) fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    pub(crate) fn producers(&self) -> Vec<ProducerView> {
        self.producers.views()
    }

    pub(crate) fn has_open_transaction(&self, producer_id: i64) -> bool {
        self.producers.has_open_transaction(producer_id)
    }

    /// Aborted transactions with records in `[from, to)`.
    pub(crate) fn aborted_in(&self, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, LogError> {
        locate::aborted(&self.segments, from, to)
    }

    pub(crate) fn expire_producers(&mut self, before_ms: i64) {
        self.producers.expire(before_ms);
    }

    /// Appends one batch whose header and CRC have been checked. When this returns it is in the file.
    pub(crate) fn append(&mut self, header: &BatchHeader, batch: &Bytes, now_ms: i64) -> Result<Appended, LogError> {
        self.check_writable()?;
        if header.size > self.config.message_bytes_max && !header.is_control() {
            let limit = self.config.message_bytes_max;
            return Err(LogError::refused(
                ResponseError::MessageTooLarge,
                format!(
                    "the batch has {} bytes, the topic takes {limit} (max.message.bytes)",
                    header.size
                ),
            ));
        }
        self.check_times(header, batch, now_ms)?;
        if header.has_producer()
            && let Verdict::Duplicate { base_offset, timestamp } = self.producers.check(header)?
        {
            // As Kafka: the time of the batch that is there, whoever set it.
            return Ok(Appended {
                base_offset,
                log_append_time: timestamp,
                duplicate: true,
            });
        }
        let (stamped, log_append_time) = match self.config.timestamp_type {
            TimestampType::LogAppend if !header.is_control() => (Some(with_append_time(batch, now_ms)), now_ms),
            _ => (None, -1),
        };
        let batch = stamped.as_ref().unwrap_or(batch);
        let mut header = *header;
        if stamped.is_some() {
            header.max_timestamp = now_ms;
        }
        self.cut_torn_tail()?;
        self.roll_if_due(&header, now_ms)?;
        let base_offset = self.end_offset();
        let last = self.segments.len() - 1;
        let aborted = self.producers.aborted_by(&header, batch, base_offset);
        if let Some(aborted) = aborted {
            let segment = &self.segments[last];
            aborted::put(&segment.path, segment.aborted, aborted).at("note an abort of", &segment.path)?;
        }
        let prefix = patched_prefix(batch, base_offset, LEADER_EPOCH);
        let path = &self.segments[last].path;
        if let Err(source) = files::append(&self.file, path, &prefix, &batch[prefix.len()..header.size]) {
            self.torn = true;
            let path = path.clone();
            // Cut now if possible; otherwise the next append does it first.
            let _ = self.cut_torn_tail();
            return Err(LogError::Storage {
                action: "append to",
                path,
                source,
            });
        }
        self.note_unsynced();
        self.segments[last].push(&header, base_offset);
        self.segments[last].aborted += u32::from(aborted.is_some());
        header.base_offset = base_offset;
        self.producers.appended(&header, base_offset);
        Ok(Appended {
            base_offset,
            log_append_time,
            duplicate: false,
        })
    }

    /// Refuses to write where a sync has failed: until a start has read what is really there, nothing can be promised.
    pub(crate) fn check_writable(&self) -> Result<(), LogError> {
        if !self.has_failed {
            return Ok(());
        }
        let reason = "an earlier sync of this partition failed; restart the broker when the disk is well";
        Err(std::io::Error::other(reason)).at("append to", &self.active().path)
    }

    /// Takes note that the file being written has something to sync.
    fn note_unsynced(&mut self) {
        let is_noted = |unsynced: &Unsynced| Arc::ptr_eq(&unsynced.file, &self.file);
        if !self.unsynced.last().is_some_and(is_noted) {
            let active = self.active();
            self.unsynced.push(Unsynced {
                file: Arc::clone(&self.file),
                path: active.path.clone(),
                is_new: active.len == 0,
            });
        }
    }

    /// Whether records need a key.
    pub(crate) fn is_compacted(&self) -> bool {
        self.config.compaction.is_some()
    }

    /// Refuses a batch with a record whose time is too far from the broker's.
    fn check_times(&self, header: &BatchHeader, batch: &Bytes, now_ms: i64) -> Result<(), LogError> {
        if self.config.timestamp_type == TimestampType::LogAppend || header.is_control() {
            return Ok(());
        }
        let earliest = now_ms.saturating_sub(self.config.before_max_ms);
        let allowed = earliest..=now_ms.saturating_add(self.config.after_max_ms);
        // The header tells the latest time cheaply, and the earliest not at all.
        if header.max_timestamp <= *allowed.end() && earliest < 0 {
            return Ok(());
        }
        match first_outside(header, batch, &allowed) {
            Some((index, timestamp)) => Err(LogError::BadRecord {
                code: ResponseError::InvalidTimestamp,
                index,
                reason: format!("the timestamp {timestamp} of record {index} is not within {allowed:?}"),
            }),
            None => Ok(()),
        }
    }

    /// A place to read about `bytes_max` from: batches that hold `offset` and later ones, all before `upper`. `None`:
    /// nothing there yet.
    pub(crate) fn plan_read(&self, offset: i64, upper: i64, bytes_max: usize) -> Result<Option<ReadPlan>, LogError> {
        if offset < self.log_start || offset > self.end_offset() {
            return Err(LogError::refused(
                ResponseError::OffsetOutOfRange,
                format!("offset {offset} is not in [{}, {}]", self.log_start, self.end_offset()),
            ));
        }
        if offset >= upper.min(self.high_watermark()) {
            return Ok(None);
        }
        let upper = upper.min(self.high_watermark());
        locate::read_plan(&self.segments, &self.file, offset, upper, bytes_max).map(Some)
    }

    /// About how many bytes lie in `[offset, upper)`; exact enough to decide whether a fetch has its `min_bytes`.
    pub(crate) fn bytes_from(&self, offset: i64, upper: i64) -> u64 {
        if offset >= upper.min(self.high_watermark()) {
            return 0;
        }
        locate::bytes_from(&self.segments, offset)
    }

    /// Where to look for the first record at or after a time, among those from an offset on; `None` when all of them
    /// are earlier.
    pub(crate) fn plan_timestamp(&self, timestamp: i64, from: i64) -> Result<Option<TimestampPlan>, LogError> {
        locate::timestamp(&self.segments, timestamp, from.max(self.log_start), self.log_start)
    }

    /// Where to look for the record with the latest time.
    pub(crate) fn plan_max_timestamp(&self) -> Result<Option<TimestampPlan>, LogError> {
        if self.high_watermark() == self.log_start {
            return Ok(None);
        }
        locate::max_timestamp(&self.segments, self.log_start)
    }

    /// Moves the log's start (DeleteRecords); segments wholly before it are deleted.
    pub(crate) fn delete_before(&mut self, offset: i64) -> Result<i64, LogError> {
        if offset > self.high_watermark() || offset < 0 {
            return Err(LogError::refused(
                ResponseError::OffsetOutOfRange,
                format!("offset {offset} is above the end, {}", self.high_watermark()),
            ));
        }
        if offset > self.log_start {
            // Segments go first: on a full disk there is no room for the note before.
            let keep = self
                .segments
                .iter()
                .position(|s| s.next_offset > offset)
                .unwrap_or(self.segments.len() - 1);
            self.delete_oldest(keep)?;
            let path = log_start_path(&self.dir);
            write_atomically(&path, offset.to_string().as_bytes()).at("write", &path)?;
            self.log_start = offset;
        }
        Ok(self.log_start)
    }

    /// Deletes closed segments that retention does not keep; answers how many.
    pub(crate) fn retain(&mut self, now_ms: i64) -> Result<usize, LogError> {
        if !self.config.deletes {
            return Ok(0);
        }
        if let Some(retention_ms) = self.config.retention_ms
            && self.active().len > 0
            && self.active().max_timestamp < now_ms.saturating_sub(retention_ms)
        {
            self.roll(now_ms)?;
        }
        // An open transaction holds its records.
        let held = self.producers.first_open_offset().unwrap_or(i64::MAX);
        let delete = expired_segments(&self.segments, &self.config, held, now_ms);
        self.delete_oldest(delete)?;
        Ok(delete)
    }

    fn delete_oldest(&mut self, count: usize) -> Result<(), LogError> {
        for _ in 0..count {
            let path = self.segments[0].path.clone();
            remove_segment(&path).at("delete", &path)?;
            self.segments.remove(0);
            self.log_start = self.log_start.max(self.segments[0].base_offset);
        }
        Ok(())
    }

    /// The slow work that is due: closed segments to sync and index, a snapshot to write.
    pub(crate) fn take_upkeep(&mut self) -> Option<Upkeep> {
        if self.is_deleted {
            return None;
        }
        let last = self.segments.len() - 1;
        let closed: Vec<_> = self.segments[..last]
            .iter()
            .filter(|s| s.index_in_memory())
            .cloned()
            .collect();
        let mut snapshot = self.pending_snapshot.take();
        let active = &self.segments[last];
        let mut checkpoint = None;
        if active.len >= self.checkpoint_at {
            self.checkpoint_at = active.len + CHECKPOINT_BYTES;
            checkpoint = Some(active.clone());
            snapshot = Some(self.producers.snapshot(active.next_offset, active));
        }
        (!closed.is_empty() || snapshot.is_some()).then(|| Upkeep {
            dir: self.dir.clone(),
            closed,
            checkpoint,
            snapshot,
        })
    }

    /// Takes note that [`Upkeep::run`] has finished.
    pub(crate) fn upkeep_done(&mut self, done: &Upkeep) {
        for closed in &done.closed {
            if let Some(segment) = self.segments.iter_mut().find(|s| s.base_offset == closed.base_offset) {
                segment.index_on_disk();
            }
            self.unsynced.retain(|unsynced| unsynced.path != closed.path);
        }
    }

    /// The files to sync, and the offset behind what is on the disk once they are.
    pub(crate) fn take_unsynced(&mut self) -> (Vec<Unsynced>, i64) {
        (std::mem::take(&mut self.unsynced), self.end_offset())
    }

    /// Takes note that what lies before this offset is on the disk.
    pub(crate) fn synced(&mut self, offset: i64) {
        self.synced_offset = self.synced_offset.max(offset);
    }

    /// Takes note that a sync has failed. Nothing more is written: the system may have dropped what was not on the disk,
    /// and a second sync that works would prove nothing.
    pub(crate) fn sync_failed(&mut self) {
        self.has_failed = true;
    }

    /// What lies before this offset is on the disk.
    pub(crate) fn synced_offset(&self) -> i64 {
        self.synced_offset
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// From now on the folder may be another topic's.
    pub(crate) fn set_deleted(&mut self, is_deleted: bool) {
        self.is_deleted = is_deleted;
    }

    /// What the cleaner is to do here, if anything.
    pub(crate) fn plan_cleaning(&self, now_ms: i64) -> Option<CleanJob> {
        let config = self.config.compaction.filter(|_| !self.is_deleted)?;
        let first_dirty = self.first_dirty.max(self.log_start);
        let closed = &self.segments[..self.segments.len() - 1];
        // Their indexes are written after they were synced.
        let on_disk = closed.iter().take_while(|segment| !segment.index_in_memory()).count();
        let stable = self.last_stable_offset();
        let plan = cleaner::plan(&self.segments, on_disk, &config, first_dirty, stable, now_ms)?;
        Some(CleanJob {
            dir: self.dir.clone(),
            segments: self.segments.clone(),
            plan,
            first_dirty,
            config,
            segment_bytes: self.config.segment_bytes,
            last_batches: self.producers.last_batches(),
            now_ms,
        })
    }

    /// Exchanges segments for what the cleaner made of them; false when they are no longer there.
    pub(super) fn replace(&mut self, replacement: &Replacement) -> Result<bool, LogError> {
        let sources = &replacement.sources;
        let first = self.segments.iter().position(|segment| segment.name == sources[0]);
        let Some(first) = first.filter(|_| !self.is_deleted) else {
            return Ok(false);
        };
        let range = first..first + sources.len();
        let found = self.segments.get(range.clone()).unwrap_or_default();
        if !found.iter().map(|segment| &segment.name).eq(sources) || range.end >= self.segments.len() {
            return Ok(false);
        }
        let (from, to) = (&replacement.written_to, &replacement.segment.path);
        files::rename(from, to).at("rename", from)?;
        self.segments.splice(range, [replacement.segment.clone()]);
        Ok(true)
    }

    /// Deletes the files that have been replaced, under the log's lock: after it the folder may be another topic's.
    pub(super) fn remove_replaced(&self, replacement: &Replacement) -> Result<(), LogError> {
        let sources = replacement.sources.iter().filter(|_| !self.is_deleted);
        sources
            .map(|source| source.path(&self.dir))
            .try_for_each(|path| remove_segment(&path).at("delete", &path))
    }

    /// Takes note that the log is clean up to this offset.
    pub(crate) fn cleaned(&mut self, upto: i64) -> Result<(), LogError> {
        if upto > self.first_dirty && !self.is_deleted {
            self.first_dirty = upto;
            let path = cleaner_offset_path(&self.dir);
            // Without it more is cleaned again than need be.
            write_rebuildable(&path, upto.to_string().as_bytes()).at("write", &path)?;
        }
        Ok(())
    }

    /// Syncs everything and leaves index and snapshot, so that the next open reads no batches.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        self.cut_torn_tail()?;
        if self.end_offset() == self.segments[0].base_offset {
            // Nothing was ever written here.
            return Ok(());
        }
        let snapshot = Some(self.producers.snapshot(self.end_offset(), self.active()));
        let closed = self.segments.iter().filter(|s| s.index_in_memory()).cloned().collect();
        Upkeep {
            dir: self.dir.clone(),
            closed,
            checkpoint: None,
            snapshot,
        }
        .run()
    }

    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.file, file)
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn roll_if_due(&mut self, header: &BatchHeader, now_ms: i64) -> Result<(), LogError> {
        let active = self.active();
        if active.len == 0 {
            self.segment_since_ms = now_ms;
            return Ok(());
        }
        let full = active.len + header.size as u64 > self.config.segment_bytes;
        let old = now_ms.saturating_sub(self.segment_since_ms) > self.config.segment_ms();
        if full || old { self.roll(now_ms) } else { Ok(()) }
    }

    fn roll(&mut self, now_ms: i64) -> Result<(), LogError> {
        let segment = Segment::empty(&self.dir, self.end_offset());
        let file = files::open_append(&segment.path).at("create", &segment.path)?;
        self.pending_snapshot = Some(self.producers.snapshot(segment.base_offset, &segment));
        self.file = Arc::new(file);
        self.segments.push(segment);
        self.checkpoint_at = CHECKPOINT_BYTES;
        self.segment_since_ms = now_ms;
        Ok(())
    }

    fn cut_torn_tail(&mut self) -> Result<(), LogError> {
        if self.torn {
            let active = self.active();
            files::set_len(&self.file, &active.path, active.len).at("truncate", &active.path)?;
            self.torn = false;
        }
        Ok(())
    }
}

impl Exchange for Mutex<PartitionLog> {
    fn replace(&self, replacement: &Replacement) -> Result<bool, LogError> {
        self.lock().replace(replacement)
    }

    fn remove_replaced(&self, replacement: &Replacement) -> Result<(), LogError> {
        self.lock().remove_replaced(replacement)
    }
}

fn log_start_path(dir: &Path) -> PathBuf {
    dir.join("log-start-offset")
}

fn cleaner_offset_path(dir: &Path) -> PathBuf {
    dir.join("cleaner-offset")
}

fn read_offset(path: &Path) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
