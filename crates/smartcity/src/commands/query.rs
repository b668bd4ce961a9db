//! `smartcity query`

use std::io::{self, BufWriter};

use anyhow::Result;
use serve::output::{self, write_result};
use serve::sql::TimeTravel;

use crate::cli::{Format, Query};
use crate::config::Config;
use crate::wiring::{block_on, init_logging, open_engine};

pub(crate) fn run(config: &Config, query: &Query) -> Result<()> {
    init_logging("error");
    let time_travel = match (query.at_version, &query.as_of) {
        (Some(version), _) => TimeTravel::Version(version),
        (None, Some(time)) => TimeTravel::as_of(time)?,
        (None, None) => TimeTravel::Newest,
    };
    let format = match query.format {
        Format::Table => output::Format::Table,
        Format::Csv => output::Format::Csv,
        Format::Json => output::Format::Json,
        Format::Parquet => output::Format::Parquet,
    };
    block_on(async {
        let engine = open_engine(config, time_travel).await?;
        let result = engine.query(&query.sql).await?;
        match write_result(result, format, BufWriter::new(io::stdout())).await {
            // `smartcity query ... | head` has seen enough.
            Err(error) if error.is_broken_pipe() => Ok(()),
            written => Ok(written.map(drop)?),
        }
    })
}
