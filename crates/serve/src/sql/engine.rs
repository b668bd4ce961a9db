//! One lake, open for SQL: what its sessions share, and the settings of it.

use std::sync::Arc;

use lake::Root;

use super::environment::Environment;
use super::error::SqlError;
use super::result::QueryResult;
use super::session::{Session, SessionSettings};
use super::version::TimeTravel;

/// Memory that all queries of one engine may hold together by default, in bytes.
pub const DEFAULT_MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// How an [`Engine`] reads.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Which version of the tables [`Engine::query`] reads. A [`Session`] has its own setting.
    pub time_travel: TimeTravel,
    /// Bound on what sorts, joins and aggregations hold, in bytes, over all queries of the engine together. Beyond it
    /// they spill to the system's temporary folder, or the query fails where it cannot spill.
    pub memory_bytes: usize,
    /// Plan partitions worked on at the same time; `None` means one for each core.
    pub partitions: Option<usize>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            time_travel: TimeTravel::Newest,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            partitions: None,
        }
    }
}

/// A read-only SQL engine over one lake. Cheap to clone; queries may run at the same time.
#[derive(Clone)]
pub struct Engine {
    environment: Arc<Environment>,
    time_travel: TimeTravel,
}

impl Engine {
    /// Opens the lake at `location` with default settings.
    pub async fn open(location: &str, time_travel: TimeTravel) -> Result<Engine, SqlError> {
        let settings = EngineSettings {
            time_travel,
            ..EngineSettings::default()
        };
        Engine::open_with(location, settings).await
    }

    /// Opens the lake at `location`: a folder, a `file://` URL, or `s3://bucket/prefix` with the environment's `AWS_*`.
    /// The folder must exist: a reader creates nothing.
    pub async fn open_with(location: &str, settings: EngineSettings) -> Result<Engine, SqlError> {
        let root = Root::open(location, std::env::vars()).map_err(SqlError::from_lake)?;
        Engine::on(root, settings).await
    }

    /// An engine over a lake that was opened elsewhere. Reads the names of its tables and nothing else.
    pub async fn on(root: Root, settings: EngineSettings) -> Result<Engine, SqlError> {
        let environment = Environment::new(root, settings.memory_bytes, settings.partitions)?;
        environment.refresh_table_names().await?;
        Ok(Engine {
            environment: Arc::new(environment),
            time_travel: settings.time_travel,
        })
    }

    /// Names of the lake's tables, sorted, as of now.
    pub async fn table_names(&self) -> Result<Vec<String>, SqlError> {
        let names = self.environment.refresh_table_names().await?;
        Ok(names.to_vec())
    }

    /// A session: what one client of the engine works in.
    pub fn session(&self, settings: SessionSettings) -> Session {
        Session::new(Arc::clone(&self.environment), settings)
    }

    /// Plans one statement and starts it, in a session of its own without a timeout. See [`Session::query`].
    pub async fn query(&self, sql: &str) -> Result<QueryResult, SqlError> {
        let session = self.session(SessionSettings {
            time_travel: self.time_travel,
            ..SessionSettings::default()
        });
        session.query(sql).await
    }

    /// Memory that running queries hold of [`EngineSettings::memory_bytes`], in bytes.
    pub fn memory_reserved(&self) -> usize {
        self.environment.memory_reserved()
    }
}
