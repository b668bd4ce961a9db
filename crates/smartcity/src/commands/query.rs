//! `smartcity query`

use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::Result;
use serve::output::{self, Reading, write_for_reading};
use serve::sql::TimeTravel;

use crate::args::LakeArgs;
use crate::clients::open_engine;
use crate::config;
use crate::exit::usage;
use crate::process::{block_on, init_logging};
use crate::terminal::stdout_width;

/// Rows that a terminal is shown unless it asks for another number.
const TERMINAL_ROWS_MAX: u64 = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One statement; only reading is allowed
    sql: String,
    /// How to print the result; json is one object per line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Print so many rows and count the others; 0 prints all [default: 500 on a terminal, else all]
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// Fit a table into so many characters; 0 sets no limit [default: the terminal's width]
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    #[command(flatten)]
    lake: LakeArgs,
    /// Read every table at this version
    #[arg(long, value_name = "N", conflicts_with = "as_of")]
    at_version: Option<i64>,
    /// Read every table as it was at this time: ISO 8601 in UTC
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Columns that fit the terminal; rows too wide for it as lines
    Table,
    /// One `column = value` to a line
    Line,
    /// A table for a document
    Markdown,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object per line
    Json,
    /// A Parquet file
    Parquet,
}

impl Format {
    fn output(self) -> output::Format {
        match self {
            Format::Table => output::Format::Table,
            Format::Line => output::Format::Line,
            Format::Markdown => output::Format::Markdown,
            Format::Csv => output::Format::Csv,
            Format::Json => output::Format::Json,
            Format::Parquet => output::Format::Parquet,
        }
    }
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging("error");
    let config = config::load(file, &args.lake.flags())?;
    let time_travel = match (args.at_version, &args.as_of) {
        (Some(version), _) => TimeTravel::Version(version),
        (None, Some(time)) => TimeTravel::as_of(time)?,
        (None, None) => TimeTravel::Newest,
    };
    let format = args.format.output();
    if let (Some(rows), false) = (args.max_rows, format.is_for_reading()) {
        return Err(usage(format!(
            "--max-rows {rows} is for the formats table, line and markdown; for {format} write `limit {rows}` in the query"
        )));
    }
    let terminal = stdout_width();
    let reading = reading(terminal, args.width, args.max_rows);
    block_on(async {
        let engine = open_engine(&config, time_travel).await?;
        let result = engine.query(&args.sql).await?;
        let written = match write_for_reading(result, format, reading, BufWriter::new(io::stdout())).await {
            // `smartcity query ... | head` has seen enough.
            Err(error) if error.is_broken_pipe() => return Ok(()),
            written => written?,
        };
        if written.shown < written.rows && args.max_rows.is_none() {
            eprintln!("hint: --max-rows 0 prints all rows");
        }
        Ok(())
    })
}

/// What the reader has room for: a terminal of this width, if it is one, and what the flags say.
fn reading(terminal: Option<usize>, width: Option<usize>, rows_max: Option<u64>) -> Reading {
    let none_if_zero = |width: usize| (width > 0).then_some(width);
    Reading {
        width: width.map_or(terminal, none_if_zero),
        rows_max: match rows_max {
            Some(0) => None,
            Some(rows) => Some(rows),
            None => terminal.map(|_| TERMINAL_ROWS_MAX),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_an_end_and_a_pipe_has_none() {
        let is = |reading: Reading, width, rows_max| assert_eq!(reading, Reading { width, rows_max });
        is(reading(None, None, None), None, None);
        is(reading(Some(80), None, None), Some(80), Some(TERMINAL_ROWS_MAX));
        is(reading(Some(80), Some(0), Some(0)), None, None);
        is(reading(Some(80), Some(60), Some(7)), Some(60), Some(7));
        is(reading(None, Some(60), Some(7)), Some(60), Some(7));
    }
}
