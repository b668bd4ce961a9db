//! Aligned columns, printed a block of rows at a time.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};

use super::cells::{self, NULL, cut, escaped, width};
use super::fit::{Column, Fit, fit};
use super::records::RecordWriter;
use super::{Format, OutputError};

/// Rows measured and printed together.
const BLOCK_ROWS: usize = 1000;

/// Widest cell of a table.
const CELL_WIDTH_MAX: usize = 80;

/// Widest value where each has a line of its own.
const VALUE_WIDTH_MAX: usize = 2000;

pub(super) struct TableWriter<W> {
    out: W,
    schema: SchemaRef,
    /// What a line may take; `None` where lines have no end.
    room: Option<usize>,
    cuts_cells: bool,
    /// Of the widest value of each column, up to the widest cell.
    widths: Vec<usize>,
    /// Rows of the block in progress; each cell as its lines.
    block: Vec<Vec<Vec<String>>>,
    /// Decided with the first block.
    layout: Option<Layout>,
}

enum Layout {
    /// Of these widths, which grow with later blocks where a line has no end.
    Columns(Vec<usize>),
    Records(RecordWriter),
}

impl<W: Write> TableWriter<W> {
    pub(super) fn new(schema: &Schema, room: Option<usize>, out: W) -> TableWriter<W> {
        TableWriter {
            out,
            room,
            cuts_cells: true,
            widths: vec![0; schema.fields().len()],
            schema: Arc::new(schema.clone()),
            block: Vec::new(),
            layout: None,
        }
    }

    /// Shows cells whole, their line breaks as such.
    pub(super) fn cut_no_cells(&mut self) {
        self.cuts_cells = false;
        self.room = None;
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let row = |texts: &[Option<String>]| {
            let texts = texts.iter().map(|text| text.as_deref().unwrap_or(NULL));
            let cells: Vec<Vec<String>> = texts.map(|text| self.cell(text)).collect();
            for (widest, lines) in self.widths.iter_mut().zip(&cells) {
                *widest = lines.iter().map(|line| width(line)).fold(*widest, usize::max);
            }
            self.block.push(cells);
            match self.block.len() >= BLOCK_ROWS {
                true => self.print_block(),
                false => Ok(()),
            }
        };
        cells::for_each_row(batch, row, Format::Table)
    }

    /// Prints what is held back. Gives the writer for a last line.
    pub(super) fn finish(mut self) -> Result<W, OutputError> {
        self.print_block()?;
        if matches!(&self.layout, Some(Layout::Records(writer)) if writer.has_rows()) {
            self.out.write_all(b"\n")?;
        }
        Ok(self.out)
    }

    fn cell(&self, text: &str) -> Vec<String> {
        match (self.cuts_cells, self.room) {
            (false, _) => text.lines().map(escaped).collect(),
            (true, None) => vec![cut(text, CELL_WIDTH_MAX)],
            // Whether it will have a line of its own is not known yet.
            (true, Some(_)) => vec![cut(text, VALUE_WIDTH_MAX)],
        }
    }

    fn print_block(&mut self) -> Result<(), OutputError> {
        let block = std::mem::take(&mut self.block);
        let mut text = String::new();
        let names: Vec<String> = self.schema.fields().iter().map(|field| escaped(field.name())).collect();
        let is_first = self.layout.is_none();
        let layout = self
            .layout
            .get_or_insert_with(|| decide(&self.schema, &names, &self.widths, self.room));
        let widths = match layout {
            Layout::Records(writer) => {
                for row in &block {
                    let values = row.iter().map(|lines| lines.first().map(String::as_str));
                    writer.write(values, &mut self.out)?;
                }
                return Ok(());
            }
            Layout::Columns(widths) => widths,
        };
        if self.room.is_none() {
            for (width, widest) in widths.iter_mut().zip(&self.widths) {
                *width = (*width).max(*widest);
            }
        }
        let widths: &[usize] = widths;
        if is_first {
            print_line(&mut text, widths, |column| (cut(&names[column], widths[column]), false));
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&rule.join("+"));
            text.push('\n');
        }
        for row in block {
            let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
            for line in 0..height {
                print_line(&mut text, widths, |column| {
                    let cell = row[column].get(line).map_or("", String::as_str);
                    let cell = match self.room {
                        Some(_) => cut(cell, widths[column]),
                        None => cell.to_owned(),
                    };
                    (cell, self.schema.field(column).data_type().is_numeric())
                });
            }
        }
        Ok(self.out.write_all(text.as_bytes())?)
    }
}

/// How the rows are shown, given the values of the first block.
fn decide(schema: &SchemaRef, names: &[String], widths: &[usize], room: Option<usize>) -> Layout {
    let columns = schema.fields().iter().zip(names).zip(widths);
    let columns: Vec<Column> = columns
        .map(|((field, name), widest)| Column {
            header: width(name),
            values: match room {
                Some(_) => (*widest).min(CELL_WIDTH_MAX),
                None => *widest,
            },
            may_be_cut: !(field.data_type().is_numeric() || field.data_type().is_temporal()),
        })
        .collect();
    match fit(&columns, room.unwrap_or(usize::MAX)) {
        Fit::Columns(widths) => Layout::Columns(widths),
        Fit::Records => Layout::Records(RecordWriter::new(schema, VALUE_WIDTH_MAX)),
    }
}

/// Appends one line; `cell` gives a column's text and whether it is set to the right.
fn print_line(text: &mut String, widths: &[usize], cell: impl Fn(usize) -> (String, bool)) {
    let start = text.len();
    for (column, wide) in widths.iter().enumerate() {
        let (cell, right) = cell(column);
        let padding = " ".repeat(wide.saturating_sub(width(&cell)));
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
