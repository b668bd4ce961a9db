//! A commit that was prepared from what a table holds: it stands only if nobody has changed that meanwhile.
//!
//! Optimistic concurrency control as Delta's protocol has it: the commits since the version that was read are looked
//! through, and one that conflicts sends the caller back to read again.

use tracing::debug;

use crate::LakeError;
use crate::delta::action::{Action, parse_lines};
use crate::delta::commit::{KnownEnd, Plan, Transaction};
use crate::delta::conflict::{Conflict, ReadSet, conflicts};
use crate::delta::log::{Log, View};

impl Log {
    /// The version it became, or `None` when a commit after `read_version` conflicts with what was read. `id` must be
    /// unique, and among the actions as the commit's own.
    ///
    /// After an error nobody knows whether it was committed: read again what it was prepared from.
    pub(crate) async fn commit_prepared(
        &self,
        read_version: i64,
        id: &str,
        actions: &[Action],
        read: &ReadSet<'_>,
    ) -> Result<Option<i64>, LakeError> {
        let _lock = self.commit_lock.lock().await;
        self.ensure_fresh().await?;
        self.read_forward().await?;
        let mut prepared = Prepared {
            id,
            actions,
            read,
            outcome: None,
        };
        for version in read_version + 1..=self.version() {
            // Cleaned up already: whatever it said is too long ago to go on.
            let Some(commit) = self.location.read_commit(version).await? else {
                return Ok(None);
            };
            let actions = parse_lines(&commit).map_err(|error| self.unreadable(version, &error))?;
            prepared.saw(version, &actions);
        }
        let outcome = self.transact(&mut prepared, KnownEnd::Yes).await?;
        match outcome {
            Ok(version) => Ok(Some(version)),
            Err(conflict) => {
                debug!(table = %self.spec.name, %conflict, "overtaken");
                Ok(None)
            }
        }
    }
}

struct Prepared<'a> {
    id: &'a str,
    actions: &'a [Action],
    read: &'a ReadSet<'a>,
    /// The version that an earlier try became, or the first conflict, whichever the log has first.
    outcome: Option<Result<i64, Conflict>>,
}

impl Transaction for Prepared<'_> {
    type Outcome = Result<i64, Conflict>;

    fn plan(&mut self, _view: &View) -> Result<Plan<Self::Outcome>, LakeError> {
        Ok(match &self.outcome {
            Some(outcome) => Plan::Done(outcome.clone()),
            None => Plan::Put(self.actions.to_vec()),
        })
    }

    fn saw(&mut self, version: i64, actions: &[Action]) {
        if self.outcome.is_some() {
            return;
        }
        let is_own = actions.iter().any(|action| match action {
            Action::CommitInfo(info) => info.commit_id.as_deref() == Some(self.id),
            _ => false,
        });
        self.outcome = match is_own {
            true => Some(Ok(version)),
            false => conflicts(self.read, actions).map(Err),
        };
    }

    fn committed(&mut self, version: i64) -> Self::Outcome {
        Ok(version)
    }
}
