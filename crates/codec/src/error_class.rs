//! Every way in which a record can be bad: one closed set, so that each has a defined outcome and a metric label.

use model::Stage;

/// Why a record did not become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// The value is longer than [`crate::DecodeLimits::record_bytes_max`].
    TooLarge,
    /// A tombstone: the record has a key at most.
    NullValue,
    /// No bytes, or nothing but white space.
    Empty,
    /// The value is not UTF-8, as JSON must be.
    InvalidUtf8,
    /// Not JSON by RFC 8259, or cut off.
    NotJson,
    /// JSON, but an array or a scalar where an object should be: the record, or an element.
    NotAnObject,
    /// Nested deeper than [`crate::NESTING_MAX`].
    TooDeep,
    /// A `\u` escape of one half of a surrogate pair: it names no character, so it cannot be stored as text.
    LoneSurrogate,
    /// A key that leads to a declared field occurs twice in one object; either choice could be the wrong one.
    DuplicateKey,
    /// The array of the elements is missing, null, or no array.
    NoElements,
    /// More elements than the declaration's `elements_max`.
    TooManyElements,
    /// Many of a message's elements are bad: dead letters of their own would hold the message once each, more than
    /// [`crate::DecodeLimits::element_letters_bytes_max`] together.
    BadElements,
    /// A field that must have a value has none, or null.
    MissingField,
    /// The value has another JSON type than declared, or is a number that its column cannot hold exactly.
    WrongType,
    /// A number beyond binary64, such as `1e400`.
    NotFinite,
    /// A text that is no timestamp ([`model::event_time::parse`]), or one outside the years 0001 to 9999 UTC.
    BadTimestamp,
    /// A text that is no date ([`model::event_time::parse_date`]).
    BadDate,
    /// A text that is no time of day ([`model::event_time::parse_time`]).
    BadTime,
    /// A text that is no base64, or no hexadecimal, whichever is declared.
    BadBinary,
    /// Below `min` or above `max`.
    OutOfRange,
    /// None of `one_of`.
    NotInSet,
}

impl ErrorClass {
    pub const ALL: [ErrorClass; 21] = [
        ErrorClass::TooLarge,
        ErrorClass::NullValue,
        ErrorClass::Empty,
        ErrorClass::InvalidUtf8,
        ErrorClass::NotJson,
        ErrorClass::NotAnObject,
        ErrorClass::TooDeep,
        ErrorClass::LoneSurrogate,
        ErrorClass::DuplicateKey,
        ErrorClass::NoElements,
        ErrorClass::TooManyElements,
        ErrorClass::BadElements,
        ErrorClass::MissingField,
        ErrorClass::WrongType,
        ErrorClass::NotFinite,
        ErrorClass::BadTimestamp,
        ErrorClass::BadDate,
        ErrorClass::BadTime,
        ErrorClass::BadBinary,
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
            ErrorClass::NoElements => "no_elements",
            ErrorClass::TooManyElements => "too_many_elements",
            ErrorClass::BadElements => "bad_elements",
            ErrorClass::MissingField => "missing_field",
            ErrorClass::WrongType => "wrong_type",
            ErrorClass::NotFinite => "not_finite",
            ErrorClass::BadTimestamp => "bad_timestamp",
            ErrorClass::BadDate => "bad_date",
            ErrorClass::BadTime => "bad_time",
            ErrorClass::BadBinary => "bad_binary",
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
            | ErrorClass::DuplicateKey
            | ErrorClass::TooManyElements => Stage::Decode,
            ErrorClass::NoElements
            | ErrorClass::BadElements
            | ErrorClass::MissingField
            | ErrorClass::WrongType
            | ErrorClass::NotFinite
            | ErrorClass::BadTimestamp
            | ErrorClass::BadDate
            | ErrorClass::BadTime
            | ErrorClass::BadBinary => Stage::Schema,
            ErrorClass::OutOfRange | ErrorClass::NotInSet => Stage::Validate,
        }
    }
}
