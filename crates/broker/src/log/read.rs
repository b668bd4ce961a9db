//! Reading without the log's lock: a plan names a file and a place in it, running it finds the range that is wanted.
//! Records themselves are not read: they go from the file to the socket.
//!
//! A closed segment may be deleted or replaced in between; then the read finds no file, and a new plan is made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::error::{LogError, StorageAt};
use super::records::first_at_or_after;
use super::segment::Scanner;

/// Read first, to find where the wanted batches begin. An answer that lies in it is given as bytes, any other as a range
/// of the file. Room for the batches between an indexed place and the wanted one.
const HEAD_BYTES: u64 = 32 << 10;

/// What one lookup by time unpacks at most: a batch whose header promises a later record than it has sends the lookup
/// on to the next.
const UNPACKED_BYTES_MAX: u64 = 128 << 20;

#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub(super) path: PathBuf,
    /// The open file of the segment being written; closed ones are opened when read.
    pub(super) file: Option<Arc<File>>,
    pub(super) position: u64,
    pub(super) end: u64,
    /// The offset behind the batch that ends at `end`.
    pub(super) end_offset: i64,
    /// The last indexed place that is surely within the bounds of this read.
    pub(super) inside: u64,
    pub(super) offset: i64,
    pub(super) upper: i64,
}

/// Whole batches of a segment's file.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    /// `None` when there is nothing to give.
    pub(crate) range: Option<FileRange>,
    /// What is in the range, when it is little.
    pub(crate) bytes: Option<Bytes>,
    /// Whether the file was opened for this read and is held by nothing else.
    pub(crate) is_own_file: bool,
    /// The offset behind the last record.
    pub(crate) next_offset: i64,
}

/// A range of a file, never empty.
#[derive(Debug)]
pub(crate) struct FileRange {
    pub(crate) file: Arc<File>,
    pub(crate) position: u64,
    pub(crate) len: usize,
    /// Held as long as the file is.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// The records of a fetched partition.
#[derive(Debug)]
pub(crate) enum Records {
    Bytes(Bytes),
    File(FileRange),
}

impl Default for Records {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Records {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.len,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
impl FileRange {
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }
}

#[derive(Debug)]
pub(crate) struct TimestampPlan {
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) timestamp: i64,
    pub(super) log_start: i64,
    /// Behind the last record of this segment: where to go on when nothing is found in it.
    pub(crate) next_offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampAnswer {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

impl ReadPlan {
    /// Whole batches up to `bytes_max`, as many as the plan was made for; with `at_least_one` the first is given whatever
    /// its size (KIP-74).
    pub(crate) fn run(self, bytes_max: usize, at_least_one: bool) -> Result<Chunk, LogError> {
        let (file, is_own_file) = match &self.file {
            Some(file) => (Arc::clone(file), false),
            None => (Arc::new(open(&self.path)?), true),
        };
        let mut window = Window {
            file: &file,
            end: self.end,
            position: self.position,
            bytes: Vec::new(),
        };
        // Skip to the batch that holds the offset.
        let mut start = self.position;
        let first = loop {
            match window.header_at(start).at("read", &self.path)? {
                Some(header) if header.next_offset() > self.offset => break header,
                Some(header) => start += header.size as u64,
                None => return Ok(Chunk::default()),
            }
        };
        if first.base_offset >= self.upper || (first.size > bytes_max && !at_least_one) {
            return Ok(Chunk::default());
        }
        let stop_max = start + (bytes_max.max(first.size) as u64);
        let (stop, next_offset) = if self.end <= stop_max && self.end_offset <= self.upper {
            (self.end, self.end_offset)
        } else {
            let head = std::mem::take(&mut window.bytes);
            let mut stop = start + first.size as u64;
            let mut next_offset = first.next_offset();
            let mut at = if self.inside > start { self.inside } else { stop };
            if at < self.position + head.len() as u64 {
                window.bytes = head;
                window.position = self.position;
            }
            while let Some(header) = window.header_at(at).at("read", &self.path)? {
                let behind = at + header.size as u64;
                if header.base_offset >= self.upper || behind > stop_max {
                    // An indexed place within the bounds ends the batch before it.
                    if at > stop {
                        (stop, next_offset) = (at, header.base_offset);
                    }
                    break;
                }
                (stop, next_offset, at) = (behind, header.next_offset(), behind);
            }
            (stop, next_offset)
        };
        Ok(Chunk {
            bytes: window.slice(start, stop),
            range: Some(FileRange {
                file,
                position: start,
                len: (stop - start) as usize,
                permit: None,
            }),
            is_own_file,
            next_offset,
        })
    }
}

/// A part of a file's batches, read as headers are asked for.
struct Window<'a> {
    file: &'a File,
    end: u64,
    /// Where `bytes` starts.
    position: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The header of the whole batch at this place; `None` where none is.
    fn header_at(&mut self, at: u64) -> io::Result<Option<BatchHeader>> {
        let left = self.end.saturating_sub(at);
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let inside = at >= self.position && at + HEADER_BYTES as u64 <= self.position + self.bytes.len() as u64;
        if !inside {
            self.bytes.resize(left.min(HEAD_BYTES) as usize, 0);
            self.position = at;
            self.file.read_exact_at(&mut self.bytes, at)?;
        }
        let from = (at - self.position) as usize;
        let header = BatchHeader::parse(&self.bytes[from..]).ok();
        Ok(header.filter(|header| header.size as u64 <= left))
    }

    /// What lies between these places, if it has been read.
    fn slice(self, start: u64, stop: u64) -> Option<Bytes> {
        let from = usize::try_from(start.checked_sub(self.position)?).ok()?;
        let to = usize::try_from(stop.checked_sub(self.position)?).ok()?;
        (to <= self.bytes.len()).then(|| Bytes::from(self.bytes).slice(from..to))
    }
}

impl TimestampPlan {
    pub(crate) fn run(self) -> Result<Option<TimestampAnswer>, LogError> {
        let file = open(&self.path)?;
        let mut scanner = Scanner::new(&file, self.position, self.end);
        let mut budget = UNPACKED_BYTES_MAX;
        while let Some((_, header, batch)) = scanner.next(false).at("read", &self.path)? {
            if header.max_timestamp < self.timestamp || header.next_offset() <= self.log_start {
                continue;
            }
            let found = first_at_or_after(&header, batch, self.timestamp, self.log_start, &mut budget);
            if let Some((offset, timestamp)) = found {
                return Ok(Some(TimestampAnswer { offset, timestamp }));
            }
        }
        Ok(None)
    }
}

fn open(path: &std::path::Path) -> Result<File, LogError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::Gone {
            path: path.to_path_buf(),
        }),
        opened => opened.at("open", path),
    }
}
