//! A query's result as text or a file, written while it streams.
//!
//! - `table`: for reading; columns are as wide as the first thousand rows need (wider rows later widen them from there
//!   on), long cells are cut with `…`, control characters are escaped, a last line counts the rows. Where a line has an
//!   end ([`Reading::width`]) the widest texts are cut to fit; rows that are too wide all the same are shown as `line` does.
//! - `line`: for reading; each value on a line of its own, whole, control characters escaped.
//! - `markdown`: a table for a document.
//! - `csv`: a header, then RFC 4180 lines. NULL is an empty field (`""` in a result of one column, where it would be an
//!   empty line), an empty text is `""`. Lists and structs are JSON.
//! - `json`: one object per line, NULLs included, so that every line has the same keys. NaN and infinities are `null`,
//!   for JSON has no word for them. A second column of one name gets `_2` behind it.
//! - `parquet`: one file, zstd; needs no seeking, so a pipe will do. Names as in `json`.
//!
//! Timestamps are RFC 3339, in UTC unless the query asked for another zone. Floats are the shortest text that reads back
//! as the same value. Bytes are shown as text where they are UTF-8 that does not begin with `\x`, else as `\x` and hex
//! digits, so either can be told from the other; Parquet keeps bytes.

mod cells;
mod fit;
mod markdown;
mod readable;
mod records;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{LineDelimited, WriterBuilder as JsonWriterBuilder};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::sql::{QueryResult, SqlError};

use self::records::RecordWriter;
use self::table::TableWriter;

/// Memory of a Parquet row group in progress beyond which it is written, in bytes.
const ROW_GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a result is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for reading.
    #[default]
    Table,
    /// `column = value` lines, for rows too wide for a table.
    Line,
    /// A table in Markdown.
    Markdown,
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object per line.
    Json,
    /// A Parquet file.
    Parquet,
}

impl Format {
    /// All formats, for help texts.
    pub const ALL: [Format; 6] = [
        Format::Table,
        Format::Line,
        Format::Markdown,
        Format::Csv,
        Format::Json,
        Format::Parquet,
    ];

    /// Whether it is for people rather than programs, so that rows may be left out and cells cut.
    pub fn is_for_reading(self) -> bool {
        matches!(self, Format::Table | Format::Line | Format::Markdown)
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Table => "table",
            Format::Line => "line",
            Format::Markdown => "markdown",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let known = Format::ALL.into_iter().find(|format| format.name() == text);
        let names = Format::ALL.map(Format::name).join(", ");
        known.ok_or_else(|| format!("`{text}` is not a format: {names}"))
    }
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The query failed while it was read.
    #[error(transparent)]
    Query(#[from] SqlError),
    /// The writer failed. A broken pipe means that the reader has seen enough; leave quietly.
    #[error("the result cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A value has no form in this format; try another format or cast the column.
    #[error("the result cannot be written as {format}: {source}")]
    Encode { format: Format, source: ArrowError },
}

impl OutputError {
    /// Whether the reader closed its end.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, OutputError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// How a result is shown to people; the formats for programs ([`Format::is_for_reading`]) pass it over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Columns of the terminal that a table has to fit; `None` where lines have no end.
    pub width: Option<usize>,
    /// Rows shown; the others are only counted. `None` shows all.
    pub rows_max: Option<u64>,
}

/// What came of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// All rows of the result.
    pub rows: u64,
    /// Those that were written.
    pub shown: u64,
}

/// Writes a whole result as it comes and returns the number of rows.
pub async fn write_result(result: QueryResult, format: Format, out: impl Write + Send) -> Result<u64, OutputError> {
    let written = write_for_reading(result, format, Reading::default(), out).await?;
    Ok(written.rows)
}

/// Writes a result as it comes, within what a reader has room for. Rows beyond the limit are read and counted.
pub async fn write_for_reading(
    mut result: QueryResult,
    format: Format,
    reading: Reading,
    out: impl Write + Send,
) -> Result<Written, OutputError> {
    let mut output = Output::for_reading(format, reading, result.schema(), out)?;
    if result.is_plan() {
        output = output.with_whole_cells();
    }
    while let Some(batch) = result.next().await {
        output.write(&batch?)?;
    }
    output.finish_counted()
}

/// Writes record batches of one schema in one format. Call [`Output::finish`] at the end.
pub struct Output<W: Write + Send> {
    format: Format,
    rows_max: u64,
    written: Written,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    Table(TableWriter<W>),
    Line {
        writer: RecordWriter,
        out: W,
    },
    Markdown {
        out: W,
    },
    Csv {
        buffer: Vec<u8>,
        out: W,
    },
    Json {
        schema: SchemaRef,
        buffer: Vec<u8>,
        out: W,
    },
    Parquet {
        schema: SchemaRef,
        writer: Box<ArrowWriter<W>>,
    },
}

impl<W: Write + Send> Output<W> {
    /// For batches of this schema.
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Result<Output<W>, OutputError> {
        Output::for_reading(format, Reading::default(), schema, out)
    }

    /// The same within what a reader has room for.
    pub fn for_reading(
        format: Format,
        reading: Reading,
        schema: SchemaRef,
        mut out: W,
    ) -> Result<Output<W>, OutputError> {
        let sink = match format {
            Format::Table => Sink::Table(TableWriter::new(&schema, reading.width, out)),
            Format::Line => Sink::Line {
                writer: RecordWriter::new(&schema, usize::MAX),
                out,
            },
            Format::Markdown => {
                markdown::write_header(&schema, &mut out)?;
                Sink::Markdown { out }
            }
            Format::Csv => {
                let mut buffer = Vec::new();
                push_csv_header(&schema, &mut buffer);
                Sink::Csv { buffer, out }
            }
            Format::Json => Sink::Json {
                schema: unique_names(&schema),
                buffer: Vec::new(),
                out,
            },
            Format::Parquet => {
                let schema = unique_names(&schema);
                let level = ZstdLevel::try_new(1).unwrap_or_default();
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .build();
                // Arrow's own schema would pin readers to Arrow's in-memory types, views for example.
                let options = ArrowWriterOptions::new()
                    .with_properties(properties)
                    .with_skip_arrow_metadata(true);
                let writer =
                    ArrowWriter::try_new_with_options(out, Arc::clone(&schema), options).map_err(parquet_error)?;
                Sink::Parquet {
                    schema,
                    writer: Box::new(writer),
                }
            }
        };
        Ok(Output {
            format,
            rows_max: reading.rows_max.filter(|_| format.is_for_reading()).unwrap_or(u64::MAX),
            written: Written::default(),
            sink,
        })
    }

    /// Cuts no cell of a table.
    pub fn with_whole_cells(mut self) -> Output<W> {
        if let Sink::Table(table) = &mut self.sink {
            table.cut_no_cells();
        }
        self.rows_max = u64::MAX;
        self
    }

    /// Writes one batch.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let rows = batch.num_rows() as u64;
        let shown = rows.min(self.rows_max - self.written.shown);
        self.written.rows += rows;
        self.written.shown += shown;
        match shown {
            0 => Ok(()),
            shown if shown == rows => self.write_rows(batch),
            shown => self.write_rows(&batch.slice(0, usize::try_from(shown).unwrap_or(usize::MAX))),
        }
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let format = self.format;
        let encode = |source| encode_error(format, source);
        match &mut self.sink {
            Sink::Table(table) => table.write(batch),
            Sink::Line { writer, out } => {
                let row = |values: &[Option<String>]| writer.write(values.iter().map(Option::as_deref), out);
                cells::for_each_row(batch, row, format)
            }
            Sink::Markdown { out } => {
                let row = |values: &[Option<String>]| markdown::write_row(values.iter().map(Option::as_deref), out);
                cells::for_each_row(batch, row, format)
            }
            Sink::Csv { buffer, out } => {
                write_csv(batch, buffer).map_err(encode)?;
                write_out(out, buffer)
            }
            Sink::Json { schema, buffer, out } => {
                let batch = readable::for_json(&renamed(batch, schema).map_err(encode)?).map_err(encode)?;
                let mut writer = JsonWriterBuilder::new()
                    .with_explicit_nulls(true)
                    .build::<_, LineDelimited>(&mut *buffer);
                writer.write(&batch).and_then(|()| writer.finish()).map_err(encode)?;
                drop(writer);
                write_out(out, buffer)
            }
            Sink::Parquet { schema, writer } => {
                let batch = renamed(batch, schema).map_err(encode)?;
                writer.write(&batch).map_err(parquet_error)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
                    writer.flush().map_err(parquet_error)?;
                }
                Ok(())
            }
        }
    }

    /// Writes what is held back and flushes. Returns the number of rows.
    pub fn finish(self) -> Result<u64, OutputError> {
        self.finish_counted().map(|written| written.rows)
    }

    /// The same; also how many of them were shown.
    pub fn finish_counted(self) -> Result<Written, OutputError> {
        let (written, count) = (self.written, count(self.written));
        match self.sink {
            Sink::Table(table) => {
                let mut out = table.finish()?;
                writeln!(out, "{count}")?;
                out.flush()?;
            }
            Sink::Line { writer, mut out } => {
                writeln!(out, "{}{count}", if writer.has_rows() { "\n" } else { "" })?;
                out.flush()?;
            }
            Sink::Markdown { mut out } => {
                if written.shown < written.rows {
                    writeln!(out, "\n{count}")?;
                }
                out.flush()?;
            }
            Sink::Csv { mut buffer, mut out } => {
                write_out(&mut out, &mut buffer)?;
                out.flush()?;
            }
            Sink::Json { mut out, .. } => out.flush()?,
            Sink::Parquet { mut writer, .. } => {
                writer.finish().map_err(parquet_error)?;
            }
        }
        Ok(written)
    }
}

/// The last line for a person.
fn count(written: Written) -> String {
    match (written.rows, written.rows - written.shown) {
        (1, 0) => "(1 row)".to_owned(),
        (rows, 0) => format!("({rows} rows)"),
        (rows, left_out) => format!("({} of {rows} rows, {left_out} left out)", written.shown),
    }
}

fn write_csv(batch: &RecordBatch, buffer: &mut Vec<u8>) -> Result<(), ArrowError> {
    let batch = readable::for_text(batch)?;
    let options = FormatOptions::new();
    let formatters = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        for (index, (column, formatter)) in batch.columns().iter().zip(&formatters).enumerate() {
            if index > 0 {
                buffer.push(b',');
            }
            let is_null = column.is_null(row) || column.data_type().is_null();
            if !is_null {
                push_csv_field(&formatter.value(row).try_to_string()?, buffer);
            } else if formatters.len() == 1 {
                // Many readers skip an empty line, and the row would be lost.
                buffer.extend_from_slice(b"\"\"");
            }
        }
        buffer.push(b'\n');
    }
    Ok(())
}

fn push_csv_header(schema: &Schema, buffer: &mut Vec<u8>) {
    for (index, field) in schema.fields().iter().enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        push_csv_field(field.name(), buffer);
    }
    buffer.push(b'\n');
}

fn push_csv_field(text: &str, buffer: &mut Vec<u8>) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        buffer.push(b'"');
        buffer.extend_from_slice(text.replace('"', "\"\"").as_bytes());
        buffer.push(b'"');
    } else {
        buffer.extend_from_slice(text.as_bytes());
    }
}

fn write_out(out: &mut impl Write, buffer: &mut Vec<u8>) -> Result<(), OutputError> {
    out.write_all(buffer)?;
    buffer.clear();
    Ok(())
}

/// Two columns of one name would be one key of a JSON object, or a Parquet file that many cannot read.
fn unique_names(schema: &Schema) -> SchemaRef {
    let mut taken: Vec<String> = Vec::new();
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut name = field.name().clone();
            let mut count = 1;
            while taken.contains(&name) {
                count += 1;
                name = format!("{}_{count}", field.name());
            }
            taken.push(name.clone());
            field.as_ref().clone().with_name(name).with_nullable(true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
}

fn encode_error(format: Format, source: ArrowError) -> OutputError {
    match source {
        ArrowError::IoError(_, error) => OutputError::Write(error),
        source => OutputError::Encode { format, source },
    }
}

fn parquet_error(error: ParquetError) -> OutputError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => OutputError::Write(*error),
            Err(inner) => encode_error(Format::Parquet, ArrowError::ExternalError(inner)),
        },
        error => encode_error(Format::Parquet, ArrowError::ParquetError(error.to_string())),
    }
}
