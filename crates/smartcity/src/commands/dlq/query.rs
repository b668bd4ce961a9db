//! Dead letters by SQL: what `list`, `show` and `replay` have in common.

use std::io::{self, BufWriter};

use anyhow::Result;
use model::DEAD_LETTERS;
use serve::output::{Format, Reading, write_for_reading};
use serve::sql::QueryResult;

use crate::clients::open_tables;
use crate::config::Config;
use crate::terminal::stdout_width;

#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only those that fulfil a condition on the table dead_letters
    #[arg(long, value_name = "SQL")]
    r#where: Option<String>,
}

/// Runs a query on the dead letters that are wanted: `sql` gets a subquery that gives them, with every column that the
/// table has today. `None` when the lake has no dead letters yet.
pub(super) async fn query(
    config: &Config,
    wanted: &FilterArgs,
    sql: impl FnOnce(&str) -> String,
) -> Result<Option<QueryResult>> {
    let (engine, names) = open_tables(config).await?;
    if !names.iter().any(|name| name == DEAD_LETTERS) {
        return Ok(None);
    }
    let found = engine.query("select * from dead_letters limit 0").await?;
    let source = match found.schema().column_with_name("element") {
        Some(_) => "select * from dead_letters",
        // No writer has opened the table since the column came.
        None => "select *, cast(null as int) as element from dead_letters",
    };
    let condition = wanted.r#where.as_deref().unwrap_or("true");
    let subquery = format!("select * from ({source}) where ({condition})");
    Ok(Some(engine.query(&sql(&subquery)).await?))
}

/// Says that there are none; nothing as JSON, which is a line for each.
pub(super) fn none(wanted: &FilterArgs, json: bool) -> Result<()> {
    match &wanted.r#where {
        _ if json => {}
        None => println!("no dead letters"),
        Some(condition) => println!("no dead letters with {condition}"),
    }
    Ok(())
}

/// Prints one JSON object per line.
pub(super) async fn print_json(result: QueryResult) -> Result<()> {
    match write_for_reading(result, Format::Json, Reading::default(), BufWriter::new(io::stdout())).await {
        Err(error) if error.is_broken_pipe() => Ok(()),
        written => Ok(written.map(drop)?),
    }
}

/// Prints a small result as a table that fits the terminal, or says that there are none.
pub(super) async fn print_table(result: QueryResult, wanted: &FilterArgs) -> Result<()> {
    let reading = Reading {
        width: stdout_width(),
        rows_max: None,
    };
    let mut text = Vec::new();
    match write_for_reading(result, Format::Table, reading, &mut text).await?.rows {
        0 => none(wanted, false),
        _ => crate::print::until_closed(&String::from_utf8_lossy(&text)),
    }
}
