//! What the coordinator knows of producers and transactions, each change in the journal before it counts.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use serde::{Deserialize, Serialize};

use crate::error::BrokerError;
use crate::journal::{Journal, Written};
use crate::retry::Retry;

use super::participants::Abandoned;
use super::state::{Phase, Transaction};

/// Ids are taken from the journal in blocks, so that handing one out writes nothing most of the time.
const ID_BLOCK: i64 = 1000;
const FIRST_ID: i64 = 1000;

#[derive(Debug)]
pub(super) struct Registry {
    journal: Journal,
    /// Of writing the journal: which failures are logged.
    writing: Retry,
    next_id: i64,
    /// Ids below this one are ours to give.
    ids_upto: i64,
    pub(super) by_id: HashMap<String, Live>,
    /// To be aborted before their producers may begin anything: as many as the logs know producers, at most.
    pub(super) abandoned: Vec<Abandoned>,
}

#[derive(Debug)]
pub(super) struct Live {
    pub(super) transaction: Transaction,
    /// When an open transaction is aborted.
    deadline: Instant,
}

/// One record of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    ProducerIdsUpto(i64),
    Set { id: String, transaction: Transaction },
    Forget { id: String },
}

/// The producer as a request names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) transactional_id: &'a str,
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

impl Registry {
    pub(super) fn open(path: &Path, syncs: bool) -> Result<Self, BrokerError> {
        let mut ids_upto = FIRST_ID;
        let mut known: HashMap<String, Transaction> = HashMap::new();
        let journal = Journal::open(path, syncs, |change: Change| match change {
            Change::ProducerIdsUpto(upto) => ids_upto = upto,
            Change::Set { id, transaction } => {
                known.insert(id, transaction);
            }
            Change::Forget { id } => {
                known.remove(&id);
            }
        })?;
        let now = Instant::now();
        let live = |(id, transaction): (String, Transaction)| {
            let deadline = now + transaction.timeout();
            (id, Live { transaction, deadline })
        };
        Ok(Self {
            journal,
            writing: Retry::default(),
            next_id: ids_upto,
            ids_upto,
            by_id: known.into_iter().map(live).collect(),
            abandoned: Vec::new(),
        })
    }

    /// A producer id that no one has had, also over restarts.
    pub(super) fn new_producer_id(&mut self) -> Result<i64, Code> {
        if self.next_id >= self.ids_upto {
            let upto = self.ids_upto + ID_BLOCK;
            self.write(&[Change::ProducerIdsUpto(upto)])?;
            self.ids_upto = upto;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// The transaction of a producer that is who it says.
    pub(super) fn claimed(&self, claim: Claim<'_>) -> Result<&Transaction, Code> {
        let live = self
            .by_id
            .get(claim.transactional_id)
            .ok_or(Code::InvalidProducerIdMapping)?;
        if live.transaction.producer_id != claim.producer_id {
            return Err(Code::InvalidProducerIdMapping);
        }
        if live.transaction.epoch != claim.epoch {
            return Err(Code::ProducerFenced);
        }
        Ok(&live.transaction)
    }

    pub(super) fn has_abandoned(&self, producer_id: i64) -> bool {
        self.abandoned.iter().any(|open| open.producer_id == producer_id)
    }

    /// The transactions that `is_wanted`, with their ids.
    pub(super) fn transactions(&self, is_wanted: impl Fn(&Transaction) -> bool) -> Vec<(String, Transaction)> {
        let wanted = self.by_id.iter().filter(|(_, live)| is_wanted(&live.transaction));
        wanted
            .map(|(id, live)| (id.clone(), live.transaction.clone()))
            .collect()
    }

    /// The ids of the transactions that are open for longer than their time-out.
    pub(super) fn overdue(&self, now: Instant) -> Vec<String> {
        let is_overdue = |live: &Live| live.transaction.phase == Phase::Ongoing && live.deadline <= now;
        let overdue = self.by_id.iter().filter(|(_, live)| is_overdue(live));
        overdue.map(|(id, _)| id.clone()).collect()
    }

    /// Journal first, memory after.
    pub(super) fn set(&mut self, id: &str, transaction: Transaction, now: Instant) -> Result<(), Code> {
        self.write(&[Change::Set {
            id: id.to_owned(),
            transaction: transaction.clone(),
        }])?;
        let began = |live: &Live| live.transaction.phase != Phase::Ongoing && transaction.phase == Phase::Ongoing;
        let deadline = match self.by_id.get(id) {
            Some(live) if !began(live) => live.deadline,
            _ => now + transaction.timeout(),
        };
        self.by_id.insert(id.to_owned(), Live { transaction, deadline });
        Ok(())
    }

    /// Forgets ids that are without a transaction and have been silent since before this time.
    pub(super) fn forget_silent(&mut self, before_ms: i64) {
        let silent = |t: &Transaction| !t.is_open() && t.last_change_ms < before_ms;
        for (id, _) in self.transactions(silent) {
            if self.write(&[Change::Forget { id: id.clone() }]).is_ok() {
                self.by_id.remove(&id);
            }
        }
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.journal.sync()
    }

    /// What has been written until now, to be waited for without the registry's lock.
    pub(super) fn written(&self) -> Option<Written> {
        self.journal.written()
    }

    #[cfg(test)]
    pub(super) fn replace_journal_file(
        &mut self,
        file: impl Into<std::sync::Arc<std::fs::File>>,
    ) -> std::sync::Arc<std::fs::File> {
        self.journal.replace_file(file)
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), Code> {
        let appended = if self.journal.has_failed() {
            self.rewrite().and_then(|()| self.journal.append(changes))
        } else {
            self.journal.append(changes)
        };
        match appended {
            Ok(()) => {
                if self.writing.worked() {
                    tracing::info!("the transaction journal can be written again");
                }
                Ok(())
            }
            Err(error) => {
                if self.writing.failed(Instant::now()) {
                    tracing::error!(%error, "the transaction journal cannot be written; clients are told so until it can");
                }
                Err(Code::CoordinatorNotAvailable)
            }
        }
    }

    pub(super) fn rewrite_if_due(&mut self) {
        if !self.journal.wants_rewrite() {
            return;
        }
        if let Err(error) = self.rewrite() {
            tracing::warn!(%error, "the transaction journal could not be shortened");
        }
    }

    /// Writes all that is held in place of the journal.
    pub(super) fn rewrite(&mut self) -> std::io::Result<()> {
        let ids = Change::ProducerIdsUpto(self.ids_upto);
        let sets = self.by_id.iter().map(|(id, live)| Change::Set {
            id: id.clone(),
            transaction: live.transaction.clone(),
        });
        self.journal.rewrite(std::iter::once(ids).chain(sets))
    }
}
