//! What `serde_json` and the declaration say about a record, worked out the slow way.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use model::{Field, FieldType, Step, Stream, event_time};
use serde::de::IgnoredAny;
use serde_json::Value;

use codec::NESTING_MAX;

/// What became of a record.
#[derive(Clone, Copy)]
pub(super) enum Fate<'a> {
    Row(&'a RecordBatch, usize),
    /// By its error class.
    Letter(&'a str),
}

/// A value as its column should hold it.
enum Expected<'a> {
    Null,
    Text(&'a str),
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

/// Why nothing is foretold for a value.
enum Unclear {
    /// It is bad, of this class.
    Bad(&'static str),
    /// `serde_json` does not tell which it is.
    Unknown,
}

/// Panics where the decoder and `serde_json` disagree about a record. The exceptions are those of
/// `docs/design/decoding.md`: nesting, halves of surrogate pairs, keys that occur twice, a byte order mark.
pub(super) fn check(stream: &Stream, record: &[u8], fate: Fate<'_>) {
    let record = record.strip_prefix("\u{feff}".as_bytes()).unwrap_or(record);
    let class = match fate {
        Fate::Row(..) => "",
        Fate::Letter(class) => class,
    };
    let shown = String::from_utf8_lossy(record);
    let Ok(text) = std::str::from_utf8(record) else {
        assert_eq!(class, "invalid_utf8", "{shown}");
        return;
    };
    assert_ne!(class, "invalid_utf8", "{shown}");
    let is_empty = text.trim_matches([' ', '\t', '\r', '\n']).is_empty();
    assert_eq!(class == "empty", is_empty, "{shown}");
    // The grammar alone: no numbers read, no escapes resolved, no limit on depth.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let is_bad = ["empty", "not_json", "too_deep", "lone_surrogate", "duplicate_key"].contains(&class);
        assert!(is_bad, "serde_json: {error}, decoder: {class:?}: {shown}");
        return;
    }
    assert_ne!(class, "not_json", "serde_json takes it: {shown}");
    let too_deep = depth(record) > NESTING_MAX as usize;
    let before_depth = ["lone_surrogate", "duplicate_key"].contains(&class);
    assert!(before_depth || too_deep == (class == "too_deep"), "{class:?}: {shown}");
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let error = error.to_string();
            // It reads every number and nests one level less; what else it refuses here is half a pair.
            let stricter = error.contains("number out of range") || error.contains("recursion limit");
            let is_bad = ["lone_surrogate", "duplicate_key", "too_deep"].contains(&class);
            assert!(stricter || is_bad, "serde_json: {error}, decoder: {class:?}: {shown}");
            return;
        }
    };
    assert_ne!(class, "lone_surrogate", "{shown}");
    if class == "duplicate_key" {
        return;
    }
    if !value.is_object() {
        assert_eq!(class, "not_an_object", "{shown}");
        return;
    }
    for (column, field) in stream.fields.iter().enumerate() {
        match (expected(field, &value), fate) {
            (Ok(expected), Fate::Row(batch, row)) => {
                let same = is(batch.column(column), row, &expected);
                assert!(same, "{} differs: {shown}", field.name);
            }
            (Ok(_), Fate::Letter(_)) => {}
            (Err(Unclear::Bad(bad)), _) => {
                assert_eq!(class, bad, "{}: {shown}", field.name);
                return;
            }
            (Err(Unclear::Unknown), _) => return,
        }
    }
    assert_eq!(class, "", "nothing is wrong with it: {shown}");
}

/// The most objects and arrays that are open at once in valid JSON.
fn depth(json: &[u8]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            b'"' if !escaped => in_string = !in_string,
            b'{' | b'[' if !in_string => open += 1,
            b'}' | b']' if !in_string => open -= 1,
            _ => {}
        }
        escaped = in_string && !escaped && *byte == b'\\';
        deepest = deepest.max(open);
    }
    deepest
}

fn find<'v>(value: &'v Value, steps: &[Step]) -> Option<&'v Value> {
    steps.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.as_object()?.get(key),
        Step::Index(index) => value.as_array()?.get(*index),
        // Streams with elements have an oracle of their own.
        Step::Each => None,
    })
}

fn expected<'v>(field: &Field, message: &'v Value) -> Result<Expected<'v>, Unclear> {
    let found = field
        .from
        .iter()
        .filter_map(|path| find(message, path.steps()))
        .find(|value| !value.is_null());
    let Some(value) = found else {
        return match field.nullable {
            true => Ok(Expected::Null),
            false => Err(Unclear::Bad("missing_field")),
        };
    };
    let wrong = || Unclear::Bad("wrong_type");
    match &field.field_type {
        FieldType::String => {
            let text = value.as_str().ok_or_else(wrong)?;
            let allowed = field.one_of.is_empty() || field.one_of.iter().any(|one| one == text);
            allowed
                .then_some(Expected::Text(text))
                .ok_or(Unclear::Bad("not_in_set"))
        }
        FieldType::Timestamp => {
            let text = value.as_str().ok_or_else(wrong)?;
            let years = instant("0001-01-01T00:00")..=instant("9999-12-31T23:59:59.999999");
            let read = event_time::parse(text.as_bytes()).filter(|us| years.contains(us));
            read.map(Expected::Integer).ok_or(Unclear::Bad("bad_timestamp"))
        }
        FieldType::Integer | FieldType::Long => {
            // It takes `-0` for a float, and so is `-0.0`.
            if value
                .as_f64()
                .is_some_and(|double| double == 0.0 && double.is_sign_negative())
            {
                return Err(Unclear::Unknown);
            }
            let Some(integer) = value.as_i64() else {
                // It reads other forms of integers into doubles.
                return match value.as_f64() {
                    Some(double) if double.fract() != 0.0 && double.abs() < 1e15 => Err(wrong()),
                    Some(_) => Err(Unclear::Unknown),
                    None => Err(wrong()),
                };
            };
            if field.field_type == FieldType::Integer && i32::try_from(integer).is_err() {
                return Err(wrong());
            }
            let below = field.min.is_some_and(|min| i128::from(integer) < min.ceil() as i128);
            let above = field.max.is_some_and(|max| i128::from(integer) > max.floor() as i128);
            match below || above {
                true => Err(Unclear::Bad("out_of_range")),
                false => Ok(Expected::Integer(integer)),
            }
        }
        FieldType::Double => {
            let double = value.as_f64().filter(|_| value.is_number()).ok_or_else(wrong)?;
            let bounds = [field.min, field.max];
            if bounds
                .into_iter()
                .flatten()
                .any(|bound| bound != double && close(bound, double))
            {
                return Err(Unclear::Unknown);
            }
            let below = field.min.is_some_and(|min| double < min);
            let above = field.max.is_some_and(|max| double > max);
            match below || above {
                true => Err(Unclear::Bad("out_of_range")),
                false => Ok(Expected::Double(double)),
            }
        }
        FieldType::Boolean => value.as_bool().map(Expected::Boolean).ok_or_else(wrong),
        // Property tests compare both paths over these, and examples say what they are.
        _ => Err(Unclear::Unknown),
    }
}

fn instant(text: &str) -> i64 {
    event_time::parse(text.as_bytes()).expect("a timestamp of ours")
}

/// Equal but for the last bits, which `serde_json` may get wrong.
fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= a.abs() * 1e-15 || (a - b).abs() < f64::MIN_POSITIVE
}

fn is(column: &dyn Array, row: usize, expected: &Expected<'_>) -> bool {
    if column.is_null(row) {
        return matches!(expected, Expected::Null);
    }
    match expected {
        Expected::Null => false,
        Expected::Text(text) => column.as_string::<i32>().value(row) == *text,
        Expected::Integer(integer) => {
            let int = column
                .as_primitive_opt::<Int32Type>()
                .map(|ints| ints.value(row).into());
            let long = column.as_primitive_opt::<Int64Type>().map(|longs| longs.value(row));
            let instants = column.as_primitive_opt::<TimestampMicrosecondType>();
            int.or(long).or(instants.map(|instants| instants.value(row))) == Some(*integer)
        }
        Expected::Double(double) => close(column.as_primitive::<Float64Type>().value(row), *double),
        Expected::Boolean(boolean) => column.as_boolean().value(row) == *boolean,
    }
}
