//! From tokens to values that a column takes: types, bounds, sets. Both paths end here, so they cannot judge apart.

use model::{FieldType, event_time};

use super::error::{ErrorClass, Fault};
use super::layout::{FieldRule, Layout};
use super::number::Number;
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
#[derive(Debug)]
pub(super) struct Row {
    pub(super) values: Vec<Value>,
    pub(super) unescaped: Vec<u8>,
    /// The shape that filled the values, so that it need not empty those it does not fill; 0 is the general path.
    pub(super) shape: u64,
}

impl Row {
    pub(super) fn new(layout: &Layout) -> Self {
        Self {
            values: vec![Value::Null; layout.fields.len()],
            unescaped: Vec::new(),
            shape: 0,
        }
    }
}

/// What is wrong with a value.
pub(super) type Wrong = (ErrorClass, &'static str);

/// Instants of the years 0001 to 9999, UTC. A zone can carry a text's instant past them, and neither SQL nor the
/// partition's directory name has a word for that day.
const TIMESTAMP_MIN_US: i64 = -62_135_596_800_000_000;
const TIMESTAMP_MAX_US: i64 = 253_402_300_799_999_999;

/// Judges a record's tokens, field by field in declared order; the first fault counts.
pub(super) fn judge(record: &[u8], slots: &[Token], layout: &Layout, row: &mut Row) -> Result<(), Fault> {
    row.unescaped.clear();
    row.shape = 0;
    for (index, (rule, value)) in layout.fields.iter().zip(&mut row.values).enumerate() {
        let places = &slots[rule.places.clone()];
        let holds_value = |token: &Token| !matches!(token, Token::Missing | Token::Null);
        let token = match places {
            [token, ..] if holds_value(token) => *token,
            places => match places.iter().find(|token| holds_value(token)) {
                Some(token) => *token,
                None if places.contains(&Token::Null) => Token::Null,
                None => Token::Missing,
            },
        };
        *value = judge_token(record, token, rule, &mut row.unescaped).map_err(|wrong| fault(token, index, wrong))?;
    }
    Ok(())
}

/// Judges one value by the rule of its field. `unescaped` takes the text of a string with escapes.
#[inline]
pub(super) fn judge_token(
    record: &[u8],
    token: Token,
    rule: &FieldRule,
    unescaped: &mut Vec<u8>,
) -> Result<Value, Wrong> {
    match (token, rule.field_type) {
        (Token::Number(number), FieldType::Double) => judge_double(record, number, rule),
        (Token::Missing | Token::Null, _) if rule.nullable => Ok(Value::Null),
        (Token::Missing, _) => Err((ErrorClass::MissingField, "is missing")),
        (Token::Null, _) => Err((ErrorClass::MissingField, "is null and must not be")),
        (Token::Text { start, end, escaped }, FieldType::String | FieldType::Timestamp) => {
            let text = &record[start as usize..end as usize];
            if !escaped {
                return judge_text(text, (start, end), rule);
            }
            let from = unescaped.len();
            unescape(text, unescaped);
            let span = (from as u32, unescaped.len() as u32);
            Ok(match judge_text(&unescaped[from..], span, rule)? {
                Value::Text { start, end } => Value::Unescaped { start, end },
                other => other,
            })
        }
        (Token::Number(number), FieldType::Integer | FieldType::Long) => judge_integer(number, rule),
        (Token::True, FieldType::Boolean) => Ok(Value::Boolean(true)),
        (Token::False, FieldType::Boolean) => Ok(Value::Boolean(false)),
        (Token::Text { .. }, _) => Err((ErrorClass::WrongType, "is text and should be")),
        (Token::Number(_), _) => Err((ErrorClass::WrongType, "is a number and should be")),
        (Token::Nested { .. }, _) => Err((ErrorClass::WrongType, "is an object or array and should be")),
        (Token::True | Token::False, _) => Err((ErrorClass::WrongType, "is a boolean and should be")),
    }
}

/// Judges text for a field that takes text, a timestamp's included; `(start, end)` is where it stands.
#[inline]
pub(super) fn judge_text(text: &[u8], (start, end): (u32, u32), rule: &FieldRule) -> Result<Value, Wrong> {
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
pub(super) fn judge_double(record: &[u8], number: Number, rule: &FieldRule) -> Result<Value, Wrong> {
    let double = number.as_f64(record);
    if !double.is_finite() {
        return Err((ErrorClass::NotFinite, "is beyond 64-bit floating point"));
    }
    if double < rule.limits.double_min || double > rule.limits.double_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(Value::Double(double))
}

#[inline]
pub(super) fn judge_integer(number: Number, rule: &FieldRule) -> Result<Value, Wrong> {
    let fits = |integer: &i64| rule.field_type == FieldType::Long || i32::try_from(*integer).is_ok();
    let Some(integer) = number.as_i64().filter(fits) else {
        let what = match number.is_whole() {
            true => "does not fit its type,",
            false => "is not of its type,",
        };
        return Err((ErrorClass::WrongType, what));
    };
    if integer < rule.limits.int_min || integer > rule.limits.int_max {
        return Err((ErrorClass::OutOfRange, "is outside"));
    }
    Ok(Value::Integer(integer))
}

#[cold]
fn fault(token: Token, field: usize, (class, what): Wrong) -> Fault {
    let span = match token {
        Token::Text { start, end, .. } | Token::Nested { start, end } => (start, end),
        Token::Number(number) => (number.start, number.end),
        Token::Missing | Token::Null | Token::True | Token::False => (0, 0),
    };
    Fault::of_field(class, field, span, what)
}
