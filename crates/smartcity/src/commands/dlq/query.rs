//! Dead letters by SQL: what `list`, `show` and `replay` have in common.

use std::io::{self, BufWriter};

use anyhow::Result;
use model::DEAD_LETTERS;
use serve::output::{Format, write_result};
use serve::sql::QueryResult;

use crate::clients::open_tables;
use crate::config::Config;

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

pub(super) fn none(json: bool) -> Result<()> {
    if !json {
        println!("no dead letters");
    }
    Ok(())
}

pub(super) async fn print(result: QueryResult, json: bool) -> Result<()> {
    let format = if json { Format::Json } else { Format::Table };
    match write_result(result, format, BufWriter::new(io::stdout())).await {
        Err(error) if error.is_broken_pipe() => Ok(()),
        written => Ok(written.map(drop)?),
    }
}
