//! Whether a lake holds what its log says, each record once. Reads everything, writes nothing.
//!
//! `state` reads a log and `ledger` the table of commits, `check` and `contents` a file, `attribution` knows whose rows
//! are whose, `sweep` goes over all offsets, `coverage` counts them and `classify` says what holes mean. `finding` and
//! `report` are what comes out. `docs/design/verify.md` says what can be told from what, and what is shared with the writer.
//!
//! Memory does not grow with rows: the list of live files (about 1 KB each), two files in memory, and for each pass two
//! bits an offset and eight bytes an element, both bounded by [`VerifyOptions`].

mod attribution;
mod check;
mod classify;
mod contents;
mod coverage;
mod digest;
mod exceptions;
mod finding;
mod ledger;
mod nested;
mod passes;
mod places;
mod removed;
mod report;
mod state;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use metrics::counter;
use model::{COMMITS, DEAD_LETTERS, ERASURES, GAPS, Span, TopicPartition};

pub use self::digest::{BLOCK_OFFSETS, Block, Digest, RowHash, hash_dead_letter, hash_letter, hash_rows};
pub use self::finding::{Finding, Offsets, Severity};
pub use self::report::{Findings, PartitionReport, TableReport};

use self::attribution::Attribution;
use self::check::{Checked, check_table, find_orphans};
use self::digest::{each_dead_letter, hash_places};
use self::exceptions::{AllExceptions, read_erasures, read_gaps};
use self::ledger::Ledger;
use self::places::{Kind, Summary};
use self::removed::RemovedRows;
use self::state::TableState;
use self::sweep::Sweep;
use crate::{LakeError, Root};

/// How thorough a check is, and what it may hold.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Offsets that one pass looks at; 2 bits of memory each, 3 where messages hold several elements.
    pub offsets_per_pass: u64,
    /// Elements of messages that one pass looks at; 8 bytes of memory each.
    pub elements_per_pass: u64,
    /// Sum up rows and dead letters for a comparison with their topic.
    pub digests: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            offsets_per_pass: 1 << 30,
            elements_per_pass: 1 << 24,
            digests: false,
        }
    }
}

/// A table that was checked.
#[derive(Debug)]
pub struct VerifiedTable {
    pub report: TableReport,
    /// By topic and partition, when that was asked: rows and dead letters summed up. Partitions whose offsets could not
    /// be checked are not among them.
    pub digests: BTreeMap<TopicPartition, Digest>,
    root: Root,
    state: Arc<TableState>,
    summaries: BTreeMap<String, Summary>,
    attribution: Attribution,
    removed: RemovedRows,
}

/// Checks the tables of a lake one by one; `progress` hears of bytes read and bytes to read.
pub struct Verifier<'a> {
    root: &'a Root,
    options: VerifyOptions,
    progress: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
    /// The tables' logs. Those of rows are read before that of the dead letters: dead letters are committed first, so
    /// those of every commit seen here are there when they are read, also while a writer is at work.
    logs: BTreeMap<String, (Arc<TableState>, Findings)>,
    dead_letters: Option<Checked>,
    exceptions: AllExceptions,
    /// What is wrong with the tables that tell the exceptions; every check rests on them.
    damage: Vec<Finding>,
}

impl<'a> Verifier<'a> {
    /// Reads the logs of these tables (of all, where none is named), then the dead letters, gaps, erasures and commits,
    /// which all need.
    pub async fn open(
        root: &'a Root,
        tables: &[String],
        options: VerifyOptions,
        progress: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
    ) -> Result<Verifier<'a>, LakeError> {
        let names = root.table_names().await?;
        let is_there = |name: &str| names.iter().any(|there| there == name);
        let wanted = names.iter().filter(|name| tables.is_empty() || tables.contains(name));
        // The dead letters after those with rows; the commits last of all, so that what is gone from a log is there.
        let needed = [DEAD_LETTERS, GAPS, ERASURES];
        let first = wanted
            .map(String::as_str)
            .filter(|name| !needed.contains(name) && *name != COMMITS);
        let order = first.chain(needed.into_iter().filter(|name| is_there(name)));
        let mut logs: BTreeMap<String, (TableState, Findings)> = BTreeMap::new();
        for name in order {
            logs.insert(name.to_owned(), read_log(root, name).await?);
        }
        if is_there(COMMITS) {
            let ids: BTreeSet<String> = logs.values().filter_map(|(state, _)| state.id.clone()).collect();
            let ledger = Ledger::read(root, &ids).await?;
            for (name, (state, findings)) in &mut logs {
                ledger.reconcile(name, state, findings);
            }
        } else {
            logs.values_mut().for_each(|(state, _)| state.rely_on_log());
        }
        let logs: BTreeMap<_, _> = logs
            .into_iter()
            .map(|(name, (state, findings))| (name, (Arc::new(state), findings)))
            .collect();
        let (mut exceptions, mut damage) = (AllExceptions::new(), Vec::new());
        if let Some((state, _)) = logs.get(GAPS) {
            damage.extend(read_gaps(root, state, &mut exceptions).await?);
        }
        if let Some((state, _)) = logs.get(ERASURES) {
            damage.extend(read_erasures(root, state, &mut exceptions).await?);
        }
        let mut verifier = Verifier {
            root,
            options,
            progress,
            logs,
            dead_letters: None,
            exceptions,
            damage,
        };
        if is_there(DEAD_LETTERS) {
            verifier.dead_letters = Some(verifier.check(DEAD_LETTERS).await?);
        }
        Ok(verifier)
    }

    /// Checks one table.
    pub async fn table(&self, name: &str) -> Result<VerifiedTable, LakeError> {
        let checked = match (&self.dead_letters, name) {
            (Some(dead_letters), DEAD_LETTERS) => dead_letters.clone(),
            _ => self.check(name).await?,
        };
        let Checked {
            state,
            summaries,
            mut findings,
            checksums,
            digests,
        } = checked;
        find_orphans(self.root, name, &state, &mut findings).await?;
        let (mut partitions, mut empty_messages) = (Vec::new(), 0);
        let (mut attribution, mut removed) = (Attribution::default(), RemovedRows::default());
        if Kind::of(name) == Kind::Rows {
            self.damage.iter().for_each(|damage| findings.add(damage.clone()));
            let (found, unattributed) = Attribution::new(&state.recorded, summaries.values());
            attribution = found;
            unattributed.into_iter().for_each(|finding| findings.add(finding));
            removed = RemovedRows::read(&self.root.location_of(name), &state).await?;
            let sweep = Sweep {
                root: self.root,
                options: &self.options,
                table: name,
                state: &state,
                summaries: &summaries,
                attribution: &attribution,
                removed: &removed,
                dead_letters: self.dead_letters.as_ref(),
                exceptions: &self.exceptions,
            };
            (partitions, empty_messages) = sweep.run(&mut findings).await?;
            if partitions.iter().any(|partition| partition.lost > 0) {
                let removals = removed.untold.iter().cloned();
                removals.for_each(|removal| findings.add(removal.into()));
            }
        }
        let digests = match self.options.digests {
            true => self.digests_of(&attribution, &digests),
            false => BTreeMap::new(),
        };
        for (kind, count) in findings.counts() {
            counter!("smartcity_verify_findings_total", "table" => name.to_owned(), "kind" => *kind).increment(*count);
        }
        let report = TableReport {
            table: name.to_owned(),
            version: state.version,
            files: state.files.len() as u64,
            bytes: state.bytes,
            rows: summaries.values().map(|summary| summary.rows).sum(),
            checksums,
            empty_messages,
            partitions,
            findings,
        };
        Ok(VerifiedTable {
            report,
            digests,
            root: self.root.clone(),
            state,
            summaries,
            attribution,
            removed,
        })
    }

    /// Of each partition that can be checked, rows and dead letters together.
    fn digests_of(
        &self,
        attribution: &Attribution,
        rows: &BTreeMap<(Option<String>, i32), Digest>,
    ) -> BTreeMap<TopicPartition, Digest> {
        let of_place = |place: &TopicPartition| {
            let mut digest = Digest::default();
            let named = (Some(place.topic.to_string()), place.partition);
            let unnamed = (None, place.partition);
            let unnamed = rows.get(&unnamed).filter(|_| attribution.owns_unnamed(place));
            let dead_letters = self.dead_letters.as_ref().and_then(|all| all.digests.get(&named));
            let parts = rows.get(&named).into_iter().chain(unnamed).chain(dead_letters);
            parts.for_each(|part| digest.merge(part));
            digest
        };
        let places = attribution.checkable.keys();
        places.map(|place| (place.clone(), of_place(place))).collect()
    }

    /// Every file of a table against its log.
    async fn check(&self, name: &str) -> Result<Checked, LakeError> {
        let (state, findings) = match self.logs.get(name) {
            Some(read) => read.clone(),
            None => {
                let (mut state, findings) = read_log(self.root, name).await?;
                state.rely_on_log();
                (Arc::new(state), findings)
            }
        };
        check_table(self.root, name, state, findings, self.options.digests, self.progress).await
    }

    /// Whether the offset lies in a recorded gap.
    pub fn is_gap(&self, place: &TopicPartition, offset: i64) -> bool {
        let exceptions = self.exceptions.get(place);
        exceptions.is_some_and(|exceptions| exceptions.is_gap(offset))
    }

    /// Whether the record was removed on purpose, alone or with its whole message.
    pub fn is_erased(&self, place: &TopicPartition, offset: i64, element: Option<u32>) -> bool {
        let exceptions = self.exceptions.get(place);
        exceptions.is_some_and(|exceptions| exceptions.is_erased(offset, element))
    }

    /// The hashes of the dead letters in a span, by offset and element: of the whole message, as [`hash_letter`] gives it.
    pub async fn letters_in(
        &self,
        place: &TopicPartition,
        span: Span,
    ) -> Result<BTreeMap<(i64, Option<u32>), u64>, LakeError> {
        let mut found = BTreeMap::new();
        let Some(dead_letters) = &self.dead_letters else {
            return Ok(found);
        };
        let location = self.root.location_of(DEAD_LETTERS);
        let [topic, partition, offset, element] = Kind::DeadLetters.columns();
        let columns = [topic, partition, offset, element, "key", "value"];
        for (path, summary) in &dead_letters.summaries {
            let file = dead_letters.state.files.get(path);
            let Some(file) = file.filter(|_| summary.overlaps(&place.topic, place.partition, span.from, span.to))
            else {
                continue;
            };
            let read = dead_letters.state.read_rows(&location, file, Some(&columns), |batch| {
                each_dead_letter(batch, |of, hash| {
                    let is_of = of.topic == Some(&*place.topic) && of.partition == place.partition;
                    if is_of && (span.from..span.to).contains(&of.offset) {
                        found.insert((of.offset, of.element), hash);
                    }
                });
                ControlFlow::Continue(())
            });
            read.await?;
        }
        Ok(found)
    }
}

impl VerifiedTable {
    /// Whether a comparison with the topic is of use: of some partition, rows can be told.
    pub fn is_comparable(&self) -> bool {
        !self.report.partitions.is_empty()
    }

    /// Whether another program took the record out of the table, which is a finding already.
    pub fn is_removed(&self, place: &TopicPartition, offset: i64, element: Option<u32>) -> bool {
        let owns_unnamed = self.attribution.owns_unnamed(place);
        self.removed.contains(place, owns_unnamed, offset, element)
    }

    /// The hashes of the rows in a span, column by column.
    pub async fn rows_in(&self, place: &TopicPartition, span: Span) -> Result<Vec<RowHash>, LakeError> {
        let mut found = Vec::new();
        let location = self.root.location_of(&self.report.table);
        for (path, summary) in &self.summaries {
            let file = self.state.files.get(path);
            let Some(file) = file.filter(|_| summary.overlaps(&place.topic, place.partition, span.from, span.to))
            else {
                continue;
            };
            let read = self.state.read_rows(&location, file, None, |batch| {
                hash_places(batch, true, |of, row| {
                    let is_of = of.partition == place.partition
                        && (span.from..span.to).contains(&of.offset)
                        && self.attribution.topic_of(&of) == Some(&*place.topic);
                    if is_of {
                        found.push(row);
                    }
                });
                ControlFlow::Continue(())
            });
            read.await?;
        }
        Ok(found)
    }
}

async fn read_log(root: &Root, name: &str) -> Result<(TableState, Findings), LakeError> {
    let mut findings = Findings::default();
    let state = TableState::read(&root.location_of(name), &mut findings).await?;
    Ok((state, findings))
}
