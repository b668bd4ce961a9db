//! One data file against what the log says of it. Pure: bytes in, findings out.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use model::event_time;
use roaring::RoaringTreemap;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::finding::Finding;
use super::state::LiveFile;
use crate::delta::data_file::{RowReader, Survivors};

/// Writers cut timestamps to milliseconds, some of them both bounds down.
const TIMESTAMP_SLACK_US: i64 = 999;

/// Compares a file with its `add` action; each batch of rows that are not deleted is handed on. Returns how many these
/// were and what is wrong.
pub(crate) fn check_file(
    path: &str,
    logged: &LiveFile,
    bytes: Bytes,
    deleted: Option<RoaringTreemap>,
    reader: &RowReader,
    mut rows_to: impl FnMut(&RecordBatch),
) -> (u64, Vec<Finding>) {
    let mut findings = Vec::new();
    let path = || path.to_owned();
    if bytes.len() as u64 != logged.size {
        findings.push(Finding::FileSize {
            path: path(),
            logged: logged.size,
            found: bytes.len() as u64,
        });
    } else if logged.crc32c.is_some_and(|logged| logged != crc32c::crc32c(&bytes)) {
        findings.push(Finding::FileChanged { path: path() });
    }
    let (mut seen, mut rows) = (Seen::default(), 0);
    let mut survivors = Survivors::new(deleted);
    let read = (|| {
        for batch in reader.decode(bytes)? {
            let batch = batch?;
            seen.take(&batch);
            let batch = survivors.of(&batch)?;
            rows += batch.num_rows() as u64;
            rows_to(&batch);
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    })();
    if let Err(error) = read {
        findings.push(Finding::UnreadableFile {
            path: path(),
            why: error.to_string(),
        });
    } else if let Some(text) = &logged.stats {
        match serde_json::from_str::<Stats>(text) {
            Ok(stats) => {
                findings.extend(
                    seen.differences(&stats, reader)
                        .into_iter()
                        .map(|(column, why)| Finding::Statistics {
                            path: path(),
                            column,
                            why,
                        }),
                )
            }
            Err(error) => findings.push(Finding::Statistics {
                path: path(),
                column: "all".to_owned(),
                why: format!("no statistics: {error}"),
            }),
        }
    }
    (rows, findings)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: u64,
    /// As they were written: serde_json's own doubles can be the neighbour of the number in the text.
    #[serde(default)]
    min_values: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    max_values: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    null_count: BTreeMap<String, Value>,
}

/// What the rows of a file really are.
#[derive(Default)]
struct Seen {
    rows: u64,
    columns: BTreeMap<String, Column>,
}

#[derive(Default)]
struct Column {
    nulls: u64,
    bounds: Option<Bounds>,
}

#[derive(Clone)]
enum Bounds {
    Whole(i64, i64),
    /// Microseconds since the epoch.
    Instant(i64, i64),
    Double(f64, f64),
    Text(String, String),
}

impl Seen {
    fn take(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
            if !self.columns.contains_key(field.name()) {
                self.columns.insert(field.name().clone(), Column::default());
            }
            let Some(column) = self.columns.get_mut(field.name()) else {
                continue;
            };
            column.nulls += array.null_count() as u64;
            if let Some(bounds) = Bounds::of(array.as_ref()) {
                column.bounds = Some(match column.bounds.take() {
                    Some(before) => before.merge(bounds),
                    None => bounds,
                });
            }
        }
    }

    fn differences(&self, stats: &Stats, reader: &RowReader) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if stats.num_records != self.rows {
            let why = format!("the log says {} rows, the file holds {}", stats.num_records, self.rows);
            found.push(("all".to_owned(), why));
        }
        for (name, column) in &self.columns {
            let mut say = |why: String| found.push((name.clone(), why));
            let logged_name = reader.physical_name(name);
            if let Some(logged) = stats.null_count.get(logged_name).and_then(Value::as_u64)
                && logged != column.nulls
            {
                say(format!("the log says {logged} nulls, the file holds {}", column.nulls));
            }
            let Some(bounds) = &column.bounds else { continue };
            if let Some(logged) = stats.min_values.get(logged_name)
                && bounds.is_below(logged)
            {
                say(format!(
                    "the file holds {}, below the least, {}",
                    bounds.least(),
                    logged.get()
                ));
            }
            if let Some(logged) = stats.max_values.get(logged_name)
                && bounds.is_above(logged)
            {
                say(format!(
                    "the file holds {}, above the greatest, {}",
                    bounds.greatest(),
                    logged.get()
                ));
            }
        }
        found
    }
}

impl Bounds {
    fn of(array: &dyn Array) -> Option<Bounds> {
        fn ends<T: Copy>(mut values: impl Iterator<Item = T>, less: impl Fn(T, T) -> bool) -> Option<(T, T)> {
            let first = values.next()?;
            Some(values.fold((first, first), |(min, max), value| {
                (
                    if less(value, min) { value } else { min },
                    if less(max, value) { value } else { max },
                )
            }))
        }
        Some(match array.data_type() {
            DataType::Int32 => {
                let values = array.as_primitive::<Int32Type>().iter().flatten();
                let (min, max) = ends(values, |one, other| one < other)?;
                Bounds::Whole(min.into(), max.into())
            }
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>().iter().flatten();
                let (min, max) = ends(values, |one, other| one < other)?;
                Bounds::Whole(min, max)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                let values = array.as_primitive::<TimestampMicrosecondType>().iter().flatten();
                let (min, max) = ends(values, |one, other| one < other)?;
                Bounds::Instant(min, max)
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().iter().flatten();
                let (min, max) = ends(values.filter(|value| !value.is_nan()), |one, other| one < other)?;
                Bounds::Double(min, max)
            }
            DataType::Utf8 => {
                let (min, max) = ends(array.as_string::<i32>().iter().flatten(), |one, other| one < other)?;
                Bounds::Text(min.to_owned(), max.to_owned())
            }
            _ => return None,
        })
    }

    fn merge(self, other: Bounds) -> Bounds {
        match (self, other) {
            (Bounds::Whole(min, max), Bounds::Whole(least, greatest)) => {
                Bounds::Whole(min.min(least), max.max(greatest))
            }
            (Bounds::Instant(min, max), Bounds::Instant(least, greatest)) => {
                Bounds::Instant(min.min(least), max.max(greatest))
            }
            (Bounds::Double(min, max), Bounds::Double(least, greatest)) => {
                Bounds::Double(min.min(least), max.max(greatest))
            }
            (Bounds::Text(min, max), Bounds::Text(least, greatest)) => Bounds::Text(min.min(least), max.max(greatest)),
            (this, _) => this,
        }
    }

    fn is_below(&self, logged: &RawValue) -> bool {
        match self {
            Bounds::Whole(min, _) => number(logged).is_some_and(|logged: i64| *min < logged),
            Bounds::Instant(min, _) => instant(logged).is_some_and(|logged| *min < logged),
            Bounds::Double(min, _) => number(logged).is_some_and(|logged: f64| *min < logged),
            Bounds::Text(min, _) => text(logged).is_some_and(|logged| *min < logged),
        }
    }

    fn is_above(&self, logged: &RawValue) -> bool {
        match self {
            Bounds::Whole(_, max) => number(logged).is_some_and(|logged: i64| *max > logged),
            Bounds::Instant(_, max) => instant(logged).is_some_and(|logged| *max > logged + TIMESTAMP_SLACK_US),
            Bounds::Double(_, max) => number(logged).is_some_and(|logged: f64| *max > logged),
            Bounds::Text(_, max) => text(logged).is_some_and(|logged| *max > logged),
        }
    }

    fn least(&self) -> String {
        match self {
            Bounds::Whole(min, _) => min.to_string(),
            Bounds::Instant(min, _) => format!("{min} us since 1970"),
            Bounds::Double(min, _) => min.to_string(),
            Bounds::Text(min, _) => format!("{min:?}"),
        }
    }

    fn greatest(&self) -> String {
        match self {
            Bounds::Whole(_, max) => max.to_string(),
            Bounds::Instant(_, max) => format!("{max} us since 1970"),
            Bounds::Double(_, max) => max.to_string(),
            Bounds::Text(_, max) => format!("{max:?}"),
        }
    }
}

fn number<T: std::str::FromStr>(logged: &RawValue) -> Option<T> {
    logged.get().parse().ok()
}

fn text(logged: &RawValue) -> Option<String> {
    serde_json::from_str(logged.get()).ok()
}

fn instant(logged: &RawValue) -> Option<i64> {
    event_time::parse(text(logged)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Float64Array;

    use super::*;

    #[test]
    fn doubles_are_compared_to_the_last_bit() {
        // Two of those that serde_json reads as their neighbour.
        for value in [490.15297172351524, 10.584487841571795] {
            let stats: Stats = serde_json::from_str(&format!(
                "{{\"numRecords\":1,\"minValues\":{{\"x\":{value}}},\"maxValues\":{{\"x\":{value}}},\"nullCount\":{{\"x\":0}}}}"
            ))
            .unwrap();
            let seen = |value: f64| {
                let column: Arc<dyn Array> = Arc::new(Float64Array::from(vec![value]));
                let mut seen = Seen::default();
                seen.take(&RecordBatch::try_from_iter([("x", column)]).unwrap());
                seen.differences(&stats, &RowReader::default()).len()
            };
            assert_eq!((seen(value), seen(value.next_up()), seen(value.next_down())), (0, 1, 1));
        }
    }
}
