//! Which record a row or a dead letter is: topic, partition, offset and element, out of the columns that say so.

use arrow_array::cast::AsArray;
use arrow_array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
use model::{ELEMENT, OFFSET, PARTITION, TOPIC};

/// What a table's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows of a stream.
    Rows,
    /// Dead letters of every stream.
    DeadLetters,
    /// Neither; they are no records.
    Other,
}

impl Kind {
    pub(super) fn of(table: &str) -> Self {
        match table {
            model::DEAD_LETTERS => Kind::DeadLetters,
            table if model::is_reserved_table(table) => Kind::Other,
            _ => Kind::Rows,
        }
    }

    /// The columns of a record's identity: topic, partition, offset, element.
    pub(super) fn columns(self) -> [&'static str; 4] {
        match self {
            Kind::Rows => [TOPIC, PARTITION, OFFSET, ELEMENT],
            _ => ["topic", "partition", "offset", "element"],
        }
    }
}

/// The identities of a batch's rows.
pub(super) struct Places<'a> {
    /// Absent in rows' files from before the column was there.
    topics: Option<&'a StringArray>,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    /// Absent as well.
    elements: Option<&'a Int32Array>,
}

/// The identity of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// `None` when the row does not tell.
    pub(super) topic: Option<&'a str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) element: Option<u32>,
}

impl<'a> Places<'a> {
    /// `None` when the rows are no records.
    pub(super) fn of(batch: &'a RecordBatch, kind: Kind) -> Option<Self> {
        if kind == Kind::Other {
            return None;
        }
        let [topic, partition, offset, element] = kind.columns();
        Some(Self {
            topics: batch.column_by_name(topic).and_then(|column| column.as_string_opt()),
            partitions: batch.column_by_name(partition)?.as_primitive_opt()?,
            offsets: batch.column_by_name(offset)?.as_primitive_opt()?,
            elements: batch
                .column_by_name(element)
                .and_then(|column| column.as_primitive_opt()),
        })
    }

    pub(super) fn get(&self, row: usize) -> Place<'a> {
        let topics = self.topics.filter(|topics| topics.is_valid(row));
        let elements = self.elements.filter(|elements| elements.is_valid(row));
        Place {
            topic: topics.map(|topics| topics.value(row)),
            partition: self.partitions.value(row),
            offset: self.offsets.value(row),
            element: elements.map(|elements| elements.value(row) as u32),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Place<'a>> + '_ {
        (0..self.offsets.len()).map(|row| self.get(row))
    }
}

/// The records of one topic and partition in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) least: i64,
    pub(super) greatest: i64,
    pub(super) records: u64,
    /// Those of them that are elements of a message.
    pub(super) elements: u64,
}

impl Extent {
    fn new(place: Place<'_>) -> Self {
        Self {
            least: place.offset,
            greatest: place.offset,
            records: 1,
            elements: u64::from(place.element.is_some()),
        }
    }

    pub(super) fn merge(&mut self, other: Extent) {
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        self.records += other.records;
        self.elements += other.elements;
    }

    pub(super) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.least < to && self.greatest >= from
    }
}

/// What a file's rows are, as far as the later passes need it.
#[derive(Debug, Default, Clone)]
pub(super) struct Summary {
    pub(super) rows: u64,
    /// By topic (`None` where rows do not tell) and partition; few.
    extents: Vec<(Option<String>, i32, Extent)>,
    /// The one that was added to last: neighbours are mostly of one partition.
    last: usize,
}

impl Summary {
    pub(super) fn add(&mut self, place: Place<'_>) {
        let is_of = |(topic, partition, _): &(Option<String>, i32, Extent)| {
            *partition == place.partition && topic.as_deref() == place.topic
        };
        if !self.extents.get(self.last).is_some_and(is_of) {
            let found = self.extents.iter().position(is_of);
            self.last = found.unwrap_or(self.extents.len());
        }
        match self.extents.get_mut(self.last) {
            Some((_, _, extent)) => extent.merge(Extent::new(place)),
            None => {
                let topic = place.topic.map(str::to_owned);
                self.extents.push((topic, place.partition, Extent::new(place)));
            }
        }
    }

    pub(super) fn extents(&self) -> impl Iterator<Item = (Option<&str>, i32, Extent)> {
        let all = self.extents.iter();
        all.map(|(topic, partition, extent)| (topic.as_deref(), *partition, *extent))
    }

    /// The records of a partition, of this topic or of none that is told.
    pub(super) fn overlaps(&self, topic: &str, partition: i32, from: i64, to: i64) -> bool {
        let mut all = self.extents();
        all.any(|(of, number, extent)| {
            number == partition && of.is_none_or(|of| of == topic) && extent.overlaps(from, to)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_keeps_topics_and_partitions_apart() {
        let mut summary = Summary::default();
        let place = |topic, partition, offset, element| Place {
            topic,
            partition,
            offset,
            element,
        };
        for place in [
            place(Some("a"), 0, 5, None),
            place(Some("a"), 0, 7, None),
            place(None, 0, 100, None),
            place(Some("b"), 0, 9, Some(3)),
            place(Some("a"), 0, 6, None),
        ] {
            summary.add(place);
        }
        let found: Vec<_> = summary
            .extents()
            .map(|(topic, _, extent)| (topic, extent.least, extent.greatest, extent.records, extent.elements))
            .collect();
        assert_eq!(
            found,
            [(Some("a"), 5, 7, 3, 0), (None, 100, 100, 1, 0), (Some("b"), 9, 9, 1, 1)]
        );
        assert!(summary.overlaps("a", 0, 7, 8) && summary.overlaps("c", 0, 100, 101));
        assert!(!summary.overlaps("a", 1, 0, 200) && !summary.overlaps("b", 0, 0, 9));
    }
}
