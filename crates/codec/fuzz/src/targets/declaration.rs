//! Target `declaration`: any text as a stream's file.

use std::collections::BTreeSet;

use model::{ChunkBuilder, Encoding, Field, FieldType, Path, Step, Stream, Streams, TopicPartition};
use serde_json::{Value, json};

use super::json_schema::accepts;
use codec::{DecodeLimits, Decoder};

/// Fields of which each is tried with bad values, in messages up to this size; more would only be slower.
const FIELDS_TRIED: usize = 8;
const MESSAGE_BYTES_TRIED: usize = 16 << 10;

/// Any text is refused with the line of its mistake, or gives every schema and a decoder. A message that fills the
/// declared places is a row then, and so is every message that the JSON Schema accepts.
pub fn declaration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let stream = match Stream::parse("s.toml", text) {
        Ok(stream) => stream,
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!(errors.iter().next().is_some());
            for error in errors.iter() {
                assert!((1..=lines).contains(&error.line), "{error} in {lines} lines");
                assert!(!error.message.is_empty());
                assert!(error.to_string().starts_with(&format!("s.toml:{}: ", error.line)));
            }
            return;
        }
    };
    let columns = stream.arrow_schema();
    let names: BTreeSet<&str> = columns.fields().iter().map(|column| column.name().as_str()).collect();
    assert_eq!(names.len(), columns.fields().len(), "two columns of one name");
    assert_eq!(stream.fingerprint().len(), 32);
    for path in stream.fields.iter().flat_map(|field| &field.from) {
        assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(path));
    }
    let event_time = columns.field(stream.event_time_index());
    assert_eq!(event_time.data_type(), &FieldType::Timestamp.arrow());
    for field in &stream.fields {
        assert_eq!(
            FieldType::parse(&field.field_type.to_string()).as_ref(),
            Ok(&field.field_type)
        );
    }
    assert!(stream.with_nullable_fields().is_ok());
    assert_eq!(Streams::parse([("s.toml", text)]).map(|streams| streams.len()), Ok(1));

    let schema = stream.json_schema();
    let mut messages = vec![message(&stream, 0, None), message(&stream, usize::MAX, None)];
    let is_small = messages[0].to_string().len() <= MESSAGE_BYTES_TRIED;
    for (index, field) in stream.fields.iter().enumerate().take(FIELDS_TRIED) {
        if is_small {
            let with = |value| message(&stream, 0, Some((index, value)));
            messages.extend(bad_values(field).into_iter().map(with));
        }
    }
    let letters = letters(&stream, &messages);
    for (number, message) in messages.iter().enumerate() {
        let letter = letters.iter().find(|(offset, _)| *offset == number as i64);
        if number < 2 || accepts(&schema, message) {
            assert_eq!(letter, None, "{message}");
        }
    }
}

/// Offset and error of the messages that became no rows.
fn letters(stream: &Stream, messages: &[Value]) -> Vec<(i64, String)> {
    let mut builder = ChunkBuilder::new(TopicPartition::new("t", 0), 0);
    for (offset, message) in (0..).zip(messages) {
        builder.push(offset, 0, None, Some(message.to_string().as_bytes()), []);
    }
    let limits = DecodeLimits {
        record_bytes_max: usize::MAX,
        ..DecodeLimits::default()
    };
    let (mut decoder, mut letters) = (Decoder::with_limits(stream, limits), Vec::new());
    let chunk = builder.finish(messages.len() as i64);
    let counts = decoder.decode(&chunk, &BTreeSet::new(), 0, &mut letters);
    assert_eq!(counts.rows + counts.dead_letters, messages.len());
    assert_eq!(decoder.take().map_or(0, |batch| batch.num_rows()), counts.rows);
    letters
        .into_iter()
        .map(|letter| (letter.offset, letter.error))
        .collect()
}

/// A message with every field in the place of that rank, or its last; one of them with another value, or none.
fn message(stream: &Stream, rank: usize, other: Option<(usize, Option<Value>)>) -> Value {
    let mut message = json!({});
    for (index, field) in stream
        .fields
        .iter()
        .enumerate()
        .filter(|(_, field)| !field.is_message())
    {
        let value = match &other {
            Some((at, value)) if *at == index => value.clone(),
            _ => Some(good_value(field)),
        };
        if let Some(value) = value {
            set(&mut message, field.from[rank.min(field.from.len() - 1)].steps(), value);
        }
    }
    message
}

fn set(message: &mut Value, steps: &[Step], value: Value) {
    match steps.split_first() {
        None => *message = value,
        Some((Step::Key(key), rest)) => {
            if !message.is_object() {
                *message = json!({});
            }
            set(&mut message[key.as_str()], rest, value);
        }
        Some((Step::Index(index), rest)) => {
            if !message.is_array() {
                *message = json!([]);
            }
            let elements = message.as_array_mut().expect("it is one now");
            if elements.len() <= *index {
                elements.resize(index + 1, Value::Null);
            }
            set(&mut elements[*index], rest, value);
        }
        // One element, so that a message is one row or one dead letter.
        Some((Step::Each, rest)) => {
            if !message.is_array() {
                *message = json!([null]);
            }
            set(&mut message[0], rest, value);
        }
    }
}

fn good_value(field: &Field) -> Value {
    let least = field.min.or(field.max).unwrap_or(0.0);
    match &field.field_type {
        FieldType::String => {
            let plain = field
                .one_of
                .iter()
                .map(String::as_str)
                .chain(["\u{e9}\n", "text", "another"]);
            // One that is not taken for null.
            let mut kept = plain.filter(|text| !field.written.nulls.iter().any(|null| null.trim() == text.trim()));
            json!(kept.next().unwrap_or_default())
        }
        FieldType::Integer => json!(field.min.unwrap_or(f64::MIN).ceil().max(i32::MIN.into()) as i32),
        FieldType::Long => json!(field.min.unwrap_or(f64::MIN).ceil() as i64),
        FieldType::Double => json!(field.min.or(field.max).unwrap_or(0.5)),
        FieldType::Decimal { precision, scale } => {
            let (min, _) = model::decimal_bounds(*precision, *scale, Some(least), None);
            json!(model::decimal::text(min, *scale))
        }
        other => good_part(other, field),
    }
}

fn good_part(field_type: &FieldType, field: &Field) -> Value {
    match field_type {
        FieldType::String => json!("\u{e9}\n"),
        FieldType::Integer | FieldType::Long => json!(-5),
        FieldType::Double => json!(0.5),
        FieldType::Decimal { .. } => json!(0),
        FieldType::Boolean => json!(true),
        FieldType::Timestamp => json!("2026-01-02T03:04:05.678+02:00"),
        FieldType::Date => json!("2026-01-02"),
        FieldType::Time => json!("03:04:05.678"),
        FieldType::Binary if field.written.encoding == Encoding::Hex => json!("00ff"),
        FieldType::Binary => json!("AP8="),
        FieldType::Json => json!({ "any": [1, null] }),
        FieldType::Array(element) => json!([good_part(element, field), null]),
        FieldType::Map(value) => json!({ "a": good_part(value, field), "b": null }),
        FieldType::Struct(members) => {
            let member = |member: &model::Member| (member.name.clone(), good_part(&member.field_type, field));
            Value::Object(members.iter().map(member).collect())
        }
    }
}

/// Values that a field may refuse, and `None` for no value.
fn bad_values(field: &Field) -> Vec<Option<Value>> {
    let bounds = [field.min, field.max].into_iter().flatten();
    let beyond = bounds.flat_map(|bound| {
        [
            json!(bound - 1.0),
            json!(bound.floor() as i64),
            json!((bound.ceil() as i64).saturating_add(1)),
        ]
    });
    let any = [
        json!(null),
        json!(i64::MIN),
        json!(i64::from(i32::MAX) + 1),
        json!(u64::MAX),
        json!(0.5),
        json!(2.0),
        json!("a"),
        json!("2026-01-02"),
        json!([1, "a"]),
        json!({ "a": 1.5 }),
        json!({}),
        json!([]),
        json!(false),
    ];
    any.into_iter().chain(beyond).map(Some).chain([None]).collect()
}
