//! What can go wrong with a lake, by what the caller should do about it.

use std::error::Error as StdError;
use std::io;

use object_store::Error as StoreError;
use thiserror::Error;

use crate::store::s3::{Answer, Class};

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// Each kind tells what to do: wait and try again ([`LakeError::is_retryable`]), or stop and let a person act.
#[derive(Debug, Error)]
pub enum LakeError {
    /// The location is none we can write to; fix the configuration.
    #[error("cannot use `{location}` as a lake: {why}")]
    Location { location: String, why: String },

    /// A reader was sent to a folder that is not there; name another.
    #[error("there is no lake at {location}")]
    Missing { location: String },

    /// There is no such table in the lake; name another.
    #[error("there is no table `{table}`")]
    NoTable { table: String },

    /// The table has no such version, or its log was cleaned up since; name one of those there are.
    #[error("table `{table}` has no version {version}: it has versions {oldest} to {newest}")]
    NoVersion {
        table: String,
        version: i64,
        oldest: i64,
        newest: i64,
    },

    /// The disk (or the quota) is full; free some space. Nothing was lost, the same call may be made again.
    #[error("no space left to write {path}")]
    OutOfSpace {
        path: String,
        #[source]
        source: Source,
    },

    /// The store refuses us; fix permissions or credentials. Of S3 the source names action and resource.
    #[error("not allowed to {action} {path}")]
    Denied {
        action: &'static str,
        path: String,
        #[source]
        source: Source,
    },

    /// The store does not take such a request at all (wrong region, signature, feature); fix the configuration.
    #[error("the store refuses to {action} {path}")]
    Refused {
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

    /// Another writer has opened the table with another declaration of the stream. This one must stop: the two could
    /// judge one record differently, and land it as a row and as a dead letter.
    #[error(
        "table `{table}`: stream `{stream}` was opened by another writer with another declaration, so this one stops; \
         start all writers of application `{application}` with the same declarations"
    )]
    Superseded {
        table: String,
        stream: String,
        application: String,
    },

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

    /// What a person can do about a store that refuses, where it told enough.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            LakeError::Denied { .. } | LakeError::Refused { .. } => {
                chain(self).find_map(|error| error.downcast_ref::<Answer>()?.hint())
            }
            _ => None,
        }
    }

    /// Sorts an object store's error, or one that was caused by it, by what the caller should do.
    pub(crate) fn store(action: &'static str, path: impl Into<String>, error: impl Into<Source>) -> Self {
        let (path, source) = (path.into(), error.into());
        if let Some(answer) = find::<Answer>(&*source).cloned() {
            // The answer alone: object_store's wrapping says the same again, around addresses.
            let class = answer.class();
            let source = Box::new(answer);
            return match class {
                Class::NoBucket => LakeError::location(&source.bucket(), "there is no such bucket"),
                Class::Denied => LakeError::Denied { action, path, source },
                Class::Refused => LakeError::Refused { action, path, source },
                Class::Transient | Class::Contended => LakeError::Unavailable { action, path, source },
            };
        }
        if has_no_space(&*source) {
            return LakeError::OutOfSpace { path, source };
        }
        if is_denied(&*source) {
            return LakeError::Denied { action, path, source };
        }
        if is_refused(&*source) {
            return LakeError::Refused { action, path, source };
        }
        LakeError::Unavailable { action, path, source }
    }

    /// A store that fails below Parquet is no fault of the file.
    pub(crate) fn parquet(table: &str, action: &'static str, error: impl Into<Source>) -> Self {
        let source = error.into();
        if find::<StoreError>(&*source).is_some_and(|error| !matches!(error, StoreError::NotFound { .. })) {
            return Self::store(action, format!("Parquet of table `{table}`"), source);
        }
        LakeError::Parquet {
            table: table.to_owned(),
            action,
            source,
        }
    }

    pub(crate) fn location(location: &str, why: impl Into<String>) -> Self {
        LakeError::Location {
            location: location.to_owned(),
            why: why.into(),
        }
    }

    pub(crate) fn batch(table: &str, why: impl Into<String>) -> Self {
        LakeError::Batch {
            table: table.to_owned(),
            why: why.into(),
        }
    }

    /// What is there cannot be worked with; `why` goes on after the table's name.
    pub fn unusable(table: &str, why: impl Into<String>) -> Self {
        LakeError::Unusable {
            table: table.to_owned(),
            why: why.into(),
        }
    }
}

/// An error with its causes, for a log line: each text once.
pub fn describe(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Many errors print their cause as well.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A conditional PUT that met another of the same key: not done, and nothing was taken.
pub(crate) fn is_contended(error: &StoreError) -> bool {
    find::<Answer>(error).is_some_and(|answer| answer.class() == Class::Contended)
}

/// Every error of the chain, outermost first.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref::<E>())
}

fn io_kinds<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = io::ErrorKind> + 'a {
    chain(error).filter_map(|error| error.downcast_ref::<io::Error>().map(io::Error::kind))
}

fn has_no_space(error: &(dyn StdError + 'static)) -> bool {
    io_kinds(error).any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn is_denied(error: &(dyn StdError + 'static)) -> bool {
    let told = find::<StoreError>(error).is_some_and(|error| {
        matches!(
            error,
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }
        )
    });
    told || io_kinds(error).any(|kind| {
        matches!(
            kind,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    })
}

fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    find::<StoreError>(error).is_some_and(|error| {
        matches!(
            error,
            StoreError::NotImplemented { .. }
                | StoreError::NotSupported { .. }
                | StoreError::InvalidPath { .. }
                | StoreError::UnknownConfigurationKey { .. }
        )
    })
}
