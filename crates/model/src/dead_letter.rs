//! A record that could not become a row, with everything a person or a replay needs to know about it.

use std::fmt;

use crate::{RecordId, TopicPartition};

/// Where a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The bytes are not one JSON object.
    Decode,
    /// The object does not fit the declaration: a required field is missing, a value has the wrong type.
    Schema,
    /// The values have the right types and are wrong: out of range, not in the set.
    Validate,
}

impl Stage {
    pub const ALL: [Stage; 3] = [Stage::Decode, Stage::Schema, Stage::Validate];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Schema => "schema",
            Stage::Validate => "validate",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One bad record, or one bad element of a message: the bytes as they came, their place in the topic, and what is wrong
/// with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic_partition: TopicPartition,
    pub offset: i64,
    /// The element at fault; `None` when the whole record is bad. The other parts are the whole record's in both cases.
    pub element: Option<u32>,
    /// Kafka's timestamp, microseconds since the epoch; `None` when the record has none.
    pub kafka_timestamp_us: Option<i64>,
    /// When it was read, microseconds since the epoch.
    pub ingested_at_us: i64,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub stage: Stage,
    /// A short name from a fixed set, such as `not_json` or `out_of_range`; the label to count by.
    pub error_class: &'static str,
    /// The error in words.
    pub error: String,
    /// The declared field at fault, where one is.
    pub field: Option<String>,
}

impl DeadLetter {
    pub fn id(&self) -> RecordId {
        RecordId::new(self.topic_partition.clone(), self.offset, self.element)
    }
}
