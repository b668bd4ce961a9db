//! The transaction coordinator: producer ids, transactional ids and their one open transaction each (KIP-98, KIP-360).
//!
//! The decision to commit or abort is one journal record (`registry`); the markers follow from it (`participants`) and are
//! written again, after a crash or while the disk fails, until all stand. Locks are taken in the order log, transactions,
//! groups, and none is held while markers are written, so a batch either comes before its transaction's marker or is
//! refused.

mod participants;
mod registry;
mod state;

#[cfg(test)]
mod tests;

use std::path::Path;

use kafka_protocol::error::ResponseError as Code;
use parking_lot::Mutex;

use crate::clock::Now;
use crate::config::{BrokerConfig, Durability};
use crate::error::{BrokerError, error_chain};
use crate::journal::Written;
use crate::log::{BatchHeader, LogError};
use crate::retry::Retry;

use participants::EndError;
use registry::Registry;

pub(crate) use participants::Participants;
pub(crate) use registry::Claim;
pub(crate) use state::{Phase, Transaction};

/// A transactional id that has been silent this long is forgotten.
const ID_EXPIRY_MS: i64 = 7 * 24 * 3600 * 1000;

#[derive(Debug)]
pub(crate) struct Transactions {
    registry: Mutex<Registry>,
    transactions_max: usize,
    timeout_max_ms: i64,
    /// Whether a marker is on the disk before its transaction counts as ended.
    syncs: bool,
    /// Of the work of `tick`.
    retry: Mutex<Retry>,
}

impl Transactions {
    pub(crate) fn open(path: &Path, config: &BrokerConfig) -> Result<Self, BrokerError> {
        let syncs = config.durability == Durability::Fsync;
        Ok(Self {
            registry: Mutex::new(Registry::open(path, syncs)?),
            transactions_max: config.limits.transactions_max,
            timeout_max_ms: config.transaction_timeout_max.as_millis() as i64,
            syncs,
            retry: Mutex::default(),
        })
    }

    /// A producer id that no one has had, also over restarts.
    pub(crate) fn new_producer_id(&self) -> Result<i64, Code> {
        let id = self.registry.lock().new_producer_id()?;
        self.on_disk()?;
        Ok(id)
    }

    /// Returns when all that was decided before is on the disk, where that is asked for. Blocks meanwhile.
    fn on_disk(&self) -> Result<(), Code> {
        let written = self.registry.lock().written();
        let Err(error) = written.map_or(Ok(()), Written::on_disk) else {
            return Ok(());
        };
        tracing::error!(%error, "the transaction journal could not be synced: writing it again");
        let rewritten = self.registry.lock().rewrite();
        rewritten.map_err(|_| Code::CoordinatorNotAvailable)
    }

    /// Gives a transactional id's producer its id and epoch; whoever had it before is fenced, and what it had open
    /// is aborted. `claimed` is what the client holds already, when it asks for a new epoch.
    pub(crate) fn init(
        &self,
        to: Participants<'_>,
        id: &str,
        timeout_ms: i32,
        claimed: Option<(i64, i16)>,
    ) -> Result<(i64, i16), Code> {
        if id.is_empty() {
            return Err(Code::InvalidRequest);
        }
        if timeout_ms <= 0 || i64::from(timeout_ms) > self.timeout_max_ms {
            return Err(Code::InvalidTransactionTimeout);
        }
        let open = {
            let mut registry = self.registry.lock();
            if !registry.by_id.contains_key(id) && registry.by_id.len() >= self.transactions_max {
                return Err(Code::CoordinatorNotAvailable);
            }
            match registry.by_id.get(id).map(|live| live.transaction.clone()) {
                None => false,
                Some(transaction) => {
                    transaction.check_init(claimed)?;
                    if transaction.phase == Phase::Ongoing {
                        registry.set(id, transaction.fenced(to.now.ms), to.now.instant)?;
                        true
                    } else {
                        false
                    }
                }
            }
        };
        if open {
            self.complete(to, id).map_err(|error| error.code())?;
        }
        let mut registry = self.registry.lock();
        let present = registry.by_id.get(id).map(|live| live.transaction.clone());
        let next = match present {
            Some(transaction) => match transaction.next_epoch(claimed, open) {
                Some(next) => next,
                None => transaction.with_new_id(registry.new_producer_id()?),
            },
            None => Transaction::new(registry.new_producer_id()?),
        };
        let next = Transaction {
            timeout_ms,
            last_change_ms: to.now.ms,
            ..next
        };
        let answer = (next.producer_id, next.epoch);
        registry.set(id, next, to.now.instant)?;
        registry.rewrite_if_due();
        drop(registry);
        self.on_disk()?;
        Ok(answer)
    }

    /// Takes partitions or a group into the open transaction, opening one when there is none.
    pub(crate) fn add(
        &self,
        claim: Claim<'_>,
        now: Now,
        add: impl FnOnce(&mut Transaction) -> bool,
    ) -> Result<(), Code> {
        let mut registry = self.registry.lock();
        let mut transaction = registry.claimed(claim)?.clone();
        if registry.has_abandoned(claim.producer_id) {
            // Its old records would be taken for the new transaction's.
            return Err(Code::ConcurrentTransactions);
        }
        match transaction.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => return Err(Code::ConcurrentTransactions),
            Phase::Ongoing => {}
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => transaction.begin(now.ms),
        }
        let began = transaction.started_ms == Some(now.ms);
        if add(&mut transaction) || began {
            transaction.last_change_ms = now.ms;
            registry.set(claim.transactional_id, transaction, now.instant)?;
        }
        Ok(())
    }

    /// Runs `act` while the transaction is open and holds this group.
    pub(crate) fn with_group<R>(
        &self,
        claim: Claim<'_>,
        group: &str,
        act: impl FnOnce() -> Result<R, Code>,
    ) -> Result<R, Code> {
        let registry = self.registry.lock();
        let transaction = registry.claimed(claim)?;
        if transaction.phase != Phase::Ongoing || !transaction.groups.contains(group) {
            return Err(Code::InvalidTxnState);
        }
        act()
    }

    /// A transactional batch is only for a partition that is in its producer's open transaction (KIP-890).
    pub(crate) fn check_produce(
        &self,
        transactional_id: Option<&str>,
        header: &BatchHeader,
        topic: &str,
        partition: i32,
    ) -> Result<(), LogError> {
        let refused = |code| LogError::refused(code, "the batch is not of an open transaction with this partition");
        let claim = Claim {
            transactional_id: transactional_id.ok_or_else(|| refused(Code::InvalidTxnState))?,
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
        };
        let registry = self.registry.lock();
        let transaction = registry.claimed(claim).map_err(|code| match code {
            // What producers expect of Produce, rather than of the coordinator.
            Code::ProducerFenced => refused(Code::InvalidProducerEpoch),
            code => refused(code),
        })?;
        if transaction.phase != Phase::Ongoing || !transaction.has(topic, partition) {
            return Err(refused(Code::InvalidTxnState));
        }
        Ok(())
    }

    /// Ends the open transaction. When this returns without an error it is decided; readers see it as soon as
    /// the markers stand, which may take until a disk that fails has recovered.
    pub(crate) fn end(&self, to: Participants<'_>, claim: Claim<'_>, commit: bool) -> Result<(), Code> {
        {
            let mut registry = self.registry.lock();
            let transaction = registry.claimed(claim)?;
            match (transaction.phase, commit) {
                (Phase::Ongoing, _) => {
                    let decided = transaction.decided(commit, to.now.ms);
                    registry.set(claim.transactional_id, decided, to.now.instant)?;
                }
                (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) => return Ok(()),
                (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => {
                    return Err(Code::ConcurrentTransactions);
                }
                _ => return Err(Code::InvalidTxnState),
            }
        }
        self.on_disk()?;
        // Decided in any case: what cannot be written now is written, and logged, by `tick`.
        let _ = self.complete(to, claim.transactional_id);
        Ok(())
    }

    /// Every transactional id with its transaction, in the order of the ids.
    pub(crate) fn list(&self) -> Vec<(String, Transaction)> {
        let registry = self.registry.lock();
        let mut list = registry.transactions(|_| true);
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    pub(crate) fn get(&self, id: &str) -> Option<Transaction> {
        self.registry.lock().by_id.get(id).map(|live| live.transaction.clone())
    }

    /// After a start: ends what was decided, and aborts what the logs hold open but no transaction accounts for.
    pub(crate) fn recover(&self, to: Participants<'_>) {
        let known = self.registry.lock().transactions(Transaction::is_open);
        let abandoned = to.open_producers(|producer_id, topic, partition| {
            let accounts = |t: &Transaction| t.producer_id == producer_id && t.has(topic, partition);
            !known.iter().any(|(_, transaction)| accounts(transaction))
        });
        self.registry.lock().abandoned = abandoned;
        self.tick(to);
    }

    /// Aborts what has been open for too long, and ends what was decided. What cannot be written is tried again, at most a
    /// second later each time; readers of committed records wait for it.
    pub(crate) fn tick(&self, to: Participants<'_>) {
        let mut retry = self.retry.lock();
        if !retry.is_due(to.now.instant) {
            return;
        }
        let ended = [
            self.abort_overdue(to),
            self.complete_decided(to),
            self.abort_abandoned(to),
        ];
        match ended.into_iter().find_map(Result::err) {
            None => {
                if retry.worked() {
                    tracing::info!("transactions' ends can be written again");
                }
            }
            Some(error) => {
                metrics::counter!("smartcity_broker_transaction_end_errors").increment(1);
                let logs = retry.failed(to.now.instant);
                // A journal's failures are logged where it is written.
                if logs && matches!(error, EndError::Marker { .. }) {
                    tracing::error!(
                        error = error_chain(&error),
                        "transactions' ends cannot be written; readers of committed records wait until they can"
                    );
                }
            }
        }
    }

    pub(crate) fn expire(&self, now_ms: i64) {
        let before_ms = now_ms.saturating_sub(ID_EXPIRY_MS);
        self.registry.lock().forget_silent(before_ms);
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.registry.lock().sync()
    }

    fn abort_overdue(&self, to: Participants<'_>) -> Result<(), EndError> {
        let overdue = self.registry.lock().overdue(to.now.instant);
        let mut result = Ok(());
        for id in overdue {
            let mut registry = self.registry.lock();
            let fenced = match registry.by_id.get(&id) {
                Some(live) if live.transaction.phase == Phase::Ongoing => live.transaction.timed_out(to.now.ms),
                _ => continue,
            };
            match registry.set(&id, fenced, to.now.instant) {
                Ok(()) => tracing::info!(
                    transactional_id = id,
                    "aborted a transaction that was open for longer than its time-out"
                ),
                Err(code) => result = result.and(Err(EndError::Coordinator(code))),
            }
        }
        result
    }

    fn complete_decided(&self, to: Participants<'_>) -> Result<(), EndError> {
        let decided = self.registry.lock().transactions(Transaction::is_decided);
        let completed = decided.iter().map(|(id, _)| self.complete(to, id));
        // Each is tried, whatever becomes of the others.
        completed.fold(Ok(()), Result::and)
    }

    fn abort_abandoned(&self, to: Participants<'_>) -> Result<(), EndError> {
        let abandoned = self.registry.lock().abandoned.clone();
        if abandoned.is_empty() {
            return Ok(());
        }
        let mut result = Ok(());
        for open in abandoned {
            let (topic, partition, producer_id) = (&open.topic, open.partition, open.producer_id);
            let written = to.write_marker(topic, partition, (producer_id, open.epoch), false);
            let marked = written.and_then(|found| match found {
                Some(found) if self.syncs => to.sync(topic, &found),
                _ => Ok(()),
            });
            match marked {
                Ok(()) => {
                    tracing::warn!(
                        topic,
                        partition,
                        producer_id,
                        "aborted a transaction that no coordinator knows"
                    );
                    self.registry.lock().abandoned.retain(|other| *other != open);
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        let left = self.registry.lock().abandoned.len();
        metrics::gauge!("smartcity_broker_abandoned_transactions").set(left as f64);
        result
    }

    /// Writes the markers of a decided transaction and lets go of its offsets. Doing it twice does no harm: where no
    /// transaction is open any more, no marker is written.
    fn complete(&self, to: Participants<'_>, id: &str) -> Result<(), EndError> {
        let Some(transaction) = self.get(id).filter(Transaction::is_decided) else {
            return Ok(());
        };
        // No marker before the decision is on the disk, and no word that it is done before the markers are.
        self.on_disk().map_err(EndError::Coordinator)?;
        let commit = transaction.phase == Phase::PrepareCommit;
        let producer = (transaction.producer_id, transaction.epoch);
        let mut marked = Vec::with_capacity(transaction.partitions.len());
        for (topic, partition) in &transaction.partitions {
            let found = to.write_marker(topic, *partition, producer, commit)?;
            marked.extend(found.map(|found| (topic, found)));
        }
        for group in &transaction.groups {
            let resolved = to.groups.resolve(group, transaction.producer_id, commit);
            resolved.map_err(EndError::Coordinator)?;
        }
        if self.syncs {
            if tokio::runtime::Handle::try_current().is_ok() {
                // Side by side.
                marked.iter().for_each(|(_, partition)| partition.begin_sync());
            }
            marked
                .iter()
                .try_for_each(|(topic, partition)| to.sync(topic, partition))?;
            to.groups.on_disk().map_err(EndError::Coordinator)?;
        }
        let mut registry = self.registry.lock();
        let unchanged = registry
            .by_id
            .get(id)
            .is_some_and(|live| live.transaction.phase == transaction.phase);
        if unchanged {
            let set = registry.set(id, transaction.completed(to.now.ms), to.now.instant);
            set.map_err(EndError::Coordinator)?;
            registry.rewrite_if_due();
        }
        Ok(())
    }
}
