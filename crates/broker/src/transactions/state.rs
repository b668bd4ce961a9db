//! One transactional id's transaction, as a value: each step gives the next one.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::error::ResponseError as Code;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    /// The epoch before this one when the client itself asked for the new one: it may ask again (KIP-360).
    pub(crate) previous_epoch: Option<i16>,
    pub(crate) phase: Phase,
    pub(crate) timeout_ms: i32,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    pub(crate) groups: BTreeSet<String>,
    pub(crate) started_ms: Option<i64>,
    pub(crate) last_change_ms: i64,
}

impl Transaction {
    pub(super) fn new(producer_id: i64) -> Self {
        Self {
            producer_id,
            epoch: 0,
            previous_epoch: None,
            phase: Phase::Empty,
            timeout_ms: 0,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            started_ms: None,
            last_change_ms: 0,
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(0) as u64)
    }

    pub(super) fn is_decided(&self) -> bool {
        matches!(self.phase, Phase::PrepareCommit | Phase::PrepareAbort)
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Ongoing || self.is_decided()
    }

    pub(super) fn has(&self, topic: &str, partition: i32) -> bool {
        self.partitions
            .iter()
            .any(|(name, index)| name == topic && *index == partition)
    }

    pub(super) fn check_init(&self, claimed: Option<(i64, i16)>) -> Result<(), Code> {
        if self.is_decided() {
            return Err(Code::ConcurrentTransactions);
        }
        match claimed {
            None => Ok(()),
            Some((id, epoch)) if id == self.producer_id => {
                let known = epoch == self.epoch || Some(epoch) == self.previous_epoch;
                if known { Ok(()) } else { Err(Code::ProducerFenced) }
            }
            Some(_) => Err(Code::ProducerFenced),
        }
    }

    pub(super) fn begin(&mut self, now_ms: i64) {
        self.phase = Phase::Ongoing;
        self.partitions.clear();
        self.groups.clear();
        self.started_ms = Some(now_ms);
    }

    pub(super) fn decided(&self, commit: bool, now_ms: i64) -> Self {
        let phase = if commit {
            Phase::PrepareCommit
        } else {
            Phase::PrepareAbort
        };
        Self {
            phase,
            last_change_ms: now_ms,
            ..self.clone()
        }
    }

    /// To be aborted under the next epoch, so that its producer can write no more.
    pub(super) fn fenced(&self, now_ms: i64) -> Self {
        Self {
            epoch: self.epoch.saturating_add(1),
            previous_epoch: None,
            ..self.decided(false, now_ms)
        }
    }

    /// As `fenced`, for a producer that was too slow: no one has taken its place, so it may ask for the new epoch and
    /// go on (KIP-588).
    pub(super) fn timed_out(&self, now_ms: i64) -> Self {
        Self {
            previous_epoch: Some(self.epoch),
            ..self.fenced(now_ms)
        }
    }

    pub(super) fn completed(&self, now_ms: i64) -> Self {
        let phase = if self.phase == Phase::PrepareCommit {
            Phase::CompleteCommit
        } else {
            Phase::CompleteAbort
        };
        Self {
            phase,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            last_change_ms: now_ms,
            ..self.clone()
        }
    }

    /// Empty under the epoch that InitProducerId answers; `None` when the epochs are used up.
    pub(super) fn next_epoch(&self, claimed: Option<(i64, i16)>, was_open: bool) -> Option<Self> {
        let empty = Self {
            phase: Phase::Empty,
            started_ms: None,
            ..self.clone()
        };
        match claimed {
            // The answer to its first try got lost.
            Some((_, epoch)) if !was_open && Some(epoch) == self.previous_epoch && epoch != self.epoch => Some(empty),
            // One epoch is kept back for fencing.
            _ if self.epoch >= i16::MAX - 2 => None,
            Some((_, epoch)) => Some(Self {
                epoch: self.epoch + 1,
                previous_epoch: Some(epoch),
                ..empty
            }),
            None => Some(Self {
                epoch: self.epoch + 1,
                previous_epoch: None,
                ..empty
            }),
        }
    }

    pub(super) fn with_new_id(&self, producer_id: i64) -> Self {
        Self {
            timeout_ms: self.timeout_ms,
            ..Self::new(producer_id)
        }
    }
}
