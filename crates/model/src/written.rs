//! How a value may be written beyond the usual form of its type. A declaration says so field by field, and ingest and the
//! replay of dead letters read by the same one.

use crate::{FieldType, TimeFormat};

/// The forms that a field's values may have besides the usual one; for a nested type, its parts' values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Written {
    /// Numbers and booleans may come as text: `"12.5"`, `"true"`.
    pub in_text: bool,
    /// Numbers in text may have a comma before their decimals: `"12,50"`.
    pub decimal_comma: bool,
    /// White space around a text is not part of the value.
    pub trim: bool,
    /// Texts that mean null.
    pub nulls: Vec<String>,
    /// Further formats of timestamps, dates and times; the first that fits counts.
    pub formats: Vec<TimeFormat>,
    /// What a number counts from the start of 1970, UTC.
    pub epoch: Option<EpochUnit>,
    /// How binary values are written.
    pub encoding: Encoding,
}

/// What an epoch timestamp or date counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EpochUnit {
    /// For dates alone.
    Days,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// How binary values are written in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// RFC 4648, the standard alphabet or the one for URLs, with padding or without.
    #[default]
    Base64,
    /// Two digits for each byte, upper or lower case.
    Hex,
}

impl EpochUnit {
    pub const ALL: [EpochUnit; 5] = [
        EpochUnit::Days,
        EpochUnit::Seconds,
        EpochUnit::Milliseconds,
        EpochUnit::Microseconds,
        EpochUnit::Nanoseconds,
    ];

    /// The name in a declaration.
    pub fn as_str(self) -> &'static str {
        match self {
            EpochUnit::Days => "d",
            EpochUnit::Seconds => "s",
            EpochUnit::Milliseconds => "ms",
            EpochUnit::Microseconds => "us",
            EpochUnit::Nanoseconds => "ns",
        }
    }

    /// Decimals of a count that make it microseconds; of days, days.
    pub fn decimals(self) -> i32 {
        match self {
            EpochUnit::Seconds => 6,
            EpochUnit::Milliseconds => 3,
            EpochUnit::Microseconds | EpochUnit::Days => 0,
            EpochUnit::Nanoseconds => -3,
        }
    }

    /// Whether values of a type may be counted in it.
    pub(crate) fn fits(self, field_type: &FieldType) -> bool {
        match self {
            EpochUnit::Days => matches!(field_type, FieldType::Date),
            _ => matches!(field_type, FieldType::Timestamp),
        }
    }
}

impl Encoding {
    pub const ALL: [Encoding; 2] = [Encoding::Base64, Encoding::Hex];

    /// The name in a declaration.
    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Base64 => "base64",
            Encoding::Hex => "hex",
        }
    }
}

impl Written {
    /// Whether values have the usual form of their type alone.
    pub fn is_usual(&self) -> bool {
        *self == Written::default()
    }

    /// In words, for the documentation of a field; empty when there is nothing to say.
    pub(crate) fn describe(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.decimal_comma {
            parts.push("numbers in text, with a decimal point or comma".to_owned());
        } else if self.in_text {
            parts.push("numbers and booleans in text".to_owned());
        }
        if self.trim {
            parts.push("white space around it".to_owned());
        }
        if !self.nulls.is_empty() {
            parts.push(format!("{:?} for null", self.nulls));
        }
        parts.extend(
            self.formats
                .iter()
                .map(|format| format!("the format {}", format.as_str())),
        );
        match parts.as_slice() {
            [] => String::new(),
            parts => format!("Also taken: {}.", parts.join("; ")),
        }
    }
}
