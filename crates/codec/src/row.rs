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

impl Value {
    /// Bytes that it takes in a text column.
    pub(crate) fn text_bytes(&self) -> usize {
        match self {
            Value::Text { start, end } | Value::Unescaped { start, end } => (end - start) as usize,
            _ => 0,
        }
    }
}

/// A record's values by field and what it holds beside them; reused from record to record.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
    /// Text that does not stand in the record as it is meant.
    pub(crate) unescaped: Vec<u8>,
    /// Bytes of `unescaped` that belong to the message around an element, and stay from element to element.
    pub(crate) unescaped_kept: usize,
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
            unescaped: Vec::new(),
            unescaped_kept: 0,
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
