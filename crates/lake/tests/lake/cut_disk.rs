//! A disk that keeps what was synced and, after a power cut, of the rest whatever chance decides.
//!
//! The model is weaker than any file system in use, so that nothing rests on a courtesy of one of them: bytes not synced
//! may be there in part, as zeros, or not; a name not synced may be there or not, each by itself, also that of a folder,
//! with all that lies below it; syncing a file does not sync its name. A rename happens as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lake::{Disk, DiskFile, SystemDisk};
use parking_lot::Mutex;

/// What a disk may get wrong, to see that the tests notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// A sync of a file does nothing.
    NoFileSync,
    /// A sync of a folder does nothing.
    NoFolderSync,
    /// Only folders that hold files are synced.
    NoPlaceSync,
    /// One sync in six fails, of files and folders.
    FailingSyncs,
}

/// Writes below a folder, and remembers each step.
#[derive(Debug, Clone)]
pub(crate) struct CutDisk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: PathBuf,
    flaw: Flaw,
    journal: Mutex<Journal>,
}

#[derive(Debug, Default)]
struct Journal {
    steps: Vec<Step>,
    /// What each path is, by now.
    nodes: BTreeMap<PathBuf, Node>,
    files: usize,
    syncs: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    SyncFile(usize),
    /// A name in a folder; `instead_of` goes away in the same step.
    Name {
        folder: PathBuf,
        name: PathBuf,
        node: Node,
        instead_of: Option<PathBuf>,
    },
    Unname {
        folder: PathBuf,
        name: PathBuf,
    },
    SyncFolder(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Folder,
}

impl CutDisk {
    /// `base` exists and is on the disk.
    pub(crate) fn new(base: &Path, flaw: Flaw) -> CutDisk {
        CutDisk(Arc::new(Inner {
            base: base.canonicalize().unwrap(),
            flaw,
            journal: Mutex::default(),
        }))
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> usize {
        self.0.journal.lock().steps.len()
    }

    /// Puts into an empty folder what is left of the base after a power cut that came behind this many steps.
    pub(crate) fn cut(&self, steps: usize, seed: u64, into: &Path) {
        let journal = self.0.journal.lock();
        Remains::of(&journal.steps[..steps], &mut Chance(seed)).put(&self.0.base, into);
    }

    fn split(&self, path: &Path) -> (PathBuf, PathBuf) {
        (path.parent().unwrap().to_owned(), path.to_owned())
    }

    /// `Some` where a sync is not to be done.
    fn flawed_sync(&self, journal: &mut Journal, is_file: bool, has_files: bool) -> Option<io::Result<()>> {
        journal.syncs += 1;
        match self.0.flaw {
            Flaw::NoFileSync if is_file => Some(Ok(())),
            Flaw::NoFolderSync if !is_file => Some(Ok(())),
            Flaw::NoPlaceSync if !is_file && !has_files => Some(Ok(())),
            Flaw::FailingSyncs if Chance(journal.syncs as u64).once_in(6) => {
                Some(Err(io::Error::other("the disk says no")))
            }
            _ => None,
        }
    }
}

impl Disk for CutDisk {
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn DiskFile>> {
        let mut journal = self.0.journal.lock();
        let file = SystemDisk.create(path, mode)?;
        let number = journal.files;
        journal.files += 1;
        let (folder, name) = self.split(path);
        let node = Node::File(number);
        journal.nodes.insert(path.to_owned(), node);
        journal.steps.push(Step::Name {
            folder,
            name,
            node,
            instead_of: None,
        });
        Ok(Box::new(CutFile {
            disk: self.clone(),
            file,
            number,
        }))
    }

    fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut journal = self.0.journal.lock();
        SystemDisk.create_folder(path, mode)?;
        let (folder, name) = self.split(path);
        journal.nodes.insert(path.to_owned(), Node::Folder);
        journal.steps.push(Step::Name {
            folder,
            name,
            node: Node::Folder,
            instead_of: None,
        });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut journal = self.0.journal.lock();
        SystemDisk.link(from, to)?;
        let node = journal.nodes[from];
        let (folder, name) = self.split(to);
        journal.nodes.insert(to.to_owned(), node);
        journal.steps.push(Step::Name {
            folder,
            name,
            node,
            instead_of: None,
        });
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut journal = self.0.journal.lock();
        SystemDisk.rename(from, to)?;
        let node = journal.nodes.remove(from).unwrap();
        let (folder, name) = self.split(to);
        journal.nodes.insert(to.to_owned(), node);
        let instead_of = Some(from.to_owned());
        journal.steps.push(Step::Name {
            folder,
            name,
            node,
            instead_of,
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.0.journal.lock();
        SystemDisk.remove(path)?;
        let (folder, name) = self.split(path);
        journal.nodes.remove(path);
        journal.steps.push(Step::Unname { folder, name });
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.0.journal.lock();
        let has_files = journal
            .nodes
            .iter()
            .any(|(at, node)| at.parent() == Some(path) && *node != Node::Folder);
        if let Some(flawed) = self.flawed_sync(&mut journal, false, has_files) {
            return flawed;
        }
        journal.steps.push(Step::SyncFolder(path.to_owned()));
        Ok(())
    }
}

struct CutFile {
    disk: CutDisk,
    file: Box<dyn DiskFile>,
    number: usize,
}

impl DiskFile for CutFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut journal = self.disk.0.journal.lock();
        self.file.write_at(bytes, offset)?;
        let (file, bytes) = (self.number, bytes.to_vec());
        journal.steps.push(Step::Write { file, offset, bytes });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut journal = self.disk.0.journal.lock();
        if let Some(flawed) = self.disk.flawed_sync(&mut journal, true, true) {
            return flawed;
        }
        journal.steps.push(Step::SyncFile(self.number));
        Ok(())
    }
}

/// What is on the disk after the cut.
#[derive(Debug, Default)]
struct Remains {
    files: BTreeMap<usize, Vec<u8>>,
    names: BTreeMap<PathBuf, Node>,
}

impl Remains {
    fn of(steps: &[Step], chance: &mut Chance) -> Remains {
        // By file and folder, the step of the last sync.
        let (mut synced_files, mut synced_folders) = (BTreeMap::new(), BTreeMap::new());
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::SyncFile(file) => drop(synced_files.insert(*file, at)),
                Step::SyncFolder(folder) => drop(synced_folders.insert(folder.clone(), at)),
                _ => {}
            }
        }
        let mut remains = Remains::default();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Write { file, offset, bytes } => {
                    let is_synced = synced_files.get(file).is_some_and(|synced| *synced > at);
                    remains.write(*file, *offset, bytes, is_synced, chance);
                }
                Step::Name {
                    folder,
                    name,
                    node,
                    instead_of,
                } => {
                    if synced_folders.get(folder).is_some_and(|synced| *synced > at) || chance.once_in(2) {
                        remains.names.insert(name.clone(), *node);
                        if let Some(gone) = instead_of {
                            remains.names.remove(gone);
                        }
                    }
                }
                Step::Unname { folder, name } => {
                    if synced_folders.get(folder).is_some_and(|synced| *synced > at) || chance.once_in(2) {
                        remains.names.remove(name);
                    }
                }
                Step::SyncFile(_) | Step::SyncFolder(_) => {}
            }
        }
        remains
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8], is_synced: bool, chance: &mut Chance) {
        let content = self.files.entry(file).or_default();
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        let kept = match is_synced {
            true => bytes.len(),
            // Nothing, a part of it with or without the length, or all.
            false => match chance.below(4) {
                0 => return,
                1 => bytes.len(),
                2 => {
                    content.resize(content.len().max(to), 0);
                    chance.below(bytes.len() as u64 + 1) as usize
                }
                _ => chance.below(bytes.len() as u64 + 1) as usize,
            },
        };
        content.resize(content.len().max(from + kept), 0);
        content[from..from + kept].copy_from_slice(&bytes[..kept]);
    }

    fn put(&self, base: &Path, into: &Path) {
        let mut folders = BTreeSet::from([base.to_owned()]);
        // Sorted, so a folder comes before what lies in it.
        for (path, node) in &self.names {
            if !folders.contains(path.parent().unwrap()) {
                continue;
            }
            let target = into.join(path.strip_prefix(base).unwrap());
            match node {
                Node::Folder => {
                    std::fs::create_dir(&target).unwrap();
                    folders.insert(path.clone());
                }
                Node::File(file) => {
                    std::fs::write(&target, self.files.get(file).map_or(&[][..], Vec::as_slice)).unwrap();
                }
            }
        }
    }
}

/// xorshift64*: the seed alone brings a run back.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        let mut x = self.0.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15) | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        (x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
