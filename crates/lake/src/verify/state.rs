//! A table's log as a checker reads it: everything that is there, also around a hole that stops a reader.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use model::TopicPartition;
use object_store::path::Path;
use parking_lot::Mutex;

use super::finding::Finding;
use super::report::Findings;
use crate::LakeError;
use crate::delta::data_file::RowReader;
use crate::delta::{
    Action, Add, CommitInfo, Damage, DeletionVector, FileReconciler, Kinds, Origin, Piece, Replay, TableLocation,
};
use crate::table::commits::{CommitEvidence, CommitSpan};
use crate::table::starts::RECORD_STARTS;

/// How our own commits name their program.
const ENGINE: &str = "smartcity/";

/// A file that the newest version names.
#[derive(Debug, Clone)]
pub(crate) struct LiveFile {
    /// Within the store.
    pub(crate) path: Path,
    pub(crate) size: u64,
    /// Delta's statistics, JSON text.
    pub(crate) stats: Option<Box<str>>,
    pub(crate) crc32c: Option<u32>,
    /// Rows deleted without rewriting the file, by another writer.
    pub(crate) deletion_vector: Option<DeletionVector>,
}

/// What a commit of ours says of the offsets that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub(crate) version: i64,
    /// Records that Kafka gave in these spans: rows and dead letters. `None` where a writer did not say.
    pub(crate) records: Option<u64>,
    /// Rows and dead letters that they make, where a record makes several or none.
    pub(crate) elements: Option<u64>,
    /// It records where partitions start, and no more.
    pub(crate) is_start: bool,
    pub(crate) spans: Vec<CommitSpan>,
}

/// A commit of another program that changed the table's data by taking files out of it, or rows out of files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Removal {
    pub(crate) version: i64,
    pub(crate) operation: String,
    pub(crate) by: String,
    /// The files that it removed, and those that it put in their place.
    pub(crate) removed: Vec<FileRef>,
    pub(crate) added: Vec<FileRef>,
}

/// A data file in the store, and which of its rows count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FileRef {
    pub(crate) path: Path,
    pub(crate) deletion_vector: Option<DeletionVector>,
}

impl From<Removal> for Finding {
    fn from(removal: Removal) -> Self {
        Finding::Removed {
            version: removal.version,
            operation: removal.operation,
            by: removal.by,
            files: removal.removed.len() as u64,
        }
    }
}

impl CommitRecord {
    /// `None` for a commit that says nothing of offsets.
    pub(crate) fn of(evidence: &CommitEvidence) -> Option<Self> {
        Some(Self {
            version: evidence.version,
            records: evidence.records,
            elements: evidence.elements,
            is_start: evidence.operation.as_deref() == Some(RECORD_STARTS),
            spans: evidence.spans.clone()?,
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct TableState {
    pub(crate) version: i64,
    /// The table's own, from its metadata.
    pub(crate) id: Option<String>,
    /// Reads the files by what the metadata declares.
    pub(crate) rows: RowReader,
    /// By path below the table, or in the store where it lies elsewhere.
    pub(crate) files: BTreeMap<String, LiveFile>,
    /// By application and topic partition: the recorded offset.
    pub(crate) recorded: BTreeMap<(String, TopicPartition), i64>,
    /// What the commits whose JSON is there say of themselves, by version.
    pub(crate) evidence: BTreeMap<i64, CommitEvidence>,
    /// Those that cover offsets, by version; from the JSON, and from the table of commits where that is gone.
    pub(crate) commits: Vec<CommitRecord>,
    /// By version, newest first.
    pub(crate) removals: Vec<Removal>,
    /// Hashes of every path that the log still names, live or removed.
    named: HashSet<u64>,
    pub(crate) bytes: u64,
}

impl TableState {
    /// Reads the newest checkpoint and every commit that is there, several at a time.
    pub(crate) async fn read(location: &TableLocation, findings: &mut Findings) -> Result<TableState, LakeError> {
        let listing = location.list().await?;
        let damage = Arc::new(Mutex::new(Vec::new()));
        let on_damage = Arc::clone(&damage);
        let mut replay = Replay::lenient(location, &listing, Kinds::All, move |damage| {
            on_damage.lock().push(damage)
        });
        let mut state = TableState {
            version: listing.newest().unwrap_or(-1),
            ..TableState::default()
        };
        let mut files = FileReconciler::default();
        let mut table = crate::delta::TableState::default();
        while let Some(piece) = replay.next().await? {
            state.take_names(location, &piece);
            if let Origin::Commit(version) | Origin::History(version) = piece.origin {
                state.take_commit(location, version, &piece.actions, findings);
            }
            table.take(&piece);
            for action in files.keep(piece) {
                if let Action::Add(add) = action {
                    state.take_file(location, *add, findings);
                }
            }
        }
        damage.lock().drain(..).for_each(|damage| findings.add(finding(damage)));
        for (id, txn) in &table.txns {
            state.take_recorded(id, txn.version);
        }
        state.rows = row_reader(&table);
        state.id = table.metadata.map(|metadata| metadata.id);
        state.bytes = state.files.values().map(|file| file.size).sum();
        Ok(state)
    }

    /// Hands a file's rows to `each` in pieces, until it breaks off: all columns, or those named that the file has.
    pub(crate) async fn read_rows(
        &self,
        location: &TableLocation,
        file: &LiveFile,
        columns: Option<&[&str]>,
        mut each: impl FnMut(&RecordBatch) -> ControlFlow<()>,
    ) -> Result<(), LakeError> {
        let deleted = file.deletion_vector.as_ref();
        let each = |batch| Ok(each(&batch));
        self.rows.read(location, &file.path, deleted, columns, each).await
    }

    /// Whether any version that the log still holds names this path below the table.
    pub(crate) fn names(&self, path: &str) -> bool {
        self.named.contains(&hash(path))
    }

    /// Without a table of commits, the log alone says what was committed.
    pub(crate) fn rely_on_log(&mut self) {
        let evidence = std::mem::take(&mut self.evidence);
        self.commits = evidence.values().filter_map(CommitRecord::of).collect();
    }

    fn take_names(&mut self, location: &TableLocation, piece: &Piece) {
        for action in &piece.actions {
            let path = match action {
                Action::Add(add) => &add.path,
                Action::Remove(remove) => &remove.path,
                Action::Cdc(cdc) => &cdc.path,
                _ => continue,
            };
            if let Ok(path) = location.data_path(path) {
                self.named.insert(hash(&below(location, &path)));
            }
        }
    }

    fn take_file(&mut self, location: &TableLocation, add: Add, findings: &mut Findings) {
        let path = match location.data_path(&add.path) {
            Ok(path) => path,
            Err(why) => return findings.add(Finding::UnreadableFile { path: add.path, why }),
        };
        let file = LiveFile {
            size: add.size.max(0) as u64,
            crc32c: add.tag("crc32c").and_then(checksum),
            stats: add.stats.map(String::into_boxed_str),
            deletion_vector: add.deletion_vector,
            path,
        };
        self.files.insert(below(location, &file.path), file);
    }

    /// What a commit says of itself, against the files that it names.
    fn take_commit(&mut self, location: &TableLocation, version: i64, actions: &[Action], findings: &mut Findings) {
        let info = actions.iter().rev().find_map(|action| match action {
            Action::CommitInfo(info) => Some(&**info),
            _ => None,
        });
        let evidence = CommitEvidence::of(version, info);
        if let (Some(recorded), Some(_)) = (evidence.rows, &evidence.spans) {
            let adds = actions.iter().filter_map(|action| match action {
                Action::Add(add) => add.stats.as_deref(),
                _ => None,
            });
            let found = adds.map(rows_in).sum();
            if recorded != found {
                findings.add(Finding::CommitRows {
                    version,
                    recorded,
                    found,
                });
            }
        }
        self.take_removal(location, version, info, actions);
        self.evidence.insert(version, evidence);
    }

    fn take_removal(&mut self, location: &TableLocation, version: i64, info: Option<&CommitInfo>, actions: &[Action]) {
        let by = info
            .and_then(|info| info.engine_info.as_deref())
            .unwrap_or("an unknown program");
        if by.starts_with(ENGINE) {
            return;
        }
        let file = |path: &str, deletion_vector: &Option<DeletionVector>| {
            let path = location.data_path(path).ok()?;
            let deletion_vector = deletion_vector.clone();
            Some(FileRef { path, deletion_vector })
        };
        let removed = actions.iter().filter_map(|action| match action {
            Action::Remove(remove) if remove.data_change => file(&remove.path, &remove.deletion_vector),
            _ => None,
        });
        let removed: Vec<FileRef> = removed.collect();
        if removed.is_empty() {
            return;
        }
        let added = actions.iter().filter_map(|action| match action {
            Action::Add(add) if add.data_change => file(&add.path, &add.deletion_vector),
            _ => None,
        });
        let operation = info.and_then(|info| info.operation.as_deref()).unwrap_or("a change");
        self.removals.push(Removal {
            version,
            operation: operation.to_owned(),
            by: by.to_owned(),
            removed,
            added: added.collect(),
        });
    }

    /// `<application>/<topic>/<partition>`; ids of other shapes are other people's. A topic's name holds no slash.
    fn take_recorded(&mut self, id: &str, offset: i64) {
        let mut parts = id.rsplitn(3, '/');
        let (partition, topic, application) = (parts.next(), parts.next(), parts.next());
        if let (Some(Ok(partition)), Some(topic), Some(application)) = (partition.map(str::parse), topic, application) {
            let place = TopicPartition::new(topic, partition);
            self.recorded.insert((application.to_owned(), place), offset);
        }
    }
}

/// By the declared columns; as the files have them where the metadata cannot be read, which is a finding of its own.
fn row_reader(table: &crate::delta::TableState) -> RowReader {
    let declared = || {
        let metadata = table.metadata.as_ref()?;
        let schema = serde_json::from_str(&metadata.schema_string).ok()?;
        let mapping = table.protocol.as_ref()?.column_mapping(metadata).ok()?;
        Some(RowReader::new(&schema, mapping))
    };
    declared().unwrap_or_default()
}

fn finding(damage: Damage) -> Finding {
    match damage {
        Damage::MissingCommit { version } => Finding::MissingVersion { version },
        Damage::UnreadableCommit { path, why, .. } | Damage::UnreadableCheckpoint { path, why, .. } => {
            Finding::UnreadableLog { path, why }
        }
    }
}

/// A file's path as findings name it.
fn below(location: &TableLocation, path: &Path) -> String {
    match path.prefix_match(location.path()) {
        Some(parts) => parts.collect::<Path>().to_string(),
        None => path.to_string(),
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// As [`crate::write::upload`] writes it.
fn checksum(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

fn rows_in(stats: &str) -> u64 {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Counted {
        num_records: u64,
    }
    serde_json::from_str(stats).map_or(0, |stats: Counted| stats.num_records)
}
