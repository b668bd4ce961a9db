//! The table of commits against the logs: it must hold each version once, unchanged, and say what the logs that are still
//! there say. Where a log was cleaned up it stands in for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use arrow_array::RecordBatch;
use model::{COMMITS, TopicPartition};

use super::finding::Finding;
use super::report::Findings;
use super::state::{CommitRecord, TableState};
use crate::error::describe;
use crate::table::commits::{self, CommitEvidence, CommitRow, Commits};
use crate::{LakeError, Root};

/// The rows of the table of commits that are about tables in question.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By id of the table and version.
    entries: BTreeMap<String, BTreeMap<i64, Entry>>,
    /// By application and table's id: the first version that is not held yet.
    recorded: BTreeMap<(String, TopicPartition), i64>,
    /// Files of it that cannot be read, and what they are.
    damage: Vec<Finding>,
}

#[derive(Debug)]
struct Entry {
    evidence: CommitEvidence,
    is_doubled: bool,
    is_intact: bool,
}

impl Ledger {
    /// Reads the rows about the tables with these ids.
    pub(super) async fn read(root: &Root, ids: &BTreeSet<String>) -> Result<Ledger, LakeError> {
        let location = root.location_of(COMMITS);
        // Its own check tells what is wrong with its log.
        let mut state = TableState::read(&location, &mut Findings::default()).await?;
        let mut ledger = Ledger {
            recorded: std::mem::take(&mut state.recorded),
            ..Ledger::default()
        };
        for (path, file) in &state.files {
            let mut is_known = true;
            let outcome = state.read_rows(&location, file, None, |batch| {
                is_known = ledger.take(batch, ids).is_some();
                match is_known {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            let why = match outcome.await {
                Ok(()) if is_known => continue,
                Ok(()) => "it has other columns".to_owned(),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => describe(&error),
            };
            let path = format!("{COMMITS}/{path}");
            ledger.damage.push(Finding::UnreadableFile { path, why });
        }
        Ok(ledger)
    }

    /// `None` when the batch lacks a column.
    fn take(&mut self, batch: &RecordBatch, ids: &BTreeSet<String>) -> Option<()> {
        for CommitRow {
            table_id,
            evidence,
            is_intact,
        } in commits::rows(batch, |id| ids.contains(id))?
        {
            let of_table = self.entries.entry(table_id).or_default();
            match of_table.get_mut(&evidence.version) {
                Some(known) => known.is_doubled = true,
                None => {
                    let entry = Entry {
                        is_doubled: false,
                        is_intact,
                        evidence,
                    };
                    of_table.insert(entry.evidence.version, entry);
                }
            }
        }
        Some(())
    }

    /// Compares what it holds of a table with the table's log, and fills in what is gone from that. The log must have been
    /// read before.
    pub(super) fn reconcile(&self, table: &str, state: &mut TableState, findings: &mut Findings) {
        let none = BTreeMap::new();
        let id = state.id.clone().unwrap_or_default();
        let entries = self.entries.get(&id).unwrap_or(&none);
        let key = (Commits::application(table), Commits::place(&id));
        let recorded = self.recorded.get(&key).copied().unwrap_or(0);
        self.damage.iter().for_each(|damage| findings.add(damage.clone()));
        missing(entries, recorded).for_each(|(from, to)| findings.add(Finding::EvidenceMissing { from, to }));
        let mut known: BTreeMap<i64, &CommitEvidence> = state.evidence.iter().map(|(at, one)| (*at, one)).collect();
        for (version, entry) in entries {
            let version = *version;
            if version >= recorded || version < 0 {
                findings.add(Finding::EvidenceAhead { version });
                continue;
            }
            if entry.is_doubled {
                findings.add(Finding::EvidenceDoubled { version });
            }
            let logged = state.evidence.get(&version);
            let mut fields = logged.map_or_else(Vec::new, |logged| differences(&entry.evidence, logged));
            if !entry.is_intact {
                fields.push("checksum".to_owned());
            }
            if !fields.is_empty() {
                findings.add(Finding::EvidenceDiffers { version, fields });
            }
            // What the log says itself goes before what was taken over from it.
            known.entry(version).or_insert(&entry.evidence);
        }
        state.commits = known.into_values().filter_map(CommitRecord::of).collect();
        state.evidence = BTreeMap::new();
    }
}

/// Ranges of versions below `recorded` that have no entry.
fn missing(entries: &BTreeMap<i64, Entry>, recorded: i64) -> impl Iterator<Item = (i64, i64)> {
    let versions = entries.range(0..recorded.max(0)).map(|(version, _)| *version);
    let mut next = 0;
    let holes = versions.chain([recorded.max(0)]).filter_map(move |version| {
        let hole = (next, version);
        next = version + 1;
        (hole.0 < hole.1).then_some(hole)
    });
    holes.collect::<Vec<_>>().into_iter()
}

/// The fields in which the two are not the same.
fn differences(held: &CommitEvidence, logged: &CommitEvidence) -> Vec<String> {
    // Of a commit whose JSON was gone when it was recorded nothing is held; it cannot have come back.
    let same = [
        ("timestamp", held.timestamp_ms == logged.timestamp_ms),
        ("operation", held.operation == logged.operation),
        ("commit_id", held.commit_id == logged.commit_id),
        ("application", held.application == logged.application),
        ("rows", held.rows == logged.rows),
        ("records", held.records == logged.records),
        ("elements", held.elements == logged.elements),
        ("spans", held.spans == logged.spans),
    ];
    let other = same.into_iter().filter(|(_, same)| !same);
    other.map(|(field, _)| field.to_owned()).collect()
}
