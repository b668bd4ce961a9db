//! Each value on a line of its own, `column = value`, and an empty line between rows.

use std::fmt::Write as _;
use std::io::Write;

use arrow_schema::Schema;

use super::OutputError;
use super::cells::{NULL, cut, escaped, width};

pub(super) struct RecordWriter {
    /// Set to the right, all of one width.
    names: Vec<String>,
    width_max: usize,
    rows: u64,
}

impl RecordWriter {
    /// Values are shown up to this width.
    pub(super) fn new(schema: &Schema, width_max: usize) -> RecordWriter {
        let names: Vec<String> = schema.fields().iter().map(|field| escaped(field.name())).collect();
        let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
        let names = names
            .iter()
            .map(|name| format!("{}{name}", " ".repeat(widest - width(name))));
        RecordWriter {
            names: names.collect(),
            width_max,
            rows: 0,
        }
    }

    pub(super) fn has_rows(&self) -> bool {
        self.rows > 0
    }

    pub(super) fn write<'a>(
        &mut self,
        values: impl Iterator<Item = Option<&'a str>>,
        out: &mut impl Write,
    ) -> Result<(), OutputError> {
        let mut text = String::new();
        if self.rows > 0 {
            text.push('\n');
        }
        self.rows += 1;
        for (name, value) in self.names.iter().zip(values) {
            let value = match value {
                Some(value) if self.width_max == usize::MAX => escaped(value),
                Some(value) => cut(value, self.width_max),
                None => NULL.to_owned(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", format!("{name} = {value}").trim_end());
        }
        Ok(out.write_all(text.as_bytes())?)
    }
}
