//! A run of the simulator under way: what the settings describe, at its pace, into Kafka or onto a page.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kafka::{Message, Producer};
use model::{Clock as _, Streams, SystemClock, event_time};
use sim::classic::Classic;
use sim::fleet::{Faults, Fleet, Incident, Settings};
use sim::{Batch, Profile as _, Record};
use tokio_util::sync::CancellationToken;

use crate::config::{Pace, Profile, Simulator, Span, Start};
use crate::exit::usage;

/// The longest sleep before a wish to stop is heard.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Departures from the clock that are not worth a sleep.
const SLEEP_MIN: Duration = Duration::from_micros(500);

/// The topic of each stream of the simulator.
#[derive(Debug, Clone)]
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

    fn of(&self, record: &Record<'_>) -> &str {
        &self.0[record.stream]
    }
}

/// A run of either profile.
pub(crate) enum Run {
    Classic(Box<Classic>),
    Fleet(Box<Fleet>),
}

impl Run {
    /// The run that the settings describe, with another start where one is known (microseconds since the epoch).
    pub(crate) fn new(
        simulator: &Simulator,
        profile: Profile,
        start: Start,
        resumed_us: Option<i64>,
        topics: &Topics,
    ) -> Result<Self> {
        let start_us = resumed_us.unwrap_or_else(|| start_us(start, SystemClock.now_us()));
        match profile {
            Profile::Classic => Ok(Run::Classic(Box::new(Classic::new(simulator.seed, start_us)))),
            Profile::Fleet => {
                let fleet = Fleet::new(Settings {
                    topics: topics.0.clone(),
                    ..fleet_settings(simulator, start_us)?
                });
                Ok(Run::Fleet(Box::new(fleet.map_err(|error| usage(error.to_string()))?)))
            }
        }
    }
}

impl sim::Profile for Run {
    fn fill(&mut self, batch: &mut Batch) -> bool {
        match self {
            Run::Classic(classic) => classic.fill(batch),
            Run::Fleet(fleet) => fleet.fill(batch),
        }
    }

    fn stop(&mut self) {
        match self {
            Run::Classic(classic) => classic.stop(),
            Run::Fleet(fleet) => fleet.stop(),
        }
    }

    fn steps(&self) -> Option<u64> {
        match self {
            Run::Classic(classic) => classic.steps(),
            Run::Fleet(fleet) => fleet.steps(),
        }
    }
}

pub(crate) fn fleet_settings(simulator: &Simulator, start_us: i64) -> Result<Settings> {
    let rate = simulator.rate;
    if !rate.is_finite() || !(1.0 / 86_400.0..=1000.0).contains(&rate) {
        return Err(usage(format!(
            "`simulator.rate` is {rate}; vehicles report between 1000 times a second and once a day"
        )));
    }
    let threads = match simulator.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let duration_us = simulator.duration.map(|Span(duration)| duration.as_micros() as i64);
    Ok(Settings {
        vehicles: simulator.vehicles,
        interval_us: (1000.0 / rate).round() as i64 * 1000,
        duration_us,
        threads,
        snapshots: simulator.snapshots,
        faults: faults(&simulator.faults)?,
        truth: simulator.truth.is_some(),
        ..Settings::new(simulator.seed, start_us)
    })
}

/// Faults by their name, or from a file.
fn faults(name: &str) -> Result<Faults> {
    if let Some(faults) = Faults::preset(name) {
        return Ok(faults);
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = Faults::presets().collect();
        usage(format!(
            "`{name}` is neither a file that can be read ({error}) nor one of {}",
            known.join(", ")
        ))
    })?;
    Faults::parse(&text).map_err(|error| usage(format!("{name}: {}", error.trim_end())))
}

/// Event time of the start, in whole seconds so that timestamps read well.
fn start_us(start: Start, now_us: i64) -> i64 {
    const HOUR_US: i64 = 3_600_000_000;
    match start {
        Start::At(us) => us,
        Start::Now => now_us / 1_000_000 * 1_000_000,
        Start::RushHour => {
            let begin = |day: i32| i64::from(day) * event_time::DAY_US + 7 * HOUR_US + HOUR_US / 2;
            let today = event_time::days(now_us);
            // Day 0 of the epoch was a Thursday; 0 is Monday.
            let works = |day: &i32| (*day + 3).rem_euclid(7) < 5;
            let latest = (today - 7..=today)
                .rev()
                .filter(works)
                .find(|day| begin(*day) <= now_us);
            begin(latest.unwrap_or(today))
        }
    }
}

/// The pace of a run where the settings leave it open.
pub(crate) fn pace(pace: Option<Pace>, profile: Profile, classic_step: Duration) -> Pace {
    pace.unwrap_or(match profile {
        Profile::Classic => Pace::PerStep(classic_step),
        Profile::Fleet => Pace::SpeedUp(1.0),
    })
}

/// What the topics hold of a run already: the last event time of each device in each stream.
#[derive(Debug, Default)]
pub(crate) struct AlreadySent {
    pub(crate) last_us: HashMap<(u32, usize), i64>,
    /// Devices of which nothing is known have sent all up to here.
    pub(crate) others_us: Option<i64>,
}

impl AlreadySent {
    fn contains(&self, record: &Record<'_>) -> bool {
        if self.last_us.is_empty() {
            return false;
        }
        let last = self.last_us.get(&(record.device, record.stream)).copied();
        last.or(self.others_us).is_some_and(|last| record.event_time_us <= last)
    }
}

/// The ledger's files, written as the run goes on.
pub(crate) struct Ledger {
    faults: BufWriter<File>,
    situations: BufWriter<File>,
    incidents: BufWriter<File>,
    /// Incidents reported before this are written, microseconds since the epoch.
    reported_upto_us: Option<i64>,
}

/// How much event time passes between two looks for new incidents.
const INCIDENTS_EVERY_US: i64 = 600_000_000;

impl Ledger {
    /// Creates the files, and their folder, for the owner alone; what the files held is gone.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let cannot = || format!("cannot write the ledger in {}", dir.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(cannot)?;
        let private = |name: &str| {
            let mut options = File::options();
            let file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(dir.join(name))?;
            // One that was there keeps the permissions that it had.
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok::<_, io::Error>(BufWriter::new(file))
        };
        let file = |name: &str| private(name).with_context(cannot);
        Ok(Self {
            faults: file("faults.ndjson")?,
            situations: file("situations.ndjson")?,
            incidents: file("incidents.ndjson")?,
            reported_upto_us: None,
        })
    }

    /// Takes what belongs to a batch that has been sent; `fleet` knows the incidents up to `now_us`.
    fn take(&mut self, batch: &Batch, fleet: &Fleet, now_us: i64) -> Result<()> {
        self.faults.write_all(batch.faults())?;
        self.situations.write_all(batch.situations())?;
        let reported_upto_us = self.reported_upto_us.unwrap_or(now_us);
        if self.reported_upto_us.is_none() || now_us - reported_upto_us >= INCIDENTS_EVERY_US {
            self.write_incidents(fleet, now_us)?;
        }
        Ok(())
    }

    fn write_incidents(&mut self, fleet: &Fleet, now_us: i64) -> Result<()> {
        let from_us = self.reported_upto_us.unwrap_or(now_us);
        let is_first = self.reported_upto_us.is_none();
        let mut lines = Vec::new();
        let new = |incident: &Incident| is_first || incident.reported_us >= from_us;
        fleet
            .incidents(from_us, now_us + 1)
            .iter()
            .filter(|incident| new(incident))
            .for_each(|incident| incident.write_line(&mut lines));
        self.reported_upto_us = Some(now_us + 1);
        Ok(self.incidents.write_all(&lines)?)
    }

    fn finish(mut self, fleet: &Fleet, now_us: i64) -> Result<()> {
        self.write_incidents(fleet, now_us)?;
        for mut file in [self.faults, self.situations, self.incidents] {
            file.flush()?;
        }
        Ok(())
    }
}

/// How far a run has come, for whoever shows it.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) steps: AtomicU64,
    /// Event time of the last record, microseconds since the epoch; 0 before the first.
    pub(crate) event_time_us: AtomicI64,
    /// Whether the run has come to its end by itself.
    pub(crate) arrived: AtomicBool,
}

/// Where records go.
pub(crate) trait Sink {
    /// `false` when nobody wants any more.
    fn take(&mut self, topic: &str, record: &Record<'_>) -> Result<bool>;

    /// A pause is coming: show what there is.
    fn pause(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Sink for &Producer {
    fn take(&mut self, topic: &str, record: &Record<'_>) -> Result<bool> {
        let message = Message {
            key: Some(record.key),
            value: record.value,
            headers: &[],
        };
        self.send(topic, message)?;
        Ok(true)
    }
}

/// One line for each record; `--print`.
pub(crate) struct Lines<W: Write> {
    pub(crate) out: W,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

/// A reader that has gone, as `head` does, is no failure.
fn unless_gone(written: io::Result<()>) -> Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

impl<W: Write> Sink for Lines<W> {
    fn take(&mut self, topic: &str, record: &Record<'_>) -> Result<bool> {
        self.line.clear();
        record.write_line(topic, &mut self.line);
        self.line.push(b'\n');
        unless_gone(self.out.write_all(&self.line))
    }

    fn pause(&mut self) -> Result<()> {
        unless_gone(self.out.flush()).map(drop)
    }
}

/// What a run needs beside itself.
pub(crate) struct Drive {
    pub(crate) pace: Pace,
    pub(crate) topics: Topics,
    pub(crate) already_sent: AlreadySent,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) stop: CancellationToken,
    pub(crate) counters: Arc<Counters>,
}

impl Drive {
    /// Drives a run to its end or until it is stopped, leaving out what has been sent already. A run that is stopped ends the step
    /// it is in at once, so that no device is a step behind the others. Blocks: give it a thread.
    pub(crate) fn run(mut self, run: &mut Run, sink: &mut dyn Sink) -> Result<()> {
        let counters = Arc::clone(&self.counters);
        let mut pacer = Pacer::new(self.pace);
        let mut batch = Batch::new();
        let mut stopped = false;
        let (mut last_step, mut newest_us) = (None, None);
        while run.fill(&mut batch) {
            let mut taken = 0;
            for record in batch.iter().filter(|record| !self.already_sent.contains(record)) {
                if !stopped && !pacer.wait(&record, &self.stop, sink)? {
                    stopped = true;
                    run.stop();
                }
                if !sink.take(self.topics.of(&record), &record)? {
                    return Ok(());
                }
                taken += 1;
                if last_step != Some(record.step) {
                    last_step = Some(record.step);
                    counters.steps.fetch_add(1, Ordering::Relaxed);
                }
                newest_us = newest_us.max(Some(record.event_time_us));
            }
            counters.records.fetch_add(taken, Ordering::Relaxed);
            counters
                .event_time_us
                .store(newest_us.unwrap_or_default(), Ordering::Relaxed);
            if let (Some(ledger), Run::Fleet(fleet), Some(newest_us)) = (&mut self.ledger, &*run, newest_us) {
                ledger
                    .take(&batch, fleet, newest_us)
                    .context("cannot write the ledger")?;
            }
            // At full speed nobody waits between records.
            if !stopped && self.stop.is_cancelled() {
                stopped = true;
                run.stop();
            }
        }
        sink.pause()?;
        if let (Some(ledger), Run::Fleet(fleet), Some(newest_us)) = (self.ledger, &*run, newest_us) {
            ledger.finish(fleet, newest_us).context("cannot write the ledger")?;
        }
        counters.arrived.store(!stopped, Ordering::Relaxed);
        Ok(())
    }
}

/// Waits until a record is due. The first one is due at once; from then on the schedule is absolute, so that a rate holds
/// whatever a single record took.
struct Pacer {
    pace: Pace,
    started: Instant,
    now: Instant,
    first: Option<(u64, i64)>,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            pace,
            started: now,
            now,
            first: None,
        }
    }

    /// `false` when the run shall stop.
    fn wait(&mut self, record: &Record<'_>, stop: &CancellationToken, sink: &mut dyn Sink) -> Result<bool> {
        if self.first.is_none() {
            self.started = Instant::now();
        }
        let (first_step, first_us) = *self.first.get_or_insert((record.step, record.due_us));
        let after = match self.pace {
            Pace::Max => return Ok(true),
            Pace::PerStep(each) => each.mul_f64((record.step - first_step) as f64),
            Pace::SpeedUp(times) => Duration::from_micros((record.due_us - first_us).max(0) as u64).div_f64(times),
        };
        let due = self.started + after;
        if due <= self.now {
            return Ok(true);
        }
        self.now = Instant::now();
        if due <= self.now + SLEEP_MIN {
            return Ok(true);
        }
        sink.pause()?;
        while due > self.now {
            if stop.is_cancelled() {
                return Ok(false);
            }
            std::thread::sleep((due - self.now).min(SLEEP_MAX));
            self.now = Instant::now();
        }
        Ok(!stop.is_cancelled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rush_hour_is_the_latest_one() {
        let at = |text: &str| event_time::parse(text.as_bytes()).unwrap();
        for (now, start) in [
            // A Monday: before half past seven it is still Friday's.
            ("2026-01-05T07:29:59", "2026-01-02T07:30:00"),
            ("2026-01-05T07:30:00", "2026-01-05T07:30:00"),
            ("2026-01-04T12:00:00", "2026-01-02T07:30:00"),
            ("2026-01-07T23:59:59", "2026-01-07T07:30:00"),
        ] {
            assert_eq!(start_us(Start::RushHour, at(now)), at(start), "{now}");
        }
    }
}
