//! From JSON tokens to the values of a row.

use model::FieldType;

use super::number::Number;
use super::parser::{Token, unescape};
use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::layout::{FieldRule, Layout};
use crate::row::{Row, Value};
use crate::validate::{self, Violation};

/// Validates the tokens of these fields, which are in declared order; the first fault counts.
pub(super) fn fill(
    record: &[u8],
    slots: &[Token],
    layout: &Layout,
    fields: impl Iterator<Item = usize>,
    row: &mut Row,
) -> Result<(), Fault> {
    row.unescaped.truncate(row.unescaped_kept);
    row.plan = 0;
    for field in fields {
        let rule = &layout.fields[field];
        let token = best(&slots[rule.places.clone()]);
        row.values[field] =
            from_token(record, token, rule, &mut row.unescaped).map_err(|violation| fault(token, field, violation))?;
    }
    Ok(())
}

/// The first place that holds a value counts; else a null, where there is one.
fn best(places: &[Token]) -> Token {
    let holds_value = |token: &Token| !matches!(token, Token::Missing | Token::Null);
    match places {
        [token, ..] if holds_value(token) => *token,
        places => match places.iter().find(|token| holds_value(token)) {
            Some(token) => *token,
            None if places.contains(&Token::Null) => Token::Null,
            None => Token::Missing,
        },
    }
}

/// Validates one value by the rule of its field. `unescaped` takes the text of a string with escapes.
#[inline]
pub(super) fn from_token(
    record: &[u8],
    token: Token,
    rule: &FieldRule,
    unescaped: &mut Vec<u8>,
) -> Result<Value, Violation> {
    match (token, rule.field_type) {
        (Token::Number(number), FieldType::Double) => double(record, number, rule),
        (Token::Missing, _) => validate::missing(rule),
        (Token::Null, _) => validate::null(rule),
        (Token::Text { start, end, escaped }, FieldType::String | FieldType::Timestamp) => {
            let text = &record[start as usize..end as usize];
            if !escaped {
                return validate::text(text, (start, end), rule);
            }
            let from = unescaped.len();
            unescape(text, unescaped);
            let span = (from as u32, unescaped.len() as u32);
            Ok(match validate::text(&unescaped[from..], span, rule)? {
                Value::Text { start, end } => Value::Unescaped { start, end },
                other => other,
            })
        }
        (Token::Number(number), FieldType::Integer | FieldType::Long) => integer(number, rule),
        (Token::True, FieldType::Boolean) => Ok(Value::Boolean(true)),
        (Token::False, FieldType::Boolean) => Ok(Value::Boolean(false)),
        (Token::Text { .. }, _) => Err((ErrorClass::WrongType, "is text and should be")),
        (Token::Number(_), _) => Err((ErrorClass::WrongType, "is a number and should be")),
        (Token::Nested { .. }, _) => Err((ErrorClass::WrongType, "is an object or array and should be")),
        (Token::True | Token::False, _) => Err((ErrorClass::WrongType, "is a boolean and should be")),
    }
}

#[inline]
pub(super) fn double(record: &[u8], number: Number, rule: &FieldRule) -> Result<Value, Violation> {
    validate::double(number.as_f64(record), rule)
}

#[inline]
pub(super) fn integer(number: Number, rule: &FieldRule) -> Result<Value, Violation> {
    match number.as_i64() {
        Some(integer) => validate::integer(integer, rule),
        None if number.is_whole() => Err(validate::integer_too_wide()),
        None => Err((ErrorClass::WrongType, "is not of its type,")),
    }
}

#[cold]
fn fault(token: Token, field: usize, (class, what): Violation) -> Fault {
    let span = match token {
        Token::Text { start, end, .. } | Token::Nested { start, end } => (start, end),
        Token::Number(number) => (number.start, number.end),
        Token::Missing | Token::Null | Token::True | Token::False => (0, 0),
    };
    Fault::of_field(class, field, span, what)
}
