//! One writer's handle on a stream's table.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use model::{EVENT_DATE, OFFSET, PARTITION, Span, Stream, TopicPartition};
use parquet::basic::Compression;
use serde_json::Value;

use crate::delta::commit::Commit;
use crate::delta::log::Log;
use crate::delta::schema::{Declaration, TableSpec};
use crate::write::encode::FileFormat;
use crate::write::properties::stream_properties;
use crate::{CommitOutcome, EncodedFiles, FileWriter, LakeError, StagedFiles, decide};

/// The operation of commits that turn dead letters into rows.
pub(crate) const REPLAY: &str = "REPLAY";

/// One writer's handle on a stream's table. Cheap to clone; the commits of clones wait for each other.
#[derive(Clone)]
pub struct Table {
    pub(crate) log: Arc<Log>,
    pub(crate) format: Arc<FileFormat>,
    pub(crate) event_time: Arc<str>,
}

impl Table {
    pub(crate) fn spec(stream: &Stream, application: &str) -> Result<TableSpec, LakeError> {
        TableSpec::new(
            &stream.name,
            &stream.description,
            &stream.arrow_schema(),
            &[EVENT_DATE],
            vec![Declaration::new(stream, application)],
        )
    }

    pub(crate) fn new(stream: &Stream, log: Log, compression: Compression) -> Result<Self, LakeError> {
        let properties = |schema: &_| stream_properties(stream, schema, compression);
        let format = FileFormat::new(&stream.name, stream.arrow_schema(), Some(EVENT_DATE), properties)?;
        Ok(Self {
            log: Arc::new(log),
            format: Arc::new(format),
            event_time: stream.event_time.as_str().into(),
        })
    }

    pub fn name(&self) -> &str {
        &self.log.spec.name
    }

    /// The newest version this handle has seen.
    pub fn version(&self) -> i64 {
        self.log.version()
    }

    /// Reads the log forward to its end.
    pub async fn refresh(&self) -> Result<(), LakeError> {
        self.log.refresh().await
    }

    /// The next offset to read, as far as this handle has read the log; `None` when nothing of the partition ever landed.
    pub fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.log.recorded(topic_partition)
    }

    /// The id of the topic that the rows of this name's topic come from: this one, recorded from now on, unless the table
    /// records another. Then the topic was made anew, and its offsets say nothing about the rows'. Refresh first.
    pub async fn bind_topic(&self, topic: &str, id: &str) -> Result<String, LakeError> {
        self.log.bind_topic(topic, id).await
    }

    pub fn file_writer(&self) -> FileWriter {
        FileWriter::new(self.format.clone(), self.log.names.clone())
    }

    /// Stores what a [`FileWriter`] finished; nothing of it is visible yet. Transient faults are tried again a few times.
    pub async fn upload(&self, files: EncodedFiles) -> Result<StagedFiles, LakeError> {
        self.log.upload(files).await
    }

    /// Rows and offsets in one commit. Each span's `from` must be the recorded offset, or anything where none is recorded.
    ///
    /// After a retryable error the outcome may be unknown: call again with clones of the same files and the same spans.
    pub async fn commit(
        &self,
        files: Vec<StagedFiles>,
        spans: &[(TopicPartition, Span)],
    ) -> Result<CommitOutcome, LakeError> {
        self.commit_counted(files, spans, None).await
    }

    /// The same, with the number of records that Kafka gave in these spans, rows and letters together. The log keeps it,
    /// so that [`crate::verify`] can tell a lost record from an offset that Kafka never handed out.
    pub async fn commit_counted(
        &self,
        files: Vec<StagedFiles>,
        spans: &[(TopicPartition, Span)],
        records: Option<u64>,
    ) -> Result<CommitOutcome, LakeError> {
        let rows = files.iter().map(StagedFiles::rows).sum();
        check_spans(self.name(), spans)?;
        if rows > 0 && spans.iter().all(|(_, span)| span.is_empty()) {
            return Err(LakeError::batch(self.name(), "it has rows and covers no offsets"));
        }
        let adds: Vec<_> = files.iter().flat_map(StagedFiles::adds).cloned().collect();
        let commit = Commit {
            id: self.commit_id(&files),
            adds: &adds,
            spans,
            rows,
            records,
        };
        let decide = |recorded: &dyn Fn(&TopicPartition) -> crate::Recorded| decide(recorded, spans);
        self.log.commit(&commit, decide, |_, span| span.to).await
    }

    /// Those of these partitions and offsets that have a row, as of the version this handle has seen: refresh first.
    /// Reads the two columns of every file whose statistics do not rule them all out.
    pub async fn present(&self, places: &BTreeSet<(i32, i64)>) -> Result<BTreeSet<(i32, i64)>, LakeError> {
        let mut found = BTreeSet::new();
        let may_hold = |stats: &Value| {
            let within = |column: &str, value: i64| {
                let (min, max) = (&stats["minValues"][column], &stats["maxValues"][column]);
                min.as_i64().is_none_or(|min| min <= value) && max.as_i64().is_none_or(|max| value <= max)
            };
            let mut places = places.iter();
            places.any(|(partition, offset)| within(PARTITION, i64::from(*partition)) && within(OFFSET, *offset))
        };
        for file in self.log.live_files(may_hold).await? {
            let read = self.log.read_columns(&file.path, Some(&[PARTITION, OFFSET]), |batch| {
                let partitions = batch
                    .column_by_name(PARTITION)
                    .and_then(|column| column.as_primitive_opt::<Int32Type>());
                let offsets = batch
                    .column_by_name(OFFSET)
                    .and_then(|column| column.as_primitive_opt::<Int64Type>());
                let (Some(partitions), Some(offsets)) = (partitions, offsets) else {
                    return Err(LakeError::unusable(
                        self.name(),
                        format!("{} has no offsets", file.logged),
                    ));
                };
                let all = partitions
                    .values()
                    .iter()
                    .copied()
                    .zip(offsets.values().iter().copied());
                found.extend(all.filter(|place| places.contains(place)));
                Ok(())
            });
            read.await?;
        }
        Ok(found)
    }

    /// Commits rows of records that were dead letters. `None` when another replay has landed since `read_version`, the
    /// version by which [`Table::present`] told that these have no row yet: ask it again.
    ///
    /// After a retryable error nobody knows whether they landed; `present` tells.
    pub async fn commit_replayed(&self, files: &StagedFiles, read_version: i64) -> Result<Option<i64>, LakeError> {
        let id = self.commit_id(std::slice::from_ref(files));
        let mut actions = vec![self.log.commit_info(REPLAY, &id, Some(read_version))];
        actions.extend(files.adds().cloned());
        let is_in_the_way = |action: &Value| action["commitInfo"]["operation"] == REPLAY;
        self.log
            .commit_prepared(read_version, &id, &actions, is_in_the_way)
            .await
    }

    /// A batch is known by its first file, whose name is unique, so that trying it again is the same commit. Without
    /// files there is nothing that could be doubled.
    pub(crate) fn commit_id(&self, files: &[StagedFiles]) -> String {
        let first = files.iter().find_map(StagedFiles::first_path);
        first.map_or_else(|| self.log.names.next().to_string(), str::to_owned)
    }
}

pub(crate) fn check_spans(table: &str, spans: &[(TopicPartition, Span)]) -> Result<(), LakeError> {
    if spans.is_empty() {
        return Err(LakeError::batch(table, "it covers no partition"));
    }
    let mut seen = HashSet::new();
    for (topic_partition, span) in spans {
        if !seen.insert(topic_partition) {
            return Err(LakeError::batch(table, format!("{topic_partition} stands in it twice")));
        }
        if span.from > span.to {
            return Err(LakeError::batch(
                table,
                format!("span {span} of {topic_partition} runs backwards"),
            ));
        }
    }
    Ok(())
}
