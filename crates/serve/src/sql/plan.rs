//! From the text of one statement to its running plan. Everything here descends as deep as the statement nests, so it
//! runs on a thread of [`super::planner_pool`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use tokio::runtime::Handle;

use super::catalog::{StatementCatalog, lake_tables, reads_information_schema};
use super::environment::Environment;
use super::error::{ErrorKind, Place, SqlError};
use super::statement::{self, Kind};
use super::version::TimeTravel;

/// What is known of a statement before its parameters have values.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// Type of each parameter, `$1` first; `None` where the statement does not say.
    pub(super) parameters: Vec<Option<DataType>>,
    /// Names and types of the columns of its result.
    pub(super) schema: SchemaRef,
}

/// A statement whose plan runs.
pub(super) struct Started {
    pub(super) stream: SendableRecordBatchStream,
    /// Whether the rows are a plan's text.
    pub(super) is_plan: bool,
    /// The lake's tables, for hints of later errors.
    pub(super) table_names: Arc<[String]>,
}

/// Plans a statement as far as its parameters and result are known.
pub(super) async fn describe(
    environment: Arc<Environment>,
    time_travel: TimeTravel,
    sql: Arc<str>,
) -> Result<Description, SqlError> {
    let planned = Planned::new(&environment, time_travel, &sql).await?;
    Ok(Description {
        parameters: planned.parameters(&sql)?,
        schema: Arc::new(planned.plan.schema().as_arrow().clone()),
    })
}

/// Plans a statement and starts it. The plan's own tasks run on `runtime`, not on the threads that plan.
pub(super) async fn start(
    environment: Arc<Environment>,
    time_travel: TimeTravel,
    sql: Arc<str>,
    values: Vec<ScalarValue>,
    runtime: Handle,
) -> Result<Started, SqlError> {
    let planned = Planned::new(&environment, time_travel, &sql).await?;
    let parameters = planned.parameters(&sql)?.len();
    if parameters != values.len() {
        return Err(SqlError::new(
            ErrorKind::Usage,
            format!(
                "the statement has {parameters} parameters, and {} values were given",
                values.len()
            ),
        ));
    }
    let Planned {
        state,
        mut plan,
        kind,
        table_names,
    } = planned;
    let explain = |error: DataFusionError| SqlError::from_datafusion(&error, &sql, &table_names);
    if !values.is_empty() {
        plan = plan.with_param_values(values).map_err(explain)?;
    }
    let plan = state.create_physical_plan(&plan).await.map_err(explain)?;
    let context = Arc::new(TaskContext::from(&state));
    let stream = {
        let _tasks_go_to = runtime.enter();
        execute_stream(plan, context).map_err(explain)?
    };
    Ok(Started {
        stream,
        is_plan: kind == Kind::Plan,
        table_names,
    })
}

/// A statement as a logical plan over its own catalog.
struct Planned {
    state: SessionState,
    plan: LogicalPlan,
    kind: Kind,
    table_names: Arc<[String]>,
}

impl Planned {
    async fn new(environment: &Environment, time_travel: TimeTravel, sql: &str) -> Result<Planned, SqlError> {
        let statement = statement::parse(sql)?;
        let kind = statement::check_read_only(&statement, sql)?;
        let mut table_names = environment.table_names();
        let references = environment
            .template()
            .resolve_table_references(&statement)
            .map_err(|error| SqlError::from_datafusion(&error, sql, &table_names))?;
        // Listing costs one request for each table, so it is only done for what a known name does not answer.
        let is_unknown = |name: &&str| table_names.binary_search_by(|known| known.as_str().cmp(name)).is_err();
        if reads_information_schema(&references) || lake_tables(&references).iter().any(is_unknown) {
            table_names = environment.refresh_table_names().await?;
        }
        let catalog = StatementCatalog::new(environment.root.clone(), time_travel, Arc::clone(&table_names));
        catalog.open(&references).await.map_err(|(table, error)| {
            match statement::place_of_table(&statement, &table) {
                Some(place) => error.at(sql, place),
                None => error,
            }
        })?;
        let state = environment.state_over(Arc::new(catalog))?;
        let plan = state
            .statement_to_plan(statement)
            .await
            .map_err(|error| SqlError::from_datafusion(&error, sql, &table_names))?;
        // `check_read_only` sees a statement's outside; this finds what writes within it (`SELECT INTO`).
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|_| statement::refusal("a statement that writes").at(sql, Place::first_word(sql)))?;
        Ok(Planned {
            state,
            plan,
            kind,
            table_names,
        })
    }

    fn parameters(&self, sql: &str) -> Result<Vec<Option<DataType>>, SqlError> {
        let types = self
            .plan
            .get_parameter_types()
            .map_err(|error| SqlError::from_datafusion(&error, sql, &self.table_names))?;
        let mut by_number = BTreeMap::new();
        for (id, data_type) in types {
            let number = id.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
            match number.filter(|number| (1..=PARAMETERS_MAX).contains(number)) {
                Some(number) => by_number.insert(number, data_type),
                None => {
                    return Err(SqlError::new(ErrorKind::Usage, format!("no parameter: '{id}'"))
                        .with_hint(format!("parameters are numbered, $1 to ${PARAMETERS_MAX}")));
                }
            };
        }
        let count = by_number.last_key_value().map_or(0, |(number, _)| *number);
        Ok((1..=count).map(|number| by_number.remove(&number).flatten()).collect())
    }
}

/// Most parameters of a statement, as in PostgreSQL.
const PARAMETERS_MAX: usize = 65_535;
