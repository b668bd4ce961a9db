//! The rules of a declaration: types, bounds, sets. Every format and every path of a format ends here, so no two of them
//! can validate differently.

use model::{FieldType, event_time};

use crate::error_class::ErrorClass;
use crate::layout::FieldRule;
use crate::row::Value;

/// What is wrong with a value.
pub(crate) type Violation = (ErrorClass, &'static str);

/// Instants of the years 0001 to 9999, UTC. A zone can carry a text's instant past them, and neither SQL nor the
/// partition's directory name can express that day.
const TIMESTAMP_MIN_US: i64 = -62_135_596_800_000_000;
const TIMESTAMP_MAX_US: i64 = 253_402_300_799_999_999;

/// Validates text for a field that takes text, a timestamp's included; `(start, end)` is where it stands.
#[inline]
pub(crate) fn text(text: &[u8], (start, end): (u32, u32), rule: &FieldRule) -> Result<Value, Violation> {
    if rule.field_type == FieldType::Timestamp {
        return match event_time::parse(text) {
            Some(us @ TIMESTAMP_MIN_US..=TIMESTAMP_MAX_US) => Ok(Value::Integer(us)),
            Some(_) => Err((ErrorClass::BadTimestamp, "is outside the years 0001 to 9999 UTC")),
            None => Err((ErrorClass::BadTimestamp, "is no timestamp")),
        };
    }
    if !rule.one_of.is_empty() && !rule.one_of.iter().any(|allowed| allowed.as_bytes() == text) {
        return Err((ErrorClass::NotInSet, "is none of"));
    }
    Ok(Value::Text { start, end })
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
    if rule.field_type == FieldType::Integer && i32::try_from(integer).is_err() {
        return Err(integer_too_wide());
    }
    if integer < rule.limits.int_min || integer > rule.limits.int_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(Value::Integer(integer))
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
