//! The rows of a data file as a reader of the table sees them, in whatever physical form a writer gave them.
//!
//! Delta allows several: timestamps of 96 bits or in milliseconds, a schema hint for another Arrow text type, rows that a
//! deletion vector deletes. Values are what is compared, so the hint is not looked at, timestamps become microseconds, and
//! deleted rows are left out.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use super::state::LiveFile;
use crate::LakeError;
use crate::delta::TableLocation;
use crate::store::parquet::StoreFile;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Hands a file's rows to `each` in pieces, until it breaks off: all columns, or those named that the file has.
pub(super) async fn read_rows(
    location: &TableLocation,
    file: &LiveFile,
    columns: Option<&[&str]>,
    mut each: impl FnMut(&RecordBatch) -> ControlFlow<()>,
) -> Result<(), LakeError> {
    let failed = |error: ParquetError| LakeError::parquet(location.table(), "read", error);
    let wrong = |error: ArrowError| LakeError::parquet(location.table(), "read", error);
    let mut rows = Survivors::new(deleted(location, file).await?);
    let mut reader = StoreFile::new(Arc::clone(location.store()), file.path.clone());
    let metadata = ArrowReaderMetadata::load_async(&mut reader, options())
        .await
        .map_err(failed)?;
    let metadata = with_wide_timestamps(metadata).map_err(failed)?;
    let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata).with_batch_size(BATCH_ROWS);
    if let Some(columns) = columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    let mut batches = builder.build().map_err(failed)?;
    while let Some(batch) = batches.try_next().await.map_err(failed)? {
        let batch = rows.of(&in_microseconds(batch).map_err(wrong)?).map_err(wrong)?;
        if each(&batch).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The positions of a file's deleted rows.
pub(super) async fn deleted(location: &TableLocation, file: &LiveFile) -> Result<Option<RoaringTreemap>, LakeError> {
    match &file.deletion_vector {
        Some(vector) => Ok(Some(vector.read(location).await?)),
        None => Ok(None),
    }
}

/// A file's batches, deleted rows included.
pub(super) fn decode(bytes: Bytes) -> Result<ParquetRecordBatchReader, ParquetError> {
    let metadata = with_wide_timestamps(ArrowReaderMetadata::load(&bytes, options())?)?;
    ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
        .with_batch_size(BATCH_ROWS)
        .build()
}

/// Leaves out deleted rows of batches that come in the file's order.
pub(super) struct Survivors {
    deleted: Option<RoaringTreemap>,
    /// Position of the next row.
    next: u64,
}

impl Survivors {
    pub(super) fn new(deleted: Option<RoaringTreemap>) -> Self {
        Self { deleted, next: 0 }
    }

    pub(super) fn of(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let first = self.next;
        self.next += batch.num_rows() as u64;
        let Some(deleted) = &self.deleted else {
            return Ok(batch.clone());
        };
        let stays: BooleanArray = (first..self.next).map(|row| Some(!deleted.contains(row))).collect();
        filter_record_batch(batch, &stays)
    }
}

fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Timestamps of 96 bits hold days of the Julian calendar and nanoseconds, more than nanoseconds since 1970 can.
fn with_wide_timestamps(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let descriptor = metadata.parquet_schema();
    if !descriptor
        .columns()
        .iter()
        .any(|column| column.physical_type() == PhysicalType::INT96)
    {
        return Ok(metadata);
    }
    let schema = widened(metadata.schema(), descriptor);
    let options = ArrowReaderOptions::new().with_schema(schema);
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

fn widened(schema: &SchemaRef, descriptor: &SchemaDescriptor) -> SchemaRef {
    let is_wide = |field: &Field| {
        let mut columns = descriptor.columns().iter();
        columns.any(|column| {
            column.physical_type() == PhysicalType::INT96 && column.path().parts() == [field.name().as_str()]
        })
    };
    let fields = schema.fields().iter().map(|field| match is_wide(field) {
        true => Arc::new(field.as_ref().clone().with_data_type(microseconds())),
        false => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn microseconds() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Timestamps of other units become those that the table declares.
pub(super) fn in_microseconds(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let is_other =
        |data_type: &DataType| matches!(data_type, DataType::Timestamp(unit, _) if *unit != TimeUnit::Microsecond);
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| is_other(field.data_type())) {
        return Ok(batch);
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if is_other(field.data_type()) {
            fields.push(Arc::new(field.as_ref().clone().with_data_type(microseconds())));
            columns.push(cast(column, &microseconds())?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
