//! One field, one value: what becomes of it.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use codec::{DecodeLimits, Decoder};
use model::event_time::{DAY_US, civil_from_days, days, time_text};
use model::{ChunkBuilder, DeadLetter, Stream, TopicPartition, decimal};

/// A stream of one field `f` with these lines.
pub(crate) fn stream_of(lines: &str) -> Stream {
    Stream::parse("s.toml", &format!("name = \"s\"\n[[field]]\nname = \"f\"\n{lines}\n")).unwrap()
}

pub(crate) fn decode(
    stream: &Stream,
    shapes_max: usize,
    records: &[Vec<u8>],
) -> (Option<RecordBatch>, Vec<DeadLetter>) {
    let mut builder = ChunkBuilder::new(TopicPartition::new("t", 0), 0);
    for (offset, record) in (0..).zip(records) {
        builder.push(offset, 5, None, Some(record), []);
    }
    let limits = DecodeLimits {
        shapes_max,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::with_limits(stream, limits);
    let mut letters = Vec::new();
    decoder.decode(&builder.finish(records.len() as i64), &BTreeSet::new(), 0, &mut letters);
    (decoder.take(), letters)
}

/// The value of `f` in the row that `{"f":value}` becomes, as text, with `_extra` behind it where there is any; or the
/// class and the error of its dead letter. By both paths.
pub(crate) fn outcome(stream: &Stream, value: &str) -> Result<String, (&'static str, String)> {
    let record = format!("{{\"f\":{value}}}").into_bytes();
    let records = vec![record; 3];
    let outcomes: Vec<_> = [0, 4]
        .into_iter()
        .map(|shapes_max| match decode(stream, shapes_max, &records) {
            (Some(batch), letters) => {
                assert_eq!((batch.num_rows(), letters.len()), (3, 0), "{value}");
                let extra = batch["_extra"].as_string::<i32>();
                let texts: BTreeSet<String> = (0..3)
                    .map(|row| match extra.is_null(row) {
                        true => shown(&batch["f"], row),
                        false => format!("{} extra {}", shown(&batch["f"], row), extra.value(row)),
                    })
                    .collect();
                assert_eq!(texts.len(), 1, "{value}: {texts:?}");
                Ok(texts.into_iter().next().unwrap())
            }
            (None, letters) => {
                assert_eq!(letters.len(), 3);
                Err((letters[0].error_class, letters[0].error.clone()))
            }
        })
        .collect();
    assert_eq!(outcomes[0], outcomes[1], "{value}");
    outcomes[0].clone()
}

/// A value of a column as a person would write it.
pub(crate) fn shown(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_owned();
    }
    let join = |parts: Vec<String>| parts.join(",");
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Timestamp(..) => {
            let us = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let time = time_text(us.rem_euclid(DAY_US));
            format!("{}T{}", date(days(us)), std::str::from_utf8(&time).unwrap())
        }
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Decimal128(_, scale) => {
            let units = array.as_primitive::<Decimal128Type>().value(row);
            decimal::text(units, u8::try_from(*scale).unwrap())
        }
        DataType::Binary => array
            .as_binary::<i32>()
            .value(row)
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}")),
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            format!(
                "[{}]",
                join((0..elements.len()).map(|at| shown(&elements, at)).collect())
            )
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let entry = |at| format!("{}:{}", shown(entries.column(0), at), shown(entries.column(1), at));
            format!("{{{}}}", join((0..entries.len()).map(entry).collect()))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let member = |(field, column): (&arrow_schema::FieldRef, &arrow_array::ArrayRef)| {
                format!("{}={}", field.name(), shown(column, row))
            };
            format!("({})", join(fields.iter().zip(columns).map(member).collect()))
        }
        other => panic!("no declared type is {other}"),
    }
}

fn date(days: i32) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}
