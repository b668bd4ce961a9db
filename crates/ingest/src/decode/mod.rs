//! Records to columns: each record of a chunk becomes one whole row or one dead letter, never half of either.
//!
//! A record is read into slots ([`scan`] for any record, [`shape`] for one that looks like those before it), judged into
//! values ([`judge`]) and only then appended ([`columns`]). `docs/design/decoding.md` lists what becomes of every kind
//! of bad record.

mod columns;
mod error;
mod judge;
mod layout;
mod number;
mod parser;
mod scan;
mod shape;

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use model::{Chunk, DeadLetter, Record, Stream, TopicPartition};

use columns::{Columns, Origin};
pub use error::ErrorClass;
use error::Fault;
use judge::{Row, judge};
use layout::Layout;
pub use parser::NESTING_MAX;
use scan::Scan;
use shape::Shapes;

/// Turns the records of one stream into record batches. One for each stream and worker: it learns how the producers
/// write and reuses its memory.
#[derive(Debug)]
pub struct Decoder {
    layout: Layout,
    limits: DecodeLimits,
    shapes: Shapes,
    scan: Scan,
    row: Row,
    columns: Columns,
}

/// Bounds on what a decoder takes and remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Longest record in bytes; a longer one is a dead letter. At most 1 GiB.
    pub record_bytes_max: usize,
    /// Ways of writing a record that are remembered at a time; 0 sends every record down the general path.
    pub shapes_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            record_bytes_max: 1 << 20,
            shapes_max: 4,
        }
    }
}

/// What became of a chunk's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeCounts {
    /// Rows appended.
    pub rows: usize,
    /// Letters written.
    pub letters: usize,
    /// Records left out because they were dead before.
    pub already_dead: usize,
    /// Values of rows that no one declared; they are in `_extra`.
    pub extra_fields: usize,
    /// Rows with such values.
    pub rows_with_extra: usize,
    /// Records read by a remembered shape; the others took the general path.
    pub by_shape: usize,
}

/// The most that a decoder holds between two calls of [`Decoder::take`], in bytes: half of what the offsets of an Arrow
/// text column can address, as an array with gaps can grow a little on its way into `_extra`.
const BYTES_MAX: usize = 1 << 30;

impl Decoder {
    pub fn new(stream: &Stream) -> Self {
        Self::with_limits(stream, DecodeLimits::default())
    }

    pub fn with_limits(stream: &Stream, limits: DecodeLimits) -> Self {
        let layout = Layout::new(stream);
        Self {
            scan: Scan::new(&layout),
            row: Row::new(&layout),
            layout,
            limits: DecodeLimits {
                record_bytes_max: limits.record_bytes_max.min(BYTES_MAX),
                ..limits
            },
            shapes: Shapes::new(limits.shapes_max),
            columns: Columns::new(stream),
        }
    }

    /// Decodes a chunk: good records become rows, bad ones letters, and those at the offsets `already_dead` neither.
    /// `ingested_at_us` is the present time.
    ///
    /// # Panics
    /// When the rows so far and the chunk exceed 1 GiB: [`Self::take`] them before.
    pub fn decode(
        &mut self,
        chunk: &Chunk,
        already_dead: &BTreeSet<i64>,
        ingested_at_us: i64,
        letters: &mut Vec<DeadLetter>,
    ) -> DecodeCounts {
        assert!(
            self.bytes() + chunk.bytes() <= BYTES_MAX,
            "take() the rows before they exceed {BYTES_MAX} bytes"
        );
        let topic_partition = chunk.topic_partition();
        let mut counts = DecodeCounts::default();
        for record in chunk.iter() {
            if !already_dead.is_empty() && already_dead.contains(&record.offset) {
                counts.already_dead += 1;
                continue;
            }
            let kafka_timestamp_us = kafka_timestamp_us(record.timestamp_ms);
            let value = record.value.unwrap_or_default();
            match self.read(&record, &mut counts) {
                Ok(()) => {
                    let origin = Origin {
                        partition: topic_partition.partition,
                        offset: record.offset,
                        kafka_timestamp_us,
                        ingested_at_us,
                    };
                    self.columns.append(value, &self.row, &self.scan.extra, origin);
                    counts.rows += 1;
                    counts.extra_fields += self.scan.extra_fields;
                    counts.rows_with_extra += usize::from(self.scan.extra_fields > 0);
                }
                Err(fault) => {
                    let kafka = (topic_partition, kafka_timestamp_us);
                    letters.push(letter(&fault, &record, kafka, ingested_at_us, &self.layout));
                    counts.letters += 1;
                }
            }
        }
        counts
    }

    /// Reads and judges a record into `scan` and `row`.
    fn read(&mut self, record: &Record<'_>, counts: &mut DecodeCounts) -> Result<(), Fault> {
        let Some(value) = record.value else {
            return Err(Fault::at(ErrorClass::NullValue, 0, "null value (tombstone)"));
        };
        if value.len() > self.limits.record_bytes_max {
            return Err(Fault::at(ErrorClass::TooLarge, 0, "longer than the limit for a record"));
        }
        if self.shapes.read(value, &self.layout, &mut self.scan, &mut self.row) {
            counts.by_shape += 1;
            return Ok(());
        }
        self.scan.read(value, &self.layout)?;
        judge(value, &self.scan.slots, &self.layout, &mut self.row)?;
        self.shapes.learn(value, &self.layout, &self.scan);
        Ok(())
    }

    /// Rows since the last [`Self::take`].
    pub fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// Bytes that these rows take in memory.
    pub fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// The rows so far, by [`Stream::arrow_schema`], in the order they were decoded; `None` when there are none.
    pub fn take(&mut self) -> Option<RecordBatch> {
        self.columns.take()
    }
}

/// Milliseconds to microseconds. Kafka takes any number from a producer; -1 means none, and what lies outside the years
/// 1970 to 9999 is none either.
fn kafka_timestamp_us(timestamp_ms: i64) -> Option<i64> {
    (0..253_402_300_800_000)
        .contains(&timestamp_ms)
        .then(|| timestamp_ms * 1000)
}

#[cold]
fn letter(
    fault: &Fault,
    record: &Record<'_>,
    (topic_partition, kafka_timestamp_us): (&TopicPartition, Option<i64>),
    ingested_at_us: i64,
    layout: &Layout,
) -> DeadLetter {
    DeadLetter {
        topic_partition: topic_partition.clone(),
        offset: record.offset,
        kafka_timestamp_us,
        ingested_at_us,
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: record
            .headers()
            .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
            .collect(),
        stage: fault.class.stage(),
        error_class: fault.class.as_str(),
        error: fault.text(record.value.unwrap_or_default(), layout),
        field: fault.field.map(|field| layout.fields[field as usize].name.clone()),
    }
}
