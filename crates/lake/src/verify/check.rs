//! A table's files against its log, before its offsets are looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use metrics::counter;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
use roaring::RoaringTreemap;

use super::contents::check_file;
use super::digest::{Digest, each_dead_letter, hash_places};
use super::finding::Finding;
use super::places::{Kind, Places, Summary};
use super::report::Findings;
use super::state::{LiveFile, TableState};
use crate::delta::data_file::RowReader;
use crate::error::describe;
use crate::{LakeError, Root};

/// Files that lie in memory at the same time.
const FILES_AT_ONCE: usize = 2;

/// A table's log and files.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) state: Arc<TableState>,
    /// Of the files that can be read.
    pub(super) summaries: BTreeMap<String, Summary>,
    pub(super) findings: Findings,
    /// Files whose bytes were compared with a checksum.
    pub(super) checksums: u64,
    /// By topic, where rows tell it, and partition.
    pub(super) digests: BTreeMap<(Option<String>, i32), Digest>,
}

/// Every file of a table. `progress` hears of bytes read and bytes to read.
pub(super) async fn check_table(
    root: &Root,
    name: &str,
    state: Arc<TableState>,
    mut findings: Findings,
    digests: bool,
    progress: &(dyn Fn(&str, u64, u64) + Send + Sync),
) -> Result<Checked, LakeError> {
    let location = root.location_of(name);
    let kind = Kind::of(name);
    let (mut summaries, mut sums) = (BTreeMap::new(), BTreeMap::new());
    let (mut checksums, mut done) = (0, 0);
    progress(name, 0, state.bytes);
    let files = stream::iter(&state.files).map(|(path, file)| {
        let (location, rows) = (&location, &state.rows);
        async move {
            let dead = async {
                match &file.deletion_vector {
                    Some(vector) => vector.read(location).await.map(Some),
                    None => Ok(None),
                }
            };
            let (dead, damage) = match dead.await {
                Ok(dead) => (dead, None),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => (None, Some(describe(&error))),
            };
            let read = async { root.store().get(&file.path).await?.bytes().await };
            let bytes = match read.await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok((path, file, None)),
                Err(error) => return Err(LakeError::store("read", file.path.clone(), error)),
            };
            let (of, logged, rows) = (path.clone(), file.clone(), rows.clone());
            let check = move || check_one(&of, &logged, bytes, dead, &rows, kind, digests);
            let checked = tokio::task::spawn_blocking(check);
            let mut checked = checked
                .await
                .map_err(|error| LakeError::parquet(path, "check", error))?;
            checked.is_readable &= damage.is_none();
            checked.findings.extend(damage.map(|why| Finding::UnreadableFile {
                path: path.clone(),
                why,
            }));
            Ok((path, file, Some(checked)))
        }
    });
    let mut files = files.buffered(FILES_AT_ONCE);
    while let Some((path, file, checked)) = files.try_next().await? {
        done += file.size;
        progress(name, done, state.bytes);
        counter!("smartcity_verify_bytes_total", "table" => name.to_owned()).increment(file.size);
        let Some(checked) = checked else {
            findings.add(Finding::MissingFile { path: path.clone() });
            continue;
        };
        checksums += u64::from(file.crc32c.is_some());
        let is_readable = checked.is_readable;
        checked.findings.into_iter().for_each(|finding| findings.add(finding));
        for (place, digest) in checked.digests {
            sums.entry(place).or_insert_with(Digest::default).merge(&digest);
        }
        if is_readable {
            summaries.insert(path.clone(), checked.summary);
        }
    }
    drop(files);
    Ok(Checked {
        state,
        summaries,
        findings,
        checksums,
        digests: sums,
    })
}

struct CheckedFile {
    summary: Summary,
    is_readable: bool,
    findings: Vec<Finding>,
    digests: BTreeMap<(Option<String>, i32), Digest>,
}

/// One file, on a thread of its own.
fn check_one(
    path: &str,
    logged: &LiveFile,
    bytes: bytes::Bytes,
    deleted: Option<RoaringTreemap>,
    rows: &RowReader,
    kind: Kind,
    digest: bool,
) -> CheckedFile {
    let mut summary = Summary::default();
    let mut digests: BTreeMap<(Option<String>, i32), Digest> = BTreeMap::new();
    let (rows, findings) = check_file(path, logged, bytes, deleted, rows, |batch| {
        let Some(places) = Places::of(batch, kind) else { return };
        places.iter().for_each(|place| summary.add(place));
        match kind {
            Kind::Rows if digest => hash_places(batch, false, |place, row| {
                let key = (place.topic.map(str::to_owned), place.partition);
                digests.entry(key).or_default().row(row.offset, row.hash);
            }),
            Kind::DeadLetters if digest => each_dead_letter(batch, |place, hash| {
                let key = (place.topic.map(str::to_owned), place.partition);
                digests
                    .entry(key)
                    .or_default()
                    .letter(place.offset, place.element, hash);
            }),
            _ => {}
        }
    });
    summary.rows = rows;
    let is_unreadable = |finding: &Finding| matches!(finding, Finding::UnreadableFile { .. });
    CheckedFile {
        summary,
        is_readable: !findings.iter().any(is_unreadable),
        findings,
        digests,
    }
}

/// Files below the table that no version names. A writer's upload is one for as long as its commit is on the way.
pub(super) async fn find_orphans(
    root: &Root,
    name: &str,
    state: &TableState,
    findings: &mut Findings,
) -> Result<(), LakeError> {
    let table = root.table_path(name);
    let failed = |error| LakeError::store("list", table.clone(), error);
    let mut listed = root.store().list(Some(&table));
    let (mut files, mut bytes, mut example) = (0, 0, None);
    while let Some(object) = listed.try_next().await.map_err(failed)? {
        let Some(parts) = object.location.prefix_match(&table) else {
            continue;
        };
        let path = Path::from_iter(parts).to_string();
        if is_no_data(&path) || state.names(&path) {
            continue;
        }
        files += 1;
        bytes += object.size;
        example.get_or_insert(path);
    }
    if let Some(example) = example {
        findings.add(Finding::Orphans { files, bytes, example });
    }
    Ok(())
}

/// The log, and what no reader takes for data: hidden files (checksums of Hadoop's local file system, manifests of
/// symbolic links), and deletion vectors, which actions do not name by their path. Folders of partitions are none.
fn is_no_data(path: &str) -> bool {
    let is_hidden = |name: &str| name.starts_with(['.', '_']) && !name.contains('=');
    let name = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(is_hidden) || name.starts_with("deletion_vector_")
}
