//! What can go wrong with a lake, by what the caller should do about it.

use std::error::Error as StdError;
use std::io;

use object_store::Error as StoreError;
use parquet::errors::ParquetError;
use thiserror::Error;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// Each kind tells what to do: wait and try again ([`LakeError::is_retryable`]), or stop and let a person act.
#[derive(Debug, Error)]
pub enum LakeError {
    /// The location is none we can write to; fix the configuration.
    #[error("cannot use `{location}` as a lake: {why}")]
    Location { location: String, why: String },

    /// The disk (or the quota) is full; free some space. Nothing was lost, the same call may be made again.
    #[error("no space left to write {path}")]
    OutOfSpace {
        path: String,
        #[source]
        source: Source,
    },

    /// The store refuses us; fix permissions or credentials.
    #[error("not allowed to {action} {path}")]
    Denied {
        action: &'static str,
        path: String,
        #[source]
        source: Source,
    },

    /// The store does not answer as it should; try the same call again later.
    #[error("cannot {action} {path}")]
    Unavailable {
        action: &'static str,
        path: String,
        #[source]
        source: Source,
    },

    /// Whether the commit landed is not known, or others were always faster. Commit the same staged files again: the
    /// log is read back first.
    #[error("table `{table}`: commit not settled after {tries} tries")]
    Unsettled {
        table: String,
        tries: u32,
        #[source]
        source: Option<Source>,
    },

    /// The table cannot be written by this version of the program; stop.
    #[error("table `{table}` cannot be used: {why}")]
    Unusable { table: String, why: String },

    /// The table's schema is not what the stream declares; change one of the two.
    #[error("table `{table}` does not fit its declaration: {}", differences.join("; "))]
    SchemaDiffers { table: String, differences: Vec<String> },

    /// The caller broke a promise (spans that repeat a partition, a batch of another schema); a bug, stop.
    #[error("table `{table}`: bad batch: {why}")]
    Batch { table: String, why: String },

    /// Parquet could not be encoded or decoded; stop.
    #[error("table `{table}`: cannot {action} Parquet")]
    Parquet {
        table: String,
        action: &'static str,
        #[source]
        source: Source,
    },
}

impl LakeError {
    /// The same call may succeed later without anyone's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self, LakeError::Unavailable { .. } | LakeError::Unsettled { .. })
    }

    /// The disk or the quota is full.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, LakeError::OutOfSpace { .. })
    }

    /// Sorts an object store's error by what the caller should do.
    pub(crate) fn store(action: &'static str, path: impl Into<String>, error: StoreError) -> Self {
        let path = path.into();
        if has_no_space(&error) {
            return LakeError::OutOfSpace {
                path,
                source: Box::new(error),
            };
        }
        if is_denied(&error) {
            return LakeError::Denied {
                action,
                path,
                source: Box::new(error),
            };
        }
        LakeError::Unavailable {
            action,
            path,
            source: Box::new(error),
        }
    }

    pub(crate) fn parquet(table: &str, action: &'static str, error: impl Into<Source>) -> Self {
        LakeError::Parquet {
            table: table.to_owned(),
            action,
            source: error.into(),
        }
    }

    /// A file in the store: whether it is broken or the store did not answer tells whether to try again.
    pub(crate) fn reading_parquet(table: &str, path: impl Into<String>, error: ParquetError) -> Self {
        match error {
            ParquetError::External(source) => match source.downcast::<StoreError>() {
                Ok(error) => LakeError::store("read", path, *error),
                Err(source) => LakeError::parquet(table, "read", source),
            },
            error => LakeError::parquet(table, "read", error),
        }
    }

    pub(crate) fn batch(table: &str, why: impl Into<String>) -> Self {
        LakeError::Batch {
            table: table.to_owned(),
            why: why.into(),
        }
    }

    pub(crate) fn unusable(table: &str, why: impl Into<String>) -> Self {
        LakeError::Unusable {
            table: table.to_owned(),
            why: why.into(),
        }
    }
}

/// Every error of the chain, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

fn io_kinds(error: &StoreError) -> impl Iterator<Item = io::ErrorKind> {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn has_no_space(error: &StoreError) -> bool {
    io_kinds(error).any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn is_denied(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }
    ) || io_kinds(error).any(|kind| {
        matches!(
            kind,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    })
}
