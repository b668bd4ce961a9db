//! Which statements are let through: those that read, one at a time.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, Spanned, visit_relations};

use super::error::Place;
use super::{ErrorKind, SqlError};

/// What the rows of a statement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rows,
    /// The text of a plan.
    Plan,
}

/// Reads exactly one statement.
pub(super) fn parse(sql: &str) -> Result<Statement, SqlError> {
    let parsed: Result<_, DataFusionError> = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let mut statements = parsed.map_err(|error| SqlError::from_datafusion(&error, sql, &[]))?;
    match (statements.pop_front(), statements.pop_front()) {
        (Some(statement), None) => Ok(statement),
        (None, _) => Err(SqlError::new(ErrorKind::Usage, "no SQL statement given")
            .with_hint("try \"select count(*) from vehicle_data\" or \"show tables\"")),
        (Some(_), Some(second)) => {
            let error = SqlError::new(ErrorKind::Usage, "more than one statement").with_hint("give them one at a time");
            Err(match &second {
                Statement::Statement(second) => match Place::of(second.span()) {
                    Some(place) => error.at(sql, place),
                    None => error,
                },
                _ => error,
            })
        }
    }
}

/// Lets SELECT, WITH, VALUES, EXPLAIN of these, SHOW and DESCRIBE pass, and nothing else.
pub(super) fn check_read_only(statement: &Statement, sql: &str) -> Result<Kind, SqlError> {
    match statement {
        Statement::Explain(explain) => check_read_only(&explain.statement, sql).map(|_| Kind::Plan),
        Statement::Statement(inner) => check_sql_statement(inner, sql),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => Err(refused(statement, sql)),
    }
}

fn check_sql_statement(statement: &ast::Statement, sql: &str) -> Result<Kind, SqlError> {
    match statement {
        ast::Statement::Explain { statement, .. } => check_sql_statement(statement, sql).map(|_| Kind::Plan),
        ast::Statement::Query(_)
        | ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. } => Ok(Kind::Rows),
        other => Err(refused(other, sql)),
    }
}

fn refused(statement: &impl ToString, sql: &str) -> SqlError {
    let text = statement.to_string();
    let mut words = text.split_whitespace();
    let verb = words.next().unwrap_or_default().to_uppercase();
    let name = match (verb.as_str(), words.next()) {
        ("CREATE" | "DROP" | "ALTER", Some(object)) => format!("{verb} {}", object.to_uppercase()),
        _ => verb,
    };
    refusal(&name).at(sql, Place::first_word(sql))
}

/// The error for a statement that is not among those that read.
pub(super) fn refusal(name: &str) -> SqlError {
    SqlError::new(
        ErrorKind::Usage,
        format!("{name} is refused: queries only read the lake"),
    )
    .with_hint("SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES, SHOW COLUMNS and DESCRIBE are allowed")
}

/// Where a statement names `table` first.
pub(super) fn place_of_table(statement: &Statement, table: &str) -> Option<Place> {
    match statement {
        Statement::Explain(explain) => place_of_table(&explain.statement, table),
        Statement::Statement(statement) => {
            let found = visit_relations(statement.as_ref(), |name| {
                let last = name.0.last().and_then(|part| part.as_ident());
                match last.filter(|ident| ident.value.eq_ignore_ascii_case(table)) {
                    Some(ident) => ControlFlow::Break(Place::of(ident.span)),
                    None => ControlFlow::Continue(()),
                }
            });
            match found {
                ControlFlow::Break(place) => place,
                ControlFlow::Continue(()) => None,
            }
        }
        _ => None,
    }
}
