//! `smartcity simulate`, and the vehicle that drives in `up`.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use kafka::{KafkaConfig, Producer};
use model::Streams;
use sim::classic::{Classic, Step};
use tokio_util::sync::CancellationToken;

use crate::cli::Simulate;
use crate::config::{Config, Pace, Profile, Simulator, Start};
use crate::declarations;
use crate::wiring::{block_on, departure_now, init_logging, kafka_config, stop_on_signals};

/// How long acknowledgements may take once the last record is sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(config: &Config, simulate: &Simulate) -> Result<()> {
    init_logging("warn");
    let run = new_run(&config.simulator, None);
    let topics = Topics::new(&declarations::load(config, &[])?);
    if simulate.print {
        return block_on(print(run, config.simulator.pace, &topics));
    }
    block_on(async {
        let stop = stop_on_signals()?;
        let started = Instant::now();
        let kafka = kafka_config(config);
        let producer = open_producer(&kafka).await?;
        let steps = run.clone().count() as u64;
        let bar = if io::stderr().is_terminal() {
            ProgressBar::new(steps)
        } else {
            ProgressBar::hidden()
        };
        bar.set_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {elapsed}, {eta} left",
        )?);
        let sent = drive(run, config.simulator.pace, &topics, &producer, [None; 5], &stop, |_| {
            bar.inc(1)
        })
        .await;
        let delivery = tokio::task::spawn_blocking(move || producer.flush(FLUSH_TIMEOUT)).await??;
        bar.finish_and_clear();
        let sent = sent?;
        let seconds = started.elapsed().as_secs_f64();
        if simulate.json {
            let summary = serde_json::json!({
                "steps": sent, "records": delivery.delivered, "seconds": seconds, "arrived": sent == steps,
            });
            println!("{summary}");
        } else {
            let end = if sent == steps {
                "the vehicle has arrived"
            } else {
                "stopped on the way"
            };
            eprintln!(
                "{end}: {sent} steps, {} records delivered in {seconds:.1} s",
                delivery.delivered
            );
        }
        Ok(())
    })
}

/// The topic of each of a step's messages.
pub(crate) struct Topics([String; 5]);

impl Topics {
    /// Topics as the declarations name them; a stream that is not declared keeps its own name.
    pub(crate) fn new(streams: &Streams) -> Self {
        Self(sim::STREAMS.map(|name| {
            streams
                .get(name)
                .map_or(name, |stream| stream.topic.as_str())
                .to_owned()
        }))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// The run that the settings describe, with another departure where one is known (microseconds since the epoch).
pub(crate) fn new_run(simulator: &Simulator, departure_us: Option<i64>) -> Classic {
    let departure_us = departure_us.unwrap_or_else(|| match simulator.start {
        Start::Now => departure_now(),
        Start::At(us) => us,
    });
    match simulator.profile {
        Profile::Classic => Classic::new(simulator.seed, departure_us),
    }
}

pub(crate) async fn open_producer(kafka: &KafkaConfig) -> Result<Producer> {
    let kafka = kafka.clone();
    Ok(tokio::task::spawn_blocking(move || Producer::open(&kafka, Duration::from_millis(5))).await??)
}

/// Sends a run step by step at its pace, leaving out what each stream already holds; `done` hears of each step. Returns
/// the number of steps sent.
pub(crate) async fn drive(
    run: Classic,
    pace: Pace,
    topics: &Topics,
    producer: &Producer,
    held: [Option<u32>; 5],
    stop: &CancellationToken,
    mut done: impl FnMut(&Step),
) -> Result<u64> {
    let mut pacer = Pacer::new(pace);
    let mut sent = 0;
    for step in run {
        if held.iter().all(|held| held.is_some_and(|held| held >= step.number)) {
            continue;
        }
        tokio::select! {
            () = pacer.wait(&step) => {}
            () = stop.cancelled() => break,
        }
        for ((message, topic), held) in step.messages.iter().zip(topics.iter()).zip(held) {
            if held.is_none_or(|held| held < step.number) {
                producer.send(topic, message.key.as_bytes(), &message.value)?;
            }
        }
        sent += 1;
        done(&step);
    }
    Ok(sent)
}

async fn print(run: Classic, pace: Pace, topics: &Topics) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut pacer = Pacer::new(pace);
    for step in run {
        pacer.wait(&step).await;
        for (message, topic) in step.messages.iter().zip(topics.iter()) {
            let written = writeln!(out, "{}", message.to_print_line(topic));
            match written {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("cannot write to stdout")?,
            }
        }
        if pace != Pace::Max {
            out.flush().context("cannot write to stdout")?;
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// Waits until a step is due. The first one is due at once.
struct Pacer {
    pace: Pace,
    started: tokio::time::Instant,
    first: Option<(u32, i64)>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        Self {
            pace,
            started: tokio::time::Instant::now(),
            first: None,
        }
    }

    async fn wait(&mut self, step: &Step) {
        let (first_number, first_us) = *self.first.get_or_insert((step.number, step.event_time_us));
        let after = match self.pace {
            Pace::Max => return,
            Pace::PerStep(each) => each * (step.number - first_number),
            Pace::SpeedUp(times) => Duration::from_micros((step.event_time_us - first_us).max(0) as u64).div_f64(times),
        };
        tokio::time::sleep_until(self.started + after).await;
    }
}
