//! What `smartcity ingest --until-caught-up --workers 1` does, without the queries and the broker that the whole binary
//! carries, so that a release build of it takes ten minutes and not forty. `land BOOTSTRAP_SERVERS TOPIC LAKE`

use std::collections::BTreeMap;
use std::env::args;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bench::VEHICLE_DATA;
use ingest::{ErrorsTolerance, FlushPolicy, JobConfig, Progress, StartingOffsets, Until};
use kafka::{KafkaConfig, KafkaSource, Subscription};
use lake::{Lake, Names};
use model::{Streams, SystemClock};
use tokio_util::sync::CancellationToken;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    let [bootstrap_servers, topic, location] = arguments.as_slice() else {
        anyhow::bail!("usage: land BOOTSTRAP_SERVERS TOPIC LAKE");
    };
    let mut streams = Streams::parse([("vehicle_data.toml", VEHICLE_DATA)])?;
    anyhow::ensure!(streams.set_topic("vehicle_data", topic), "vehicle_data is not declared");
    let clock = Arc::new(SystemClock);
    let lake = Lake::open(location, clock.clone(), Names::random()).await?;
    let config = KafkaConfig::new(bootstrap_servers);
    let source = KafkaSource::open(&config, &[topic], Subscription::All, 16 << 20)?;
    let progress = Arc::new(Progress::new("bench", "bench", &streams, clock.clone()));
    let job = JobConfig {
        application: "bench".to_owned(),
        flush: FlushPolicy::default(),
        workers: 1,
        starting_offsets: StartingOffsets::Earliest,
        fail_on_data_loss: true,
        errors_tolerance: ErrorsTolerance::All,
        dlq_topic: None,
        migrated_topics: BTreeMap::new(),
        until: Until::CaughtUp,
        shutdown_timeout: Duration::from_secs(8),
    };
    ingest::run(
        &streams,
        Box::new(source),
        &lake,
        clock,
        &job,
        Arc::clone(&progress),
        CancellationToken::new(),
    )
    .await?;
    println!("{}", progress.totals()[0].1.rows);
    Ok(())
}
