//! From tokens to values that a column takes: types, bounds, sets. Both paths end here, so they cannot judge apart.

use model::{FieldType, event_time};

use super::error::{ErrorClass, Fault};
use super::layout::{FieldRule, Layout};
use super::parser::{Token, unescape};

/// A value that fits its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Null,
    /// Bytes of the record.
    Text {
        start: u32,
        end: u32,
    },
    /// Bytes of [`Row::unescaped`].
    Unescaped {
        start: u32,
        end: u32,
    },
    /// An integer of either width, or a timestamp in microseconds.
    Integer(i64),
    Double(f64),
    Boolean(bool),
}

/// A record's values by field, reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) values: Vec<Value>,
    pub(super) unescaped: Vec<u8>,
    pub(super) event_time_us: i64,
}

/// Instants of the years 0001 to 9999, UTC. A zone can carry a text's instant past them, and neither SQL nor the
/// partition's directory name has a word for that day.
const TIMESTAMP_MIN_US: i64 = -62_135_596_800_000_000;
const TIMESTAMP_MAX_US: i64 = 253_402_300_799_999_999;

/// Judges a record's tokens, field by field in declared order; the first fault counts.
pub(super) fn judge(record: &[u8], slots: &[Token], layout: &Layout, row: &mut Row) -> Result<(), Fault> {
    row.values.clear();
    row.unescaped.clear();
    for (index, rule) in layout.fields.iter().enumerate() {
        let places = &slots[rule.places.clone()];
        let token = *places
            .iter()
            .find(|token| !matches!(token, Token::Missing | Token::Null))
            .unwrap_or(&Token::Null);
        let value = match (token, rule.field_type) {
            (Token::Null, _) if rule.nullable => Value::Null,
            (Token::Null, _) => {
                let is_null = places.contains(&Token::Null);
                let what = if is_null {
                    "is null and must not be"
                } else {
                    "is missing"
                };
                return Err(Fault::of_field(ErrorClass::MissingField, index, (0, 0), what));
            }
            (Token::Text { start, end, escaped }, FieldType::String) => {
                text(record, (start, end), escaped, rule, index, &mut row.unescaped)?
            }
            (Token::Number(number), FieldType::Double) => {
                let double = number.as_f64(record);
                let fault = |class, what| Fault::of_field(class, index, (number.start, number.end), what);
                if !double.is_finite() {
                    return Err(fault(ErrorClass::NotFinite, "is beyond 64-bit floating point"));
                }
                if double < rule.limits.double_min || double > rule.limits.double_max {
                    return Err(fault(ErrorClass::OutOfRange, "is outside"));
                }
                Value::Double(double)
            }
            (Token::Number(number), FieldType::Integer | FieldType::Long) => {
                let fault = |class, what| Fault::of_field(class, index, (number.start, number.end), what);
                let fits = |integer: &i64| rule.field_type == FieldType::Long || i32::try_from(*integer).is_ok();
                let Some(integer) = number.as_i64().filter(fits) else {
                    let what = if number.is_whole() {
                        "does not fit its type,"
                    } else {
                        "is not of its type,"
                    };
                    return Err(fault(ErrorClass::WrongType, what));
                };
                if integer < rule.limits.int_min || integer > rule.limits.int_max {
                    return Err(fault(ErrorClass::OutOfRange, "is outside"));
                }
                Value::Integer(integer)
            }
            (Token::Text { start, end, escaped }, FieldType::Timestamp) => {
                let mut buffer = Vec::new();
                let mut text = &record[start as usize..end as usize];
                if escaped {
                    unescape(text, &mut buffer);
                    text = &buffer;
                }
                let instant = event_time::parse(text);
                let Some(instant) = instant.filter(|us| (TIMESTAMP_MIN_US..=TIMESTAMP_MAX_US).contains(us)) else {
                    let what = match instant {
                        None => "is no timestamp",
                        Some(_) => "is outside the years 0001 to 9999 UTC",
                    };
                    return Err(Fault::of_field(ErrorClass::BadTimestamp, index, (start, end), what));
                };
                Value::Integer(instant)
            }
            (Token::True, FieldType::Boolean) => Value::Boolean(true),
            (Token::False, FieldType::Boolean) => Value::Boolean(false),
            (token, _) => return Err(wrong_type(token, index)),
        };
        if let (Value::Integer(instant), true) = (value, index == layout.event_time) {
            row.event_time_us = instant;
        }
        row.values.push(value);
    }
    Ok(())
}

#[inline]
fn text(
    record: &[u8],
    (start, end): (u32, u32),
    escaped: bool,
    rule: &FieldRule,
    index: usize,
    unescaped: &mut Vec<u8>,
) -> Result<Value, Fault> {
    let mut text = &record[start as usize..end as usize];
    let mut value = Value::Text { start, end };
    if escaped {
        let from = unescaped.len();
        unescape(text, unescaped);
        text = &unescaped[from..];
        value = Value::Unescaped {
            start: from as u32,
            end: unescaped.len() as u32,
        };
    }
    if !rule.one_of.is_empty() && !rule.one_of.iter().any(|allowed| allowed.as_bytes() == text) {
        return Err(Fault::of_field(ErrorClass::NotInSet, index, (start, end), "is none of"));
    }
    Ok(value)
}

#[cold]
fn wrong_type(token: Token, index: usize) -> Fault {
    let (span, what) = match token {
        Token::Text { start, end, .. } => ((start, end), "is text and should be"),
        Token::Number(number) => ((number.start, number.end), "is a number and should be"),
        Token::Nested { start, end } => ((start, end), "is an object or array and should be"),
        Token::True | Token::False => ((0, 0), "is a boolean and should be"),
        Token::Missing | Token::Null => ((0, 0), "has no value and should be"),
    };
    Fault::of_field(ErrorClass::WrongType, index, span, what)
}
