//! One writer's handle on a stream's table.

use model::{Span, TopicPartition};

use crate::{EncodedFiles, FileWriter, LakeError};

/// One writer's handle on a stream's table. Cheap to clone.
#[derive(Clone)]
pub struct Table {}

#[derive(Clone)]
pub struct StagedFiles {}

impl StagedFiles {
    pub fn rows(&self) -> u64 {
        0
    }

    pub fn bytes(&self) -> u64 {
        0
    }

    pub fn len(&self) -> usize {
        0
    }

    pub fn is_empty(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed { version: i64 },
    AlreadyLanded { version: i64, ours: bool },
    Fenced { topic_partition: TopicPartition, recorded: Option<i64>, span: Span },
}

impl Table {
    pub fn name(&self) -> &str {
        ""
    }

    pub fn version(&self) -> i64 {
        0
    }

    pub async fn refresh(&self) -> Result<(), LakeError> {
        Err(LakeError::unusable("", "not yet"))
    }

    pub fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        let _ = topic_partition;
        None
    }

    pub fn file_writer(&self) -> FileWriter {
        unreachable!("not yet")
    }

    pub async fn upload(&self, files: EncodedFiles) -> Result<StagedFiles, LakeError> {
        let _ = files;
        Err(LakeError::unusable("", "not yet"))
    }

    pub async fn commit(&self, files: Vec<StagedFiles>, spans: &[(TopicPartition, Span)]) -> Result<CommitOutcome, LakeError> {
        let _ = (files, spans);
        Err(LakeError::unusable("", "not yet"))
    }
}
