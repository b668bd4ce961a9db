//! The table of the commits of all other tables: what `verify` needs to know of each, kept beyond the clean-up of logs.
//!
//! A commit says in its own JSON which offsets it covers and how many records it was given. Delta lets a writer delete
//! that JSON once a checkpoint sums it up, and with it goes what tells a lost record from an offset that Kafka never
//! handed out. So whoever is about to write a checkpoint first appends the commits up to it here. The range of versions is
//! a span like any other: the same decision as for offsets (`delta::decide`) makes each version one row, whoever races or
//! crashes.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use futures::stream::{self, StreamExt, TryStreamExt};
use model::{Span, TopicPartition};
use parquet::basic::Compression;
use serde::Serialize;

use crate::delta::append::Commit;
use crate::delta::log::Log;
use crate::delta::spec::TableSpec;
use crate::delta::{Action, CommitInfo, TableLocation};
use crate::write::encode::FileFormat;
use crate::write::properties::letter_properties;
use crate::{CommitOutcome, FileWriter, LakeError, decide};

const NAME: &str = model::COMMITS;

/// Commits read at the same time.
const READS_AT_ONCE: usize = 16;
/// Versions in one commit of this table at most: a log that was never summed up is taken over in parts.
const VERSIONS_MAX: i64 = 10_000;
/// Other writers may record the same versions at the same time.
const TRIES_MAX: u32 = 20;

/// What a commit says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CommitEvidence {
    pub(crate) version: i64,
    /// Milliseconds since the epoch.
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) operation: Option<String>,
    pub(crate) commit_id: Option<String>,
    pub(crate) application: Option<String>,
    /// Rows that it added.
    pub(crate) rows: Option<u64>,
    /// Records that Kafka gave in the spans.
    pub(crate) records: Option<u64>,
    /// Rows and dead letters that they make, where a record makes several or none.
    pub(crate) elements: Option<u64>,
    /// `None` in a commit that says nothing of offsets.
    pub(crate) spans: Option<Vec<CommitSpan>>,
}

/// Offsets that a commit covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitSpan {
    pub(crate) place: TopicPartition,
    pub(crate) span: Span,
    /// Of a replay: the dead letter of this one message became so many rows and dead letters of elements.
    pub(crate) elements: Option<u64>,
}

impl CommitSpan {
    /// It names a message that another commit covers.
    pub(crate) fn is_replayed(&self) -> bool {
        self.elements.is_some()
    }
}

/// One writer's handle on the commits of one table.
pub(crate) struct Commits {
    log: Log,
    format: Arc<FileFormat>,
    table: String,
    table_id: String,
}

impl Commits {
    pub(crate) fn spec() -> Result<TableSpec, LakeError> {
        let description = "The commits of all other tables: what stays of them when their logs are cleaned up.";
        TableSpec::new(NAME, description, &schema(), &[], Vec::new())
    }

    /// The application under which this table records how far it holds the commits of another: they are one, whoever
    /// writes.
    pub(crate) fn application(table: &str) -> String {
        format!("{NAME}/{table}")
    }

    /// `log` was opened as [`Commits::application`] of the table, whose id tells it from one that had the name earlier.
    pub(crate) fn new(log: Log, table: &str, table_id: &str, compression: Compression) -> Result<Self, LakeError> {
        let format = FileFormat::new(NAME, schema(), &log.schema()?, None, |schema| {
            letter_properties(schema, compression)
        })?;
        Ok(Self {
            log,
            format: Arc::new(format),
            table: table.to_owned(),
            table_id: table_id.to_owned(),
        })
    }

    /// The versions of the table as a partition, whose offsets they are.
    pub(crate) fn place(table_id: &str) -> TopicPartition {
        TopicPartition::new(table_id, 0)
    }

    /// Records the commits up to a version, each once. `log` is where the table lies.
    ///
    /// A version whose JSON is gone already gets a row that says nothing, so that the rows have no holes.
    pub(crate) async fn record(&self, log: &TableLocation, until: i64) -> Result<(), LakeError> {
        let place = Self::place(&self.table_id);
        let mut tries = 0;
        while tries < TRIES_MAX {
            self.log.refresh().await?;
            let from = self.log.recorded(&place).unwrap_or(0);
            if from > until {
                return Ok(());
            }
            let span = Span::new(from, (until + 1).min(from + VERSIONS_MAX));
            match self.append(log, &place, span).await? {
                CommitOutcome::Committed { .. } => {}
                // Another recorded these, or others.
                CommitOutcome::AlreadyLanded { .. } | CommitOutcome::Fenced { .. } => tries += 1,
            }
        }
        Err(LakeError::Unsettled {
            table: NAME.to_owned(),
            tries,
            source: None,
        })
    }

    async fn append(
        &self,
        log: &TableLocation,
        place: &TopicPartition,
        versions: Span,
    ) -> Result<CommitOutcome, LakeError> {
        let read = stream::iter(versions.from..versions.to).map(|version| async move {
            let found = read(log, version).await?;
            Ok::<_, LakeError>(found.unwrap_or_else(|| CommitEvidence::gone(version)))
        });
        let evidence: Vec<CommitEvidence> = read.buffered(READS_AT_ONCE).try_collect().await?;
        let mut writer = FileWriter::new(self.format.clone(), self.log.names.clone());
        writer.write(&batch(&self.table, &self.table_id, &evidence)?)?;
        let files = self.log.upload(writer.finish()?).await?;
        let spans = [(place.clone(), versions)];
        let commit = Commit {
            id: files.first_path().unwrap_or_default().to_owned(),
            adds: files.adds().collect(),
            spans: &spans,
            rows: evidence.len() as u64,
            records: None,
            elements: None,
        };
        let decide = |recorded: &dyn Fn(&TopicPartition) -> crate::Recorded| decide(recorded, &spans);
        self.log.commit(&commit, decide, |_, span| span.to).await
    }
}

/// What the JSON of a version says; `None` when it is not there.
async fn read(log: &TableLocation, version: i64) -> Result<Option<CommitEvidence>, LakeError> {
    let Some(bytes) = log.read_commit(version).await? else {
        return Ok(None);
    };
    // What cannot be read stays in the log for `verify` to report.
    let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut last_info = None;
    while let Some(line) = lines.next_back() {
        if let Ok(Action::CommitInfo(info)) = serde_json::from_slice(line) {
            last_info = Some(info);
            break;
        }
    }
    Ok(Some(CommitEvidence::of(version, last_info.as_deref())))
}

impl CommitEvidence {
    /// What a commit says in its `commitInfo`, where it has one.
    pub(crate) fn of(version: i64, info: Option<&CommitInfo>) -> Self {
        let Some(info) = info else { return Self::gone(version) };
        let spans = info.spans.as_ref().map(|spans| {
            let runs_forwards = spans.iter().filter(|span| span.from <= span.to);
            let span = runs_forwards.map(|span| CommitSpan {
                place: TopicPartition::new(span.topic.as_str(), span.partition),
                span: Span::new(span.from, span.to),
                elements: span.elements,
            });
            span.collect()
        });
        let parameters = info.operation_parameters.as_ref();
        Self {
            version,
            timestamp_ms: info.timestamp,
            operation: info.operation.clone(),
            commit_id: info.commit_id.clone(),
            application: parameters.and_then(|all| Some(all.get("queryId")?.as_str()?.to_owned())),
            rows: info.metric("numOutputRows"),
            records: info.records,
            elements: info.elements,
            spans,
        }
    }

    /// Of a commit nothing is known.
    fn gone(version: i64) -> Self {
        Self {
            version,
            ..Self::default()
        }
    }
}

/// A row's own checksum: what changes a row without knowing it is seen, also when it rewrites the file with a log entry
/// of its own.
pub(crate) fn checksum(table_id: &str, evidence: &CommitEvidence) -> u32 {
    /// Topic, partition, from, to, elements.
    type SpanText<'a> = (&'a str, i32, i64, i64, Option<u64>);
    #[derive(Serialize)]
    struct Text<'a>(
        &'a str,
        i64,
        Option<i64>,
        [Option<&'a str>; 3],
        [Option<u64>; 3],
        Option<Vec<SpanText<'a>>>,
    );
    let spans = evidence.spans.as_ref().map(|spans| {
        let texts = spans.iter().map(|of| {
            let topic = &*of.place.topic;
            (topic, of.place.partition, of.span.from, of.span.to, of.elements)
        });
        texts.collect()
    });
    let text = Text(
        table_id,
        evidence.version,
        evidence.timestamp_ms,
        [&evidence.operation, &evidence.commit_id, &evidence.application].map(|text| text.as_deref()),
        [evidence.rows, evidence.records, evidence.elements],
        spans,
    );
    // Numbers and texts have a JSON form.
    crc32c::crc32c(&serde_json::to_vec(&text).unwrap_or_default())
}

fn span_fields() -> Fields {
    Fields::from(vec![
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("from", DataType::Int64, false),
        Field::new("to", DataType::Int64, false),
        Field::new("elements", DataType::Int64, true),
    ])
}

fn span_field() -> Field {
    Field::new("element", DataType::Struct(span_fields()), false)
}

fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let spans = DataType::List(Arc::new(span_field()));
    let columns = [
        (
            "table",
            DataType::Utf8,
            false,
            "Name of the table that was committed to.",
        ),
        (
            "table_id",
            DataType::Utf8,
            false,
            "Its id: another table may have had the name before.",
        ),
        ("version", DataType::Int64, false, "Version of the table."),
        (
            "timestamp",
            timestamp,
            true,
            "When it was committed. Null, like all that follows, when the commit did not say, or was gone already.",
        ),
        ("operation", DataType::Utf8, true, "What it did."),
        ("commit_id", DataType::Utf8, true, "Unique name of the commit."),
        (
            "application",
            DataType::Utf8,
            true,
            "The application that committed it.",
        ),
        ("rows", DataType::Int64, true, "Rows that it added."),
        (
            "records",
            DataType::Int64,
            true,
            "Records that Kafka gave in its offsets.",
        ),
        (
            "elements",
            DataType::Int64,
            true,
            "Rows and dead letters that these records make, where a record makes several or none.",
        ),
        (
            "spans",
            spans,
            true,
            "The offsets that it covers, from `from` up to and without `to`.",
        ),
        ("checksum", DataType::Int64, false, "CRC-32C of the row's values."),
    ];
    let fields = columns.map(|(name, data_type, nullable, doc)| {
        Field::new(name, data_type, nullable).with_metadata([("comment".to_owned(), doc.to_owned())].into())
    });
    Arc::new(Schema::new(fields.to_vec()))
}

fn batch(table: &str, table_id: &str, evidence: &[CommitEvidence]) -> Result<RecordBatch, LakeError> {
    let all = || evidence.iter();
    let texts = |of: fn(&CommitEvidence) -> Option<&str>| Arc::new(StringArray::from_iter(all().map(of)));
    let counts = |of: fn(&CommitEvidence) -> Option<u64>| {
        Arc::new(Int64Array::from_iter(
            all().map(|evidence| of(evidence).map(|count| count as i64)),
        ))
    };
    let timestamps = all().map(|evidence| evidence.timestamp_ms.map(|ms| ms.saturating_mul(1000)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all().map(|_| table))),
        Arc::new(StringArray::from_iter_values(all().map(|_| table_id))),
        Arc::new(Int64Array::from_iter_values(all().map(|evidence| evidence.version))),
        Arc::new(TimestampMicrosecondArray::from_iter(timestamps).with_timezone("UTC")),
        texts(|evidence| evidence.operation.as_deref()),
        texts(|evidence| evidence.commit_id.as_deref()),
        texts(|evidence| evidence.application.as_deref()),
        counts(|evidence| evidence.rows),
        counts(|evidence| evidence.records),
        counts(|evidence| evidence.elements),
        spans(evidence),
        Arc::new(Int64Array::from_iter_values(
            all().map(|evidence| i64::from(checksum(table_id, evidence))),
        )),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| LakeError::parquet(NAME, "encode", error))
}

fn spans(evidence: &[CommitEvidence]) -> ArrayRef {
    let fields = vec![
        Box::new(StringBuilder::new()) as _,
        Box::new(Int32Builder::new()) as _,
        Box::new(Int64Builder::new()) as _,
        Box::new(Int64Builder::new()) as _,
        Box::new(Int64Builder::new()) as _,
    ];
    let mut spans = ListBuilder::new(StructBuilder::new(span_fields(), fields)).with_field(span_field());
    for evidence in evidence {
        for of in evidence.spans.iter().flatten() {
            let one = spans.values();
            if let Some(topics) = one.field_builder::<StringBuilder>(0) {
                topics.append_value(&of.place.topic);
            }
            if let Some(partitions) = one.field_builder::<Int32Builder>(1) {
                partitions.append_value(of.place.partition);
            }
            let longs = [
                Some(of.span.from),
                Some(of.span.to),
                of.elements.map(|count| count as i64),
            ];
            for (field, value) in longs.into_iter().enumerate() {
                if let Some(values) = one.field_builder::<Int64Builder>(field + 2) {
                    values.append_option(value);
                }
            }
            one.append(true);
        }
        spans.append(evidence.spans.is_some());
    }
    Arc::new(spans.finish())
}
