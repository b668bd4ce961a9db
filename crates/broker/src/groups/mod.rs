//! The group coordinator: members and their rebalances (`group`, `member`, `protocols`), what they have committed
//! (`offsets`).
//!
//! Offsets, and groups as they last came to rest (`settled`), are in a journal (`store`) and survive a restart.

mod group;
mod member;
mod messages;
mod offsets;
mod protocols;
mod settled;
mod store;
mod subscriptions;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::config::{BrokerConfig, Durability};
use crate::error::BrokerError;
use crate::journal::Written;

use offsets::Change;
use store::{Entry, GROUP_BYTES, MEMBER_BYTES, Store, offset_bytes};
use subscriptions::subscribed_topics;

pub(crate) use group::{Group, GroupState};
pub(crate) use member::Keep;
pub(crate) use messages::{Join, Joined, Synced};
pub(crate) use offsets::{Committed, Place};

#[derive(Debug)]
pub(crate) struct Groups {
    store: Mutex<Store>,
    groups_max: usize,
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

impl Groups {
    /// `keep` counts what members hold, and refuses when it is too much.
    pub(crate) fn open(path: &Path, config: &BrokerConfig, keep: &Keep<'_>) -> Result<Self, BrokerError> {
        let syncs = config.durability == Durability::Fsync;
        Ok(Self {
            store: Mutex::new(Store::open(path, syncs, keep)?),
            groups_max: config.limits.groups_max,
        })
    }

    /// Returns when all that was committed or deleted before is on the disk, where that is asked for. Blocks meanwhile.
    pub(crate) fn on_disk(&self) -> Result<(), Code> {
        let written = self.store.lock().written();
        let synced = written.map_or(Ok(()), Written::on_disk);
        synced.map_err(|error| {
            tracing::error!(%error, "group offsets could not be synced; they are written again");
            Code::CoordinatorNotAvailable
        })
    }

    pub(crate) fn join(
        &self,
        group: &str,
        join: Join,
        new_id: String,
        now: Instant,
    ) -> Result<oneshot::Receiver<Joined>, Code> {
        let mut store = self.store.lock();
        if !store.groups.contains_key(group) {
            if !join.member_id.is_empty() {
                return Err(Code::UnknownMemberId);
            }
            if store.groups.len() >= self.groups_max {
                return Err(Code::CoordinatorNotAvailable);
            }
        }
        let ids = join.member_id.len() + join.client_id.len() * 2 + join.instance_id.as_ref().map_or(0, String::len);
        if !store.has_room(GROUP_BYTES + group.len() + MEMBER_BYTES + ids, now) {
            return Err(Code::CoordinatorNotAvailable);
        }
        let entry = store.groups.entry(group.to_owned()).or_default();
        entry.empty_since_ms = None;
        let receiver = entry.group.join(join, new_id, now);
        store.note_change(group);
        Ok(receiver)
    }

    /// Runs `act` on a group that exists; what a restart should know of is journalled when that changed it.
    pub(crate) fn with<R>(&self, group: &str, act: impl FnOnce(&mut Group) -> R) -> Option<R> {
        let mut store = self.store.lock();
        let result = act(&mut store.groups.get_mut(group)?.group);
        store.note_change(group);
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
        let mut store = self.store.lock();
        let more: usize = offsets.iter().map(|(place, offset)| offset_bytes(place, offset)).sum();
        if !store.has_room(GROUP_BYTES + by.group.len() + more, now) {
            return Err(Code::CoordinatorNotAvailable);
        }
        let is_full = store.groups.len() >= self.groups_max;
        match store.groups.get_mut(by.group) {
            Some(entry) => {
                entry
                    .group
                    .check_commit(by.member_id, by.instance_id, by.generation, producer_id.is_some(), now)?;
            }
            None if by.generation >= 0 => return Err(Code::GroupIdNotFound),
            None if is_full => return Err(Code::CoordinatorNotAvailable),
            None => {
                store.groups.insert(by.group.to_owned(), Entry::default());
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
        store.write(&changes)?;
        if let Some(entry) = store.groups.get_mut(by.group) {
            match producer_id {
                Some(producer_id) => entry.offsets.pending.entry(producer_id).or_default().extend(offsets),
                None => entry.offsets.committed.extend(offsets),
            }
        }
        store.rewrite_if_due();
        Ok(())
    }

    /// Ends a transaction's hold on its offsets: they count from now on, or never did.
    pub(crate) fn resolve(&self, group: &str, producer_id: i64, commit: bool) -> Result<(), Code> {
        let mut store = self.store.lock();
        if !store
            .groups
            .get(group)
            .is_some_and(|entry| entry.offsets.pending.contains_key(&producer_id))
        {
            return Ok(());
        }
        store.write(&[Change::Resolve {
            group: group.to_owned(),
            producer_id,
            commit,
        }])?;
        if let Some(entry) = store.groups.get_mut(group) {
            entry.offsets.resolve(producer_id, commit);
        }
        store.rewrite_if_due();
        Ok(())
    }

    /// The offsets of these places, or of all that have one.
    pub(crate) fn fetch(&self, group: &str, places: Option<Vec<Place>>) -> Vec<FetchedOffset> {
        let store = self.store.lock();
        let Some(entry) = store.groups.get(group) else {
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
        let store = self.store.lock();
        let mut list: Vec<_> = store
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
        let mut store = self.store.lock();
        let entry = store.groups.get(group).ok_or(Code::GroupIdNotFound)?;
        if !entry.group.is_idle() {
            return Err(Code::NonEmptyGroup);
        }
        store.write(&[Change::Delete {
            group: group.to_owned(),
        }])?;
        store.groups.remove(group);
        Ok(())
    }

    /// Forgets committed offsets, but not of a topic that a member of the group reads.
    pub(crate) fn delete_offsets(&self, group: &str, places: &[Place]) -> Result<Vec<Result<(), Code>>, Code> {
        let mut store = self.store.lock();
        let entry = store.groups.get(group).ok_or(Code::GroupIdNotFound)?;
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
        store.write(&changes)?;
        if let Some(entry) = store.groups.get_mut(group) {
            for (place, _) in deleted {
                entry.offsets.committed.remove(place);
            }
        }
        Ok(results)
    }

    /// A deleted topic takes its offsets with it.
    pub(crate) fn forget_topic(&self, topic: &str) {
        let mut store = self.store.lock();
        let mut changes = Vec::new();
        for (group, entry) in &mut store.groups {
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
        let _ = store.write(&changes);
    }

    pub(crate) fn tick(&self, now: Instant) {
        let mut store = self.store.lock();
        let ids: Vec<String> = store
            .groups
            .iter()
            .filter(|(_, e)| !e.group.is_idle())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(entry) = store.groups.get_mut(&id) {
                entry.group.tick(now);
            }
            store.note_change(&id);
        }
    }

    /// Forgets the offsets of groups that have been without members for too long, and groups without anything.
    pub(crate) fn expire(&self, now_ms: i64, retention_ms: i64) {
        let mut store = self.store.lock();
        let mut gone = Vec::new();
        for (id, entry) in &mut store.groups {
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
            if store.write(&[Change::Delete { group: group.clone() }]).is_ok() {
                tracing::info!(
                    group,
                    "forgot a group that had no members for longer than its offsets are kept"
                );
                store.groups.remove(&group);
            }
        }
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.store.lock().sync()
    }

    /// Every waiting request is answered by its channel closing.
    pub(crate) fn dissolve(&self) {
        self.store
            .lock()
            .groups
            .values_mut()
            .for_each(|entry| entry.group.dissolve());
    }
}
