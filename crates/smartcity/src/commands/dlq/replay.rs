//! `smartcity dlq replay`

use std::path::Path;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use indicatif::ProgressBar;
use ingest::replay::{self, LETTER_COLUMNS, Letter, Replay, Replayed};
use lake::Lake;
use model::{Clock as _, Streams, SystemClock, kafka_topic};

use crate::args::{ApplicationArgs, LakeArgs, StreamsArgs, WriteArgs};
use crate::clients::open_lake;
use crate::config;
use crate::declarations;
use crate::process::{block_on, init_logging};
use crate::status::bar;

use super::query::{FilterArgs, query};

/// Letters that are replayed in one pass, and their bytes: what is held in memory.
const PASS_LETTERS_MAX: usize = 20_000;
const PASS_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Report what would become of them and write nothing
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

pub(super) fn run(file: Option<&Path>, replay: &Args) -> Result<()> {
    init_logging("warn");
    let flags = [
        replay.lake.flags(),
        replay.streams.flags(),
        replay.application.flags(),
        replay.write.flags(),
    ];
    let config = &config::load(file, &flags.concat())?;
    let streams = declarations::load(config, &[])?;
    let sql = |letters: &str| {
        format!(r#"select {LETTER_COLUMNS} from ({letters}) order by topic, "partition", "offset", element"#)
    };
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
        if let Some(mut found) = query(config, &replay.filter, sql).await? {
            let (mut pass, mut bytes) = (Vec::new(), 0);
            while let Some(batch) = found.try_next().await? {
                for letter in Letter::read(&batch).context("the dead letters have other columns than expected")? {
                    let other: bool = pass.first().is_some_and(|first: &Letter| {
                        first.id.topic_partition.topic != letter.id.topic_partition.topic
                    });
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
        let Some((index, stream)) =
            streams.find(|(_, stream)| stream.topic == kafka_topic(&first.id.topic_partition.topic))
        else {
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

    fn tell(&self, replay: &Args) {
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
