//! The lake's tables by name, each opened when a statement names it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use deltalake_core::{DeltaTable, DeltaTableError};
use lake::Root;
use parking_lot::RwLock;
use tracing::warn;

use super::session::{CATALOG, SCHEMA};
use super::version::{self, TimeTravel};
use super::{ErrorKind, SqlError};

/// The schema that holds the tables. What it knows is as of the latest statement.
pub(super) struct LakeSchema {
    root: Root,
    time_travel: TimeTravel,
    names: RwLock<Vec<String>>,
    opened: RwLock<HashMap<String, Arc<dyn TableProvider>>>,
}

impl LakeSchema {
    pub(super) async fn open(root: Root, time_travel: TimeTravel) -> Result<LakeSchema, SqlError> {
        let lake = LakeSchema {
            root,
            time_travel,
            names: RwLock::default(),
            opened: RwLock::default(),
        };
        lake.refresh_names().await?;
        Ok(lake)
    }

    /// Names of the tables as last read, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.read().clone()
    }

    pub(super) async fn refresh_names(&self) -> Result<(), SqlError> {
        let names = self.root.table_names().await.map_err(SqlError::from_lake)?;
        *self.names.write() = names;
        Ok(())
    }

    /// Opens the tables that a statement names, so that it sees all that was committed before it began. A name that is
    /// no table is left to the planner, which knows where it stands. On failure also tells which table.
    pub(super) async fn prepare(&self, references: &[TableReference]) -> Result<(), (String, SqlError)> {
        let about_all = references
            .iter()
            .any(|reference| reference.schema() == Some("information_schema"));
        let ours: Vec<&str> = references
            .iter()
            .filter(|reference| matches!(reference.schema(), None | Some(SCHEMA)))
            .filter(|reference| matches!(reference.catalog(), None | Some(CATALOG)))
            .map(TableReference::table)
            .collect();
        if about_all || ours.iter().any(|name| !self.table_exist(name)) {
            self.refresh_names().await.map_err(|error| (String::new(), error))?;
        }
        if about_all {
            self.opened.write().clear();
        }
        for name in ours {
            if self.table_exist(name) {
                let table = self.open_table(name).await.map_err(|error| (name.to_owned(), error))?;
                self.opened.write().insert(name.to_owned(), table);
            }
        }
        Ok(())
    }

    async fn open_table(&self, name: &str) -> Result<Arc<dyn TableProvider>, SqlError> {
        let unreadable = |error: &dyn fmt::Display| {
            SqlError::new(ErrorKind::Failed, format!("table '{name}' cannot be read: {error}"))
        };
        let table = DeltaTable::new(self.root.log_store(name));
        let at = match self.time_travel {
            TimeTravel::Newest => None,
            travel => {
                let history = version::history(table.log_store().as_ref())
                    .await
                    .map_err(|error| unreadable(&error))?;
                Some(history.choose(name, travel)?)
            }
        };
        // Unlike a loaded `DeltaTable`, the provider's own snapshot lists no files until a plan asks for them.
        let provider = table.table_provider().with_table_version(at).await;
        provider.map_err(|error| match &error {
            DataFusionError::External(inner) => match inner.downcast_ref::<DeltaTableError>() {
                Some(inner) => unreadable(inner),
                None => unreadable(&error),
            },
            error => unreadable(error),
        })
    }
}

impl fmt::Debug for LakeSchema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LakeSchema")
            .field("location", &self.root.location())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    /// What [`LakeSchema::prepare`] opened. Any other table is asked for by the information schema alone, to which one
    /// unreadable table must not hide the rest.
    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(table) = self.opened.read().get(name) {
            return Ok(Some(Arc::clone(table)));
        }
        if !self.table_exist(name) {
            return Ok(None);
        }
        match self.open_table(name).await {
            Ok(table) => Ok(Some(table)),
            Err(error) => {
                warn!(table = name, %error, "table left out of the information schema");
                Ok(None)
            }
        }
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.names
            .read()
            .binary_search_by(|known| known.as_str().cmp(name))
            .is_ok()
    }
}
