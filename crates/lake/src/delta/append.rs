//! Rows and the offsets they came from, as one commit.

use model::{Span, TopicPartition};
use tracing::{debug, info};

use crate::delta::action::{Action, Add, CommitInfo, CommitSpan, Txn};
use crate::delta::commit::{KnownEnd, Plan, Transaction};
use crate::delta::log::{APPEND, Log, View};
use crate::{Decision, LakeError, Recorded};

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed {
        version: i64,
    },
    /// The log already records exactly these spans' ends. `ours`: by this batch's own commit, whose outcome had been
    /// unknown; otherwise another writer's rows were committed and the files of this batch are orphans for vacuum.
    AlreadyLanded {
        version: i64,
        ours: bool,
    },
    /// Somebody else moved this partition: drop the batch and rewind to `recorded`.
    Fenced {
        topic_partition: TopicPartition,
        recorded: Option<i64>,
        span: Span,
    },
}

/// A batch as the log will record it.
pub(crate) struct Commit<'a> {
    /// Unique, and the same each time the same batch is tried.
    pub(crate) id: String,
    pub(crate) adds: Vec<&'a Add>,
    pub(crate) spans: &'a [(TopicPartition, Span)],
    pub(crate) rows: u64,
    /// Records that Kafka gave in the spans, rows and dead letters together, where the caller knows.
    pub(crate) records: Option<u64>,
    /// Rows and dead letters that these records make, where a record may make several or none.
    pub(crate) elements: Option<u64>,
}

impl Log {
    /// `decide` says what to do with the batch by what the log records; `moves_to` gives the offset that a span leaves
    /// behind, from the recorded one.
    pub(crate) async fn commit(
        &self,
        commit: &Commit<'_>,
        decide: impl Fn(&dyn Fn(&TopicPartition) -> Recorded) -> Decision + Send + Sync,
        moves_to: impl Fn(Option<i64>, Span) -> i64 + Send + Sync,
    ) -> Result<CommitOutcome, LakeError> {
        let _lock = self.commit_lock.lock().await;
        self.ensure_fresh().await?;
        let mut append = Append {
            log: self,
            commit,
            decide,
            moves_to,
        };
        let outcome = self.transact(&mut append, KnownEnd::No).await?;
        match &outcome {
            CommitOutcome::Committed { .. } => {}
            CommitOutcome::AlreadyLanded { version, ours } => {
                self.count(if *ours { "landed_before" } else { "landed_by_other" });
                debug!(table = %self.spec.name, version, ours, "committed before");
            }
            CommitOutcome::Fenced {
                topic_partition,
                recorded,
                span,
            } => {
                self.count("fenced");
                info!(table = %self.spec.name, %topic_partition, ?recorded, %span, "fenced: another writer moved the partition");
            }
        }
        Ok(outcome)
    }
}

struct Append<'a, D, M> {
    log: &'a Log,
    commit: &'a Commit<'a>,
    decide: D,
    moves_to: M,
}

impl<D, M> Transaction for Append<'_, D, M>
where
    D: Fn(&dyn Fn(&TopicPartition) -> Recorded) -> Decision + Send + Sync,
    M: Fn(Option<i64>, Span) -> i64 + Send + Sync,
{
    type Outcome = CommitOutcome;

    fn plan(&mut self, view: &View) -> Result<Plan<CommitOutcome>, LakeError> {
        let decision = (self.decide)(&|topic_partition| self.recorded(view, topic_partition));
        Ok(match decision {
            Decision::Commit => Plan::Put(self.actions(view)),
            Decision::AlreadyLanded { ours } => Plan::Done(CommitOutcome::AlreadyLanded {
                version: self.recorded_in(view),
                ours,
            }),
            Decision::Fenced {
                topic_partition,
                recorded,
                span,
            } => Plan::Done(CommitOutcome::Fenced {
                topic_partition,
                recorded,
                span,
            }),
        })
    }

    fn committed(&mut self, version: i64) -> CommitOutcome {
        CommitOutcome::Committed { version }
    }
}

impl<D, M: Fn(Option<i64>, Span) -> i64> Append<'_, D, M> {
    fn recorded(&self, view: &View, topic_partition: &TopicPartition) -> Recorded {
        view.txn(&self.log.txn_id(topic_partition))
            .map_or(Recorded::default(), |txn| Recorded {
                mark: Some(txn.mark()),
                ours: txn.commit_id.as_deref() == Some(self.commit.id.as_str()),
            })
    }

    /// The newest version that moved one of the partitions.
    fn recorded_in(&self, view: &View) -> i64 {
        let partitions = self.commit.spans.iter();
        let versions = partitions.filter_map(|(topic_partition, _)| view.txn(&self.log.txn_id(topic_partition)));
        versions.map(|txn| txn.recorded_in).max().unwrap_or(view.version)
    }

    fn actions(&self, view: &View) -> Vec<Action> {
        let commit = self.commit;
        let now_ms = self.log.clock.now_us() / 1000;
        let metrics = [
            ("numOutputRows", commit.rows.to_string()),
            ("numAddedFiles", commit.adds.len().to_string()),
        ];
        let metrics = metrics.map(|(name, value)| (name.to_owned(), value.into()));
        let spans = commit.spans.iter().map(|(place, span)| CommitSpan {
            topic: place.topic.to_string(),
            partition: place.partition,
            from: span.from,
            to: span.to,
            elements: None,
        });
        let info = CommitInfo {
            operation_metrics: Some(metrics.into_iter().collect()),
            // For `verify`: an offset without a row was never a record, if as many records as these are there.
            spans: Some(spans.collect()),
            records: commit.records,
            elements: commit.elements,
            ..self.log.commit_info(APPEND, &commit.id, Some(view.version))
        };
        let mut actions = vec![Action::CommitInfo(Box::new(info))];
        actions.extend(commit.spans.iter().map(|(topic_partition, span)| {
            let id = self.log.txn_id(topic_partition);
            let recorded = view.txn(&id).map(|txn| txn.version);
            Action::Txn(Txn {
                app_id: id,
                version: (self.moves_to)(recorded, *span),
                last_updated: Some(now_ms),
                rest: serde_json::Map::new(),
            })
        }));
        actions.extend(commit.adds.iter().map(|add| Action::Add(Box::new((*add).clone()))));
        actions
    }
}
