//! `smartcity dlq`

mod show;

use std::io::{self, BufWriter};

use anyhow::{Context as _, Result};
use futures::TryStreamExt;
use indicatif::ProgressBar;
use ingest::replay::{self, LETTER_COLUMNS, Letter, Replay, Replayed};
use lake::Lake;
use model::{Clock as _, DEAD_LETTERS, Streams, SystemClock};
use serve::output::{Format, write_result};
use serve::sql::QueryResult;

use crate::cli::{DlqList, DlqReplay, DlqShow};
use crate::config::Config;
use crate::declarations;
use crate::status::bar;
use crate::wiring::{block_on, init_logging, open_lake, open_tables};

/// Letters that are replayed in one pass, and their bytes: what is held in memory.
const PASS_LETTERS_MAX: usize = 20_000;
const PASS_BYTES_MAX: usize = 32 << 20;

pub(crate) fn list(config: &Config, list: &DlqList) -> Result<()> {
    init_logging("error");
    let sql = format!(
        "select topic, stage, error_class, field, count(*) as letters, min(ingested_at) as first_seen, \
         max(ingested_at) as last_seen from ({}) group by topic, stage, error_class, field \
         order by letters desc, topic, stage, error_class, field",
        letters(list.r#where.as_deref())
    );
    block_on(async {
        let Some(result) = query(config, &sql).await? else {
            return none(list.json);
        };
        print(result, list.json).await
    })
}

pub(crate) fn show(config: &Config, show: &DlqShow) -> Result<()> {
    init_logging("error");
    let order = format!(r#"order by topic, "partition", "offset" limit {}"#, show.limit);
    let filter = show.r#where.as_deref();
    block_on(async {
        if show.json {
            let Some(result) = query(config, &format!("{} {order}", letters(filter))).await? else {
                return none(true);
            };
            return print(result, true).await;
        }
        let sql = format!("select {LETTER_COLUMNS} from ({}) {order}", letters(filter));
        let Some(mut found) = query(config, &sql).await? else {
            return none(false);
        };
        while let Some(batch) = found.try_next().await? {
            for letter in Letter::read(&batch).context("the dead letters have other columns than expected")? {
                print!("{}", show::text(&letter));
            }
        }
        Ok(())
    })
}

pub(crate) fn replay(config: &Config, replay: &DlqReplay) -> Result<()> {
    init_logging("warn");
    let streams = declarations::load(config, &[])?;
    let sql = format!(
        r#"select {LETTER_COLUMNS} from ({}) order by topic, "partition", "offset""#,
        letters(replay.r#where.as_deref())
    );
    block_on(async {
        let mut run = Run {
            streams: &streams,
            lake: None,
            application: &config.ingest.application,
            bar: bar("{msg} {human_pos} letters {elapsed}"),
            open: None,
            by_stream: streams
                .iter()
                .map(|stream| (stream.name.clone(), Replayed::default()))
                .collect(),
            unknown: 0,
        };
        if !replay.dry_run {
            run.lake = Some(open_lake(config).await?);
        }
        if let Some(mut found) = query(config, &sql).await? {
            let (mut pass, mut bytes) = (Vec::new(), 0);
            while let Some(batch) = found.try_next().await? {
                for letter in Letter::read(&batch).context("the dead letters have other columns than expected")? {
                    let other: bool = pass
                        .first()
                        .is_some_and(|first: &Letter| first.id.topic_partition.topic != letter.id.topic_partition.topic);
                    if other || pass.len() >= PASS_LETTERS_MAX || bytes >= PASS_BYTES_MAX {
                        run.pass(&std::mem::take(&mut pass)).await?;
                        bytes = 0;
                    }
                    bytes += letter.bytes();
                    pass.push(letter);
                }
            }
            run.pass(&pass).await?;
        }
        run.bar.finish_and_clear();
        run.tell(replay);
        Ok(())
    })
}

/// A replay under way.
struct Run<'a> {
    streams: &'a Streams,
    /// `None` to try without writing.
    lake: Option<Lake>,
    application: &'a str,
    bar: ProgressBar,
    /// Of the stream whose letters are at hand.
    open: Option<(usize, Replay)>,
    by_stream: Vec<(String, Replayed)>,
    /// Letters of topics without a declaration.
    unknown: u64,
}

impl Run<'_> {
    /// Letters of one topic.
    async fn pass(&mut self, letters: &[Letter]) -> Result<()> {
        let Some(first) = letters.first() else { return Ok(()) };
        self.bar.inc(letters.len() as u64);
        let mut streams = self.streams.iter().enumerate();
        let Some((index, stream)) = streams.find(|(_, stream)| *stream.topic == *first.id.topic_partition.topic) else {
            self.unknown += letters.len() as u64;
            return Ok(());
        };
        self.bar.set_message(stream.name.clone());
        let replayed = match &self.lake {
            None => replay::preview(stream, letters),
            Some(lake) => {
                let replay = match self.open.take() {
                    Some((open, replay)) if open == index => replay,
                    _ => Replay::open(lake, stream, self.application).await?,
                };
                let (_, replay) = self.open.insert((index, replay));
                replay.land(letters, SystemClock.now_us()).await?
            }
        };
        self.by_stream[index].1.add(replayed);
        Ok(())
    }

    fn tell(&self, replay: &DlqReplay) {
        if replay.json {
            let streams: serde_json::Map<_, _> = self
                .by_stream
                .iter()
                .map(|(name, of)| {
                    let counts = serde_json::json!({
                        "rows": of.rows, "finished": of.finished, "bad": of.bad, "ahead": of.ahead,
                    });
                    (name.clone(), counts)
                })
                .collect();
            let told = serde_json::json!({
                "dry_run": replay.dry_run, "streams": streams, "without_declaration": self.unknown,
            });
            println!("{told}");
            return;
        }
        let became = if replay.dry_run {
            "would become rows"
        } else {
            "became rows"
        };
        for (name, of) in self.by_stream.iter().filter(|(_, of)| *of != Replayed::default()) {
            println!("{name}: {} {became}, {} are still bad", of.rows, of.bad);
            if of.finished > 0 {
                println!(
                    "  {} were rows already, of a replay that did not come to its end",
                    of.finished
                );
            }
            if of.ahead > 0 {
                println!(
                    "  {} are left for ingest, which has not landed their offsets yet",
                    of.ahead
                );
            }
        }
        if self.unknown > 0 {
            println!("{} letters are of topics without a declaration", self.unknown);
        }
        if self.by_stream.iter().all(|(_, of)| *of == Replayed::default()) && self.unknown == 0 {
            println!("no dead letters");
        }
    }
}

const ALL: &str = "select * from dead_letters";
/// The same of a table that was written before it had the column `element`.
const ALL_WITHOUT_ELEMENT: &str = "select *, cast(null as int) as element from dead_letters";

fn letters(filter: Option<&str>) -> String {
    format!("{ALL} where ({})", filter.unwrap_or("true"))
}

/// `None` when the lake has no dead letters yet.
async fn query(config: &Config, sql: &str) -> Result<Option<QueryResult>> {
    let (engine, names) = open_tables(config).await?;
    if !names.iter().any(|name| name == DEAD_LETTERS) {
        return Ok(None);
    }
    let columns = "select column_name from information_schema.columns where table_name = 'dead_letters'";
    let mut columns = engine.query(&format!("{columns} and column_name = 'element'")).await?;
    let mut has_element = false;
    while let Some(batch) = columns.try_next().await? {
        has_element |= batch.num_rows() > 0;
    }
    let sql = match has_element {
        true => sql.to_owned(),
        false => sql.replace(ALL, ALL_WITHOUT_ELEMENT),
    };
    Ok(Some(engine.query(&sql).await?))
}

fn none(json: bool) -> Result<()> {
    if !json {
        println!("no dead letters");
    }
    Ok(())
}

async fn print(result: QueryResult, json: bool) -> Result<()> {
    let format = if json { Format::Json } else { Format::Table };
    match write_result(result, format, BufWriter::new(io::stdout())).await {
        Err(error) if error.is_broken_pipe() => Ok(()),
        written => Ok(written.map(drop)?),
    }
}
