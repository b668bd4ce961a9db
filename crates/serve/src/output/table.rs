//! Aligned columns, printed a block of rows at a time.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{Schema, SchemaRef};

use super::{Format, OutputError, encode_error, readable};

/// Rows measured and printed together.
const BLOCK_ROWS: usize = 1000;

/// Longest cell shown, in characters.
const CELL_CHARS_MAX: usize = 80;

pub(super) struct TableWriter<W> {
    out: W,
    schema: SchemaRef,
    widths: Vec<usize>,
    cell_chars_max: usize,
    /// Rows of the block in progress; each cell as its lines.
    block: Vec<Vec<Vec<String>>>,
    header_printed: bool,
    rows: u64,
}

impl<W: Write> TableWriter<W> {
    pub(super) fn new(schema: &Schema, out: W) -> TableWriter<W> {
        TableWriter {
            out,
            widths: schema
                .fields()
                .iter()
                .map(|field| char_count(&escaped(field.name())))
                .collect(),
            schema: Arc::new(schema.clone()),
            cell_chars_max: CELL_CHARS_MAX,
            block: Vec::new(),
            header_printed: false,
            rows: 0,
        }
    }

    /// Shows cells whole, their line breaks as such.
    pub(super) fn cut_no_cells(&mut self) {
        self.cell_chars_max = usize::MAX;
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let encode = |source| encode_error(Format::Table, source);
        let batch = readable::for_text(batch).map_err(encode)?;
        let options = FormatOptions::new();
        let formatters = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(encode)?;
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(formatters.len());
            for (column, formatter) in batch.columns().iter().zip(&formatters) {
                cells.push(if column.is_null(row) || column.data_type().is_null() {
                    vec!["NULL".to_owned()]
                } else {
                    self.cell(&formatter.value(row).try_to_string().map_err(encode)?)
                });
            }
            for (width, lines) in self.widths.iter_mut().zip(&cells) {
                *width = lines.iter().map(|line| char_count(line)).fold(*width, usize::max);
            }
            self.block.push(cells);
            self.rows += 1;
            if self.block.len() >= BLOCK_ROWS {
                self.print_block()?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), OutputError> {
        self.print_block()?;
        let rows = self.rows;
        writeln!(self.out, "({rows} {})", if rows == 1 { "row" } else { "rows" })?;
        self.out.flush()?;
        Ok(())
    }

    fn cell(&self, text: &str) -> Vec<String> {
        if self.cell_chars_max == usize::MAX {
            return text.lines().map(escaped).collect();
        }
        let mut chars = text.chars();
        let mut cell = escaped(&chars.by_ref().take(self.cell_chars_max).collect::<String>());
        let cut = chars.next().is_some() || char_count(&cell) > self.cell_chars_max;
        if cut {
            cell = cell.chars().take(self.cell_chars_max - 1).collect();
            cell.push('…');
        }
        vec![cell]
    }

    fn print_block(&mut self) -> Result<(), OutputError> {
        let mut text = String::new();
        if !self.header_printed {
            self.header_printed = true;
            let names: Vec<String> = self.schema.fields().iter().map(|field| escaped(field.name())).collect();
            self.print_line(&mut text, |column| (names[column].as_str(), false));
            let rule: Vec<String> = self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&rule.join("+"));
            text.push('\n');
        }
        for row in std::mem::take(&mut self.block) {
            let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
            for line in 0..height {
                self.print_line(&mut text, |column| {
                    let cell = row[column].get(line).map_or("", String::as_str);
                    (cell, self.schema.field(column).data_type().is_numeric())
                });
            }
        }
        self.out.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Appends one line; `cell` gives a column's text and whether it is set to the right.
    fn print_line<'a>(&self, text: &mut String, cell: impl Fn(usize) -> (&'a str, bool)) {
        let start = text.len();
        for (column, width) in self.widths.iter().enumerate() {
            let (cell, right) = cell(column);
            let padding = " ".repeat(width.saturating_sub(char_count(cell)));
            let separator = if column == 0 { " " } else { " | " };
            // Writing to a String cannot fail.
            let _ = match right {
                true => write!(text, "{separator}{padding}{cell}"),
                false => write!(text, "{separator}{cell}{padding}"),
            };
        }
        let end = text[start..].trim_end().len();
        text.truncate(start + end);
        text.push('\n');
    }
}

fn char_count(text: &str) -> usize {
    text.chars().count()
}

/// Control characters as escapes: a cell must not break the table, nor command the terminal.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    safe
}
