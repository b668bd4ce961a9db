//! What the coordinator holds of groups: bounded in memory, each change that a restart must know of in the journal.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError as Code;

use crate::error::BrokerError;
use crate::journal::{Journal, Written};

use super::group::Group;
use super::member::Keep;
use super::offsets::{Change, Committed, Offsets, Place};

/// About how many bytes groups, members and offsets may take together. Members' metadata is counted apart.
const HELD_BYTES_MAX: usize = 128 << 20;
/// What they take beside their strings.
pub(super) const GROUP_BYTES: usize = 600;
pub(super) const MEMBER_BYTES: usize = 800;
const OFFSET_BYTES: usize = 150;
/// Counting walks through everything.
const COUNT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Store {
    pub(super) groups: HashMap<String, Entry>,
    /// At least what the groups take: added to as they grow, counted again when it reaches the bound.
    held_bytes: usize,
    counted_at: Option<Instant>,
    journal: Journal,
    journal_failing: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) group: Group,
    pub(super) offsets: Offsets,
    /// The group's revision that the journal has.
    written_revision: u64,
    /// When the last member was seen to be gone, by the broker's clock.
    pub(super) empty_since_ms: Option<i64>,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            group: Group::new(0, None),
            offsets: Offsets::default(),
            written_revision: 0,
            empty_since_ms: None,
        }
    }
}

impl Entry {
    fn group_change(&self, id: &str) -> Change {
        Change::Group {
            group: id.to_owned(),
            generation: self.group.generation,
            protocol_type: self.group.protocol_type.clone(),
            settled: self.group.settled(),
        }
    }
}

impl Entry {
    fn held_bytes(&self, id: &str) -> usize {
        let offsets = self.offsets.committed.iter();
        let pending = self.offsets.pending.values().flatten();
        let offsets: usize = offsets
            .chain(pending)
            .map(|(place, offset)| offset_bytes(place, offset))
            .sum();
        GROUP_BYTES + id.len() + offsets + self.group.held_bytes(MEMBER_BYTES)
    }
}

pub(super) fn offset_bytes((topic, _): &Place, committed: &Committed) -> usize {
    OFFSET_BYTES + topic.len() + committed.metadata.len()
}

impl Store {
    /// Groups as the journal has them; `keep` counts what members hold, and refuses when it is too much.
    pub(super) fn open(path: &Path, syncs: bool, keep: &Keep<'_>) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let mut groups: HashMap<String, Entry> = HashMap::new();
        let journal = Journal::open(path, syncs, |change: Change| replay(&mut groups, change, now, keep))?;
        Ok(Self {
            held_bytes: groups.iter().map(|(id, entry)| entry.held_bytes(id)).sum(),
            counted_at: None,
            groups,
            journal,
            journal_failing: false,
        })
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        self.journal.sync()
    }

    /// What has been written until now, to be waited for without the store's lock.
    pub(super) fn written(&self) -> Option<Written> {
        self.journal.written()
    }

    /// Whether this many more bytes can be held; they are counted as held then.
    pub(super) fn has_room(&mut self, more: usize, now: Instant) -> bool {
        let is_due = self
            .counted_at
            .is_none_or(|at| now.saturating_duration_since(at) >= COUNT_EVERY);
        if self.held_bytes + more > HELD_BYTES_MAX && is_due {
            self.held_bytes = self.groups.iter().map(|(id, entry)| entry.held_bytes(id)).sum();
            self.counted_at = Some(now);
            if self.held_bytes + more > HELD_BYTES_MAX {
                tracing::warn!(
                    held_bytes = self.held_bytes,
                    "groups and their offsets take all the memory they may"
                );
            }
        }
        let has_room = self.held_bytes + more <= HELD_BYTES_MAX;
        if has_room {
            self.held_bytes += more;
        }
        has_room
    }

    pub(super) fn write(&mut self, changes: &[Change]) -> Result<(), Code> {
        if changes.is_empty() {
            return Ok(());
        }
        let appended = if self.journal.has_failed() {
            self.rewrite().and_then(|()| self.journal.append(changes))
        } else {
            self.journal.append(changes)
        };
        let was_failing = std::mem::replace(&mut self.journal_failing, appended.is_err());
        appended.map_err(|error| {
            if !was_failing {
                tracing::error!(%error, "group offsets cannot be written; clients are told so until they can");
            }
            // What Kafka answers when the offsets topic cannot be written.
            Code::CoordinatorNotAvailable
        })
    }

    pub(super) fn note_change(&mut self, id: &str) {
        let Some(entry) = self.groups.get_mut(id) else { return };
        if entry.group.revision() == entry.written_revision {
            return;
        }
        entry.written_revision = entry.group.revision();
        let change = entry.group_change(id);
        // What is not remembered is no loss: members join again, and their ids do not repeat after a restart.
        let _ = self.write(&[change]);
        self.rewrite_if_due();
    }

    pub(super) fn rewrite_if_due(&mut self) {
        if !self.journal.wants_rewrite() {
            return;
        }
        if let Err(error) = self.rewrite() {
            tracing::warn!(%error, "the journal of group offsets could not be shortened");
        }
    }

    /// Writes all that is held in place of the journal.
    fn rewrite(&mut self) -> std::io::Result<()> {
        let mut changes = Vec::new();
        for (id, entry) in &self.groups {
            changes.push(entry.group_change(id));
            for ((topic, partition), committed) in &entry.offsets.committed {
                changes.push(Change::Commit {
                    group: id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    committed: committed.clone(),
                });
            }
            for (&producer_id, pending) in &entry.offsets.pending {
                for ((topic, partition), committed) in pending {
                    changes.push(Change::Pend {
                        group: id.clone(),
                        producer_id,
                        topic: topic.clone(),
                        partition: *partition,
                        committed: committed.clone(),
                    });
                }
            }
        }
        self.journal.rewrite(changes)
    }
}

fn replay(groups: &mut HashMap<String, Entry>, change: Change, now: Instant, keep: &Keep<'_>) {
    match change {
        Change::Group {
            group,
            generation,
            protocol_type,
            settled,
        } => {
            let restored =
                settled.and_then(|settled| Group::restored(generation, protocol_type.clone(), settled, now, keep));
            // Without room for its members they join again.
            groups.entry(group).or_default().group = restored.unwrap_or_else(|| Group::new(generation, protocol_type));
        }
        Change::Commit {
            group,
            topic,
            partition,
            committed,
        } => {
            let entry = groups.entry(group).or_default();
            entry.offsets.committed.insert((topic, partition), committed);
        }
        Change::Pend {
            group,
            producer_id,
            topic,
            partition,
            committed,
        } => {
            let entry = groups.entry(group).or_default();
            entry
                .offsets
                .pending
                .entry(producer_id)
                .or_default()
                .insert((topic, partition), committed);
        }
        Change::Resolve {
            group,
            producer_id,
            commit,
        } => {
            if let Some(entry) = groups.get_mut(&group) {
                entry.offsets.resolve(producer_id, commit);
            }
        }
        Change::Forget {
            group,
            topic,
            partition,
        } => {
            if let Some(entry) = groups.get_mut(&group) {
                entry.offsets.committed.remove(&(topic, partition));
            }
        }
        Change::Delete { group } => {
            groups.remove(&group);
        }
    }
}
