//! What the sessions of one engine share: the lake's root, the memory pool, the functions and rules of SQL, the threads
//! that plan, and the names of the tables as last listed.
//!
//! No file formats, table factories or URL tables are registered, so no statement has a way to a file of this machine,
//! even if one got past the check of statements.

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SessionStateDefaults, config::SessionConfig};
use lake::Root;
use parking_lot::RwLock;

use super::catalog::{CATALOG, SCHEMA, StatementCatalog};
use super::error::SqlError;
use super::json;
use super::literals;
use super::planner_pool::PlannerPool;
use super::table;

pub(super) struct Environment {
    pub(super) root: Root,
    pub(super) planners: PlannerPool,
    /// Without tables; each statement gets a copy with its own catalog.
    template: SessionState,
    table_names: RwLock<Arc<[String]>>,
}

impl Environment {
    pub(super) fn new(root: Root, memory_bytes: usize, partitions: Option<usize>) -> Result<Environment, SqlError> {
        let template = template(memory_bytes, partitions)?;
        table::register_store(template.runtime_env(), &root)
            .map_err(|error| SqlError::from_datafusion(&error, "", &[]))?;
        Ok(Environment {
            root,
            planners: PlannerPool::new(),
            template,
            table_names: RwLock::new(Arc::new([])),
        })
    }

    /// The lake's tables as last listed, sorted.
    pub(super) fn table_names(&self) -> Arc<[String]> {
        Arc::clone(&self.table_names.read())
    }

    /// Lists the lake's tables, sorted.
    pub(super) async fn refresh_table_names(&self) -> Result<Arc<[String]>, SqlError> {
        let names: Arc<[String]> = self.root.table_names().await.map_err(SqlError::from_lake)?.into();
        *self.table_names.write() = Arc::clone(&names);
        Ok(names)
    }

    /// For what needs no tables: the configuration and the names of functions.
    pub(super) fn template(&self) -> &SessionState {
        &self.template
    }

    /// A session state whose only tables are those of `catalog`.
    pub(super) fn state_over(&self, catalog: Arc<StatementCatalog>) -> Result<SessionState, SqlError> {
        let schemas = Arc::new(MemoryCatalogProvider::new());
        schemas
            .register_schema(SCHEMA, catalog)
            .map_err(|error| SqlError::from_datafusion(&error, "", &[]))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), schemas);
        let mut state = SessionStateBuilder::new_from_existing(self.template.clone())
            .with_catalog_list(Arc::new(catalogs))
            .build();
        // What `now()` means in the statement.
        state.mark_start_execution();
        Ok(state)
    }

    pub(super) fn memory_reserved(&self) -> usize {
        self.template.runtime_env().memory_pool.reserved()
    }
}

fn template(memory_bytes: usize, partitions: Option<usize>) -> Result<SessionState, SqlError> {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    // Errors point at the place only when the planner keeps where each name stood.
    config.options_mut().sql_parser.collect_spans = true;
    if let Some(partitions) = partitions {
        config = config.with_target_partitions(partitions.max(1));
    }
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes)))
        .build_arc()
        .map_err(|error| SqlError::from_datafusion(&error, "", &[]))?;
    let planners = SessionStateDefaults::default_expr_planners();
    let functions = SessionStateDefaults::default_scalar_functions();
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_analyzer_rules(literals::analyzer_rules())
        .with_expr_planners(planners.into_iter().chain([Arc::new(json::Operators) as _]).collect())
        .with_scalar_functions(functions.into_iter().chain(json::functions()).collect())
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .build())
}
