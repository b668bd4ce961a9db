//! `smartcity dlq list`

use std::path::Path;

use anyhow::Result;

use crate::args::LakeArgs;
use crate::config;
use crate::process::{block_on, init_logging};

use super::query::{FilterArgs, none, print_json, print_table, query};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(file: Option<&Path>, list: &Args) -> Result<()> {
    init_logging("error");
    let config = &config::load(file, &list.lake.flags())?;
    let sql = |letters: &str| {
        format!(
            "select topic, stage, error_class, field, count(*) as letters, min(ingested_at) as first_seen, \
             max(ingested_at) as last_seen from ({letters}) group by topic, stage, error_class, field \
             order by letters desc, topic, stage, error_class, field"
        )
    };
    block_on(async {
        let Some(result) = query(config, &list.filter, sql).await? else {
            return none(&list.filter, list.json);
        };
        match list.json {
            true => print_json(result).await,
            false => print_table(result, &list.filter).await,
        }
    })
}
