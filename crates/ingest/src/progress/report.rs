//! The last batch of each stream in Spark's progress format (`StreamingQueryProgress`).

use std::collections::BTreeMap;
use std::time::Duration;

use model::event_time;
use serde::Serialize;

use super::{Progress, StreamState};

impl Progress {
    pub(super) fn stream_progress(&self, state: &StreamState) -> StreamProgress {
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
