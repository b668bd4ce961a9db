//! Replay of a log: the commits from the newest back to the checkpoint, then the checkpoint (PROTOCOL.md, "Action
//! Reconciliation").
//!
//! Newest first, the first word on anything is the last: what is already known need not be looked up again, and of all
//! files only the keys in the commits after the checkpoint are held. The checkpoint itself passes by in pieces, so that
//! memory does not grow with the table.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::LakeError;
use crate::delta::action::{Action, CommitInfo, DomainMetadata, FileKey, Metadata, Protocol, Txn, parse_lines};
use crate::delta::checkpoint::read::{Kinds, checkpoint_actions};
use crate::delta::listing::{Checkpoint, Listing, Segment};
use crate::delta::location::TableLocation;
use crate::pause::Patience;

/// Commits that are read at the same time.
const READ_AHEAD: usize = 16;

/// Where actions stand in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A commit after the checkpoint.
    Commit(i64),
    /// The checkpoint of this version.
    Checkpoint(i64),
    /// A commit up to the checkpoint, which holds all that it said about the state of the table. Only in
    /// [`Replay::lenient`].
    History(i64),
}

/// Actions of one origin: a commit whole, a checkpoint in pieces.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub origin: Origin,
    pub actions: Vec<Action>,
}

/// What is wrong with a log, where the rest of it can still be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// There is no commit of a version that others follow.
    MissingCommit { version: i64 },
    /// A commit, or a line of it, is no JSON of the protocol. The lines that are were given.
    UnreadableCommit { version: i64, path: String, why: String },
    /// A checkpoint cannot be read to its end.
    UnreadableCheckpoint { version: i64, path: String, why: String },
}

type CommitBodies = BoxStream<'static, Result<(i64, Option<Bytes>), LakeError>>;
type OnDamage = Box<dyn FnMut(Damage) + Send>;

/// A log being replayed.
pub struct Replay {
    location: TableLocation,
    kinds: Kinds,
    commits: CommitBodies,
    checkpoint: Option<Checkpoint>,
    pieces: Option<BoxStream<'static, Result<Vec<Action>, LakeError>>>,
    history: Option<CommitBodies>,
    /// `None`: any damage is an error.
    on_damage: Option<OnDamage>,
    /// Failures of the checkpoint's requests that may still be met by reading it again.
    patience: Option<(Patience, u32)>,
}

/// How often a checkpoint is begun again.
const CHECKPOINT_TRIES: u32 = 6;

impl Replay {
    /// For readers and writers: any damage is an error. Of the checkpoint, only actions of these kinds are read.
    pub fn strict(location: &TableLocation, segment: &Segment, kinds: Kinds) -> Self {
        let versions: Vec<i64> = (segment.first_commit()..=segment.version).rev().collect();
        Self::new(location, segment, kinds, read_commits(location, versions))
    }

    /// The same for [`TableState`] alone: each request is tried a few times, and a checkpoint that failed half-way is given
    /// again from its start, which says nothing new to it.
    pub(crate) fn patient(location: &TableLocation, segment: &Segment, kinds: Kinds, patience: &Patience) -> Self {
        let versions: Vec<i64> = (segment.first_commit()..=segment.version).rev().collect();
        let (place, tries) = (location.clone(), patience.clone());
        let read = move |version| {
            let (location, patience) = (place.clone(), tries.clone());
            async move {
                let body = patience.request(|| location.read_commit(version)).await?;
                Ok((version, body))
            }
        };
        let commits = stream::iter(versions).map(read).buffered(READ_AHEAD).boxed();
        Self {
            patience: Some((patience.clone(), CHECKPOINT_TRIES)),
            ..Self::new(location, segment, kinds, commits)
        }
    }

    /// The same with the commits' bytes at hand, newest first.
    pub(crate) fn held(location: &TableLocation, segment: &Segment, kinds: Kinds, bodies: &[Bytes]) -> Self {
        let versions = (segment.first_commit()..=segment.version).rev();
        let bodies: Vec<_> = versions.zip(bodies.iter().cloned()).collect();
        let commits = stream::iter(bodies).map(|(version, body)| Ok((version, Some(body))));
        Self::new(location, segment, kinds, commits.boxed())
    }

    fn new(location: &TableLocation, segment: &Segment, kinds: Kinds, commits: CommitBodies) -> Self {
        Self {
            location: location.clone(),
            kinds,
            commits,
            checkpoint: segment.checkpoint.clone(),
            pieces: None,
            history: None,
            on_damage: None,
            patience: None,
        }
    }

    /// For verification: every commit that is there and the newest checkpoint; damage is reported and the rest goes on.
    /// Versions that are missing between the first and the last are reported at once. A store that does not answer is
    /// an error all the same.
    pub fn lenient(
        location: &TableLocation,
        listing: &Listing,
        kinds: Kinds,
        mut on_damage: impl FnMut(Damage) + Send + 'static,
    ) -> Self {
        let checkpoint = listing.checkpoints().last().cloned();
        let base = checkpoint.as_ref().map_or(-1, |checkpoint| checkpoint.version);
        let versions: Vec<i64> = listing.commits().iter().map(|commit| commit.version).collect();
        // What lies before the oldest commit was cleaned up, unless no checkpoint holds what it said.
        let first = versions.first().copied().unwrap_or(base + 1);
        let expected = if base < 0 { 0 } else { first.min(base + 1) };
        let newest = versions.last().copied().unwrap_or(base).max(base);
        let there: HashSet<i64> = versions.iter().copied().collect();
        for version in (expected..=newest).filter(|version| !there.contains(version)) {
            on_damage(Damage::MissingCommit { version });
        }
        let (old, new): (Vec<i64>, Vec<i64>) = versions.into_iter().rev().partition(|version| *version <= base);
        Self {
            location: location.clone(),
            kinds,
            commits: read_commits(location, new),
            checkpoint,
            pieces: None,
            history: Some(read_commits(location, old)),
            on_damage: Some(Box::new(on_damage)),
            patience: None,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Piece>, LakeError> {
        while let Some((version, body)) = self.commits.try_next().await? {
            if let Some(actions) = self.parse(version, body)? {
                let origin = Origin::Commit(version);
                return Ok(Some(Piece { origin, actions }));
            }
        }
        if let Some(piece) = self.next_of_checkpoint().await? {
            return Ok(Some(piece));
        }
        let Some(mut history) = self.history.take() else {
            return Ok(None);
        };
        while let Some((version, body)) = history.try_next().await? {
            if let Some(actions) = self.parse(version, body)? {
                self.history = Some(history);
                let origin = Origin::History(version);
                return Ok(Some(Piece { origin, actions }));
            }
        }
        Ok(None)
    }

    async fn next_of_checkpoint(&mut self) -> Result<Option<Piece>, LakeError> {
        let Some(checkpoint) = &self.checkpoint else {
            return Ok(None);
        };
        let pieces = self
            .pieces
            .get_or_insert_with(|| checkpoint_actions(self.location.clone(), checkpoint, self.kinds));
        let origin = Origin::Checkpoint(checkpoint.version);
        let version = checkpoint.version;
        let path = checkpoint.files.first().map(ToString::to_string);
        let next = pieces.try_next().await;
        match next {
            Ok(Some(actions)) => return Ok(Some(Piece { origin, actions })),
            Ok(None) => {}
            Err(error) if error.is_retryable() && self.may_begin_checkpoint_again().await => {
                self.pieces = None;
                return Box::pin(self.next_of_checkpoint()).await;
            }
            Err(error) => {
                let Some(on_damage) = self.on_damage.as_mut().filter(|_| !error.is_retryable()) else {
                    return Err(error);
                };
                on_damage(Damage::UnreadableCheckpoint {
                    version,
                    path: path.unwrap_or_default(),
                    why: crate::error::describe(&error),
                });
            }
        }
        (self.checkpoint, self.pieces) = (None, None);
        Ok(None)
    }

    async fn may_begin_checkpoint_again(&mut self) -> bool {
        match &mut self.patience {
            Some((patience, left)) if *left > 0 => {
                *left -= 1;
                patience.pause(CHECKPOINT_TRIES - *left).await;
                true
            }
            _ => false,
        }
    }

    /// A commit's actions; `None` when it was not there, which was reported.
    fn parse(&mut self, version: i64, body: Option<Bytes>) -> Result<Option<Vec<Action>>, LakeError> {
        let Some(body) = body else {
            let Some(on_damage) = &mut self.on_damage else {
                return Err(missing(&self.location, version));
            };
            on_damage(Damage::MissingCommit { version });
            return Ok(None);
        };
        let error = match parse_lines(&body) {
            Ok(actions) => return Ok(Some(actions)),
            Err(error) => error,
        };
        let path = self.location.commit_path(version).to_string();
        let Some(on_damage) = &mut self.on_damage else {
            return Err(LakeError::unusable(self.location.table(), format!("{path}: {error}")));
        };
        let why = error.to_string();
        on_damage(Damage::UnreadableCommit { version, path, why });
        let lines = body.split(|byte| *byte == b'\n');
        Ok(Some(
            lines.filter_map(|line| serde_json::from_slice(line).ok()).collect(),
        ))
    }
}

pub(crate) fn missing(location: &TableLocation, version: i64) -> LakeError {
    LakeError::unusable(location.table(), format!("version {version} is missing in its log"))
}

/// The bytes of these commits in this order, several being read ahead.
pub(crate) fn read_commits(location: &TableLocation, versions: Vec<i64>) -> CommitBodies {
    let location = location.clone();
    let read = move |version| {
        let location = location.clone();
        async move { Ok((version, location.read_commit(version).await?)) }
    };
    stream::iter(versions).map(read).buffered(READ_AHEAD).boxed()
}

/// The newest word on each logical file, given pieces newest first.
#[derive(Debug, Default)]
pub struct FileReconciler {
    /// Files that a commit after the checkpoint has said something about.
    seen: HashSet<FileKey>,
}

impl FileReconciler {
    /// Those file actions of a piece that still stand: files of the table, and tombstones. Others are left out.
    pub fn keep(&mut self, piece: Piece) -> Vec<Action> {
        let from_commit = match piece.origin {
            Origin::Commit(_) => true,
            Origin::Checkpoint(_) => false,
            Origin::History(_) => return Vec::new(),
        };
        let mut standing = Vec::new();
        let mut removes = Vec::new();
        for action in piece.actions {
            match action {
                Action::Add(add) => {
                    let key = add.key();
                    // A checkpoint names a file once, so it need not be remembered.
                    let is_new = if from_commit {
                        self.seen.insert(key)
                    } else {
                        !self.seen.contains(&key)
                    };
                    if is_new {
                        standing.push(Action::Add(add));
                    }
                }
                Action::Remove(remove) => removes.push(remove),
                _ => {}
            }
        }
        // After the adds: what a commit both removes and adds, in any order, stays.
        for remove in removes {
            let key = remove.key();
            let is_new = if from_commit {
                self.seen.insert(key)
            } else {
                !self.seen.contains(&key)
            };
            if is_new {
                standing.push(Action::Remove(remove));
            }
        }
        standing
    }
}

/// The newest word on everything but files, given pieces newest first.
#[derive(Debug, Clone, Default)]
pub struct TableState {
    pub protocol: Option<Protocol>,
    pub metadata: Option<Metadata>,
    /// By application id.
    pub txns: HashMap<String, RecordedTxn>,
    /// By name, tombstones included.
    domains: BTreeMap<String, DomainMetadata>,
    /// What the newest commit says of itself, and which it is; none of a checkpoint is kept.
    newest_info: Option<(i64, Option<CommitInfo>)>,
}

/// The newest `txn` action of an application id, and who put it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedTxn {
    /// The application's own: here the next offset to read.
    pub version: i64,
    /// Milliseconds since the epoch.
    pub last_updated: Option<i64>,
    /// The table's version that recorded it; read from a checkpoint, the checkpoint's.
    pub recorded_in: i64,
    /// The commit's id; `None` when it was read from a checkpoint or another writer gave none.
    pub commit_id: Option<String>,
}

impl TableState {
    /// Takes over what nothing newer was said about.
    pub fn take(&mut self, piece: &Piece) {
        let (recorded_in, is_commit) = match piece.origin {
            Origin::Commit(version) => (version, true),
            Origin::Checkpoint(version) => (version, false),
            Origin::History(_) => return,
        };
        let mut infos = piece.actions.iter().rev().filter_map(|action| match action {
            Action::CommitInfo(info) if is_commit => Some(info),
            _ => None,
        });
        let info = infos.next();
        let commit_id = info.and_then(|info| info.commit_id.clone());
        if is_commit && self.newest_info.is_none() {
            self.newest_info = Some((recorded_in, info.map(|info| (**info).clone())));
        }
        for action in &piece.actions {
            match action {
                Action::Protocol(protocol) if self.protocol.is_none() => self.protocol = Some(protocol.clone()),
                Action::Metadata(metadata) if self.metadata.is_none() => self.metadata = Some((**metadata).clone()),
                Action::Txn(txn) if !self.txns.contains_key(&txn.app_id) => {
                    let recorded = RecordedTxn::new(txn, recorded_in, commit_id.clone());
                    self.txns.insert(txn.app_id.clone(), recorded);
                }
                Action::DomainMetadata(domain) if !self.domains.contains_key(&domain.domain) => {
                    self.domains.insert(domain.domain.clone(), domain.clone());
                }
                _ => {}
            }
        }
    }

    /// Takes over an older state where nothing newer was said.
    pub(crate) fn take_older(&mut self, older: &TableState) {
        self.protocol = self.protocol.take().or_else(|| older.protocol.clone());
        self.metadata = self.metadata.take().or_else(|| older.metadata.clone());
        for (id, txn) in &older.txns {
            self.txns.entry(id.clone()).or_insert_with(|| txn.clone());
        }
        for (name, domain) in &older.domains {
            self.domains.entry(name.clone()).or_insert_with(|| domain.clone());
        }
    }

    /// What the commit of this version says of itself.
    pub(crate) fn commit_info(&self, version: i64) -> Option<&CommitInfo> {
        let (newest, info) = self.newest_info.as_ref()?;
        info.as_ref().filter(|_| *newest == version)
    }

    /// The domains that were not removed.
    pub fn domains(&self) -> impl Iterator<Item = &DomainMetadata> {
        self.domains.values().filter(|domain| !domain.removed)
    }
}

impl RecordedTxn {
    pub(crate) fn new(txn: &Txn, recorded_in: i64, commit_id: Option<String>) -> Self {
        Self {
            version: txn.version,
            last_updated: txn.last_updated,
            recorded_in,
            commit_id,
        }
    }
}
