//! `smartcity ingest`

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use ingest::Until;
use serve::http::HttpServer;

use crate::cli::Ingest;
use crate::config::Config;
use crate::declarations;
use crate::status::{JobStatus, StatusLine};
use crate::wiring::{block_on, init_logging, init_metrics, kafka_config, new_progress, run_ingest, stop_on_signals};

pub(crate) fn run(config: &Config, ingest: &Ingest) -> Result<()> {
    init_logging(if ingest.until_caught_up { "warn" } else { "info" });
    let streams = declarations::load(config, &ingest.only)?;
    block_on(async {
        let stop = stop_on_signals()?;
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
        let until = if ingest.until_caught_up {
            Until::CaughtUp
        } else {
            Until::Stopped
        };
        let status_line = StatusLine::start(Arc::clone(&progress), "");
        let result = run_ingest(
            config,
            &kafka_config(config),
            &streams,
            Arc::clone(&progress),
            until,
            stop,
        )
        .await;
        status_line.end().await;
        if let Some(http) = http {
            http.shutdown().await;
        }
        result?;

        let seconds = started.elapsed().as_secs_f64();
        let totals = progress.totals();
        if ingest.json {
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
            eprintln!("landed in {} in {seconds:.1} s", config.lake.path);
        }
        Ok(())
    })
}
