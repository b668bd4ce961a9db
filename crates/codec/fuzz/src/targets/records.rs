//! Target `decode`: any bytes as records of some stream.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use model::{ChunkBuilder, DeadLetter, EXTRA, OFFSET, Stream, TopicPartition};
use serde::de::IgnoredAny;

use super::oracle::{Fate, check};
use codec::{DecodeCounts, DecodeLimits, Decoder};

/// The first byte that chooses the stream with elements.
const WITH_ELEMENTS: u8 = b'[';
/// The one that chooses the stream of all types.
const ALL_TYPES: u8 = b'{';

/// An input's records, edited ones included; a longer input would only be a slower one.
const RECORDS_MAX: usize = 64;

/// The first byte chooses the stream, every further line is a record. A line `~`, two bytes, text is the record before
/// it with some bytes replaced: the bytes say where (in 256ths) and how many. So a small input holds many records of one
/// shape, and every kind of small difference between them.
///
/// Whatever the bytes are: each record becomes one row or one letter, the planned path validates as the general one does,
/// and `serde_json` agrees.
pub fn decode(input: &[u8]) {
    let Some((choice, lines)) = input.split_first() else {
        return;
    };
    let streams = streams();
    let stream = match *choice {
        WITH_ELEMENTS => with_elements(),
        ALL_TYPES => all_types(),
        choice => &streams[choice as usize % streams.len()],
    };
    let once = records(lines);
    // A shape is learned from the first pass at the latest.
    let records = [once.as_slice(), once.as_slice()].concat();
    let general = run(stream, 0, &records);
    for shapes_max in [1, 4] {
        let planned = run(stream, shapes_max, &records);
        assert_eq!(planned.letters, general.letters);
        assert_eq!(planned.batch, general.batch);
        assert_eq!(
            DecodeCounts {
                by_shape: 0,
                ..planned.counts
            },
            general.counts
        );
    }
    if stream.elements.is_none() {
        general.check(stream, &once);
    }
}

/// One whose messages have elements. Their oracle is a property test of `codec`.
fn with_elements() -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| {
        let text = include_str!("../../seeds/declaration/elements");
        Stream::parse("stream.toml", text).expect("a declaration of ours")
    })
}

/// One with the types that the others lack. What they become is told by examples; here both paths must agree.
fn all_types() -> &'static Stream {
    static STREAM: OnceLock<Stream> = OnceLock::new();
    STREAM.get_or_init(|| {
        let text = include_str!("../../seeds/declaration/types");
        Stream::parse("stream.toml", text).expect("a declaration of ours")
    })
}

/// The real streams, and one with every type, rule and kind of place.
fn streams() -> &'static [Stream] {
    static STREAMS: OnceLock<Vec<Stream>> = OnceLock::new();
    STREAMS.get_or_init(|| {
        [
            include_str!("../../../../../streams/emergency_data.toml"),
            include_str!("../../../../../streams/gps_data.toml"),
            include_str!("../../../../../streams/traffic_data.toml"),
            include_str!("../../../../../streams/vehicle_data.toml"),
            include_str!("../../../../../streams/weather_data.toml"),
            include_str!("../../seeds/declaration/everything"),
        ]
        .map(|text| Stream::parse("stream.toml", text).expect("a declaration of ours"))
        .into()
    })
}

fn records(lines: &[u8]) -> Vec<Vec<u8>> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').take(RECORDS_MAX) {
        let record = match (line, records.last()) {
            ([b'~', at, len, text @ ..], Some(before)) => {
                let from = before.len() * usize::from(*at) / 256;
                let to = (from + usize::from(*len)).min(before.len());
                [&before[..from], text, &before[to..]].concat()
            }
            _ => line.to_vec(),
        };
        records.push(record);
    }
    records
}

struct Decoded {
    batch: Option<RecordBatch>,
    letters: Vec<DeadLetter>,
    counts: DecodeCounts,
}

fn run(stream: &Stream, shapes_max: usize, records: &[Vec<u8>]) -> Decoded {
    let mut builder = ChunkBuilder::new(TopicPartition::new("t", 0), 0);
    for (offset, record) in (0..).zip(records) {
        builder.push(offset, 0, None, Some(record), []);
    }
    let limits = DecodeLimits {
        shapes_max,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::with_limits(stream, limits);
    let mut letters = Vec::new();
    let chunk = builder.finish(records.len() as i64);
    let counts = decoder.decode(&chunk, &BTreeSet::new(), 0, &mut letters);
    Decoded {
        batch: decoder.take(),
        letters,
        counts,
    }
}

impl Decoded {
    /// Each record's fate, against the record itself; `records` may be the first of those decoded.
    fn check(&self, stream: &Stream, records: &[Vec<u8>]) {
        let no_offsets: &[i64] = &[];
        let offsets = self
            .batch
            .as_ref()
            .map_or(no_offsets, |batch| batch[OFFSET].as_primitive::<Int64Type>().values());
        let (mut rows, mut letters) = (0, self.letters.iter().peekable());
        for (offset, record) in (0..).zip(records) {
            let fate = match letters.next_if(|letter| letter.offset == offset) {
                Some(letter) => Fate::Letter(letter.error_class),
                None => {
                    assert_eq!(offsets.get(rows), Some(&offset), "neither row nor letter");
                    rows += 1;
                    let batch = self.batch.as_ref().expect("it has this row");
                    check_extra(batch, rows - 1);
                    Fate::Row(batch, rows - 1)
                }
            };
            check(stream, record, fate);
        }
        assert_eq!(self.counts.rows, offsets.len());
        assert_eq!(self.counts.dead_letters, self.letters.len());
    }
}

/// What no one declared is JSON again.
fn check_extra(batch: &RecordBatch, row: usize) {
    let extra = batch[EXTRA].as_string::<i32>();
    if !extra.is_null(row) {
        let text = extra.value(row);
        assert!(
            text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok(),
            "{text}"
        );
    }
}
