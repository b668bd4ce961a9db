//! Producer ids and transactions.

use std::path::Path;

use kafka_protocol::error::ResponseError as Code;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::journal::Journal;
use crate::log::{BatchHeader, LogError};
use crate::state::State;

/// Ids are taken from the journal in blocks, so that handing one out writes nothing most of the time.
const ID_BLOCK: i64 = 1000;

#[derive(Debug)]
pub(crate) struct Transactions {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    journal: Journal,
    next_id: i64,
    /// Ids below this one are ours to give.
    ids_upto: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    ProducerIdsUpto(i64),
}

impl Transactions {
    pub(crate) fn open(path: &Path, _config: &BrokerConfig) -> Result<Self, BrokerError> {
        let mut ids_upto = 1000;
        let journal = Journal::open(path, |change: Change| match change {
            Change::ProducerIdsUpto(upto) => ids_upto = upto,
        })?;
        Ok(Self { inner: Mutex::new(Inner { journal, next_id: ids_upto, ids_upto }) })
    }

    /// A producer id that no one has had, also over restarts.
    pub(crate) fn new_producer_id(&self) -> Result<i64, Code> {
        self.inner.lock().new_producer_id()
    }

    /// A transactional batch is only for a partition that is in its producer's open transaction.
    pub(crate) fn check_produce(
        &self,
        _transactional_id: Option<&str>,
        _header: &BatchHeader,
        _topic: &str,
        _partition: i32,
    ) -> Result<(), LogError> {
        Err(LogError::refused(Code::InvalidTxnState, "there is no such transaction"))
    }

    pub(crate) fn complete_prepared(&self, _state: &State) {}

    pub(crate) fn tick(&self, _state: &State) {}

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.inner.lock().journal.sync()
    }
}

impl Inner {
    fn new_producer_id(&mut self) -> Result<i64, Code> {
        if self.next_id >= self.ids_upto {
            let upto = self.ids_upto + ID_BLOCK;
            self.journal.append(&[Change::ProducerIdsUpto(upto)]).map_err(|error| {
                tracing::error!(%error, "producer ids could not be written");
                Code::CoordinatorNotAvailable
            })?;
            self.ids_upto = upto;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }
}
