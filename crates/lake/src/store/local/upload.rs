//! A file on its way: written and synced under another name, then published in one step.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::disk::DiskFile;
use super::{Durability, Files, blocking, create_folders, failed, timed, written};

/// How a file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// `AlreadyExists` when the name is taken: what makes a commit atomic.
    IfAbsent,
    Replace,
}

/// A file under its first name, `name#N`, which object_store's listing leaves out. Removed when it is dropped.
pub(super) struct Staged {
    files: Arc<Files>,
    file: Box<dyn DiskFile>,
    staging: PathBuf,
    target: PathBuf,
    is_renamed: bool,
}

impl Staged {
    /// Creates the file, and its folders.
    pub(super) fn create(files: Arc<Files>, target: PathBuf) -> Result<Staged> {
        let mut number = 1_u64;
        loop {
            let mut name = target.as_os_str().to_owned();
            name.push(format!("#{number}"));
            let staging = PathBuf::from(name);
            match files.disk.create(&staging, files.permissions.file) {
                Ok(file) => {
                    return Ok(Staged {
                        files,
                        file,
                        staging,
                        target,
                        is_renamed: false,
                    });
                }
                // Left by a process that was killed, or another writer's.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => files.create_folder_of(&target)?,
                Err(error) => return Err(failed("create", &staging, error)),
            }
        }
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.file.write_at(bytes, offset);
        written.map_err(|error| failed("write", &self.staging, error))
    }

    /// Returns when a power cut cannot take the file any more, as far as the store promises that.
    pub(super) fn publish(mut self, how: Publish) -> Result<()> {
        let files = Arc::clone(&self.files);
        if files.durability == Durability::Os {
            return self.give_name(how);
        }
        // After an error the file is dropped: a second sync could succeed without the bytes.
        let synced = timed("file", || self.file.sync());
        synced.map_err(|error| failed("sync", &self.staging, error))?;
        let Some(folder) = self.target.parent().map(Path::to_owned) else {
            return self.give_name(how);
        };
        let entry = files.folders.entry(&folder);
        self.give_name(how)?;
        let synced = entry.sync();
        synced.map_err(|error| failed("sync the folder of", &self.target, error))
    }

    fn give_name(&mut self, how: Publish) -> Result<()> {
        let (disk, staging, target) = (&self.files.disk, &self.staging, &self.target);
        let named = match how {
            Publish::IfAbsent => disk.link(staging, target),
            Publish::Replace => disk.rename(staging, target).inspect(|()| self.is_renamed = true),
        };
        named.map_err(|error| failed("name", target, error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_renamed {
            // What stays is never read, and is passed over by the next writer of the name.
            self.files.disk.remove(&self.staging).ok();
        }
    }
}

impl Files {
    fn create_folder_of(&self, path: &Path) -> Result<()> {
        let Some(folder) = path.parent() else { return Ok(()) };
        let created = create_folders(folder, self.disk.as_ref(), self.permissions.folder);
        created.map_err(|error| failed("create the folder of", path, error))?;
        self.folders.created(folder);
        Ok(())
    }
}

/// A file that comes in parts. Parts may be written at the same time.
pub(super) struct Upload {
    /// `None` when it has ended.
    staged: Option<Arc<parking_lot::Mutex<Staged>>>,
    offset: u64,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Upload")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Upload {
    pub(super) fn new(staged: Staged) -> Upload {
        Upload {
            staged: Some(Arc::new(parking_lot::Mutex::new(staged))),
            offset: 0,
        }
    }
}

fn ended() -> object_store::Error {
    object_store::Error::Generic {
        store: super::STORE,
        source: "the upload has ended, or a part of it is still being written".into(),
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        let mut offset = self.offset;
        self.offset += part.content_length() as u64;
        let staged = self.staged.clone();
        blocking(move || {
            let staged = staged.ok_or_else(ended)?;
            let staged = staged.lock();
            for bytes in &part {
                staged.write_at(bytes, offset)?;
                offset += bytes.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        // Every part's future has its own handle until it is done; the trait wants them awaited before.
        let staged = self.staged.take().and_then(Arc::into_inner).ok_or_else(ended)?;
        blocking(move || staged.into_inner().publish(Publish::Replace)).await?;
        Ok(written())
    }

    async fn abort(&mut self) -> Result<()> {
        let staged = self.staged.take().ok_or_else(ended)?;
        blocking(move || {
            drop(staged);
            Ok(())
        })
        .await
    }
}
