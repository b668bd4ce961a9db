//! Fields that arrived before they were declared: out of `_extra` into their columns.
//!
//! What is in `_extra` is read as the message would be today, by a declaration whose fields may all be null, so a value
//! becomes what its record would become if it came again. In a stream with elements a row's text holds that row's element
//! alone, so rows are filled one by one there too. A row with a value that its column does not take stays as it
//! is. A value whose column has one already, from a better place of the field, stays in `_extra`, and the row's other
//! values are moved. A file at a time is replaced by one with the same rows; when it ends in between, the next run finds the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_select::interleave::interleave;
use codec::Decoder;
use lake::{LakeError, StagedFiles, Table};
use model::{ChunkBuilder, EXTRA, OFFSET, Stream, TopicPartition};

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
    let mut extras = Extras::new(stream, &[])?;
    let extra = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
    let bad = extras.decode(extra.ok_or_else(|| format!("`{EXTRA}` is no text"))?, None);
    let mut found = Backfilled {
        bad,
        ..Backfilled::default()
    };
    let Some(read) = extras.decoder.take() else {
        return Ok(found);
    };
    for row in 0..read.num_rows() {
        // A field that every row has has its value already.
        let count = extras
            .columns
            .iter()
            .filter(|(own, part)| stream.fields[*own].nullable && read.column(*part).is_valid(row))
            .count() as u64;
        found.values += count;
        found.rows += u64::from(count > 0);
    }
    Ok(found)
}

/// Fills one stream's columns from its `_extra`.
pub struct Backfill {
    table: Table,
    stream: Stream,
    extras: Extras,
}

/// Reads what `_extra` holds by a stream's declaration.
struct Extras {
    /// Columns that may be filled: position in the table's schema, where declared fields come first, and in the decoder's.
    columns: Vec<(usize, usize)>,
    extra: (usize, usize),
    decoder: Decoder,
    topic_partition: TopicPartition,
}

impl Extras {
    /// `without`: fields, by position, that are read as if no one had declared them.
    fn new(stream: &Stream, without: &[usize]) -> Result<Self, String> {
        let mut declared = stream.clone();
        let mut number = 0..;
        declared
            .fields
            .retain(|_| number.next().is_none_or(|field| !without.contains(&field)));
        let part = declared.with_nullable_fields()?;
        let (of_table, of_part) = (stream.arrow_schema(), part.arrow_schema());
        let position = |name: &str| {
            let both = of_table
                .index_of(name)
                .and_then(|table| Ok((table, of_part.index_of(name)?)));
            both.map_err(|error| error.to_string())
        };
        Ok(Self {
            columns: part
                .fields
                .iter()
                .map(|field| position(&field.name))
                .collect::<Result<_, _>>()?,
            extra: position(EXTRA)?,
            decoder: Decoder::new(&part),
            topic_partition: TopicPartition::new(EXTRA, 0),
        })
    }

    /// Leaves rows in the decoder whose offset is the position in `extra`; how many were bad. `rows`: those alone.
    fn decode(&mut self, extra: &StringArray, rows: Option<&[usize]>) -> u64 {
        let mut chunk = ChunkBuilder::new(self.topic_partition.clone(), 0);
        let all: Vec<usize>;
        let rows = match rows {
            Some(rows) => rows,
            None => {
                all = (0..extra.len()).collect();
                &all
            }
        };
        for row in rows.iter().filter(|row| extra.is_valid(**row)) {
            chunk.push(*row as i64, -1, None, Some(extra.value(*row).as_bytes()), []);
        }
        let mut bad = Vec::new();
        let chunk = chunk.finish(extra.len() as i64);
        self.decoder.decode(&chunk, &BTreeSet::new(), 0, &mut bad);
        bad.len() as u64
    }

    /// The decoded rows, if there are any, and the offset of each.
    fn take(&mut self) -> Option<(RecordBatch, Vec<usize>)> {
        let read = self.decoder.take()?;
        let offsets = read.column_by_name(OFFSET)?.as_primitive_opt::<Int64Type>()?;
        let rows = offsets.values().iter().map(|row| *row as usize).collect();
        Some((read, rows))
    }
}

impl Backfill {
    /// # Errors
    /// A field of the declaration stands in the way, in words.
    pub fn new(table: Table, stream: &Stream) -> Result<Self, String> {
        Ok(Self {
            table,
            extras: Extras::new(stream, &[])?,
            stream: stream.clone(),
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
        let table = self.table.clone();
        let unusable = |what: String| LakeError::unusable(table.name(), what);
        let Some(extra) = batch.column(self.extras.extra.0).as_string_opt::<i32>() else {
            return Err(unusable(format!("`{EXTRA}` is no text")));
        };
        found.bad += self.extras.decode(extra, None);
        let Some((read, rows)) = self.extras.take() else {
            return Ok(batch.clone());
        };
        // Rows with values whose columns have one already, by these columns: read once more, without those fields.
        let mut occupied: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        let mut taken = vec![None; batch.num_rows()];
        for (from, row) in rows.iter().enumerate() {
            let values = self
                .extras
                .columns
                .iter()
                .filter(|(_, part)| read.column(*part).is_valid(from));
            let full: Vec<usize> = values
                .map(|(own, _)| *own)
                .filter(|own| batch.column(*own).is_valid(*row))
                .collect();
            match full.is_empty() {
                true => taken[*row] = Some(from),
                false => occupied.entry(full).or_default().push(*row),
            }
        }
        let mut filled = self.extras.move_values(batch, &read, taken, found).map_err(unusable)?;
        for (without, rows) in occupied {
            let mut extras = Extras::new(&self.stream, &without).map_err(unusable)?;
            found.bad += extras.decode(extra, Some(&rows));
            if let Some((read, rows)) = extras.take() {
                let mut taken = vec![None; batch.num_rows()];
                rows.iter().enumerate().for_each(|(from, row)| taken[*row] = Some(from));
                filled = extras.move_values(&filled, &read, taken, found).map_err(unusable)?;
            }
        }
        Ok(filled)
    }
}

impl Extras {
    /// A batch with values of `read` in their columns and the rest in `_extra`; `taken` says for each row of the batch
    /// which one of `read` it is to take, if any.
    fn move_values(
        &self,
        batch: &RecordBatch,
        read: &RecordBatch,
        mut taken: Vec<Option<usize>>,
        found: &mut Backfilled,
    ) -> Result<RecordBatch, String> {
        for from in &mut taken {
            let count = from.map_or(0, |from| {
                let values = self
                    .columns
                    .iter()
                    .filter(|(_, part)| read.column(*part).is_valid(from));
                values.count() as u64
            });
            found.values += count;
            found.rows += u64::from(count > 0);
            *from = from.filter(|_| count > 0);
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
                .map_err(|error| format!("a column has another type than declared: {error}"))
        };
        for (own, part) in &self.columns {
            // Not one that every row has: it is read as another type, to be left where it is.
            if columns[*own].data_type() == read.column(*part).data_type() {
                columns[*own] = mixed(*own, *part, false)?;
            }
        }
        let (own, part) = self.extra;
        columns[own] = mixed(own, part, true)?;
        RecordBatch::try_new(Arc::clone(batch.schema_ref()), columns).map_err(|error| error.to_string())
    }
}
