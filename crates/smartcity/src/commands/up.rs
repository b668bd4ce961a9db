//! `smartcity up`: broker, simulated vehicle, ingest, lake and status page in one process, each as it would be alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use ::broker::Broker;
use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use ingest::Until;
use kafka::KafkaConfig;
use model::{Chunk, Streams, event_time};
use serde::Deserialize;
use serve::http::HttpServer;
use sim::classic::Classic;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::commands::broker;
use crate::commands::simulate::{Topics, drive, new_run, open_producer};
use crate::config::Config;
use crate::declarations;
use crate::status::{JobStatus, StatusLine};
use crate::wiring::{block_on, init_logging, init_metrics, new_progress, run_ingest, stop_on_signals};

/// Records at the end of a topic that are searched for the vehicle's last message.
const TAIL_RECORDS: i64 = 1000;
const TAIL_TIMEOUT: Duration = Duration::from_secs(20);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(config: &Config) -> Result<()> {
    init_logging("warn");
    let streams = declarations::load(config, &[])?;
    block_on(up(config, &streams))
}

async fn up(config: &Config, streams: &Streams) -> Result<()> {
    let stop = stop_on_signals()?;
    let starting = Starting::new();
    let metrics = init_metrics()?;
    let progress = new_progress(config, streams);

    starting.say("opening the broker's topics");
    let broker = broker::start(config).await?;
    let kafka = KafkaConfig::new(broker.address().to_string());
    let status = Arc::new(JobStatus::new(Arc::clone(&progress), metrics));
    let http = match config.http.listen {
        Some(address) => Some(HttpServer::start(address, status).await?),
        None => None,
    };

    starting.say("creating topics and tables");
    let topics = Topics::new(streams);
    let names: BTreeSet<&str> = streams
        .iter()
        .map(|stream| stream.topic.as_str())
        .chain(topics.iter())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    kafka::create_topics(&kafka, &names, config.broker.partitions).await?;

    // The vehicle stops first, ingest lands what it has sent, then the broker goes.
    let (stop_vehicle, stop_ingest) = (stop.child_token(), CancellationToken::new());
    let mut config_up = config.clone();
    config_up.ingest.latency = config.up.latency;
    let ingest = run_ingest(
        &config_up,
        &kafka,
        streams,
        Arc::clone(&progress),
        Until::Stopped,
        stop_ingest.clone(),
    );
    let work = async {
        tokio::pin!(ingest);
        let vehicle = async {
            let arrived = vehicle(config, &kafka, &topics, &stop_vehicle, &starting, || {
                greet(config, &broker.address().to_string(), http.as_ref());
                StatusLine::start(Arc::clone(&progress), "on the way")
            })
            .await;
            let (arrived, status_line) = arrived?;
            if arrived {
                status_line.say("the vehicle has arrived in Birmingham; everything stays up, Ctrl-C ends it");
                status_line.set_note("arrived");
            }
            stop.cancelled().await;
            status_line.end().await;
            anyhow::Ok(())
        };
        tokio::select! {
            // Ingest ends by itself only when it fails.
            failed = &mut ingest => return failed,
            error = storage_error(&broker) => bail!(
                "the broker cannot write its topics: {error}. Free some space and start again: it goes on from here, \
                 nothing acknowledged is lost."
            ),
            driven = vehicle => driven?,
        }
        eprintln!("stopping: landing what is under way");
        stop_ingest.cancel();
        ingest.await
    };
    let result = work.await;
    if let Some(http) = http {
        http.shutdown().await;
    }
    let ended = broker.shutdown().await;
    result?;
    ended?;
    let rows: u64 = progress.totals().iter().map(|(_, totals)| totals.rows).sum();
    eprintln!("stopped after {rows} rows; start again to go on");
    Ok(())
}

/// Ends when the broker can no longer write.
async fn storage_error(broker: &Broker) -> String {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Some(error) = broker.storage_error() {
            return error;
        }
    }
}

/// Drives the run, from where the topics show that it had come to. `true` when the vehicle has arrived.
async fn vehicle(
    config: &Config,
    kafka: &KafkaConfig,
    topics: &Topics,
    stop: &CancellationToken,
    starting: &Starting,
    ready: impl FnOnce() -> StatusLine,
) -> Result<(bool, StatusLine)> {
    starting.say("looking where the vehicle is");
    let seed = config.simulator.seed;
    let (tail_kafka, names) = (kafka.clone(), topics.iter().map(str::to_owned).collect::<Vec<_>>());
    let tail = tokio::task::spawn_blocking(move || {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        kafka::tail(&tail_kafka, &names, TAIL_RECORDS, TAIL_TIMEOUT)
    })
    .await??;
    let held = Held::find(seed, topics, &tail);
    let run = new_run(&config.simulator, held.start_us);
    let steps = run.clone().count() as u32;
    let producer = open_producer(kafka).await?;
    starting.end();
    let status_line = ready();
    if let Some(step) = held.steps.iter().flatten().max() {
        info!(step, steps, "the vehicle goes on from where it was");
    }

    let mut last = held.steps.iter().flatten().min().copied();
    drive(run, config.up.pace, topics, &producer, held.steps, stop, |step| {
        last = Some(step.number)
    })
    .await?;
    tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT))
        .await
        .context("the producer did not end")??;
    Ok((last.is_some_and(|last| last + 1 >= steps), status_line))
}

/// What the topics already hold of a run: state lives in Kafka alone, so a killed process goes on exactly.
struct Held {
    start_us: Option<i64>,
    /// The last step of each stream.
    steps: [Option<u32>; 5],
}

#[derive(Deserialize)]
struct Message {
    id: String,
    timestamp: String,
}

impl Held {
    fn find(seed: u64, topics: &Topics, tail: &[Chunk]) -> Self {
        let streams: BTreeMap<&str, usize> = topics.iter().zip(0..).collect();
        let mut held = Held {
            start_us: None,
            steps: [None; 5],
        };
        for chunk in tail {
            let Some(stream) = streams.get(&*chunk.topic_partition().topic) else {
                continue;
            };
            for record in chunk.iter() {
                let message = record
                    .value
                    .and_then(|value| serde_json::from_slice::<Message>(value).ok());
                let found = message.and_then(|message| {
                    Classic::resume(seed, &message.id, event_time::parse(message.timestamp.as_bytes())?)
                });
                if let Some(found) = found.filter(|found| found.stream == *stream) {
                    held.start_us = Some(found.start_us);
                    held.steps[*stream] = held.steps[*stream].max(Some(found.step));
                }
            }
        }
        held
    }
}

fn greet(config: &Config, kafka: &str, http: Option<&HttpServer>) {
    eprintln!("smartcity is up; Ctrl-C ends it, the next start goes on from there");
    eprintln!("  kafka     {kafka}");
    eprintln!("  lake      {}", config.lake.path);
    if let Some(http) = http {
        eprintln!(
            "  progress  http://{}/api/progress  (also /health, /metrics)",
            http.address()
        );
    }
    let lake = match config.lake.path.as_str() {
        "./smartcity-data/lake" => String::new(),
        path => format!(" --lake {path}"),
    };
    eprintln!("  try       smartcity query{lake} \"select count(*) from vehicle_data\"");
    eprintln!("            (from a clone: cargo run -- query{lake} \"...\")");
}

/// One line that says what the start is at; gone when it is done.
struct Starting(ProgressBar);

impl Starting {
    fn new() -> Self {
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn say(&self, what: &'static str) {
        info!(what, "starting");
        self.0.set_message(format!("starting: {what}"));
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
