//! A table's log as a checker reads it: everything that is there, also around a hole that stops a reader.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StructArray};
use futures::TryStreamExt;
use model::{Span, TopicPartition};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
#[allow(deprecated, reason = "its successor is to write the same by hand")]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use serde::Deserialize;

use super::report::{Finding, Findings};
use crate::{LakeError, Root};

/// A file that the newest version names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveFile {
    pub(crate) size: u64,
    /// Delta's statistics, JSON text.
    pub(crate) stats: Option<Box<str>>,
    pub(crate) crc32c: Option<u32>,
    pub(crate) partition_values: BTreeMap<String, Option<String>>,
    /// Rows deleted without rewriting the file, by a foreign writer.
    pub(crate) has_deletion_vector: bool,
}

/// What a commit of ours says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    pub(crate) version: i64,
    /// Records that Kafka gave in these spans: rows and letters. `None` where a writer did not say.
    pub(crate) records: Option<u64>,
    pub(crate) spans: Vec<(TopicPartition, Span)>,
}

#[derive(Debug, Default)]
pub(crate) struct TableState {
    pub(crate) version: i64,
    /// By path below the table.
    pub(crate) files: BTreeMap<String, LiveFile>,
    /// By application and topic partition: the recorded offset.
    pub(crate) recorded: BTreeMap<(String, TopicPartition), i64>,
    pub(crate) commits: Vec<CommitRecord>,
    /// Hashes of every path that the log still names, live or removed.
    named: HashSet<u64>,
    pub(crate) bytes: u64,
}

impl TableState {
    /// Reads the newest checkpoint and every commit that is there.
    pub(crate) async fn read(root: &Root, table: &str, findings: &mut Findings) -> Result<TableState, LakeError> {
        let log = root.table_path(table).join("_delta_log");
        let listing = root.location_of(table).list().await?;
        let mut state = TableState {
            version: -1,
            ..TableState::default()
        };
        let versions: Vec<i64> = listing.commits().iter().map(|commit| commit.version).collect();
        let checkpoint = listing.checkpoints().last();
        let checkpoint = checkpoint.map(|checkpoint| (checkpoint.version, &checkpoint.files));
        let base = checkpoint.map_or(-1, |(version, _)| version);
        if let Some((version, paths)) = checkpoint {
            state.version = version;
            for path in paths {
                if let Err(error) = state.read_checkpoint(root, path).await {
                    if error.is_retryable() {
                        return Err(error);
                    }
                    findings.add(Finding::UnreadableLog {
                        path: path.to_string(),
                        why: crate::error::describe(&error),
                    });
                }
            }
        }
        // What lies before the oldest commit was cleaned up, unless no checkpoint sums it up.
        let first = versions.first().copied().unwrap_or(base + 1);
        let expected_first = if base < 0 { 0 } else { first.min(base + 1) };
        let newest = versions.last().copied().unwrap_or(base).max(base);
        let there: HashSet<i64> = versions.iter().copied().collect();
        for version in expected_first..=newest {
            if !there.contains(&version) {
                findings.add(Finding::MissingVersion { version });
            }
        }
        for version in versions {
            let path = log.clone().join(format!("{version:020}.json"));
            let read = async { root.store().get(&path).await?.bytes().await };
            let bytes = match read.await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => {
                    findings.add(Finding::MissingVersion { version });
                    continue;
                }
                Err(error) => return Err(LakeError::store("read", path, error)),
            };
            if let Err(why) = state.apply(version, version > base, &bytes, findings) {
                findings.add(Finding::UnreadableLog {
                    path: path.to_string(),
                    why,
                });
            }
        }
        state.version = newest;
        state.bytes = state.files.values().map(|file| file.size).sum();
        Ok(state)
    }

    /// Whether any version that the log still holds names this path.
    pub(crate) fn names(&self, path: &str) -> bool {
        self.named.contains(&hash(path))
    }

    /// One commit. Those below the checkpoint are in the state already; they tell what they committed.
    fn apply(&mut self, version: i64, newer: bool, bytes: &[u8], findings: &mut Findings) -> Result<(), String> {
        let mut info = CommitInfo::default();
        let (mut rows, mut txns) = (0, Vec::new());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let action: Action = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            info = action.commit_info.unwrap_or(info);
            txns.extend(action.txn);
            if let Some(add) = action.add {
                let path = decoded(&add.path);
                let stats: Option<Counted> = add.stats.as_deref().and_then(|text| serde_json::from_str(text).ok());
                rows += stats.map_or(0, |stats| stats.num_records);
                self.named.insert(hash(&path));
                if newer {
                    let file = LiveFile {
                        size: add.size,
                        crc32c: add
                            .tags
                            .as_ref()
                            .and_then(|tags| checksum(tags.get("crc32c")?.as_deref()?)),
                        stats: add.stats.map(String::into_boxed_str),
                        partition_values: add.partition_values,
                        has_deletion_vector: add.deletion_vector.is_some(),
                    };
                    self.files.insert(path, file);
                }
            }
            if let Some(remove) = action.remove {
                let path = decoded(&remove.path);
                self.named.insert(hash(&path));
                if newer {
                    self.files.remove(&path);
                }
            }
        }
        if newer {
            for txn in txns {
                self.record(&txn.app_id, txn.version);
            }
        }
        let recorded = info
            .operation_metrics
            .and_then(|metrics| metrics.num_output_rows.parse::<u64>().ok());
        if let Some(spans) = info.spans {
            if let Some(recorded) = recorded.filter(|recorded| *recorded != rows) {
                findings.add(Finding::CommitRows {
                    version,
                    recorded,
                    found: rows,
                });
            }
            let spans = spans.into_iter().filter(|span| span.from <= span.to).map(|span| {
                (
                    TopicPartition::new(span.topic, span.partition),
                    Span::new(span.from, span.to),
                )
            });
            self.commits.push(CommitRecord {
                version,
                records: info.records,
                spans: spans.collect(),
            });
        }
        Ok(())
    }

    /// `<application>/<topic>/<partition>`; ids of other shapes are other people's. A topic's name holds no slash.
    fn record(&mut self, id: &str, offset: i64) {
        let mut parts = id.rsplitn(3, '/');
        let (partition, topic, application) = (parts.next(), parts.next(), parts.next());
        if let (Some(Ok(partition)), Some(topic), Some(application)) = (partition.map(str::parse), topic, application) {
            let place = TopicPartition::new(topic, partition);
            self.recorded.insert((application.to_owned(), place), offset);
        }
    }

    async fn read_checkpoint(&mut self, root: &Root, path: &Path) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet("its log", "read the checkpoint's", error);
        #[allow(deprecated, reason = "its successor is to write the same by hand")]
        let reader = ParquetObjectReader::new(root.store().clone(), path.clone());
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), ["txn", "add", "remove"]);
        let mut batches = builder.with_projection(columns).build().map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            self.take_checkpoint(&batch);
        }
        Ok(())
    }

    fn take_checkpoint(&mut self, batch: &RecordBatch) {
        let part = |name: &str| batch.column_by_name(name).and_then(|column| column.as_struct_opt());
        if let Some(txn) = part("txn") {
            for row in 0..txn.len() {
                if let (Some(id), Some(offset)) = (text(txn, "appId", row), whole(txn, "version", row)) {
                    self.record(&id, offset);
                }
            }
        }
        if let Some(remove) = part("remove") {
            for row in 0..remove.len() {
                if let Some(path) = text(remove, "path", row) {
                    self.named.insert(hash(&decoded(&path)));
                }
            }
        }
        let Some(add) = part("add") else { return };
        for row in 0..add.len() {
            let (Some(path), Some(size)) = (text(add, "path", row), whole(add, "size", row)) else {
                continue;
            };
            let path = decoded(&path);
            let tags = map(add, "tags", row);
            let file = LiveFile {
                size: size.max(0) as u64,
                stats: text(add, "stats", row).map(String::into_boxed_str),
                crc32c: tags.get("crc32c").and_then(|text| checksum(text.as_deref()?)),
                partition_values: map(add, "partitionValues", row),
                has_deletion_vector: add
                    .column_by_name("deletionVector")
                    .is_some_and(|column| column.is_valid(row)),
            };
            self.named.insert(hash(&path));
            self.files.insert(path, file);
        }
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Paths are percent-encoded in the log (PROTOCOL.md, "Add File").
fn decoded(path: &str) -> String {
    Path::from_url_path(path).map_or_else(|_| path.to_owned(), String::from)
}

/// As [`crate::write::upload`] writes it.
fn checksum(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

fn field<'a>(of: &'a StructArray, name: &str, row: usize) -> Option<&'a ArrayRef> {
    let column = of.column_by_name(name)?;
    (of.is_valid(row) && column.is_valid(row)).then_some(column)
}

fn text(of: &StructArray, name: &str, row: usize) -> Option<String> {
    let column = field(of, name, row)?;
    Some(column.as_string_opt::<i32>()?.value(row).to_owned())
}

fn whole(of: &StructArray, name: &str, row: usize) -> Option<i64> {
    Some(field(of, name, row)?.as_primitive_opt::<Int64Type>()?.value(row))
}

fn map(of: &StructArray, name: &str, row: usize) -> BTreeMap<String, Option<String>> {
    let entries = field(of, name, row).and_then(|column| Some(column.as_map_opt()?.value(row)));
    let Some(entries) = entries else {
        return BTreeMap::new();
    };
    let keys = entries.column(0).as_string_opt::<i32>();
    let values = entries.column(1).as_string_opt::<i32>();
    let (Some(keys), Some(values)) = (keys, values) else {
        return BTreeMap::new();
    };
    (0..entries.len())
        .map(|at| {
            let value = values.is_valid(at).then(|| values.value(at).to_owned());
            (keys.value(at).to_owned(), value)
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    add: Option<Add>,
    remove: Option<Remove>,
    txn: Option<Txn>,
    commit_info: Option<CommitInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    size: u64,
    #[serde(default)]
    partition_values: BTreeMap<String, Option<String>>,
    stats: Option<String>,
    tags: Option<BTreeMap<String, Option<String>>>,
    deletion_vector: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Remove {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct CommitInfo {
    operation_metrics: Option<Metrics>,
    spans: Option<Vec<SpanRecord>>,
    records: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    #[serde(default)]
    num_output_rows: String,
}

#[derive(Deserialize)]
struct SpanRecord {
    topic: String,
    partition: i32,
    from: i64,
    to: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    num_records: u64,
}
