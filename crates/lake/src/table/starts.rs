//! Where reading of a topic starts: decided once for each application and topic, and committed before the first read.
//!
//! Without the commit, "latest" would be decided again at each start for a partition without rows, and whatever was
//! sent between two starts would be skipped. The starts of all partitions are one commit, so a partition that has none
//! afterwards was added later: it is read from offset 0. `docs/design/ingest.md` has the reasons.

use std::collections::{BTreeMap, BTreeSet};

use model::TopicPartition;
use serde_json::Map;
use tracing::{info, warn};

use crate::LakeError;
use crate::delta::action::{Action, CommitInfo, CommitSpan, Metadata, Txn};
use crate::delta::change::with_absent_property;
use crate::delta::commit::{KnownEnd, Plan, Transaction};
use crate::delta::log::{Log, STARTING_OFFSETS, View};
use crate::table::stream::Table;

/// The operation of commits that record where partitions start.
pub(crate) const RECORD_STARTS: &str = "RECORD STARTING OFFSETS";

/// What the property says where an earlier release, which recorded no starts, has committed rows of the topic.
const EARLIER_RELEASE: &str = "earlier release";

/// A partition of a topic, and where it would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartingOffset {
    pub partition: i32,
    /// By the application's settings, where it has never read the topic.
    pub first: i64,
    /// The first offset that Kafka still holds.
    pub earliest: i64,
}

/// What an application has recorded of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// Nothing: this is its first start.
    None,
    /// Offsets of some partitions. An earlier release may have skipped records of the others, or never met any.
    Offsets,
    /// Where each partition starts that the topic had at the time.
    Starts,
}

/// Where a partition without a recorded offset starts. Pure.
fn start(history: History, proposed: StartingOffset) -> i64 {
    match history {
        History::None => proposed.first,
        // Rather records that "latest" would have left out than a record skipped.
        History::Offsets => proposed.earliest,
        // The partition is new. What Kafka has already deleted of it is lost data, and is treated as such.
        History::Starts => 0,
    }
}

impl Table {
    /// Whether it is recorded where the topic starts, and an offset of each of these partitions. Refresh first.
    pub fn has_starts(&self, topic: &str, partitions: impl IntoIterator<Item = i32>) -> bool {
        let view = self.log.view();
        let is_recorded = |partition| {
            let place = TopicPartition::new(topic, partition);
            view.txn(&self.log.txn_id(&place)).is_some()
        };
        history(&self.log, &view, topic) == History::Starts && partitions.into_iter().all(is_recorded)
    }

    /// Records an offset for each of these partitions that has none. The log decides between several writers: whoever
    /// commits first decides where the topic starts. `partitions` holds all that the topic has; `policy` is what `first`
    /// follows from ("latest"), for people who look at the table's properties.
    ///
    /// Offsets that were recorded and that a checkpoint of another writer has dropped since are recovered from what was
    /// committed.
    ///
    /// # Errors
    /// An offset was dropped and cannot be told: to start the partition again would repeat its rows. After a retryable
    /// error the outcome may be unknown: refresh and call again, also with other offsets.
    pub async fn record_starts(
        &self,
        topic: &str,
        policy: &str,
        partitions: &[StartingOffset],
    ) -> Result<(), LakeError> {
        let recovered = self.recovered(topic, partitions).await?;
        let _lock = self.log.commit_lock.lock().await;
        let mut record = RecordStarts {
            log: &self.log,
            topic,
            policy,
            partitions,
            recovered,
            id: self.log.names.next().to_string(),
            planned: Vec::new(),
            history: History::None,
        };
        self.log.transact(&mut record, KnownEnd::No).await
    }

    /// Offsets that were recorded and have been dropped from the log since, by partition.
    async fn recovered(&self, topic: &str, partitions: &[StartingOffset]) -> Result<BTreeMap<i32, i64>, LakeError> {
        let (unrecorded, has_read): (BTreeSet<i32>, bool) = {
            let view = self.log.view();
            let partitions = partitions.iter().map(|start| start.partition);
            let is_unrecorded = |partition: &i32| {
                let place = TopicPartition::new(topic, *partition);
                view.txn(&self.log.txn_id(&place)).is_none()
            };
            let has_read = history(&self.log, &view, topic) != History::None;
            (partitions.filter(is_unrecorded).collect(), has_read)
        };
        if unrecorded.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.lost_offsets(topic, &unrecorded, has_read).await
    }
}

/// In a property and not in a `txn`, which other writers may let expire.
fn property(log: &Log, topic: &str) -> String {
    format!("{STARTING_OFFSETS}{}/{topic}", log.application())
}

fn history(log: &Log, view: &View, topic: &str) -> History {
    let property = property(log, topic);
    if view
        .metadata()
        .is_some_and(|metadata| metadata.property(&property).is_some())
    {
        History::Starts
    } else if view.has_txn_of(&format!("{}/{topic}/", log.application())) {
        History::Offsets
    } else {
        History::None
    }
}

struct RecordStarts<'a> {
    log: &'a Log,
    topic: &'a str,
    policy: &'a str,
    partitions: &'a [StartingOffset],
    /// Offsets that were recorded once and are not any more.
    recovered: BTreeMap<i32, i64>,
    id: String,
    /// Of the last plan: partitions without an offset, and where they start.
    planned: Vec<(TopicPartition, i64)>,
    history: History,
}

impl Transaction for RecordStarts<'_> {
    type Outcome = ();

    fn plan(&mut self, view: &View) -> Result<Plan<()>, LakeError> {
        self.history = history(self.log, view, self.topic);
        self.planned.clear();
        let (mut spans, mut txns) = (Vec::new(), Vec::new());
        for proposed in self.partitions {
            let place = TopicPartition::new(self.topic, proposed.partition);
            let id = self.log.txn_id(&place);
            let recorded = view.txn(&id).map(|txn| txn.version);
            let lost = self.recovered.get(&proposed.partition).copied();
            let offset = recorded.or(lost).unwrap_or_else(|| start(self.history, *proposed));
            // Where starts are recorded for the first time the commit names all partitions that there are, for `verify`.
            if recorded.is_none() || self.history == History::Offsets {
                spans.push(CommitSpan {
                    topic: self.topic.to_owned(),
                    partition: proposed.partition,
                    from: offset,
                    to: offset,
                    elements: None,
                });
            }
            if recorded.is_none() {
                txns.push(Action::Txn(Txn {
                    app_id: id,
                    version: offset,
                    last_updated: Some(self.log.clock.now_us() / 1000),
                    rest: Map::new(),
                }));
                self.planned.push((place, offset));
            }
        }
        let changed = self.metadata(view)?;
        if txns.is_empty() && changed.is_none() {
            return Ok(Plan::Done(()));
        }
        let info = CommitInfo {
            spans: Some(spans),
            records: Some(0),
            ..self.log.commit_info(RECORD_STARTS, &self.id, Some(view.version))
        };
        let mut actions = vec![Action::CommitInfo(Box::new(info))];
        actions.extend(changed.map(|metadata| Action::Metadata(Box::new(metadata))));
        actions.extend(txns);
        Ok(Plan::Put(actions))
    }

    fn committed(&mut self, version: i64) {
        let (table, topic) = (self.log.spec.name.as_str(), self.topic);
        for (partition, offset) in &self.planned {
            if self.recovered.contains_key(&partition.partition) {
                warn!(
                    table, %partition, offset, version,
                    "something has dropped the recorded offset from the log: recovered from what was committed"
                );
                continue;
            }
            match self.history {
                History::None => info!(table, %partition, offset, version, "starting offset recorded"),
                History::Offsets => warn!(
                    table, %partition, offset, version,
                    "an earlier release has read the topic and recorded nothing of this partition: it is read from the \
                     first offset that Kafka holds"
                ),
                History::Starts => info!(table, %partition, offset, version, "new partition: read from its beginning"),
            }
        }
        if self.planned.is_empty() {
            info!(table, topic, version, "the partitions that the topic has are recorded");
        }
    }
}

impl RecordStarts<'_> {
    /// With the property that says that the topic's starts are recorded; `None` when it is there.
    fn metadata(&self, view: &View) -> Result<Option<Metadata>, LakeError> {
        let absent = || LakeError::unusable(&self.log.spec.name, "its log has no metadata");
        let found = view.metadata().ok_or_else(absent)?;
        let policy = match self.history {
            History::Offsets => EARLIER_RELEASE,
            History::None | History::Starts => self.policy,
        };
        Ok(with_absent_property(found, &property(self.log, self.topic), policy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_start_follows_the_settings() {
        let proposed = StartingOffset {
            partition: 3,
            first: 90,
            earliest: 20,
        };
        assert_eq!(start(History::None, proposed), 90);
        assert_eq!(start(History::Offsets, proposed), 20);
        assert_eq!(start(History::Starts, proposed), 0);
    }
}
