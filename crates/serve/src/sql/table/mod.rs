//! A Delta table as DataFusion reads it: one version, its files chosen by the log, read by DataFusion's own Parquet
//! source.
//!
//! `columns` has the table's columns, `files` chooses the files by `partition_values` and `file_statistics`, and
//! `file_columns` finds the columns in each file. A scan is made of nothing but the root, the table's name and the
//! version, so a plan can be made the same on another machine.

mod columns;
mod file_columns;
mod file_statistics;
mod files;
mod partition_values;

use std::fmt;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Statistics, project_schema};
use datafusion::config::{ParquetOptions, TableParquetOptions};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use lake::Root;
use lake::delta::Snapshot;

use self::columns::Columns;
use self::file_columns::FileColumns;
use self::files::Selection;

/// Under which name the lake's store is known to DataFusion: paths in it are the store's own, never a URL's.
const STORE: &str = "lake://root";

/// Makes the lake's store known to those who run plans over its tables.
pub(super) fn register_store(runtime: &RuntimeEnv, root: &Root) -> Result<(), DataFusionError> {
    let url = ObjectStoreUrl::parse(STORE)?;
    runtime.register_object_store(url.as_ref(), Arc::clone(root.store()));
    Ok(())
}

/// One version of a table.
pub(super) struct LakeTable {
    snapshot: Snapshot,
    columns: Columns,
}

impl LakeTable {
    pub(super) fn new(snapshot: Snapshot) -> LakeTable {
        let columns = Columns::new(&snapshot);
        LakeTable { snapshot, columns }
    }

    fn pushdown(&self, filter: &Expr) -> Result<TableProviderFilterPushDown, DataFusionError> {
        let is_evaluated_later = filter.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::Placeholder(_)
            ))
        })?;
        if is_evaluated_later || filter.is_volatile() {
            return Ok(TableProviderFilterPushDown::Unsupported);
        }
        let columns = filter.column_refs();
        let is_of_partitions = columns.iter().all(|column| self.columns.is_partition(&column.name));
        Ok(match !columns.is_empty() && is_of_partitions {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        })
    }
}

/// The conjunction of filters as a physical expression over these columns.
fn physical(
    filters: Vec<Expr>,
    columns: SchemaRef,
    state: &dyn Session,
) -> Result<Option<Arc<dyn PhysicalExpr>>, DataFusionError> {
    let Some(all) = conjunction(filters) else {
        return Ok(None);
    };
    let schema = DFSchema::try_from(columns)?;
    state.create_physical_expr(all, &schema).map(Some)
}

impl fmt::Debug for LakeTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LakeTable")
            .field("table", &self.snapshot.table())
            .field("version", &self.snapshot.version())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.declared())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        filters.iter().map(|filter| self.pushdown(filter)).collect()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let (mut of_partitions, mut of_rows) = (Vec::new(), Vec::new());
        for filter in filters {
            match self.pushdown(filter)? {
                TableProviderFilterPushDown::Exact => of_partitions.push(filter.clone()),
                TableProviderFilterPushDown::Inexact => of_rows.push(filter.clone()),
                TableProviderFilterPushDown::Unsupported => {}
            }
        }
        let has_row_filters = filters.len() > of_partitions.len();
        let limit = limit.filter(|_| !has_row_filters);
        let partition_columns = Arc::new(Schema::new(self.columns.partition_fields().clone()));
        let selection = Selection {
            partitions: physical(of_partitions, partition_columns, state)?,
            rows: physical(of_rows, Arc::clone(self.columns.scanned().table_schema()), state)?,
            limit,
        };
        let selected = files::select(&self.snapshot, &self.columns, &selection).await?;
        if selected.files.is_empty() {
            let schema = project_schema(self.columns.declared(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let scanned = self.columns.scanned();
        let statistics = Statistics {
            num_rows: match has_row_filters {
                true => selected.rows.to_inexact(),
                false => selected.rows,
            },
            total_byte_size: Precision::Inexact(usize::try_from(selected.bytes).unwrap_or(usize::MAX)),
            column_statistics: Statistics::unknown_column(scanned.table_schema()),
        };
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, self.source(state)?)
            .with_file_groups(groups(selected.files, state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(Some(self.columns.scan_places(projection)))?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(FileColumns::new(&self.snapshot))))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

impl LakeTable {
    fn source(&self, state: &dyn Session) -> Result<Arc<ParquetSource>, DataFusionError> {
        let options = TableParquetOptions {
            global: ParquetOptions {
                // Spark's INT96 holds years that nanoseconds do not.
                coerce_int96: Some("us".to_owned()),
                coerce_int96_tz: Some("UTC".to_owned()),
                ..state.config_options().execution.parquet.clone()
            },
            ..TableParquetOptions::default()
        };
        let runtime = state.runtime_env();
        let store = runtime.object_store(ObjectStoreUrl::parse(STORE)?)?;
        // A data file never changes, so its footer is read once for many queries.
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(self.columns.scanned().clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, footers)));
        Ok(Arc::new(source))
    }
}

/// As many groups as work at the same time; DataFusion splits large files among them later.
fn groups(files: Vec<PartitionedFile>, partitions: usize) -> Vec<FileGroup> {
    FileGroup::new(files).split_files(partitions.max(1))
}
