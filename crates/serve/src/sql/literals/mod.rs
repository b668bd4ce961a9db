//! Comparisons in the column's own unit, over its whole range.
//!
//! DataFusion compares a timestamp with a text or a date, and a date with a timestamp, in nanoseconds, which end at the
//! years 1677 and 2262: a column with a row of the year 1 could not be compared with anything. Decimals are compared with
//! numbers as decimals of both sides' digits, 38 at most, which a column of many digits overflows; integers as doubles,
//! which hold 53 bits. Here the other side is cast to the column's type first, or where it is a number, rounded to one of
//! the column's with the operator that then says the same ([`numbers`]). So the comparison covers the column's whole
//! range, and pruning sees the bare column.

mod numbers;

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, cast};
use datafusion::optimizer::analyzer::{Analyzer, AnalyzerRule};

type Rule = Arc<dyn AnalyzerRule + Send + Sync>;

/// DataFusion's rules with ours before the one that coerces types.
pub(super) fn analyzer_rules() -> Vec<Rule> {
    let mut rules = Analyzer::new().rules;
    let before = rules.iter().position(|rule| rule.name() == "type_coercion");
    rules.insert(before.unwrap_or(rules.len()), Arc::new(CompareInOwnUnit));
    rules
}

#[derive(Debug)]
struct CompareInOwnUnit;

impl AnalyzerRule for CompareInOwnUnit {
    fn name(&self) -> &str {
        "compare_timestamps_in_own_unit"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            // Other nodes refer to an expression by its name.
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| Ok(rewrite(expr, &schema)))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })
        });
        rewritten.data()
    }
}

fn rewrite(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(op) => {
            if let Some(compared) = numbers::compared(&left, op, &right, schema) {
                return Transformed::yes(compared);
            }
            if is_date_with_nanoseconds(&left, &right, schema) || is_date_with_nanoseconds(&right, &left, schema) {
                let own = DataType::Timestamp(TimeUnit::Microsecond, None);
                let in_own =
                    |side: &Expr| cast_to(side, &own, schema).unwrap_or_else(|| cast(side.clone(), own.clone()));
                let (left, right) = (Box::new(in_own(&left)), Box::new(in_own(&right)));
                return Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }));
            }
            let (left_type, right_type) = (own_unit(&left, schema), own_unit(&right, schema));
            let (new_left, new_right) = match (left_type, right_type) {
                (Some(own), None) => (None, cast_to(&right, &own, schema)),
                (None, Some(own)) => (cast_to(&left, &own, schema), None),
                _ => (None, None),
            };
            let changed = new_left.is_some() || new_right.is_some();
            let binary = BinaryExpr {
                left: new_left.map_or(left, Box::new),
                op,
                right: new_right.map_or(right, Box::new),
            };
            Transformed::new_transformed(Expr::BinaryExpr(binary), changed)
        }
        Expr::Between(Between {
            expr,
            negated,
            low,
            high,
        }) => {
            if let Some(between) = numbers::between(&expr, negated, &low, &high, schema) {
                return Transformed::yes(between);
            }
            let own = own_unit(&expr, schema);
            let bound = |bound: &Expr| own.as_ref().and_then(|own| cast_to(bound, own, schema));
            let (new_low, new_high) = (bound(&low), bound(&high));
            let changed = new_low.is_some() || new_high.is_some();
            let between = Between {
                expr,
                negated,
                low: new_low.map_or(low, Box::new),
                high: new_high.map_or(high, Box::new),
            };
            Transformed::new_transformed(Expr::Between(between), changed)
        }
        Expr::InList(InList {
            expr,
            mut list,
            negated,
        }) => {
            let mut changed = numbers::set_in_own_type(&expr, &mut list, schema);
            if let Some(own) = own_unit(&expr, schema) {
                for value in &mut list {
                    if let Some(new) = cast_to(value, &own, schema) {
                        *value = new;
                        changed = true;
                    }
                }
            }
            Transformed::new_transformed(Expr::InList(InList { expr, list, negated }), changed)
        }
        other => Transformed::no(other),
    }
}

pub(super) fn is_comparison(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// The type of a timestamp that is coarser than nanoseconds.
fn own_unit(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    match expr.get_type(schema).ok()? {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => None,
        own @ DataType::Timestamp(..) => Some(own),
        _ => None,
    }
}

/// A date and something in nanoseconds, which it is compared with in microseconds.
fn is_date_with_nanoseconds(one: &Expr, other: &Expr, schema: &DFSchema) -> bool {
    let is = |expr: &Expr, fits: fn(&DataType) -> bool| expr.get_type(schema).is_ok_and(|own| fits(&own));
    is(one, |own| matches!(own, DataType::Date32))
        && is(other, |own| matches!(own, DataType::Timestamp(TimeUnit::Nanosecond, _)))
}

/// `expr` in a timestamp's type, where it is a date, a literal text, a text that is cast to a timestamp, or in nanoseconds.
fn cast_to(expr: &Expr, own: &DataType, schema: &DFSchema) -> Option<Expr> {
    if let Expr::Cast(outer) = expr
        && matches!(outer.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _))
        && is_text(&outer.expr)
    {
        return Some(cast((*outer.expr).clone(), own.clone()));
    }
    // Of `now()`, what it holds below a microsecond decides nothing.
    let is_other = || {
        matches!(
            expr.get_type(schema),
            Ok(DataType::Date32 | DataType::Date64 | DataType::Timestamp(TimeUnit::Nanosecond, _))
        )
    };
    (is_text(expr) || is_other()).then(|| cast(expr.clone(), own.clone()))
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.data_type().is_string() && !value.is_null())
}
