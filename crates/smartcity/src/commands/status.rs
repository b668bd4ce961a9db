//! `smartcity status`

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use futures::TryStreamExt as _;
use ingest::drift::Drift;
use model::{DEAD_LETTERS, EXTRA, INGESTED_AT, Stream};
use serde_json::{Value, json};
use serve::output::{Format, write_result};
use serve::sql::Engine;

use crate::args::{LakeArgs, StreamsArgs};
use crate::clients::open_tables;
use crate::config;
use crate::declarations;
use crate::process::{block_on, init_logging};

/// Undeclared fields that are shown of each stream, the most frequent first.
const FIELDS_SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    streams: StreamsArgs,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging("error");
    let config = config::load(file, &[args.lake.flags(), args.streams.flags()].concat())?;
    let streams = declarations::load(&config, &[])?;
    block_on(async {
        let (engine, names) = open_tables(&config).await?;
        let has_letters = names.iter().any(|name| name == DEAD_LETTERS);
        let mut told = Vec::new();
        for stream in streams.iter().filter(|stream| names.contains(&stream.name)) {
            let landed = landed(&engine, stream).await?;
            let letters = match has_letters {
                true => letters(&engine, stream).await?,
                false => Vec::new(),
            };
            let drift = drift(&engine, stream).await?;
            if args.json {
                told.push(json!({
                    "stream": stream.name, "topic": stream.topic, "rows": landed["rows"],
                    "last_event_time": landed["last_event_time"], "last_landed": landed["last_landed"],
                    "dead_letters": letters, "rows_with_undeclared_fields": drift.rows,
                    "undeclared_fields": drift.fields, "other_undeclared_fields": drift.others,
                }));
            } else {
                print(stream, &landed, &letters, &drift);
            }
        }
        if args.json {
            println!("{}", json!({ "lake": config.lake.path, "streams": told }));
        }
        Ok(())
    })
}

async fn landed(engine: &Engine, stream: &Stream) -> Result<Value> {
    let sql = format!(
        r#"select count(*) as rows, max("{}") as last_event_time, max({INGESTED_AT}) as last_landed from "{}""#,
        stream.event_time_column(),
        stream.name
    );
    let rows = objects(engine, &sql).await?;
    rows.into_iter().next().context("count(*) gave no row")
}

/// Counts by stage, class and field, the most frequent first.
async fn letters(engine: &Engine, stream: &Stream) -> Result<Vec<Value>> {
    let sql = format!(
        "select stage, error_class, field, count(*) as letters from dead_letters where topic = '{}' \
         group by stage, error_class, field order by letters desc, stage, error_class, field",
        stream.topic
    );
    objects(engine, &sql).await
}

async fn drift(engine: &Engine, stream: &Stream) -> Result<Drift> {
    let sql = format!(
        r#"select arrow_cast({EXTRA}, 'Utf8') from "{}" where {EXTRA} is not null"#,
        stream.name
    );
    let mut drift = Drift::of(stream);
    let mut batches = engine.query(&sql).await?;
    while let Some(batch) = batches.try_next().await? {
        drift.add(&batch).map_err(|error| anyhow!("{}: {error}", stream.name))?;
    }
    Ok(drift)
}

/// A small result, an object for each row.
async fn objects(engine: &Engine, sql: &str) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    write_result(engine.query(sql).await?, Format::Json, &mut lines).await?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}

fn print(stream: &Stream, landed: &Value, letters: &[Value], drift: &Drift) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let count = |letter: &Value| letter["letters"].as_u64().unwrap_or_default();
    println!(
        "{}: {} rows to {}, landed {}; {} dead letters",
        stream.name,
        landed["rows"],
        text(&landed["last_event_time"]),
        text(&landed["last_landed"]),
        letters.iter().map(count).sum::<u64>(),
    );
    for letter in letters {
        let field = letter["field"]
            .as_str()
            .map_or_else(String::new, |field| format!(" in {field}"));
        println!(
            "  {:>9} {} {}{field}",
            count(letter),
            text(&letter["stage"]),
            text(&letter["error_class"])
        );
    }
    if drift.rows > 0 {
        println!("  undeclared fields in {} rows, kept in _extra:", drift.rows);
        let mut fields: Vec<_> = drift.fields.iter().collect();
        fields.sort_by(|(a, many), (b, more)| more.cmp(many).then(a.cmp(b)));
        for (field, count) in fields.iter().take(FIELDS_SHOWN) {
            println!("  {count:>9} {field}");
        }
        let more = fields.len().saturating_sub(FIELDS_SHOWN);
        if more > 0 || drift.others > 0 {
            println!("  and more: --json shows up to a thousand");
        }
    }
}
