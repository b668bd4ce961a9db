//! Replacing a table's files by others with the same rows: each record stays where it was landed, its columns may change.

use std::sync::Arc;

use arrow_array::types::Date32Type;
use arrow_array::{Array, ArrayRef, Date32Array, RecordBatch, new_null_array};
use arrow_cast::parse::Parser;
use arrow_schema::{DataType, Schema};
use model::EVENT_DATE;
use serde_json::Value;

use crate::delta::action::Action;
use crate::delta::conflict::ReadSet;
use crate::delta::live_files::LiveFile;
use crate::{LakeError, StagedFiles, Table};

/// A file of a table's newest version.
pub struct DataFile(LiveFile);

impl Table {
    /// Whether rows of the table may be replaced, as far as this handle has read the log: refresh first, and ask before
    /// anything is written.
    ///
    /// # Errors
    /// A property of the table forbids it; the error says which, and the way out.
    pub fn check_rewritable(&self) -> Result<(), LakeError> {
        self.log.check_rewritable()
    }

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
    ///
    /// # Errors
    /// The file has values in a column of the table that is not declared: who writes these rows again would lose them.
    pub async fn read(
        &self,
        file: &DataFile,
        mut each: impl FnMut(RecordBatch) -> Result<(), LakeError>,
    ) -> Result<(), LakeError> {
        let day = self.event_date(&file.0)?;
        let read = self
            .log
            .read_rows(&file.0, None, |batch| each(self.complete(&batch, &file.0, day)?));
        read.await
    }

    fn complete(&self, batch: &RecordBatch, file: &LiveFile, day: i32) -> Result<RecordBatch, LakeError> {
        let schema = self.format.schema();
        check_undeclared(self.name(), batch, schema, &file.add.path)?;
        let columns = schema
            .fields()
            .iter()
            .map(|field| match batch.column_by_name(field.name()) {
                // Its value stands in the log.
                _ if field.name() == EVENT_DATE => {
                    Ok(Arc::new(Date32Array::from_value(day, batch.num_rows())) as ArrayRef)
                }
                Some(column) => as_declared(self.name(), column, field.data_type()),
                None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            });
        let columns = columns.collect::<Result<Vec<_>, LakeError>>()?;
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| {
            let why = format!("{} has other columns: {error}", file.add.path);
            LakeError::unusable(self.name(), why)
        })
    }

    fn event_date(&self, file: &LiveFile) -> Result<i32, LakeError> {
        let value = file.add.partition_values.get(EVENT_DATE).and_then(Option::as_deref);
        value.and_then(Date32Type::parse).ok_or_else(|| {
            let why = format!(
                "{} is of the partition {EVENT_DATE}={}, which is no date",
                file.add.path,
                value.unwrap_or("null")
            );
            LakeError::unusable(self.name(), why)
        })
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

/// Columns that the writer does not know have no values that it would lose.
pub(crate) fn check_undeclared(
    table: &str,
    batch: &RecordBatch,
    declared: &Schema,
    path: &str,
) -> Result<(), LakeError> {
    let schema = batch.schema_ref();
    let has_values = |(at, name): &(usize, &str)| {
        declared.index_of(name).is_err() && batch.column(*at).logical_null_count() < batch.num_rows()
    };
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let lost: Vec<String> = names
        .enumerate()
        .filter(has_values)
        .map(|(_, name)| format!("`{name}`"))
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(LakeError::unusable(
        table,
        format!(
            "{path} has values in {}, which is not declared: to write its rows again would lose them. Declare the \
             column, or empty it",
            lost.join(", ")
        ),
    ))
}

/// A column in the declared type, where they differ in what is noted about nested fields alone: a file has their ids there.
fn as_declared(table: &str, column: &ArrayRef, declared: &DataType) -> Result<ArrayRef, LakeError> {
    if column.data_type() == declared || !column.data_type().equals_datatype(declared) {
        return Ok(Arc::clone(column));
    }
    arrow_cast::cast(column, declared)
        .map_err(|error| LakeError::unusable(table, format!("a file has other columns: {error}")))
}
