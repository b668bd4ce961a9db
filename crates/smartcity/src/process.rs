//! What a command's process needs: the runtime, logging, metrics, signals.

use std::future::Future;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// What may still run on a blocking thread when a command has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs a command on an async runtime; sockets and timers need no more than two threads.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("smartcity-io")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(command);
    // A client library that still waits for something must not hold up the end.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
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
        // It would say so on stderr, which panics where nobody reads it.
        .log_internal_errors(false)
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

/// What comes on top of the shutdown timeout before the process is ended by force: a command that keeps the timeout itself
/// has a better error.
const FORCED_AFTER: Duration = Duration::from_secs(3);

/// Cancelled at the first SIGINT or SIGTERM. The process then ends within `shutdown_timeout` and three seconds, whatever does
/// not answer; a second signal ends it at once.
pub(crate) fn stop_on_signals(shutdown_timeout: Duration) -> Result<CancellationToken> {
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
            // One request to end may come as two signals: timeout(1) signals the child and then its group.
            if first.is_some_and(|first| first.elapsed() > Duration::from_millis(500)) {
                eprintln!("aborted; uncommitted records are read again at the next start");
                std::process::exit(130);
            }
            if first.is_none() {
                first = Some(Instant::now());
                end_by_force(shutdown_timeout);
            }
            token.cancel();
        }
    });
    Ok(stop)
}

/// Until the timeout is over after `stop`: what is under way then is given up.
pub(crate) async fn overdue(stop: &CancellationToken, shutdown_timeout: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(shutdown_timeout).await;
}

/// Ends the process when it has not ended by itself by then. In a thread: a runtime whose threads all wait runs no timer.
fn end_by_force(shutdown_timeout: Duration) {
    let wait = shutdown_timeout.saturating_add(FORCED_AFTER);
    let forced = std::thread::Builder::new().name("shutdown".to_owned()).spawn(move || {
        std::thread::sleep(wait);
        eprintln!(
            "error: still not ended {:.0} s after the signal (shutdown_timeout is {:.0} s)\n\
             hint: nothing committed is lost: the next start reads on from there",
            wait.as_secs_f64(),
            shutdown_timeout.as_secs_f64()
        );
        std::process::exit(1);
    });
    if let Err(error) = forced {
        tracing::warn!(%error, "no thread to bound the shutdown");
    }
}
