//! The transaction coordinator: producer ids, transactional ids and their one open transaction each (KIP-98, KIP-360).
//!
//! The decision to commit or abort is one journal record; the markers follow from it and are written again after a
//! crash until all stand. Locks are taken in the order log, transactions, groups, and none is held while markers are
//! written, so a batch either comes before its transaction's marker or is refused.

mod state;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::{BrokerConfig, Flush};
use crate::error::BrokerError;
use crate::journal::Journal;
use crate::log::{BatchHeader, LogError, control_batch};
use crate::state::State;

pub(crate) use state::{Phase, Transaction};

/// Ids are taken from the journal in blocks, so that handing one out writes nothing most of the time.
const ID_BLOCK: i64 = 1000;
const FIRST_ID: i64 = 1000;
/// A transactional id that has been silent this long is forgotten.
const ID_EXPIRY_MS: i64 = 7 * 24 * 3600 * 1000;

#[derive(Debug)]
pub(crate) struct Transactions {
    inner: Mutex<Inner>,
    transactions_max: usize,
    timeout_max_ms: i64,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    next_id: i64,
    /// Ids below this one are ours to give.
    ids_upto: i64,
    by_id: HashMap<String, Live>,
}

#[derive(Debug)]
struct Live {
    transaction: Transaction,
    /// When an open transaction is aborted.
    deadline: Instant,
}

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

impl Transactions {
    pub(crate) fn open(path: &Path, config: &BrokerConfig) -> Result<Self, BrokerError> {
        let mut ids_upto = FIRST_ID;
        let mut known: HashMap<String, Transaction> = HashMap::new();
        let mut journal = Journal::open(path, |change: Change| match change {
            Change::ProducerIdsUpto(upto) => ids_upto = upto,
            Change::Set { id, transaction } => {
                known.insert(id, transaction);
            }
            Change::Forget { id } => {
                known.remove(&id);
            }
        })?;
        if config.flush == Flush::Always {
            journal.sync_each_append();
        }
        let now = Instant::now();
        let live = |(id, transaction): (String, Transaction)| {
            (
                id,
                Live {
                    deadline: now + transaction.timeout(),
                    transaction,
                },
            )
        };
        let by_id = known.into_iter().map(live).collect();
        Ok(Self {
            inner: Mutex::new(Inner {
                journal,
                next_id: ids_upto,
                ids_upto,
                by_id,
            }),
            transactions_max: config.limits.transactions_max,
            timeout_max_ms: config.transaction_timeout_max.as_millis() as i64,
        })
    }

    /// A producer id that no one has had, also over restarts.
    pub(crate) fn new_producer_id(&self) -> Result<i64, Code> {
        self.inner.lock().new_producer_id()
    }

    /// Gives a transactional id's producer its id and epoch; whoever had it before is fenced, and what it had open
    /// is aborted. `claimed` is what the client holds already, when it asks for a new epoch.
    pub(crate) fn init(
        &self,
        state: &State,
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
            let mut inner = self.inner.lock();
            if !inner.by_id.contains_key(id) && inner.by_id.len() >= self.transactions_max {
                return Err(Code::CoordinatorNotAvailable);
            }
            match inner.by_id.get(id).map(|live| live.transaction.clone()) {
                None => false,
                Some(transaction) => {
                    transaction.check_init(claimed)?;
                    if transaction.phase == Phase::Ongoing {
                        inner.set(id, transaction.fenced(state.now_ms()))?;
                        true
                    } else {
                        false
                    }
                }
            }
        };
        if open {
            self.complete(state, id)?;
        }
        let mut inner = self.inner.lock();
        let present = inner.by_id.get(id).map(|live| live.transaction.clone());
        let next = match present {
            Some(transaction) => match transaction.next_epoch(claimed, open) {
                Some(next) => next,
                None => transaction.with_new_id(inner.new_producer_id()?),
            },
            None => Transaction::new(inner.new_producer_id()?),
        };
        let next = Transaction {
            timeout_ms,
            last_change_ms: state.now_ms(),
            ..next
        };
        let answer = (next.producer_id, next.epoch);
        inner.set(id, next)?;
        inner.rewrite_if_due();
        Ok(answer)
    }

    /// Takes partitions or a group into the open transaction, opening one when there is none.
    pub(crate) fn add(
        &self,
        claim: Claim<'_>,
        now_ms: i64,
        add: impl FnOnce(&mut Transaction) -> bool,
    ) -> Result<(), Code> {
        let mut inner = self.inner.lock();
        let mut transaction = inner.claimed(claim)?.clone();
        match transaction.phase {
            Phase::PrepareCommit | Phase::PrepareAbort => return Err(Code::ConcurrentTransactions),
            Phase::Ongoing => {}
            Phase::Empty | Phase::CompleteCommit | Phase::CompleteAbort => transaction.begin(now_ms),
        }
        let began = transaction.started_ms == Some(now_ms);
        if add(&mut transaction) || began {
            transaction.last_change_ms = now_ms;
            inner.set(claim.transactional_id, transaction)?;
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
        let inner = self.inner.lock();
        let transaction = inner.claimed(claim)?;
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
        let inner = self.inner.lock();
        let transaction = inner.claimed(claim).map_err(|code| match code {
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
    /// the markers stand, which they do unless the disk fails.
    pub(crate) fn end(&self, state: &State, claim: Claim<'_>, commit: bool) -> Result<(), Code> {
        {
            let mut inner = self.inner.lock();
            let transaction = inner.claimed(claim)?;
            match (transaction.phase, commit) {
                (Phase::Ongoing, _) => {
                    let decided = transaction.decided(commit, state.now_ms());
                    inner.set(claim.transactional_id, decided)?;
                }
                (Phase::CompleteCommit, true) | (Phase::CompleteAbort, false) => return Ok(()),
                (Phase::PrepareCommit, true) | (Phase::PrepareAbort, false) => {
                    return Err(Code::ConcurrentTransactions);
                }
                _ => return Err(Code::InvalidTxnState),
            }
        }
        match self.complete(state, claim.transactional_id) {
            // Decided all the same; upkeep writes the markers later.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Every transactional id with its transaction, in the order of the ids.
    pub(crate) fn list(&self) -> Vec<(String, Transaction)> {
        let inner = self.inner.lock();
        let mut list: Vec<_> = inner
            .by_id
            .iter()
            .map(|(id, live)| (id.clone(), live.transaction.clone()))
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    pub(crate) fn get(&self, id: &str) -> Option<Transaction> {
        self.inner.lock().by_id.get(id).map(|live| live.transaction.clone())
    }

    /// After a start: finishes what was decided, and ends what the logs hold open but no transaction accounts for.
    pub(crate) fn complete_prepared(&self, state: &State) {
        self.complete_decided(state);
        let known = self.list();
        for (topic, partition) in state.partitions() {
            let open: Vec<_> = partition
                .log
                .lock()
                .producers()
                .into_iter()
                .filter(|p| p.transaction_start.is_some())
                .collect();
            for producer in open {
                let ours = |t: &Transaction| t.producer_id == producer.producer_id && t.has(&topic, partition.index);
                if known.iter().any(|(_, t)| t.phase == Phase::Ongoing && ours(t)) {
                    continue;
                }
                tracing::warn!(
                    topic,
                    partition = partition.index,
                    producer_id = producer.producer_id,
                    "aborted a transaction that no coordinator knows"
                );
                let _ = write_marker(
                    state,
                    &topic,
                    partition.index,
                    producer.producer_id,
                    producer.epoch,
                    false,
                );
            }
        }
    }

    /// Aborts what has been open for too long, and finishes what was decided.
    pub(crate) fn tick(&self, state: &State) {
        let now = Instant::now();
        let late: Vec<String> = {
            let inner = self.inner.lock();
            let late = |live: &Live| live.transaction.phase == Phase::Ongoing && live.deadline <= now;
            inner
                .by_id
                .iter()
                .filter(|(_, live)| late(live))
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in late {
            let mut inner = self.inner.lock();
            let fenced = match inner.by_id.get(&id) {
                Some(live) if live.transaction.phase == Phase::Ongoing => live.transaction.timed_out(state.now_ms()),
                _ => continue,
            };
            tracing::info!(
                transactional_id = id,
                "aborted a transaction that was open for longer than its time-out"
            );
            // Should it not be written, the next tick tries again.
            let _ = inner.set(&id, fenced);
        }
        self.complete_decided(state);
    }

    pub(crate) fn expire(&self, now_ms: i64) {
        let mut inner = self.inner.lock();
        let before_ms = now_ms.saturating_sub(ID_EXPIRY_MS);
        let silent = |t: &Transaction| !t.is_open() && t.last_change_ms < before_ms;
        let gone: Vec<_> = inner
            .by_id
            .iter()
            .filter(|(_, live)| silent(&live.transaction))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if inner.write(&[Change::Forget { id: id.clone() }]).is_ok() {
                inner.by_id.remove(&id);
            }
        }
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.inner.lock().journal.sync()
    }

    fn complete_decided(&self, state: &State) {
        let decided: Vec<String> = {
            let inner = self.inner.lock();
            inner
                .by_id
                .iter()
                .filter(|(_, l)| l.transaction.is_decided())
                .map(|(id, _)| id.clone())
                .collect()
        };
        for id in decided {
            if let Err(code) = self.complete(state, &id) {
                tracing::error!(
                    transactional_id = id,
                    ?code,
                    "a transaction's end could not be written; trying again"
                );
            }
        }
    }

    /// Writes the markers of a decided transaction and lets go of its offsets. Doing it twice does no harm: where no
    /// transaction is open any more, no marker is written.
    fn complete(&self, state: &State, id: &str) -> Result<(), Code> {
        let Some(transaction) = self.get(id).filter(Transaction::is_decided) else {
            return Ok(());
        };
        let commit = transaction.phase == Phase::PrepareCommit;
        for (topic, partition) in &transaction.partitions {
            write_marker(
                state,
                topic,
                *partition,
                transaction.producer_id,
                transaction.epoch,
                commit,
            )?;
        }
        for group in &transaction.groups {
            state.groups.resolve(group, transaction.producer_id, commit)?;
        }
        let mut inner = self.inner.lock();
        let unchanged = inner
            .by_id
            .get(id)
            .is_some_and(|live| live.transaction.phase == transaction.phase);
        if unchanged {
            inner.set(id, transaction.completed(state.now_ms()))?;
            inner.rewrite_if_due();
        }
        Ok(())
    }
}

fn write_marker(
    state: &State,
    topic: &str,
    partition: i32,
    producer_id: i64,
    epoch: i16,
    commit: bool,
) -> Result<(), Code> {
    // A topic that is gone needs no marker.
    let Some(partition) = state.topics.partition(topic, partition) else {
        return Ok(());
    };
    let now_ms = state.now_ms();
    let batch = control_batch(producer_id, epoch, commit, now_ms);
    let header = BatchHeader::check(&batch).map_err(|_| Code::UnknownServerError)?;
    {
        let mut log = partition.log.lock();
        if !log.has_open_transaction(producer_id) {
            return Ok(());
        }
        log.append(&header, &batch, now_ms).map_err(|error| {
            tracing::error!(topic, partition = partition.index, %error, "a transaction marker could not be written");
            error.code()
        })?;
    }
    if state.config.flush == Flush::Always {
        partition.sync().map_err(|error| {
            tracing::error!(topic, partition = partition.index, %error, "a transaction marker could not be synced");
            error.code()
        })?;
    }
    partition.wake();
    Ok(())
}

impl Inner {
    fn new_producer_id(&mut self) -> Result<i64, Code> {
        if self.next_id >= self.ids_upto {
            let upto = self.ids_upto + ID_BLOCK;
            self.write(&[Change::ProducerIdsUpto(upto)])?;
            self.ids_upto = upto;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn claimed(&self, claim: Claim<'_>) -> Result<&Transaction, Code> {
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

    /// Journal first, memory after.
    fn set(&mut self, id: &str, transaction: Transaction) -> Result<(), Code> {
        self.write(&[Change::Set {
            id: id.to_owned(),
            transaction: transaction.clone(),
        }])?;
        let now = Instant::now();
        let began = |live: &Live| live.transaction.phase != Phase::Ongoing && transaction.phase == Phase::Ongoing;
        let deadline = match self.by_id.get(id) {
            Some(live) if !began(live) => live.deadline,
            _ => now + transaction.timeout(),
        };
        self.by_id.insert(id.to_owned(), Live { transaction, deadline });
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), Code> {
        self.journal.append(changes).map_err(|error| {
            tracing::error!(%error, "the transaction journal could not be written");
            Code::CoordinatorNotAvailable
        })
    }

    fn rewrite_if_due(&mut self) {
        if !self.journal.wants_rewrite() {
            return;
        }
        let ids = Change::ProducerIdsUpto(self.ids_upto);
        let sets = self.by_id.iter().map(|(id, live)| Change::Set {
            id: id.clone(),
            transaction: live.transaction.clone(),
        });
        if let Err(error) = self.journal.rewrite(std::iter::once(ids).chain(sets)) {
            tracing::warn!(%error, "the transaction journal could not be shortened");
        }
    }
}
