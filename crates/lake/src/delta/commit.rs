//! The commit protocol: decide, put the next version if it is absent, and after anything but a plain success read the log
//! back and decide again.
//!
//! A failed put proves nothing: it may have landed, or land later. It is safe to try the same version again because a
//! version is only ever taken once, and the log then tells by the commit's id whose it was. Nothing is ever deleted here.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use metrics::{counter, histogram};
use model::{Span, TopicPartition};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde_json::{Value, json};
use std::sync::Arc;
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::error::is_contended;
use crate::delta::log::{Log, View, json_lines};
use crate::pause::jittered;
use crate::delta::schema::CHECKPOINT_INTERVAL;
use crate::{Decision, LakeError, Recorded};

/// The operation of a commit that adds rows and reads nothing, as Spark names it.
const APPEND: &str = "STREAMING UPDATE";

/// Puts that may fail for other reasons than a taken version, before the caller hears of it (about 3 s of back-off).
const FAULTS_MAX: u32 = 8;
/// After a checkpoint failed, versions until it is tried again.
const CHECKPOINT_RETRY: i64 = 10;
/// Versions that others may take before us.
const CONFLICTS_MAX: u32 = 200;
const BACK_OFF_FIRST_MS: u64 = 10;
const BACK_OFF_MAX_MS: u64 = 1000;

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed {
        version: i64,
    },
    /// The log already records exactly these spans' ends. `ours`: by this batch's own commit, whose outcome had been
    /// unknown; otherwise another writer's rows landed and the files of this batch are orphans for vacuum.
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
    pub(crate) adds: &'a [Value],
    pub(crate) spans: &'a [(TopicPartition, Span)],
    pub(crate) rows: u64,
    /// Records that Kafka gave in the spans, rows and letters together, where the caller knows.
    pub(crate) records: Option<u64>,
    /// Rows and dead letters that these records make, where a record may make several or none.
    pub(crate) elements: Option<u64>,
}

impl Log {
    /// `decide` judges the batch by a view; `moves_to` gives the offset that a span leaves behind, from the recorded one.
    pub(crate) async fn commit(
        &self,
        commit: &Commit<'_>,
        decide: impl Fn(&dyn Fn(&TopicPartition) -> Recorded) -> Decision + Send + Sync,
        moves_to: impl Fn(Option<i64>, Span) -> i64 + Send + Sync,
    ) -> Result<CommitOutcome, LakeError> {
        let started = Instant::now();
        let _turn = self.turn.lock().await;
        self.ensure_fresh().await?;
        let (mut faults, mut conflicts) = (0, 0);
        // Until the log was read in this call, the view may lack commits of others; they can only turn a `Commit` into
        // something else, which the put finds out, so a `Commit` may be tried on it and nothing else returned.
        let mut read_back = false;
        loop {
            let decision = decide(&|topic_partition| self.recorded_by(&self.view(), topic_partition, &commit.id));
            if decision != Decision::Commit {
                if !read_back {
                    self.read_forward().await?;
                    read_back = true;
                    continue;
                }
                return Ok(self.settled(decision, commit));
            }
            // Each time: reading back may have failed after it had taken over another's metadata.
            self.check()?;
            let (version, moved) = {
                let view = self.view();
                let moved: Vec<(String, i64)> = commit
                    .spans
                    .iter()
                    .map(|(topic_partition, span)| {
                        let id = self.txn_id(topic_partition);
                        let recorded = view.txn(&id).map(|txn| txn.offset);
                        (id, moves_to(recorded, *span))
                    })
                    .collect();
                (view.version + 1, moved)
            };
            let failed = match self
                .put_commit(version, self.actions(commit, &moved, version - 1))
                .await
            {
                Ok(()) => {
                    self.apply_own(version, &commit.id, &moved);
                    self.count("committed");
                    histogram!("smartcity_lake_commit_seconds").record(started.elapsed().as_secs_f64());
                    debug!(table = %self.spec.name, version, rows = commit.rows, files = commit.adds.len(), "committed");
                    self.checkpoint_when_due(version);
                    return Ok(CommitOutcome::Committed { version });
                }
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    conflicts += 1;
                    self.count("conflict");
                    None
                }
                Err(error) if is_contended(&error) => {
                    conflicts += 1;
                    self.count("contended");
                    None
                }
                Err(error) => {
                    faults += 1;
                    self.count("unknown");
                    let error = LakeError::store("commit", self.commit_path(version), error);
                    warn!(table = %self.spec.name, version, error = %describe(&error), "outcome of a commit unknown, reading the log back");
                    Some(error)
                }
            };
            let last_try = faults >= FAULTS_MAX
                || conflicts >= CONFLICTS_MAX
                || failed.as_ref().is_some_and(|error| !error.is_retryable());
            if !last_try {
                // A taken version needs no pause the first time: it has only to be read.
                self.pause
                    .wait(self.back_off(faults, conflicts.saturating_sub(1)))
                    .await;
            }
            match self.read_forward().await {
                Ok(()) => read_back = true,
                Err(error) if last_try => return Err(self.unsettled(faults + conflicts, failed.unwrap_or(error))),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => {
                    faults += 1;
                    warn!(table = %self.spec.name, error = %describe(&error), "cannot read the log back yet");
                    continue;
                }
            }
            if last_try {
                let decision = decide(&|topic_partition| self.recorded_by(&self.view(), topic_partition, &commit.id));
                return match decision {
                    Decision::Commit => Err(match failed {
                        Some(error) => self.unsettled(faults + conflicts, error),
                        None => LakeError::Unsettled {
                            table: self.spec.name.clone(),
                            tries: faults + conflicts,
                            source: None,
                        },
                    }),
                    decision => Ok(self.settled(decision, commit)),
                };
            }
        }
    }

    /// Puts a version if it is absent, which is what makes a commit atomic.
    pub(crate) async fn put_commit(&self, version: i64, body: Bytes) -> Result<(), StoreError> {
        let options = PutOptions::from(PutMode::Create);
        self.store
            .put_opts(&self.commit_path(version), body.into(), options)
            .await?;
        Ok(())
    }

    pub(crate) fn commit_info(&self, operation: &str, commit_id: &str, read_version: Option<i64>) -> Value {
        json!({"commitInfo": {
            "timestamp": self.clock.now_us() / 1000,
            "operation": operation,
            "operationParameters": {"outputMode": "Append", "queryId": self.application()},
            "readVersion": read_version,
            "isolationLevel": "Serializable",
            "isBlindAppend": operation == APPEND,
            "engineInfo": concat!("smartcity/", env!("CARGO_PKG_VERSION")),
            "commitId": commit_id,
        }})
    }

    fn actions(&self, commit: &Commit<'_>, moved: &[(String, i64)], read_version: i64) -> Bytes {
        let now_ms = self.clock.now_us() / 1000;
        let mut info = self.commit_info(APPEND, &commit.id, Some(read_version));
        info["commitInfo"]["operationMetrics"] = json!({
            "numOutputRows": commit.rows.to_string(),
            "numAddedFiles": commit.adds.len().to_string(),
        });
        // Ours, for `verify`: an offset without a row was never a record, if as many records as these are there.
        let spans = commit.spans.iter().map(|(place, span)| {
            json!({"topic": &*place.topic, "partition": place.partition, "from": span.from, "to": span.to})
        });
        info["commitInfo"]["spans"] = spans.collect();
        if let Some(records) = commit.records {
            info["commitInfo"]["records"] = json!(records);
        }
        if let Some(elements) = commit.elements {
            info["commitInfo"]["elements"] = json!(elements);
        }
        let mut actions = vec![info];
        let txns = moved
            .iter()
            .map(|(id, offset)| json!({"txn": {"appId": id, "version": offset, "lastUpdated": now_ms}}));
        actions.extend(txns);
        actions.extend(commit.adds.iter().cloned());
        json_lines(&actions)
    }

    fn recorded_by(&self, view: &View, topic_partition: &TopicPartition, commit_id: &str) -> Recorded {
        view.txn(&self.txn_id(topic_partition))
            .map_or(Recorded::default(), |txn| Recorded {
                mark: Some(txn.mark()),
                ours: txn.commit_id.as_deref() == Some(commit_id),
            })
    }

    fn settled(&self, decision: Decision, commit: &Commit<'_>) -> CommitOutcome {
        match decision {
            Decision::Fenced {
                topic_partition,
                recorded,
                span,
            } => {
                self.count("fenced");
                info!(table = %self.spec.name, %topic_partition, ?recorded, %span, "fenced: another writer moved the partition");
                CommitOutcome::Fenced {
                    topic_partition,
                    recorded,
                    span,
                }
            }
            Decision::AlreadyLanded { ours } => {
                self.count(if ours { "landed_before" } else { "landed_by_other" });
                let view = self.view();
                let version = commit
                    .spans
                    .iter()
                    .filter_map(|(topic_partition, _)| view.txn(&self.txn_id(topic_partition)))
                    .map(|txn| txn.at)
                    .max()
                    .unwrap_or(view.version);
                debug!(table = %self.spec.name, version, ours, "landed before");
                CommitOutcome::AlreadyLanded { version, ours }
            }
            Decision::Commit => unreachable!("a commit is settled by its put"),
        }
    }

    fn unsettled(&self, tries: u32, error: LakeError) -> LakeError {
        if !error.is_retryable() {
            return error;
        }
        LakeError::Unsettled {
            table: self.spec.name.clone(),
            tries,
            source: Some(Box::new(error)),
        }
    }

    fn count(&self, outcome: &'static str) {
        counter!("smartcity_lake_commits_total", "table" => self.spec.name.clone(), "outcome" => outcome).increment(1);
    }

    pub(crate) fn back_off(&self, faults: u32, conflicts: u32) -> Duration {
        back_off(faults + conflicts.min(4), self.names.next())
    }

    /// Every so many versions the log is summed up, beside the commits and without holding them up. A failure costs the
    /// next reader some time and nothing else; it is tried again some versions later.
    pub(crate) fn checkpoint_when_due(&self, version: i64) {
        if version - self.checkpointed.load(Ordering::Relaxed) < CHECKPOINT_INTERVAL {
            return;
        }
        let Ok(running) = Arc::clone(&self.checkpoint).try_lock_owned() else {
            return;
        };
        let log_store = self.log_store();
        let table = self.spec.name.clone();
        let checkpointed = Arc::clone(&self.checkpointed);
        let (store, last) = (Arc::clone(&self.store), self.log_path().join("_last_checkpoint"));
        tokio::spawn(async move {
            let _running = running;
            let started = Instant::now();
            // Another writer may have been faster.
            let newest = last_checkpoint(&*store, &last).await.unwrap_or(0);
            if version - newest < CHECKPOINT_INTERVAL {
                checkpointed.store(newest, Ordering::Relaxed);
                return;
            }
            let outcome = match write_checkpoint(log_store, version).await {
                Ok(()) => {
                    checkpointed.store(version, Ordering::Relaxed);
                    "written"
                }
                Err(error) => {
                    warn!(table, version, error, "no checkpoint written; a later version will do");
                    checkpointed.store(version - CHECKPOINT_INTERVAL + CHECKPOINT_RETRY, Ordering::Relaxed);
                    "failed"
                }
            };
            counter!("smartcity_lake_checkpoints_total", "table" => table, "outcome" => outcome).increment(1);
            histogram!("smartcity_lake_checkpoint_seconds").record(started.elapsed().as_secs_f64());
        });
    }
}

/// The version of the newest checkpoint, as the log's own pointer says (Delta protocol, "Last Checkpoint File").
async fn last_checkpoint(store: &dyn ObjectStore, path: &Path) -> Option<i64> {
    let bytes = store.get(path).await.ok()?.bytes().await.ok()?;
    serde_json::from_slice::<Value>(&bytes).ok()?["version"].as_i64()
}

async fn write_checkpoint(log_store: deltalake_core::logstore::LogStoreRef, version: i64) -> Result<(), String> {
    let mut table = deltalake_core::DeltaTable::new(log_store);
    table
        .load_version(version as u64)
        .await
        .map_err(|error| error.to_string())?;
    deltalake_core::checkpoints::create_checkpoint(&table, None)
        .await
        .map_err(|error| error.to_string())
}

/// Doubling, none before the first try.
pub(crate) fn back_off(tries: u32, chance: Uuid) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let full_ms = (BACK_OFF_FIRST_MS << (tries - 1).min(16)).min(BACK_OFF_MAX_MS);
    jittered(Duration::from_millis(full_ms), chance)
}

/// An error with its causes, for a log line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        // Many errors print their cause as well.
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
