//! Reading without the log's lock: a plan names file and range, running it reads bytes.
//!
//! A closed segment may be deleted in between; then the read finds no file and the client is told to look again.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::records::first_at_or_after;
use super::segment::Scanner;
use super::{LogError, StorageAt};

/// Room for the batches between the indexed place and the wanted one.
const SLACK: u64 = 32 << 10;

#[derive(Debug)]
pub(crate) struct ReadPlan {
    pub(super) path: PathBuf,
    /// The open file of the segment being written; closed ones are opened when read.
    pub(super) file: Option<Arc<File>>,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) offset: i64,
    pub(super) upper: i64,
}

/// Whole batches, as they lie in the file.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    /// The offset behind the last record.
    pub(crate) next_offset: i64,
}

#[derive(Debug)]
pub(crate) struct TimestampPlan {
    pub(super) path: PathBuf,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) timestamp: i64,
    pub(super) log_start: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimestampAnswer {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

impl ReadPlan {
    /// Whole batches up to `bytes_max`; with `at_least_one` the first is given whatever its size (KIP-74).
    pub(crate) fn run(self, bytes_max: usize, at_least_one: bool) -> Result<Chunk, LogError> {
        let file = match &self.file {
            Some(file) => Cow::Borrowed(file),
            None => Cow::Owned(Arc::new(open(&self.path)?)),
        };
        let range = |position: u64, bytes: u64| -> Result<Vec<u8>, LogError> {
            let mut buffer = vec![0; bytes.min(self.end.saturating_sub(position)) as usize];
            file.read_exact_at(&mut buffer, position).at("read", &self.path)?;
            Ok(buffer)
        };
        let window = bytes_max as u64 + SLACK;
        let mut position = self.position;
        let mut buffer = range(position, window)?;
        let mut from = 0;
        // Skip to the batch that holds the offset.
        let first = loop {
            match BatchHeader::parse(buffer.get(from..).unwrap_or(&[])) {
                Ok(header) if header.next_offset() > self.offset => break header,
                Ok(header) => from += header.size,
                Err(_) if from == 0 => return Ok(Chunk::default()),
                Err(_) => {
                    position += from as u64;
                    buffer = range(position, window)?;
                    from = 0;
                }
            }
        };
        if first.base_offset >= self.upper || (first.size > bytes_max && !at_least_one) {
            return Ok(Chunk::default());
        }
        if first.size > buffer.len() - from {
            buffer = range(position + from as u64, first.size.max(bytes_max) as u64)?;
            from = 0;
        }
        let mut to = from;
        let mut next_offset = self.offset;
        while let Some(rest) = buffer.get(to..).filter(|rest| rest.len() >= HEADER_BYTES) {
            let Ok(header) = BatchHeader::parse(rest) else { break };
            let too_much = to > from && to + header.size - from > bytes_max;
            if header.base_offset >= self.upper || header.size > rest.len() || too_much {
                break;
            }
            to += header.size;
            next_offset = header.next_offset();
        }
        Ok(Chunk {
            bytes: Bytes::from(buffer).slice(from..to),
            next_offset,
        })
    }
}

impl TimestampPlan {
    pub(crate) fn run(self) -> Result<Option<TimestampAnswer>, LogError> {
        let file = open(&self.path)?;
        let mut scanner = Scanner::new(&file, self.position, self.end);
        while let Some((_, header, batch)) = scanner.next(false).at("read", &self.path)? {
            if header.max_timestamp < self.timestamp || header.next_offset() <= self.log_start || header.is_control() {
                continue;
            }
            if let Some((offset, timestamp)) =
                first_at_or_after(&header, &Bytes::copy_from_slice(batch), self.timestamp)
            {
                return Ok(Some(TimestampAnswer {
                    offset: offset.max(self.log_start),
                    timestamp,
                }));
            }
        }
        Ok(None)
    }
}

fn open(path: &std::path::Path) -> Result<File, LogError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(LogError::refused(
            ResponseError::OffsetOutOfRange,
            "the segment has just been deleted by retention",
        )),
        opened => opened.at("open", path),
    }
}
