//! Where formats and columns meet: the values of one record, typed and validated, whatever they were written in.

use crate::layout::Layout;

/// A value that fits its column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Null,
    /// Bytes of the record.
    Text {
        start: u32,
        end: u32,
    },
    /// Bytes of [`Scratch::bytes`]: a text, or what binary text stood for.
    Unescaped {
        start: u32,
        end: u32,
    },
    /// An integer of either width, a timestamp in microseconds, or a date in days since the epoch.
    Integer(i64),
    Double(f64),
    Boolean(bool),
    /// Units of a decimal: 16 bytes of [`Scratch::bytes`] from here, little-endian.
    Decimal {
        at: u32,
    },
    /// A nested value: those of [`Scratch::nested`] in `at..end`, its own first.
    Nested {
        at: u32,
        end: u32,
    },
    /// In a nested value, an array of this many elements, whose values follow; or a map of as many entries, a key and a
    /// value each.
    Items(u32),
    /// In a nested value, a struct of which this many members follow, each announced by [`Value::Member`]; the others are
    /// null.
    Members(u32),
    /// The position of the struct's member whose value follows.
    Member(u16),
}

impl Value {
    /// Bytes that it takes in a text column.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Value::Text { start, end } | Value::Unescaped { start, end } => (end - start) as usize,
            // Each of its values is some bytes in some column.
            Value::Nested { at, end } => (end - at) as usize * size_of::<Value>(),
            _ => 0,
        }
    }
}

/// What the values of a row point to, where that does not stand in the record as it is meant.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) nested: Vec<Value>,
    /// How much of both belongs to the message around an element, and stays from element to element.
    kept: (usize, usize),
    /// Values that the nested ones put into columns, nulls included.
    pub(crate) cells: usize,
    /// Keys of the maps that are being read.
    pub(crate) keys: Vec<Value>,
    /// A struct holds something that it does not declare.
    pub(crate) has_rest: bool,
    /// The part of a nested value that is at fault: its bytes of the record, and its number in the field.
    pub(crate) fault: Option<(u32, u32, u16)>,
    /// Text with its escapes resolved, while it is read.
    pub(crate) text: Vec<u8>,
}

impl Scratch {
    /// Empties it but for what is kept.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.bytes.truncate(self.kept.0);
        self.nested.truncate(self.kept.1);
        self.cells = 0;
        self.keys.clear();
        self.has_rest = false;
        self.fault = None;
    }

    pub(crate) fn keep_all(&mut self) {
        self.kept = (self.bytes.len(), self.nested.len());
    }

    pub(crate) fn keep_nothing(&mut self) {
        self.kept = (0, 0);
    }

    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Value {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Value::Unescaped {
            start,
            end: self.bytes.len() as u32,
        }
    }

    pub(crate) fn push_decimal(&mut self, units: i128) -> Value {
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&units.to_le_bytes());
        Value::Decimal { at }
    }

    pub(crate) fn decimal(&self, at: u32) -> i128 {
        let bytes = self.bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| i128::from_le_bytes(*bytes))
    }

    /// Whether two values of a record are the same.
    pub(crate) fn is_same(&self, record: &[u8], one: Value, other: Value) -> bool {
        let bytes = |value: Value| match value {
            Value::Text { start, end } => record.get(start as usize..end as usize),
            Value::Unescaped { start, end } => self.bytes.get(start as usize..end as usize),
            _ => None,
        };
        match (one, other) {
            (Value::Text { .. } | Value::Unescaped { .. }, Value::Text { .. } | Value::Unescaped { .. }) => {
                bytes(one) == bytes(other)
            }
            (Value::Decimal { at: one }, Value::Decimal { at: other }) => self.decimal(one) == self.decimal(other),
            (
                Value::Nested { at: one, end: one_end },
                Value::Nested {
                    at: other,
                    end: other_end,
                },
            ) => {
                let values = |at: u32, end: u32| self.nested[at as usize..end as usize].iter();
                let mut pairs = values(one, one_end).zip(values(other, other_end));
                one_end - one == other_end - other && pairs.all(|(one, other)| self.is_same(record, *one, *other))
            }
            (one, other) => one == other,
        }
    }
}

/// A record's values by field and what it holds beside them; reused from record to record.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
    pub(crate) scratch: Scratch,
    /// JSON text for the column `_extra`: what no one declared. Empty when there was nothing.
    pub(crate) extra: Vec<u8>,
    /// Values in `extra`.
    pub(crate) extra_fields: usize,
    /// The reader's plan that filled the values, so that it need not empty those it does not fill; 0 is none.
    pub(crate) plan: u64,
}

impl Row {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            values: vec![Value::Null; layout.fields.len()],
            scratch: Scratch::default(),
            extra: Vec::new(),
            extra_fields: 0,
            plan: 0,
        }
    }

    /// Empties the values that a plan may fill: those of the element, where there are elements.
    pub(crate) fn clear_planned(&mut self, layout: &Layout) {
        match &layout.elements {
            None => self.values.fill(Value::Null),
            Some(elements) => {
                for field in &elements.fields {
                    self.values[*field as usize] = Value::Null;
                }
            }
        }
    }
}
