//! `smartcity dlq show`

use std::path::Path;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use ingest::replay::{LETTER_COLUMNS, Letter};

use crate::args::LakeArgs;
use crate::config;
use crate::process::{block_on, init_logging};
use crate::terminal::stdout_width;

use super::letter_text::text;
use super::query::{FilterArgs, none, print_json, query};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: u64,
    /// Print one JSON object per line, with all columns
    #[arg(long)]
    json: bool,
}

pub(super) fn run(file: Option<&Path>, show: &Args) -> Result<()> {
    init_logging("error");
    let config = &config::load(file, &show.lake.flags())?;
    let order = format!(r#"order by topic, "partition", "offset", element limit {}"#, show.limit);
    block_on(async {
        if show.json {
            let Some(result) = query(config, &show.filter, |letters| format!("{letters} {order}")).await? else {
                return Ok(());
            };
            return print_json(result).await;
        }
        let sql = |letters: &str| format!("select {LETTER_COLUMNS} from ({letters}) {order}");
        let Some(mut found) = query(config, &show.filter, sql).await? else {
            return none(&show.filter, false);
        };
        let width = stdout_width();
        let mut is_empty = true;
        while let Some(batch) = found.try_next().await? {
            for letter in Letter::read(&batch).context("the dead letters have other columns than expected")? {
                print!("{}", text(&letter, width));
                is_empty = false;
            }
        }
        match is_empty {
            true => none(&show.filter, false),
            false => Ok(()),
        }
    })
}
