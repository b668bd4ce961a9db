//! Which folders have names that a power cut could take, and their syncs, several waiting writers at a time.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::disk::Disk;
use super::timed;

/// Folders remembered; beyond it those that nobody uses are forgotten and their place is synced again when they are next
/// written to.
const FOLDERS_MAX: usize = 4096;

/// The folders below a root that this process has written to.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    disk: Arc<dyn Disk>,
    folders: Mutex<HashMap<PathBuf, Arc<Folder>>>,
    /// Entries that are being made, and folders whose last sync failed.
    unsettled: AtomicUsize,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Syncs asked for.
    asked: AtomicU64,
    /// The last of them that a sync which has succeeded began after. Held by the one who syncs.
    synced: Mutex<u64>,
    /// Entries that are being made.
    in_flight: AtomicUsize,
    /// Whether the last sync failed.
    has_failed: AtomicBool,
    /// Whether this process has synced the names of the folder and of those above it, up to the root.
    is_placed: AtomicBool,
}

impl Folder {
    fn is_unsettled(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) > 0 || self.has_failed.load(Ordering::SeqCst)
    }
}

/// An entry that is about to be made in a folder.
pub(super) struct Entry<'a> {
    folders: &'a Folders,
    folder: Arc<Folder>,
}

impl Folders {
    pub(super) fn new(root: PathBuf, disk: Arc<dyn Disk>) -> Folders {
        Folders {
            root,
            disk,
            folders: Mutex::default(),
            unsettled: AtomicUsize::new(0),
        }
    }

    /// To be called before a name is made. Until the entry is dropped, and after its sync has failed, readers of
    /// this store sync first.
    pub(super) fn entry(&self, folder: &Path) -> Entry<'_> {
        let folder = self.folder(folder);
        self.unsettled.fetch_add(1, Ordering::SeqCst);
        folder.in_flight.fetch_add(1, Ordering::SeqCst);
        let folders = self;
        Entry { folders, folder }
    }

    /// The folder was created just now, perhaps again.
    pub(super) fn created(&self, folder: &Path) {
        self.folder(folder).is_placed.store(false, Ordering::SeqCst);
    }

    /// Makes sure that what can be seen in a folder is on the disk: what is read back after a failed or abandoned write
    /// may be taken for a promise.
    pub(super) fn settle(&self, folder: &Path) -> io::Result<()> {
        let Some(folder) = self.folders.lock().get(folder).map(Arc::clone) else {
            return Ok(());
        };
        match folder.is_unsettled() {
            true => self.sync(&folder),
            false => Ok(()),
        }
    }

    /// Whether [`Folders::settle`] may have something to do anywhere.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::SeqCst) > 0
    }

    fn folder(&self, path: &Path) -> Arc<Folder> {
        let mut folders = self.folders.lock();
        if let Some(folder) = folders.get(path) {
            return Arc::clone(folder);
        }
        if folders.len() >= FOLDERS_MAX {
            folders.retain(|_, folder| Arc::strong_count(folder) > 1 || folder.is_unsettled());
        }
        let folder = Arc::new(Folder {
            path: path.to_owned(),
            asked: AtomicU64::new(0),
            synced: Mutex::new(0),
            in_flight: AtomicUsize::new(0),
            has_failed: AtomicBool::new(false),
            is_placed: AtomicBool::new(false),
        });
        folders.insert(path.to_owned(), Arc::clone(&folder));
        folder
    }

    /// Syncs the folder, unless another's sync began after this call and has succeeded; at first also its place below the
    /// root.
    fn sync(&self, folder: &Folder) -> io::Result<()> {
        let wanted = folder.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut synced = folder.synced.lock();
        if *synced >= wanted && folder.is_placed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let covered = folder.asked.load(Ordering::SeqCst);
        let result = self.sync_names(folder);
        let had_failed = folder.has_failed.swap(result.is_err(), Ordering::SeqCst);
        match (&result, had_failed) {
            (Ok(()), true) => drop(self.unsettled.fetch_sub(1, Ordering::SeqCst)),
            (Err(_), false) => drop(self.unsettled.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
        if result.is_ok() {
            *synced = covered;
        }
        result
    }

    fn sync_names(&self, folder: &Folder) -> io::Result<()> {
        timed("folder", || self.disk.sync_folder(&folder.path))?;
        if !folder.is_placed.load(Ordering::SeqCst) {
            let above = folder.path.ancestors().skip(1);
            for above in above.take_while(|above| above.starts_with(&self.root)) {
                timed("folder", || self.disk.sync_folder(above))?;
            }
            folder.is_placed.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Entry<'_> {
    /// Returns when the name is on the disk, and the folders on the way to it.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folders.sync(&self.folder)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.folder.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.folders.unsettled.fetch_sub(1, Ordering::SeqCst);
    }
}
