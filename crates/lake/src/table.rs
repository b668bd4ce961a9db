//! One writer's handle on a stream's table.

use std::collections::HashSet;
use std::sync::Arc;

use model::{EVENT_DATE, Span, Stream, TopicPartition};

use crate::commit::Commit;
use crate::encode::FileFormat;
use crate::log::Log;
use crate::properties::stream_properties;
use crate::schema::{Declaration, TableSpec};
use crate::{CommitOutcome, EncodedFiles, FileWriter, LakeError, StagedFiles, decide};

/// One writer's handle on a stream's table. Cheap to clone; the commits of clones wait for each other.
#[derive(Clone)]
pub struct Table {
    log: Arc<Log>,
    format: Arc<FileFormat>,
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

    pub(crate) fn new(stream: &Stream, log: Log) -> Result<Self, LakeError> {
        let properties = |schema: &_| stream_properties(stream, schema);
        let format = FileFormat::new(&stream.name, stream.arrow_schema(), Some(EVENT_DATE), properties)?;
        Ok(Self {
            log: Arc::new(log),
            format: Arc::new(format),
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

    /// A batch is known by its first file, whose name is unique, so that trying it again is the same commit. Without
    /// files there is nothing that could be doubled.
    fn commit_id(&self, files: &[StagedFiles]) -> String {
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
