//! The group coordinator: members and their rebalances (`group`), what they have committed (`offsets`).
//!
//! Offsets, and groups as they last came to rest, are in a journal and survive a restart.

mod group;
mod offsets;
mod settled;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::{BrokerConfig, Flush};
use crate::error::BrokerError;
use crate::journal::Journal;

pub(crate) use group::{Group, GroupState, Join, Joined, Synced};
use offsets::{Change, Offsets};
pub(crate) use offsets::{Committed, Place};

#[derive(Debug)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
    groups_max: usize,
}

/// About how many bytes groups, members and offsets may take together. Members' metadata is counted apart.
const HELD_BYTES_MAX: usize = 128 << 20;
/// What they take beside their strings.
const GROUP_BYTES: usize = 600;
const MEMBER_BYTES: usize = 800;
const OFFSET_BYTES: usize = 150;
/// Counting walks through everything.
const COUNT_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Inner {
    groups: HashMap<String, Entry>,
    /// At least what the groups take: added to as they grow, counted anew when it reaches the bound.
    held_bytes: usize,
    counted_at: Option<Instant>,
    journal: Journal,
    journal_failing: bool,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    offsets: Offsets,
    /// The group's revision that the journal has.
    written_revision: u64,
    /// When the last member was seen to be gone, by the broker's clock.
    empty_since_ms: Option<i64>,
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

/// Who commits, as the request says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committer<'a> {
    pub(crate) group: &'a str,
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) generation: i32,
}

/// An offset as OffsetFetch answers it.
#[derive(Debug, Clone)]
pub(crate) struct FetchedOffset {
    pub(crate) place: Place,
    pub(crate) committed: Option<Committed>,
    /// A transaction that is still open will change it.
    pub(crate) unstable: bool,
}

/// Makes the copy of a name's bytes that a group keeps; `None` when there is no room.
pub(crate) type Keep<'a> = dyn Fn(&str, &[u8]) -> Option<Bytes> + 'a;

impl Groups {
    /// `keep` counts what members hold, and refuses when it is too much.
    pub(crate) fn open(path: &Path, config: &BrokerConfig, keep: &Keep<'_>) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let mut groups: HashMap<String, Entry> = HashMap::new();
        let mut journal = Journal::open(path, |change: Change| replay(&mut groups, change, now, keep))?;
        if config.flush == Flush::Always {
            journal.sync_each_append();
        }
        Ok(Self {
            inner: Mutex::new(Inner {
                held_bytes: groups.iter().map(|(id, entry)| entry.held_bytes(id)).sum(),
                counted_at: None,
                groups,
                journal,
                journal_failing: false,
            }),
            groups_max: config.limits.groups_max,
        })
    }

    pub(crate) fn join(
        &self,
        group: &str,
        join: Join,
        new_id: String,
        now: Instant,
    ) -> Result<oneshot::Receiver<Joined>, Code> {
        let mut inner = self.inner.lock();
        if !inner.groups.contains_key(group) {
            if !join.member_id.is_empty() {
                return Err(Code::UnknownMemberId);
            }
            if inner.groups.len() >= self.groups_max {
                return Err(Code::CoordinatorNotAvailable);
            }
        }
        let ids = join.member_id.len() + join.client_id.len() * 2 + join.instance_id.as_ref().map_or(0, String::len);
        if !inner.has_room(GROUP_BYTES + group.len() + MEMBER_BYTES + ids, now) {
            return Err(Code::CoordinatorNotAvailable);
        }
        let entry = inner.groups.entry(group.to_owned()).or_default();
        entry.empty_since_ms = None;
        let receiver = entry.group.join(join, new_id, now);
        inner.note_change(group);
        Ok(receiver)
    }

    /// Runs `act` on a group that exists; what a restart should know of is journalled when that changed it.
    pub(crate) fn with<R>(&self, group: &str, act: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let mut inner = self.inner.lock();
        let result = act(&mut inner.groups.get_mut(group)?.group);
        inner.note_change(group);
        Some(result)
    }

    /// Commits these offsets, or keeps them with the producer's open transaction.
    pub(crate) fn commit(
        &self,
        by: Committer<'_>,
        producer_id: Option<i64>,
        offsets: Vec<(Place, Committed)>,
        now: Instant,
    ) -> Result<(), Code> {
        let mut inner = self.inner.lock();
        let more: usize = offsets.iter().map(|(place, offset)| offset_bytes(place, offset)).sum();
        if !inner.has_room(GROUP_BYTES + by.group.len() + more, now) {
            return Err(Code::CoordinatorNotAvailable);
        }
        let is_full = inner.groups.len() >= self.groups_max;
        match inner.groups.get_mut(by.group) {
            Some(entry) => {
                entry
                    .group
                    .check_commit(by.member_id, by.instance_id, by.generation, producer_id.is_some(), now)?;
            }
            None if by.generation >= 0 => return Err(Code::GroupIdNotFound),
            None if is_full => return Err(Code::CoordinatorNotAvailable),
            None => {
                inner.groups.insert(by.group.to_owned(), Entry::default());
            }
        }
        let group = || by.group.to_owned();
        let changes: Vec<_> = offsets
            .iter()
            .map(|((topic, partition), committed)| {
                let (topic, partition, committed) = (topic.clone(), *partition, committed.clone());
                match producer_id {
                    Some(producer_id) => Change::Pend {
                        group: group(),
                        producer_id,
                        topic,
                        partition,
                        committed,
                    },
                    None => Change::Commit {
                        group: group(),
                        topic,
                        partition,
                        committed,
                    },
                }
            })
            .collect();
        inner.write(&changes)?;
        if let Some(entry) = inner.groups.get_mut(by.group) {
            match producer_id {
                Some(producer_id) => entry.offsets.pending.entry(producer_id).or_default().extend(offsets),
                None => entry.offsets.committed.extend(offsets),
            }
        }
        inner.rewrite_if_due();
        Ok(())
    }

    /// Ends a transaction's hold on its offsets: they count from now on, or never did.
    pub(crate) fn resolve(&self, group: &str, producer_id: i64, commit: bool) -> Result<(), Code> {
        let mut inner = self.inner.lock();
        if !inner
            .groups
            .get(group)
            .is_some_and(|entry| entry.offsets.pending.contains_key(&producer_id))
        {
            return Ok(());
        }
        inner.write(&[Change::Resolve {
            group: group.to_owned(),
            producer_id,
            commit,
        }])?;
        if let Some(entry) = inner.groups.get_mut(group) {
            entry.offsets.resolve(producer_id, commit);
        }
        inner.rewrite_if_due();
        Ok(())
    }

    /// The offsets of these places, or of all that have one.
    pub(crate) fn fetch(&self, group: &str, places: Option<Vec<Place>>) -> Vec<FetchedOffset> {
        let inner = self.inner.lock();
        let Some(entry) = inner.groups.get(group) else {
            let nothing = |place| FetchedOffset {
                place,
                committed: None,
                unstable: false,
            };
            return places.unwrap_or_default().into_iter().map(nothing).collect();
        };
        let places = places.unwrap_or_else(|| {
            let pending = entry.offsets.pending.values().flat_map(|pending| pending.keys());
            let mut all: Vec<_> = entry.offsets.committed.keys().chain(pending).cloned().collect();
            all.sort();
            all.dedup();
            all
        });
        let fetched = |place: Place| FetchedOffset {
            committed: entry.offsets.committed.get(&place).cloned(),
            unstable: entry.offsets.has_pending(&place),
            place,
        };
        places.into_iter().map(fetched).collect()
    }

    /// Id, state and protocol type of every group.
    pub(crate) fn list(&self) -> Vec<(String, GroupState, String)> {
        let inner = self.inner.lock();
        let mut list: Vec<_> = inner
            .groups
            .iter()
            .map(|(id, entry)| {
                (
                    id.clone(),
                    entry.group.state,
                    entry.group.protocol_type.clone().unwrap_or_default(),
                )
            })
            .collect();
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    pub(crate) fn delete(&self, group: &str) -> Result<(), Code> {
        let mut inner = self.inner.lock();
        let entry = inner.groups.get(group).ok_or(Code::GroupIdNotFound)?;
        if !entry.group.is_idle() {
            return Err(Code::NonEmptyGroup);
        }
        inner.write(&[Change::Delete {
            group: group.to_owned(),
        }])?;
        inner.groups.remove(group);
        Ok(())
    }

    /// Forgets committed offsets, but not of a topic that a member of the group reads.
    pub(crate) fn delete_offsets(&self, group: &str, places: &[Place]) -> Result<Vec<Result<(), Code>>, Code> {
        let mut inner = self.inner.lock();
        let entry = inner.groups.get(group).ok_or(Code::GroupIdNotFound)?;
        let read: Option<Vec<String>> = (!entry.group.is_idle()).then(|| subscribed_topics(&entry.group));
        let results: Vec<_> = places
            .iter()
            .map(|(topic, _)| match &read {
                Some(topics) if topics.contains(topic) => Err(Code::GroupSubscribedToTopic),
                _ => Ok(()),
            })
            .collect();
        let deleted: Vec<_> = places
            .iter()
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .collect();
        let changes: Vec<_> = deleted
            .iter()
            .map(|((topic, partition), _)| Change::Forget {
                group: group.to_owned(),
                topic: topic.clone(),
                partition: *partition,
            })
            .collect();
        inner.write(&changes)?;
        if let Some(entry) = inner.groups.get_mut(group) {
            for (place, _) in deleted {
                entry.offsets.committed.remove(place);
            }
        }
        Ok(results)
    }

    /// A deleted topic takes its offsets with it.
    pub(crate) fn forget_topic(&self, topic: &str) {
        let mut inner = self.inner.lock();
        let mut changes = Vec::new();
        for (group, entry) in &mut inner.groups {
            entry.offsets.committed.retain(|(name, partition), _| {
                if name == topic {
                    changes.push(Change::Forget {
                        group: group.clone(),
                        topic: name.clone(),
                        partition: *partition,
                    });
                }
                name != topic
            });
        }
        // Should it fail, offsets of a topic that is gone come back at the next start and harm no one.
        let _ = inner.write(&changes);
    }

    pub(crate) fn tick(&self, now: Instant) {
        let mut inner = self.inner.lock();
        let ids: Vec<String> = inner
            .groups
            .iter()
            .filter(|(_, e)| !e.group.is_idle())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(entry) = inner.groups.get_mut(&id) {
                entry.group.tick(now);
            }
            inner.note_change(&id);
        }
    }

    /// Forgets the offsets of groups that have been without members for too long, and groups without anything.
    pub(crate) fn expire(&self, now_ms: i64, retention_ms: i64) {
        let mut inner = self.inner.lock();
        let mut gone = Vec::new();
        for (id, entry) in &mut inner.groups {
            if !entry.group.is_idle() || !entry.offsets.pending.is_empty() {
                entry.empty_since_ms = None;
                continue;
            }
            let last_commit = entry
                .offsets
                .committed
                .values()
                .map(|c| c.at_ms)
                .max()
                .unwrap_or(i64::MIN);
            let since = *entry.empty_since_ms.get_or_insert(now_ms);
            if since.max(last_commit) < now_ms.saturating_sub(retention_ms) {
                gone.push(id.clone());
            }
        }
        for group in gone {
            if inner.write(&[Change::Delete { group: group.clone() }]).is_ok() {
                tracing::info!(
                    group,
                    "forgot a group that had no members for longer than its offsets are kept"
                );
                inner.groups.remove(&group);
            }
        }
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.inner.lock().journal.sync()
    }

    /// Every waiting request is answered by its channel closing.
    pub(crate) fn dissolve(&self) {
        self.inner
            .lock()
            .groups
            .values_mut()
            .for_each(|entry| entry.group.dissolve());
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

fn offset_bytes((topic, _): &Place, committed: &Committed) -> usize {
    OFFSET_BYTES + topic.len() + committed.metadata.len()
}

impl Inner {
    /// Whether so many more bytes can be held; they are counted as held then.
    fn has_room(&mut self, more: usize, now: Instant) -> bool {
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

    fn write(&mut self, changes: &[Change]) -> Result<(), Code> {
        if changes.is_empty() {
            return Ok(());
        }
        let appended = self.journal.append(changes);
        let was_failing = std::mem::replace(&mut self.journal_failing, appended.is_err());
        appended.map_err(|error| {
            if !was_failing {
                tracing::error!(%error, "group offsets cannot be written; clients are told so until they can");
            }
            // What Kafka answers when the offsets topic cannot be written.
            Code::CoordinatorNotAvailable
        })
    }

    fn note_change(&mut self, id: &str) {
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

    fn rewrite_if_due(&mut self) {
        if !self.journal.wants_rewrite() {
            return;
        }
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
        if let Err(error) = self.journal.rewrite(changes) {
            tracing::warn!(%error, "the journal of group offsets could not be shortened");
        }
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

/// Topics that the members of a `consumer` group subscribe to: the first field behind the version in their metadata.
fn subscribed_topics(group: &Group) -> Vec<String> {
    let mut topics = Vec::new();
    for member in group.members() {
        let metadata = group.metadata_of(member);
        let mut rest = metadata.get(2..).unwrap_or(&[]);
        let Some((count, after)) = rest.split_first_chunk::<4>() else {
            continue;
        };
        rest = after;
        for _ in 0..i32::from_be_bytes(*count) {
            let Some((length, after)) = rest.split_first_chunk::<2>() else {
                break;
            };
            let Some((name, after)) = after.split_at_checked(i16::from_be_bytes(*length).max(0) as usize) else {
                break;
            };
            topics.push(String::from_utf8_lossy(name).into_owned());
            rest = after;
        }
    }
    topics
}
