//! A small append-only file of JSON records, each with its length and CRC: what the broker remembers beside the
//! partitions (group offsets, transactions, producer ids).
//!
//! One append is one write, so an acknowledged change survives a killed process. A torn tail is cut off when opened.
//! When the file has grown well past what is alive, the owner rewrites it whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AtPath, BrokerError};

const FRAME: usize = 8;
const REWRITE_FLOOR: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
    /// Size after the last rewrite; the next one is due at a multiple of it.
    live_len: u64,
    /// Set when a failed write could not be cut off again.
    torn: bool,
    /// Whether an append is on the disk when it returns.
    syncs: bool,
}

impl Journal {
    /// Opens or makes the journal and gives every whole record to `replay`, oldest first.
    pub(crate) fn open<R: DeserializeOwned>(path: &Path, mut replay: impl FnMut(R)) -> Result<Self, BrokerError> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .at("open", path)?;
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
            file.set_len(at as u64).at("truncate", path)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            file,
            len: at as u64,
            live_len: 0,
            torn: false,
            syncs: false,
        })
    }

    /// From now on an append that has returned is safe from a power cut as well.
    pub(crate) fn sync_each_append(&mut self) {
        self.syncs = true;
    }

    /// Appends all of `records` or none of them.
    pub(crate) fn append<R: Serialize>(&mut self, records: &[R]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        let mut bytes = Vec::with_capacity(128 * records.len());
        for record in records {
            frame(&mut bytes, record)?;
        }
        let mut written = self.file.write_all(&bytes);
        if self.syncs && written.is_ok() {
            written = self.file.sync_data();
        }
        if let Err(error) = written {
            self.torn = self.file.set_len(self.len).is_err();
            return Err(error);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Whether most of the file is likely dead.
    pub(crate) fn wants_rewrite(&self) -> bool {
        self.len > REWRITE_FLOOR.max(4 * self.live_len)
    }

    /// Replaces the file by these records, atomically.
    pub(crate) fn rewrite<R: Serialize>(&mut self, records: impl IntoIterator<Item = R>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            frame(&mut bytes, &record)?;
        }
        write_atomically(&self.path, &bytes)?;
        self.file = OpenOptions::new().read(true).append(true).open(&self.path)?;
        self.len = bytes.len() as u64;
        self.live_len = self.len;
        self.torn = false;
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// One opened for reading alone makes appends fail, as a full disk does.
    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
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

/// Writes a file beside its place, syncs it and renames it there: a reader sees the old or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// As [`write_atomically`] but without waiting for the disk: for files that carry a check and can be rebuilt.
pub(crate) fn write_rebuildable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Makes a rename or creation in the parent directory last.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_cut_at_any_length_keeps_its_whole_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, |_: u32| {}).unwrap();
        for n in [1_u32, 22, 333, 4444] {
            journal.append(&[n]).unwrap();
        }
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut seen = Vec::new();
            let mut journal = Journal::open(&path, |n: u32| seen.push(n)).unwrap();
            assert!([1, 22, 333, 4444].starts_with(&seen[..]));
            assert_eq!(seen.len() == 4, cut == whole.len());
            journal.append(&[5_u32]).unwrap();
            let mut again = Vec::new();
            Journal::open(&path, |n: u32| again.push(n)).unwrap();
            assert_eq!(again.last(), Some(&5));
            assert_eq!(again.len(), seen.len() + 1);
        }
    }

    #[test]
    fn rewriting_keeps_what_is_given_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::open(&path, |_: u32| {}).unwrap();
        journal.append(&(0..100).collect::<Vec<u32>>()).unwrap();
        journal.rewrite([7_u32, 8]).unwrap();
        journal.append(&[9_u32]).unwrap();
        let mut seen = Vec::new();
        Journal::open(&path, |n: u32| seen.push(n)).unwrap();
        assert_eq!(seen, [7, 8, 9]);
    }
}
