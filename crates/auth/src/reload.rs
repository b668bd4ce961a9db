//! Values read from files that are read again when the files change: users, certificates.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::AuthError;

/// What tells one state of a file from another: its inode, its length, and when content and inode changed, for a mended
/// permission changes no content. `None` for a file that is not there.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// A value and the files that it was read from.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    stamps: Mutex<Vec<Stamp>>,
    value: RwLock<Arc<T>>,
}

/// Never the value: it may hold secrets.
impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    pub(crate) fn open(files: Vec<PathBuf>, read: impl FnOnce() -> Result<T, AuthError>) -> Result<Self, AuthError> {
        // Taken before the files are read, so that a change in between is seen later.
        let stamps = Mutex::new(stamps(&files));
        Ok(Self {
            files,
            stamps,
            value: RwLock::new(Arc::new(read()?)),
        })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.value.read())
    }

    /// Reads again when a file has changed since this was last asked; `None` when none has. After an error the former
    /// value stays.
    pub(crate) fn reload(&self, read: impl FnOnce() -> Result<T, AuthError>) -> Option<Result<Arc<T>, AuthError>> {
        let now = stamps(&self.files);
        let before = std::mem::replace(&mut *self.stamps.lock(), now.clone());
        (before != now).then(|| {
            let value = Arc::new(read()?);
            *self.value.write() = Arc::clone(&value);
            Ok(value)
        })
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let metadata = fs::metadata(file).ok()?;
    Some((
        metadata.ino(),
        metadata.len(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    ))
}
