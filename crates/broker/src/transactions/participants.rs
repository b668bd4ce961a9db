//! Where a transaction's end is written: the logs of its partitions, and the offsets of its groups.

use std::sync::Arc;

use kafka_protocol::error::ResponseError as Code;

use crate::clock::Now;
use crate::groups::Groups;
use crate::log::{BatchHeader, LogError, control_batch};
use crate::partition::Partition;
use crate::topics::Topics;

/// All that transactions can reach, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Participants<'a> {
    pub(crate) topics: &'a Topics,
    pub(crate) groups: &'a Groups,
    pub(crate) now: Now,
}

/// A transaction that a log holds open and no coordinator knows: a journal that a power cut took a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Abandoned {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

/// Why a transaction's end could not be written. It is decided all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error("no marker in {topic}[{partition}]")]
    Marker {
        topic: String,
        partition: i32,
        source: LogError,
    },
    /// A journal could not be written, which has logged it.
    #[error("a journal cannot be written: {0}")]
    Coordinator(Code),
}

impl EndError {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Marker { source, .. } => source.code(),
            Self::Coordinator(code) => *code,
        }
    }
}

impl Participants<'_> {
    /// Writes a transaction's marker into one partition, unless it has none open there. Answers the partition, for
    /// [`Participants::sync`]; `None` when it is gone and needs no marker.
    pub(super) fn write_marker(
        &self,
        topic: &str,
        partition: i32,
        (producer_id, epoch): (i64, i16),
        commit: bool,
    ) -> Result<Option<Arc<Partition>>, EndError> {
        let Some(found) = self.topics.partition(topic, partition) else {
            return Ok(None);
        };
        let failed = |source| EndError::Marker {
            topic: topic.to_owned(),
            partition,
            source,
        };
        let batch = control_batch(producer_id, epoch, commit, self.now.ms);
        let header = BatchHeader::check(&batch);
        let header = header.map_err(|_| failed(LogError::refused(Code::UnknownServerError, "a broken marker")))?;
        {
            let mut log = found.log.lock();
            if log.has_open_transaction(producer_id) {
                log.append(&header, &batch, self.now.ms).map_err(failed)?;
            }
        }
        found.wake();
        Ok(Some(found))
    }

    /// Returns when the markers in these partitions are on the disk; also where another call has written them and is not
    /// done yet.
    pub(super) fn sync(&self, topic: &str, partition: &Partition) -> Result<(), EndError> {
        partition.sync().map_err(|source| EndError::Marker {
            topic: topic.to_owned(),
            partition: partition.index,
            source,
        })
    }

    /// The open transactions of all logs that `is_wanted`, by producer id, topic and partition.
    pub(super) fn open_producers(&self, is_wanted: impl Fn(i64, &str, i32) -> bool) -> Vec<Abandoned> {
        let mut open = Vec::new();
        for (topic, partition) in self.topics.partitions() {
            let producers = partition.log.lock().producers();
            let producers = producers.into_iter().filter(|p| p.transaction_start.is_some());
            for producer in producers.filter(|p| is_wanted(p.producer_id, &topic, partition.index)) {
                open.push(Abandoned {
                    topic: topic.clone(),
                    partition: partition.index,
                    producer_id: producer.producer_id,
                    epoch: producer.epoch,
                });
            }
        }
        open
    }
}
