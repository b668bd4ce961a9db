//! `smartcity query`

use std::io::{self, BufWriter};
use std::path::Path;

use anyhow::Result;
use serve::output::{self, write_result};
use serve::sql::TimeTravel;

use crate::args::LakeArgs;
use crate::clients::open_engine;
use crate::config;
use crate::process::{block_on, init_logging};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One statement; only reading is allowed
    sql: String,
    /// How to print the result; json is one object per line
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
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
    Table,
    Csv,
    Json,
    Parquet,
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging("error");
    let config = config::load(file, &args.lake.flags())?;
    let time_travel = match (args.at_version, &args.as_of) {
        (Some(version), _) => TimeTravel::Version(version),
        (None, Some(time)) => TimeTravel::as_of(time)?,
        (None, None) => TimeTravel::Newest,
    };
    let format = match args.format {
        Format::Table => output::Format::Table,
        Format::Csv => output::Format::Csv,
        Format::Json => output::Format::Json,
        Format::Parquet => output::Format::Parquet,
    };
    block_on(async {
        let engine = open_engine(&config, time_travel).await?;
        let result = engine.query(&args.sql).await?;
        match write_result(result, format, BufWriter::new(io::stdout())).await {
            // `smartcity query ... | head` has seen enough.
            Err(error) if error.is_broken_pipe() => Ok(()),
            written => Ok(written.map(drop)?),
        }
    })
}
