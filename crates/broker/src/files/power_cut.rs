//! What a power cut can leave: the steps that files went through are recorded, and any beginning of them is replayed into
//! another folder without what had not been synced.
//!
//! A system may write what was not synced in any order and any part of it. So at a cut each file keeps an arbitrary part
//! of its unsynced writes, the last one torn, with zeros where a later write has made the file longer; and each folder
//! keeps some of the names that were made, renamed and removed since it was last synced, the oldest first.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    CreateDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    SetLen(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDir(PathBuf),
}

impl Step {
    fn path(&self) -> &Path {
        match self {
            Self::CreateDir(path)
            | Self::Create(path)
            | Self::Write(path, ..)
            | Self::SetLen(path, _)
            | Self::Sync(path)
            | Self::Rename(path, _)
            | Self::Remove(path)
            | Self::SyncDir(path) => path,
        }
    }
}

/// What a step keeps of the argument that it was taken with.
pub(crate) fn owned<T: Argument + ?Sized>(value: &T) -> T::Kept {
    value.keep()
}

pub(crate) trait Argument {
    type Kept;
    fn keep(&self) -> Self::Kept;
}

impl Argument for Path {
    type Kept = PathBuf;
    fn keep(&self) -> PathBuf {
        self.to_path_buf()
    }
}

impl Argument for [u8] {
    type Kept = Vec<u8>;
    fn keep(&self) -> Vec<u8> {
        self.to_vec()
    }
}

impl Argument for u64 {
    type Kept = u64;
    fn keep(&self) -> u64 {
        *self
    }
}

/// The steps taken below a folder, from its start until it is dropped.
#[derive(Debug)]
pub(crate) struct Recorder {
    root: PathBuf,
    steps: Arc<Mutex<Vec<Step>>>,
}

type Running = Vec<(PathBuf, Arc<Mutex<Vec<Step>>>)>;

static RUNNING: Mutex<Running> = Mutex::new(Vec::new());

/// Notes a step for whoever records the folder it is in.
pub(crate) fn record(step: impl FnOnce() -> Step) {
    let running = RUNNING.lock();
    if running.is_empty() {
        return;
    }
    let step = step();
    if let Some((_, steps)) = running.iter().find(|(root, _)| step.path().starts_with(root)) {
        steps.lock().push(step);
    }
}

impl Recorder {
    /// Records below an empty folder that exists.
    pub(crate) fn start(root: &Path) -> Self {
        let steps = Arc::new(Mutex::new(Vec::new()));
        RUNNING.lock().push((root.to_path_buf(), Arc::clone(&steps)));
        Self {
            root: root.to_path_buf(),
            steps,
        }
    }

    /// How many steps have been taken.
    pub(crate) fn len(&self) -> usize {
        self.steps.lock().len()
    }

    /// Makes in the empty folder `into` what a power cut behind the first `count` steps left, as `seed` has it.
    pub(crate) fn cut(&self, count: usize, seed: u64, into: &Path) {
        let steps = self.steps.lock();
        let mut disk = Disk::new();
        for step in &steps[..count] {
            disk.apply(&self.root, step);
        }
        disk.materialise(ROOT, into, &mut Random(seed));
    }

    /// The same for a process that was killed: everything that was written is there.
    pub(crate) fn kill(&self, count: usize, into: &Path) {
        let steps = self.steps.lock();
        let mut disk = Disk::new();
        for step in &steps[..count] {
            disk.apply(&self.root, step);
        }
        disk.sync_all();
        disk.materialise(ROOT, into, &mut Random(0));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        RUNNING.lock().retain(|(_, steps)| !Arc::ptr_eq(steps, &self.steps));
    }
}

/// SplitMix64: the seed alone brings a cut back.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % (bound.max(1) as u64)) as usize
    }
}

const ROOT: usize = 0;

type Names = BTreeMap<String, usize>;
/// One change of a folder's names, taken whole or not at all.
type NameChange = Vec<(String, Option<usize>)>;

#[derive(Default)]
struct Node {
    is_dir: bool,
    durable: Vec<u8>,
    writes: Vec<Write>,
    /// As the running system sees them.
    names: Names,
    durable_names: Names,
    changes: Vec<NameChange>,
}

enum Write {
    At(u64, Vec<u8>),
    Len(u64),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>, upto: usize) {
        match self {
            Self::Len(len) => to.resize(*len as usize, 0),
            Self::At(at, bytes) => {
                let bytes = &bytes[..upto.min(bytes.len())];
                let end = *at as usize + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at as usize..end].copy_from_slice(bytes);
            }
        }
    }
}

fn change(names: &mut Names, change: &NameChange) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

struct Disk {
    nodes: Vec<Node>,
}

impl Disk {
    fn new() -> Self {
        let root = Node {
            is_dir: true,
            ..Node::default()
        };
        Self { nodes: vec![root] }
    }

    fn find(&self, root: &Path, path: &Path) -> Option<usize> {
        let below = path.strip_prefix(root).ok()?;
        below.components().try_fold(ROOT, |at, component| match component {
            Component::Normal(name) => self.nodes[at].names.get(name.to_str()?).copied(),
            _ => Some(at),
        })
    }

    fn place(&self, root: &Path, path: &Path) -> Option<(usize, String)> {
        let parent = self.find(root, path.parent()?)?;
        Some((parent, path.file_name()?.to_str()?.to_owned()))
    }

    fn rename(&mut self, dir: usize, names: NameChange) {
        change(&mut self.nodes[dir].names, &names);
        self.nodes[dir].changes.push(names);
    }

    /// A step on something that is gone, by a handle that was kept, changes nothing that could come back.
    fn apply(&mut self, root: &Path, step: &Step) -> Option<()> {
        match step {
            Step::CreateDir(path) | Step::Create(path) => {
                let (dir, name) = self.place(root, path)?;
                if !self.nodes[dir].names.contains_key(&name) {
                    self.nodes.push(Node {
                        is_dir: matches!(step, Step::CreateDir(_)),
                        ..Node::default()
                    });
                    let node = self.nodes.len() - 1;
                    self.rename(dir, vec![(name, Some(node))]);
                }
            }
            Step::Write(path, at, bytes) => {
                let node = self.find(root, path)?;
                self.nodes[node].writes.push(Write::At(*at, bytes.clone()));
            }
            Step::SetLen(path, len) => {
                let node = self.find(root, path)?;
                self.nodes[node].writes.push(Write::Len(*len));
            }
            Step::Sync(path) => {
                let node = self.find(root, path)?;
                self.sync(node);
            }
            Step::Rename(from, to) => {
                let node = self.find(root, from)?;
                let ((dir, old), (same, new)) = (self.place(root, from)?, self.place(root, to)?);
                assert_eq!(dir, same, "a rename between folders is not one step");
                self.rename(dir, vec![(old, None), (new, Some(node))]);
            }
            Step::Remove(path) => {
                let (dir, name) = self.place(root, path)?;
                self.rename(dir, vec![(name, None)]);
            }
            Step::SyncDir(path) => {
                let node = self.find(root, path)?;
                self.sync(node);
            }
        }
        Some(())
    }

    fn sync(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        for write in std::mem::take(&mut node.writes) {
            write.apply(&mut node.durable, usize::MAX);
        }
        for names in std::mem::take(&mut node.changes) {
            change(&mut node.durable_names, &names);
        }
    }

    fn sync_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.sync(node));
    }

    fn materialise(&self, node: usize, into: &Path, random: &mut Random) {
        let node = &self.nodes[node];
        if node.is_dir {
            if !into.is_dir() {
                fs::create_dir(into).expect("a folder can be made");
            }
            let mut names = node.durable_names.clone();
            let kept = random.below(node.changes.len() + 1);
            node.changes[..kept].iter().for_each(|it| change(&mut names, it));
            for (name, node) in &names {
                self.materialise(*node, &into.join(name), random);
            }
            return;
        }
        let mut content = node.durable.clone();
        let how = random.below(4);
        let last = random.below(node.writes.len() + 1);
        for (i, write) in node.writes.iter().enumerate() {
            let upto = match how {
                0 => 0,
                1 => usize::MAX,
                // Those before one that is torn.
                2 if i < last => usize::MAX,
                2 if i == last => random.below(200),
                2 => 0,
                _ => random.below(2) * usize::MAX,
            };
            if upto > 0 {
                write.apply(&mut content, upto);
            }
        }
        fs::write(into, content).expect("a file can be written");
    }
}
