//! A local folder as an object store whose writes survive a power cut.
//!
//! `object_store`'s own store for local files reads here as well; it writes without a sync, so that after a cut a commit
//! may be there whose data files are empty. Here a write is on the disk when it returns:
//! 1. the bytes go to a file of another name, which is synced;
//! 2. that file gets its name, by a hard link where the name must be free, by a rename where it may be taken;
//! 3. the folder is synced, and the folders above it where this process has not done so yet.
//!
//! A data file is written before the log entry that names it, so no cut leaves an entry without its data. Syncs of one
//! folder that are asked for together are one. What is read back after a write failed is synced before it is returned, for
//! the reader may take it for a promise. `docs/design/durability.md` has the reasons.

mod disk;
mod folders;
mod upload;

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use metrics::histogram;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

pub use self::disk::{Disk, DiskFile, SystemDisk};
use self::folders::Folders;
use self::upload::{Publish, Staged, Upload};

/// How object_store names this store in its errors.
const STORE: &str = "LocalFileSystem";
/// Files removed at the same time.
const REMOVES_AT_ONCE: usize = 10;

/// When a write to a local lake counts as done. Object stores answer when they hold it for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on the disk: a power cut takes nothing that was committed.
    #[default]
    Fsync,
    /// When the operating system has it: a killed process loses nothing, a power cut may take the last seconds and leave a
    /// table damaged.
    Os,
}

impl Durability {
    /// The word of the settings.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Os => "os",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fsync" => Ok(Durability::Fsync),
            "os" => Ok(Durability::Os),
            text => Err(format!("`{text}` is not a durability; write fsync or os")),
        }
    }
}

/// A folder as an object store; paths are relative to it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalStore {
    reader: LocalFileSystem,
    files: Arc<Files>,
}

/// What writes.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    durability: Durability,
    permissions: Permissions,
    folders: Folders,
}

/// Of what is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Permissions {
    file: u32,
    folder: u32,
}

impl Permissions {
    /// For the owner alone, as databases keep their data; also for the group where the lake's folder is open to it and
    /// closed to others (`chmod 750`), which no usual umask makes by itself.
    fn within(root_mode: u32) -> Permissions {
        let group = match root_mode & 0o007 {
            0 => root_mode & 0o070,
            _ => 0,
        };
        Permissions {
            file: 0o600 | group & 0o060,
            folder: 0o700 | group,
        }
    }
}

impl LocalStore {
    /// A store in an existing folder.
    ///
    /// # Errors
    /// The folder cannot be found or looked at.
    pub fn new(root: &FsPath, disk: Arc<dyn Disk>, durability: Durability) -> io::Result<LocalStore> {
        let root = root.canonicalize()?;
        let permissions = Permissions::within(root.metadata()?.permissions().mode());
        Ok(LocalStore {
            reader: LocalFileSystem::new_with_prefix(&root)?,
            files: Arc::new(Files {
                folders: Folders::new(root.clone(), Arc::clone(&disk)),
                root,
                disk,
                durability,
                permissions,
            }),
        })
    }

    /// Creates a folder for a store, with those above it, and syncs where they lie. Nothing is changed where it is there.
    ///
    /// # Errors
    /// The system's; a folder above it that may not be read is not synced.
    pub fn create_root(root: &FsPath, disk: &dyn Disk, durability: Durability) -> io::Result<()> {
        let created = create_folders(root, disk, 0o700)?;
        if durability == Durability::Os {
            return Ok(());
        }
        let root = root.canonicalize()?;
        // At least the one that the root lies in: whoever created it may not have come to its sync.
        for above in root.ancestors().skip(1).take(created.max(1)) {
            match disk.sync_folder(above) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn path_of(&self, location: &Path) -> Result<PathBuf> {
        self.reader.path_to_filesystem(location)
    }

    /// Before something is read from the folder of a path, or from the folder itself.
    async fn settle(&self, location: Option<&Path>, is_folder: bool) -> Result<()> {
        if self.files.durability == Durability::Os || !self.files.folders.is_unsettled() {
            return Ok(());
        }
        // Not `path_of`, which takes names of files alone.
        let mut folder = self.files.root.clone();
        folder.extend(
            location
                .iter()
                .flat_map(|path| path.parts())
                .map(|part| part.as_ref().to_owned()),
        );
        if !is_folder {
            folder.pop();
        }
        let files = Arc::clone(&self.files);
        blocking(move || {
            let settled = files.folders.settle(&folder);
            settled.map_err(|error| failed("sync", &folder, error))
        })
        .await
    }

    /// Before a listing.
    fn settled(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce(&LocalFileSystem) -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            store.settle(prefix.as_ref(), true).await?;
            Ok::<_, StoreError>(list(&store.reader))
        };
        listing.into_stream().try_flatten().boxed()
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LocalStore({})", self.files.root.display())
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let publish = match options.mode {
            PutMode::Create => Publish::IfAbsent,
            PutMode::Overwrite => Publish::Replace,
            PutMode::Update(_) => return Err(not_implemented("put_opts with PutMode::Update")),
        };
        if !options.attributes.is_empty() {
            return Err(not_implemented("put_opts with attributes"));
        }
        let path = self.path_of(location)?;
        let files = Arc::clone(&self.files);
        blocking(move || {
            let staged = Staged::create(files, path)?;
            let mut offset = 0;
            for part in &payload {
                staged.write_at(part, offset)?;
                offset += part.len() as u64;
            }
            staged.publish(publish)
        })
        .await?;
        Ok(written())
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if !options.attributes.is_empty() {
            return Err(not_implemented("put_multipart_opts with attributes"));
        }
        let path = self.path_of(location)?;
        let files = Arc::clone(&self.files);
        let staged = blocking(move || Staged::create(files, path)).await?;
        Ok(Box::new(Upload::new(staged)))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.settle(Some(location), false).await?;
        self.reader.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.settle(Some(location), false).await?;
        self.reader.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let path = store.path_of(&location)?;
                    blocking(move || store.files.remove(&path)).await?;
                    Ok(location)
                }
            })
            .buffered(REMOVES_AT_ONCE)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.cloned();
        self.settled(prefix, move |reader| reader.list(folder.as_ref()))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (folder, offset) = (prefix.cloned(), offset.clone());
        self.settled(prefix, move |reader| reader.list_with_offset(folder.as_ref(), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.settle(prefix, true).await?;
        self.reader.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.reader.copy_opts(from, to, options).await?;
        self.sync_around(&[to]).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.reader.rename_opts(from, to, options).await?;
        self.sync_around(&[to, from]).await
    }
}

impl LocalStore {
    /// Syncs the folders of these files.
    async fn sync_around(&self, locations: &[&Path]) -> Result<()> {
        for location in locations {
            let (path, files) = (self.path_of(location)?, Arc::clone(&self.files));
            blocking(move || files.sync_folder_of(&path)).await?;
        }
        Ok(())
    }
}

impl Files {
    /// A removal that comes back after a cut would bring back data that was to be gone.
    fn remove(&self, path: &FsPath) -> Result<()> {
        self.disk.remove(path).map_err(|error| failed("remove", path, error))?;
        self.sync_folder_of(path)
    }

    fn sync_folder_of(&self, path: &FsPath) -> Result<()> {
        match (self.durability, path.parent()) {
            (Durability::Fsync, Some(folder)) => {
                let synced = self.folders.entry(folder).sync();
                synced.map_err(|error| failed("sync the folder of", path, error))
            }
            _ => Ok(()),
        }
    }
}

/// Creates a folder and those above it; returns how many there were not.
fn create_folders(folder: &FsPath, disk: &dyn Disk, mode: u32) -> io::Result<usize> {
    match disk.create_folder(folder, mode) {
        Ok(()) => Ok(1),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match folder.parent() {
            Some(above) if !above.as_os_str().is_empty() => {
                let created = create_folders(above, disk, mode)?;
                Ok(created + create_folders(folder, disk, mode)?)
            }
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Measures a sync.
fn timed<T>(what: &'static str, sync: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = sync();
    histogram!("smartcity_lake_sync_seconds", "what" => what).record(started.elapsed().as_secs_f64());
    result
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn written() -> PutResult {
    PutResult {
        e_tag: None,
        version: None,
    }
}

/// What went wrong with a file, and with which.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
struct DiskError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(action: &'static str, path: &FsPath, source: io::Error) -> StoreError {
    let kind = source.kind();
    let source = Box::new(DiskError {
        action,
        path: path.to_owned(),
        source,
    });
    let path = path.display().to_string();
    match kind {
        io::ErrorKind::NotFound => StoreError::NotFound { path, source },
        io::ErrorKind::AlreadyExists => StoreError::AlreadyExists { path, source },
        _ => StoreError::Generic { store: STORE, source },
    }
}

fn not_implemented(operation: &str) -> StoreError {
    StoreError::NotImplemented {
        operation: operation.to_owned(),
        implementer: STORE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_see_nothing_and_the_group_what_the_owner_opened() {
        for (root, file, folder) in [
            (0o755, 0o600, 0o700),
            (0o775, 0o600, 0o700),
            (0o777, 0o600, 0o700),
            (0o700, 0o600, 0o700),
            (0o750, 0o640, 0o750),
            (0o2770, 0o660, 0o770),
        ] {
            assert_eq!(Permissions::within(root), Permissions { file, folder }, "{root:o}");
        }
    }

    #[test]
    fn a_durability_is_one_of_two_words() {
        for durability in [Durability::Fsync, Durability::Os] {
            assert_eq!(durability.name().parse(), Ok(durability));
        }
        assert_eq!(
            "always".parse::<Durability>(),
            Err("`always` is not a durability; write fsync or os".to_owned())
        );
    }
}
