//! A small append-only file of JSON records, each with its length and CRC: what the broker remembers beside the
//! partitions (group offsets, transactions, producer ids).
//!
//! One append is one write, so an acknowledged change survives a killed process. Whoever needs it to survive a power cut
//! waits for [`Written`], without holding whatever guards the journal: one sync takes along what was appended until it
//! begins. A torn tail is cut off when opened. When the file has grown well past what is alive, the owner rewrites it whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AtPath, BrokerError};
use crate::files::{self, write_atomically};

const FRAME: usize = 8;
const REWRITE_FLOOR: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    /// Size after the last rewrite; the next one is due at a multiple of it.
    live_len: u64,
    /// Set when a failed write could not be cut off again.
    torn: bool,
    /// `None` where the system decides when the disk gets what was appended.
    syncs: Option<Arc<Syncs>>,
}

/// How far a journal is on the disk, counted in appends.
#[derive(Debug, Default)]
struct Syncs {
    appended: AtomicU64,
    /// Held while the file is synced.
    synced: Mutex<u64>,
    /// A sync has failed: the file is good for nothing until it has been rewritten.
    has_failed: AtomicBool,
}

/// What had been appended at one moment.
#[derive(Debug)]
pub(crate) struct Written {
    file: Arc<File>,
    path: PathBuf,
    appended: u64,
    syncs: Arc<Syncs>,
}

impl Written {
    /// Returns when it is on the disk. Blocks for as long as that takes.
    pub(crate) fn on_disk(self) -> io::Result<()> {
        let failed = || io::Error::other("an earlier sync of the journal failed");
        let mut synced = self.syncs.synced.lock();
        if *synced >= self.appended {
            return Ok(());
        }
        if self.syncs.has_failed.load(Ordering::Acquire) {
            return Err(failed());
        }
        let appended = self.syncs.appended.load(Ordering::Acquire);
        let done = files::sync(&self.file, &self.path);
        match &done {
            Ok(()) => *synced = appended,
            Err(_) => self.syncs.has_failed.store(true, Ordering::Release),
        }
        done
    }
}

impl Journal {
    /// Opens or makes the journal and gives every whole record to `replay`, oldest first. With `syncs` all of it is on the
    /// disk when this returns, and later appends can be waited for.
    pub(crate) fn open<R: DeserializeOwned>(
        path: &Path,
        syncs: bool,
        mut replay: impl FnMut(R),
    ) -> Result<Self, BrokerError> {
        let mut file = files::open_append(path).at("open", path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", path)?;
        let mut at = 0;
        while let Some(payload) = whole_record(&bytes[at..]) {
            match serde_json::from_slice(payload) {
                Ok(record) => replay(record),
                Err(error) => tracing::warn!(path = %path.display(), at, %error, "journal record not understood"),
            }
            at += FRAME + payload.len();
        }
        if at < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - at, "cut a torn tail off the journal");
            files::set_len(&file, path, at as u64).at("truncate", path)?;
        }
        if syncs {
            files::sync(&file, path).at("sync", path)?;
            files::sync_parent(path).at("sync the folder of", path)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file: Arc::new(file),
            len: at as u64,
            live_len: 0,
            torn: false,
            syncs: syncs.then(Arc::default),
        })
    }

    /// Appends all of `records` or none of them.
    pub(crate) fn append<R: Serialize>(&mut self, records: &[R]) -> io::Result<()> {
        if self.torn {
            files::set_len(&self.file, &self.path, self.len)?;
            self.torn = false;
        }
        let mut bytes = Vec::with_capacity(128 * records.len());
        for record in records {
            frame(&mut bytes, record)?;
        }
        if let Err(error) = files::append(&self.file, &self.path, &bytes, &[]) {
            self.torn = files::set_len(&self.file, &self.path, self.len).is_err();
            return Err(error);
        }
        self.len += bytes.len() as u64;
        if let Some(syncs) = &self.syncs {
            syncs.appended.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    /// All that has been appended, to be waited for; `None` where no one waits for the disk.
    pub(crate) fn written(&self) -> Option<Written> {
        let syncs = self.syncs.as_ref()?;
        Some(Written {
            file: Arc::clone(&self.file),
            path: self.path.clone(),
            appended: syncs.appended.load(Ordering::Acquire),
            syncs: Arc::clone(syncs),
        })
    }

    /// Whether nothing may be appended before a rewrite.
    pub(crate) fn has_failed(&self) -> bool {
        let failed = |syncs: &Arc<Syncs>| syncs.has_failed.load(Ordering::Acquire);
        self.syncs.as_ref().is_some_and(failed)
    }

    /// Whether most of the file is likely dead.
    pub(crate) fn wants_rewrite(&self) -> bool {
        self.len > REWRITE_FLOOR.max(4 * self.live_len)
    }

    /// Replaces the file by these records, atomically; they are on the disk when this returns.
    pub(crate) fn rewrite<R: Serialize>(&mut self, records: impl IntoIterator<Item = R>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame(&mut bytes, &record)?;
        }
        write_atomically(&self.path, &bytes)?;
        self.file = Arc::new(files::open_append(&self.path)?);
        self.len = bytes.len() as u64;
        self.live_len = self.len;
        self.torn = false;
        if let Some(syncs) = &self.syncs {
            *syncs.synced.lock() = syncs.appended.load(Ordering::Acquire);
            syncs.has_failed.store(false, Ordering::Release);
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        files::sync(&self.file, &self.path)
    }

    /// One opened for reading alone makes appends fail, as a full disk does.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: impl Into<Arc<File>>) -> Arc<File> {
        std::mem::replace(&mut self.file, file.into())
    }
}

fn frame<R: Serialize>(bytes: &mut Vec<u8>, record: &R) -> io::Result<()> {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; FRAME]);
    serde_json::to_writer(&mut *bytes, record)?;
    let payload = start + FRAME;
    let len = (bytes.len() - payload) as u32;
    let crc = crc32c::crc32c(&bytes[payload..]);
    bytes[start..start + 4].copy_from_slice(&len.to_be_bytes());
    bytes[start + 4..payload].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

fn whole_record(bytes: &[u8]) -> Option<&[u8]> {
    let len = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let crc = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    let payload = bytes.get(FRAME..FRAME.checked_add(len)?)?;
    (len > 0 && crc32c::crc32c(payload) == crc).then_some(payload)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_journal_cut_at_any_length_keeps_its_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, false, |_: u32| {}).unwrap();
        for n in [1_u32, 22, 333, 4444] {
            journal.append(&[n]).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut seen = Vec::new();
            let mut journal = Journal::open(&path, false, |n: u32| seen.push(n)).unwrap();
            assert!([1, 22, 333, 4444].starts_with(&seen[..]));
            assert_eq!(seen.len() == 4, cut == whole.len());
            journal.append(&[5_u32]).unwrap();
            let mut again = Vec::new();
            Journal::open(&path, false, |n: u32| again.push(n)).unwrap();
            assert_eq!(again.last(), Some(&5));
            assert_eq!(again.len(), seen.len() + 1);
        }
    }

    #[test]
    fn rewriting_keeps_what_is_given_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, false, |_: u32| {}).unwrap();
        journal.append(&(0..100).collect::<Vec<u32>>()).unwrap();
        journal.rewrite([7_u32, 8]).unwrap();
        journal.append(&[9_u32]).unwrap();
        let mut seen = Vec::new();
        Journal::open(&path, false, |n: u32| seen.push(n)).unwrap();
        assert_eq!(seen, [7, 8, 9]);
    }
}
