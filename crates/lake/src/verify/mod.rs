//! Whether a lake holds what its log says, each offset once. Reads everything, writes nothing.
//!
//! `state` reads the log, `contents` one data file, `coverage` knows offsets, `classify` what a hole means: all but this
//! file are pure. `docs/design/verify.md` says what can be told from what.
//!
//! Memory does not grow with rows: the list of live files (about 1 KB each), [`FILES_AT_ONCE`] files in memory, and two
//! bits for each offset of one pass.

mod classify;
mod contents;
mod coverage;
mod digest;
mod places;
mod report;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use futures::stream::{self, StreamExt, TryStreamExt};
use metrics::counter;
use model::{DEAD_LETTERS, GAPS, OFFSET, PARTITION, Span, TopicPartition};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt};
#[allow(deprecated, reason = "its successor is to write the same by hand")]
use parquet::arrow::async_reader::ParquetObjectReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

pub use self::digest::{BLOCK_OFFSETS, Block, Digest, RowHash, hash_dead_letter, hash_letter, hash_rows};
pub use self::report::{Finding, Findings, Offsets, PartitionReport, Severity, TableReport};

use self::classify::{Evidence, classify};
use self::contents::check_file;
use self::coverage::{Marks, plan};
use self::places::{Summary, each_letter, each_place, each_topic_place};
use self::state::{LiveFile, TableState};
use crate::{LakeError, Root};

/// Files that lie in memory at the same time.
const FILES_AT_ONCE: usize = 2;

/// How thorough a check is, and what it may hold.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// Offsets that one pass looks at; 2 bits of memory each.
    pub offsets_per_pass: u64,
    /// Sum up rows and letters for a comparison with their topic.
    pub digests: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            offsets_per_pass: 1 << 30,
            digests: false,
        }
    }
}

/// A table that was checked.
#[derive(Debug)]
pub struct VerifiedTable {
    pub report: TableReport,
    /// By topic and partition, when that was asked: rows and letters summed up.
    pub digests: BTreeMap<TopicPartition, Digest>,
    root: Root,
    state: Arc<TableState>,
    summaries: BTreeMap<String, Summary>,
}

/// Checks the tables of a lake one by one; `progress` hears of bytes read and bytes to read.
pub struct Verifier<'a> {
    root: &'a Root,
    options: VerifyOptions,
    progress: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
    /// The tables' logs, read before the letters: letters are committed first, so those of every commit seen here are
    /// there when they are read, also while a writer is at work.
    logs: BTreeMap<String, (Arc<TableState>, Findings)>,
    letters: Option<Checked>,
    gaps: Vec<(TopicPartition, Span)>,
}

/// A table's log and files, before its offsets are looked at.
#[derive(Debug, Clone)]
struct Checked {
    state: Arc<TableState>,
    summaries: BTreeMap<String, Summary>,
    findings: Findings,
    checksums: u64,
    digests: BTreeMap<(String, i32), Digest>,
}

impl<'a> Verifier<'a> {
    /// Reads the logs of these tables (of all, where none is named), then the dead letters and the gaps, which all need.
    pub async fn open(
        root: &'a Root,
        tables: &[String],
        options: VerifyOptions,
        progress: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
    ) -> Result<Verifier<'a>, LakeError> {
        let names = root.table_names().await?;
        let mut logs = BTreeMap::new();
        for name in names.iter().filter(|name| tables.is_empty() || tables.contains(name)) {
            if *name != DEAD_LETTERS {
                logs.insert(name.clone(), read_log(root, name).await?);
            }
        }
        let mut verifier = Verifier {
            root,
            options,
            progress,
            logs,
            letters: None,
            gaps: Vec::new(),
        };
        if names.iter().any(|name| name == DEAD_LETTERS) {
            verifier.letters = Some(verifier.check(DEAD_LETTERS).await?);
        }
        if names.iter().any(|name| name == GAPS) {
            verifier.gaps = verifier.read_gaps().await?;
        }
        Ok(verifier)
    }

    /// Checks one table.
    pub async fn table(&self, name: &str) -> Result<VerifiedTable, LakeError> {
        let checked = match (&self.letters, name) {
            (Some(letters), DEAD_LETTERS) => letters.clone(),
            _ => self.check(name).await?,
        };
        let Checked {
            state,
            summaries,
            mut findings,
            checksums,
            mut digests,
        } = checked;
        self.orphans(name, &state, &mut findings).await?;
        let mut partitions = Vec::new();
        let mut by_place = BTreeMap::new();
        if name != DEAD_LETTERS && name != GAPS {
            partitions = self.offsets(name, &state, &summaries, &mut findings).await?;
            for place in &partitions {
                let mut digest = digests.remove(&(String::new(), place.partition)).unwrap_or_default();
                let letters = self.letters.as_ref();
                if let Some(letters) = letters.and_then(|all| all.digests.get(&(place.topic.clone(), place.partition)))
                {
                    digest.merge(letters);
                }
                by_place.insert(TopicPartition::new(place.topic.as_str(), place.partition), digest);
            }
        }
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
            partitions,
            findings,
        };
        Ok(VerifiedTable {
            report,
            digests: by_place,
            root: self.root.clone(),
            state,
            summaries,
        })
    }

    /// The log, then every file against it.
    async fn check(&self, name: &str) -> Result<Checked, LakeError> {
        let (state, mut findings) = match self.logs.get(name) {
            Some(read) => read.clone(),
            None => read_log(self.root, name).await?,
        };
        let table = self.root.table_path(name);
        let (mut summaries, mut digests) = (BTreeMap::new(), BTreeMap::new());
        let (mut checksums, mut done) = (0, 0);
        (self.progress)(name, 0, state.bytes);
        let files = stream::iter(&state.files).map(|(path, file)| {
            let below = below(&table, path);
            let digest = self.options.digests;
            async move {
                let read = async { self.root.store().get(&below).await?.bytes().await };
                let bytes = match read.await {
                    Ok(bytes) => bytes,
                    Err(StoreError::NotFound { .. }) => return Ok((path, file, None)),
                    Err(error) => return Err(LakeError::store("read", below, error)),
                };
                let (name, logged) = (path.clone(), file.clone());
                let judged = tokio::task::spawn_blocking(move || judge(&name, &logged, bytes, digest)).await;
                let judged = judged.map_err(|error| LakeError::parquet(path, "check", error))?;
                Ok((path, file, Some(judged)))
            }
        });
        let mut files = files.buffered(FILES_AT_ONCE);
        while let Some((path, file, judged)) = files.try_next().await? {
            done += file.size;
            (self.progress)(name, done, state.bytes);
            counter!("smartcity_verify_bytes_total", "table" => name.to_owned()).increment(file.size);
            let Some(judged) = judged else {
                findings.add(Finding::MissingFile { path: path.clone() });
                continue;
            };
            checksums += u64::from(file.crc32c.is_some());
            judged.findings.into_iter().for_each(|finding| findings.add(finding));
            for (place, digest) in judged.digests {
                digests.entry(place).or_insert_with(Digest::default).merge(&digest);
            }
            summaries.insert(path.clone(), judged.summary);
        }
        drop(files);
        Ok(Checked {
            state,
            summaries,
            findings,
            checksums,
            digests,
        })
    }

    /// Files below the table that no version names. A writer's upload is one for as long as its commit is on the way.
    async fn orphans(&self, name: &str, state: &TableState, findings: &mut Findings) -> Result<(), LakeError> {
        let table = self.root.table_path(name);
        let failed = |error| LakeError::store("list", table.clone(), error);
        let mut listed = self.root.store().list(Some(&table));
        let (mut files, mut bytes, mut example) = (0, 0, None);
        while let Some(object) = listed.try_next().await.map_err(failed)? {
            let Some(parts) = object.location.prefix_match(&table) else {
                continue;
            };
            let path = Path::from_iter(parts).to_string();
            if path.starts_with("_delta_log/") || path.starts_with("_symlink") || state.names(&path) {
                continue;
            }
            files += 1;
            bytes += object.size;
            example.get_or_insert(path);
        }
        if let Some(example) = example {
            findings.add(Finding::Orphans { files, bytes, example });
        }
        Ok(())
    }

    /// Every offset of every partition.
    async fn offsets(
        &self,
        name: &str,
        state: &TableState,
        summaries: &BTreeMap<String, Summary>,
        findings: &mut Findings,
    ) -> Result<Vec<PartitionReport>, LakeError> {
        let sources: BTreeSet<(&str, &str)> = state
            .recorded
            .keys()
            .map(|(application, place)| (application.as_str(), &*place.topic))
            .collect();
        let mut rows: BTreeMap<i32, (i64, i64, u64)> = BTreeMap::new();
        for ((_, partition), (least, greatest, count)) in summaries.values().flat_map(|summary| &summary.places) {
            let all = rows.entry(*partition).or_insert((*least, *greatest, 0));
            *all = (all.0.min(*least), all.1.max(*greatest), all.2 + count);
        }
        if sources.len() > 1 {
            findings.add(Finding::Unattributable { sources: sources.len() });
            return Ok(Vec::new());
        }
        for (partition, (_, _, count)) in &rows {
            if !state.recorded.keys().any(|(_, place)| place.partition == *partition) {
                findings.add(Finding::Unrecorded {
                    partition: *partition,
                    rows: *count,
                });
            }
        }
        let letter_files = self.letters.as_ref().map(|letters| &letters.summaries);
        let mut all: Vec<Evidence> = Vec::new();
        for ((_, place), recorded) in &state.recorded {
            let letters = letter_files
                .into_iter()
                .flat_map(|files| files.values())
                .filter_map(|summary| summary.places.get(&(place.topic.to_string(), place.partition)));
            let gaps = self
                .gaps
                .iter()
                .filter(|(gap, _)| gap == place)
                .map(|(_, span)| *span)
                .collect();
            all.push(Evidence::new(
                place.clone(),
                *recorded,
                rows.get(&place.partition).copied(),
                letters.copied(),
                gaps,
                state,
            ));
        }
        let spans: Vec<Span> = all.iter().map(|evidence| evidence.span).collect();
        for pass in plan(&spans, self.options.offsets_per_pass) {
            let mut marks: BTreeMap<usize, Marks> = pass
                .iter()
                .map(|window| (window.partition, Marks::new(window.span)))
                .collect();
            let by_partition: BTreeMap<i32, usize> = pass
                .iter()
                .map(|window| (all[window.partition].place.partition, window.partition))
                .collect();
            let overlaps = |topic: &str, summary: &Summary| {
                marks.iter().any(|(index, marks)| {
                    let place = (topic.to_owned(), all[*index].place.partition);
                    let found = summary.places.get(&place);
                    found.is_some_and(|(least, greatest, _)| *least < marks.span.to && *greatest >= marks.span.from)
                })
            };
            let topic = all
                .first()
                .map_or_else(String::new, |evidence| evidence.place.topic.to_string());
            let of_rows: Vec<&String> = summaries
                .iter()
                .filter(|(_, summary)| overlaps("", summary))
                .map(|(path, _)| path)
                .collect();
            let of_letters: Vec<&String> = letter_files
                .into_iter()
                .flatten()
                .filter(|(_, summary)| overlaps(&topic, summary))
                .map(|(path, _)| path)
                .collect();
            for path in of_rows {
                self.read_places(name, path, [PARTITION, OFFSET], |batch| {
                    each_place(batch, PARTITION, OFFSET, |partition, offset| {
                        if let Some(marks) = by_partition.get(&partition).and_then(|index| marks.get_mut(index)) {
                            marks.row(offset);
                        }
                    });
                })
                .await?;
            }
            for path in of_letters {
                self.read_places(DEAD_LETTERS, path, ["topic", "partition", "offset"], |batch| {
                    each_topic_place(batch, "partition", "offset", |of_topic, partition, offset| {
                        if of_topic != topic {
                            return;
                        }
                        if let Some(marks) = by_partition.get(&partition).and_then(|index| marks.get_mut(index)) {
                            marks.letter(offset);
                        }
                    });
                })
                .await?;
            }
            for (index, mut marks) in marks {
                all[index].take(&mut marks);
            }
        }
        Ok(classify(all, &state.commits, findings))
    }

    async fn read_places<const N: usize>(
        &self,
        table: &str,
        path: &str,
        columns: [&str; N],
        mut batch_to: impl FnMut(&RecordBatch),
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet(table, "read", error);
        #[allow(deprecated, reason = "its successor is to write the same by hand")]
        let reader = ParquetObjectReader::new(self.root.store().clone(), below(&self.root.table_path(table), path));
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), columns);
        let mut batches = builder.with_projection(columns).build().map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            batch_to(&batch);
        }
        Ok(())
    }

    /// All of them: a gap is a person's decision or a disaster, so there are few.
    async fn read_gaps(&self) -> Result<Vec<(TopicPartition, Span)>, LakeError> {
        let state = TableState::read(self.root, GAPS, &mut Findings::default()).await?;
        let mut gaps = Vec::new();
        for path in state.files.keys() {
            let columns = ["topic", "partition", "from_offset", "to_offset"];
            self.read_places(GAPS, path, columns, |batch| {
                let offsets = |name: &str| Some(batch.column_by_name(name)?.as_primitive_opt::<Int64Type>()?.clone());
                if let (Some(from), Some(to)) = (offsets("from_offset"), offsets("to_offset")) {
                    let mut row = 0;
                    each_topic_place(batch, "partition", "from_offset", |topic, partition, _| {
                        let span = Span {
                            from: from.value(row),
                            to: to.value(row),
                        };
                        gaps.push((TopicPartition::new(topic, partition), span));
                        row += 1;
                    });
                }
            })
            .await?;
        }
        Ok(gaps)
    }
}

impl VerifiedTable {
    /// Whether a comparison with the topic is of use: rows can be told by their offsets.
    pub fn is_comparable(&self) -> bool {
        !self.report.findings.has("unattributable")
    }

    /// The hashes of the rows in a span, column by column.
    pub async fn rows_in(&self, place: &TopicPartition, span: Span) -> Result<Vec<RowHash>, LakeError> {
        let mut found = Vec::new();
        let key = (String::new(), place.partition);
        for (path, summary) in &self.summaries {
            let holds = summary
                .places
                .get(&key)
                .is_some_and(|(least, greatest, _)| *least < span.to && *greatest >= span.from);
            if !holds || !self.state.files.contains_key(path) {
                continue;
            }
            let failed = |error| LakeError::parquet(&self.report.table, "read", error);
            let path = below(&self.root.table_path(&self.report.table), path);
            #[allow(deprecated, reason = "its successor is to write the same by hand")]
            let reader = ParquetObjectReader::new(self.root.store().clone(), path);
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
            let mut batches = builder.build().map_err(failed)?;
            while let Some(batch) = batches.try_next().await.map_err(failed)? {
                hash_rows(&batch, true, |row| {
                    if row.partition == place.partition && (span.from..span.to).contains(&row.offset) {
                        found.push(row);
                    }
                });
            }
        }
        Ok(found)
    }
}

impl Verifier<'_> {
    /// Whether the offset lies in a recorded gap.
    pub fn is_gap(&self, place: &TopicPartition, offset: i64) -> bool {
        self.gaps
            .iter()
            .any(|(gap, span)| gap == place && (span.from..span.to).contains(&offset))
    }

    /// Whether the record was removed on purpose.
    pub fn is_erased(&self, _place: &TopicPartition, _offset: i64, _element: Option<u32>) -> bool {
        false
    }

    /// The hashes of the dead letters in a span, by offset and element.
    pub async fn letters_in(
        &self,
        place: &TopicPartition,
        span: Span,
    ) -> Result<BTreeMap<(i64, Option<u32>), u64>, LakeError> {
        let mut found = BTreeMap::new();
        let Some(letters) = &self.letters else {
            return Ok(found);
        };
        let key = (place.topic.to_string(), place.partition);
        for (path, summary) in &letters.summaries {
            let places = summary.places.get(&key);
            if places.is_none_or(|(least, greatest, _)| *least >= span.to || *greatest < span.from) {
                continue;
            }
            let columns = ["topic", "partition", "offset", "element", "key", "value"];
            self.read_places(DEAD_LETTERS, path, columns, |batch| {
                each_letter(batch, |topic, partition, offset, element, hash| {
                    if topic == &*place.topic && partition == place.partition && (span.from..span.to).contains(&offset)
                    {
                        found.insert((offset, element), hash);
                    }
                });
            })
            .await?;
        }
        Ok(found)
    }
}

async fn read_log(root: &Root, name: &str) -> Result<(Arc<TableState>, Findings), LakeError> {
    let mut findings = Findings::default();
    let state = TableState::read(root, name, &mut findings).await?;
    Ok((Arc::new(state), findings))
}

struct Judged {
    summary: Summary,
    findings: Vec<Finding>,
    digests: BTreeMap<(String, i32), Digest>,
}

/// One file, on a thread of its own.
fn judge(path: &str, logged: &LiveFile, bytes: bytes::Bytes, digest: bool) -> Judged {
    let mut summary = Summary::default();
    let mut digests: BTreeMap<(String, i32), Digest> = BTreeMap::new();
    let (rows, mut findings) = check_file(path, logged, bytes, |batch| {
        each_place(batch, PARTITION, OFFSET, |partition, offset| {
            summary.add("", partition, offset)
        });
        each_topic_place(batch, "partition", "offset", |topic, partition, offset| {
            summary.add(topic, partition, offset);
        });
        if digest {
            hash_rows(batch, false, |row| {
                digests
                    .entry((String::new(), row.partition))
                    .or_default()
                    .row(row.offset, row.hash);
            });
            each_letter(batch, |topic, partition, offset, element, hash| {
                digests
                    .entry((topic.to_owned(), partition))
                    .or_default()
                    .letter(offset, element, hash);
            });
        }
    });
    if logged.has_deletion_vector {
        findings.push(Finding::UnreadableFile {
            path: path.to_owned(),
            why: "it has a deletion vector, which we do not read".to_owned(),
        });
    }
    summary.rows = rows;
    Judged {
        summary,
        findings,
        digests,
    }
}

fn below(table: &Path, path: &str) -> Path {
    Path::from_iter(table.parts().chain(Path::from(path).parts()))
}
