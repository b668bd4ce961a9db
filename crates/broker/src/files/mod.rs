//! Every change of a file that has to outlive a crash or a power cut, in one place: which steps are taken, in which
//! order, and for whom the files are.
//!
//! Files are readable and writable by their owner alone (600), folders likewise (700): a topic may hold anything.
//! In tests each step is recorded, so that a power cut can be replayed at every place (`power_cut`).

#[cfg(test)]
pub(crate) mod power_cut;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Notes a step for the replay of power cuts; outside of tests it is nothing.
macro_rules! record {
    ($step:ident($($argument:expr),*)) => {
        #[cfg(test)]
        power_cut::record(|| power_cut::Step::$step($(power_cut::owned($argument)),*));
        #[cfg(not(test))]
        let _ = || {
            let _ = ($(&$argument,)*);
        };
    };
}

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Makes a folder for its owner alone; its parents too where they are missing. One that is there is left as it is.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_dir_all(parent)?;
    }
    match create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created,
    }
}

pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).create(path)?;
    record!(CreateDir(path));
    Ok(())
}

/// Takes a folder that others made, or an older version, away from everyone but its owner.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let mut permissions = fs::metadata(path)?.permissions();
    if permissions.mode() & 0o077 == 0 {
        return Ok(());
    }
    permissions.set_mode(DIR_MODE);
    fs::set_permissions(path, permissions)
}

/// Opens a file to be read and written at its end; makes it when it is missing.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(FILE_MODE)
        .open(path)?;
    record!(Create(path));
    Ok(file)
}

/// Opens a file to be written from its start; what was in it is gone.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(FILE_MODE)
        .open(path)?;
    record!(Create(path));
    record!(SetLen(path, &0));
    Ok(file)
}

/// Opens a file to be written anywhere; makes it when it is missing.
pub(crate) fn open_write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    record!(Create(path));
    Ok(file)
}

/// Writes both parts at the end of a file, in one call where the system can.
pub(crate) fn append(mut file: &File, path: &Path, mut head: &[u8], mut tail: &[u8]) -> io::Result<()> {
    record!(Write(
        path,
        &fs::metadata(path).map_or(0, |metadata| metadata.len()),
        &[head, tail].concat()[..]
    ));
    while !head.is_empty() {
        let written = match file.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        tail = &tail[written.saturating_sub(head.len())..];
        head = &head[written.min(head.len())..];
    }
    file.write_all(tail)?;
    Ok(())
}

pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    file.write_all_at(bytes, at)?;
    record!(Write(path, &at, bytes));
    Ok(())
}

pub(crate) fn set_len(file: &File, path: &Path, len: u64) -> io::Result<()> {
    file.set_len(len)?;
    record!(SetLen(path, &len));
    Ok(())
}

/// Returns when the file's content is on the disk. Its name may not be: that is for [`sync_dir`].
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_data()?;
    record!(Sync(path));
    Ok(())
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    record!(Rename(from, to));
    Ok(())
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    record!(Remove(path));
    Ok(())
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)?;
    record!(Remove(path));
    Ok(())
}

/// Returns when what was made, renamed and removed in a folder is on the disk.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    record!(SyncDir(path));
    Ok(())
}

/// [`sync_dir`] of the folder that this is in.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes a file beside its place, syncs it and renames it there: a reader sees the old or the new, never a part.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = create(&temporary)?;
    append(&file, &temporary, bytes, &[])?;
    sync(&file, &temporary)?;
    rename(&temporary, path)?;
    sync_parent(path)
}

/// As [`write_atomically`] but without waiting for the disk: for files that carry a check and can be rebuilt.
pub(crate) fn write_rebuildable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = create(&temporary)?;
    append(&file, &temporary, bytes, &[])?;
    rename(&temporary, path)
}
