//! What one client of the engine works in: its settings, its prepared statements, and a way to stop what it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use metrics::counter;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;
use super::error::{ErrorKind, SqlError};
use super::limits::Limits;
use super::plan::{self, Description};
use super::planner_pool::PlannerError;
use super::result::QueryResult;
use super::version::TimeTravel;

/// How a session reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionSettings {
    /// Which version of the tables its statements read.
    pub time_travel: TimeTravel,
    /// Longest time of a statement, from its start until its last row was taken; `None` means no limit.
    pub statement_timeout: Option<Duration>,
}

/// A client's session. Cheap to clone; clones share the settings and are cancelled together.
#[derive(Clone)]
pub struct Session {
    environment: Arc<Environment>,
    settings: SessionSettings,
    running: CancelHandle,
}

impl Session {
    pub(super) fn new(environment: Arc<Environment>, settings: SessionSettings) -> Session {
        Session {
            environment,
            settings,
            running: CancelHandle::new(),
        }
    }

    /// Plans one statement and starts it. What is wrong with the statement is found here; a failure while reading comes
    /// from the stream. Dropping the future or the result cancels the query.
    pub async fn query(&self, sql: &str) -> Result<QueryResult, SqlError> {
        self.start(sql.into(), Vec::new()).await
    }

    /// Checks one statement, which may have parameters `$1`, `$2`, ..., and finds their types and its result's.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared, SqlError> {
        let sql: Arc<str> = sql.into();
        let planning = plan::describe(
            Arc::clone(&self.environment),
            self.settings.time_travel,
            Arc::clone(&sql),
        );
        let described = self.plan(planning, self.limits()).await;
        count(&described, "prepared");
        Ok(Prepared {
            session: self.clone(),
            sql,
            description: described?,
        })
    }

    /// Stops the statements of this session that run when it is used, from anywhere.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.running.clone()
    }

    async fn start(&self, sql: Arc<str>, values: Vec<ScalarValue>) -> Result<QueryResult, SqlError> {
        let limits = self.limits();
        let planning = plan::start(
            Arc::clone(&self.environment),
            self.settings.time_travel,
            Arc::clone(&sql),
            values,
            Handle::current(),
        );
        let started = self.plan(planning, limits.clone()).await;
        count(&started, "started");
        Ok(QueryResult::new(started?, sql, limits))
    }

    async fn plan<T: Send + 'static>(
        &self,
        planning: impl Future<Output = Result<T, SqlError>> + Send + 'static,
        limits: Limits,
    ) -> Result<T, SqlError> {
        tokio::select! {
            biased;
            reason = limits.reached() => Err(reason),
            planned = self.environment.planners.run(planning) => planned.unwrap_or_else(|error| Err(not_planned(&error))),
        }
    }

    fn limits(&self) -> Limits {
        Limits::new(self.running.token(), self.settings.statement_timeout)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn not_planned(error: &PlannerError) -> SqlError {
    let found = SqlError::new(ErrorKind::Failed, error.to_string());
    match error {
        PlannerError::QueueFull => found.with_hint("try again in a moment"),
        _ => found,
    }
}

fn count<T>(result: &Result<T, SqlError>, good: &'static str) {
    let outcome = match result {
        Ok(_) => good,
        Err(error) => match error.kind {
            ErrorKind::Usage => "refused",
            ErrorKind::Failed => "failed",
            ErrorKind::Cancelled => "cancelled",
        },
    };
    counter!("smartcity_serve_queries_total", "outcome" => outcome).increment(1);
}

/// Stops a session's running statements; see [`Session::cancel_handle`].
#[derive(Clone, Debug)]
pub struct CancelHandle(Arc<Mutex<CancellationToken>>);

impl CancelHandle {
    fn new() -> CancelHandle {
        CancelHandle(Arc::new(Mutex::new(CancellationToken::new())))
    }

    /// Ends what the session runs now with [`ErrorKind::Cancelled`]. Statements that start later are not affected.
    pub fn cancel(&self) {
        std::mem::take(&mut *self.0.lock()).cancel();
    }

    fn token(&self) -> CancellationToken {
        self.0.lock().clone()
    }
}

/// A checked statement. It holds no table: each execution sees what was committed before it began.
#[derive(Clone, Debug)]
pub struct Prepared {
    session: Session,
    sql: Arc<str>,
    description: Description,
}

impl Prepared {
    /// Type of each parameter, `$1` first; `None` where the statement leaves it open.
    pub fn parameters(&self) -> &[Option<DataType>] {
        &self.description.parameters
    }

    /// Names and types of the result's columns. A column whose type only a parameter decides is of type `Null`.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.description.schema)
    }

    /// Runs the statement with one value for each parameter, as [`Session::query`] does.
    ///
    /// Fails where the result is no longer of [`Prepared::schema`], because a table was changed since.
    pub async fn execute(&self, values: Vec<ScalarValue>) -> Result<QueryResult, SqlError> {
        let result = self.session.start(Arc::clone(&self.sql), values).await?;
        let (prepared, now) = (self.schema(), result.schema());
        let same = prepared.fields().len() == now.fields().len()
            && prepared.fields().iter().zip(now.fields()).all(|(prepared, now)| {
                let is_open = prepared.data_type().is_null();
                prepared.name() == now.name() && (is_open || prepared.data_type() == now.data_type())
            });
        match same {
            true => Ok(result),
            false => Err(SqlError::new(
                ErrorKind::Failed,
                "the statement's result has other columns than when it was prepared",
            )
            .with_hint("a table was changed meanwhile: prepare the statement again")),
        }
    }
}
