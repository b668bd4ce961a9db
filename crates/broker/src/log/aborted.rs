//! Which transactions were aborted, in a file beside each segment: readers of committed records are told with every
//! fetch, and a partition can see millions of aborts, so they are kept on disk, as Kafka does.
//!
//! Entries stand in the order of their markers and have one size. An entry is written before its marker; how many count
//! is known from the log, so what a failed write left behind is overwritten.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::files;

const ENTRY_BYTES: usize = 36;
const READ_ENTRIES: usize = 256;

/// A transaction that ended in an abort: its records lie in `[first_offset, last_offset]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// The marker's offset.
    pub(crate) last_offset: i64,
    /// The last stable offset once it had ended: whatever ends later begins there or behind.
    pub(crate) stable_offset: i64,
}

impl AbortedTransaction {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let words = [
            self.producer_id,
            self.first_offset,
            self.last_offset,
            self.stable_offset,
        ];
        for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let broken = || io::Error::new(io::ErrorKind::InvalidData, "an aborted transaction's entry is broken");
        let (body, crc) = bytes.split_at_checked(32).ok_or_else(broken)?;
        if crc32c::crc32c(body).to_be_bytes() != crc {
            return Err(broken());
        }
        let word = |i: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&body[8 * i..8 * i + 8]);
            i64::from_be_bytes(word)
        };
        Ok(Self {
            producer_id: word(0),
            first_offset: word(1),
            last_offset: word(2),
            stable_offset: word(3),
        })
    }
}

pub(super) fn aborted_path(segment: &Path) -> PathBuf {
    segment.with_extension("aborted")
}

/// Writes entry number `at` of this segment.
pub(super) fn put(segment: &Path, at: u32, entry: AbortedTransaction) -> io::Result<()> {
    let path = aborted_path(segment);
    files::write_at(&files::open_write(&path)?, &path, &entry.to_bytes(), place(at))
}

pub(super) fn sync(segment: &Path) -> io::Result<()> {
    let path = aborted_path(segment);
    files::sync(&File::open(&path)?, &path)
}

/// Whether the file is long enough for this many entries.
pub(super) fn holds(segment: &Path, count: u32) -> bool {
    count == 0 || fs::metadata(aborted_path(segment)).is_ok_and(|metadata| metadata.len() >= place(count))
}

/// How many good entries have their markers before `offset`.
pub(super) fn count_before(segment: &Path, offset: i64) -> u32 {
    let bytes = fs::read(aborted_path(segment)).unwrap_or_default();
    bytes
        .chunks_exact(ENTRY_BYTES)
        .map_while(|entry| AbortedTransaction::from_bytes(entry).ok())
        .take_while(|entry| entry.last_offset < offset)
        .count() as u32
}

/// Adds this segment's transactions with records in `[from, to)`; true when no later segment can have one.
pub(super) fn find(
    segment: &Path,
    count: u32,
    from: i64,
    to: i64,
    found: &mut Vec<AbortedTransaction>,
) -> io::Result<bool> {
    let file = File::open(aborted_path(segment))?;
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; ENTRY_BYTES];
        file.read_exact_at(&mut bytes, place(middle))?;
        if AbortedTransaction::from_bytes(&bytes)?.last_offset < from {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut bytes = [0; ENTRY_BYTES * READ_ENTRIES];
    while low < count {
        let entries = READ_ENTRIES.min((count - low) as usize);
        let bytes = &mut bytes[..entries * ENTRY_BYTES];
        file.read_exact_at(bytes, place(low))?;
        for entry in bytes.chunks_exact(ENTRY_BYTES) {
            let entry = AbortedTransaction::from_bytes(entry)?;
            if entry.first_offset < to {
                found.push(entry);
            }
            if entry.stable_offset >= to {
                return Ok(true);
            }
        }
        low += entries as u32;
    }
    Ok(false)
}

fn place(entry: u32) -> u64 {
    u64::from(entry) * ENTRY_BYTES as u64
}
