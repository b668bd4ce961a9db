//! From JSON tokens to the values of a row.

use model::FieldType;

use super::nested;
use super::number::Number;
use super::parser::{Token, unescape};
use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::layout::{FieldRule, Layout};
use crate::row::{Row, Scratch, Value};
use crate::validate::{self, Violation};

/// Validates the tokens of these fields, which are in declared order; the first fault counts.
pub(super) fn fill(
    record: &[u8],
    slots: &[Token],
    layout: &Layout,
    fields: impl Iterator<Item = usize>,
    row: &mut Row,
) -> Result<(), Fault> {
    row.scratch.reset();
    row.plan = 0;
    for field in fields {
        let rule = &layout.fields[field];
        let places = &slots[rule.places.clone()];
        let token = match best(record, places, rule) {
            Some(at) => places[at],
            None if places.contains(&Token::Null) => Token::Null,
            None => places
                .iter()
                .copied()
                .find(|token| *token != Token::Missing)
                .unwrap_or(Token::Missing),
        };
        row.values[field] = from_token(record, token, rule, &mut row.scratch)
            .map_err(|violation| fault(token, field, violation, &row.scratch))?;
    }
    Ok(())
}

/// Marks in `kept` the slots of values that no column takes: a better place of their field counts, and holds another value.
/// Whether there are any.
pub(super) fn find_others(
    record: &[u8],
    slots: &[Token],
    layout: &Layout,
    fields: impl Iterator<Item = usize>,
    row: &mut Row,
    kept: &mut Vec<bool>,
) -> bool {
    let mut found = false;
    for field in fields {
        let rule = &layout.fields[field];
        let places = &slots[rule.places.clone()];
        if places.len() < 2 {
            continue;
        }
        let Some(counting) = best(record, places, rule) else {
            continue;
        };
        for (rank, token) in places.iter().enumerate() {
            if rank != counting && !is_same(record, *token, row.values[field], rule, &mut row.scratch) {
                kept.resize(slots.len(), false);
                kept[rule.places.start + rank] = true;
                found = true;
            }
        }
    }
    found
}

/// Whether a token of another place says nothing, or what the field's value says.
pub(super) fn is_same(record: &[u8], token: Token, value: Value, rule: &FieldRule, scratch: &mut Scratch) -> bool {
    if !holds_value(record, token, rule) {
        return true;
    }
    let (bytes, nested) = (scratch.bytes.len(), scratch.nested.len());
    let other = from_token(record, token, rule, scratch);
    let is_same = other.is_ok_and(|other| scratch.is_same(record, value, other));
    scratch.bytes.truncate(bytes);
    scratch.nested.truncate(nested);
    is_same
}

/// The first place that holds a value counts.
fn best(record: &[u8], places: &[Token], rule: &FieldRule) -> Option<usize> {
    places.iter().position(|token| holds_value(record, *token, rule))
}

#[inline]
fn holds_value(record: &[u8], token: Token, rule: &FieldRule) -> bool {
    match token {
        Token::Missing | Token::Null => false,
        // Where the field has one place, whether a text means null shows when it is validated.
        Token::Text { start, end, .. } if rule.places.len() > 1 && rule.written.is_some() => {
            !rule.is_null_text(&record[start as usize..end as usize])
        }
        _ => true,
    }
}

/// Validates one value by the rule of its field, or of a part of it.
#[inline]
pub(super) fn from_token(
    record: &[u8],
    token: Token,
    rule: &FieldRule,
    scratch: &mut Scratch,
) -> Result<Value, Violation> {
    match (token, &rule.field_type) {
        (Token::Number(number), FieldType::Double) => double(record, number, rule),
        (Token::Missing, _) => validate::missing(rule),
        (Token::Null, _) => validate::null(rule),
        (
            Token::Text {
                start,
                end,
                escaped: false,
            },
            FieldType::String,
        ) => validate::text(&record[start as usize..end as usize], (start, end), rule),
        (Token::Number(number), FieldType::Integer | FieldType::Long) => integer(record, number, rule),
        (Token::True, FieldType::Boolean) => Ok(Value::Boolean(true)),
        (Token::False, FieldType::Boolean) => Ok(Value::Boolean(false)),
        (token, FieldType::Json) => Ok(json(token, scratch)),
        (
            Token::Text {
                start,
                end,
                escaped: true,
            },
            FieldType::String,
        ) => {
            let from = scratch.bytes.len();
            unescape(&record[start as usize..end as usize], &mut scratch.bytes);
            let span = (from as u32, scratch.bytes.len() as u32);
            Ok(match validate::text(&scratch.bytes[from..], span, rule)? {
                Value::Text { start, end } => Value::Unescaped { start, end },
                other => other,
            })
        }
        (Token::Text { start, end, escaped }, _) => {
            let text = &record[start as usize..end as usize];
            if !escaped {
                return typed_text(text, rule, scratch);
            }
            let mut unescaped = std::mem::take(&mut scratch.text);
            unescaped.clear();
            unescape(text, &mut unescaped);
            let value = typed_text(&unescaped, rule, scratch);
            scratch.text = unescaped;
            value
        }
        (Token::Number(number), FieldType::Decimal { .. }) => validate::decimal(number.text(record), rule, scratch),
        (Token::Number(number), FieldType::Timestamp | FieldType::Date) => {
            validate::other_number(number.text(record), rule, (ErrorClass::WrongType, validate::IS_NUMBER))
        }
        (Token::Nested { start, end }, FieldType::Array(_) | FieldType::Map(_) | FieldType::Struct(_)) => {
            nested::value(record, (start, end), rule, scratch)
        }
        (Token::Nested { start, end }, FieldType::Timestamp | FieldType::Date | FieldType::Time) => {
            validate::other_calendar_value(&record[start as usize..end as usize], rule, scratch)
        }
        (Token::Number(_), _) => Err((ErrorClass::WrongType, validate::IS_NUMBER)),
        (Token::Nested { .. }, _) => Err((ErrorClass::WrongType, "is an object or array and should be")),
        (Token::True | Token::False, _) => Err((ErrorClass::WrongType, "is a boolean and should be")),
    }
}

/// Text for a type that is not text: in the usual form of the type, or else in one that is declared.
fn typed_text(text: &[u8], rule: &FieldRule, scratch: &mut Scratch) -> Result<Value, Violation> {
    validate::typed_text(text, rule, scratch).or_else(|violation| validate::other_text(text, rule, violation, scratch))
}

/// Any value as its text.
fn json(token: Token, scratch: &mut Scratch) -> Value {
    let (start, end) = match token {
        Token::Missing | Token::Null => return Value::Null,
        Token::True => return scratch.push_bytes(b"true"),
        Token::False => return scratch.push_bytes(b"false"),
        // With its quotes.
        Token::Text { start, end, .. } => (start - 1, end + 1),
        Token::Number(number) => (number.start, number.end),
        Token::Nested { start, end } => (start, end),
    };
    Value::Text { start, end }
}

#[inline]
pub(super) fn double(record: &[u8], number: Number, rule: &FieldRule) -> Result<Value, Violation> {
    validate::double(number.as_f64(record), rule)
}

#[inline]
pub(super) fn integer(record: &[u8], number: Number, rule: &FieldRule) -> Result<Value, Violation> {
    match number.as_i64() {
        Some(integer) => validate::integer(integer, rule),
        None => validate::integer_of_text(number.text(record), rule),
    }
}

#[cold]
fn fault(token: Token, field: usize, (class, what): Violation, scratch: &Scratch) -> Fault {
    let span = token.span();
    let (start, end, part) = scratch.fault.unwrap_or((span.0, span.1, 0));
    Fault {
        part,
        ..Fault::of_field(class, field, (start, end), what)
    }
}
