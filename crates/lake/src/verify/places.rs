//! Where the rows of a batch or a file come from: partition and offset, and of a letter its topic.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};

use super::digest::hash_letter;

/// What a file's rows are, as far as the later passes need it.
#[derive(Debug, Default, Clone)]
pub(super) struct Summary {
    pub(super) rows: u64,
    /// By topic (empty in a stream's table) and partition: least offset, greatest, rows.
    pub(super) places: BTreeMap<(String, i32), (i64, i64, u64)>,
}

impl Summary {
    pub(super) fn add(&mut self, topic: &str, partition: i32, offset: i64) {
        match self.places.get_mut(&(topic.to_owned(), partition)) {
            Some((least, greatest, rows)) => {
                *least = offset.min(*least);
                *greatest = offset.max(*greatest);
                *rows += 1;
            }
            None => {
                self.places.insert((topic.to_owned(), partition), (offset, offset, 1));
            }
        }
    }
}

pub(super) fn each_place(batch: &RecordBatch, partition: &str, offset: &str, mut each: impl FnMut(i32, i64)) {
    let partitions = batch
        .column_by_name(partition)
        .and_then(|column| column.as_primitive_opt::<Int32Type>());
    let offsets = batch
        .column_by_name(offset)
        .and_then(|column| column.as_primitive_opt::<Int64Type>());
    if let (Some(partitions), Some(offsets)) = (partitions, offsets) {
        let places = partitions.values().iter().zip(offsets.values());
        places.for_each(|(partition, offset)| each(*partition, *offset));
    }
}

pub(super) fn each_topic_place(
    batch: &RecordBatch,
    partition: &str,
    offset: &str,
    mut each: impl FnMut(&str, i32, i64),
) {
    let Some(topics) = batch
        .column_by_name("topic")
        .and_then(|column| column.as_string_opt::<i32>())
    else {
        return;
    };
    let mut row = 0;
    each_place(batch, partition, offset, |partition, offset| {
        each(topics.value(row), partition, offset);
        row += 1;
    });
}

pub(super) fn each_letter(batch: &RecordBatch, mut each: impl FnMut(&str, i32, i64, Option<u32>, u64)) {
    let raw = |name: &str| Some(batch.column_by_name(name)?.as_binary_opt::<i32>()?.clone());
    let (Some(keys), Some(values)) = (raw("key"), raw("value")) else {
        return;
    };
    let elements = batch
        .column_by_name("element")
        .and_then(|column| column.as_primitive_opt::<Int32Type>());
    let mut row = 0;
    each_topic_place(batch, "partition", "offset", |topic, partition, offset| {
        let element = elements.filter(|elements| elements.is_valid(row));
        let element = element.map(|elements| elements.value(row) as u32);
        let key = keys.is_valid(row).then(|| keys.value(row));
        let value = values.is_valid(row).then(|| values.value(row));
        each(topic, partition, offset, element, hash_letter(key, value));
        row += 1;
    });
}
