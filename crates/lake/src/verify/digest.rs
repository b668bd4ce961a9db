//! Sums over rows, by which a table is compared with its topic without keeping either: rows of a block of offsets are
//! hashed one by one and added up, so that the order they are read in does not matter.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use model::{DeadLetter, EVENT_DATE, INGESTED_AT, TOPIC};

use super::nested;
use super::places::{Kind, Place, Places};

/// Offsets that share one sum: 32 bytes for each block, 80 MB for ten billion rows.
pub const BLOCK_OFFSETS: i64 = 4096;

/// What a block of offsets holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    pub rows: u32,
    pub letters: u32,
    sums: [u64; 2],
}

impl Block {
    fn add(&mut self, offset: i64, hash: u64) {
        // Two sums with different weights, so that swapped values do not cancel each other.
        let spread = (hash ^ (offset as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.sums[0] = self.sums[0].wrapping_add(hash.rotate_left(17) ^ offset as u64);
        self.sums[1] = self.sums[1].wrapping_add(spread ^ (spread >> 29));
    }
}

/// The blocks of one partition, by the first offset of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    blocks: BTreeMap<i64, Block>,
}

impl Digest {
    pub fn row(&mut self, offset: i64, hash: u64) {
        let block = self.block(offset);
        block.rows += 1;
        block.add(offset, hash);
    }

    /// `hash` is of the whole message, so the element is told apart here.
    pub fn letter(&mut self, offset: i64, element: Option<u32>, hash: u64) {
        let block = self.block(offset);
        block.letters += 1;
        let element = element.map_or(0, |element| {
            (u64::from(element) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        // A dead letter is no row of the same hash.
        block.add(offset, !hash ^ element);
    }

    /// Adds the sums of other rows and letters of the same partition.
    pub fn merge(&mut self, other: &Digest) {
        for (first, other) in &other.blocks {
            let block = self.blocks.entry(*first).or_default();
            block.rows += other.rows;
            block.letters += other.letters;
            for (sum, other) in block.sums.iter_mut().zip(other.sums) {
                *sum = sum.wrapping_add(other);
            }
        }
    }

    fn block(&mut self, offset: i64) -> &mut Block {
        self.blocks
            .entry(offset.div_euclid(BLOCK_OFFSETS) * BLOCK_OFFSETS)
            .or_default()
    }

    /// First offsets of the blocks that are not the same in both, in order.
    pub fn differences(&self, other: &Digest) -> Vec<i64> {
        let all: std::collections::BTreeSet<i64> = self.blocks.keys().chain(other.blocks.keys()).copied().collect();
        all.into_iter()
            .filter(|first| self.blocks.get(first) != other.blocks.get(first))
            .collect()
    }
}

/// One column of a batch, ready to be hashed row by row.
enum Values<'a> {
    Int(&'a arrow_array::Int32Array),
    Long(&'a arrow_array::Int64Array),
    Double(&'a arrow_array::Float64Array),
    Date(&'a arrow_array::Date32Array),
    Instant(&'a arrow_array::TimestampMicrosecondArray),
    Text(&'a arrow_array::StringArray),
    Boolean(&'a arrow_array::BooleanArray),
    /// Of any other type that declarations know.
    Other(&'a ArrayRef),
}

impl<'a> Values<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        Some(match array.data_type() {
            DataType::Int32 => Values::Int(array.as_primitive::<Int32Type>()),
            DataType::Int64 => Values::Long(array.as_primitive::<Int64Type>()),
            DataType::Float64 => Values::Double(array.as_primitive::<Float64Type>()),
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Values::Instant(array.as_primitive::<TimestampMicrosecondType>())
            }
            DataType::Utf8 => Values::Text(array.as_string::<i32>()),
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            other if nested::is_known(other) => Values::Other(array),
            _ => return None,
        })
    }

    /// A null adds nothing: a file from before the column was declared says the same as one with nulls.
    fn hash(&self, name: &str, row: usize, to: &mut DefaultHasher) {
        macro_rules! hash {
            ($values:expr, $value:expr) => {
                if $values.is_valid(row) {
                    (name, $value).hash(to);
                }
            };
        }
        match self {
            Values::Int(values) => hash!(values, values.value(row)),
            Values::Long(values) => hash!(values, values.value(row)),
            Values::Double(values) => hash!(values, values.value(row).to_bits()),
            Values::Date(values) => hash!(values, values.value(row)),
            Values::Instant(values) => hash!(values, values.value(row)),
            Values::Text(values) => hash!(values, values.value(row)),
            Values::Boolean(values) => hash!(values, values.value(row)),
            Values::Other(values) if values.is_valid(row) => {
                name.hash(to);
                nested::hash_value(values, row, to);
            }
            Values::Other(_) => {}
        }
    }
}

/// A row's identity, but for its topic, and the hash of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowHash {
    pub partition: i32,
    pub offset: i64,
    pub element: Option<u32>,
    pub hash: u64,
    /// By column, when that was asked; for telling which one differs.
    pub columns: Vec<(String, u64)>,
}

/// Columns that are not compared: when it was read, the day, which is no column of a file, and the topic, which older
/// rows do not name.
const NOT_COMPARED: [&str; 3] = [INGESTED_AT, EVENT_DATE, TOPIC];

/// The columns that are compared, by name: all that the record makes.
fn compared(batch: &RecordBatch) -> Vec<(String, Values<'_>)> {
    let schema = batch.schema();
    let all = schema.fields().iter().zip(batch.columns());
    let mut columns: Vec<_> = all
        .filter(|(field, _)| !NOT_COMPARED.contains(&field.name().as_str()))
        .filter_map(|(field, array)| Some((field.name().clone(), Values::of(array)?)))
        .collect();
    columns.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    columns
}

/// Hashes each row of a stream's batch; `each` gets them in order. `by_column` also tells the columns apart, which costs
/// memory. A batch without the identity of its rows gives nothing.
pub fn hash_rows(batch: &RecordBatch, by_column: bool, mut each: impl FnMut(RowHash)) {
    hash_places(batch, by_column, |_, row| each(row));
}

/// The same, with each row's identity.
pub(super) fn hash_places(batch: &RecordBatch, by_column: bool, mut each: impl FnMut(Place<'_>, RowHash)) {
    let Some(places) = Places::of(batch, Kind::Rows) else {
        return;
    };
    let columns = compared(batch);
    for (row, place) in places.iter().enumerate() {
        let mut all = DefaultHasher::new();
        let mut each_column = Vec::new();
        for (name, column) in &columns {
            if by_column {
                let mut one = DefaultHasher::new();
                column.hash(name, row, &mut one);
                each_column.push((name.clone(), one.finish()));
            }
            column.hash(name, row, &mut all);
        }
        let row = RowHash {
            partition: place.partition,
            offset: place.offset,
            element: place.element,
            hash: all.finish(),
            columns: each_column,
        };
        each(place, row);
    }
}

/// The identity of each dead letter of a batch, and the hash of its message.
pub(super) fn each_dead_letter(batch: &RecordBatch, mut each: impl FnMut(Place<'_>, u64)) {
    let raw = |name: &str| batch.column_by_name(name)?.as_binary_opt::<i32>();
    let (Some(places), Some(keys), Some(values)) = (Places::of(batch, Kind::DeadLetters), raw("key"), raw("value"))
    else {
        return;
    };
    for (row, place) in places.iter().enumerate() {
        let key = keys.is_valid(row).then(|| keys.value(row));
        let value = values.is_valid(row).then(|| values.value(row));
        each(place, hash_letter(key, value));
    }
}

/// The raw parts of a dead letter's message: what a replay would read.
pub fn hash_letter(key: Option<&[u8]>, value: Option<&[u8]>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}

/// The same of a dead letter that was just made.
pub fn hash_dead_letter(letter: &DeadLetter) -> u64 {
    hash_letter(letter.key.as_deref(), letter.value.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_everything_else_does() {
        let rows = [(5, 50), (6, 60), (7, 70)];
        let digest = |rows: &[(i64, u64)]| {
            let mut digest = Digest::default();
            rows.iter().for_each(|(offset, hash)| digest.row(*offset, *hash));
            digest
        };
        let one = digest(&rows);
        assert_eq!(one, digest(&[rows[2], rows[0], rows[1]]));
        for other in [
            &[(5, 50), (6, 60)][..],
            &[(5, 50), (6, 60), (7, 71)],
            &[(5, 60), (6, 50), (7, 70)],
            &[(5, 50), (6, 60), (8, 70)],
        ] {
            assert_eq!(one.differences(&digest(other)), [0], "{other:?}");
        }
        let mut letter = digest(&rows[..2]);
        letter.letter(7, None, 70);
        assert_eq!(one.differences(&letter), [0]);
        let elements = |of: [u32; 2]| {
            let mut digest = Digest::default();
            of.iter().for_each(|element| digest.letter(5, Some(*element), 70));
            digest
        };
        assert_eq!(elements([0, 1]), elements([1, 0]));
        assert_eq!(elements([0, 1]).differences(&elements([0, 2])), [0]);
        let mut later = one.clone();
        later.row(BLOCK_OFFSETS + 1, 1);
        assert_eq!(one.differences(&later), [BLOCK_OFFSETS]);
    }
}
