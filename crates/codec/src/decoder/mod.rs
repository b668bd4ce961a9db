//! A chunk's records, one after the other: each becomes a row or a dead letter. In a stream with elements each element
//! does ([`elements`]).

mod elements;

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use model::{Chunk, DeadLetter, Format, OffsetElement, Record, Stream, TopicPartition};

use crate::columns::{Columns, Origin};
use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::json::JsonReader;
use crate::layout::Layout;
use crate::row::Row;

/// Turns the records of one stream into record batches. One for each stream and worker: it learns how the producers
/// write and reuses its memory.
#[derive(Debug)]
pub struct Decoder {
    layout: Layout,
    limits: DecodeLimits,
    reader: Reader,
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
    /// Raw bytes that the dead letters of one message's elements may hold together, as each holds the whole message. Beyond
    /// it the message is one dead letter. One element is always a dead letter of its own.
    pub element_letters_bytes_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            record_bytes_max: 1 << 20,
            shapes_max: 4,
            element_letters_bytes_max: 256 << 10,
        }
    }
}

/// What became of a chunk's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeCounts {
    /// Kafka records gone through.
    pub records: usize,
    /// Rows appended.
    pub rows: usize,
    /// Dead letters written.
    pub dead_letters: usize,
    /// Records and elements left out because they were dead letters before.
    pub dead_lettered: usize,
    /// Values of rows that no one declared; they are in `_extra`.
    pub extra_fields: usize,
    /// Rows with such values.
    pub rows_with_extra: usize,
    /// Records, or elements, read by a remembered shape; the others took the general path.
    pub by_shape: usize,
}

impl DecodeCounts {
    /// What the records are now or were before: rows and dead letters. As many as records in a stream without elements.
    pub fn elements(&self) -> usize {
        self.rows + self.dead_letters + self.dead_lettered
    }

    pub fn add(&mut self, other: DecodeCounts) {
        self.records += other.records;
        self.rows += other.rows;
        self.dead_letters += other.dead_letters;
        self.dead_lettered += other.dead_lettered;
        self.extra_fields += other.extra_fields;
        self.rows_with_extra += other.rows_with_extra;
        self.by_shape += other.by_shape;
    }
}

/// The stream's format. One branch per record, which the processor foretells; no dynamic call.
#[derive(Debug)]
enum Reader {
    Json(JsonReader),
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
        let reader = match stream.format {
            Format::Json => Reader::Json(JsonReader::new(&layout, limits.shapes_max)),
        };
        Self {
            reader,
            row: Row::new(&layout),
            layout,
            limits: DecodeLimits {
                record_bytes_max: limits.record_bytes_max.min(BYTES_MAX),
                ..limits
            },
            columns: Columns::new(stream),
        }
    }

    /// Decodes a chunk: good records become rows, bad ones dead letters, and those among `dead_lettered` neither.
    /// `ingested_at_us` is the present time.
    ///
    /// # Panics
    /// When the rows so far and the chunk exceed 1 GiB: [`Self::take`] them before. In a stream with elements, when the
    /// chunk makes more rows than [`Self::decode_from`] makes in one go.
    pub fn decode(
        &mut self,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        ingested_at_us: i64,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> DecodeCounts {
        let counts = self.decode_from(0, chunk, dead_lettered, ingested_at_us, dead_letters);
        assert_eq!(counts.records, chunk.len(), "more rows than one call makes");
        counts
    }

    /// As [`Self::decode`], from the chunk's record at `first` on. In a stream with elements, where few bytes can make many
    /// rows, it stops once they are many ([`DecodeCounts::records`] says how far it came): [`Self::take`] them, and call
    /// again for the rest.
    pub fn decode_from(
        &mut self,
        first: usize,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        ingested_at_us: i64,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> DecodeCounts {
        assert!(
            self.bytes() + chunk.bytes() <= BYTES_MAX,
            "take() the rows before they exceed {BYTES_MAX} bytes"
        );
        self.columns.begin(&chunk.topic_partition().topic);
        match self.layout.elements {
            None => self.decode_records(first, chunk, dead_lettered, ingested_at_us, dead_letters),
            Some(_) => self.decode_messages(first, chunk, dead_lettered, ingested_at_us, dead_letters),
        }
    }

    /// Each record is a row.
    fn decode_records(
        &mut self,
        first: usize,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        ingested_at_us: i64,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> DecodeCounts {
        let topic_partition = chunk.topic_partition();
        let mut counts = DecodeCounts::default();
        for record in chunk.iter().skip(first) {
            counts.records += 1;
            if !dead_lettered.is_empty() && dead_lettered.contains(&(record.offset, None)) {
                counts.dead_lettered += 1;
                continue;
            }
            let kafka_timestamp_us = kafka_timestamp_us(record.timestamp_ms);
            let value = record.value.unwrap_or_default();
            match self.read(&record) {
                Ok(by_shape) => {
                    let origin = Origin {
                        partition: topic_partition.partition,
                        offset: record.offset,
                        element: None,
                        kafka_timestamp_us,
                        ingested_at_us,
                    };
                    self.columns.append(value, &self.row, origin);
                    counts.count_row(&self.row, by_shape);
                }
                Err(fault) => {
                    let kafka = (topic_partition, kafka_timestamp_us);
                    dead_letters.push(dead_letter(&fault, &record, None, kafka, ingested_at_us, &self.layout));
                    counts.dead_letters += 1;
                }
            }
        }
        counts
    }

    /// The record's value, if it is worth reading.
    #[inline]
    fn value<'a>(&self, record: &Record<'a>) -> Result<&'a [u8], Fault> {
        match record.value {
            None => Err(Fault::at(ErrorClass::NullValue, 0, "null value (tombstone)")),
            Some(value) if value.len() > self.limits.record_bytes_max => {
                Err(Fault::at(ErrorClass::TooLarge, 0, "longer than the limit for a record"))
            }
            Some(value) => Ok(value),
        }
    }

    /// Reads and validates a record into `row`; whether it was by a remembered shape.
    #[inline]
    fn read(&mut self, record: &Record<'_>) -> Result<bool, Fault> {
        let value = self.value(record)?;
        match &mut self.reader {
            Reader::Json(json) => json.read(value, &self.layout, &mut self.row),
        }
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

impl DecodeCounts {
    #[inline]
    fn count_row(&mut self, row: &Row, by_shape: bool) {
        self.rows += 1;
        self.by_shape += usize::from(by_shape);
        self.extra_fields += row.extra_fields;
        self.rows_with_extra += usize::from(row.extra_fields > 0);
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
fn dead_letter(
    fault: &Fault,
    record: &Record<'_>,
    element: Option<u32>,
    (topic_partition, kafka_timestamp_us): (&TopicPartition, Option<i64>),
    ingested_at_us: i64,
    layout: &Layout,
) -> DeadLetter {
    DeadLetter {
        topic_partition: topic_partition.clone(),
        offset: record.offset,
        element,
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
