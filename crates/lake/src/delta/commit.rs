//! The commit loop: plan, put the next version if it is absent, and after anything but a plain success read the log back
//! and plan again. The one loop for all that enters a log.
//!
//! A failed put proves nothing: it may have been done, or be done later. It is safe to try the same version again because
//! a version is only ever taken once, and the log then says by the commit's id whose it was. Nothing is ever deleted here.

use std::time::{Duration, Instant};

use metrics::{counter, histogram};
use object_store::{Error as StoreError, ObjectStore as _, PutMode, PutOptions};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::LakeError;
use crate::delta::action::{Action, to_lines};
use crate::delta::log::{Log, View};
use crate::error::{describe, is_contended};
use crate::pause::jittered;

/// Puts that may fail for other reasons than a taken version, before the caller hears of it (about 3 s of back-off).
const FAULTS_MAX: u32 = 8;
/// Versions that others may take before us.
const CONFLICTS_MAX: u32 = 200;
const BACK_OFF_FIRST_MS: u64 = 10;
const BACK_OFF_MAX_MS: u64 = 1000;

/// What to do about a transaction, given the log as far as it was read.
pub(crate) enum Plan<T> {
    /// Put these actions as the next version.
    Put(Vec<Action>),
    /// There is nothing (more) to put.
    Done(T),
}

/// Something to commit. Decides; the loop acts.
pub(crate) trait Transaction: Send {
    type Outcome: Send;

    /// Asked before each put, with what is known of the log by then.
    fn plan(&mut self, view: &View) -> Result<Plan<Self::Outcome>, LakeError>;

    /// A commit was read that the log did not have at the last plan, another's or an earlier try of this one.
    fn saw(&mut self, version: i64, actions: &[Action]) {
        let _ = (version, actions);
    }

    /// The last plan's actions are this version.
    fn committed(&mut self, version: i64) -> Self::Outcome;
}

/// How much the caller knows of the log's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KnownEnd {
    /// It has just been read.
    Yes,
    /// There may be commits of others. They can only turn a put into something else, which the put finds out: so a put
    /// may be tried, but nothing else returned before the log was read.
    No,
}

impl Log {
    /// Commits a transaction. The caller holds `commit_lock`.
    ///
    /// After a retryable error the outcome may be unknown.
    pub(crate) async fn transact<T: Transaction>(
        &self,
        transaction: &mut T,
        known_end: KnownEnd,
    ) -> Result<T::Outcome, LakeError> {
        let started = Instant::now();
        let mut read_back = known_end == KnownEnd::Yes;
        let (mut faults, mut conflicts) = (0, 0);
        let (mut failed, mut at_limit) = (None, false);
        loop {
            let plan = transaction.plan(&self.view())?;
            let actions = match plan {
                Plan::Done(outcome) if read_back => return Ok(outcome),
                Plan::Done(_) => {
                    self.read_forward_with(|version, actions| transaction.saw(version, actions))
                        .await?;
                    read_back = true;
                    continue;
                }
                Plan::Put(_) if at_limit => return Err(self.unsettled(faults + conflicts, failed)),
                Plan::Put(actions) => actions,
            };
            // Each time: reading back may have failed after it had taken over another's metadata.
            self.check()?;
            if actions.iter().any(changes_rows) {
                self.check_rewritable()?;
            }
            let version = self.version() + 1;
            failed = match self.put_commit(version, &actions).await? {
                Put::Done => {
                    self.take_over(version, &actions)?;
                    self.saw_the_end();
                    self.count("committed");
                    histogram!("smartcity_lake_commit_seconds").record(started.elapsed().as_secs_f64());
                    debug!(table = %self.spec.name, version, actions = actions.len(), "committed");
                    self.checkpoint_when_due(version);
                    return Ok(transaction.committed(version));
                }
                Put::Taken => {
                    conflicts += 1;
                    self.count("conflict");
                    None
                }
                Put::Contended => {
                    conflicts += 1;
                    self.count("contended");
                    None
                }
                Put::Unknown(error) => {
                    faults += 1;
                    self.count("unknown");
                    warn!(table = %self.spec.name, version, error = %describe(&error), "outcome of a commit unknown, reading the log back");
                    Some(error)
                }
            };
            at_limit = faults >= FAULTS_MAX
                || conflicts >= CONFLICTS_MAX
                || failed.as_ref().is_some_and(|error| !error.is_retryable());
            if !at_limit {
                // A taken version needs no pause the first time: it has only to be read.
                let pause = self.back_off(faults, conflicts.saturating_sub(1));
                self.pause.wait(pause).await;
            }
            let read = self.read_forward_with(|version, actions| transaction.saw(version, actions));
            match read.await {
                Ok(()) => read_back = true,
                Err(error) if at_limit => return Err(self.unsettled(faults + conflicts, failed.or(Some(error)))),
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => {
                    faults += 1;
                    warn!(table = %self.spec.name, error = %describe(&error), "cannot read the log back yet");
                }
            }
        }
    }

    /// Puts a version if it is absent, which is what makes a commit atomic.
    async fn put_commit(&self, version: i64, actions: &[Action]) -> Result<Put, LakeError> {
        let body = to_lines(actions).map_err(|error| LakeError::batch(&self.spec.name, error.to_string()))?;
        let path = self.location.commit_path(version);
        let options = PutOptions::from(PutMode::Create);
        let put = self.location.store().put_opts(&path, body.into(), options);
        Ok(match put.await {
            Ok(_) => Put::Done,
            Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Put::Taken,
            Err(error) if is_contended(&error) => Put::Contended,
            Err(error) => Put::Unknown(LakeError::store("commit", path, error)),
        })
    }

    pub(crate) fn unsettled(&self, tries: u32, error: Option<LakeError>) -> LakeError {
        match error {
            Some(error) if !error.is_retryable() => error,
            error => LakeError::Unsettled {
                table: self.spec.name.clone(),
                tries,
                source: error.map(|error| Box::new(error) as _),
            },
        }
    }

    pub(crate) fn count(&self, outcome: &'static str) {
        counter!("smartcity_lake_commits_total", "table" => self.spec.name.clone(), "outcome" => outcome).increment(1);
    }

    pub(crate) fn back_off(&self, faults: u32, conflicts: u32) -> Duration {
        back_off(faults + conflicts.min(4), self.names.next())
    }
}

/// Takes rows out of the table, to change or to remove them.
fn changes_rows(action: &Action) -> bool {
    matches!(action, Action::Remove(remove) if remove.data_change)
}

/// What a store said to a put.
enum Put {
    Done,
    /// There is such a version; it may be ours.
    Taken,
    /// It met another put of the same version: not done, and nothing was taken.
    Contended,
    /// Done or not.
    Unknown(LakeError),
}

/// Doubling, none before the first try.
pub(crate) fn back_off(tries: u32, chance: Uuid) -> Duration {
    if tries == 0 {
        return Duration::ZERO;
    }
    let full_ms = (BACK_OFF_FIRST_MS << (tries - 1).min(16)).min(BACK_OFF_MAX_MS);
    jittered(Duration::from_millis(full_ms), chance)
}
