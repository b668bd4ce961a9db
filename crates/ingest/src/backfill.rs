//! Fields that arrived before they were declared: out of `_extra` into their columns.
//!
//! What is in `_extra` is read as the message would be today, by a declaration whose fields may all be null, so a value
//! becomes what its record would become if it came again. In a stream with elements a row's text holds that row's element
//! alone, so rows are filled one by one there too. A row with a value that its column does not take stays as it
//! is. A file at a time is replaced by one with the same rows; when it ends in between, the next run finds the rest.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_select::interleave::interleave;
use codec::Decoder;
use lake::{LakeError, StagedFiles, Table};
use model::{ChunkBuilder, EXTRA, OFFSET, Stream, TopicPartition};

/// In the place of the event time, which every declaration must have.
const EVENT_TIME_KEY: &str = "__event_time";
const OPERATION: &str = "BACKFILL";
/// Others may replace files meanwhile, each by one pass.
const TRIES_MAX: u32 = 20;

/// What became of the rows that had something in `_extra`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backfilled {
    /// Values that are in their columns now.
    pub values: u64,
    /// Rows that they are in.
    pub rows: u64,
    /// Rows left as they were because a value is not what its column takes.
    pub bad: u64,
    /// Files that were replaced.
    pub files: u64,
}

impl Backfilled {
    pub fn add(&mut self, other: Backfilled) {
        self.values += other.values;
        self.rows += other.rows;
        self.bad += other.bad;
        self.files += other.files;
    }
}

/// What would become of values of `_extra`, a batch's first column, without a lake to write to: the counts but for the
/// files.
///
/// # Errors
/// A field of the declaration stands in the way, in words.
pub fn preview(stream: &Stream, batch: &RecordBatch) -> Result<Backfilled, String> {
    let mut extras = Extras::new(stream)?;
    let extra = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
    let bad = extras.decode(extra.ok_or_else(|| format!("`{EXTRA}` is no text"))?);
    let mut found = Backfilled {
        bad,
        ..Backfilled::default()
    };
    let Some(read) = extras.decoder.take() else {
        return Ok(found);
    };
    for row in 0..read.num_rows() {
        let count = extras
            .columns
            .iter()
            .filter(|(_, part)| read.column(*part).is_valid(row))
            .count() as u64;
        found.values += count;
        found.rows += u64::from(count > 0);
    }
    Ok(found)
}

/// Fills one stream's columns from its `_extra`.
pub struct Backfill {
    table: Table,
    extras: Extras,
}

/// Reads what `_extra` holds by a stream's declaration.
struct Extras {
    /// Columns that may be filled: position in the table's schema and in the decoder's.
    columns: Vec<(usize, usize)>,
    extra: (usize, usize),
    decoder: Decoder,
    topic_partition: TopicPartition,
}

impl Extras {
    fn new(stream: &Stream) -> Result<Self, String> {
        let part = stream.with_nullable_fields(EVENT_TIME_KEY)?;
        let (of_table, of_part) = (stream.arrow_schema(), part.arrow_schema());
        let position = |name: &str| {
            let both = of_table
                .index_of(name)
                .and_then(|table| Ok((table, of_part.index_of(name)?)));
            both.map_err(|error| error.to_string())
        };
        let nullable = stream.fields.iter().filter(|field| field.nullable);
        Ok(Self {
            columns: nullable.map(|field| position(&field.name)).collect::<Result<_, _>>()?,
            extra: position(EXTRA)?,
            decoder: Decoder::new(&part),
            topic_partition: TopicPartition::new(EXTRA, 0),
        })
    }

    /// Leaves rows in the decoder whose offset is the position in `extra`; how many were bad.
    fn decode(&mut self, extra: &StringArray) -> u64 {
        let mut chunk = ChunkBuilder::new(self.topic_partition.clone(), 0);
        let mut record = Vec::new();
        for row in (0..extra.len()).filter(|row| extra.is_valid(*row)) {
            let rest = extra.value(row).strip_prefix('{').unwrap_or("}");
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            record.clear();
            record.extend_from_slice(format!(r#"{{"{EVENT_TIME_KEY}":"1970-01-01T00:00:00Z"{comma}{rest}"#).as_bytes());
            chunk.push(row as i64, -1, None, Some(&record), []);
        }
        let mut bad = Vec::new();
        let chunk = chunk.finish(extra.len() as i64);
        self.decoder.decode(&chunk, &BTreeSet::new(), 0, &mut bad);
        bad.len() as u64
    }
}

impl Backfill {
    /// # Errors
    /// A field of the declaration stands in the way, in words.
    pub fn new(table: Table, stream: &Stream) -> Result<Self, String> {
        Ok(Self {
            table,
            extras: Extras::new(stream)?,
        })
    }

    /// Goes through all files with something in `_extra`. Tells `progress` of files done and of how many.
    pub async fn run(&mut self, progress: &impl Fn(usize, usize)) -> Result<Backfilled, LakeError> {
        let mut total = Backfilled::default();
        for _ in 0..TRIES_MAX {
            self.table.refresh().await?;
            self.table.check_rewritable()?;
            let read_version = self.table.version();
            let files = self.table.files_with(EXTRA).await?;
            let mut overtaken = false;
            total.bad = 0;
            for (done, file) in files.iter().enumerate() {
                progress(done, files.len());
                let (found, staged) = self.rewritten(file).await?;
                total.bad += found.bad;
                if found.rows == 0 {
                    continue;
                }
                if self
                    .table
                    .replace(file, &staged, read_version, OPERATION)
                    .await?
                    .is_none()
                {
                    overtaken = true;
                    continue;
                }
                total.add(Backfilled {
                    bad: 0,
                    files: 1,
                    ..found
                });
            }
            progress(files.len(), files.len());
            if !overtaken {
                return Ok(total);
            }
        }
        Err(LakeError::Unsettled {
            table: self.table.name().to_owned(),
            tries: TRIES_MAX,
            source: None,
        })
    }

    /// The file with its columns filled; stored only where there was something to fill.
    async fn rewritten(&mut self, file: &lake::DataFile) -> Result<(Backfilled, StagedFiles), LakeError> {
        let mut found = Backfilled::default();
        let mut writer = self.table.file_writer();
        let table = self.table.clone();
        let read = table.read(file, |batch| {
            let filled = self.fill(&batch, &mut found)?;
            writer.write(&filled)
        });
        read.await?;
        if found.rows == 0 {
            return Ok((found, StagedFiles::default()));
        }
        let staged = self.table.upload(writer.finish()?).await?;
        Ok((found, staged))
    }

    fn fill(&mut self, batch: &RecordBatch, found: &mut Backfilled) -> Result<RecordBatch, LakeError> {
        let unusable = |what: String| LakeError::unusable(self.table.name(), what);
        let (own_extra, part_extra) = self.extras.extra;
        let Some(extra) = batch.column(own_extra).as_string_opt::<i32>() else {
            return Err(unusable(format!("`{EXTRA}` is no text")));
        };
        found.bad += self.extras.decode(extra);
        let Some(read) = self.extras.decoder.take() else {
            return Ok(batch.clone());
        };
        let rows = read
            .column_by_name(OFFSET)
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        let rows = rows
            .ok_or_else(|| unusable("it has no offsets".to_owned()))?
            .values()
            .clone();

        // Which rows take which values; one whose column has a value already is left alone.
        let mut taken: Vec<Option<usize>> = vec![None; batch.num_rows()];
        for (from, row) in rows.iter().enumerate() {
            let row = *row as usize;
            let values = self
                .extras
                .columns
                .iter()
                .filter(|(_, part)| read.column(*part).is_valid(from));
            let (count, free) = values.fold((0, true), |(count, free), (own, _)| {
                (count + 1, free && batch.column(*own).is_null(row))
            });
            if count > 0 && free {
                taken[row] = Some(from);
                found.values += count;
                found.rows += 1;
            }
        }
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let mixed = |own: usize, part: usize, takes_nulls: bool| {
            let source = read.column(part);
            let from = |(row, from): (usize, &Option<usize>)| match from {
                Some(from) if takes_nulls || source.is_valid(*from) => (1, *from),
                _ => (0, row),
            };
            let indices: Vec<_> = taken.iter().enumerate().map(from).collect();
            interleave(&[batch.column(own), source], &indices)
                .map_err(|error| unusable(format!("a column has another type than declared: {error}")))
        };
        for (own, part) in &self.extras.columns {
            columns[*own] = mixed(*own, *part, false)?;
        }
        columns[own_extra] = mixed(own_extra, part_extra, true)?;
        RecordBatch::try_new(Arc::clone(batch.schema_ref()), columns).map_err(|error| unusable(error.to_string()))
    }
}
