//! Which files of a table a scan reads, and what is known of their rows before they are read.
//!
//! The log is streamed: of each file that a filter leaves out nothing is kept. A file that is read costs its path and
//! its partition values, a few hundred bytes; with a deletion vector also the runs of its remaining rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use futures::{StreamExt, TryStreamExt, stream};
use lake::LakeError;
use lake::delta::{Add, DeletionVector, Snapshot};
use metrics::counter;
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::RowSelection;

use super::columns::Columns;
use super::file_statistics::{FileStatistics, StatisticsReader};
use super::partition_values;

/// Deletion vectors that are fetched at the same time.
const VECTORS_AT_ONCE: usize = 8;

/// What a scan asks for.
pub(super) struct Selection {
    /// Over the partition columns: files for which it does not hold are left out.
    pub(super) partitions: Option<Arc<dyn PhysicalExpr>>,
    /// Over the scanned columns: rows for which it does not hold are not needed, but may be read.
    pub(super) rows: Option<Arc<dyn PhysicalExpr>>,
    /// Rows after which no more files are needed; only where no rows are filtered later.
    pub(super) limit: Option<usize>,
}

/// The files to read.
pub(super) struct SelectedFiles {
    pub(super) files: Vec<PartitionedFile>,
    /// Rows in them, without deleted ones; inexact where the log does not say for all.
    pub(super) rows: Precision<usize>,
    /// Bytes in them, compressed.
    pub(super) bytes: u64,
}

impl SelectedFiles {
    fn is_enough(&self, limit: Option<usize>) -> bool {
        match (limit, self.rows.get_value()) {
            (Some(limit), Some(rows)) => *rows >= limit,
            _ => false,
        }
    }
}

/// Goes through the files of a snapshot.
pub(super) async fn select(
    snapshot: &Snapshot,
    columns: &Columns,
    selection: &Selection,
) -> Result<SelectedFiles, DataFusionError> {
    let pruning = pruning_predicate(selection.rows.as_ref(), columns);
    let reader = StatisticsReader::new(selection.rows.as_ref().filter(|_| pruning.is_some()), columns);
    let mut selected = SelectedFiles {
        files: Vec::new(),
        rows: Precision::Exact(0),
        bytes: 0,
    };
    let mut left_out = 0;
    let mut batches = snapshot.file_batches();
    'log: while let Some(mut adds) = batches.try_next().await.map_err(external)? {
        let in_log = adds.len();
        let mut partitions = partition_values::of_files(&adds, columns)?;
        if let Some(expr) = &selection.partitions {
            let passes = passing(expr, &partitions)?;
            partitions = filter_record_batch(&partitions, &passes)?;
            retain(&mut adds, passes.iter().map(|passes| passes == Some(true)));
        }
        let texts: Vec<Option<&str>> = adds.iter().map(|add| add.stats.as_deref()).collect();
        let statistics = FileStatistics::new(&reader, &texts, &partitions)?;
        let keep = match &pruning {
            Some(pruning) => pruning.prune(&statistics)?,
            None => vec![true; adds.len()],
        };
        let rows = statistics.rows();
        let kept: Vec<usize> = (0..adds.len()).filter(|file| keep[*file]).collect();
        left_out += in_log - kept.len();
        let values = kept.iter().map(|file| partition_values::of_row(&partitions, *file));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let rows: Vec<Option<u64>> = kept.iter().map(|file| rows[*file]).collect();
        retain(&mut adds, keep.into_iter());
        let mut files = stream::iter(adds.into_iter().zip(values).zip(rows))
            .map(|((add, values), rows)| to_file(snapshot, add, values, rows))
            .buffered(VECTORS_AT_ONCE);
        while let Some((file, rows)) = files.try_next().await? {
            selected.bytes += file.object_meta.size;
            selected.rows = match rows {
                Some(rows) => selected.rows.add(&Precision::Exact(rows)),
                None => selected.rows.to_inexact(),
            };
            selected.files.push(file);
            if selected.is_enough(selection.limit) {
                selected.rows = selected.rows.to_inexact();
                break 'log;
            }
        }
    }
    counter!("smartcity_serve_files_total", "outcome" => "selected").increment(selected.files.len() as u64);
    counter!("smartcity_serve_files_total", "outcome" => "pruned").increment(left_out as u64);
    Ok(selected)
}

/// `None` where the statistics of files cannot decide anything.
fn pruning_predicate(rows: Option<&Arc<dyn PhysicalExpr>>, columns: &Columns) -> Option<PruningPredicate> {
    let schema = Arc::clone(columns.scanned().table_schema());
    // What it does not understand it takes as true.
    let predicate = PruningPredicateBuilder::new()
        .with_file_schema(schema)
        .try_build(Arc::clone(rows?));
    predicate.ok().filter(|predicate| !predicate.always_true())
}

fn retain(adds: &mut Vec<Add>, mut keep: impl Iterator<Item = bool>) {
    adds.retain(|_| keep.next().unwrap_or(true));
}

/// For each file whether a predicate over the partition columns holds.
fn passing(expr: &Arc<dyn PhysicalExpr>, partitions: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let result = expr.evaluate(partitions)?.into_array(partitions.num_rows())?;
    match result.as_boolean_opt() {
        Some(passes) => Ok(passes.clone()),
        None => Err(DataFusionError::Internal(format!(
            "a filter gives {}",
            result.data_type()
        ))),
    }
}

/// A file for DataFusion, and how many rows it has, without deleted ones, where the log says.
async fn to_file(
    snapshot: &Snapshot,
    add: Add,
    values: Vec<ScalarValue>,
    rows: Option<u64>,
) -> Result<(PartitionedFile, Option<usize>), DataFusionError> {
    let location = snapshot.location();
    let unusable = |why: String| external(LakeError::unusable(location.table(), why));
    let meta = ObjectMeta {
        location: location.data_path(&add.path).map_err(unusable)?,
        last_modified: DateTime::from_timestamp_millis(add.modification_time).unwrap_or_default(),
        size: u64::try_from(add.size).map_err(|_| unusable(format!("{} has {} bytes", add.path, add.size)))?,
        e_tag: None,
        version: None,
    };
    let mut file = PartitionedFile::new_from_meta(meta);
    // Not by `with_partition_values`' neighbour `with_statistics`, which takes every partition value as not null.
    file.partition_values = values;
    let Some(vector) = &add.deletion_vector else {
        return Ok((file, rows.and_then(|rows| usize::try_from(rows).ok())));
    };
    let rows = rows.and_then(|rows| usize::try_from(rows).ok()).ok_or_else(|| {
        unusable(format!(
            "{} has deleted rows, but the log does not say how many it has",
            add.path
        ))
    })?;
    let remaining = remaining_rows(snapshot, vector, rows).await?;
    let count = remaining.row_count();
    Ok((file.with_extension(ParquetRowSelection::new(remaining)), Some(count)))
}

/// The rows of a file with `rows` rows that a deletion vector leaves.
async fn remaining_rows(
    snapshot: &Snapshot,
    vector: &DeletionVector,
    rows: usize,
) -> Result<RowSelection, DataFusionError> {
    let deleted = vector.read(snapshot.location()).await.map_err(external)?;
    let mut runs = Vec::new();
    let mut next = 0;
    for row in &deleted {
        let row = usize::try_from(row).unwrap_or(usize::MAX);
        if row >= rows {
            return Err(external(LakeError::unusable(
                snapshot.table(),
                format!("a deletion vector names row {row} of a file with {rows} rows"),
            )));
        }
        if next < row {
            runs.push(next..row);
        }
        next = row + 1;
    }
    if next < rows {
        runs.push(next..rows);
    }
    Ok(RowSelection::from_consecutive_ranges(runs.into_iter(), rows))
}

fn external(error: LakeError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
