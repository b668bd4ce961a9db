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

/// A record's values by field and what it holds beside them; reused from record to record.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) values: Vec<Value>,
    /// Text that does not stand in the record as it is meant.
    pub(crate) unescaped: Vec<u8>,
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
            extra: Vec::new(),
            extra_fields: 0,
            plan: 0,
        }
    }
}
