//! `smartcity ingest`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ingest::Until;
use serve::http::HttpServer;

use crate::args::{ApplicationArgs, KafkaArgs, LakeArgs, StreamsArgs, WriteArgs, flags};
use crate::clients::kafka_config;
use crate::config::{self, Flags};
use crate::declarations;
use crate::ingest_job::{new_progress, run_ingest};
use crate::process::{block_on, init_logging, init_metrics, stop_on_signals};
use crate::status::{JobStatus, StatusLine};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    write: WriteArgs,
    /// Stop when everything that Kafka held at the start is committed
    #[arg(long)]
    until_caught_up: bool,
    /// The longest a record waits for its commit
    #[arg(long, value_name = "DURATION")]
    latency: Option<String>,
    #[command(flatten)]
    streams: StreamsArgs,
    /// Ingest only these streams
    #[arg(long, value_name = "STREAM", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    application: ApplicationArgs,
    /// Consumer group
    #[arg(long, value_name = "GROUP")]
    group_id: Option<String>,
    /// Where the application's first start reads a topic from; later starts read on from what is committed
    #[arg(long, value_parser = ["earliest", "latest"])]
    starting_offsets: Option<String>,
    /// Whether to stop when records are gone from Kafka before they are committed, instead of recording them in `gaps`
    #[arg(long, value_name = "BOOL")]
    fail_on_data_loss: Option<bool>,
    /// A topic that has this id since its cluster was migrated: the same records at the same offsets
    #[arg(long, value_name = "TOPIC=ID")]
    migrated_topic: Vec<String>,
    /// How much of a stream may be broken before it is stopped: all, none, or a share such as 5%
    #[arg(long, value_name = "SHARE")]
    errors_tolerance: Option<String>,
    /// Threads that decode and encode; 0 means one per core
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Where progress, health and metrics are shown [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn flags(&self) -> Flags {
        let own = flags! {
            "kafka.group_id" = self.group_id,
            "ingest.latency" = self.latency,
            "ingest.starting_offsets" = self.starting_offsets,
            "ingest.fail_on_data_loss" = self.fail_on_data_loss,
            "ingest.migrated_topics" = (!self.migrated_topic.is_empty()).then(|| self.migrated_topic.join(",")),
            "ingest.errors_tolerance" = self.errors_tolerance,
            "ingest.workers" = self.workers,
            "ingest.http_listen" = self.http_listen,
        };
        let shared = [
            self.kafka.flags(),
            self.lake.flags(),
            self.write.flags(),
            self.streams.flags(),
            self.application.flags(),
        ];
        [own, shared.concat()].concat()
    }
}

pub(crate) fn run(file: Option<&Path>, args: &Args) -> Result<()> {
    init_logging(if args.until_caught_up { "warn" } else { "info" });
    let config = &config::load(file, &args.flags())?;
    let streams = declarations::load(config, &args.only)?;
    let kafka = kafka_config(config)?;
    block_on(async {
        let stop = stop_on_signals(config.shutdown_timeout)?;
        let started = Instant::now();
        let metrics = init_metrics()?;
        let progress = new_progress(config, &streams);
        let http = match config.ingest.http_listen {
            Some(address) => {
                let status = Arc::new(JobStatus::new(Arc::clone(&progress), metrics));
                let http = HttpServer::start(address, status).await?;
                eprintln!("progress at http://{}/api/progress", http.address());
                Some(http)
            }
            None => None,
        };
        let until = if args.until_caught_up {
            Until::CaughtUp
        } else {
            Until::Stopped
        };
        let status_line = StatusLine::start(Arc::clone(&progress), "", Duration::ZERO);
        let result = run_ingest(config, &kafka, &streams, Arc::clone(&progress), until, stop).await;
        status_line.end().await;
        if let Some(http) = http {
            http.shutdown().await;
        }
        result?;

        let seconds = started.elapsed().as_secs_f64();
        let totals = progress.totals();
        if args.json {
            let streams: serde_json::Map<_, _> = totals
                .iter()
                .map(|(name, totals)| {
                    let figures = serde_json::json!({
                        "rows": totals.rows, "dead_letters": totals.dead_letters, "version": totals.version,
                    });
                    (name.clone(), figures)
                })
                .collect();
            println!("{}", serde_json::json!({ "seconds": seconds, "streams": streams }));
        } else {
            for (name, totals) in &totals {
                eprintln!(
                    "{name:<16} {:>12} rows {:>8} dead letters",
                    totals.rows, totals.dead_letters
                );
            }
            eprintln!("committed to {} in {seconds:.1} s", config.lake.path);
        }
        Ok(())
    })
}
