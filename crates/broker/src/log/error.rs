//! What a log operation can fail with.

use std::io;
use std::path::{Path, PathBuf};

use kafka_protocol::error::ResponseError;

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
    /// A segment's file is gone: retention or the cleaner was faster. Look again.
    #[error("{} has just been deleted or replaced", path.display())]
    Gone { path: PathBuf },
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
            // What makes a client ask again.
            Self::Gone { .. } => ResponseError::NotLeaderOrFollower,
            Self::Storage { .. } => ResponseError::KafkaStorageError,
        }
    }
}

/// Names the path and the action of a failed file operation.
pub(super) trait StorageAt<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, LogError>;
}

impl<T> StorageAt<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, LogError> {
        self.map_err(|source| LogError::Storage {
            action,
            path: path.to_path_buf(),
            source,
        })
    }
}
