//! What names one row everywhere: the record's place in Kafka and, where a message makes several rows, the element.

use std::fmt;

use crate::TopicPartition;

/// The identity of one row or one dead letter. Ordered as Kafka hands records out, a message before its elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    pub topic_partition: TopicPartition,
    pub offset: i64,
    /// Position in the message's array of elements, from 0. `None` for a record of a stream without `elements`, and for a
    /// message that is a dead letter as a whole.
    pub element: Option<u32>,
}

/// A record's identity within its topic partition: offset and element, as in [`RecordId`].
pub type OffsetElement = (i64, Option<u32>);

impl RecordId {
    pub fn new(topic_partition: TopicPartition, offset: i64, element: Option<u32>) -> Self {
        Self {
            topic_partition,
            offset,
            element,
        }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.topic_partition, self.offset)?;
        match self.element {
            Some(element) => write!(f, " element {element}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_its_place() {
        let id = |element| RecordId::new(TopicPartition::new("topic", 3), 17, element);
        assert_eq!(id(Some(2)).to_string(), "topic[3] offset 17 element 2");
        assert_eq!(id(None).to_string(), "topic[3] offset 17");
        assert!(id(None) < id(Some(0)) && id(Some(0)) < id(Some(1)));
    }
}
