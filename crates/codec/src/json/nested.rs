//! Arrays, maps and structs: a declared value with values in it, read again from its bytes, which are known to be JSON.

use model::FieldType;

use super::parser::{Parser, Token, unescape};
use super::values::from_token;
use crate::error_class::ErrorClass;
use crate::layout::FieldRule;
use crate::row::{Scratch, Value};
use crate::validate::Violation;

/// Values that the nested values of one record may put into columns, nulls included: `{}` is two bytes, and may be a struct
/// of many columns.
const VALUES_MAX: usize = 1 << 20;

/// Members of one struct, by the rules for declarations.
const MEMBERS_MAX: usize = 256;

/// Validates the value in `start..end`. Its parts go to `scratch`, and so does the place of a fault in one of them.
pub(super) fn value(
    record: &[u8],
    (start, end): (u32, u32),
    rule: &FieldRule,
    scratch: &mut Scratch,
) -> Result<Value, Violation> {
    let at = scratch.nested.len();
    let (bytes, nested) = (scratch.bytes.len(), at);
    let mut reader = Reader {
        record,
        parser: Parser::starting_at(&record[..end as usize], start as usize),
        scratch,
    };
    let read = reader.nested(rule);
    if let Err(violation) = read {
        scratch.bytes.truncate(bytes);
        scratch.nested.truncate(nested);
        return Err(violation);
    }
    Ok(Value::Nested {
        at: at as u32,
        end: scratch.nested.len() as u32,
    })
}

struct Reader<'a> {
    record: &'a [u8],
    parser: Parser<'a>,
    scratch: &'a mut Scratch,
}

/// The bytes were JSON before, so no record makes this.
const CANNOT_BE: Violation = (ErrorClass::NotJson, "is not JSON");

impl Reader<'_> {
    /// Reads an array or object, from its bracket.
    fn nested(&mut self, rule: &FieldRule) -> Result<(), Violation> {
        let wrong = (ErrorClass::WrongType, "is an object or array and should be");
        match (&rule.field_type, self.parser.peek(), rule.parts.as_slice()) {
            (FieldType::Array(_), Some(b'['), [element]) => self.array(element),
            (FieldType::Map(_), Some(b'{'), [value]) => self.map(value),
            (FieldType::Struct(_), Some(b'{'), members) => self.structure(rule, members),
            _ => Err(wrong),
        }
    }

    fn array(&mut self, element: &FieldRule) -> Result<(), Violation> {
        let items = self.begin(Value::Items(0));
        let mut count = 0;
        while self.next(count, b']')? {
            self.part(element)?;
            count += 1;
        }
        self.scratch.nested[items] = Value::Items(count);
        Ok(())
    }

    fn map(&mut self, value: &FieldRule) -> Result<(), Violation> {
        let items = self.begin(Value::Items(0));
        let first = self.scratch.keys.len();
        let mut count = 0;
        while self.next(count, b'}')? {
            let key = self.key()?;
            self.scratch.keys.push(key);
            self.scratch.nested.push(key);
            self.part(value)?;
            count += 1;
        }
        self.scratch.nested[items] = Value::Items(count);
        let (record, bytes) = (self.record, &self.scratch.bytes);
        let keys = &mut self.scratch.keys[first..];
        keys.sort_unstable_by(|one, other| text_of(*one, record, bytes).cmp(text_of(*other, record, bytes)));
        let is_twice = |pair: &[Value]| text_of(pair[0], record, bytes) == text_of(pair[1], record, bytes);
        let has_twice = keys.windows(2).any(is_twice);
        self.scratch.keys.truncate(first);
        match has_twice {
            true => Err((ErrorClass::DuplicateKey, "has a key twice")),
            false => Ok(()),
        }
    }

    fn structure(&mut self, rule: &FieldRule, members: &[FieldRule]) -> Result<(), Violation> {
        let begin = self.begin(Value::Members(0));
        let mut seen = [0_u64; MEMBERS_MAX / 64];
        let (mut count, mut filled) = (0, 0);
        while self.next(count, b'}')? {
            count += 1;
            let key = self.key()?;
            let name = text_of(key, self.record, &self.scratch.bytes);
            let Some(member) = rule.keys.iter().position(|known| **known == *name) else {
                self.scratch.has_rest = true;
                self.parser.value(0).map_err(|_| CANNOT_BE)?;
                continue;
            };
            let (word, bit) = (member / 64, 1 << (member % 64));
            if seen[word] & bit != 0 {
                return Err((ErrorClass::DuplicateKey, "has a declared key twice in one object"));
            }
            seen[word] |= bit;
            filled += 1;
            self.scratch.nested.push(Value::Member(member as u16));
            self.part(&members[member])?;
        }
        self.scratch.nested[begin] = Value::Members(filled);
        Ok(())
    }

    /// Goes past the opening bracket; where the head of the value will be.
    fn begin(&mut self, head: Value) -> usize {
        self.parser.at += 1;
        self.scratch.nested.push(head);
        self.scratch.nested.len() - 1
    }

    /// Goes to the next element or key, `count` of which were read; `false` at the end, which it goes past.
    fn next(&mut self, count: u32, closing: u8) -> Result<bool, Violation> {
        self.parser.skip_whitespace();
        match self.parser.peek() {
            Some(byte) if byte == closing => {
                self.parser.at += 1;
                Ok(false)
            }
            Some(b',') if count > 0 => {
                self.parser.at += 1;
                self.parser.skip_whitespace();
                Ok(true)
            }
            Some(_) if count == 0 => Ok(true),
            _ => Err(CANNOT_BE),
        }
    }

    /// Reads a key and goes to its value.
    fn key(&mut self) -> Result<Value, Violation> {
        let (start, end, escaped) = self.parser.key().map_err(|_| CANNOT_BE)?;
        if !escaped {
            return Ok(Value::Text { start, end });
        }
        let from = self.scratch.bytes.len() as u32;
        unescape(&self.record[start as usize..end as usize], &mut self.scratch.bytes);
        Ok(Value::Unescaped {
            start: from,
            end: self.scratch.bytes.len() as u32,
        })
    }

    /// Reads one value of a part's type.
    fn part(&mut self, rule: &FieldRule) -> Result<(), Violation> {
        self.scratch.cells += rule.cells;
        if self.scratch.cells > VALUES_MAX {
            return Err((
                ErrorClass::TooLarge,
                "has more than a million values in it, nulls included",
            ));
        }
        let token = self.parser.value(0).map_err(|_| CANNOT_BE)?;
        let read = match token {
            // Their values stand in line with the others.
            Token::Nested { start, .. } if rule.field_type.is_nested() => {
                let end = self.parser.at;
                self.parser.at = start as usize;
                let read = self.nested(rule);
                self.parser.at = end;
                read
            }
            token => from_token(self.record, token, rule, self.scratch).map(|value| self.scratch.nested.push(value)),
        };
        if read.is_err() && self.scratch.fault.is_none() {
            let (start, end) = token.span();
            self.scratch.fault = Some((start, end, rule.number));
        }
        read
    }
}

fn text_of<'a>(key: Value, record: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
    match key {
        Value::Text { start, end } => &record[start as usize..end as usize],
        Value::Unescaped { start, end } => &scratch[start as usize..end as usize],
        _ => &[],
    }
}
