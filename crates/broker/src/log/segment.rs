//! One segment: a file of batches and a sparse index over it by offset and by time.
//!
//! The segment being written keeps its index in memory; a closed one keeps it in a file beside it, which is read by
//! binary search, so that memory does not grow with the backlog. An index file tells of a segment up to a length, carries
//! a CRC, and counts as long as what it tells of has surely reached the disk or the system has not been restarted since;
//! what it does not cover is scanned.

use std::fs::File;
use std::io;
use std::num::NonZeroU128;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::files::write_rebuildable;

use super::aborted;
use super::batch::{BatchFault, BatchHeader, HEADER_BYTES};
use super::names::SegmentName;

/// One index entry for this many bytes of log.
const INDEX_INTERVAL: u64 = 16 << 10;
const ENTRY_BYTES: usize = 24;
const INDEX_HEADER: usize = 80;
const INDEX_MAGIC: &[u8; 8] = b"SCINDEX3";
const SCAN_BUFFER: usize = 1 << 20;
/// No log comes this far; a file that says so is broken.
const OFFSET_MAX: i64 = i64::MAX / 2;

/// A batch's place, and the latest record time of all batches before it: no record before `position` is as late as
/// a target above `max_timestamp_before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) base_offset: i64,
    pub(super) position: u64,
    pub(super) max_timestamp_before: i64,
}

#[derive(Debug, Clone)]
enum Index {
    Memory(Vec<IndexEntry>),
    File { entries: usize },
}

#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) base_offset: i64,
    /// Behind the last batch. The next segment may start later: the cleaner leaves gaps.
    pub(super) next_offset: i64,
    /// Bytes of whole batches.
    pub(super) len: u64,
    pub(super) max_timestamp: i64,
    /// Base offset of the first batch with that time.
    pub(super) max_timestamp_at: i64,
    /// When the first batch was written, by its records; `i64::MIN` while empty.
    pub(super) first_timestamp: i64,
    /// Transactions that were aborted by a marker in here: entries of the file beside.
    pub(super) aborted: u32,
    pub(super) name: SegmentName,
    pub(super) path: PathBuf,
    index: Index,
    indexed_upto: u64,
}

impl Segment {
    /// One that is appended to.
    pub(super) fn empty(dir: &Path, base_offset: i64) -> Self {
        Self::named(dir, SegmentName::appended(base_offset))
    }

    pub(super) fn named(dir: &Path, name: SegmentName) -> Self {
        let base_offset = name.base_offset;
        Self {
            base_offset,
            next_offset: base_offset,
            len: 0,
            max_timestamp: -1,
            max_timestamp_at: base_offset,
            first_timestamp: i64::MIN,
            aborted: 0,
            name,
            path: name.path(dir),
            index: Index::Memory(Vec::new()),
            indexed_upto: 0,
        }
    }

    /// Takes note of a batch written at the end.
    pub(super) fn push(&mut self, header: &BatchHeader, base_offset: i64) {
        if self.len >= self.indexed_upto
            && let Index::Memory(entries) = &mut self.index
        {
            entries.push(IndexEntry {
                base_offset,
                position: self.len,
                max_timestamp_before: self.max_timestamp,
            });
            self.indexed_upto = self.len + INDEX_INTERVAL;
        }
        if self.len == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        // A batch that was emptied has no record of that time.
        if header.record_count > 0 && header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_at = base_offset;
        }
        self.len += header.size as u64;
        self.next_offset = base_offset + i64::from(header.last_offset_delta) + 1;
    }

    /// The last indexed place at or before `offset`.
    pub(super) fn place_of_offset(&self, offset: i64) -> io::Result<u64> {
        self.last_entry(|entry| entry.base_offset <= offset)
    }

    /// The last indexed place up to `position` with a batch that starts at `offset` at the latest.
    pub(super) fn last_place_within(&self, position: u64, offset: i64) -> io::Result<u64> {
        self.last_entry(|entry| entry.position <= position && entry.base_offset <= offset)
    }

    /// The last indexed place before which every record is earlier than `timestamp`.
    pub(super) fn place_of_timestamp(&self, timestamp: i64) -> io::Result<u64> {
        self.last_entry(|entry| entry.max_timestamp_before < timestamp)
    }

    fn last_entry(&self, holds: impl Fn(&IndexEntry) -> bool) -> io::Result<u64> {
        match &self.index {
            Index::Memory(entries) => {
                let after = entries.partition_point(holds);
                Ok(after.checked_sub(1).map_or(0, |i| entries[i].position))
            }
            Index::File { entries } => {
                let file = File::open(index_path(&self.path))?;
                let (mut low, mut high, mut position) = (0, *entries, 0);
                while low < high {
                    let middle = low + (high - low) / 2;
                    let mut bytes = [0; ENTRY_BYTES];
                    file.read_exact_at(&mut bytes, (INDEX_HEADER + middle * ENTRY_BYTES) as u64)?;
                    let entry = read_entry(&bytes);
                    if holds(&entry) {
                        position = entry.position;
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                Ok(position)
            }
        }
    }

    /// Writes the index beside the segment: `Boot::Any` when the segment's file has been synced before.
    pub(super) fn write_index(&self, true_in: Boot) -> io::Result<()> {
        let Index::Memory(entries) = &self.index else {
            return Ok(());
        };
        let mut bytes = Vec::with_capacity(INDEX_HEADER + entries.len() * ENTRY_BYTES + 4);
        bytes.extend_from_slice(INDEX_MAGIC);
        let words = [
            self.len as i64,
            self.next_offset,
            self.max_timestamp,
            self.max_timestamp_at,
            self.first_timestamp,
            entries.len() as i64,
            i64::from(self.aborted),
        ];
        words
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        bytes.extend_from_slice(&true_in.to_bytes());
        for entry in entries {
            bytes.extend_from_slice(&entry.base_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
            bytes.extend_from_slice(&entry.max_timestamp_before.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        write_rebuildable(&index_path(&self.path), &bytes)
    }

    pub(super) fn index_in_memory(&self) -> bool {
        matches!(self.index, Index::Memory(_))
    }

    /// Lets go of the in-memory index when its file is in place.
    pub(super) fn index_on_disk(&mut self) {
        if let Index::Memory(entries) = &self.index {
            self.index = Index::File { entries: entries.len() };
        }
    }

    /// Opens a segment as far as its index file tells of it; `None` when that is missing or does not fit the segment.
    pub(super) fn from_index(dir: &Path, name: SegmentName, file_len: u64) -> Option<Self> {
        let mut segment = Self::named(dir, name);
        let bytes = std::fs::read(index_path(&segment.path)).ok()?;
        let (body, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if !body.starts_with(INDEX_MAGIC) || crc32c::crc32c(body).to_be_bytes() != crc {
            return None;
        }
        let word = |i: usize| Some(i64::from_be_bytes(body.get(8 + 8 * i..16 + 8 * i)?.try_into().ok()?));
        segment.len = u64::try_from(word(0)?).ok()?;
        segment.next_offset = word(1)?;
        segment.max_timestamp = word(2)?;
        segment.max_timestamp_at = word(3)?;
        segment.first_timestamp = word(4)?;
        let entries = usize::try_from(word(5)?).ok()?;
        segment.aborted = u32::try_from(word(6)?).ok()?;
        segment.index = Index::File { entries };
        let true_in: [u8; 16] = body.get(64..INDEX_HEADER)?.try_into().ok()?;
        let fits = segment.len <= file_len
            && Boot::from_bytes(true_in).is_this()
            && Some(body.len() - INDEX_HEADER) == entries.checked_mul(ENTRY_BYTES)
            && aborted::holds(&segment.path, segment.aborted);
        if !fits || !segment.is_sorted(&body[INDEX_HEADER..]) {
            return None;
        }
        Some(segment)
    }

    /// Whether index entries rise and stay within the segment: every reader relies on that.
    fn is_sorted(&self, entries: &[u8]) -> bool {
        let (mut position, mut offset) = (0, self.base_offset);
        let rises = entries.chunks_exact(ENTRY_BYTES).enumerate().all(|(i, bytes)| {
            let entry = read_entry(bytes.first_chunk().unwrap_or(&[0; ENTRY_BYTES]));
            let rises = i == 0 || (entry.position > position && entry.base_offset > offset);
            let inside = entry.position < self.len && (offset..self.next_offset).contains(&entry.base_offset);
            (position, offset) = (entry.position, entry.base_offset);
            rises && inside
        });
        rises && (self.base_offset..OFFSET_MAX).contains(&self.next_offset)
    }

    /// Reads the index file back into memory, to go on writing the segment.
    pub(super) fn load_index(&mut self) -> io::Result<()> {
        let Index::File { entries } = self.index else {
            return Ok(());
        };
        let bytes = std::fs::read(index_path(&self.path))?;
        let entries: Vec<_> = bytes
            .get(INDEX_HEADER..INDEX_HEADER + entries * ENTRY_BYTES)
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .chunks_exact(ENTRY_BYTES)
            .map(|bytes| read_entry(bytes.first_chunk().unwrap_or(&[0; ENTRY_BYTES])))
            .collect();
        self.indexed_upto = entries.last().map_or(0, |last| last.position + INDEX_INTERVAL);
        self.index = Index::Memory(entries);
        Ok(())
    }

    /// Scans the file behind what is known of it with CRC checks, giving each good batch to `on_batch`. What is left is
    /// the segment up to the first bad batch; the rest of the file is for the caller to cut.
    pub(super) fn scan(mut self, mut on_batch: impl FnMut(&BatchHeader, &[u8])) -> io::Result<Self> {
        self.load_index()?;
        let file = File::open(&self.path)?;
        let mut scanner = Scanner::new(&file, self.len, file.metadata()?.len());
        while let Some((_, header, batch)) = scanner.next(true)? {
            if !(self.next_offset..OFFSET_MAX).contains(&header.base_offset) {
                break;
            }
            on_batch(&header, batch);
            self.push(&header, header.base_offset);
        }
        Ok(self)
    }
}

/// A run of the operating system: for as long as it lasts, a file holds what was written to it, synced or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    /// What was synced holds in any.
    Any,
    /// The one that is; `None` where the system has no name for it.
    This(Option<NonZeroU128>),
}

impl Boot {
    pub(super) fn this() -> Self {
        static THIS: OnceLock<Option<NonZeroU128>> = OnceLock::new();
        let read = || {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            NonZeroU128::new(id.trim().parse::<uuid::Uuid>().ok()?.as_u128())
        };
        Self::This(*THIS.get_or_init(read))
    }

    fn to_bytes(self) -> [u8; 16] {
        match self {
            Self::Any => [0; 16],
            Self::This(Some(id)) => id.get().to_be_bytes(),
            // No system has this one.
            Self::This(None) => [0xff; 16],
        }
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        NonZeroU128::new(u128::from_be_bytes(bytes)).map_or(Self::Any, |id| Self::This(Some(id)))
    }

    fn is_this(self) -> bool {
        self == Self::Any || self == Self::this()
    }
}

pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("index")
}

fn read_entry(bytes: &[u8; ENTRY_BYTES]) -> IndexEntry {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        i64::from_be_bytes(word)
    };
    IndexEntry {
        base_offset: word(0),
        position: word(8) as u64,
        max_timestamp_before: word(16),
    }
}

/// Walks the batches of a file range in order.
pub(super) struct Scanner<'a> {
    file: &'a File,
    /// Where the next read from the file starts.
    read_at: u64,
    end: u64,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    from: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(file: &'a File, start: u64, end: u64) -> Self {
        Self {
            file,
            read_at: start,
            end,
            buffer: Vec::new(),
            from: 0,
        }
    }

    /// The next whole batch with its position, or `None` at the end or at the first bad batch.
    pub(super) fn next(&mut self, check_crc: bool) -> io::Result<Option<(u64, BatchHeader, &[u8])>> {
        if !self.fill(HEADER_BYTES)? {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::parse(&self.buffer[self.from..]) else {
            return Ok(None);
        };
        if !self.fill(header.size)? {
            return Ok(None);
        }
        let position = self.read_at - (self.buffer.len() - self.from) as u64;
        let batch = &self.buffer[self.from..self.from + header.size];
        match if check_crc {
            BatchHeader::check(batch)
        } else {
            Ok(header)
        } {
            Ok(header) => {
                self.from += header.size;
                Ok(Some((position, header, batch)))
            }
            Err(BatchFault::CutOff | BatchFault::Magic(_) | BatchFault::Malformed(_) | BatchFault::Crc) => Ok(None),
        }
    }

    /// Makes `bytes` available behind `from`; false when the range ends before.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        let have = self.buffer.len() - self.from;
        if have >= bytes {
            return Ok(true);
        }
        let left = self.end.saturating_sub(self.read_at);
        if (have as u64).saturating_add(left) < bytes as u64 {
            return Ok(false);
        }
        self.buffer.drain(..self.from);
        self.from = 0;
        let more = (bytes - have)
            .max(SCAN_BUFFER)
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        self.buffer.resize(have + more, 0);
        self.file.read_exact_at(&mut self.buffer[have..], self.read_at)?;
        self.read_at += more as u64;
        Ok(true)
    }
}
