//! What is committed together, and when a batch is large or old enough to close.

use std::collections::BTreeMap;
use std::time::Duration;

use lake::EncodedFiles;
use model::{DeadLetter, Span, TopicPartition};

use crate::budget::Held;

/// When to close a batch: at whichever limit comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushPolicy {
    /// Rows and dead letters together.
    pub records_max: u64,
    /// Bytes held: encoded rows and raw dead letters.
    pub bytes_max: usize,
    /// Bytes held by all open batches of a job together; what is beyond closes the largest. Memory must not grow with the
    /// number of streams.
    pub open_bytes_max: usize,
    /// Time since the batch's first chunk: what a reader of the table waits at most, besides the commit.
    pub age_max: Duration,
    /// The same for a stream's first batch: rows, and mistakes in the set-up, show soon after the start.
    pub first_age_max: Duration,
}

impl Default for FlushPolicy {
    fn default() -> Self {
        Self {
            records_max: 1_000_000,
            bytes_max: 32 << 20,
            open_bytes_max: 64 << 20,
            age_max: Duration::from_secs(10),
            first_age_max: Duration::from_millis(200),
        }
    }
}

impl FlushPolicy {
    pub(crate) fn age_max(&self, is_first: bool) -> Duration {
        if is_first {
            self.first_age_max.min(self.age_max)
        } else {
            self.age_max
        }
    }
}

/// The offsets a batch accounts for: one contiguous span per partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans(BTreeMap<TopicPartition, Span>);

impl Spans {
    /// Adds the span that follows. `false`, and nothing changed, when it does not follow.
    #[must_use]
    pub(crate) fn extend(&mut self, partition: &TopicPartition, span: Span) -> bool {
        match self.0.get_mut(partition) {
            Some(known) => known.extend(span),
            None => {
                self.0.insert(partition.clone(), span);
                true
            }
        }
    }

    pub(crate) fn to_vec(&self) -> Vec<(TopicPartition, Span)> {
        self.0
            .iter()
            .map(|(partition, span)| (partition.clone(), *span))
            .collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicPartition, &Span)> {
        self.0.iter()
    }
}

/// A closed batch on its way to the table: encoded rows, dead letters and the offsets that both account for.
pub(crate) struct Batch {
    /// Batches of an epoch that is over are dropped: their offsets are read again.
    pub(crate) epoch: u64,
    pub(crate) files: Option<EncodedFiles>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) spans: Spans,
    pub(crate) figures: BatchFigures,
    /// Its bytes of what all closed batches may hold.
    pub(crate) held: Option<Held>,
}

/// What the progress report tells of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BatchFigures {
    /// Kafka records.
    pub(crate) records: u64,
    /// What these are in the tables: rows, dead letters, and what was a dead letter before. `None` where each record is one
    /// of them.
    pub(crate) elements: Option<u64>,
    pub(crate) rows: u64,
    pub(crate) dead_letters: u64,
    /// Least and greatest event time, microseconds.
    pub(crate) event_time_us: Option<(i64, i64)>,
    pub(crate) decode: Duration,
    pub(crate) encode: Duration,
}

impl BatchFigures {
    pub(crate) fn add(&mut self, other: BatchFigures) {
        self.records += other.records;
        self.elements = match (self.elements, other.elements) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.rows += other.rows;
        self.dead_letters += other.dead_letters;
        self.decode += other.decode;
        self.encode += other.encode;
        self.event_time_us = match (self.event_time_us, other.event_time_us) {
            (Some((min, max)), Some((other_min, other_max))) => Some((min.min(other_min), max.max(other_max))),
            (known, other) => known.or(other),
        };
    }
}

/// Dead letters by stage and error class, counted while a batch fills and reported when it closes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ClassCounts(BTreeMap<(&'static str, &'static str), u64>);

impl ClassCounts {
    pub(crate) fn add(&mut self, dead_letter: &DeadLetter) {
        let class = (dead_letter.stage.as_str(), dead_letter.error_class);
        *self.0.entry(class).or_default() += 1;
    }

    /// Stage, class and count of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0.iter().map(|((stage, class), count)| (*stage, *class, *count))
    }
}

#[cfg(test)]
mod tests {
    use model::Stage;

    use super::*;

    #[test]
    fn spans_join_only_without_a_hole() {
        let (a, b) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let mut spans = Spans::default();
        assert!(spans.extend(&a, Span::new(0, 5)));
        assert!(spans.extend(&b, Span::new(7, 8)));
        assert!(spans.extend(&a, Span::new(5, 9)));
        assert!(!spans.extend(&a, Span::new(10, 11)));
        assert_eq!(spans.to_vec(), [(a, Span::new(0, 9)), (b, Span::new(7, 8))]);
    }

    #[test]
    fn dead_letters_are_counted_by_class() {
        let mut counts = ClassCounts::default();
        for (stage, error_class) in [
            (Stage::Decode, "not_json"),
            (Stage::Schema, "wrong_type"),
            (Stage::Decode, "not_json"),
        ] {
            counts.add(&DeadLetter {
                topic_partition: TopicPartition::new("t", 0),
                offset: 0,
                element: None,
                kafka_timestamp_us: None,
                ingested_at_us: 0,
                key: None,
                value: None,
                headers: Vec::new(),
                stage,
                error_class,
                error: String::new(),
                field: None,
            });
        }
        let all: Vec<_> = counts.iter().collect();
        assert_eq!(all, [("decode", "not_json", 2), ("schema", "wrong_type", 1)]);
    }
}
