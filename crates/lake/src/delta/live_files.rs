//! The data files of a table's newest version that may hold what is looked for, found by reading the log over.

use std::ops::ControlFlow;

use arrow_array::RecordBatch;
use futures::TryStreamExt;
use object_store::path::Path;
use serde_json::Value;

use crate::LakeError;
use crate::delta::action::Add;
use crate::delta::data_file::RowReader;
use crate::delta::log::Log;
use crate::delta::schema::ColumnMapping;
use crate::delta::snapshot::Snapshot;

/// A data file of the table's newest version.
pub(crate) struct LiveFile {
    /// As the log names it.
    pub(crate) add: Add,
    /// Within the store.
    pub(crate) path: Path,
}

impl Log {
    /// The files that `may_hold` does not rule out by their statistics; a file without any is never ruled out. As of the
    /// view's version, so refresh first. Holds the files found and nothing else, but reads the whole log from the newest
    /// checkpoint on.
    pub(crate) async fn live_files(
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

    /// Hands the rows of a file that are not deleted to `each` in pieces, with the table's columns, all or those named,
    /// that the file has.
    pub(crate) async fn read_rows(
        &self,
        file: &LiveFile,
        columns: Option<&[&str]>,
        mut each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        // A table with column mapping is not written.
        let rows = RowReader::new(&self.schema()?, ColumnMapping::None);
        let deleted = file.add.deletion_vector.as_ref();
        let each = |batch| each(batch).map(ControlFlow::Continue);
        rows.read(&self.location, &file.path, deleted, columns, each).await
    }
}
