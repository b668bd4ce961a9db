//! What the log says of its files' contents (PROTOCOL.md, "Per-file Statistics"), for leaving files out of a plan.
//!
//! A bound that is too narrow would lose rows, so each is taken as the widest that its text allows: writers cut
//! timestamps to milliseconds and texts to a prefix. Statistics that do not parse are none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, StructArray, UInt64Array};
use arrow_json::ReaderBuilder;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use super::columns::Columns;

/// A timestamp's bound may be off by what milliseconds do not hold, in microseconds.
const CUT_OFF_US: i64 = 999;

/// From this length on a text's upper bound may have been cut off without being raised, in characters. Spark and its
/// followers cut at 32.
const CUT_TEXT_CHARS: usize = 32;

const MIN: &str = "minValues";
const MAX: &str = "maxValues";
const NULLS: &str = "nullCount";
const ROWS: &str = "numRecords";
const TIGHT: &str = "tightBounds";

/// Reads the statistics of some columns.
pub(super) struct StatisticsReader {
    schema: SchemaRef,
    /// Name of each read column in the log, by its name in statements.
    log_names: BTreeMap<String, String>,
}

impl StatisticsReader {
    /// For the files' columns that a predicate bounds; without one, for the row counts alone.
    pub(super) fn new(predicate: Option<&Arc<dyn PhysicalExpr>>, columns: &Columns) -> StatisticsReader {
        let bounded = predicate.into_iter().flat_map(collect_columns);
        let mut log_names = BTreeMap::new();
        let (mut bounds, mut nulls) = (Vec::new(), Vec::new());
        for column in bounded {
            let Some((field, log_name)) = columns.file_column(column.name()) else {
                continue;
            };
            let Some(data_type) = log_type(field.data_type()) else {
                continue;
            };
            if log_names
                .insert(column.name().to_owned(), log_name.to_owned())
                .is_none()
            {
                bounds.push(Field::new(log_name, data_type, true));
                nulls.push(Field::new(log_name, DataType::Int64, true));
            }
        }
        let structure = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
        let mut fields = vec![
            Field::new(ROWS, DataType::Int64, true),
            Field::new(TIGHT, DataType::Boolean, true),
        ];
        if !bounds.is_empty() {
            fields.push(structure(MIN, bounds.clone()));
            fields.push(structure(MAX, bounds));
            fields.push(structure(NULLS, nulls));
        }
        StatisticsReader {
            schema: Arc::new(Schema::new(fields)),
            log_names,
        }
    }

    /// One row for each text.
    fn read(&self, texts: &[Option<&str>]) -> Result<RecordBatch, ArrowError> {
        if let Ok(batch) = self.decode(texts) {
            return Ok(batch);
        }
        let rows = texts.iter().map(|text| match self.decode(std::slice::from_ref(text)) {
            Ok(row) => Ok(row),
            Err(_) => self.decode(&[None]),
        });
        arrow_select::concat::concat_batches(&self.schema, &rows.collect::<Result<Vec<_>, _>>()?)
    }

    fn decode(&self, texts: &[Option<&str>]) -> Result<RecordBatch, ArrowError> {
        let mut decoder = ReaderBuilder::new(Arc::clone(&self.schema))
            .with_batch_size(texts.len().max(1))
            .build_decoder()?;
        for text in texts {
            let mut bytes = text.unwrap_or("{}").as_bytes();
            while !bytes.is_empty() {
                match decoder.decode(bytes)? {
                    0 => break,
                    read => bytes = &bytes[read..],
                }
            }
        }
        let batch = decoder
            .flush()?
            .unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&self.schema)));
        match batch.num_rows() == texts.len() {
            true => Ok(batch),
            false => Err(ArrowError::JsonError(
                "statistics are one object for each file".to_owned(),
            )),
        }
    }
}

/// The type in which a column's bounds are read; `None` where they are not used.
fn log_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Boolean | DataType::Date32 | DataType::Decimal128(..) => Some(data_type.clone()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(data_type.clone()),
        number if number.is_numeric() => Some(number.clone()),
        _ => None,
    }
}

/// The statistics of some files, one row each.
pub(super) struct FileStatistics<'a> {
    log_names: &'a BTreeMap<String, String>,
    read: RecordBatch,
    /// The files' partition columns.
    partitions: &'a RecordBatch,
}

impl<'a> FileStatistics<'a> {
    /// `texts` are the log's, `partitions` has a row for each of the same files.
    pub(super) fn new(
        reader: &'a StatisticsReader,
        texts: &[Option<&str>],
        partitions: &'a RecordBatch,
    ) -> Result<FileStatistics<'a>, ArrowError> {
        Ok(FileStatistics {
            log_names: &reader.log_names,
            read: reader.read(texts)?,
            partitions,
        })
    }

    /// Rows in each file, deleted ones included, where the log says.
    pub(super) fn rows(&self) -> Vec<Option<u64>> {
        let rows = self.number(ROWS).map(|rows| rows.iter().map(count).collect());
        rows.unwrap_or_else(|| vec![None; self.read.num_rows()])
    }

    fn number(&self, name: &str) -> Option<&arrow_array::Int64Array> {
        self.read.column_by_name(name)?.as_primitive_opt::<Int64Type>()
    }

    fn of(&self, kind: &str, column: &Column) -> Option<&ArrayRef> {
        let values: &StructArray = self.read.column_by_name(kind)?.as_struct_opt()?;
        values.column_by_name(self.log_names.get(&column.name)?)
    }

    fn partition(&self, column: &Column) -> Option<&ArrayRef> {
        self.partitions.column_by_name(&column.name)
    }
}

fn count(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        if let Some(values) = self.partition(column) {
            return Some(Arc::clone(values));
        }
        let values = self.of(MIN, column)?;
        Some(match values.as_primitive_opt::<TimestampMicrosecondType>() {
            // Before 1970 some writers cut towards 1970.
            Some(us) => Arc::new(
                us.unary::<_, TimestampMicrosecondType>(|us| match us < 0 {
                    true => us.saturating_sub(CUT_OFF_US),
                    false => us,
                })
                .with_data_type(values.data_type().clone()),
            ),
            None => Arc::clone(values),
        })
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        if let Some(values) = self.partition(column) {
            return Some(Arc::clone(values));
        }
        let values = self.of(MAX, column)?;
        if let Some(us) = values.as_primitive_opt::<TimestampMicrosecondType>() {
            let raised = us.unary::<_, TimestampMicrosecondType>(|us| us.saturating_add(CUT_OFF_US));
            return Some(Arc::new(raised.with_data_type(values.data_type().clone())));
        }
        if let Some(texts) = values.as_string_opt::<i32>() {
            let whole = |text: &&str| text.chars().nth(CUT_TEXT_CHARS - 1).is_none();
            return Some(Arc::new(
                texts.iter().map(|text| text.filter(whole)).collect::<StringArray>(),
            ));
        }
        Some(Arc::clone(values))
    }

    fn num_containers(&self) -> usize {
        self.read.num_rows()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let rows = self.rows();
        if let Some(values) = self.partition(column) {
            let nulls = rows.iter().enumerate().map(|(file, rows)| match values.is_null(file) {
                true => *rows,
                false => Some(0),
            });
            return Some(Arc::new(nulls.collect::<UInt64Array>()));
        }
        let nulls = self.of(NULLS, column)?.as_primitive_opt::<Int64Type>()?;
        let tight = self.read.column_by_name(TIGHT)?.as_boolean_opt()?;
        let nulls = nulls.iter().zip(tight).zip(rows).map(|((nulls, tight), rows)| {
            let nulls = count(nulls)?;
            // Where rows were deleted since, only "none" and "all" still hold.
            (tight != Some(false) || nulls == 0 || Some(nulls) == rows).then_some(nulls)
        });
        Some(Arc::new(nulls.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(self.rows())))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
