//! The data files of a table's newest version that may hold what is looked for, found by reading the log over.

use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use serde_json::Value;

use crate::LakeError;
use crate::delta::action::Add;
use crate::delta::log::Log;
use crate::delta::snapshot::Snapshot;
use crate::store::parquet::StoreFile;

/// A data file of the table's newest version.
pub(crate) struct LiveFile {
    /// As the log names it.
    pub(crate) add: Add,
    /// Within the store.
    pub(crate) path: Path,
}

impl Log {
    /// As [`Log::named_files`], but refuses a file of which another writer has deleted rows.
    pub(crate) async fn live_files(
        &self,
        may_hold: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<Vec<LiveFile>, LakeError> {
        let files = self.named_files(may_hold).await?;
        if let Some(file) = files.iter().find(|file| file.add.deletion_vector.is_some()) {
            return Err(LakeError::unusable(
                &self.spec.name,
                format!("file {} has a deletion vector, which we do not write", file.add.path),
            ));
        }
        Ok(files)
    }

    /// The files that `may_hold` does not rule out by their statistics; a file without any is never ruled out. As of the
    /// view's version, so refresh first. Holds the files found and nothing else, but reads the whole log from the newest
    /// checkpoint on.
    pub(crate) async fn named_files(
        &self,
        may_hold: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<Vec<LiveFile>, LakeError> {
        let is_wanted = |add: &Add| {
            let stats = add
                .stats
                .as_deref()
                .and_then(|text| serde_json::from_str::<Value>(text).ok());
            stats.is_none_or(|stats| may_hold(&stats))
        };
        let snapshot = Snapshot::load(&self.location, Some(self.version())).await?;
        let adds: Vec<Add> = snapshot.files(is_wanted).try_collect().await?;
        adds.into_iter().map(|add| self.live_file(add)).collect()
    }

    fn live_file(&self, add: Add) -> Result<LiveFile, LakeError> {
        let path = self.location.data_path(&add.path);
        let path = path.map_err(|why| LakeError::unusable(&self.spec.name, why))?;
        Ok(LiveFile { add, path })
    }

    /// Hands a Parquet file's columns, all or those named, to `each` in pieces.
    pub(crate) async fn read_columns(
        &self,
        path: &Path,
        columns: Option<&[&str]>,
        mut each: impl FnMut(arrow_array::RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet(&self.spec.name, "read", error);
        let mut builder = StoreFile::new(self.location.store().clone(), path.clone())
            .open()
            .await
            .map_err(failed)?;
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
