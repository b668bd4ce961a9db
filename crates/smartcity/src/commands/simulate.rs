//! `smartcity simulate`: a run of the simulator to any Kafka, or printed.

use std::io::{self, BufWriter, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use kafka::{Delivery, KafkaConfig, Producer};
use model::event_time;
use sim::Profile as _;
use tokio_util::sync::CancellationToken;

use crate::args::{self, FleetArgs, KafkaArgs, PaceArgs, display, flags};
use crate::clients::kafka_config;
use crate::config::{self, Flags, Profile};
use crate::declarations;
use crate::process::{block_on, init_logging, overdue, stop_on_signals};
use crate::simulation::{AlreadySent, Counters, Drive, Ledger, Lines, Run, Topics, pace};
use crate::terminal;

/// How long acknowledgements may take once the last record is sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// A record waits at most this long for others to share its request.
pub(crate) const LINGER: Duration = Duration::from_millis(5);
const CLASSIC_STEP: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    fleet: FleetArgs,
    /// How much event time the fleet's run lasts [default: until stopped]
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// Threads that make the fleet's records; 0 means one per core
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// What goes wrong: none, malformed, disorder, everything, or a TOML file of rates
    #[arg(long, value_name = "FILE|NAME")]
    faults: Option<String>,
    /// Folder for the ledger: every fault, every incident, every situation to alert on
    #[arg(long, value_name = "DIR")]
    truth: Option<PathBuf>,
    /// Let traffic cameras send pictures
    #[arg(long)]
    snapshots: bool,
    #[command(flatten)]
    pace: PaceArgs,
    /// Print {"topic":..,"key":..,"value":{..}} lines to stdout instead of sending
    #[arg(long, conflicts_with = "bootstrap_servers")]
    print: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn flags(&self) -> Flags {
        let own = flags! {
            "simulator.profile" = self.fleet.profile.map(args::Profile::setting),
            "simulator.duration" = self.duration,
            "simulator.threads" = self.threads,
            "simulator.faults" = self.faults,
            "simulator.truth" = display(&self.truth),
            "simulator.snapshots" = self.snapshots.then_some(true),
            "simulator.start" = self.pace.start,
            "simulator.pace" = self.pace.pace,
        };
        [own, self.fleet.flags(), self.kafka.flags()].concat()
    }
}

pub(crate) fn run(file: Option<&Path>, simulate: &Args) -> Result<()> {
    init_logging("warn");
    let config = &config::load(file, &simulate.flags())?;
    let simulator = &config.simulator;
    let topics = Topics::new(&declarations::load(config, &[])?);
    let mut run = Run::new(simulator, simulator.profile, simulator.start, None, &topics)?;
    let counters = Arc::new(Counters::default());
    let ledger = simulator.truth.as_deref().map(Ledger::create).transpose()?;
    let drive = |stop| Drive {
        pace: pace(simulator.pace, simulator.profile, CLASSIC_STEP),
        topics,
        already_sent: AlreadySent::default(),
        ledger,
        stop,
        counters: Arc::clone(&counters),
    };
    if simulate.print {
        // Signals keep their usual meaning: what is printed is printed.
        let mut lines = Lines::new(BufWriter::with_capacity(1 << 16, io::stdout().lock()));
        return drive(CancellationToken::new()).run(&mut run, &mut lines);
    }
    let kafka = kafka_config(config)?;
    block_on(async {
        let stop = stop_on_signals(config.shutdown_timeout)?;
        let drive = drive(stop.clone());
        let producer = tokio::select! {
            biased;
            // Nothing was sent yet.
            () = stop.cancelled() => return Ok(()),
            producer = open_producer(&kafka) => Arc::new(producer?),
        };
        let steps = run.steps();
        let progress = Progress::start(&counters, steps);
        let started = Instant::now();
        let sending = Arc::clone(&producer);
        let driven = tokio::task::spawn_blocking(move || {
            drive.run(&mut run, &mut &*sending)?;
            anyhow::Ok(sending.flush(FLUSH_TIMEOUT)?)
        });
        let delivery = tokio::select! {
            driven = driven => driven?,
            () = overdue(&stop, config.shutdown_timeout) => {
                let Delivery { sent, delivered } = producer.delivery();
                Err(anyhow!("stopped with {} of {sent} records not acknowledged", sent - delivered))
            }
        };
        progress.end();
        let delivery = delivery?;
        let seconds = started.elapsed().as_secs_f64();
        let (sent, arrived) = (
            counters.steps.load(Ordering::Relaxed),
            counters.arrived.load(Ordering::Relaxed),
        );
        if simulate.json {
            let summary = serde_json::json!({
                "steps": sent, "records": delivery.delivered, "seconds": seconds, "arrived": arrived,
            });
            println!("{summary}");
        } else {
            let end = match (simulator.profile, arrived) {
                (Profile::Classic, true) => "the vehicle has arrived",
                (Profile::Classic, false) => "stopped on the way",
                (Profile::Fleet, true) => "done",
                (Profile::Fleet, false) => "stopped",
            };
            eprintln!(
                "{end}: {sent} steps, {} records delivered in {seconds:.1} s, {:.0} a second",
                delivery.delivered,
                delivery.delivered as f64 / seconds.max(1e-9)
            );
        }
        Ok(())
    })
}

pub(crate) async fn open_producer(kafka: &KafkaConfig) -> Result<Producer> {
    let kafka = kafka.clone();
    Ok(tokio::task::spawn_blocking(move || Producer::open(&kafka, LINGER)).await??)
}

/// One line on stderr, redrawn each second; nothing when stderr is no terminal.
struct Progress {
    bar: ProgressBar,
    redraw: tokio::task::JoinHandle<()>,
}

impl Progress {
    fn start(counters: &Arc<Counters>, steps: Option<u64>) -> Self {
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
            bar.set_style(style);
        }
        let redraw = tokio::spawn(redraw(bar.clone(), Arc::clone(counters), steps));
        Self { bar, redraw }
    }

    fn end(self) {
        self.redraw.abort();
        self.bar.finish_and_clear();
    }
}

async fn redraw(bar: ProgressBar, counters: Arc<Counters>, steps: Option<u64>) {
    let started = Instant::now();
    let mut before = (started, 0);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = (Instant::now(), counters.records.load(Ordering::Relaxed));
        let rate = (now.1 - before.1) as f64 / (now.0 - before.0).as_secs_f64().max(0.001);
        let done = counters.steps.load(Ordering::Relaxed);
        let clock = clock_text(counters.event_time_us.load(Ordering::Relaxed));
        let width = terminal::width_of(&io::stderr()).unwrap_or(usize::MAX);
        let (first, then) = parts(done, steps, now.1, rate, &clock, started.elapsed());
        bar.set_message(terminal::line(&first, &then, "more", width));
        bar.tick();
        before = now;
    }
}

/// How far a run is, what matters most first.
fn parts(
    done: u64,
    steps: Option<u64>,
    records: u64,
    rate: f64,
    clock: &str,
    elapsed: Duration,
) -> (Vec<String>, Vec<String>) {
    let seconds = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    let first = match steps {
        Some(steps) => format!("step {done} of {steps}"),
        None => format!("{done} steps"),
    };
    let mut then = vec![format!("{records} records"), format!("event time {clock}")];
    if let Some(left) = steps.filter(|_| done > 0).map(|steps| steps.saturating_sub(done)) {
        let left = elapsed.mul_f64(left as f64 / done as f64);
        then.push(format!("{} left", seconds(left)));
    }
    then.push(format!("{} so far", seconds(elapsed)));
    (vec![first, format!("{rate:.0}/s")], then)
}

/// Hours and minutes of an event time.
pub(crate) fn clock_text(event_time_us: i64) -> String {
    let minutes = event_time_us.rem_euclid(event_time::DAY_US) / 60_000_000;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_fits_every_terminal() {
        let elapsed = Duration::from_secs(90);
        let (first, then) = parts(5, Some(20), 12_345_678, 123_456.0, "07:31", elapsed);
        let at = |width| terminal::line(&first, &then, "more", width);
        assert_eq!(
            at(200),
            "step 5 of 20 · 123456/s · 12345678 records · event time 07:31 · 4m 30s left · 1m 30s so far"
        );
        assert_eq!(at(60), "step 5 of 20 · 123456/s · 12345678 records · +3 more");
        let (first, then) = parts(0, None, 0, 0.0, "00:00", Duration::ZERO);
        assert!(terminal::line(&first, &then, "more", 60).starts_with("0 steps · 0/s · 0 records"));
    }
}
