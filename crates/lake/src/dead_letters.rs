//! The table of records that could not become rows: raw bytes, their place, and what was wrong with them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use futures::TryStreamExt;
use model::{DeadLetter, Span, Stream, TopicPartition};
use object_store::path::Path;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::ProjectionMask;
#[allow(deprecated, reason = "its successor is to write the same by hand")]
use parquet::arrow::async_reader::ParquetObjectReader;
use serde_json::Value;

use crate::commit::Commit;
use crate::decide::letters_move_to;
use crate::encode::FileFormat;
use crate::log::Log;
use crate::properties::letter_properties;
use crate::schema::{Declaration, TableSpec};
use crate::table::check_spans;
use crate::{CommitOutcome, FileWriter, LakeError, StagedFiles, decide_letters};

const NAME: &str = "dead_letters";

/// Raw bytes per record batch: an Arrow binary column ends at 2 GiB, and what is built is held twice for a moment.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// One writer's handle on the dead letters of all streams. Cheap to clone; the commits of clones wait for each other.
#[derive(Clone)]
pub struct DeadLetters {
    log: Arc<Log>,
    format: Arc<FileFormat>,
}

impl DeadLetters {
    pub(crate) fn spec<'a>(
        streams: impl IntoIterator<Item = &'a Stream>,
        application: &str,
    ) -> Result<TableSpec, LakeError> {
        TableSpec::new(
            NAME,
            "Records that could not become rows of their table: the bytes as they came, and what is wrong with them.",
            &schema(),
            &[],
            streams
                .into_iter()
                .map(|stream| Declaration::new(stream, application))
                .collect(),
        )
    }

    pub(crate) fn new(log: Log) -> Result<Self, LakeError> {
        Ok(Self {
            format: Arc::new(FileFormat::new(NAME, schema(), None, letter_properties)?),
            log: Arc::new(log),
        })
    }

    pub fn name(&self) -> &str {
        NAME
    }

    /// The newest version this handle has seen.
    pub fn version(&self) -> i64 {
        self.log.version()
    }

    /// Reads the log forward to its end.
    pub async fn refresh(&self) -> Result<(), LakeError> {
        self.log.refresh().await
    }

    /// The offset up to which this partition's letters are committed; `None` when it never had one.
    pub fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.log.recorded(topic_partition)
    }

    /// The offsets of this partition, from `from` on, that are dead letters already.
    ///
    /// Letters are committed before rows; after a crash between the two they are ahead, and these offsets must stay dead.
    /// That is seen by their recorded offset: files are only read when it lies above `from`. Refresh first.
    pub async fn offsets_from(&self, topic_partition: &TopicPartition, from: i64) -> Result<BTreeSet<i64>, LakeError> {
        let mut found = BTreeSet::new();
        if self.recorded(topic_partition).is_none_or(|recorded| recorded <= from) {
            return Ok(found);
        }
        let files = self
            .log
            .live_files(|stats| may_hold(stats, topic_partition, from))
            .await?;
        for path in files {
            self.read_offsets(path, topic_partition, from, &mut found).await?;
        }
        Ok(found)
    }

    /// Commits letters; each span's end becomes its partition's recorded offset, which never goes back.
    ///
    /// `expected` is what this writer last knew of each partition ([`DeadLetters::recorded`] on assignment or after its
    /// last commit): another writer's letters fence. The caller has left out the letters that
    /// [`DeadLetters::offsets_from`] named. After a retryable error nobody knows whether the letters landed: assign the
    /// partitions anew.
    pub async fn commit(
        &self,
        letters: &[DeadLetter],
        spans: &[(TopicPartition, Span)],
        expected: &HashMap<TopicPartition, Option<i64>>,
    ) -> Result<CommitOutcome, LakeError> {
        check_spans(NAME, spans)?;
        self.check_letters(letters, spans)?;
        let files = self.store(letters).await?;
        let adds: Vec<Value> = files.adds().cloned().collect();
        let commit = Commit {
            id: files
                .first_path()
                .map_or_else(|| self.log.names.next().to_string(), str::to_owned),
            adds: &adds,
            spans,
            rows: letters.len() as u64,
            records: None,
        };
        let decide = |recorded: &dyn Fn(&TopicPartition) -> crate::Recorded| {
            let expected = |topic_partition: &TopicPartition| expected.get(topic_partition).copied().flatten();
            decide_letters(recorded, expected, spans)
        };
        self.log.commit(&commit, decide, letters_move_to).await
    }

    fn check_letters(&self, letters: &[DeadLetter], spans: &[(TopicPartition, Span)]) -> Result<(), LakeError> {
        let spans: HashMap<_, _> = spans
            .iter()
            .map(|(topic_partition, span)| (topic_partition, span))
            .collect();
        for letter in letters {
            let covered = spans
                .get(&letter.topic_partition)
                .is_some_and(|span| (span.from..span.to).contains(&letter.offset));
            if !covered {
                return Err(LakeError::batch(
                    NAME,
                    format!(
                        "no span covers the letter at {} offset {}",
                        letter.topic_partition, letter.offset
                    ),
                ));
            }
        }
        Ok(())
    }

    async fn store(&self, letters: &[DeadLetter]) -> Result<StagedFiles, LakeError> {
        if letters.is_empty() {
            return Ok(StagedFiles::default());
        }
        let mut writer = FileWriter::new(self.format.clone(), self.log.names.clone());
        let mut rest = letters;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest.iter().take_while(|letter| {
                bytes += raw_bytes(letter);
                bytes <= BATCH_BYTES_MAX
            });
            let count = fitting.count().max(1);
            let (now, later) = rest.split_at(count);
            writer.write(&batch(now)?)?;
            rest = later;
        }
        self.log.upload(writer.finish()?).await
    }

    async fn read_offsets(
        &self,
        path: Path,
        topic_partition: &TopicPartition,
        from: i64,
        found: &mut BTreeSet<i64>,
    ) -> Result<(), LakeError> {
        let failed = |error| LakeError::parquet(NAME, "read", error);
        #[allow(deprecated, reason = "its successor is to write the same by hand")]
        let reader = ParquetObjectReader::new(self.log.store.clone(), path.clone());
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed)?;
        let columns = ProjectionMask::columns(builder.parquet_schema(), ["topic", "partition", "offset"]);
        let mut batches = builder.with_projection(columns).build().map_err(failed)?;
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            let (topics, partitions, offsets) = (
                batch.column(0).as_string::<i32>(),
                batch.column(1).as_primitive::<Int32Type>(),
                batch.column(2).as_primitive::<Int64Type>(),
            );
            let of_partition = (0..batch.num_rows()).filter(|row| {
                topics.value(*row) == &*topic_partition.topic && partitions.value(*row) == topic_partition.partition
            });
            found.extend(
                of_partition
                    .map(|row| offsets.value(row))
                    .filter(|offset| *offset >= from),
            );
        }
        Ok(())
    }
}

fn may_hold(stats: &Value, topic_partition: &TopicPartition, from: i64) -> bool {
    let (min, max) = (&stats["minValues"], &stats["maxValues"]);
    let topic = &*topic_partition.topic;
    let partition = i64::from(topic_partition.partition);
    let below = min["topic"].as_str().is_some_and(|least| topic < least)
        || min["partition"].as_i64().is_some_and(|least| partition < least);
    let above = max["topic"].as_str().is_some_and(|greatest| topic > greatest)
        || max["partition"].as_i64().is_some_and(|greatest| partition > greatest)
        || max["offset"].as_i64().is_some_and(|greatest| from > greatest);
    !below && !above
}

fn raw_bytes(letter: &DeadLetter) -> usize {
    let headers: usize = letter
        .headers
        .iter()
        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
        .sum();
    letter.key.as_ref().map_or(0, Vec::len) + letter.value.as_ref().map_or(0, Vec::len) + letter.error.len() + headers
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

fn header_field() -> Field {
    Field::new("element", DataType::Struct(header_fields()), false)
}

fn schema() -> SchemaRef {
    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let headers = DataType::List(Arc::new(header_field()));
    let columns = [
        ("topic", DataType::Utf8, false, "Kafka topic of the record."),
        ("partition", DataType::Int32, false, "Kafka partition of the record."),
        ("offset", DataType::Int64, false, "Kafka offset of the record."),
        (
            "kafka_timestamp",
            timestamp.clone(),
            true,
            "Kafka's timestamp of the record; null when it has none.",
        ),
        ("ingested_at", timestamp, false, "When the record was read."),
        ("key", DataType::Binary, true, "The record's key as it came."),
        (
            "value",
            DataType::Binary,
            true,
            "The record's value as it came; null for a tombstone.",
        ),
        ("headers", headers, false, "The record's headers as they came."),
        (
            "stage",
            DataType::Utf8,
            false,
            "Where it failed: decode (the bytes are not one JSON object), schema (it does not fit the declaration), \
             validate (a value is out of its range or set).",
        ),
        (
            "error_class",
            DataType::Utf8,
            false,
            "Short name of the error, from a fixed set; the one to count by.",
        ),
        ("error", DataType::Utf8, false, "The error in words."),
        (
            "field",
            DataType::Utf8,
            true,
            "The declared field at fault, where one is.",
        ),
    ];
    let fields = columns.map(|(name, data_type, nullable, doc)| {
        Field::new(name, data_type, nullable).with_metadata([("comment".to_owned(), doc.to_owned())].into())
    });
    Arc::new(Schema::new(fields.to_vec()))
}

fn batch(letters: &[DeadLetter]) -> Result<RecordBatch, LakeError> {
    let (mut topic, mut partition, mut offset) = (StringBuilder::new(), Int32Builder::new(), Int64Builder::new());
    let mut kafka_timestamp = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut ingested_at = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let (mut key, mut value) = (BinaryBuilder::new(), BinaryBuilder::new());
    let header = StructBuilder::new(
        header_fields(),
        vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())],
    );
    let mut headers = ListBuilder::new(header).with_field(header_field());
    let (mut stage, mut error_class) = (StringBuilder::new(), StringBuilder::new());
    let (mut error, mut field) = (StringBuilder::new(), StringBuilder::new());
    for letter in letters {
        topic.append_value(&letter.topic_partition.topic);
        partition.append_value(letter.topic_partition.partition);
        offset.append_value(letter.offset);
        kafka_timestamp.append_option(letter.kafka_timestamp_us);
        ingested_at.append_value(letter.ingested_at_us);
        key.append_option(letter.key.as_deref());
        value.append_option(letter.value.as_deref());
        for (key, value) in &letter.headers {
            let header = headers.values();
            if let Some(keys) = header.field_builder::<StringBuilder>(0) {
                keys.append_value(key);
            }
            if let Some(values) = header.field_builder::<BinaryBuilder>(1) {
                values.append_option(value.as_deref());
            }
            header.append(true);
        }
        headers.append(true);
        stage.append_value(letter.stage.as_str());
        error_class.append_value(letter.error_class);
        error.append_value(&letter.error);
        field.append_option(letter.field.as_deref());
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(topic.finish()),
        Arc::new(partition.finish()),
        Arc::new(offset.finish()),
        Arc::new(kafka_timestamp.finish()),
        Arc::new(ingested_at.finish()),
        Arc::new(key.finish()),
        Arc::new(value.finish()),
        Arc::new(headers.finish()),
        Arc::new(stage.finish()),
        Arc::new(error_class.finish()),
        Arc::new(error.finish()),
        Arc::new(field.finish()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| LakeError::parquet(NAME, "encode", error))
}
