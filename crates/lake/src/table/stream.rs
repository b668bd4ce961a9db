//! One writer's handle on a stream's table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, Int32Array, Int64Array, RecordBatch, StringArray};
use model::{ELEMENT, EVENT_DATE, OFFSET, PARTITION, RecordId, Span, Stream, TOPIC, TopicPartition};
use parquet::basic::Compression;
use serde_json::Value;

use crate::delta::action::{Action, CommitSpan};
use crate::delta::append::Commit;
use crate::delta::conflict::ReadSet;
use crate::delta::log::Log;
use crate::delta::spec::{Declaration, TableSpec};
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
        let format = FileFormat::new(
            &stream.name,
            stream.arrow_schema(),
            &log.schema()?,
            Some(EVENT_DATE),
            properties,
        )?;
        Ok(Self {
            log: Arc::new(log),
            format: Arc::new(format),
            event_time: stream.event_time_column().into(),
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
        self.commit_counted(files, spans, None, None).await
    }

    /// The same, with what Kafka gave in these spans: `records` counts its messages, `elements` the rows and dead letters
    /// that they make where a message may make several or none (`None` where each makes one). The log keeps both, so that
    /// [`crate::verify`] can tell a lost record from an offset that Kafka never handed out.
    pub async fn commit_counted(
        &self,
        files: Vec<StagedFiles>,
        spans: &[(TopicPartition, Span)],
        records: Option<u64>,
        elements: Option<u64>,
    ) -> Result<CommitOutcome, LakeError> {
        let rows = files.iter().map(StagedFiles::rows).sum();
        check_spans(self.name(), spans)?;
        if rows > 0 && spans.iter().all(|(_, span)| span.is_empty()) {
            return Err(LakeError::batch(self.name(), "it has rows and covers no offsets"));
        }
        let commit = Commit {
            id: self.commit_id(&files),
            adds: files.iter().flat_map(StagedFiles::adds).collect(),
            spans,
            rows,
            records,
            elements,
        };
        let decide = |recorded: &dyn Fn(&TopicPartition) -> crate::Recorded| decide(recorded, spans);
        self.log.commit(&commit, decide, |_, span| span.to).await
    }

    /// Those of these records that have a row, as of the version this handle has seen: refresh first. Reads the columns
    /// of their identity in every file whose statistics do not rule them all out.
    ///
    /// # Errors
    /// A row that may be one of these does not tell its topic, and the table was filled from several: whether the record
    /// is there cannot be known.
    pub async fn present(&self, records: &BTreeSet<RecordId>) -> Result<BTreeSet<RecordId>, LakeError> {
        let mut wanted: BTreeMap<i32, BTreeSet<i64>> = BTreeMap::new();
        for record in records {
            let offsets = wanted.entry(record.topic_partition.partition).or_default();
            offsets.insert(record.offset);
        }
        let may_hold = |stats: &Value| {
            let bounds = |column: &str| (stats["minValues"][column].as_i64(), stats["maxValues"][column].as_i64());
            let (partitions, offsets) = (bounds(PARTITION), bounds(OFFSET));
            let is_within = |partition: &i32| {
                let partition = i64::from(*partition);
                partitions.0.is_none_or(|least| least <= partition) && partitions.1.is_none_or(|most| partition <= most)
            };
            let (least, most) = (offsets.0.unwrap_or(i64::MIN), offsets.1.unwrap_or(i64::MAX));
            let mut wanted = wanted.iter().filter(|(partition, _)| is_within(partition));
            least <= most && wanted.any(|(_, offsets)| offsets.range(least..=most).next().is_some())
        };
        let mut found = BTreeSet::new();
        let mut topics: HashMap<i32, BTreeSet<String>> = HashMap::new();
        for file in self.log.live_files(may_hold).await? {
            let columns = [PARTITION, OFFSET, TOPIC, ELEMENT];
            let read = self.log.read_columns(&file.path, Some(&columns), |batch| {
                let identities = Identities::of(&batch)
                    .ok_or_else(|| LakeError::unusable(self.name(), format!("{} has no offsets", file.add.path)))?;
                for row in 0..batch.num_rows() {
                    let (partition, offset, element) = identities.place(row);
                    if !wanted.get(&partition).is_some_and(|offsets| offsets.contains(&offset)) {
                        continue;
                    }
                    let topic = match identities.topic(row) {
                        Some(topic) => topic,
                        None => {
                            let of_partition = topics.entry(partition).or_insert_with(|| self.log.topics_of(partition));
                            self.only_topic(of_partition, &file.add.path, partition, offset)?
                        }
                    };
                    let record = RecordId::new(TopicPartition::new(topic, partition), offset, element);
                    if records.contains(&record) {
                        found.insert(record);
                    }
                }
                Ok(())
            });
            read.await?;
        }
        Ok(found)
    }

    /// The topic of a row that does not name it: the only one that the log records for the partition.
    fn only_topic<'a>(
        &self,
        topics: &'a BTreeSet<String>,
        file: &str,
        partition: i32,
        offset: i64,
    ) -> Result<&'a str, LakeError> {
        match topics.first() {
            Some(topic) if topics.len() == 1 => Ok(topic),
            _ => Err(LakeError::unusable(
                self.name(),
                format!(
                    "the row at partition {partition} offset {offset} in {file} does not tell its topic, and the table \
                     records {} topics for that partition{}",
                    topics.len(),
                    match topics.is_empty() {
                        true => String::new(),
                        false => format!(": {}", topics.iter().cloned().collect::<Vec<_>>().join(", ")),
                    }
                ),
            )),
        }
    }

    /// Commits rows of records that were dead letters. `None` when another replay was committed since `read_version`, the
    /// version by which [`Table::present`] told that these have no row yet: ask it again.
    ///
    /// `messages` names the dead letters of whole messages that became the rows of their elements, and how many each:
    /// the commit that counted such a message as one dead letter is then known to be short or long by that many.
    /// Dead letters that make one row of the same identity are not named.
    ///
    /// After a retryable error nobody knows whether they were committed; `present` tells.
    pub async fn commit_replayed(
        &self,
        files: &StagedFiles,
        read_version: i64,
        messages: &[ReplayedMessage],
    ) -> Result<Option<i64>, LakeError> {
        let id = self.commit_id(std::slice::from_ref(files));
        let mut info = self.log.commit_info(REPLAY, &id, Some(read_version));
        if !messages.is_empty() {
            info.spans = Some(messages.iter().map(ReplayedMessage::span).collect());
        }
        let adds = files.adds().map(|add| Action::Add(Box::new(add.clone())));
        let actions: Vec<Action> = [Action::CommitInfo(Box::new(info))].into_iter().chain(adds).collect();
        // Two replays may give one record a row each, in files that neither of them removes.
        let read = ReadSet {
            exclusive_operation: Some(REPLAY),
            ..ReadSet::default()
        };
        self.log.commit_prepared(read_version, &id, &actions, &read).await
    }

    /// A batch is known by its first file, whose name is unique, so that trying it again is the same commit. Without
    /// files there is nothing that could be doubled.
    pub(crate) fn commit_id(&self, files: &[StagedFiles]) -> String {
        let first = files.iter().find_map(StagedFiles::first_path);
        first.map_or_else(|| self.log.names.next().to_string(), str::to_owned)
    }
}

/// A dead letter of a whole message that became the rows of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedMessage {
    pub topic_partition: TopicPartition,
    pub offset: i64,
    /// Rows and dead letters of elements that it became; 0 when the message holds no element.
    pub elements: u64,
}

impl ReplayedMessage {
    /// Beside the spans of other commits, told from them by `elements`.
    fn span(&self) -> CommitSpan {
        CommitSpan {
            topic: self.topic_partition.topic.to_string(),
            partition: self.topic_partition.partition,
            from: self.offset,
            to: self.offset + 1,
            elements: Some(self.elements),
        }
    }
}

/// The columns of a batch that tell which record a row is.
pub(crate) struct Identities<'a> {
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    /// These two are absent in files that were written before the columns were there.
    topics: Option<&'a StringArray>,
    elements: Option<&'a Int32Array>,
}

impl<'a> Identities<'a> {
    pub(crate) fn of(batch: &'a RecordBatch) -> Option<Self> {
        Some(Self {
            partitions: batch.column_by_name(PARTITION)?.as_primitive_opt()?,
            offsets: batch.column_by_name(OFFSET)?.as_primitive_opt()?,
            topics: match batch.column_by_name(TOPIC) {
                Some(topics) => Some(topics.as_string_opt()?),
                None => None,
            },
            elements: match batch.column_by_name(ELEMENT) {
                Some(elements) => Some(elements.as_primitive_opt()?),
                None => None,
            },
        })
    }

    pub(crate) fn place(&self, row: usize) -> (i32, i64, Option<u32>) {
        let element = self.elements.filter(|elements| elements.is_valid(row));
        (
            self.partitions.value(row),
            self.offsets.value(row),
            element.map(|elements| elements.value(row) as u32),
        )
    }

    pub(crate) fn topic(&self, row: usize) -> Option<&'a str> {
        let topics = self.topics.filter(|topics| topics.is_valid(row))?;
        Some(topics.value(row))
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
