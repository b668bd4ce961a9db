//! The rows of a data file as its table declares them, in whatever physical form a writer gave them.
//!
//! Delta leaves the form to the writer: timestamps of 96 bits or in milliseconds, text without its annotation, narrower
//! numbers, columns in another order, absent or by the names of column mapping, rows that a deletion vector deletes, and
//! a hint for Arrow types that are not the table's. What counts is the values, so the hint is not looked at and each
//! column is given in the type that the table declares.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use arrow_select::filter::filter_record_batch;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use crate::LakeError;
use crate::delta::arrow::to_arrow;
use crate::delta::deletion_vector::DeletionVector;
use crate::delta::location::TableLocation;
use crate::delta::schema::{COLUMN_MAPPING_NAME, ColumnMapping, StructType};
use crate::store::parquet::StoreFile;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Reads the data files of one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowReader {
    /// With the metadata of column mapping. `None` where the table does not tell: columns are then given as they are, but
    /// for timestamps, which are in microseconds.
    declared: Option<Fields>,
    mapping: ColumnMapping,
}

impl RowReader {
    pub(crate) fn new(schema: &StructType, mapping: ColumnMapping) -> Self {
        Self {
            declared: Some(to_arrow(schema).fields),
            mapping,
        }
    }

    /// Hands the rows of a file in the store that are not deleted to `each` in pieces, until it breaks off. A piece has
    /// the table's columns that the file has, all or those named, by the table's names and in the table's types.
    pub(crate) async fn read(
        &self,
        location: &TableLocation,
        path: &Path,
        deletion_vector: Option<&DeletionVector>,
        columns: Option<&[&str]>,
        mut each: impl FnMut(RecordBatch) -> Result<ControlFlow<()>, LakeError>,
    ) -> Result<(), LakeError> {
        let failed = |error: ParquetError| LakeError::parquet(location.table(), "read", error);
        let wrong = |error: ArrowError| LakeError::parquet(location.table(), "read", error);
        let mut rows = Survivors::new(match deletion_vector {
            Some(vector) => Some(vector.read(location).await?),
            None => None,
        });
        let mut file = StoreFile::new(Arc::clone(location.store()), path.clone());
        let metadata = ArrowReaderMetadata::load_async(&mut file, options())
            .await
            .map_err(failed)?;
        let metadata = with_wide_timestamps(metadata).map_err(failed)?;
        let plan = self.plan(metadata.schema(), columns);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), plan.roots());
        let batches = ParquetRecordBatchStreamBuilder::new_with_metadata(file, metadata)
            .with_batch_size(BATCH_ROWS)
            .with_projection(mask)
            .build();
        let mut batches = batches.map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            let batch = rows.of(&self.declared(&batch, &plan).map_err(wrong)?).map_err(wrong)?;
            if each(batch)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The same of a file in memory, deleted rows included.
    pub(crate) fn decode(
        &self,
        bytes: Bytes,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, ParquetError> {
        let metadata = with_wide_timestamps(ArrowReaderMetadata::load(&bytes, options())?)?;
        let plan = self.plan(metadata.schema(), None);
        let mask = ProjectionMask::roots(metadata.parquet_schema(), plan.roots());
        let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata)
            .with_batch_size(BATCH_ROWS)
            .with_projection(mask)
            .build()?;
        Ok(batches.map(move |batch| self.declared(&batch?, &plan)))
    }

    /// The name of a column in the files' statistics.
    pub(crate) fn physical_name<'a>(&'a self, column: &'a str) -> &'a str {
        let field = self
            .declared
            .iter()
            .flatten()
            .find(|field| field.name() == column)
            .filter(|_| self.mapping != ColumnMapping::None);
        let physical = field.and_then(|field| field.metadata().get(COLUMN_MAPPING_NAME));
        physical.map_or(column, String::as_str)
    }

    /// Which columns of a file to read, and what each becomes.
    fn plan(&self, in_file: &Schema, columns: Option<&[&str]>) -> Plan {
        let is_wanted = |name: &str| columns.is_none_or(|columns| columns.contains(&name));
        let found = |(root, field): (usize, &FieldRef)| {
            let target = match &self.declared {
                Some(declared) => declared
                    .iter()
                    .find(|column| self.mapping.is_column(column, field))?
                    .clone(),
                None => in_microseconds(field),
            };
            is_wanted(target.name()).then_some((root, target))
        };
        Plan {
            columns: in_file.fields().iter().enumerate().filter_map(found).collect(),
        }
    }

    /// A batch that was read by a plan, as the table declares it.
    fn declared(&self, batch: &RecordBatch, plan: &Plan) -> Result<RecordBatch, ArrowError> {
        let columns = plan.columns.iter().zip(batch.columns());
        let columns = columns.map(|((_, target), column)| {
            let cast = self.as_declared(column, target.data_type());
            cast.map_err(|error| ArrowError::CastError(format!("column `{}`: {error}", target.name())))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        // A writer may have left out a value that the table requires; whoever needs it notices.
        let fields = plan.columns.iter().map(|(_, target)| nullable(target));
        let schema = Arc::new(Schema::new(fields.collect::<Fields>()));
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema, columns, &options)
    }

    /// The same values in the declared type. What does not fit it is an error, never another value.
    fn as_declared(&self, array: &ArrayRef, declared: &DataType) -> Result<ArrayRef, ArrowError> {
        if array.data_type() == declared {
            return Ok(Arc::clone(array));
        }
        Ok(match (array.data_type(), declared) {
            (DataType::Struct(in_file), DataType::Struct(fields)) => {
                let array = array.as_struct();
                let column =
                    |field: &FieldRef| match in_file.iter().position(|found| self.mapping.is_column(field, found)) {
                        Some(at) => self.as_declared(array.column(at), field.data_type()),
                        None => Ok(new_null_array(field.data_type(), array.len())),
                    };
                let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let nulls = array.nulls().cloned();
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    columns,
                    nulls,
                    array.len(),
                )?)
            }
            (DataType::List(_), DataType::List(element)) => {
                let (_, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
                let values = self.as_declared(&values, element.data_type())?;
                Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?)
            }
            (DataType::Map(..), DataType::Map(entries, sorted)) => {
                let DataType::Struct(parts) = entries.data_type() else {
                    return Err(ArrowError::SchemaError(format!("{declared} is no map")));
                };
                let (_, offsets, found, nulls, _) = array.as_map().clone().into_parts();
                // Keys and values have no names in Delta.
                let columns = parts.iter().zip(found.columns());
                let columns = columns.map(|(part, column)| self.as_declared(column, part.data_type()));
                let columns = columns.collect::<Result<Vec<_>, _>>()?;
                let found = StructArray::try_new(parts.clone(), columns, found.nulls().cloned())?;
                Arc::new(MapArray::try_new(Arc::clone(entries), offsets, found, nulls, *sorted)?)
            }
            _ => {
                let options = CastOptions {
                    safe: false,
                    ..CastOptions::default()
                };
                cast_with_options(array, declared, &options)?
            }
        })
    }
}

/// Positions in the file, ascending, and the table's field for each.
struct Plan {
    columns: Vec<(usize, FieldRef)>,
}

impl Plan {
    fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.iter().map(|(root, _)| *root)
    }
}

/// Leaves out deleted rows of batches that come in the file's order.
pub(crate) struct Survivors {
    deleted: Option<RoaringTreemap>,
    /// Position of the next row.
    next: u64,
}

impl Survivors {
    pub(crate) fn new(deleted: Option<RoaringTreemap>) -> Self {
        Self { deleted, next: 0 }
    }

    pub(crate) fn of(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let first = self.next;
        self.next += batch.num_rows() as u64;
        let Some(deleted) = &self.deleted else {
            return Ok(batch.clone());
        };
        let stays: BooleanArray = (first..self.next).map(|row| Some(!deleted.contains(row))).collect();
        filter_record_batch(batch, &stays)
    }
}

fn nullable(field: &FieldRef) -> FieldRef {
    match field.is_nullable() {
        true => Arc::clone(field),
        false => Arc::new(Field::clone(field).with_nullable(true)),
    }
}

fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// Timestamps of 96 bits hold days of the Julian calendar and nanoseconds, more than nanoseconds since 1970 can.
fn with_wide_timestamps(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let wide = wide_leaves(metadata.parquet_schema());
    if wide.is_empty() {
        return Ok(metadata);
    }
    let fields = widened(metadata.schema().fields(), &wide, &mut 0);
    let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

/// Leaf columns of 96 bits.
fn wide_leaves(descriptor: &SchemaDescriptor) -> BTreeSet<usize> {
    let leaves = descriptor.columns().iter().enumerate();
    let wide = leaves.filter(|(_, column)| column.physical_type() == PhysicalType::INT96);
    wide.map(|(leaf, _)| leaf).collect()
}

/// Fields with those leaves in microseconds; `leaf` counts the leaves, which are in the same order in both schemas.
fn widened(fields: &Fields, wide: &BTreeSet<usize>, leaf: &mut usize) -> Fields {
    let field = |field: &FieldRef, leaf: &mut usize| -> FieldRef {
        let data_type = widened_type(field.data_type(), wide, leaf);
        Arc::new(Field::clone(field).with_data_type(data_type))
    };
    fields.iter().map(|of| field(of, leaf)).collect()
}

fn widened_type(of: &DataType, wide: &BTreeSet<usize>, leaf: &mut usize) -> DataType {
    let mut part = |field: &FieldRef| {
        let data_type = widened_type(field.data_type(), wide, leaf);
        Arc::new(Field::clone(field).with_data_type(data_type))
    };
    match of {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(part).collect()),
        DataType::List(element) => DataType::List(part(element)),
        DataType::Map(entries, sorted) => DataType::Map(part(entries), *sorted),
        other => {
            let is_wide = wide.contains(leaf);
            *leaf += 1;
            if is_wide { microseconds() } else { other.clone() }
        }
    }
}

/// Instants by the clock of UTC, which is what Spark writes in 96 bits.
fn microseconds() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn in_microseconds(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            let data_type = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            Arc::new(Field::clone(field).with_data_type(data_type))
        }
        _ => Arc::clone(field),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{Int64Builder, MapBuilder, StringBuilder};
    use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
    use arrow_array::{
        BinaryArray, DictionaryArray, Float32Array, Int32Array, Int64Array, LargeStringArray, StringArray,
        StringViewArray, TimestampMillisecondArray, TimestampNanosecondArray,
    };
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use serde_json::json;

    use super::*;

    fn reader(fields: serde_json::Value) -> RowReader {
        let schema = serde_json::from_value(json!({"type": "struct", "fields": fields})).unwrap();
        RowReader::new(&schema, ColumnMapping::None)
    }

    fn declared(name: &str, data_type: &str) -> serde_json::Value {
        json!({"name": name, "type": data_type, "nullable": true, "metadata": {}})
    }

    fn file(columns: Vec<(&str, ArrayRef)>, properties: Option<WriterProperties>) -> Bytes {
        let batch =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
                .unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), properties).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes.into()
    }

    fn rows(reader: &RowReader, bytes: Bytes) -> RecordBatch {
        let mut batches = reader.decode(bytes).unwrap();
        batches.next().unwrap().unwrap()
    }

    #[test]
    fn text_is_text_in_every_form() {
        let reader = reader(json!([declared("t", "string"), declared("absent", "string")]));
        let texts = ["a", "ä", ""];
        let dictionary: DictionaryArray<Int32Type> = texts.iter().copied().collect();
        let forms: [ArrayRef; 5] = [
            Arc::new(StringArray::from_iter_values(texts)),
            Arc::new(LargeStringArray::from_iter_values(texts)),
            Arc::new(StringViewArray::from_iter_values(texts)),
            Arc::new(dictionary),
            Arc::new(BinaryArray::from_iter_values(texts)),
        ];
        for form in forms {
            let batch = rows(&reader, file(vec![("other", Arc::clone(&form)), ("t", form)], None));
            assert_eq!(batch.num_columns(), 1);
            let found: Vec<_> = batch["t"].as_string::<i32>().iter().flatten().collect();
            assert_eq!(found, texts);
        }
        let no_text = file(vec![("t", Arc::new(BinaryArray::from_iter_values([b"\xff"])))], None);
        let error = reader.decode(no_text).unwrap().next().unwrap().unwrap_err().to_string();
        assert!(error.contains("`t`"), "{error}");
    }

    #[test]
    fn instants_and_numbers_take_the_declared_type() {
        let reader = reader(json!([
            declared("ms", "timestamp"),
            declared("ns", "timestamp"),
            declared("local", "timestamp_ntz"),
            declared("narrow", "long"),
            declared("single", "double"),
        ]));
        let bytes = file(
            vec![
                ("single", Arc::new(Float32Array::from(vec![0.5])) as ArrayRef),
                ("narrow", Arc::new(Int32Array::from(vec![-7]))),
                ("local", Arc::new(TimestampMillisecondArray::from(vec![3]))),
                ("ns", Arc::new(TimestampNanosecondArray::from(vec![5_000]))),
                (
                    "ms",
                    Arc::new(TimestampMillisecondArray::from(vec![-2]).with_timezone("UTC")),
                ),
            ],
            None,
        );
        let batch = rows(&reader, bytes);
        let us = |name: &str| batch[name].as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!((us("ms"), us("ns"), us("local")), (-2_000, 5, 3_000));
        assert_eq!(batch["ms"].data_type(), &microseconds());
        assert_eq!(batch["narrow"].as_primitive::<Int64Type>().value(0), -7);
        assert_eq!(
            batch["single"]
                .as_primitive::<arrow_array::types::Float64Type>()
                .value(0),
            0.5
        );
    }

    #[test]
    fn every_codec_and_both_page_versions_are_read() {
        let reader = reader(json!([declared("n", "long"), declared("t", "string")]));
        let (numbers, texts) = (
            Int64Array::from_iter_values(0..5000),
            (0..5000).map(|n| format!("text {n}")),
        );
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(numbers.clone())),
            ("t", Arc::new(StringArray::from_iter_values(texts))),
        ];
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for codec in [
                Compression::UNCOMPRESSED,
                Compression::SNAPPY,
                Compression::GZIP(GzipLevel::default()),
                Compression::BROTLI(BrotliLevel::default()),
                Compression::LZ4,
                Compression::LZ4_RAW,
                Compression::ZSTD(ZstdLevel::default()),
            ] {
                for dictionaries in [true, false] {
                    let properties = WriterProperties::builder()
                        .set_writer_version(version)
                        .set_compression(codec)
                        .set_dictionary_enabled(dictionaries)
                        .build();
                    let bytes = file(columns.clone(), Some(properties));
                    assert_eq!(
                        rows(&reader, bytes)["n"].as_primitive::<Int64Type>(),
                        &numbers,
                        "{codec:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn nested_fields_are_found_by_name_and_absent_ones_are_null() {
        let reader = reader(json!([
            {"name": "headers", "nullable": true, "metadata": {}, "type": {"type": "array", "containsNull": true,
                "elementType": {"type": "struct", "fields": [declared("key", "string"), declared("gone", "long")]}}},
            {"name": "tags", "nullable": true, "metadata": {},
                "type": {"type": "map", "keyType": "string", "valueType": "long", "valueContainsNull": true}},
        ]));
        let parts = Fields::from(vec![
            Field::new("x", DataType::Int32, true),
            Field::new("key", DataType::LargeUtf8, true),
        ]);
        let values = StructArray::try_new(
            parts.clone(),
            vec![
                Arc::new(Int32Array::from(vec![1, 2])),
                Arc::new(LargeStringArray::from(vec!["a", "b"])),
            ],
            None,
        )
        .unwrap();
        let headers = ListArray::try_new(
            Arc::new(Field::new("item", DataType::Struct(parts), true)),
            arrow_buffer::OffsetBuffer::from_lengths([2]),
            Arc::new(values),
            None,
        )
        .unwrap();
        let mut tags = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        tags.keys().append_value("k");
        tags.values().append_value(9);
        tags.append(true).unwrap();
        let bytes = file(
            vec![("headers", Arc::new(headers)), ("tags", Arc::new(tags.finish()))],
            None,
        );
        let batch = rows(&reader, bytes);
        let headers = batch["headers"].as_list::<i32>().value(0);
        let headers = headers.as_struct();
        assert_eq!(headers.column(0).as_string::<i32>().value(1), "b");
        assert_eq!(headers.column(1).null_count(), 2);
        let tags = batch["tags"].as_map().value(0);
        assert_eq!(tags.column(1).as_primitive::<Int64Type>().value(0), 9);
    }

    #[test]
    fn a_table_that_cannot_be_told_gives_columns_as_they_are() {
        let bytes = file(
            vec![(
                "ms",
                Arc::new(TimestampMillisecondArray::from(vec![2]).with_timezone("UTC")),
            )],
            None,
        );
        let batch = rows(&RowReader::default(), bytes);
        assert_eq!(batch["ms"].as_primitive::<TimestampMicrosecondType>().value(0), 2_000);
    }

    #[test]
    fn leaves_are_counted_over_nested_columns() {
        let list = |of| DataType::List(Arc::new(Field::new("element", of, true)));
        let fields = Fields::from(vec![
            Field::new("a", DataType::Int64, true),
            Field::new(
                "b",
                DataType::Struct(Fields::from(vec![
                    Field::new("c", DataType::Utf8, true),
                    Field::new("d", list(DataType::Timestamp(TimeUnit::Nanosecond, None)), true),
                ])),
                true,
            ),
        ]);
        let widened = widened(&fields, &BTreeSet::from([2]), &mut 0);
        let DataType::Struct(inner) = widened[1].data_type() else {
            panic!("{widened:?}")
        };
        assert_eq!(inner[1].data_type(), &list(microseconds()));
        assert_eq!(widened[0], fields[0]);
    }
}
