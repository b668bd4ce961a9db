//! The DataFusion session of an engine: every SQL function, and nothing that reaches outside the lake.
//!
//! No file formats, table factories or URL tables are registered, so no statement has a way to a file of this machine,
//! even if one got past the check of statements.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SessionStateDefaults, config::SessionConfig};

use super::catalog::LakeSchema;
use super::{EngineSettings, SqlError};

/// The catalog and schema that hold the lake's tables; what PostgreSQL's tools expect a schema to be called.
pub(super) const CATALOG: &str = "smartcity";
pub(super) const SCHEMA: &str = "public";

pub(super) fn state(lake: &Arc<LakeSchema>, settings: &EngineSettings) -> Result<SessionState, SqlError> {
    let failed = |error| SqlError::from_datafusion(&error, "", &[]);
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    // Errors point at the place only when the planner keeps where each name stood.
    config.options_mut().sql_parser.collect_spans = true;
    if let Some(partitions) = settings.partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes)))
        .build_arc()
        .map_err(failed)?;

    let catalog = Arc::new(MemoryCatalogProvider::new());
    catalog
        .register_schema(SCHEMA, Arc::clone(lake) as Arc<dyn SchemaProvider>)
        .map_err(failed)?;
    let catalogs = MemoryCatalogProviderList::new();
    datafusion::catalog::CatalogProviderList::register_catalog(&catalogs, CATALOG.to_owned(), catalog);

    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_catalog_list(Arc::new(catalogs))
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(SessionStateDefaults::default_scalar_functions())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build())
}
