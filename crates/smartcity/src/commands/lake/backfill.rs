//! `smartcity lake backfill`

use std::path::Path;

use anyhow::{Result, anyhow};
use futures::TryStreamExt as _;
use ingest::backfill::{self, Backfill, Backfilled};
use lake::Root;
use model::{EXTRA, Stream};
use serve::sql::TimeTravel;

use crate::args::{ApplicationArgs, LakeArgs, StreamsArgs, WriteArgs};
use crate::clients::{open_engine, open_lake};
use crate::config::{self, Config};
use crate::declarations;
use crate::exit::usage;
use crate::process::{block_on, init_logging};
use crate::status::bar;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    /// Only these streams
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    only: Vec<String>,
    /// Report what would be moved and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    streams: StreamsArgs,
    #[command(flatten)]
    application: ApplicationArgs,
    #[command(flatten)]
    write: WriteArgs,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(file: Option<&Path>, backfill: &Args) -> Result<()> {
    init_logging("warn");
    let flags = [
        backfill.lake.flags(),
        backfill.streams.flags(),
        backfill.application.flags(),
        backfill.write.flags(),
    ];
    let config = &config::load(file, &flags.concat())?;
    let streams = declarations::load(config, &backfill.only)?;
    block_on(async {
        let root = Root::at(&config.lake.path, std::env::vars())?;
        let names = root.table_names().await?;
        let mut done = Vec::new();
        // A table that is not there would be made by opening it.
        for stream in streams.iter().filter(|stream| names.contains(&stream.name)) {
            let found = match backfill.dry_run {
                true => preview(config, stream).await?,
                false => fill(config, stream).await?,
            };
            done.push((stream.name.as_str(), found));
        }
        if done.is_empty() {
            return Err(usage(format!("none of the streams has a table in {}", root.location())));
        }
        tell(backfill, &done);
        Ok(())
    })
}

async fn fill(config: &Config, stream: &Stream) -> Result<Backfilled> {
    let lake = open_lake(config).await?;
    let table = lake.table(stream, &config.ingest.application).await?;
    let bar = bar("{msg} {wide_bar} {pos} of {len} files {eta}");
    bar.set_message(stream.name.clone());
    let progress = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let mut backfill = Backfill::new(table, stream).map_err(|error| anyhow!("{}: {error}", stream.name))?;
    let found = backfill.run(&progress).await;
    bar.finish_and_clear();
    Ok(found?)
}

async fn preview(config: &Config, stream: &Stream) -> Result<Backfilled> {
    let engine = open_engine(config, TimeTravel::default()).await?;
    let sql = format!(
        r#"select arrow_cast({EXTRA}, 'Utf8') from "{}" where {EXTRA} is not null"#,
        stream.name
    );
    let mut found = Backfilled::default();
    let mut batches = engine.query(&sql).await?;
    while let Some(batch) = batches.try_next().await? {
        let part = backfill::preview(stream, &batch).map_err(|error| anyhow!("{}: {error}", stream.name))?;
        found.add(part);
    }
    Ok(found)
}

fn tell(backfill: &Args, done: &[(&str, Backfilled)]) {
    if backfill.json {
        let streams: serde_json::Map<_, _> = done
            .iter()
            .map(|(name, of)| {
                let counts = serde_json::json!({
                    "values": of.values, "rows": of.rows, "bad": of.bad, "files": of.files,
                });
                ((*name).to_owned(), counts)
            })
            .collect();
        println!(
            "{}",
            serde_json::json!({ "dry_run": backfill.dry_run, "streams": streams })
        );
        return;
    }
    let moved = if backfill.dry_run { "would move" } else { "moved" };
    for (name, of) in done {
        println!(
            "{name}: {} values {moved} into their columns, in {} rows",
            of.values, of.rows
        );
        if of.bad > 0 {
            println!(
                "  {} rows stay as they are: a value is not what its column takes",
                of.bad
            );
        }
    }
}
