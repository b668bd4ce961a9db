//! The ingest job as the settings describe it; `ingest` and `up` run it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingest::{DlqTopic, FlushPolicy, JobConfig, Progress, Until};
use kafka::{KafkaConfig, KafkaSource, Subscription};
use lake::Names;
use model::{Streams, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::clients::open_lake;
use crate::config::{Config, ErrorsTolerance, StartingOffsets};

/// What comes on top of three times the latency before a stream without a commit is not ready: a store's own retries.
const COMMIT_GRACE: Duration = Duration::from_secs(30);

pub(crate) fn new_progress(config: &Config, streams: &Streams) -> Arc<Progress> {
    let run_id = Names::random().next().to_string();
    let progress = Progress::new(&config.ingest.application, &run_id, streams, Arc::new(SystemClock));
    let commit_age_max = config.ingest.latency.saturating_mul(3).saturating_add(COMMIT_GRACE);
    Arc::new(progress.with_commit_age_max(commit_age_max))
}

/// Ingests the streams until done or stopped.
pub(crate) async fn run_ingest(
    config: &Config,
    kafka: &KafkaConfig,
    streams: &Streams,
    progress: Arc<Progress>,
    until: Until,
    stop: CancellationToken,
) -> Result<()> {
    // Nothing is under way yet, so whoever asks to stop need not wait for what does not answer.
    let lake = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        lake = open_lake(config) => lake?,
    };
    let topics: Vec<String> = streams.iter().map(|stream| stream.topic.clone()).collect();
    let subscription = match until {
        // A run that ends by itself reads every partition; there is nobody to share with.
        Until::CaughtUp => Subscription::All,
        Until::Stopped => Subscription::Group {
            group_id: config.kafka.group_id.clone(),
        },
    };
    let (for_source, queued_bytes_max) = (kafka.clone(), config.ingest.queued_bytes_max);
    let opening = tokio::task::spawn_blocking(move || {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        KafkaSource::open(&for_source, &topics, subscription, queued_bytes_max)
    });
    let source = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        source = opening => source.context("the Kafka client did not start")??,
    };
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
        migrated_topics: config.ingest.migrated_topics.clone(),
        until,
        shutdown_timeout: config.shutdown_timeout,
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
