//! The data files of a table's newest version that may hold what is looked for, found by reading the log over.

use std::collections::{BTreeSet, HashMap};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::ProjectionMask;
#[allow(deprecated, reason = "its successor is to write the same by hand")]
use parquet::arrow::async_reader::ParquetObjectReader;
use serde::Deserialize;
use serde_json::Value;

use crate::LakeError;
use crate::delta::log::Log;

#[derive(Deserialize)]
struct Action {
    add: Option<AddAction>,
    remove: Option<RemoveAction>,
}

#[derive(Deserialize)]
struct AddAction {
    path: String,
    stats: Option<String>,
}

#[derive(Deserialize)]
struct RemoveAction {
    path: String,
}

/// A data file of the table's newest version.
pub(crate) struct LiveFile {
    /// As the log names it.
    pub(crate) logged: String,
    /// Within the store.
    pub(crate) path: Path,
}

impl Log {
    /// The files that `may_hold` does not rule out by their statistics; a file without any
    /// is never ruled out. As of the view's version, so refresh first. Holds the files found and nothing else, but reads
    /// the whole log from the newest checkpoint on.
    pub(crate) async fn live_files(&self, may_hold: impl Fn(&Value) -> bool) -> Result<Vec<LiveFile>, LakeError> {
        let is_wanted = |stats: Option<&str>| {
            let stats = stats.and_then(|text| serde_json::from_str::<Value>(text).ok());
            stats.is_none_or(|stats| may_hold(&stats))
        };
        let listing = self.list(None).await?;
        let mut found = BTreeSet::new();
        let mut version = -1;
        if let Some((checkpoint, parts)) = listing.newest_checkpoint_until(self.version()) {
            for part in parts {
                self.read_adds(part, &is_wanted, &mut found).await?;
            }
            version = checkpoint;
        }
        while version < self.version() {
            version += 1;
            let bytes = self.read_commit(version).await?.ok_or_else(|| {
                LakeError::unusable(&self.spec.name, format!("version {version} is missing in its log"))
            })?;
            // A commit may remove and add the same path, in any order; what it adds stays.
            let mut added = HashMap::new();
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let action: Action = serde_json::from_slice(line).map_err(|error| {
                    LakeError::unusable(&self.spec.name, format!("{}: {error}", self.commit_path(version)))
                })?;
                if let Some(remove) = action.remove {
                    found.remove(&remove.path);
                }
                added.extend(action.add.map(|add| (add.path, add.stats)));
            }
            let wanted = added.into_iter().filter(|(_, stats)| is_wanted(stats.as_deref()));
            found.extend(wanted.map(|(path, _)| path));
        }
        let file = |logged: String| {
            let path = self.data_path(&logged)?;
            Ok(LiveFile { logged, path })
        };
        found.into_iter().map(file).collect()
    }

    /// Where a path of the log lies in the store; the log holds them as URLs relative to the table.
    fn data_path(&self, logged: &str) -> Result<Path, LakeError> {
        let below = Path::from_url_path(logged).ok().filter(|_| !logged.contains("://"));
        let below = below.ok_or_else(|| {
            LakeError::unusable(&self.spec.name, format!("its log names a file outside of it: {logged}"))
        })?;
        Ok(Path::from_iter(self.path.parts().chain(below.parts())))
    }

    async fn read_adds(
        &self,
        path: &Path,
        is_wanted: &impl Fn(Option<&str>) -> bool,
        found: &mut BTreeSet<String>,
    ) -> Result<(), LakeError> {
        self.read_columns(path, Some(&["add.path", "add.stats"]), |batch| {
            let wanted = adds_of(&batch).into_iter().filter(|(_, stats)| is_wanted(*stats));
            found.extend(wanted.map(|(path, _)| path.to_owned()));
            Ok(())
        })
        .await
    }

    /// Hands a Parquet file's columns, all or those named, to `each` in pieces.
    pub(crate) async fn read_columns(
        &self,
        path: &Path,
        columns: Option<&[&str]>,
        mut each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet(&self.spec.name, "read", error);
        #[allow(deprecated, reason = "its successor is to write the same by hand")]
        let reader = ParquetObjectReader::new(self.store.clone(), path.clone());
        let mut builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
        if let Some(columns) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        let mut batches = builder.build().map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            each(batch)?;
        }
        Ok(())
    }
}

/// Path and statistics of every `add` in a piece of a checkpoint.
fn adds_of(batch: &RecordBatch) -> Vec<(&str, Option<&str>)> {
    let Some(add) = batch.column_by_name("add").and_then(|column| column.as_struct_opt()) else {
        return Vec::new();
    };
    let text = |name| {
        add.column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>())
    };
    let (Some(paths), stats) = (text("path"), text("stats")) else {
        return Vec::new();
    };
    let filled = (0..add.len()).filter(|row| add.is_valid(*row) && paths.is_valid(*row));
    filled
        .map(|row| {
            let stats = stats.filter(|stats| stats.is_valid(row)).map(|stats| stats.value(row));
            (paths.value(row), stats)
        })
        .collect()
}
