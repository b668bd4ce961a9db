//! A partition's log: segment files of record batches as they came, their indexes, the producers' state, recovery.
//!
//! `batch` reads a batch's header and checks it, `segment` is one file and its index, `partition` is the log made of
//! them, `producers` knows each producer's last batches and open transaction, `aborted` which were aborted, `recovery`
//! opens all of it, `read` turns a place in the log into a range of a file without holding the log's lock.

mod aborted;
mod batch;
mod partition;
mod producers;
mod read;
mod records;
mod recovery;
mod segment;
mod unpack;

#[cfg(any(test, fuzzing))]
mod fuzz;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use kafka_protocol::error::ResponseError;

#[cfg(test)]
use aborted::AbortedTransaction;
pub(crate) use batch::{BatchFault, BatchHeader, HEADER_BYTES, control_batch};
pub(crate) use partition::{Appended, LogConfig, PartitionLog, TimestampType};
pub(crate) use read::{Chunk, FileRange, Records, TimestampAnswer};
pub(crate) use records::validate as validate_records;

#[cfg(any(test, fuzzing))]
pub(crate) use fuzz::{find_all, open_and_compare, seal_first};
#[cfg(test)]
pub(crate) use fuzz::{sample_batches, sample_segments};

/// What a log operation can fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The request is at fault; the client gets this code.
    #[error("{1}")]
    Refused(ResponseError, String),
    /// One record of a batch is at fault; its index in the batch.
    #[error("{reason}")]
    BadRecord {
        code: ResponseError,
        index: i32,
        reason: String,
    },
    /// The disk is at fault; what was there is unharmed.
    #[error("cannot {action} {}", path.display())]
    Storage {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl LogError {
    pub(crate) fn refused(code: ResponseError, reason: impl Into<String>) -> Self {
        Self::Refused(code, reason.into())
    }

    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Refused(code, _) | Self::BadRecord { code, .. } => *code,
            Self::Storage { .. } => ResponseError::KafkaStorageError,
        }
    }
}

trait StorageAt<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T, LogError>;
}

impl<T> StorageAt<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &std::path::Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::Storage {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}
