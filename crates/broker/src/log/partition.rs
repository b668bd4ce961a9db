//! The log of one partition: where batches are appended, and from where they are found again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::journal::write_atomically;

use super::aborted::{self, AbortedTransaction, aborted_path};
use super::batch::{BatchHeader, patched_prefix, with_append_time};
use super::config::{LogConfig, TimestampType};
use super::error::{LogError, StorageAt};
use super::locate;
use super::producers::{ProducerView, Producers, Snapshot, Verdict};
use super::read::{ReadPlan, TimestampPlan};
use super::records::first_outside;
use super::recovery::{open_segments, read_snapshot};
use super::retention::expired_segments;
use super::segment::{Segment, index_path};
use super::upkeep::Upkeep;

/// A start after a kill scans about so much of each partition, and what was written in the last second.
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
    unsynced: Vec<(Arc<File>, PathBuf)>,
    /// Producers' state at the last roll, for upkeep to write.
    pending_snapshot: Option<Snapshot>,
    /// The length of the last segment at which its next checkpoint is due.
    checkpoint_at: u64,
    /// When the first record of the last segment was written here.
    segment_since_ms: i64,
}

impl PartitionLog {
    /// Opens the log, making the directory when missing: cuts a torn tail, rebuilds what indexes or snapshots lack.
    pub(crate) fn open(dir: &Path, config: LogConfig, now_ms: i64) -> Result<Self, LogError> {
        fs::create_dir_all(dir).at("create", dir)?;
        let log_start = read_log_start(dir);
        let mut bases = Vec::new();
        for entry in fs::read_dir(dir).at("list", dir)? {
            let name = entry.at("list", dir)?.file_name();
            let base = name
                .to_str()
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|base| base.parse::<i64>().ok());
            bases.extend(base);
        }
        bases.sort_unstable();
        let (mut segments, producers) = match open_segments(dir, &bases, read_snapshot(dir))? {
            Some(opened) => opened,
            None => {
                tracing::warn!(dir = %dir.display(), "producers' state does not fit the log: reading all of it");
                open_segments(dir, &bases, None)?.unwrap_or_default()
            }
        };
        if segments.is_empty() {
            segments.push(Segment::empty(dir, log_start.unwrap_or(0)));
        }
        let last = segments.len() - 1;
        let next_offset = segments[last].next_offset;
        let checkpoint_at = segments[last].len + CHECKPOINT_BYTES;
        let path = segments[last].path.clone();
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .at("open", &path)?;
        let log_start = log_start.unwrap_or(0).clamp(segments[0].base_offset, next_offset);
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            segments,
            file: Arc::new(file),
            log_start,
            producers,
            torn: false,
            unsynced: Vec::new(),
            pending_snapshot: None,
            checkpoint_at,
            segment_since_ms: now_ms,
        })
    }

    pub(crate) fn log_start(&self) -> i64 {
        self.log_start
    }

    pub(crate) fn high_watermark(&self) -> i64 {
        self.active().next_offset
    }

    /// Readers of committed records see what lies before this offset.
    pub(crate) fn last_stable_offset(&self) -> i64 {
        self.producers
            .first_open_offset()
            .unwrap_or_else(|| self.high_watermark())
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
        let base_offset = self.high_watermark();
        let last = self.segments.len() - 1;
        let aborted = self.producers.aborted_by(&header, batch, base_offset);
        if let Some(aborted) = aborted {
            let segment = &self.segments[last];
            aborted::put(&segment.path, segment.aborted, aborted).at("note an abort of", &segment.path)?;
        }
        let prefix = patched_prefix(batch, base_offset, LEADER_EPOCH);
        if let Err(source) = write_all(&self.file, &prefix, &batch[prefix.len()..header.size]) {
            self.torn = true;
            let path = self.active().path.clone();
            // Cut now if possible; otherwise the next append does it first.
            let _ = self.cut_torn_tail();
            return Err(LogError::Storage {
                action: "append to",
                path,
                source,
            });
        }
        if self
            .unsynced
            .last()
            .is_none_or(|(file, _)| !Arc::ptr_eq(file, &self.file))
        {
            self.unsynced.push((Arc::clone(&self.file), self.active().path.clone()));
        }
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
        if offset < self.log_start || offset > self.high_watermark() {
            return Err(LogError::refused(
                ResponseError::OffsetOutOfRange,
                format!(
                    "offset {offset} is not in [{}, {}]",
                    self.log_start,
                    self.high_watermark()
                ),
            ));
        }
        if offset >= upper.min(self.high_watermark()) {
            return Ok(None);
        }
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
            fs::remove_file(&path).at("delete", &path)?;
            // What stands beside a segment is ignored without it.
            let _ = fs::remove_file(index_path(&path));
            let _ = fs::remove_file(aborted_path(&path));
            self.segments.remove(0);
            self.log_start = self.log_start.max(self.segments[0].base_offset);
        }
        Ok(())
    }

    /// The slow work that is due: closed segments to sync and index, a snapshot to write.
    pub(crate) fn take_upkeep(&mut self) -> Option<Upkeep> {
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
            self.unsynced.retain(|(_, path)| *path != closed.path);
        }
    }

    /// The files to sync: all that was appended until now is in them or on the disk.
    pub(crate) fn take_unsynced(&mut self) -> Vec<(Arc<File>, PathBuf)> {
        std::mem::take(&mut self.unsynced)
    }

    /// Syncs everything and leaves index and snapshot, so that the next open reads no batches.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        self.cut_torn_tail()?;
        if self.high_watermark() == self.segments[0].base_offset {
            // Nothing was ever written here.
            return Ok(());
        }
        let snapshot = Some(self.producers.snapshot(self.high_watermark(), self.active()));
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
        let old = now_ms.saturating_sub(self.segment_since_ms) > self.config.segment_ms;
        if full || old { self.roll(now_ms) } else { Ok(()) }
    }

    fn roll(&mut self, now_ms: i64) -> Result<(), LogError> {
        let segment = Segment::empty(&self.dir, self.high_watermark());
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .open(&segment.path)
            .at("create", &segment.path)?;
        self.pending_snapshot = Some(self.producers.snapshot(segment.base_offset, &segment));
        self.file = Arc::new(file);
        self.segments.push(segment);
        self.checkpoint_at = CHECKPOINT_BYTES;
        self.segment_since_ms = now_ms;
        Ok(())
    }

    fn cut_torn_tail(&mut self) -> Result<(), LogError> {
        if self.torn {
            self.file
                .set_len(self.active().len)
                .at("truncate", &self.active().path)?;
            self.torn = false;
        }
        Ok(())
    }
}

fn write_all(mut file: &File, mut head: &[u8], mut tail: &[u8]) -> io::Result<()> {
    while !head.is_empty() {
        let written = match file.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tail = &tail[written.saturating_sub(head.len())..];
        head = &head[written.min(head.len())..];
    }
    file.write_all(tail)
}

fn log_start_path(dir: &Path) -> PathBuf {
    dir.join("log-start-offset")
}

fn read_log_start(dir: &Path) -> Option<i64> {
    fs::read_to_string(log_start_path(dir)).ok()?.trim().parse().ok()
}
