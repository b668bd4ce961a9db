//! The table of records that could not become rows: raw bytes, their place, and what was wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, Int32Builder, Int64Builder, ListBuilder, StringBuilder, StructBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_select::filter::filter_record_batch;
use model::{DeadLetter, RecordId, Span, Stream, TopicPartition};
use serde_json::Value;

use crate::delta::action::{Action, Add};
use crate::delta::append::Commit;
use crate::delta::conflict::ReadSet;
use crate::delta::decide::letters_move_to;
use crate::delta::log::Log;
use crate::delta::spec::{Declaration, TableSpec};
use crate::table::rewrite::check_undeclared;
use crate::table::stream::{REPLAY, check_spans};
use crate::write::encode::FileFormat;
use crate::write::parquet::{ParquetFormat, ParquetSettings};
use crate::{CommitOutcome, FileWriter, LakeError, Mark, StagedFiles, decide_letters};

const NAME: &str = model::DEAD_LETTERS;

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

    pub(crate) fn new(log: Log, parquet: ParquetSettings) -> Result<Self, LakeError> {
        let format = FileFormat::new(
            NAME,
            schema(),
            &log.schema()?,
            None,
            ParquetFormat::of(NAME, parquet, log.view().metadata())?,
            ParquetFormat::system_properties,
        )?;
        Ok(Self {
            format: Arc::new(format),
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

    /// Whether dead letters may be removed, as [`crate::Table::check_rewritable`] says of rows. Refresh first.
    pub fn check_rewritable(&self) -> Result<(), LakeError> {
        self.log.check_rewritable()
    }

    /// The offset up to which this partition's letters are committed; `None` when it never had one.
    pub fn recorded(&self, topic_partition: &TopicPartition) -> Option<i64> {
        self.log.recorded(topic_partition)
    }

    /// The same, and in which version: what [`DeadLetters::commit`] is to be told.
    pub fn mark(&self, topic_partition: &TopicPartition) -> Option<Mark> {
        self.log.mark(topic_partition)
    }

    /// The records of this partition, from offset `from` on, that are dead letters already: offset and element.
    ///
    /// Dead letters are committed before rows; after a crash between the two they are ahead, and these records must stay
    /// dead letters. The recorded offset tells: files are only read when it lies above `from`, or may have expired.
    /// Refresh first.
    pub async fn offsets_from(
        &self,
        topic_partition: &TopicPartition,
        from: i64,
    ) -> Result<BTreeSet<(i64, Option<u32>)>, LakeError> {
        let mut found = BTreeSet::new();
        // Where a checkpoint of another writer may have dropped the offset, the rows tell.
        let may_hold_any = match self.recorded(topic_partition) {
            Some(recorded) => recorded > from,
            None => self.log.lets_offsets_expire(),
        };
        if !may_hold_any {
            return Ok(found);
        }
        let files = self
            .log
            .live_files(|stats| may_hold(stats, topic_partition, from, i64::MAX))
            .await?;
        for file in files {
            let read = self.log.read_rows(&file, Some(&IDENTITY), |batch| {
                let identities = Identities::of(&batch)?;
                let rows = (0..batch.num_rows()).filter(|row| identities.is_of(*row, topic_partition));
                found.extend(
                    rows.map(|row| identities.offset_and_element(row))
                        .filter(|(offset, _)| *offset >= from),
                );
                Ok(())
            });
            read.await?;
        }
        Ok(found)
    }

    /// Removes dead letters that have become rows: the files with them are replaced by files without. Those that are no
    /// longer there are skipped. Returns how many it removed.
    ///
    /// Only dead letters below the offset that their rows' table records may go: from there on a writer still asks which
    /// records are dead letters.
    pub async fn remove(&self, gone: &BTreeSet<RecordId>) -> Result<u64, LakeError> {
        let mut spans: BTreeMap<&TopicPartition, (i64, i64)> = BTreeMap::new();
        for record in gone {
            let (least, greatest) = spans
                .entry(&record.topic_partition)
                .or_insert((record.offset, record.offset));
            (*least, *greatest) = ((*least).min(record.offset), (*greatest).max(record.offset));
        }
        let may_hold_any = |stats: &Value| {
            let mut spans = spans.iter();
            spans.any(|(topic_partition, (least, greatest))| may_hold(stats, topic_partition, *least, *greatest))
        };
        for _ in 0..REMOVE_TRIES_MAX {
            self.log.refresh().await?;
            let read_version = self.version();
            let (mut removed, mut count) = (Vec::<Add>::new(), 0);
            let mut kept = FileWriter::new(self.format.clone(), self.log.names.clone());
            for file in self.log.live_files(may_hold_any).await? {
                let mut without = Vec::new();
                let before = count;
                let read = self.log.read_rows(&file, None, |batch| {
                    let identities = Identities::of(&batch)?;
                    let stays: Vec<bool> = (0..batch.num_rows())
                        .map(|row| !gone.contains(&identities.record_id(row)))
                        .collect();
                    count += stays.iter().filter(|stays| !**stays).count() as u64;
                    let filtered = filter_record_batch(&batch, &stays.into());
                    without.push(filtered.map_err(|error| LakeError::parquet(NAME, "read", error))?);
                    Ok(())
                });
                read.await?;
                if count > before {
                    for batch in without.iter().filter(|batch| batch.num_rows() > 0) {
                        kept.write(&complete(batch, &file.add.path)?)?;
                    }
                    removed.push(file.add);
                }
            }
            if removed.is_empty() {
                return Ok(0);
            }
            let kept = match kept.is_empty() {
                true => StagedFiles::default(),
                false => self.log.upload(kept.finish()?).await?,
            };
            let id = self.log.names.next().to_string();
            let now_ms = self.log.clock.now_us() / 1000;
            let info = self.log.commit_info(REPLAY, &id, Some(read_version));
            let mut actions = vec![Action::CommitInfo(Box::new(info))];
            actions.extend(
                removed
                    .iter()
                    .map(|add| Action::Remove(Box::new(add.to_remove(now_ms, true)))),
            );
            actions.extend(kept.adds().map(|add| Action::Add(Box::new(add.clone()))));
            let read = ReadSet {
                removed_files: removed.iter().map(Add::key).collect(),
                ..ReadSet::default()
            };
            let committed = self.log.commit_prepared(read_version, &id, &actions, &read);
            if committed.await?.is_some() {
                return Ok(count);
            }
        }
        Err(LakeError::Unsettled {
            table: NAME.to_owned(),
            tries: REMOVE_TRIES_MAX,
            source: None,
        })
    }

    /// Commits letters; each span's end becomes its partition's recorded offset, which never goes back.
    ///
    /// `expected` is what this writer last knew of each partition ([`DeadLetters::mark`] on assignment or after its last
    /// commit): another writer's letters fence. The caller has left out the letters that
    /// [`DeadLetters::offsets_from`] named. After a retryable error nobody knows whether the letters landed: assign the
    /// partitions anew.
    pub async fn commit(
        &self,
        letters: &[DeadLetter],
        spans: &[(TopicPartition, Span)],
        expected: &HashMap<TopicPartition, Option<Mark>>,
    ) -> Result<CommitOutcome, LakeError> {
        check_spans(NAME, spans)?;
        self.check_letters(letters, spans)?;
        let files = self.store(letters).await?;
        let commit = Commit {
            id: files
                .first_path()
                .map_or_else(|| self.log.names.next().to_string(), str::to_owned),
            adds: files.adds().collect(),
            spans,
            rows: letters.len() as u64,
            records: None,
            elements: None,
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
}

/// The columns that tell which record a dead letter is.
const IDENTITY: [&str; 4] = ["topic", "partition", "offset", "element"];

/// Replacing dead letters' files may be overtaken by another replay or a compaction.
const REMOVE_TRIES_MAX: u32 = 20;

/// The columns of [`IDENTITY`] in a batch.
struct Identities<'a> {
    topics: &'a StringArray,
    partitions: &'a Int32Array,
    offsets: &'a Int64Array,
    /// Absent in files that were written before the column was there.
    elements: Option<&'a Int32Array>,
}

impl<'a> Identities<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, LakeError> {
        let column = |name: &str| {
            let column = batch.column_by_name(name);
            column.ok_or_else(|| LakeError::unusable(NAME, format!("a file has no column `{name}`")))
        };
        let other_type = |name: &'static str| {
            move || LakeError::unusable(NAME, format!("a file's column `{name}` is of another type"))
        };
        Ok(Self {
            topics: column("topic")?.as_string_opt().ok_or_else(other_type("topic"))?,
            partitions: column("partition")?
                .as_primitive_opt()
                .ok_or_else(other_type("partition"))?,
            offsets: column("offset")?.as_primitive_opt().ok_or_else(other_type("offset"))?,
            elements: match batch.column_by_name("element") {
                Some(column) => Some(column.as_primitive_opt().ok_or_else(other_type("element"))?),
                None => None,
            },
        })
    }

    fn is_of(&self, row: usize, topic_partition: &TopicPartition) -> bool {
        self.topics.value(row) == &*topic_partition.topic && self.partitions.value(row) == topic_partition.partition
    }

    fn offset_and_element(&self, row: usize) -> (i64, Option<u32>) {
        let element = self.elements.filter(|elements| elements.is_valid(row));
        (
            self.offsets.value(row),
            element.map(|elements| elements.value(row) as u32),
        )
    }

    fn record_id(&self, row: usize) -> RecordId {
        let (offset, element) = self.offset_and_element(row);
        let topic_partition = TopicPartition::new(self.topics.value(row), self.partitions.value(row));
        RecordId::new(topic_partition, offset, element)
    }
}

/// The batch with every column of the table as declared: those that its file lacks are null.
fn complete(batch: &RecordBatch, path: &str) -> Result<RecordBatch, LakeError> {
    let schema = schema();
    check_undeclared(NAME, batch, &schema, path)?;
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => as_type(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns: Result<Vec<ArrayRef>, ArrowError> = schema.fields().iter().map(column).collect();
    columns
        .and_then(|columns| RecordBatch::try_new(Arc::clone(&schema), columns))
        .map_err(|error| LakeError::unusable(NAME, format!("{path} has other columns: {error}")))
}

/// The types differ in what is noted about nested fields: the table's have ids.
fn as_type(column: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match column.data_type() == data_type {
        true => Ok(Arc::clone(column)),
        false => cast(column, data_type),
    }
}

/// Whether a file with these statistics may hold dead letters of the partition with offsets from `from` to `to`.
fn may_hold(stats: &Value, topic_partition: &TopicPartition, from: i64, to: i64) -> bool {
    let (min, max) = (&stats["minValues"], &stats["maxValues"]);
    let topic = &*topic_partition.topic;
    let partition = i64::from(topic_partition.partition);
    let below = min["topic"].as_str().is_some_and(|least| topic < least)
        || min["partition"].as_i64().is_some_and(|least| partition < least)
        || min["offset"].as_i64().is_some_and(|least| to < least);
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
        (
            "element",
            DataType::Int32,
            true,
            "Position of the bad element in its message; null when the whole message is bad.",
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
    let mut element = Int32Builder::new();
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
        // Positions are bounded far below.
        element.append_option(letter.element.map(|element| element as i32));
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
        Arc::new(element.finish()),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|error| LakeError::parquet(NAME, "encode", error))
}
