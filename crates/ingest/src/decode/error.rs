//! Every way in which a record can be bad: one closed set, so that each has a defined fate and a metric label.

use std::fmt::Write;

use model::Stage;

use super::layout::Layout;

/// Why a record did not become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The value is longer than [`super::DecodeLimits::record_bytes_max`].
    TooLarge,
    /// A tombstone: the record has a key at most.
    NullValue,
    /// No bytes, or nothing but white space.
    Empty,
    /// The value is not UTF-8, as JSON must be.
    InvalidUtf8,
    /// Not JSON by RFC 8259, or cut off.
    NotJson,
    /// JSON, but an array or a scalar.
    NotAnObject,
    /// Nested deeper than [`super::NESTING_MAX`].
    TooDeep,
    /// A `\u` escape of one half of a surrogate pair: it names no character, so it cannot be stored as text.
    LoneSurrogate,
    /// A key that leads to a declared field occurs twice in one object; either choice could be the wrong one.
    DuplicateKey,
    /// A field that must have a value has none, or null.
    MissingField,
    /// The value has another JSON type than declared, or is a whole number that its column cannot hold.
    WrongType,
    /// A number beyond binary64, such as `1e400`.
    NotFinite,
    /// A text that is no timestamp ([`model::event_time::parse`]), or one outside the years 0001 to 9999 UTC.
    BadTimestamp,
    /// Below `min` or above `max`.
    OutOfRange,
    /// None of `one_of`.
    NotInSet,
}

impl ErrorClass {
    pub const ALL: [ErrorClass; 15] = [
        ErrorClass::TooLarge,
        ErrorClass::NullValue,
        ErrorClass::Empty,
        ErrorClass::InvalidUtf8,
        ErrorClass::NotJson,
        ErrorClass::NotAnObject,
        ErrorClass::TooDeep,
        ErrorClass::LoneSurrogate,
        ErrorClass::DuplicateKey,
        ErrorClass::MissingField,
        ErrorClass::WrongType,
        ErrorClass::NotFinite,
        ErrorClass::BadTimestamp,
        ErrorClass::OutOfRange,
        ErrorClass::NotInSet,
    ];

    /// The name in dead letters and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorClass::TooLarge => "too_large",
            ErrorClass::NullValue => "null_value",
            ErrorClass::Empty => "empty",
            ErrorClass::InvalidUtf8 => "invalid_utf8",
            ErrorClass::NotJson => "not_json",
            ErrorClass::NotAnObject => "not_an_object",
            ErrorClass::TooDeep => "too_deep",
            ErrorClass::LoneSurrogate => "lone_surrogate",
            ErrorClass::DuplicateKey => "duplicate_key",
            ErrorClass::MissingField => "missing_field",
            ErrorClass::WrongType => "wrong_type",
            ErrorClass::NotFinite => "not_finite",
            ErrorClass::BadTimestamp => "bad_timestamp",
            ErrorClass::OutOfRange => "out_of_range",
            ErrorClass::NotInSet => "not_in_set",
        }
    }

    pub fn stage(self) -> Stage {
        match self {
            ErrorClass::TooLarge
            | ErrorClass::NullValue
            | ErrorClass::Empty
            | ErrorClass::InvalidUtf8
            | ErrorClass::NotJson
            | ErrorClass::NotAnObject
            | ErrorClass::TooDeep
            | ErrorClass::LoneSurrogate
            | ErrorClass::DuplicateKey => Stage::Decode,
            ErrorClass::MissingField | ErrorClass::WrongType | ErrorClass::NotFinite | ErrorClass::BadTimestamp => {
                Stage::Schema
            }
            ErrorClass::OutOfRange | ErrorClass::NotInSet => Stage::Validate,
        }
    }
}

/// What is wrong and where, small enough to travel by value; the words are made only once it has become a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) class: ErrorClass,
    pub(super) what: &'static str,
    /// The bytes of the record it is about; for a decode fault `start` alone counts.
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) field: Option<u16>,
}

/// Bytes of a value shown in an error text.
const SHOWN_MAX: usize = 40;

impl Fault {
    /// A fault of the bytes at `at`.
    pub(super) fn at(class: ErrorClass, at: usize, what: &'static str) -> Self {
        Self {
            class,
            what,
            start: at as u32,
            end: at as u32,
            field: None,
        }
    }

    /// A fault of a field's value in `start..end`, which are equal when there is none.
    pub(super) fn of_field(class: ErrorClass, field: usize, (start, end): (u32, u32), what: &'static str) -> Self {
        Self {
            class,
            what,
            start,
            end,
            field: Some(field as u16),
        }
    }

    /// The error in words: the field, the value, what is wrong with it, the byte.
    pub(super) fn text(&self, record: &[u8], layout: &Layout) -> String {
        let mut text = String::new();
        let shown = record.get(self.start as usize..self.end as usize).unwrap_or_default();
        if let Some(field) = self.field {
            text.push_str(&layout.fields[field as usize].name);
            text.push(' ');
        }
        if self.field.is_some() && !shown.is_empty() {
            let cut = String::from_utf8_lossy(&shown[..shown.len().min(SHOWN_MAX)]);
            let ellipsis = if shown.len() > SHOWN_MAX { "..." } else { "" };
            // Writing to a String does not fail.
            let _ = write!(text, "{cut}{ellipsis} ");
        }
        text.push_str(self.what);
        if let Some(field) = self.field {
            layout.fields[field as usize].describe_limit(self.class, &mut text);
        }
        let has_place = match self.class {
            ErrorClass::TooLarge | ErrorClass::NullValue | ErrorClass::Empty => false,
            ErrorClass::MissingField => self.end > self.start,
            _ => true,
        };
        if has_place {
            let _ = write!(text, " (byte {})", self.start);
        }
        text
    }
}
