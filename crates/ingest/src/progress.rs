//! How the job goes, per stream: totals for the status line, and the last batch in Spark's progress format
//! (`StreamingQueryProgress`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use model::{Clock, Span, Streams, TopicPartition, event_time};
use serde::Serialize;

use crate::batch::BatchFigures;
use crate::tolerance::Excess;

/// Shared by the stages, which report, and by whoever shows it.
pub struct Progress {
    application: String,
    run_id: String,
    clock: Arc<dyn Clock>,
    streams: Vec<Mutex<StreamState>>,
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
            })
        });
        Self {
            application: application.to_owned(),
            run_id: run_id.to_owned(),
            clock,
            streams: streams.collect(),
        }
    }

    /// The streams that were stopped, and why.
    pub fn stopped_streams(&self) -> Vec<(String, Excess)> {
        let stopped = self.streams.iter().filter_map(|stream| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            Some((stream.name.clone(), stream.stopped?))
        });
        stopped.collect()
    }

    /// Name and totals of each stream.
    pub fn totals(&self) -> Vec<(String, Totals)> {
        let totals = self.streams.iter().map(|stream| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            (stream.name.clone(), stream.totals.clone())
        });
        totals.collect()
    }

    /// The last progress of each stream, Spark's field names; figures of a stream at rest are zero, as Spark's are.
    pub fn report(&self) -> Vec<StreamProgress> {
        let lock = |stream: &'_ Mutex<StreamState>| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            self.stream_progress(&stream)
        };
        self.streams.iter().map(lock).collect()
    }

    /// A partition is read from `offset` on.
    pub(crate) fn assigned(&self, stream: usize, partition: i32, offset: i64, high: i64) {
        let mut state = self.streams[stream].lock().unwrap_or_else(PoisonError::into_inner);
        state.partitions.insert(partition, (offset, Some(high)));
        state.update_lag();
    }

    pub(crate) fn unassigned(&self, stream: usize, partition: i32) {
        let mut state = self.streams[stream].lock().unwrap_or_else(PoisonError::into_inner);
        state.partitions.remove(&partition);
        state.update_lag();
    }

    /// Nothing of this stream is read any more: too much of it is broken.
    pub(crate) fn stopped(&self, stream: usize, excess: Excess) {
        let mut state = self.streams[stream].lock().unwrap_or_else(PoisonError::into_inner);
        gauge!("smartcity_ingest_stopped", "stream" => state.name.clone()).set(1);
        state.stopped = Some(excess);
    }

    pub(crate) fn high_watermark(&self, stream: usize, partition: i32, high: i64) {
        let mut state = self.streams[stream].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = state.partitions.get_mut(&partition) {
            *known = Some(high);
        }
        state.update_lag();
    }

    pub(crate) fn committed(&self, stream: usize, report: &BatchReport) {
        let timestamp_us = self.clock.now_us();
        let mut state = self.streams[stream].lock().unwrap_or_else(PoisonError::into_inner);
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

    fn stream_progress(&self, state: &StreamState) -> StreamProgress {
        // Spark reports an idle query with zeros after ten seconds.
        let last = state
            .last
            .as_ref()
            .filter(|_| state.last_batch_ended.elapsed() < Duration::from_secs(10));
        let figures = last.map(|last| last.figures).unwrap_or_default();
        let (upload, commit) = last.map(|last| (last.upload, last.commit)).unwrap_or_default();
        let took = figures.decode + figures.encode + upload + commit;
        let rate = |time: Duration| match time.as_secs_f64() {
            0.0 => 0.0,
            seconds => (figures.records as f64 / seconds * 10.0).round() / 10.0,
        };
        let input_rows_per_second = rate(last.map(|last| last.since_previous).unwrap_or_default());
        let processed_rows_per_second = rate(took);
        let offsets = |offset: &dyn Fn(i32, i64) -> i64| {
            let offsets = state
                .partitions
                .iter()
                .map(|(partition, (landed, _))| (partition.to_string(), offset(*partition, *landed)));
            BTreeMap::from([(state.topic.clone(), offsets.collect())])
        };
        let start = |partition, landed| {
            last.and_then(|last| last.spans.get(&partition))
                .map_or(landed, |span| span.from)
        };
        let latest = |partition, landed| {
            state
                .partitions
                .get(&partition)
                .and_then(|(_, high)| *high)
                .map_or(landed, |high: i64| high.max(landed))
        };
        StreamProgress {
            id: format!("{}/{}", self.application, state.name),
            run_id: self.run_id.clone(),
            name: state.name.clone(),
            timestamp: iso8601(last.map_or_else(|| self.clock.now_us(), |last| last.timestamp_us)),
            batch_id: state.batch_id,
            num_input_rows: figures.records,
            input_rows_per_second,
            processed_rows_per_second,
            duration_ms: DurationMs {
                decode: figures.decode.as_millis() as u64,
                encode: figures.encode.as_millis() as u64,
                upload: upload.as_millis() as u64,
                wal_commit: commit.as_millis() as u64,
                trigger_execution: took.as_millis() as u64,
            },
            event_time: figures
                .event_time_us
                .map(|(min, max)| BTreeMap::from([("min", iso8601(min)), ("max", iso8601(max))]))
                .unwrap_or_default(),
            state_operators: [],
            sources: [SourceProgress {
                description: format!("Kafka[{}]", state.topic),
                start_offset: offsets(&start),
                end_offset: offsets(&|_, landed| landed),
                latest_offset: offsets(&latest),
                num_input_rows: figures.records,
                input_rows_per_second,
                processed_rows_per_second,
            }],
            sink: SinkProgress {
                description: format!("Delta[{}]", state.name),
                num_output_rows: figures.rows,
                num_dead_letters: figures.dead_letters,
                version: state.totals.version,
            },
            totals: TotalsProgress {
                rows: state.totals.rows,
                dead_letters: state.totals.dead_letters,
                lag: state.totals.lag,
                stopped: state.stopped.map(|excess| excess.to_string()),
            },
        }
    }
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
        }
    }
}

/// One stream's progress in the shape of Spark's `StreamingQueryProgress.json`, with `totals` and the sink's
/// `numDeadLetters` and `version` added.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamProgress {
    pub id: String,
    pub run_id: String,
    pub name: String,
    pub timestamp: String,
    pub batch_id: u64,
    pub num_input_rows: u64,
    pub input_rows_per_second: f64,
    pub processed_rows_per_second: f64,
    pub duration_ms: DurationMs,
    pub event_time: BTreeMap<&'static str, String>,
    pub state_operators: [(); 0],
    pub sources: [SourceProgress; 1],
    pub sink: SinkProgress,
    pub totals: TotalsProgress,
}

/// Milliseconds by stage; decode and encode are CPU work and may run on several threads at once.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DurationMs {
    pub decode: u64,
    pub encode: u64,
    pub upload: u64,
    pub wal_commit: u64,
    pub trigger_execution: u64,
}

/// Offsets are `{topic: {partition: offset}}`, as Spark's Kafka source writes them.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceProgress {
    pub description: String,
    pub start_offset: BTreeMap<String, BTreeMap<String, i64>>,
    pub end_offset: BTreeMap<String, BTreeMap<String, i64>>,
    pub latest_offset: BTreeMap<String, BTreeMap<String, i64>>,
    pub num_input_rows: u64,
    pub input_rows_per_second: f64,
    pub processed_rows_per_second: f64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkProgress {
    pub description: String,
    pub num_output_rows: u64,
    pub num_dead_letters: u64,
    pub version: Option<i64>,
}

/// Sums since the job's start, and the records in Kafka that have not landed.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TotalsProgress {
    pub rows: u64,
    pub dead_letters: u64,
    pub lag: Option<u64>,
    /// Why the stream was stopped; `None` while it is not.
    pub stopped: Option<String>,
}

/// `2026-01-01T00:00:00.000Z`, as Spark writes timestamps.
fn iso8601(us: i64) -> String {
    let (year, month, day) = event_time::civil_from_days(event_time::days(us));
    let ms = us.rem_euclid(event_time::DAY_US) / 1000;
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
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
