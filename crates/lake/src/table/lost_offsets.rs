//! Offsets that were recorded and that the log no longer holds.
//!
//! Delta lets a checkpoint leave out an application's transactions once they are old
//! (`delta.setTransactionRetentionDuration`), and with them go the offsets of quiet partitions. Such a partition must not
//! be read from its start again. What was committed says how far it was read: the commits that are still in the log, what
//! the table `commits` keeps of them, and the rows themselves. Each bounds the offset from below, and none is ever too
//! high, so the greatest is taken.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use model::{OFFSET, PARTITION, TOPIC, TopicPartition};
use serde_json::Value;

use crate::LakeError;
use crate::delta::action::{Action, parse_lines};
use crate::delta::replay::read_commits;
use crate::table::stream::{Identities, Table};

impl Table {
    /// The offsets up to which these partitions of a topic were read by this application, of which the log records none.
    /// Those that were never read are left out. Refresh first.
    ///
    /// `has_read`: the application has read the topic before, if not these partitions.
    ///
    /// # Errors
    /// Other applications have read the topic too, and rows do not tell which of them committed them.
    pub(super) async fn lost_offsets(
        &self,
        topic: &str,
        unrecorded: &BTreeSet<i32>,
        has_read: bool,
    ) -> Result<BTreeMap<i32, i64>, LakeError> {
        let rows = self.ends_of_rows(topic, unrecorded).await?;
        let wanted: BTreeSet<i32> = match self.log.lets_offsets_expire() {
            true => unrecorded.clone(),
            false => rows.keys().copied().collect(),
        };
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut found = self.log.kept_offsets(topic, &wanted).await?;
        for (partition, offset) in self.committed_offsets(topic, &wanted).await? {
            let known = found.entry(partition).or_insert(offset);
            *known = (*known).max(offset);
        }
        let others = self.log.other_applications(topic);
        for (partition, end) in rows {
            match found.get(&partition) {
                Some(known) if *known >= end => {}
                // The rows are this application's.
                _ if others.is_empty() => drop(found.insert(partition, end)),
                // Its first start: the rows are theirs.
                None if !has_read => {}
                _ => {
                    return Err(LakeError::unusable(
                        self.name(),
                        format!(
                            "it has rows of {topic}[{partition}] up to offset {} and records no offset of that partition \
                             for the application `{}`; `{}` has read the topic too, so the rows do not tell whose they \
                             are. A checkpoint of another writer has dropped the offset \
                             (delta.setTransactionRetentionDuration). Ingest under another application name into a new \
                             table, or restore a version of the table that has the offset",
                            end - 1,
                            self.log.application(),
                            others.into_iter().collect::<Vec<_>>().join("`, `"),
                        ),
                    ));
                }
            }
        }
        Ok(found)
    }

    /// By partition, the offset after the greatest that has a row of the topic.
    async fn ends_of_rows(&self, topic: &str, partitions: &BTreeSet<i32>) -> Result<BTreeMap<i32, i64>, LakeError> {
        let may_hold = |stats: &Value| {
            let bound = |side: &str| stats[side][PARTITION].as_i64();
            let least = bound("minValues").unwrap_or(i64::MIN);
            let greatest = bound("maxValues").unwrap_or(i64::MAX);
            let mut partitions = partitions.iter().map(|partition| i64::from(*partition));
            partitions.any(|partition| (least..=greatest).contains(&partition))
        };
        let mut ends = BTreeMap::new();
        for file in self.log.live_files(may_hold).await? {
            let columns = [PARTITION, OFFSET, TOPIC];
            let read = self.log.read_rows(&file, Some(&columns), |batch| {
                let identities = Identities::of(&batch)
                    .ok_or_else(|| LakeError::unusable(self.name(), format!("{} has no offsets", file.add.path)))?;
                for row in 0..batch.num_rows() {
                    let (partition, offset, _) = identities.place(row);
                    if !partitions.contains(&partition) {
                        continue;
                    }
                    // A row that names no topic is of one that the log records for its partition, where there is any.
                    let is_of_topic = match identities.topic(row) {
                        Some(of_row) => of_row == topic,
                        None => self.log.topics_of(partition).is_empty(),
                    };
                    if is_of_topic {
                        let end = ends.entry(partition).or_insert(offset + 1);
                        *end = (*end).max(offset + 1);
                    }
                }
                Ok(())
            });
            read.await?;
        }
        Ok(ends)
    }

    /// By partition, what the newest commit that is still in the log recorded for this application.
    async fn committed_offsets(
        &self,
        topic: &str,
        partitions: &BTreeSet<i32>,
    ) -> Result<BTreeMap<i32, i64>, LakeError> {
        let wanted: BTreeMap<String, i32> = partitions
            .iter()
            .map(|partition| (self.log.txn_id(&TopicPartition::new(topic, *partition)), *partition))
            .collect();
        let listing = self.log.location.list().await?;
        let versions: Vec<i64> = listing.commits().iter().rev().map(|commit| commit.version).collect();
        let mut commits = read_commits(&self.log.location, versions);
        let mut found = BTreeMap::new();
        while let Some((version, body)) = commits.try_next().await? {
            // Cleaned up just now; older ones are as well.
            let Some(body) = body else { break };
            let actions = parse_lines(&body).map_err(|error| self.log.unreadable(version, &error))?;
            for action in &actions {
                if let Action::Txn(txn) = action
                    && let Some(partition) = wanted.get(&txn.app_id)
                {
                    found.entry(*partition).or_insert(txn.version);
                }
            }
            if found.len() == wanted.len() {
                break;
            }
        }
        Ok(found)
    }
}
