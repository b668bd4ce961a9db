//! Read-only SQL over a lake: every Delta table below `<root>/data/` by its folder's name.
//!
//! A table is opened when a statement names it, at its newest version (or where [`TimeTravel`] says), so a question to
//! one table costs nothing for its neighbours, and every statement sees what was committed before it began.

mod catalog;
mod error;
mod session;
mod statement;
mod version;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionContext;
use futures::{Stream, StreamExt, TryStreamExt};
use lake::Root;
use metrics::counter;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use self::error::{ErrorKind, SqlError};
pub use self::version::TimeTravel;

use self::catalog::LakeSchema;
use self::error::Place;

/// Memory that all queries of one engine may hold together unless told otherwise, in bytes.
pub const DEFAULT_MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// Stack of the thread that plans a query.
const PLAN_STACK_BYTES: usize = 256 * 1024 * 1024;

/// How an [`Engine`] reads.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Which version of the tables is read.
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
    context: SessionContext,
    lake: Arc<LakeSchema>,
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
        let lake = Arc::new(LakeSchema::open(root, settings.time_travel).await?);
        let state = session::state(&lake, &settings)?;
        Ok(Engine {
            context: SessionContext::new_with_state(state),
            lake,
        })
    }

    /// Names of the lake's tables, sorted, as of now.
    pub async fn table_names(&self) -> Result<Vec<String>, SqlError> {
        self.lake.refresh_names().await?;
        Ok(self.lake.names())
    }

    /// Plans one statement and starts it. What is wrong with the statement is found here; a failure while reading comes
    /// from the stream. Dropping the result cancels the query.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, SqlError> {
        let result = self.start_on_deep_stack(sql).await;
        let outcome = match &result {
            Ok(_) => "started",
            Err(error) if error.kind == ErrorKind::Usage => "refused",
            Err(_) => "failed",
        };
        counter!("smartcity_serve_queries_total", "outcome" => outcome).increment(1);
        result
    }

    /// Parsing, planning and optimizing descend one or more frames for each nested expression, in an unoptimised build
    /// large ones, and a stack overflow ends the whole process. So they get a thread with a stack for the largest
    /// statement that [`statement::parse`] lets through; untouched, its pages cost nothing.
    async fn start_on_deep_stack(&self, sql: &str) -> Result<QueryResult, SqlError> {
        let (engine, sql) = (self.clone(), sql.to_owned());
        let (answer, answered) = oneshot::channel();
        let runtime = Handle::current();
        let thread = std::thread::Builder::new()
            .name("plan-query".to_owned())
            .stack_size(PLAN_STACK_BYTES);
        let spawned = thread.spawn(move || {
            // Nobody listens when the query was dropped meanwhile.
            let _ = answer.send(runtime.block_on(engine.start(&sql)));
        });
        let failed = |why: &dyn std::fmt::Display| {
            SqlError::new(ErrorKind::Failed, format!("the query could not be planned: {why}"))
        };
        spawned.map_err(|error| failed(&error))?;
        answered.await.map_err(|_| failed(&"the planner panicked"))?
    }

    async fn start(&self, sql: &str) -> Result<QueryResult, SqlError> {
        let statement = statement::parse(sql)?;
        let kind = statement::check_read_only(&statement, sql)?;
        let state = self.context.state();
        let references = state
            .resolve_table_references(&statement)
            .map_err(|error| self.explain(error, sql))?;
        self.lake.prepare(&references).await.map_err(|(table, error)| {
            match statement::place_of_table(&statement, &table) {
                Some(place) => error.at(sql, place),
                None => error,
            }
        })?;
        let plan = state
            .statement_to_plan(statement)
            .await
            .map_err(|error| self.explain(error, sql))?;
        // `check_read_only` judges the statement's outside; this finds what writes within it (`SELECT INTO`).
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|_| statement::refusal("a statement that writes").at(sql, Place::first_word(sql)))?;
        let frame = self
            .context
            .execute_logical_plan(plan)
            .await
            .map_err(|error| self.explain(error, sql))?;
        let stream = frame.execute_stream().await.map_err(|error| self.explain(error, sql))?;
        Ok(QueryResult {
            schema: stream.schema(),
            is_plan: kind == statement::Kind::Plan,
            sql: sql.into(),
            lake: Arc::clone(&self.lake),
            stream,
        })
    }

    fn explain(&self, error: datafusion::error::DataFusionError, sql: &str) -> SqlError {
        SqlError::from_datafusion(&error, sql, &self.lake.names())
    }

    /// The session state queries run in, for the protocol servers that plan on their own.
    pub fn state(&self) -> SessionState {
        self.context.state()
    }
}

/// A running query: a stream of record batches that all have [`QueryResult::schema`]. Dropping it cancels the query.
pub struct QueryResult {
    schema: SchemaRef,
    is_plan: bool,
    sql: Arc<str>,
    lake: Arc<LakeSchema>,
    stream: SendableRecordBatchStream,
}

impl QueryResult {
    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Whether the rows are a plan's text (`EXPLAIN`), which a person wants whole.
    pub fn is_plan(&self) -> bool {
        self.is_plan
    }

    /// All batches at once; for results known to be small.
    pub async fn collect(self) -> Result<Vec<RecordBatch>, SqlError> {
        self.try_collect().await
    }
}

impl Stream for QueryResult {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.stream.poll_next_unpin(context);
        next.map_err(|error| SqlError::from_datafusion(&error, &self.sql, &self.lake.names()))
    }
}
