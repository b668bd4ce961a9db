//! How the job goes: totals of each stream for the status line, what does not answer, and whether the job is well.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use model::{Clock, Span, Streams, TopicPartition};
use tracing::{info, warn};

use crate::batch::BatchFigures;
use crate::tolerance::Excess;

mod health;
mod outage;
mod report;

pub(crate) use health::Phase;
pub(crate) use outage::Part;
pub use report::StreamProgress;

use health::StreamHealth;
use outage::Outages;

/// How old the last commit may be while records wait, unless [`Progress::with_commit_age_max`] says otherwise.
const COMMIT_AGE_MAX: Duration = Duration::from_secs(60);

/// Shared by the stages, which report, and by whoever shows it.
pub struct Progress {
    application: String,
    run_id: String,
    clock: Arc<dyn Clock>,
    streams: Vec<Mutex<StreamState>>,
    job: Mutex<JobState>,
    commit_age_max: Duration,
}

struct JobState {
    phase: Phase,
    outages: Outages,
    /// When the reader was last seen to do something.
    reader_moved: Instant,
}

struct StreamState {
    name: String,
    topic: String,
    batch_id: u64,
    totals: Totals,
    /// Landed offset and high watermark per partition.
    partitions: BTreeMap<i32, (i64, Option<i64>)>,
    last_batch_ended: Instant,
    last: Option<LastBatch>,
    stopped: Option<Excess>,
    /// The last commit, or when it fell behind, if that was later; `None` while nothing waits in Kafka.
    waiting_since: Option<Instant>,
}

struct LastBatch {
    timestamp_us: i64,
    figures: BatchFigures,
    spans: BTreeMap<i32, Span>,
    upload: Duration,
    commit: Duration,
    since_previous: Duration,
}

/// Sums since the job's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Kafka records read.
    pub records: u64,
    pub rows: u64,
    pub dead_letters: u64,
    /// The table's version; `None` before this run's first commit.
    pub version: Option<i64>,
    /// Records in Kafka that have not landed; `None` until the first fetch tells.
    pub lag: Option<u64>,
}

/// What a committer tells of one commit.
pub(crate) struct BatchReport {
    pub(crate) version: i64,
    pub(crate) spans: Vec<(TopicPartition, Span)>,
    pub(crate) figures: BatchFigures,
    pub(crate) upload: Duration,
    pub(crate) commit: Duration,
}

impl Progress {
    /// `run_id` tells this run from others, as Spark's `runId` does.
    pub fn new(application: &str, run_id: &str, streams: &Streams, clock: Arc<dyn Clock>) -> Self {
        let streams = streams.iter().map(|stream| {
            Mutex::new(StreamState {
                name: stream.name.clone(),
                topic: stream.topic.clone(),
                batch_id: 0,
                totals: Totals::default(),
                partitions: BTreeMap::new(),
                last_batch_ended: Instant::now(),
                last: None,
                stopped: None,
                waiting_since: None,
            })
        });
        Self {
            application: application.to_owned(),
            run_id: run_id.to_owned(),
            clock,
            streams: streams.collect(),
            job: Mutex::new(JobState {
                phase: Phase::Starting("connecting to Kafka and the lake"),
                outages: Outages::default(),
                reader_moved: Instant::now(),
            }),
            commit_age_max: COMMIT_AGE_MAX,
        }
    }

    /// A stream with records in Kafka that has had no commit for longer than this is not well.
    #[must_use]
    pub fn with_commit_age_max(mut self, commit_age_max: Duration) -> Self {
        self.commit_age_max = commit_age_max;
        self
    }

    /// Why the job does not do what it is for, one reason each; none when it does. Restarting it may mend nothing.
    pub fn unready(&self) -> Vec<String> {
        let now = Instant::now();
        let streams: Vec<_> = self.streams.iter().map(lock).collect();
        let health: Vec<_> = streams.iter().map(|stream| stream.health()).collect();
        let job = lock(&self.job);
        let name = |part| self.part_name(part, |stream| streams[stream].name.clone());
        health::unready(job.phase, &health, &job.outages, name, self.commit_age_max, now)
    }

    /// Why the process must be started again; `None` when that would mend nothing.
    pub fn dead(&self) -> Option<String> {
        let job = lock(&self.job);
        health::dead(job.phase, job.reader_moved, Instant::now())
    }

    /// Sets the gauges that follow from the time that has passed. Call it before metrics are read.
    pub fn publish(&self) {
        gauge!("smartcity_ingest_ready").set(f64::from(u8::from(self.unready().is_empty())));
        let now = Instant::now();
        for stream in &self.streams {
            let stream = lock(stream);
            let age = stream.waiting_since.map_or(Duration::ZERO, |since| now - since);
            gauge!("smartcity_ingest_commit_age_seconds", "stream" => stream.name.clone()).set(age.as_secs_f64());
        }
        let longest = lock(&self.job)
            .outages
            .iter()
            .map(|(_, outage)| now - outage.since)
            .max();
        gauge!("smartcity_ingest_outage_seconds").set(longest.unwrap_or_default().as_secs_f64());
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        let mut job = lock(&self.job);
        job.phase = phase;
        job.reader_moved = Instant::now();
    }

    pub(crate) fn reader_moved(&self) {
        lock(&self.job).reader_moved = Instant::now();
    }

    /// A try at something that has no end of tries has failed; `what` says at what.
    pub(crate) fn failed(&self, part: Part, what: &'static str, error: &(dyn Error + 'static)) {
        let error = lake::describe(error);
        let count = lock(&self.job).outages.failed(part, error.clone(), Instant::now());
        if let Some(tries) = count {
            let part = self.name_of(part);
            warn!(what, %error, tries, "{part} does not answer; trying again");
        }
    }

    /// The part has answered.
    pub(crate) fn answered(&self, part: Part) {
        let ended = lock(&self.job).outages.answered(part);
        if let Some(outage) = ended {
            let part = self.name_of(part);
            info!(
                after_s = outage.since.elapsed().as_secs(),
                tries = outage.tries,
                "{part} answers again"
            );
        }
    }

    /// What does not answer now, in words; empty when all does.
    pub(crate) fn outages(&self) -> String {
        let outages: Vec<_> = {
            let job = lock(&self.job);
            let outages = job.outages.iter();
            outages.map(|(part, outage)| (part, outage.error.clone())).collect()
        };
        let text = |(part, error): &(Part, String)| format!("{} does not answer: {error}", self.name_of(*part));
        outages.iter().map(text).collect::<Vec<_>>().join("; ")
    }

    fn name_of(&self, part: Part) -> String {
        self.part_name(part, |stream| lock(&self.streams[stream]).name.clone())
    }

    fn part_name(&self, part: Part, stream_name: impl Fn(usize) -> String) -> String {
        match part {
            Part::Kafka => "Kafka".to_owned(),
            Part::Lake => "the lake".to_owned(),
            Part::Table(stream) => format!("the lake (table {})", stream_name(stream)),
            Part::DlqTopic(stream) => format!("the dead-letter topic (stream {})", stream_name(stream)),
        }
    }

    /// The streams that were stopped, and why.
    pub fn stopped_streams(&self) -> Vec<(String, Excess)> {
        let stopped = self.streams.iter().filter_map(|stream| {
            let stream = lock(stream);
            Some((stream.name.clone(), stream.stopped?))
        });
        stopped.collect()
    }

    /// Name and totals of each stream.
    pub fn totals(&self) -> Vec<(String, Totals)> {
        let totals = self.streams.iter().map(|stream| {
            let stream = lock(stream);
            (stream.name.clone(), stream.totals.clone())
        });
        totals.collect()
    }

    /// The last progress of each stream, Spark's field names; figures of a stream at rest are zero, as Spark's are.
    pub fn report(&self) -> Vec<StreamProgress> {
        let streams = self.streams.iter();
        streams.map(|stream| self.stream_progress(&lock(stream))).collect()
    }

    /// A partition is read from `offset` on.
    pub(crate) fn assigned(&self, stream: usize, partition: i32, offset: i64, high: i64) {
        let mut state = lock(&self.streams[stream]);
        state.partitions.insert(partition, (offset, Some(high)));
        state.update_lag();
    }

    pub(crate) fn unassigned(&self, stream: usize, partition: i32) {
        let mut state = lock(&self.streams[stream]);
        state.partitions.remove(&partition);
        state.update_lag();
    }

    /// Nothing of this stream is read any more: too much of it is broken.
    pub(crate) fn stopped(&self, stream: usize, excess: Excess) {
        let mut state = lock(&self.streams[stream]);
        gauge!("smartcity_ingest_stopped", "stream" => state.name.clone()).set(1);
        state.stopped = Some(excess);
    }

    pub(crate) fn high_watermark(&self, stream: usize, partition: i32, high: i64) {
        let mut state = lock(&self.streams[stream]);
        if let Some((_, known)) = state.partitions.get_mut(&partition) {
            *known = Some(high);
        }
        state.update_lag();
    }

    pub(crate) fn committed(&self, stream: usize, report: &BatchReport) {
        let timestamp_us = self.clock.now_us();
        let mut state = lock(&self.streams[stream]);
        let since_previous = state.last_batch_ended.elapsed();
        state.last_batch_ended = Instant::now();
        state.batch_id += 1;
        state.totals.records += report.figures.records;
        state.totals.rows += report.figures.rows;
        state.totals.dead_letters += report.figures.dead_letters;
        state.totals.version = Some(report.version);
        for (partition, span) in &report.spans {
            // Not of a partition that was revoked meanwhile: nothing would update its lag any more.
            if let Some((offset, _)) = state.partitions.get_mut(&partition.partition) {
                *offset = span.to;
            }
        }
        // Whatever waits now has not waited for this commit.
        state.waiting_since = None;
        state.last = Some(LastBatch {
            timestamp_us,
            figures: report.figures,
            spans: report
                .spans
                .iter()
                .map(|(partition, span)| (partition.partition, *span))
                .collect(),
            upload: report.upload,
            commit: report.commit,
            since_previous,
        });
        state.update_lag();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StreamState {
    fn update_lag(&mut self) {
        let lags = self
            .partitions
            .values()
            .map(|(landed, high)| high.map(|high| high.saturating_sub(*landed).max(0) as u64));
        self.totals.lag = lags.sum::<Option<u64>>();
        if let Some(lag) = self.totals.lag {
            gauge!("smartcity_ingest_lag_records", "stream" => self.name.clone()).set(lag as f64);
            self.waiting_since = match lag {
                0 => None,
                _ => self.waiting_since.or_else(|| Some(Instant::now())),
            };
        }
    }

    fn health(&self) -> StreamHealth<'_> {
        StreamHealth {
            name: &self.name,
            lag: self.totals.lag,
            waiting_since: self.waiting_since,
            stopped: self.stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use model::ManualClock;

    use super::*;

    const STREAM: &str = r#"
        name = "s"
        description = "d"
        key = "at"
        event_time = "at"
        [[field]]
        name = "at"
        type = "timestamp"
        doc = "t"
    "#;

    #[test]
    fn a_batch_reads_as_spark_would_write_it() {
        let streams = Streams::parse([("s.toml", STREAM)]).unwrap();
        let clock = Arc::new(ManualClock::new(1_767_225_600_123_000));
        let progress = Progress::new("app", "run", &streams, clock);
        progress.assigned(0, 0, 5, 25);
        progress.committed(
            0,
            &BatchReport {
                version: 3,
                spans: vec![(TopicPartition::new("s", 0), Span::new(5, 20))],
                figures: BatchFigures {
                    records: 15,
                    rows: 14,
                    dead_letters: 1,
                    event_time_us: Some((0, 1_000_000)),
                    ..BatchFigures::default()
                },
                upload: Duration::from_millis(2),
                commit: Duration::from_millis(3),
            },
        );
        let json = serde_json::to_value(progress.report()).unwrap();
        let report = &json[0];
        assert_eq!(report["id"], "app/s");
        assert_eq!(report["timestamp"], "2026-01-01T00:00:00.123Z");
        assert_eq!(report["numInputRows"], 15);
        assert_eq!(report["eventTime"]["max"], "1970-01-01T00:00:01.000Z");
        assert_eq!(report["stateOperators"], serde_json::json!([]));
        assert_eq!(report["sources"][0]["startOffset"]["s"]["0"], 5);
        assert_eq!(report["sources"][0]["endOffset"]["s"]["0"], 20);
        assert_eq!(report["sources"][0]["latestOffset"]["s"]["0"], 25);
        assert_eq!(report["sink"]["numDeadLetters"], 1);
        assert_eq!(progress.totals()[0].1.lag, Some(5));

        // A batch that is committed after its partition was revoked does not bring the partition back.
        progress.assigned(0, 1, 0, 9);
        progress.unassigned(0, 0);
        progress.committed(
            0,
            &BatchReport {
                version: 4,
                spans: vec![
                    (TopicPartition::new("s", 0), Span::new(20, 25)),
                    (TopicPartition::new("s", 1), Span::new(0, 7)),
                ],
                figures: BatchFigures::default(),
                upload: Duration::ZERO,
                commit: Duration::ZERO,
            },
        );
        assert_eq!(progress.totals()[0].1.lag, Some(2));
    }
}
