//! JSON in columns: the functions and operators to read `_extra` and columns of type json with (`json_get`, `->`, `->>`,
//! `?`), from `datafusion-functions-json`.
//!
//! `json_get` and `->` give a union of JSON's types, which no result format can hold. It is fine between functions, and
//! where a statement returns it, it becomes JSON text here.

use datafusion::common::{Column, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion_functions_json::udfs::json_union_to_text_udf;
use datafusion_functions_json::{JSON_UNION_DATA_TYPE, register_all};

/// Adds the functions, the rewrites that they need, and the operators.
pub(super) fn register(state: &mut SessionState) -> Result<()> {
    register_all(state)
}

/// The same statement with its JSON values as text, under the same names.
pub(super) fn readable(plan: LogicalPlan) -> Result<LogicalPlan> {
    let schema = plan.schema();
    if !schema
        .fields()
        .iter()
        .any(|field| *field.data_type() == *JSON_UNION_DATA_TYPE)
    {
        return Ok(plan);
    }
    let to_text = json_union_to_text_udf();
    let columns: Vec<Expr> = schema
        .columns()
        .into_iter()
        .map(|column: Column| {
            let expr = Expr::Column(column.clone());
            match expr.get_type(schema) {
                Ok(data_type) if data_type == *JSON_UNION_DATA_TYPE => {
                    to_text.call(vec![expr]).alias_qualified(column.relation, column.name)
                }
                _ => expr,
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
