//! A file's statistics as Delta's log keeps them (PROTOCOL.md, "Per-file Statistics"), from the bounds that Parquet
//! already found.

use arrow_schema::{DataType, Schema};
use model::event_time::{DAY_US, civil_from_days, days};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use serde_json::{Map, Value, json};

/// JSON text for an `add` action's `stats`. `nulls` holds one count per column of `schema`.
pub(crate) fn delta_stats(schema: &Schema, rows: u64, nulls: &[u64], row_groups: &[RowGroupMetaData]) -> String {
    let (mut min_values, mut max_values, mut null_count) = (Map::new(), Map::new(), Map::new());
    for (column, nulls) in schema.fields().iter().zip(nulls) {
        // Delta counts the nulls of a struct's leaves, which we do not; lists and maps have none to count.
        if column.data_type().is_nested() {
            continue;
        }
        null_count.insert(column.name().clone(), json!(nulls));
        let chunks = row_groups.iter().filter_map(|group| leaf(group, column.name()));
        if let Some((min, max)) = bounds(column.data_type(), chunks, row_groups.len()) {
            min_values.extend(min.map(|min| (column.name().clone(), min)));
            max_values.extend(max.map(|max| (column.name().clone(), max)));
        }
    }
    json!({"numRecords": rows, "minValues": min_values, "maxValues": max_values, "nullCount": null_count}).to_string()
}

fn leaf<'a>(group: &'a RowGroupMetaData, name: &str) -> Option<&'a ColumnChunkMetaData> {
    group
        .columns()
        .iter()
        .find(|chunk| matches!(chunk.column_path().parts(), [only] if only == name))
}

/// The least and the greatest value over all chunks; `None` when one of them does not tell.
fn bounds<'a>(
    data_type: &DataType,
    chunks: impl Iterator<Item = &'a ColumnChunkMetaData>,
    expected: usize,
) -> Option<(Option<Value>, Option<Value>)> {
    let mut merged: Option<Bounds> = None;
    let mut seen = 0;
    for chunk in chunks {
        seen += 1;
        let statistics = chunk.statistics()?;
        match Bounds::of(statistics) {
            Some(found) => {
                merged = Some(match merged {
                    Some(merged) => merged.merge(found)?,
                    None => found,
                });
            }
            None if statistics.null_count_opt() == Some(chunk.num_values() as u64) => {}
            None => return None,
        }
    }
    if seen != expected {
        return None;
    }
    merged?.into_json(data_type)
}

enum Bounds {
    Whole(i64, i64),
    Double(f64, f64),
    Bytes(Vec<u8>, Vec<u8>),
}

impl Bounds {
    fn of(statistics: &Statistics) -> Option<Bounds> {
        match statistics {
            Statistics::Int32(found) => Some(Bounds::Whole(
                i64::from(*found.min_opt()?),
                i64::from(*found.max_opt()?),
            )),
            Statistics::Int64(found) => Some(Bounds::Whole(*found.min_opt()?, *found.max_opt()?)),
            Statistics::Double(found) => Some(Bounds::Double(*found.min_opt()?, *found.max_opt()?)),
            Statistics::ByteArray(found) => Some(Bounds::Bytes(
                found.min_opt()?.data().to_vec(),
                found.max_opt()?.data().to_vec(),
            )),
            _ => None,
        }
    }

    fn merge(self, other: Bounds) -> Option<Bounds> {
        match (self, other) {
            (Bounds::Whole(min, max), Bounds::Whole(other_min, other_max)) => {
                Some(Bounds::Whole(min.min(other_min), max.max(other_max)))
            }
            (Bounds::Double(min, max), Bounds::Double(other_min, other_max)) => {
                Some(Bounds::Double(min.min(other_min), max.max(other_max)))
            }
            (Bounds::Bytes(min, max), Bounds::Bytes(other_min, other_max)) => {
                Some(Bounds::Bytes(min.min(other_min), max.max(other_max)))
            }
            _ => None,
        }
    }

    fn into_json(self, data_type: &DataType) -> Option<(Option<Value>, Option<Value>)> {
        Some(match (self, data_type) {
            (Bounds::Whole(min, max), DataType::Int32 | DataType::Int64) => (Some(json!(min)), Some(json!(max))),
            (Bounds::Whole(min, max), DataType::Date32) => (date(min), date(max)),
            (Bounds::Whole(min, max), DataType::Decimal128(_, scale)) => {
                let number = |units: i64| decimal(units, u8::try_from(*scale).ok()?);
                (number(min), number(max))
            }
            // Delta keeps milliseconds; the bounds must still hold, so the lower goes down and the upper up.
            (Bounds::Whole(min, max), DataType::Timestamp(..)) => (
                instant(min.div_euclid(1000)),
                instant(max.div_euclid(1000) + i64::from(max.rem_euclid(1000) > 0)),
            ),
            (Bounds::Double(min, max), DataType::Float64) if min.is_finite() && max.is_finite() => {
                (Some(json!(min)), Some(json!(max)))
            }
            // Parquet has cut long texts at a character's end and raised the upper one.
            (Bounds::Bytes(min, max), DataType::Utf8) => (
                String::from_utf8(min).ok().map(Value::from),
                String::from_utf8(max).ok().map(Value::from),
            ),
            _ => return None,
        })
    }
}

fn date(days: i64) -> Option<Value> {
    let (year, month, day) = civil_from_days(i32::try_from(days).ok()?);
    (1..=9999)
        .contains(&year)
        .then(|| Value::from(format!("{year:04}-{month:02}-{day:02}")))
}

/// A number whose text is exact; `None` where a double has too few digits for it.
fn decimal(units: i64, scale: u8) -> Option<Value> {
    let number: f64 = model::decimal::text(units.into(), scale).parse().ok()?;
    let is_exact = model::decimal::scaled(format!("{number:e}").as_bytes(), scale.into()) == Ok(units.into());
    is_exact.then(|| json!(number))
}

fn instant(ms: i64) -> Option<Value> {
    let us = ms.checked_mul(1000)?;
    let of_day_ms = us.rem_euclid(DAY_US) / 1000;
    let (year, month, day) = civil_from_days(days(us));
    if !(1..=9999).contains(&year) {
        return None;
    }
    let (seconds, ms) = (of_day_ms / 1000, of_day_ms % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(Value::from(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_dates_and_decimals_are_exact_or_absent() {
        let bounds = |min, max, data_type| Bounds::Whole(min, max).into_json(&data_type);
        assert_eq!(
            bounds(-719_162, 20_000, DataType::Date32),
            Some((Some(json!("0001-01-01")), Some(json!("2024-10-04"))))
        );
        assert_eq!(
            bounds(-1250, 333, DataType::Decimal128(5, 2)),
            Some((Some(json!(-12.5)), Some(json!(3.33))))
        );
        assert_eq!(
            bounds(123_456_789_012_345_678, 5, DataType::Decimal128(18, 2)),
            Some((None, Some(json!(0.05))))
        );
    }
}
