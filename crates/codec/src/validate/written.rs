//! The forms that a declaration allows beside the usual one of a type, tried when a value does not have that.

use std::borrow::Cow;

use model::{EpochUnit, FieldType, Written, decimal, event_time};

use super::{Violation, decimal as decimal_value, double, instant, integer_of_text, null, since_epoch, typed_text};
use crate::error_class::ErrorClass;
use crate::layout::FieldRule;
use crate::row::{Scratch, Value};

/// Validates text that is not in the usual form of a type other than string; `violation` is what is wrong with it so far.
#[cold]
pub(crate) fn other_text(
    text: &[u8],
    rule: &FieldRule,
    violation: Violation,
    scratch: &mut Scratch,
) -> Result<Value, Violation> {
    let Some(written) = &rule.written else {
        return Err(violation);
    };
    if rule.is_null_text(text) {
        return null(rule);
    }
    let trimmed = if written.trim { text.trim_ascii() } else { text };
    let mut violation = violation;
    if trimmed.len() < text.len() {
        match typed_text(trimmed, rule, scratch) {
            Ok(value) => return Ok(value),
            Err(trimmed) => violation = trimmed,
        }
    }
    let other = match &rule.field_type {
        FieldType::Timestamp | FieldType::Date | FieldType::Time => moment(trimmed, rule, written, scratch),
        FieldType::Boolean if written.in_text => boolean(trimmed).map(|value| Ok(Value::Boolean(value))),
        FieldType::Integer | FieldType::Long | FieldType::Double | FieldType::Decimal { .. } => {
            number(trimmed, rule, written, scratch)
        }
        _ => None,
    };
    other.unwrap_or(Err(violation))
}

/// Validates a JSON number for a type that is none.
#[cold]
pub(crate) fn other_number(text: &[u8], rule: &FieldRule, violation: Violation) -> Result<Value, Violation> {
    match epoch_of(rule) {
        Some(unit) => since_epoch(text, unit),
        None => Err(violation),
    }
}

/// The declared unit, where it is one of this type: a nested type's declaration may be meant for another part.
fn epoch_of(rule: &FieldRule) -> Option<EpochUnit> {
    let unit = rule.written.as_ref()?.epoch?;
    let is_of_type = match rule.field_type {
        FieldType::Date => unit == EpochUnit::Days,
        FieldType::Timestamp => unit != EpochUnit::Days,
        _ => false,
    };
    is_of_type.then_some(unit)
}

/// `None` where the text is in none of the declared forms.
fn moment(text: &[u8], rule: &FieldRule, written: &Written, scratch: &mut Scratch) -> Option<Result<Value, Violation>> {
    let mut formats = written.formats.iter();
    let declared = match &rule.field_type {
        FieldType::Timestamp => formats.find_map(|format| format.timestamp(text)).map(instant),
        FieldType::Date => {
            let days = formats.find_map(|format| format.date(text));
            days.map(|days| Ok(Value::Integer(days.into())))
        }
        _ => {
            let of_day_us = formats.find_map(|format| format.time(text));
            of_day_us.map(|us| Ok(scratch.push_bytes(&event_time::time_text(us))))
        }
    };
    declared.or_else(|| {
        let unit = epoch_of(rule).filter(|_| decimal::is_number(text))?;
        Some(since_epoch(text, unit))
    })
}

/// As JSON and Python write them.
fn boolean(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

fn number(text: &[u8], rule: &FieldRule, written: &Written, scratch: &mut Scratch) -> Option<Result<Value, Violation>> {
    if !written.in_text && !written.decimal_comma {
        return None;
    }
    let text = match written.decimal_comma {
        // A text with both may have either for its thousands.
        true if !text.contains(&b'.') => {
            let points = text.iter().map(|byte| if *byte == b',' { b'.' } else { *byte });
            Cow::Owned(points.collect::<Vec<u8>>())
        }
        _ => Cow::Borrowed(text),
    };
    if !decimal::is_number(&text) {
        return None;
    }
    Some(match &rule.field_type {
        FieldType::Double => {
            let number = std::str::from_utf8(&text).ok()?.parse().ok()?;
            double(number, rule)
        }
        FieldType::Decimal { .. } => decimal_value(&text, rule, scratch),
        _ => integer_of_text(&text, rule),
    })
}

/// Validates an array of numbers as a date, a time or a date and time, the way Java's Jackson writes those by default:
/// year, month, day, hour, minute, second, nanosecond, of which zeros at the end are left out.
#[cold]
pub(crate) fn other_calendar_value(array: &[u8], rule: &FieldRule, scratch: &mut Scratch) -> Result<Value, Violation> {
    const NO_SUCH: &str = "is an object or array and should be";
    let wrong = (ErrorClass::WrongType, NO_SUCH);
    let (numbers, count) = integers(array).ok_or(wrong)?;
    let [year, month, day, hour, minute, second, ns] = numbers;
    match (&rule.field_type, count) {
        (FieldType::Date, 3) => event_time::date(year, month, day)
            .map(|days| Value::Integer(days.into()))
            .ok_or((ErrorClass::BadDate, "is no date")),
        (FieldType::Timestamp, 5..=7) => {
            let days = event_time::date(year, month, day);
            let of_day_us = event_time::of_day_us(hour, minute, second, ns.div_euclid(1000));
            let us = days
                .zip(of_day_us)
                .map(|(days, us)| i64::from(days) * event_time::DAY_US + us);
            us.map(Value::Integer)
                .ok_or((ErrorClass::BadTimestamp, "is no timestamp"))
        }
        (FieldType::Time, 2..=4) => event_time::of_day_us(year, month, day, hour.div_euclid(1000))
            .map(|us| scratch.push_bytes(&event_time::time_text(us)))
            .ok_or((ErrorClass::BadTime, "is no time of day")),
        _ => Err(wrong),
    }
}

/// The integers of a JSON array of at most seven, and how many there are; zero for the others.
fn integers(array: &[u8]) -> Option<([i64; 7], usize)> {
    let inner = array.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (mut numbers, mut count) = ([0; 7], 0);
    for part in inner.split(|byte| *byte == b',') {
        *numbers.get_mut(count)? = std::str::from_utf8(part.trim_ascii()).ok()?.parse().ok()?;
        count += 1;
    }
    Some((numbers, count))
}
