//! The table of records that could not become rows.

use std::collections::{BTreeSet, HashMap};

use model::{DeadLetter, Span, TopicPartition};

use crate::{CommitOutcome, LakeError};

#[derive(Clone)]
pub struct DeadLetters {}

impl DeadLetters {
    pub fn version(&self) -> i64 {
        0
    }

    pub fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        let _ = topic_partition;
        None
    }

    pub async fn refresh(&self) -> Result<(), LakeError> {
        Err(LakeError::unusable("dead_letters", "not yet"))
    }

    pub async fn offsets_from(&self, topic_partition: &TopicPartition, from: i64) -> Result<BTreeSet<i64>, LakeError> {
        let _ = (topic_partition, from);
        Ok(BTreeSet::new())
    }

    pub async fn commit(
        &self,
        letters: &[DeadLetter],
        spans: &[(TopicPartition, Span)],
        expected: &HashMap<TopicPartition, Option<i64>>,
    ) -> Result<CommitOutcome, LakeError> {
        let _ = (letters, spans, expected);
        Err(LakeError::unusable("dead_letters", "not yet"))
    }
}
