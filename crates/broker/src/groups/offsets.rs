//! What groups have committed, as the journal keeps it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::settled::Settled;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) at_ms: i64,
}

pub(crate) type Place = (String, i32);

/// The offsets of one group: those committed, and those inside transactions that are still open.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    pub(crate) committed: BTreeMap<Place, Committed>,
    /// By producer id.
    pub(crate) pending: HashMap<i64, BTreeMap<Place, Committed>>,
}

/// One line of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Group {
        group: String,
        generation: i32,
        protocol_type: Option<String>,
        /// Its members, when it is stable.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settled: Option<Settled>,
    },
    Commit {
        group: String,
        topic: String,
        partition: i32,
        committed: Committed,
    },
    Pend {
        group: String,
        producer_id: i64,
        topic: String,
        partition: i32,
        committed: Committed,
    },
    Resolve {
        group: String,
        producer_id: i64,
        commit: bool,
    },
    Forget {
        group: String,
        topic: String,
        partition: i32,
    },
    Delete {
        group: String,
    },
}

impl Offsets {
    pub(crate) fn resolve(&mut self, producer_id: i64, commit: bool) {
        if let Some(pending) = self.pending.remove(&producer_id)
            && commit
        {
            self.committed.extend(pending);
        }
    }

    pub(crate) fn has_pending(&self, place: &Place) -> bool {
        self.pending.values().any(|pending| pending.contains_key(place))
    }
}
