//! A record's place in Kafka, and the half-open range of offsets that moves with every batch.

use std::fmt;
use std::sync::Arc;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// The offsets `[from, to)` of one partition. `to` is the next offset to read.
///
/// A span covers offsets, not records: compaction, aborted transactions and control records leave offsets without a
/// record, and a span runs over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    pub from: i64,
    pub to: i64,
}

impl Span {
    pub fn new(from: i64, to: i64) -> Self {
        debug_assert!(from <= to, "span [{from}, {to}) runs backwards");
        Self { from, to }
    }

    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Grows this span by the one that follows it. `false`, and nothing changed, when `next` does not start where this
    /// one ends: joining it would hide a hole or a repetition.
    #[must_use]
    pub fn extend(&mut self, next: Span) -> bool {
        let follows = self.to == next.from;
        if follows {
            self.to = next.to;
        }
        follows
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_span_extends() {
        let mut span = Span::new(3, 5);
        assert!(span.extend(Span::new(5, 9)));
        assert_eq!(span, Span::new(3, 9));
        assert!(!span.extend(Span::new(8, 12)));
        assert!(!span.extend(Span::new(10, 12)));
        assert_eq!(span, Span::new(3, 9));
    }
}
