//! What became of a table, version by version: what its commits say of themselves, and how many rows each version has.

use futures::TryStreamExt;
use serde::Serialize;

use crate::LakeError;
use crate::delta::action::{Action, Add, parse_lines};
use crate::delta::{DeletionVector, Snapshot, TableLocation};

/// One version that can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    pub version: i64,
    /// Microseconds since the epoch: what reading a table as of a time goes by.
    pub committed_at_us: i64,
    /// As the writer named it, `WRITE` for example.
    pub operation: Option<String>,
    /// The program that committed, as it named itself.
    pub engine: Option<String>,
    /// Rows of the table at this version; `None` where its files do not all say how many they have.
    pub rows: Option<u64>,
    /// Rows in the files that the commit added and removed; a file written again counts as both. `None` as above.
    pub rows_added: Option<u64>,
    pub rows_removed: Option<u64>,
    pub files_added: u64,
    pub files_removed: u64,
}

/// The newest versions that can be read, newest first, at most so many.
///
/// Reads their commits, and the newest version's files; also an older version's where a commit does not say how many rows
/// it took away.
///
/// # Errors
/// [`LakeError::NoTable`]; the store's; [`LakeError::Unusable`] for a log that is damaged.
pub async fn history(location: &TableLocation, limit: usize) -> Result<Vec<HistoryEntry>, LakeError> {
    let listing = location.list().await?;
    if listing.newest().is_none() {
        let table = location.table().to_owned();
        return Err(LakeError::NoTable { table });
    }
    let mut entries = Vec::new();
    // Rows of the version that comes next, where the one after it has told.
    let mut told = None;
    for commit in listing.readable().iter().rev().take(limit) {
        let Some(body) = location.read_commit(commit.version).await? else {
            // Cleaned up since it was listed.
            break;
        };
        let actions = parse_lines(&body).map_err(|error| {
            LakeError::unusable(
                location.table(),
                format!("version {} is damaged: {error}", commit.version),
            )
        })?;
        let rows = match told {
            Some(rows) => rows,
            None => rows_at(location, commit.version).await?,
        };
        let mut entry = summary(&actions);
        (entry.version, entry.committed_at_us, entry.rows) = (commit.version, commit.committed_at_us, rows);
        told = before(&entry).map(Some);
        entries.push(entry);
    }
    Ok(entries)
}

/// Rows before a commit, where it tells.
fn before(entry: &HistoryEntry) -> Option<u64> {
    (entry.rows? + entry.rows_removed?).checked_sub(entry.rows_added?)
}

async fn rows_at(location: &TableLocation, version: i64) -> Result<Option<u64>, LakeError> {
    let snapshot = Snapshot::load(location, Some(version)).await?;
    let mut files = snapshot.file_batches();
    let mut rows = Some(0);
    while let Some(adds) = files.try_next().await? {
        let of_batch = sum(adds.iter().map(rows_of_add));
        rows = rows.zip(of_batch).map(|(rows, more)| rows + more);
    }
    Ok(rows)
}

/// What a commit says, without version, time and the table's rows.
fn summary(actions: &[Action]) -> HistoryEntry {
    let info = actions.iter().find_map(|action| match action {
        Action::CommitInfo(info) => Some(info),
        _ => None,
    });
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Add(add) => added.push(rows_of_add(add)),
            Action::Remove(remove) => removed.push(rows_of(remove.stats.as_deref(), remove.deletion_vector.as_ref())),
            _ => {}
        }
    }
    HistoryEntry {
        version: 0,
        committed_at_us: 0,
        operation: info.and_then(|info| info.operation.clone()),
        engine: info.and_then(|info| info.engine_info.clone()),
        rows: None,
        files_added: added.len() as u64,
        files_removed: removed.len() as u64,
        rows_added: sum(added.into_iter()),
        rows_removed: sum(removed.into_iter()),
    }
}

fn sum(mut rows: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    rows.try_fold(0, |sum, rows| Some(sum + rows?))
}

fn rows_of_add(add: &Add) -> Option<u64> {
    rows_of(add.stats.as_deref(), add.deletion_vector.as_ref())
}

/// Rows of a file by its statistics, without deleted ones.
fn rows_of(stats: Option<&str>, deleted: Option<&DeletionVector>) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        num_records: u64,
    }
    let stats: Stats = serde_json::from_str(stats?).ok()?;
    let deleted = deleted.map_or(0, |vector| vector.cardinality.unsigned_abs());
    stats.num_records.checked_sub(deleted)
}
