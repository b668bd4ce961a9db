//! A fault on its way from a reader of bytes to the dead letter: what, where, of which field.

use std::fmt::Write;

use crate::error_class::ErrorClass;
use crate::layout::Layout;

/// What is wrong and where, small enough to travel by value; the text is made only for a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: ErrorClass,
    pub(crate) what: &'static str,
    /// The bytes of the record it is about; for a decode fault `start` alone counts.
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) field: Option<u16>,
    /// The field's part, by its number; 0 is the field.
    pub(crate) part: u16,
}

/// Bytes of a value shown in an error text.
const SHOWN_MAX: usize = 40;

impl Fault {
    /// A fault of the bytes at `at`.
    pub(crate) fn at(class: ErrorClass, at: usize, what: &'static str) -> Self {
        Self {
            class,
            what,
            start: at as u32,
            end: at as u32,
            field: None,
            part: 0,
        }
    }

    /// A fault of a field's value in `start..end`, which are equal when there is none.
    pub(crate) fn of_field(class: ErrorClass, field: usize, (start, end): (u32, u32), what: &'static str) -> Self {
        Self {
            class,
            what,
            start,
            end,
            field: Some(field as u16),
            part: 0,
        }
    }

    /// The error in words: the field, the value, what is wrong with it, the byte.
    pub(crate) fn text(&self, record: &[u8], layout: &Layout) -> String {
        let mut text = String::new();
        let shown = record.get(self.start as usize..self.end as usize).unwrap_or_default();
        let rule = self
            .field
            .map(|field| layout.fields[field as usize].numbered(self.part));
        if let Some(rule) = rule {
            text.push_str(&rule.name);
            text.push(' ');
        }
        if self.field.is_some() && !shown.is_empty() {
            let cut = String::from_utf8_lossy(&shown[..shown.len().min(SHOWN_MAX)]);
            let ellipsis = if shown.len() > SHOWN_MAX { "..." } else { "" };
            // Writing to a String does not fail.
            let _ = write!(text, "{cut}{ellipsis} ");
        }
        text.push_str(self.what);
        if let Some(rule) = rule {
            rule.describe_limit(self.class, self.what, &mut text);
        }
        let has_place = match self.class {
            ErrorClass::TooLarge
            | ErrorClass::NullValue
            | ErrorClass::Empty
            | ErrorClass::NoElements
            | ErrorClass::TooManyElements
            | ErrorClass::BadElements => false,
            ErrorClass::MissingField => self.end > self.start,
            _ => true,
        };
        if has_place {
            let _ = write!(text, " (byte {})", self.start);
        }
        text
    }
}
