//! `smartcity up`: broker, simulated city, ingest, lake and status page in one process, each as it would be alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::broker::Broker;
use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::ProgressBar;
use ingest::Until;
use kafka::KafkaConfig;
use model::{Chunk, Streams, event_time};
use serde::Deserialize;
use serve::http::HttpServer;
use sim::classic::Classic;
use sim::fleet::Fleet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::args::{self, FleetArgs, PaceArgs, StreamsArgs, WriteArgs, flags};
use crate::clients::{kafka_config, kafka_config_of};
use crate::commands::broker;
use crate::commands::simulate::{clock_text, open_producer};
use crate::config::{self, Config, Flags, Profile, Start};
use crate::declarations;
use crate::exit::usage;
use crate::ingest_job::{new_progress, run_ingest};
use crate::process::{block_on, init_logging, init_metrics, stop_on_signals};
use crate::simulation::{AlreadySent, Counters, Drive, Ledger, Run, Topics, fleet_settings, pace};
use crate::status::{JobStatus, StatusLine};

/// Records at the end of each partition that are searched for the vehicles' last messages: at least the first number, and
/// the second for each vehicle, up to the third.
const TAIL_RECORDS: i64 = 1000;
const TAIL_PER_VEHICLE: i64 = 4;
const TAIL_RECORDS_MAX: i64 = 200_000;
const TAIL_TIMEOUT: Duration = Duration::from_secs(20);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);
const CLASSIC_STEP: Duration = Duration::from_millis(250);
/// A vehicle whose last message is older has been silent for another reason than the end of the run.
const BEHIND_MAX_US: i64 = 600_000_000;

/// When a part has failed, the others have this long to shut down cleanly.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// The member of the consumer group that each run takes the place of.
const GROUP_INSTANCE_ID: &str = "up";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    pace: PaceArgs,
    /// The longest a record waits for its commit
    #[arg(long, value_name = "DURATION")]
    latency: Option<String>,
    /// Folder for the lake and the broker's topics [default: ./smartcity-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    streams: StreamsArgs,
    /// Where the embedded broker listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    kafka_listen: Option<String>,
    /// Where progress, health and metrics are shown; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
}

impl Args {
    fn flags(&self) -> Flags {
        let below = |name: &str| self.data_dir.as_ref().map(|dir| dir.join(name).display().to_string());
        let own = flags! {
            "up.profile" = self.fleet.profile.map(args::Profile::setting),
            "up.start" = self.pace.start,
            "up.pace" = self.pace.pace,
            "up.latency" = self.latency,
            "lake.path" = below("lake"),
            "broker.data_dir" = below("broker"),
            "broker.listen" = self.kafka_listen,
            "http.listen" = self.http_listen,
        };
        let shared = [self.write.flags(), self.fleet.flags(), self.streams.flags()];
        [own, shared.concat()].concat()
    }
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    let mut config = config::load(file, &args.flags())?;
    // Everything that follows from the latency means this one.
    config.ingest.latency = config.up.latency;
    init_logging("warn");
    if config.broker.tls.certificate_chain.is_some() || config.broker.sasl.users.is_some() {
        // What is meant to be locked must not stand open unnoticed.
        return Err(usage(
            "`up` keeps its broker on the loopback, in plain text and open to everyone on this machine; broker.tls and \
             broker.sasl are for `smartcity broker`. Leave them out of the settings of `up`.",
        ));
    }
    check_properties(&config)?;
    // Before anything is started.
    kafka_config(&config)?;
    let streams = declarations::load(&config, &[])?;
    block_on(up(&config, &streams))
}

/// Properties of Kafka's clients say more than how to reach a cluster, so `up` applies them, but for those that are meant
/// for another cluster than its own.
fn check_properties(config: &Config) -> Result<()> {
    let refused: Vec<&str> = config
        .kafka
        .properties
        .keys()
        .map(String::as_str)
        .filter(|key| is_for_a_cluster(key))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(usage(format!(
        "`up` starts its own broker on the loopback and cannot use {} of [kafka.properties]: leave them out of the settings \
         of `up`",
        refused.join(", ")
    )))
}

fn is_for_a_cluster(key: &str) -> bool {
    let mut roles = ["consumer.", "producer.", "admin."].into_iter();
    let key = roles.find_map(|role| key.strip_prefix(role)).unwrap_or(key);
    let families = ["sasl.", "ssl.", "security."];
    let keys = ["bootstrap.servers", "metadata.broker.list", "group.instance.id"];
    keys.contains(&key) || families.iter().any(|family| key.starts_with(family)) || key.contains("oauthbearer")
}

async fn up(config: &Config, streams: &Streams) -> Result<()> {
    let stop = stop_on_signals(config.shutdown_timeout)?;
    let starting = Starting::new();
    let metrics = init_metrics()?;
    let progress = new_progress(config, streams);

    starting.say("opening the broker's topics");
    let broker = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        broker = broker::start(config) => broker?,
    };
    let kafka = kafka_config_of(config, &broker.address().to_string())?;
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
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(broker.shutdown().await?),
        created = kafka::create_topics(&kafka, &names, config.broker.partitions) => created?,
    }

    // The vehicles stop first, ingest commits what they have sent, then the broker goes.
    let (stop_vehicles, stop_ingest) = (stop.child_token(), CancellationToken::new());
    // A static member (KIP-345): a killed one's successor takes its place at once, instead of when its session has ended.
    let mut member = kafka.clone();
    member
        .properties
        .insert("consumer.group.instance.id".to_owned(), GROUP_INSTANCE_ID.to_owned());
    let ingest = run_ingest(
        config,
        &member,
        streams,
        Arc::clone(&progress),
        Until::Stopped,
        stop_ingest.clone(),
    );
    let city = City {
        config,
        kafka: &kafka,
        topics: &topics,
    };
    let driven = async {
        let ready = || {
            greet(config, &broker.address().to_string(), http.as_ref());
            StatusLine::start(Arc::clone(&progress), "on the way", config.up.log_interval)
        };
        let Some((arrived, status_line)) = city.drive(&stop_vehicles, &starting, ready).await? else {
            return Ok(());
        };
        if arrived && config.up.profile == Profile::Classic {
            status_line.say("the vehicle has arrived in Birmingham; everything stays up, Ctrl-C ends it");
            status_line.set_note("arrived");
        }
        stop.cancelled().await;
        status_line.end().await;
        anyhow::Ok(())
    };
    // `None` while ingest runs.
    let mut ingested = None;
    let mut ingest = std::pin::pin!(ingest);
    let ended = tokio::select! {
        end = &mut ingest => {
            ingested = Some(Ok(()));
            end.and_then(|()| bail!("ingest has ended without a reason"))
        }
        error = storage_error(&broker) => Err(anyhow!(
            "the broker cannot write its topics: {error}. Free some space and start again: it goes on from here, \
             nothing acknowledged is lost."
        )),
        end = driven => end,
    };
    match &ended {
        Ok(()) => eprintln!("stopping: committing what is under way"),
        Err(error) => warn!(%error, "stopping: a part has failed"),
    }
    starting.end();
    stop_vehicles.cancel();
    stop_ingest.cancel();
    let stopping = async {
        let ingested = match ingested {
            Some(ingested) => ingested,
            None => ingest.await,
        };
        if let Some(http) = http {
            http.shutdown().await;
        }
        broker.shutdown().await?;
        ingested
    };
    let stopped = match ended.is_err() {
        // Whoever waits for a part that is gone waits for ever; what is not committed is read again at the next start.
        true => tokio::time::timeout(STOP_TIMEOUT, stopping).await.unwrap_or(Ok(())),
        false => stopping.await,
    };
    ended?;
    stopped?;
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

/// The simulated city of `up`.
struct City<'a> {
    config: &'a Config,
    kafka: &'a KafkaConfig,
    topics: &'a Topics,
}

impl City<'_> {
    /// Drives the run, from where the topics show that it had come to. `true` when it has come to its end; `None` when it
    /// was stopped before it began.
    async fn drive(
        &self,
        stop: &CancellationToken,
        starting: &Starting,
        ready: impl FnOnce() -> StatusLine,
    ) -> Result<Option<(bool, StatusLine)>> {
        let (up, simulator) = (&self.config.up, &self.config.simulator);
        starting.say("looking where the vehicles are");
        // Before anything is asked of the broker: what cannot be written shows at once.
        let ledger = simulator.truth.as_deref().map(Ledger::create).transpose()?;
        let found = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            found = self.find() => found?,
        };
        let start = up.start.unwrap_or(match up.profile {
            Profile::Classic => Start::Now,
            Profile::Fleet => Start::RushHour,
        });
        let mut run = Run::new(simulator, up.profile, start, found.start_us, self.topics)?;
        let producer = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            producer = open_producer(self.kafka) => producer?,
        };
        starting.end();
        let status_line = ready();
        if found.start_us.is_some() {
            info!("the vehicles go on from where they were");
        }

        let counters = Arc::new(Counters::default());
        let drive = Drive {
            pace: pace(up.pace, up.profile, CLASSIC_STEP),
            topics: self.topics.clone(),
            already_sent: found.already_sent,
            ledger,
            stop: stop.clone(),
            counters: Arc::clone(&counters),
        };
        let mut driven = tokio::task::spawn_blocking(move || {
            drive.run(&mut run, &mut &producer)?;
            anyhow::Ok(producer.flush(FLUSH_TIMEOUT)?)
        });
        loop {
            tokio::select! {
                ended = &mut driven => {
                    ended.context("the simulator did not end")??;
                    break;
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let event_time_us = counters.event_time_us.load(Ordering::Relaxed);
                    if up.profile == Profile::Fleet && event_time_us != 0 {
                        let clock = clock_text(event_time_us);
                        status_line.set_note(&format!("{} vehicles, it is {clock} there", simulator.vehicles));
                    }
                }
            }
        }
        Ok(Some((counters.arrived.load(Ordering::Relaxed), status_line)))
    }

    /// What the topics hold of the run: state lives in Kafka alone, so a killed process goes on exactly.
    async fn find(&self) -> Result<Found> {
        let names: Vec<String> = self.topics.iter().map(str::to_owned).collect();
        let kafka = self.kafka.clone();
        let vehicles = match self.config.up.profile {
            Profile::Classic => 1,
            Profile::Fleet => i64::from(self.config.simulator.vehicles),
        };
        let records = (vehicles * TAIL_PER_VEHICLE).clamp(TAIL_RECORDS, TAIL_RECORDS_MAX);
        let tail = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            kafka::tail(&kafka, &names, records, TAIL_TIMEOUT)
        })
        .await??;
        match self.config.up.profile {
            Profile::Classic => Ok(Found::classic(self.config.simulator.seed, self.topics, &tail)),
            Profile::Fleet => Found::fleet(self.config, self.topics, &tail),
        }
    }
}

/// Where a run that was cut off goes on.
#[derive(Default)]
struct Found {
    /// `None` when the topics hold nothing of it.
    start_us: Option<i64>,
    already_sent: AlreadySent,
}

#[derive(Deserialize)]
struct Message {
    id: String,
    timestamp: String,
}

/// The messages in a tail that can be read, with their stream.
fn messages<'a>(topics: &Topics, tail: &'a [Chunk]) -> impl Iterator<Item = (usize, Message)> + 'a {
    let streams: BTreeMap<String, usize> = topics.iter().map(str::to_owned).zip(0..).collect();
    let known = tail
        .iter()
        .filter_map(move |chunk| Some((*streams.get(&*chunk.topic_partition().topic)?, chunk)));
    known.flat_map(|(stream, chunk)| {
        let values = chunk.iter().filter_map(|record| record.value);
        values.filter_map(move |value| Some((stream, serde_json::from_slice::<Message>(value).ok()?)))
    })
}

impl Found {
    fn classic(seed: u64, topics: &Topics, tail: &[Chunk]) -> Self {
        let mut found = Found::default();
        for (stream, message) in messages(topics, tail) {
            let Some(event_time_us) = event_time::parse(message.timestamp.as_bytes()) else {
                continue;
            };
            let resume = Classic::resume(seed, &message.id, event_time_us).filter(|resume| resume.stream == stream);
            if let Some(resume) = resume {
                found.start_us = Some(resume.start_us);
                let last = found.already_sent.last_us.entry((0, stream)).or_insert(event_time_us);
                *last = event_time_us.max(*last);
            }
        }
        found
    }

    fn fleet(config: &Config, topics: &Topics, tail: &[Chunk]) -> Result<Self> {
        let seed = config.simulator.seed;
        let mut last_us: HashMap<(u32, usize), i64> = HashMap::new();
        for (stream, message) in messages(topics, tail) {
            let located = Fleet::locate(seed, &message.id);
            if let Some((device, event_time_us, _)) = located.filter(|located| located.2 == stream) {
                let last = last_us.entry((device, stream)).or_insert(event_time_us);
                *last = event_time_us.max(*last);
            }
        }
        let Some(newest_us) = last_us.values().max().copied() else {
            return Ok(Found::default());
        };
        // From the step of the device that is farthest behind; the others are left out until they are reached.
        let settings = fleet_settings(&config.simulator, 0)?;
        let starts = last_us
            .iter()
            .filter(|((device, _), last)| *device < settings.vehicles && newest_us - **last < BEHIND_MAX_US)
            .map(|((device, _), last)| last - settings.phase_us(*device));
        // A tail that reaches to the topic's beginning holds every device that has ever reported.
        let mut firsts = BTreeMap::new();
        for chunk in tail {
            let first = firsts.entry(chunk.topic_partition()).or_insert(i64::MAX);
            *first = chunk.span().from.min(*first);
        }
        let is_cut = firsts.values().any(|first| *first > 0);
        Ok(Found {
            start_us: starts.min(),
            already_sent: AlreadySent {
                last_us,
                others_us: is_cut.then_some(newest_us),
            },
        })
    }
}

fn greet(config: &Config, kafka: &str, http: Option<&HttpServer>) {
    eprintln!("smartcity is up; Ctrl-C ends it, the next start goes on from there");
    eprintln!("  kafka     {kafka}");
    eprintln!("  lake      {}", config.lake.path);
    if let Some(http) = http {
        eprintln!(
            "  progress  http://{}/api/progress  (also /readyz, /livez, /metrics)",
            http.address()
        );
    }
    let lake = match config.lake.path.as_str() {
        "./smartcity-data/lake" => String::new(),
        path => format!(" --lake {}", shell_word(path)),
    };
    eprintln!("  try       smartcity query{lake} \"select count(*) from vehicle_data\"");
    eprintln!("            (from a clone: cargo run -- query{lake} \"...\")");
}

/// A path as a shell takes it for itself.
fn shell_word(path: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "_./:@%+=,-".contains(character);
    match path.chars().all(is_plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', "'\\''")),
    }
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
