//! Replacing a table's files by others with the same rows: each record stays where it was landed, its columns may change.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, Date32Array, RecordBatch, new_null_array};
use arrow_schema::DataType;
use model::{EVENT_DATE, event_time};
use serde_json::Value;

use crate::delta::action::Action;
use crate::delta::conflict::ReadSet;
use crate::delta::live_files::LiveFile;
use crate::{LakeError, StagedFiles, Table};

/// A file of a table's newest version.
pub struct DataFile(LiveFile);

impl Table {
    /// The files in which a column has values, as of the version this handle has seen: refresh first. Those without
    /// statistics are among them.
    pub async fn files_with(&self, column: &str) -> Result<Vec<DataFile>, LakeError> {
        let has_values = |stats: &Value| {
            let (rows, nulls) = (stats["numRecords"].as_u64(), stats["nullCount"][column].as_u64());
            rows.is_none() || nulls.is_none() || nulls < rows
        };
        let files = self.log.live_files(has_values).await?;
        Ok(files.into_iter().map(DataFile).collect())
    }

    /// Hands a file's rows to `each` in pieces, in the order of [`model::Stream::arrow_schema`]. Columns that were declared
    /// after it was written are null.
    pub async fn read(
        &self,
        file: &DataFile,
        mut each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let read = self
            .log
            .read_columns(&file.0.path, None, |batch| each(self.complete(&batch)?));
        read.await
    }

    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, LakeError> {
        let schema = self.format.schema();
        let columns = schema
            .fields()
            .iter()
            .map(|field| match batch.column_by_name(field.name()) {
                Some(column) => as_declared(self.name(), column, field.data_type()),
                // Its value stands in the log; this is where it came from.
                None if field.name() == EVENT_DATE => self.event_date(batch),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(schema), columns)
            .map_err(|error| LakeError::unusable(self.name(), format!("a file has other columns: {error}")))
    }

    fn event_date(&self, batch: &RecordBatch) -> Result<ArrayRef, LakeError> {
        let times = batch
            .column_by_name(&self.event_time)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let times =
            times.ok_or_else(|| LakeError::unusable(self.name(), format!("a file has no `{}`", self.event_time)))?;
        let days: Date32Array = times.values().iter().map(|us| Some(event_time::days(*us))).collect();
        Ok(Arc::new(days))
    }

    /// Puts other files, which must hold the same records, in the place of one. `None` when that is gone since
    /// `read_version`, the version that [`Table::files_with`] saw.
    ///
    /// After an error nobody knows whether it was replaced: ask for the files again.
    pub async fn replace(
        &self,
        file: &DataFile,
        by: &StagedFiles,
        read_version: i64,
        operation: &str,
    ) -> Result<Option<i64>, LakeError> {
        let id = self.commit_id(std::slice::from_ref(by));
        let now_ms = self.log.clock.now_us() / 1000;
        let mut actions = vec![
            Action::CommitInfo(Box::new(self.log.commit_info(operation, &id, Some(read_version)))),
            Action::Remove(Box::new(file.0.add.to_remove(now_ms, true))),
        ];
        actions.extend(by.adds().map(|add| Action::Add(Box::new(add.clone()))));
        let read = ReadSet {
            removed_files: [file.0.add.key()].into(),
            ..ReadSet::default()
        };
        self.log.commit_prepared(read_version, &id, &actions, &read).await
    }
}

/// A column in the declared type, where they differ in what is noted about nested fields alone: a file has their ids there.
fn as_declared(table: &str, column: &ArrayRef, declared: &DataType) -> Result<ArrayRef, LakeError> {
    if column.data_type() == declared || !column.data_type().equals_datatype(declared) {
        return Ok(Arc::clone(column));
    }
    arrow_cast::cast(column, declared)
        .map_err(|error| LakeError::unusable(table, format!("a file has other columns: {error}")))
}
