//! The rules of a declaration: types, bounds, sets. Every format and every path of a format ends here, so no two of them
//! can validate differently.

mod binary;
mod written;

use model::decimal::{Unfit, scaled};
use model::{EpochUnit, FieldType, event_time};

use crate::error_class::ErrorClass;
use crate::layout::FieldRule;
use crate::row::{Scratch, Value};
pub(crate) use written::{other_calendar_value, other_number, other_text};

/// What is wrong with a value.
pub(crate) type Violation = (ErrorClass, &'static str);

pub(crate) const IS_TEXT: &str = "is text and should be";
pub(crate) const IS_NUMBER: &str = "is a number and should be";

/// Instants of the years 0001 to 9999, UTC. A zone can carry a text's instant past them, and neither SQL nor the
/// partition's directory name can express that day.
const TIMESTAMP_MIN_US: i64 = -62_135_596_800_000_000;
const TIMESTAMP_MAX_US: i64 = 253_402_300_799_999_999;
const DAY_MIN: i64 = -719_162;
const DAY_MAX: i64 = 2_932_896;

const NO_TIMESTAMP: Violation = (
    ErrorClass::BadTimestamp,
    "is no timestamp: use ISO 8601, as in 2026-01-31T12:00:00Z, or declare its `formats`",
);
const NO_TIME_IN_IT: Violation = (
    ErrorClass::BadTimestamp,
    "is a date without a time: use 2026-01-31T00:00:00Z, or declare formats = [\"%Y-%m-%d\"]",
);
const NO_DATE: Violation = (
    ErrorClass::BadDate,
    "is no date: use ISO 8601, as in 2026-01-31, or declare its `formats`",
);
const NO_TIME: Violation = (
    ErrorClass::BadTime,
    "is no time of day: use ISO 8601, as in 23:59:59.5, or declare its `formats`",
);

/// Validates text for a field of type text or timestamp, the most frequent ones; `(start, end)` is where it stands.
#[inline]
pub(crate) fn text(text: &[u8], (start, end): (u32, u32), rule: &FieldRule) -> Result<Value, Violation> {
    if matches!(rule.field_type, FieldType::Timestamp) {
        return timestamp(text);
    }
    if !rule.is_plain_text {
        return unusual_text(text, (start, end), rule);
    }
    Ok(Value::Text { start, end })
}

#[inline]
pub(crate) fn timestamp(text: &[u8]) -> Result<Value, Violation> {
    match event_time::parse(text) {
        Some(us) => instant(us),
        None if event_time::parse_date(text).is_some() => Err(NO_TIME_IN_IT),
        None => Err(NO_TIMESTAMP),
    }
}

#[inline]
pub(crate) fn instant(us: i64) -> Result<Value, Violation> {
    match us {
        TIMESTAMP_MIN_US..=TIMESTAMP_MAX_US => Ok(Value::Integer(us)),
        _ => Err((ErrorClass::BadTimestamp, "is outside the years 0001 to 9999 UTC")),
    }
}

/// Text with a set of values, or with something to say about how it is written.
fn unusual_text(text: &[u8], (start, end): (u32, u32), rule: &FieldRule) -> Result<Value, Violation> {
    if rule.is_null_text(text) {
        return null(rule);
    }
    let is_trimmed = rule.written.as_ref().is_some_and(|written| written.trim);
    let (text, start) = match is_trimmed {
        true => {
            let before = text.len() - text.trim_ascii_start().len();
            (text.trim_ascii(), start + before as u32)
        }
        false => (text, start),
    };
    if !rule.one_of.is_empty() && !rule.one_of.iter().any(|allowed| allowed.as_bytes() == text) {
        return Err((ErrorClass::NotInSet, "is none of"));
    }
    debug_assert!(start as usize + text.len() <= end as usize);
    Ok(Value::Text {
        start,
        end: start + text.len() as u32,
    })
}

/// Validates text for a field of any type but string and the nested ones, in the usual form of its type.
pub(crate) fn typed_text(text: &[u8], rule: &FieldRule, scratch: &mut Scratch) -> Result<Value, Violation> {
    match &rule.field_type {
        FieldType::Timestamp => timestamp(text),
        FieldType::Date => event_time::parse_date(text)
            .map(|days| Value::Integer(days.into()))
            .ok_or(NO_DATE),
        FieldType::Time => event_time::parse_time(text)
            .map(|us| scratch.push_bytes(&event_time::time_text(us)))
            .ok_or(NO_TIME),
        FieldType::Binary => binary::decode(text, rule, scratch),
        // Most of the libraries for decimals write them as text, to hold all digits.
        FieldType::Decimal { .. } => decimal(text, rule, scratch),
        _ => Err((ErrorClass::WrongType, IS_TEXT)),
    }
}

/// Validates the text of a number as a decimal, exactly.
pub(crate) fn decimal(text: &[u8], rule: &FieldRule, scratch: &mut Scratch) -> Result<Value, Violation> {
    let FieldType::Decimal { precision, scale } = &rule.field_type else {
        return Err((ErrorClass::WrongType, IS_NUMBER));
    };
    let greatest = 10_i128.saturating_pow((*precision).into()) - 1;
    let units = match scaled(text, (*scale).into()) {
        Ok(units) if (-greatest..=greatest).contains(&units) => units,
        Err(Unfit::NotANumber) => return Err((ErrorClass::WrongType, IS_TEXT)),
        Err(Unfit::Inexact { .. }) => {
            return Err((ErrorClass::WrongType, "has more digits after the point than its type,"));
        }
        Ok(_) | Err(Unfit::TooLarge) => return Err(integer_too_wide()),
    };
    if units < rule.limits.decimal_min || units > rule.limits.decimal_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(scratch.push_decimal(units))
}

#[inline]
pub(crate) fn double(double: f64, rule: &FieldRule) -> Result<Value, Violation> {
    if !double.is_finite() {
        return Err((ErrorClass::NotFinite, "is beyond 64-bit floating point"));
    }
    if double < rule.limits.double_min || double > rule.limits.double_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(Value::Double(double))
}

/// Validates an integer of either width.
#[inline]
pub(crate) fn integer(integer: i64, rule: &FieldRule) -> Result<Value, Violation> {
    if matches!(rule.field_type, FieldType::Integer) && i32::try_from(integer).is_err() {
        return Err(integer_too_wide());
    }
    if integer < rule.limits.int_min || integer > rule.limits.int_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(Value::Integer(integer))
}

/// Validates the text of a number that is not written as an integer, or has many digits, as one: its value counts.
#[cold]
pub(crate) fn integer_of_text(text: &[u8], rule: &FieldRule) -> Result<Value, Violation> {
    match scaled(text, 0) {
        Ok(value) => match i64::try_from(value) {
            Ok(value) => integer(value, rule),
            Err(_) => Err(integer_too_wide()),
        },
        Err(Unfit::TooLarge) => Err(integer_too_wide()),
        Err(Unfit::Inexact { .. }) => Err((ErrorClass::WrongType, "is not of its type,")),
        Err(Unfit::NotANumber) => Err((ErrorClass::WrongType, IS_TEXT)),
    }
}

/// An instant or a day by its distance from the start of 1970.
fn since_epoch(text: &[u8], unit: EpochUnit) -> Result<Value, Violation> {
    // Decimals beyond microseconds are cut, as those of texts are.
    let count = match scaled(text, unit.decimals()) {
        Ok(count) => count,
        Err(Unfit::Inexact { floor }) if unit != EpochUnit::Days => floor,
        Err(Unfit::Inexact { .. }) => return Err((ErrorClass::BadDate, "is no whole number of days")),
        Err(Unfit::NotANumber) => return Err((ErrorClass::WrongType, IS_TEXT)),
        Err(Unfit::TooLarge) => i128::MAX,
    };
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match unit {
        EpochUnit::Days if (DAY_MIN..=DAY_MAX).contains(&count) => Ok(Value::Integer(count)),
        EpochUnit::Days => Err((ErrorClass::BadDate, "is outside the years 0001 to 9999")),
        _ => instant(count),
    }
}

/// An integer that no column of its type can hold.
pub(crate) fn integer_too_wide() -> Violation {
    (ErrorClass::WrongType, "does not fit its type,")
}

/// The field has no value in any of its places.
#[inline]
pub(crate) fn missing(rule: &FieldRule) -> Result<Value, Violation> {
    match rule.nullable {
        true => Ok(Value::Null),
        false => Err((ErrorClass::MissingField, "is missing")),
    }
}

/// The field is null, which may be said where a value is required.
#[inline]
pub(crate) fn null(rule: &FieldRule) -> Result<Value, Violation> {
    match rule.nullable {
        true => Ok(Value::Null),
        false => Err((ErrorClass::MissingField, "is null and must not be")),
    }
}
