//! The table of the commits of all other tables: what `verify` needs to know of each, kept beyond the clean-up of logs.
//!
//! A commit says in its own JSON which offsets it covers and how many records it was given. Delta lets a writer delete
//! that JSON once a checkpoint sums it up, and with it goes what tells a lost record from an offset that Kafka never
//! handed out. So whoever is about to write a checkpoint first appends the commits up to it here. The range of versions is
//! a span like any other: the same decision as for offsets (`delta::decide`) makes each version one row, whoever races or
//! crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::builder::{Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use futures::stream::{self, StreamExt, TryStreamExt};
use model::{Span, TopicPartition};
use serde::Serialize;
use serde_json::Value;

use crate::delta::append::Commit;
use crate::delta::data_file::RowReader;
use crate::delta::log::Log;
use crate::delta::spec::TableSpec;
use crate::delta::{Action, Add, CommitInfo, Snapshot, TableLocation};
use crate::write::encode::FileFormat;
use crate::write::parquet::{ParquetFormat, ParquetSettings};
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
    pub(crate) fn new(log: Log, table: &str, table_id: &str, parquet: ParquetSettings) -> Result<Self, LakeError> {
        let format = FileFormat::new(
            NAME,
            schema(),
            &log.schema()?,
            None,
            ParquetFormat::of(NAME, parquet, log.view().metadata())?,
            ParquetFormat::system_properties,
        )?;
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
            let from = match self.log.recorded(&place) {
                Some(from) => from,
                None => self.held().await?,
            };
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

    /// The first version that no row holds: where the log does not say how far the rows go, because this is the first
    /// time or because a checkpoint of another writer has dropped that.
    async fn held(&self) -> Result<i64, LakeError> {
        let mut held = 0;
        let may_hold = |stats: &Value| {
            let bound = |side: &str| stats[side]["table_id"].as_str().map(str::to_owned);
            is_between(
                &self.table_id,
                bound("minValues").as_deref(),
                bound("maxValues").as_deref(),
            )
        };
        for file in self.log.live_files(may_hold).await? {
            let read = self.log.read_rows(&file, None, |batch| {
                let found = rows(&batch, |id| id == self.table_id)
                    .ok_or_else(|| LakeError::unusable(NAME, format!("{} has other columns", file.add.path)))?;
                held = found.iter().map(|row| row.evidence.version + 1).fold(held, i64::max);
                Ok(())
            });
            read.await?;
        }
        Ok(held)
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

/// A row of the table.
#[derive(Debug)]
pub(crate) struct CommitRow {
    pub(crate) table_id: String,
    pub(crate) evidence: CommitEvidence,
    /// Its checksum is that of its values.
    pub(crate) is_intact: bool,
}

/// The rows of a batch about the tables whose ids are wanted; `None` when the batch lacks a column.
pub(crate) fn rows(batch: &RecordBatch, is_wanted: impl Fn(&str) -> bool) -> Option<Vec<CommitRow>> {
    let column = |name: &str| batch.column_by_name(name);
    let text = |name: &str| column(name)?.as_string_opt::<i32>();
    let long = |name: &str| column(name)?.as_primitive_opt::<Int64Type>();
    let (table_ids, versions, checksums) = (text("table_id")?, long("version")?, long("checksum")?);
    let timestamps = column("timestamp")?.as_primitive_opt::<TimestampMicrosecondType>()?;
    let texts = [text("operation")?, text("commit_id")?, text("application")?];
    let counts = [long("rows")?, long("records")?, long("elements")?];
    let spans = column("spans")?.as_list_opt::<i32>()?;
    let mut found = Vec::new();
    for row in (0..batch.num_rows()).filter(|row| is_wanted(table_ids.value(*row))) {
        let [operation, commit_id, application] =
            texts.map(|texts| texts.is_valid(row).then(|| texts.value(row).to_owned()));
        let [rows, records, elements] =
            counts.map(|counts| counts.is_valid(row).then(|| counts.value(row).max(0) as u64));
        let evidence = CommitEvidence {
            version: versions.value(row),
            timestamp_ms: timestamps.is_valid(row).then(|| timestamps.value(row).div_euclid(1000)),
            operation,
            commit_id,
            application,
            rows,
            records,
            elements,
            spans: match spans.is_valid(row) {
                true => Some(read_spans(spans.value(row).as_struct_opt()?)?),
                false => None,
            },
        };
        let table_id = table_ids.value(row).to_owned();
        found.push(CommitRow {
            is_intact: i64::from(checksum(&table_id, &evidence)) == checksums.value(row),
            table_id,
            evidence,
        });
    }
    Some(found)
}

fn read_spans(spans: &StructArray) -> Option<Vec<CommitSpan>> {
    let topics = spans.column_by_name("topic")?.as_string_opt::<i32>()?;
    let partitions = spans.column_by_name("partition")?.as_primitive_opt::<Int32Type>()?;
    let long = |name: &str| spans.column_by_name(name)?.as_primitive_opt::<Int64Type>();
    let (from, to, elements) = (long("from")?, long("to")?, long("elements")?);
    let span = |row: usize| CommitSpan {
        place: TopicPartition::new(topics.value(row), partitions.value(row)),
        span: Span {
            from: from.value(row),
            to: to.value(row),
        },
        elements: elements.is_valid(row).then(|| elements.value(row).max(0) as u64),
    };
    Some((0..spans.len()).map(span).collect())
}

/// By partition of a topic, the offset after the last that the rows about a table's commits by an application cover.
pub(crate) async fn kept_offsets(
    snapshot: &Snapshot,
    table_id: &str,
    application: &str,
    topic: &str,
    partitions: &BTreeSet<i32>,
) -> Result<BTreeMap<i32, i64>, LakeError> {
    let reader = RowReader::new(snapshot.schema(), snapshot.column_mapping());
    let mut ends = BTreeMap::new();
    let mut files = snapshot.files(|add| may_be_about(add, table_id));
    while let Some(add) = files.try_next().await? {
        let location = snapshot.location();
        let path = location
            .data_path(&add.path)
            .map_err(|why| LakeError::unusable(NAME, why))?;
        let deleted = add.deletion_vector.as_ref();
        let read = reader.read(location, &path, deleted, None, |batch| {
            let found = rows(&batch, |id| id == table_id)
                .ok_or_else(|| LakeError::unusable(NAME, format!("{} has other columns", add.path)))?;
            let own = found.into_iter().map(|row| row.evidence);
            let own = own.filter(|evidence| evidence.application.as_deref() == Some(application));
            for of in own.flat_map(|evidence| evidence.spans.unwrap_or_default()) {
                let is_of = *of.place.topic == *topic && partitions.contains(&of.place.partition) && !of.is_replayed();
                if is_of {
                    let end = ends.entry(of.place.partition).or_insert(of.span.to);
                    *end = (*end).max(of.span.to);
                }
            }
            Ok(ControlFlow::Continue(()))
        });
        read.await?;
    }
    Ok(ends)
}

fn may_be_about(add: &Add, table_id: &str) -> bool {
    let stats: Value = add
        .stats
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let bound = |side: &str| stats[side]["table_id"].as_str();
    is_between(table_id, bound("minValues"), bound("maxValues"))
}

/// Whether a text is within a column's bounds. Writers cut the upper one off, some without raising it.
fn is_between(text: &str, least: Option<&str>, greatest: Option<&str>) -> bool {
    least.is_none_or(|least| least <= text) && greatest.is_none_or(|most| text <= most || text.starts_with(most))
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
