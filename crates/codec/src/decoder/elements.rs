//! Messages whose elements become rows: the envelope first, then each element.
//!
//! The message counts before its elements: when it is not JSON, has no array or a bad envelope, it is one dead letter as a
//! whole. Otherwise each element is a row or a dead letter of its own.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::{Chunk, DeadLetter, OffsetElement, Record, TopicPartition};

use super::{DecodeCounts, Decoder, Reader, dead_letter, kafka_timestamp_us};
use crate::columns::Origin;
use crate::error::Fault;
use crate::error_class::ErrorClass;
use crate::layout::ElementLayout;

/// Rows, and their bytes, after which no further message is read: what the caller encodes next is still in the cache.
const ROWS_MAX: usize = 8_192;
const ROWS_BYTES_MAX: usize = 32 << 20;
/// Bytes that the envelope may add to the rows of one message: it is repeated in each of them.
const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// Bytes of dead letters that one message may become, where it cannot be one.
const LETTERS_BYTES_MAX: usize = 16 << 20;

/// Where the chunk's records come from, and when they are read.
#[derive(Clone, Copy)]
struct Source<'a> {
    topic_partition: &'a TopicPartition,
    ingested_at_us: i64,
}

impl Decoder {
    /// Each element of a record is a row. Stops early once the rows are many.
    pub(super) fn decode_messages(
        &mut self,
        first: usize,
        chunk: &Chunk,
        dead_lettered: &BTreeSet<OffsetElement>,
        ingested_at_us: i64,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> DecodeCounts {
        let source = Source {
            topic_partition: chunk.topic_partition(),
            ingested_at_us,
        };
        let mut counts = DecodeCounts::default();
        for record in chunk.iter().skip(first) {
            counts.records += 1;
            let known = known(dead_lettered, record.offset);
            if known > 0 && dead_lettered.contains(&(record.offset, None)) {
                counts.dead_lettered += known;
            } else {
                let before = (counts, dead_letters.len(), self.columns.rows());
                if let Err(fault) = self.decode_message(&record, source, dead_lettered, dead_letters, &mut counts) {
                    counts = before.0;
                    dead_letters.truncate(before.1);
                    self.columns.truncate(before.2);
                    counts.dead_lettered += known;
                    counts.dead_letters +=
                        self.dead_letter_message(&fault, &record, source, dead_lettered, dead_letters);
                }
            }
            if self.rows() >= ROWS_MAX || self.bytes() >= ROWS_BYTES_MAX {
                break;
            }
        }
        counts
    }

    /// Writes the dead letter of a whole message. Where elements of it are dead letters already, by a declaration that took
    /// the message, the others become dead letters like them: no element has two. How many it wrote.
    #[cold]
    fn dead_letter_message(
        &self,
        fault: &Fault,
        record: &Record<'_>,
        source: Source<'_>,
        dead_lettered: &BTreeSet<OffsetElement>,
        dead_letters: &mut Vec<DeadLetter>,
    ) -> usize {
        let kafka = (source.topic_partition, kafka_timestamp_us(record.timestamp_ms));
        let letter = |element| dead_letter(fault, record, element, kafka, source.ingested_at_us, &self.layout);
        let Reader::Json(reader) = &self.reader;
        let bytes = record.value.map_or(0, <[u8]>::len);
        let count = reader.count().filter(|count| count * bytes <= LETTERS_BYTES_MAX);
        let before = dead_letters.len();
        match count {
            Some(count) if known(dead_lettered, record.offset) > 0 => {
                let elements = (0..count as u32).map(Some);
                let others = elements.filter(|element| !dead_lettered.contains(&(record.offset, *element)));
                dead_letters.extend(others.map(letter));
            }
            _ => dead_letters.push(letter(None)),
        }
        dead_letters.len() - before
    }

    /// On a fault the message is bad as a whole, and what it added so far is to be taken back.
    fn decode_message(
        &mut self,
        record: &Record<'_>,
        source: Source<'_>,
        dead_lettered: &BTreeSet<OffsetElement>,
        dead_letters: &mut Vec<DeadLetter>,
        counts: &mut DecodeCounts,
    ) -> Result<(), Fault> {
        let Reader::Json(reader) = &mut self.reader;
        reader.forget();
        let value = self.value(record)?;
        let Self {
            layout,
            limits,
            reader,
            row,
            columns,
        } = self;
        let Some(elements) = &layout.elements else {
            return Ok(());
        };
        let Reader::Json(reader) = reader;
        let count = reader.read_message(value, layout, elements, row)?;
        let envelope_bytes = reader.envelope_extra_bytes() + envelope_text_bytes(elements, row);
        if envelope_bytes.saturating_mul(count) > ENVELOPE_BYTES_MAX {
            return Err(Fault::at(
                ErrorClass::TooLarge,
                0,
                "its rows would repeat more than 64 MiB of what stands beside the elements",
            ));
        }
        let kafka_timestamp_us = kafka_timestamp_us(record.timestamp_ms);
        let mut letter_bytes = 0_usize;
        for index in 0..count {
            let element = Some(index as u32);
            if !dead_lettered.is_empty() && dead_lettered.contains(&(record.offset, element)) {
                counts.dead_lettered += 1;
                continue;
            }
            match reader.read_element(value, index, layout, elements, row) {
                Ok(by_shape) => {
                    let origin = Origin {
                        partition: source.topic_partition.partition,
                        offset: record.offset,
                        element,
                        kafka_timestamp_us,
                        ingested_at_us: source.ingested_at_us,
                    };
                    columns.append(value, row, origin);
                    counts.count_row(row, by_shape);
                }
                Err(fault) => {
                    if letter_bytes > 0 && letter_bytes + value.len() > limits.element_letters_bytes_max {
                        let what = "a dead letter for each of its bad elements would hold too much";
                        return Err(Fault::at(ErrorClass::BadElements, 0, what));
                    }
                    letter_bytes += value.len();
                    let kafka = (source.topic_partition, kafka_timestamp_us);
                    dead_letters.push(dead_letter(
                        &fault,
                        record,
                        element,
                        kafka,
                        source.ingested_at_us,
                        layout,
                    ));
                    counts.dead_letters += 1;
                }
            }
        }
        Ok(())
    }
}

/// How many of this record's ids are dead letters already.
fn known(dead_lettered: &BTreeSet<OffsetElement>, offset: i64) -> usize {
    const ALL: RangeInclusive<Option<u32>> = None..=Some(u32::MAX);
    if dead_lettered.is_empty() {
        return 0;
    }
    let all = (offset, *ALL.start())..=(offset, *ALL.end());
    dead_lettered.range(all).count()
}

fn envelope_text_bytes(elements: &ElementLayout, row: &crate::row::Row) -> usize {
    let fields = elements.envelope.iter();
    fields.map(|field| row.values[*field as usize].text_bytes()).sum()
}
