//! JSON by RFC 8259: `scan` reads any record, `shape` one that looks like those before it, both by `parser` and
//! `number`; `values` makes the tokens a row, with `nested` for arrays and objects; `envelope` is what the elements of a message share.

mod envelope;
mod nested;
mod number;
mod parser;
mod scan;
mod shape;
mod values;

pub use parser::NESTING_MAX;

use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::layout::{ElementLayout, Layout};
use crate::row::{Row, Value};
use envelope::Envelope;
use parser::{Part, Token};
use scan::Scan;
use shape::Shapes;

/// Reads JSON records of one stream. It learns how the producers write, and reuses its memory.
#[derive(Debug)]
pub(crate) struct JsonReader {
    /// Of records; of elements, in a stream that has them.
    shapes: Shapes,
    scan: Scan,
    envelope: Envelope,
    /// Elements of the message that was read last, where it was read to its end.
    count: Option<usize>,
}

impl JsonReader {
    pub(crate) fn new(layout: &Layout, shapes_max: usize) -> Self {
        // A shape is one element's, and does not tell whether its message has a field for it.
        let is_mixed = layout.elements.as_ref().is_some_and(|elements| elements.is_mixed);
        Self {
            shapes: Shapes::new(if is_mixed { 0 } else { shapes_max }),
            scan: Scan::new(layout),
            envelope: Envelope::default(),
            count: None,
        }
    }

    /// Reads and validates a record into `row`; whether it was by a remembered shape.
    #[inline]
    pub(crate) fn read(&mut self, value: &[u8], layout: &Layout, row: &mut Row) -> Result<bool, Fault> {
        let part = Part::whole(value);
        let by_shape = self.shapes.read(part, layout, row);
        if !by_shape {
            self.scan.read(part, layout, row)?;
            let fields = 0..layout.fields.len();
            values::fill(value, &self.scan.slots, layout, fields.clone(), row)?;
            if layout.has_alternatives && self.scan.finds_others(value, layout, fields, row) {
                self.scan.read_again(part, layout, row)?;
            }
            self.shapes.learn(part, layout, &self.scan, row);
        } else if let Some(field) = layout.message {
            row.values[field as usize] = message_of(part);
        }
        Ok(by_shape)
    }

    /// Reads a message with elements: validates its envelope into `row`, and finds its elements; how many.
    pub(crate) fn read_message(
        &mut self,
        value: &[u8],
        layout: &Layout,
        elements: &ElementLayout,
        row: &mut Row,
    ) -> Result<usize, Fault> {
        row.scratch.keep_nothing();
        let part = Part::whole(value);
        self.scan.read(part, layout, row)?;
        let what = match self.scan.slots[elements.array as usize] {
            Token::Nested { .. } if self.scan.found_elements => None,
            Token::Missing => Some("the array of the elements is missing"),
            Token::Null => Some("the array of the elements is null"),
            _ => Some("what should be the array of the elements is none"),
        };
        if let Some(what) = what {
            return Err(Fault::at(ErrorClass::NoElements, 0, what));
        }
        let count = self.scan.elements.len();
        self.count = Some(count);
        let fields = elements.envelope.iter().map(|field| usize::from(*field));
        values::fill(value, &self.scan.slots, layout, fields.clone(), row)?;
        if layout.has_alternatives && self.scan.finds_others(value, layout, fields, row) {
            self.scan.read_again(part, layout, row)?;
        }
        row.scratch.keep_all();
        self.envelope.set(row, &self.scan.hole);
        Ok(count)
    }

    /// No message is being read.
    pub(crate) fn forget(&mut self) {
        self.count = None;
    }

    /// Elements of the message that [`Self::read_message`] read last, if it could tell, whatever else was wrong with it.
    pub(crate) fn count(&self) -> Option<usize> {
        self.count
    }

    /// Reads and validates one of these elements into `row`, which keeps the envelope's values; whether it was by a
    /// remembered shape.
    #[inline]
    pub(crate) fn read_element(
        &mut self,
        value: &[u8],
        index: usize,
        layout: &Layout,
        elements: &ElementLayout,
        row: &mut Row,
    ) -> Result<bool, Fault> {
        let (start, end) = self.scan.elements[index];
        let part = Part {
            bytes: &value[..end as usize],
            start: start as usize,
            is_utf8: true,
        };
        let by_shape = self.shapes.read(part, layout, row);
        if !by_shape {
            self.scan.read_element(part, layout, elements, row)?;
            let fields = elements.fields.iter().map(|field| usize::from(*field));
            values::fill(part.bytes, &self.scan.slots, layout, fields.clone(), row)?;
            if layout.has_alternatives && self.scan.finds_others(part.bytes, layout, fields, row) {
                self.scan.read_element_again(part, layout, elements, row)?;
            }
            self.shapes.learn(part, layout, &self.scan, row);
        }
        self.envelope.complete(row);
        Ok(by_shape)
    }

    /// Bytes that the envelope adds to `_extra` of each row, at most.
    pub(crate) fn envelope_extra_bytes(&self) -> usize {
        self.envelope.bytes()
    }
}

/// The whole message as a value, without what surrounds its JSON.
fn message_of(part: Part<'_>) -> Value {
    let message = &part.bytes[part.start..];
    let before = message.len() - message.trim_ascii_start().len();
    let start = part.start + before;
    Value::Text {
        start: start as u32,
        end: (start + message.trim_ascii().len()) as u32,
    }
}
