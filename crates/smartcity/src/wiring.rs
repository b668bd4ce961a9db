//! What several commands set up the same way: the runtime, logging, metrics, signals, and the ingest job.

use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ingest::{DlqTopic, FlushPolicy, JobConfig, Progress, Until};
use kafka::{KafkaConfig, KafkaSource, Subscription};
use lake::{Lake, Names};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use model::{Streams, SystemClock};
use serve::sql::{Engine, EngineSettings, TimeTravel};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ErrorsTolerance, StartingOffsets};
use crate::exit::usage;

/// Runs a command on an async runtime; sockets and timers need no more than two threads.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("smartcity-io")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(command)
}

/// Logs to stderr, as RUST_LOG says, else from this level on.
pub(crate) fn init_logging(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A second call, in tests, leaves the first in place.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .ok();
}

/// Upper bounds of what histograms of durations tell apart.
const SECONDS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0,
];
const GAUGE_KEPT: Duration = Duration::from_secs(600);

/// Samples wait to be counted into their buckets; between two scrapes they must not pile up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts counting; the handle prints what has been counted. Needs the runtime that it runs in.
pub(crate) fn init_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .context("cannot set up metrics")?
        // A topic or group that is gone is not shown for ever.
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_KEPT))
        .install_recorder()
        .context("cannot set up metrics")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP_INTERVAL).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Cancelled at the first SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) fn stop_on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    tokio::spawn(async move {
        let mut first: Option<Instant> = None;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            // One wish to end may come as two signals: timeout(1) tells the child and then its group.
            if first.is_some_and(|first| first.elapsed() > Duration::from_millis(500)) {
                eprintln!("stopped at once; what had not landed is read again at the next start");
                std::process::exit(130);
            }
            first = first.or(Some(Instant::now()));
            token.cancel();
        }
    });
    Ok(stop)
}

pub(crate) fn kafka_config(config: &Config) -> KafkaConfig {
    KafkaConfig {
        properties: config.kafka.properties.clone(),
        ..KafkaConfig::new(&config.kafka.bootstrap_servers)
    }
}

pub(crate) async fn open_lake(config: &Config) -> Result<Lake> {
    Ok(Lake::open(&config.lake.path, Arc::new(SystemClock), Names::random()).await?)
}

/// SQL over the lake, within the memory that queries may take.
pub(crate) async fn open_engine(config: &Config, time_travel: TimeTravel) -> Result<Engine> {
    let settings = EngineSettings {
        time_travel,
        memory_bytes: config.query.memory_bytes_max,
        ..EngineSettings::default()
    };
    Ok(Engine::open_with(&config.lake.path, settings).await?)
}

/// The same for a command that needs tables; their names.
pub(crate) async fn open_tables(config: &Config) -> Result<(Engine, Vec<String>)> {
    let engine = open_engine(config, TimeTravel::default()).await?;
    let names = engine.table_names().await?;
    match names.is_empty() {
        true => Err(usage(format!("there are no tables in {}", config.lake.path))),
        false => Ok((engine, names)),
    }
}

pub(crate) fn new_progress(config: &Config, streams: &Streams) -> Arc<Progress> {
    let run_id = Names::random().next().to_string();
    Arc::new(Progress::new(
        &config.ingest.application,
        &run_id,
        streams,
        Arc::new(SystemClock),
    ))
}

/// Lands the streams until done or stopped.
pub(crate) async fn run_ingest(
    config: &Config,
    kafka: &KafkaConfig,
    streams: &Streams,
    progress: Arc<Progress>,
    until: Until,
    stop: CancellationToken,
) -> Result<()> {
    let lake = open_lake(config).await?;
    let topics: Vec<String> = streams.iter().map(|stream| stream.topic.clone()).collect();
    let subscription = match until {
        // A run that ends by itself reads every partition; there is nobody to share with.
        Until::CaughtUp => Subscription::All,
        Until::Stopped => Subscription::Group {
            group_id: config.kafka.group_id.clone(),
        },
    };
    let (for_source, queued_bytes_max) = (kafka.clone(), config.ingest.queued_bytes_max);
    let source = tokio::task::spawn_blocking(move || {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        KafkaSource::open(&for_source, &topics, subscription, queued_bytes_max)
    })
    .await
    .context("the Kafka client did not start")??;
    let job = JobConfig {
        application: config.ingest.application.clone(),
        flush: FlushPolicy {
            records_max: config.ingest.batch_records_max,
            bytes_max: config.ingest.batch_bytes_max,
            open_bytes_max: config.ingest.open_bytes_max,
            age_max: config.ingest.latency,
            ..FlushPolicy::default()
        },
        workers: match config.ingest.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        },
        starting_offsets: match config.ingest.starting_offsets {
            StartingOffsets::Earliest => ingest::StartingOffsets::Earliest,
            StartingOffsets::Latest => ingest::StartingOffsets::Latest,
        },
        fail_on_data_loss: config.ingest.fail_on_data_loss,
        errors_tolerance: match config.ingest.errors_tolerance {
            ErrorsTolerance::All => ingest::ErrorsTolerance::All,
            ErrorsTolerance::None => ingest::ErrorsTolerance::NONE,
            ErrorsTolerance::Percent(percent) => ingest::ErrorsTolerance::Share {
                percent,
                window: config.ingest.errors_window.max(1),
            },
        },
        dlq_topic: config.ingest.dlq_topic.as_deref().map(|topic| {
            let dlq_topic = DlqTopic::new(kafka.clone(), topic, &config.ingest.application);
            Arc::new(dlq_topic)
        }),
        until,
    };
    ingest::run(
        streams,
        Box::new(source),
        &lake,
        Arc::new(SystemClock),
        &job,
        progress,
        stop,
    )
    .await?;
    Ok(())
}
