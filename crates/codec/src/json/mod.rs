//! JSON by RFC 8259: `scan` reads any record, `shape` one that looks like those before it, both by `parser` and
//! `number`; `values` makes the tokens a row.

mod number;
mod parser;
mod scan;
mod shape;
mod values;

pub use parser::NESTING_MAX;

use crate::error::Fault;
use crate::layout::Layout;
use crate::row::Row;
use scan::Scan;
use shape::Shapes;

/// Reads JSON records of one stream. It learns how the producers write, and reuses its memory.
#[derive(Debug)]
pub(crate) struct JsonReader {
    shapes: Shapes,
    scan: Scan,
}

impl JsonReader {
    pub(crate) fn new(layout: &Layout, shapes_max: usize) -> Self {
        Self {
            shapes: Shapes::new(shapes_max),
            scan: Scan::new(layout),
        }
    }

    /// Reads and validates a record into `row`; whether it was by a remembered shape.
    #[inline]
    pub(crate) fn read(&mut self, value: &[u8], layout: &Layout, row: &mut Row) -> Result<bool, Fault> {
        if self.shapes.read(value, layout, row) {
            return Ok(true);
        }
        self.scan.read(value, layout, row)?;
        values::fill(value, &self.scan.slots, layout, row)?;
        self.shapes.learn(value, layout, &self.scan, row);
        Ok(false)
    }
}
