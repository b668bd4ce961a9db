//! A commit that was prepared from what a table holds: it stands only if nobody has changed that meanwhile.
//!
//! Optimistic concurrency control as Delta's protocol has it: the commits since the version that was read are looked
//! through, and one that changes what was read sends the caller back to read anew.

use bytes::Bytes;
use object_store::Error as StoreError;
use serde_json::Value;
use tracing::{debug, warn};

use crate::LakeError;
use crate::delta::log::{Log, json_lines};
use crate::error::describe;

/// Puts that may fail for other reasons than a taken version.
const FAULTS_MAX: u32 = 8;
/// Versions that others may take before us.
const CONFLICTS_MAX: u32 = 200;

impl Log {
    /// The version it became, or `None` when an action of a later version than `read_version` is in the way. `id` must be
    /// unique, and among the actions as the commit's own.
    ///
    /// After an error nobody knows whether it landed: read anew what it was prepared from.
    pub(crate) async fn commit_prepared(
        &self,
        read_version: i64,
        id: &str,
        actions: &[Value],
        is_in_the_way: impl Fn(&Value) -> bool,
    ) -> Result<Option<i64>, LakeError> {
        let _turn = self.turn.lock().await;
        let body = json_lines(actions);
        let (mut seen, mut faults, mut conflicts) = (read_version, 0, 0);
        loop {
            self.read_forward().await?;
            while seen < self.version() {
                seen += 1;
                // Cleaned up already: whatever it said is too long ago to go on.
                let Some(commit) = self.read_commit(seen).await? else {
                    return Ok(None);
                };
                let actions = parse(&commit).map_err(|error| {
                    LakeError::unusable(&self.spec.name, format!("{}: {error}", self.commit_path(seen)))
                })?;
                if actions.iter().any(|action| action["commitInfo"]["commitId"] == id) {
                    self.checkpoint_when_due(seen);
                    return Ok(Some(seen));
                }
                if actions.iter().any(&is_in_the_way) {
                    debug!(table = %self.spec.name, version = seen, "overtaken");
                    return Ok(None);
                }
            }
            let version = seen + 1;
            match self.put_commit(version, body.clone()).await {
                // Read forward and found again, so that what it says enters the view.
                Ok(()) => {}
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    conflicts += 1;
                    if conflicts >= CONFLICTS_MAX {
                        return Err(self.gave_up(faults + conflicts, None));
                    }
                }
                Err(error) => {
                    faults += 1;
                    let error = LakeError::store("commit", self.commit_path(version), error);
                    warn!(table = %self.spec.name, version, error = %describe(&error), "outcome of a commit unknown, reading the log back");
                    if !error.is_retryable() {
                        return Err(error);
                    }
                    if faults >= FAULTS_MAX {
                        return Err(self.gave_up(faults + conflicts, Some(error)));
                    }
                    self.pause.wait(self.back_off(faults, 0)).await;
                }
            }
        }
    }

    fn gave_up(&self, tries: u32, source: Option<LakeError>) -> LakeError {
        LakeError::Unsettled {
            table: self.spec.name.clone(),
            tries,
            source: source.map(|error| Box::new(error) as _),
        }
    }
}

fn parse(commit: &Bytes) -> Result<Vec<Value>, serde_json::Error> {
    let lines = commit.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(serde_json::from_slice).collect()
}
