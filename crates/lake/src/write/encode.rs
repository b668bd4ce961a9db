//! Record batches in, Parquet files in memory out: processor work only, nothing is read or written elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Date32Type;
use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_schema::{Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use model::event_time::civil_from_days;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::properties::WriterProperties;

use crate::delta::field_ids;
use crate::delta::schema::StructType;
use crate::write::parquet::ParquetFormat;
use crate::write::stats::delta_stats;
use crate::{LakeError, Names};

/// Days that are written at the same time; beyond it the one written to longest ago is finished early, and gets another
/// file when it comes again. Bounds memory when a producer sends a year in one batch.
const OPEN_FILES_MAX: usize = 64;

/// What all files of a table have in common.
#[derive(Debug)]
pub(crate) struct FileFormat {
    table: String,
    /// The batches' schema.
    schema: SchemaRef,
    /// The files': without the partition column, whose value stands in the log, and with the columns' ids.
    file_schema: SchemaRef,
    partition: Option<Partition>,
    properties: WriterProperties,
    /// The end of the files' names.
    suffix: &'static str,
}

#[derive(Debug)]
struct Partition {
    column: String,
    index: usize,
    /// The other columns.
    kept: Vec<usize>,
}

impl FileFormat {
    /// What a batch must look like.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// `table_schema` gives the columns their ids.
    pub(crate) fn new(
        table: &str,
        schema: SchemaRef,
        table_schema: &StructType,
        partition_column: Option<&str>,
        parquet: ParquetFormat,
        properties: impl FnOnce(&ParquetFormat, &Schema) -> WriterProperties,
    ) -> Result<Self, LakeError> {
        let mut file_schema = schema.clone();
        let mut partition = None;
        if let Some(column) = partition_column {
            let failed = |error: arrow_schema::ArrowError| LakeError::batch(table, error.to_string());
            let index = schema.index_of(column).map_err(failed)?;
            let kept: Vec<usize> = (0..schema.fields().len()).filter(|other| *other != index).collect();
            file_schema = Arc::new(schema.project(&kept).map_err(failed)?);
            partition = Some(Partition {
                column: column.to_owned(),
                index,
                kept,
            });
        }
        Ok(Self {
            table: table.to_owned(),
            properties: properties(&parquet, &file_schema),
            suffix: parquet.suffix(),
            schema,
            file_schema: Arc::new(field_ids::annotate(&file_schema, table_schema)),
            partition,
        })
    }
}

/// Encodes record batches to Parquet in memory, one file per `event_date`.
///
/// Each [`FileWriter::write`] encodes at once: what is held is the compressed bytes and one open page per column and day,
/// and the batch is still in the processor's cache from decoding.
pub struct FileWriter {
    format: Arc<FileFormat>,
    names: Names,
    /// The one written to last is the last.
    open: Vec<OpenFile>,
    done: Vec<EncodedFile>,
    rows: u64,
}

struct OpenFile {
    /// Days since the epoch; `None` in a table without partitions.
    day: Option<i32>,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    nulls: Vec<u64>,
}

impl FileWriter {
    pub(crate) fn new(format: Arc<FileFormat>, names: Names) -> Self {
        Self {
            format,
            names,
            open: Vec::new(),
            done: Vec::new(),
            rows: 0,
        }
    }

    /// Encodes a batch in the order of [`model::Stream::arrow_schema`]. After an error the writer is of no more use.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.check(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let format = self.format.clone();
        let Some(partition) = &format.partition else {
            return self.write_day(None, batch);
        };
        let failed = |error| LakeError::parquet(&format.table, "split a batch for", error);
        let Some(days) = batch.column(partition.index).as_primitive_opt::<Date32Type>() else {
            return Err(LakeError::batch(&format.table, "the partition column is no date"));
        };
        let kept = batch.project(&partition.kept).map_err(failed)?;
        let days = days.values();
        // The usual batch holds one day and is not touched at all.
        if days.iter().all(|day| *day == days[0]) {
            return self.write_day(Some(days[0]), &kept);
        }
        let mut rows_by_day: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
        for (row, day) in days.iter().enumerate() {
            rows_by_day.entry(*day).or_default().push(row as u32);
        }
        for (day, rows) in rows_by_day {
            let (first, last) = (rows[0], rows[rows.len() - 1]);
            let together = (last - first) as usize + 1 == rows.len();
            let of_day = if together {
                kept.slice(first as usize, rows.len())
            } else {
                take_record_batch(&kept, &UInt32Array::from(rows)).map_err(failed)?
            };
            self.write_day(Some(day), &of_day)?;
        }
        Ok(())
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Memory held: what is encoded, and what is about to be.
    pub fn bytes(&self) -> usize {
        let open: usize = self
            .open
            .iter()
            .map(|file| file.writer.bytes_written() + file.writer.memory_size())
            .sum();
        open + self.done.iter().map(|file| file.bytes.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Ends all files.
    pub fn finish(mut self) -> Result<EncodedFiles, LakeError> {
        for file in std::mem::take(&mut self.open) {
            self.close(file)?;
        }
        Ok(EncodedFiles { files: self.done })
    }

    fn check(&self, batch: &RecordBatch) -> Result<(), LakeError> {
        let (expected, found) = (&self.format.schema, batch.schema_ref());
        let same = Arc::ptr_eq(expected, found)
            || expected.fields().len() == found.fields().len()
                && expected.fields().iter().zip(found.fields()).all(|(expected, found)| {
                    // What is noted about nested fields is no part of the type: rows read from a file have its ids there.
                    expected.name() == found.name() && expected.data_type().equals_datatype(found.data_type())
                });
        if same {
            return Ok(());
        }
        Err(LakeError::batch(
            &self.format.table,
            "a batch's columns are not the declared ones in their order",
        ))
    }

    fn write_day(&mut self, day: Option<i32>, batch: &RecordBatch) -> Result<(), LakeError> {
        let at = self.open.iter().position(|file| file.day == day);
        let file = match at {
            Some(at) if at + 1 == self.open.len() => return self.append(batch),
            Some(at) => self.open.remove(at),
            None => self.start(day)?,
        };
        if self.open.len() >= OPEN_FILES_MAX {
            let oldest = self.open.remove(0);
            self.close(oldest)?;
        }
        self.open.push(file);
        self.append(batch)
    }

    /// To the last of the open files.
    fn append(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let Some(file) = self.open.last_mut() else {
            return Ok(());
        };
        file.writer
            .write(batch)
            .map_err(|error| LakeError::parquet(&self.format.table, "encode", error))?;
        file.rows += batch.num_rows() as u64;
        self.rows += batch.num_rows() as u64;
        for (nulls, column) in file.nulls.iter_mut().zip(batch.columns()) {
            *nulls += column.null_count() as u64;
        }
        Ok(())
    }

    fn start(&self, day: Option<i32>) -> Result<OpenFile, LakeError> {
        let options = ArrowWriterOptions::new()
            .with_properties(self.format.properties.clone())
            // Every type we write is a Parquet type; the Arrow schema would be a kilobyte in each small file.
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), self.format.file_schema.clone(), options)
            .map_err(|error| LakeError::parquet(&self.format.table, "encode", error))?;
        Ok(OpenFile {
            day,
            writer,
            rows: 0,
            nulls: vec![0; self.format.file_schema.fields().len()],
        })
    }

    fn close(&mut self, mut file: OpenFile) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet(&self.format.table, "encode", error);
        file.writer.flush().map_err(failed)?;
        let stats = delta_stats(
            &self.format.file_schema,
            file.rows,
            &file.nulls,
            file.writer.flushed_row_groups(),
        );
        let bytes = file.writer.into_inner().map_err(failed)?;
        let name = format!(
            "part-{:05}-{}{}",
            self.done.len(),
            self.names.next(),
            self.format.suffix
        );
        let partition = self.format.partition.as_ref().zip(file.day).map(|(partition, day)| {
            let (year, month, day) = civil_from_days(day);
            (partition.column.clone(), format!("{year:04}-{month:02}-{day:02}"))
        });
        let path = match &partition {
            Some((column, date)) => format!("{column}={date}/{name}"),
            None => name,
        };
        self.done.push(EncodedFile {
            path,
            partition,
            rows: file.rows,
            stats,
            bytes: bytes.into(),
        });
        Ok(())
    }
}

/// Parquet files that lie in memory. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct EncodedFiles {
    pub(crate) files: Vec<EncodedFile>,
}

#[derive(Debug, Clone)]
pub(crate) struct EncodedFile {
    /// Below the table.
    pub(crate) path: String,
    /// Column and value.
    pub(crate) partition: Option<(String, String)>,
    pub(crate) rows: u64,
    pub(crate) stats: String,
    pub(crate) bytes: Bytes,
}

impl EncodedFiles {
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
