//! Rows that another program took out of the table: which, by which version and by whom.
//!
//! A commit that deletes or updates rows removes files, or adds deletion vectors, and the removed files stay until someone
//! vacuums them. What its removed files hold and its added ones do not is what it took out. Where one of them is gone
//! nobody can tell any more, and nothing is attributed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use model::TopicPartition;
use roaring::RoaringTreemap;

use super::places::{Kind, Places};
use super::state::{FileRef, Removal, TableState};
use crate::LakeError;
use crate::delta::TableLocation;

/// Topic (`None` where rows do not tell), partition and element, and the offsets.
type Identities = BTreeMap<(Option<String>, i32, Option<u32>), RoaringTreemap>;

/// What other programs took out of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct RemovedRows {
    by: Vec<Removal>,
    /// By topic and partition: whose they are, and where.
    taken: BTreeMap<(Option<String>, i32), Vec<RemovedOffsets>>,
    /// Commits of which the files that would tell are gone.
    pub(super) untold: Vec<Removal>,
}

/// Rows of one partition that one commit took out: whole messages, or one element of each.
#[derive(Debug, Clone)]
pub(crate) struct RemovedOffsets {
    /// Index of the commit.
    pub(crate) by: usize,
    pub(crate) element: Option<u32>,
    pub(crate) offsets: RoaringTreemap,
}

impl RemovedRows {
    /// Reads the identities of all rows in the files that other programs' commits removed and added.
    pub(super) async fn read(location: &TableLocation, state: &TableState) -> Result<RemovedRows, LakeError> {
        let mut removed = RemovedRows::default();
        let mut claimed = Identities::new();
        // Newest first: the last one that had the row is the one that took it out.
        for removal in &state.removals {
            let before = identities(location, state, &removal.removed).await?;
            let after = identities(location, state, &removal.added).await?;
            let (Some(before), Some(after)) = (before, after) else {
                removed.untold.push(removal.clone());
                continue;
            };
            let by = removed.by.len();
            for (key, mut offsets) in before {
                if let Some(after) = after.get(&key) {
                    offsets -= after;
                }
                let claimed = claimed.entry(key.clone()).or_default();
                offsets -= &*claimed;
                if offsets.is_empty() {
                    continue;
                }
                *claimed |= &offsets;
                let (topic, partition, element) = key;
                let of_partition = removed.taken.entry((topic, partition)).or_default();
                of_partition.push(RemovedOffsets { by, element, offsets });
            }
            removed.by.push(removal.clone());
        }
        Ok(removed)
    }

    /// Those of a partition; `owns_unnamed`: rows of its number that name no topic are its own.
    pub(super) fn of(&self, place: &TopicPartition, owns_unnamed: bool) -> impl Iterator<Item = &RemovedOffsets> {
        let named = self.taken.get(&(Some(place.topic.to_string()), place.partition));
        let unnamed = self.taken.get(&(None, place.partition)).filter(|_| owns_unnamed);
        named.into_iter().chain(unnamed).flatten()
    }

    pub(super) fn commit(&self, by: usize) -> &Removal {
        &self.by[by]
    }

    pub(super) fn contains(
        &self,
        place: &TopicPartition,
        owns_unnamed: bool,
        offset: i64,
        element: Option<u32>,
    ) -> bool {
        let Ok(offset) = u64::try_from(offset) else {
            return false;
        };
        let mut all = self.of(place, owns_unnamed);
        all.any(|removed| removed.element == element && removed.offsets.contains(offset))
    }
}

/// The identities of the rows in files; `None` when one of them cannot be read.
async fn identities(
    location: &TableLocation,
    state: &TableState,
    files: &[FileRef],
) -> Result<Option<Identities>, LakeError> {
    let mut found = Identities::new();
    let columns = Kind::Rows.columns();
    for file in files {
        let mut is_known = true;
        let each = |batch| {
            let Some(places) = Places::of(&batch, Kind::Rows) else {
                is_known = false;
                return Ok(ControlFlow::Break(()));
            };
            for place in places.iter() {
                let key = (place.topic.map(str::to_owned), place.partition, place.element);
                if let Ok(offset) = u64::try_from(place.offset) {
                    found.entry(key).or_default().insert(offset);
                }
            }
            Ok(ControlFlow::Continue(()))
        };
        let deleted = file.deletion_vector.as_ref();
        let read = state.rows.read(location, &file.path, deleted, Some(&columns), each);
        match read.await {
            Ok(()) if is_known => {}
            Err(error) if error.is_retryable() => return Err(error),
            _ => return Ok(None),
        }
    }
    Ok(Some(found))
}
