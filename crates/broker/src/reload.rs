//! Files that are read again when they change: users, certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

/// What tells one state of some files from another: their times and sizes.
#[derive(Debug)]
pub(crate) struct Stamp {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Option<(SystemTime, u64)>>>,
}

impl Stamp {
    /// Taken before the files are read, so that a change in between is seen later.
    pub(crate) fn new<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().cloned().collect();
        let seen = Mutex::new(paths.iter().map(|path| of(path)).collect());
        Self { paths, seen }
    }

    /// Whether a file has changed since this was last asked.
    pub(crate) fn changed(&self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| of(path)).collect();
        let mut seen = self.seen.lock();
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

fn of(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
