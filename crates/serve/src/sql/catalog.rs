//! The tables that one statement sees.
//!
//! Immutable from the statement's start to its end: the names are as of then, and a table is opened at most once, so
//! every mention of it, the information schema's included, is of one version.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use futures::future::{join_all, try_join_all};
use lake::{LakeError, Root, Snapshot};
use tokio::sync::OnceCell;
use tracing::warn;

use super::error::SqlError;
use super::table::LakeTable;
use super::version::{self, TimeTravel};

/// The catalog and schema that hold the lake's tables; what PostgreSQL's tools expect a schema to be called.
pub(super) const CATALOG: &str = "smartcity";
pub(super) const SCHEMA: &str = "public";

const INFORMATION_SCHEMA: &str = "information_schema";

/// Tables of one statement that are opened at the same time.
const OPENED_AT_ONCE: usize = 8;

/// Whether a statement with these references reads the information schema, and so the names of all tables.
pub(super) fn reads_information_schema(references: &[TableReference]) -> bool {
    references
        .iter()
        .any(|reference| reference.schema() == Some(INFORMATION_SCHEMA))
}

/// Names of the lake's tables, of which some may not exist, that a statement with these references reads.
pub(super) fn lake_tables(references: &[TableReference]) -> Vec<&str> {
    let mut names: Vec<&str> = references
        .iter()
        .filter(|reference| matches!(reference.schema(), None | Some(SCHEMA)))
        .filter(|reference| matches!(reference.catalog(), None | Some(CATALOG)))
        .map(TableReference::table)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The schema that holds the tables, for one statement.
pub(super) struct StatementCatalog {
    root: Root,
    time_travel: TimeTravel,
    names: Arc<[String]>,
    /// `None` once opened: the table cannot be read, which only the information schema gets over.
    tables: HashMap<String, OnceCell<Option<Arc<dyn TableProvider>>>>,
}

impl StatementCatalog {
    /// A catalog of the tables called `names`, which are sorted. Opens nothing yet.
    pub(super) fn new(root: Root, time_travel: TimeTravel, names: Arc<[String]>) -> StatementCatalog {
        let tables = names.iter().map(|name| (name.clone(), OnceCell::new())).collect();
        StatementCatalog {
            root,
            time_travel,
            names,
            tables,
        }
    }

    /// Opens the tables that a statement names. A name that is no table is left to the planner, which knows where it
    /// stands. On failure also says which table.
    pub(super) async fn open(&self, references: &[TableReference]) -> Result<(), (String, SqlError)> {
        for names in lake_tables(references).chunks(OPENED_AT_ONCE) {
            try_join_all(names.iter().map(|name| self.open_named(name))).await?;
        }
        Ok(())
    }

    async fn open_named(&self, name: &str) -> Result<(), (String, SqlError)> {
        let Some(table) = self.tables.get(name) else {
            return Ok(());
        };
        let opened = table
            .get_or_try_init(|| async { self.open_table(name).await.map(Some) })
            .await;
        opened.map(drop).map_err(|error| (name.to_owned(), error))
    }

    /// A table, or `None` with a warning in the log where it cannot be read.
    async fn readable(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        let open = || async {
            match self.open_table(name).await {
                Ok(table) => Some(table),
                Err(error) => {
                    warn!(table = name, %error, "table left out of the information schema");
                    None
                }
            }
        };
        self.tables.get(name)?.get_or_init(open).await.clone()
    }

    async fn open_table(&self, name: &str) -> Result<Arc<dyn TableProvider>, SqlError> {
        let unreadable = |error: LakeError| SqlError::unreadable(name, &error);
        let location = self.root.location_of(name);
        let at = match self.time_travel {
            TimeTravel::Newest => None,
            travel => Some(version::choose(
                &location.list().await.map_err(unreadable)?,
                name,
                travel,
            )?),
        };
        let snapshot = Snapshot::load(&location, at).await.map_err(unreadable)?;
        Ok(Arc::new(LakeTable::new(snapshot)))
    }
}

impl fmt::Debug for StatementCatalog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StatementCatalog")
            .field("location", &self.root.location())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for StatementCatalog {
    fn table_names(&self) -> Vec<String> {
        self.names.to_vec()
    }

    /// What [`StatementCatalog::open`] opened. Only the information schema asks for other tables, and then for one after
    /// the other, so the first such call opens them all. One that cannot be read must not hide the rest from it.
    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.tables.get(name).is_some_and(|table| !table.initialized()) {
            for names in self.names.chunks(OPENED_AT_ONCE) {
                join_all(names.iter().map(|name| self.readable(name))).await;
            }
        }
        Ok(self.readable(name).await)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
