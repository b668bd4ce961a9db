//! Dead letters decoded again: those that are good by the present declaration become rows, exactly once.
//!
//! Rows and dead letters are two tables. A replay first commits the rows, then removes the dead letters; when it ends in
//! between, the next one finds that these have rows, and only removes them. Of two replays at the same time the second
//! to commit is sent back to look again. A dead letter holds its whole message: that of an element becomes the row of
//! that element alone, that of a whole message the rows of all its elements, once all of them are good.
//! `docs/design/ingest.md` says more.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use codec::Decoder;
use lake::{DeadLetters, Lake, LakeError, ReplayedMessage, StagedFiles, Table};
use metrics::counter;
use model::{Chunk, ChunkBuilder, ELEMENT, OFFSET, PARTITION, RecordId, Stream, TOPIC, TopicPartition};

/// What a query of the dead letters must select for [`Letter::read`], in this order.
pub const LETTER_COLUMNS: &str = r#"arrow_cast(topic, 'Utf8') as topic, arrow_cast("partition", 'Int32') as "partition",
arrow_cast("offset", 'Int64') as "offset", arrow_cast(element, 'Int32') as element,
arrow_cast(arrow_cast(kafka_timestamp, 'Timestamp(Microsecond, None)'), 'Int64') as kafka_timestamp,
arrow_cast("key", 'Binary') as "key", arrow_cast("value", 'Binary') as "value",
arrow_cast(stage, 'Utf8') as stage, arrow_cast(error_class, 'Utf8') as error_class,
arrow_cast(error, 'Utf8') as error, arrow_cast(field, 'Utf8') as field"#;

/// Other replays may be faster, each by one pass.
const TRIES_MAX: u32 = 20;

/// A dead letter as the lake holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Which record, or element of one, is bad.
    pub id: RecordId,
    /// Microseconds since the epoch.
    pub kafka_timestamp_us: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// The whole message's.
    pub value: Option<Vec<u8>>,
    pub stage: String,
    pub error_class: String,
    pub error: String,
    pub field: Option<String>,
}

impl Letter {
    /// The dead letters of a batch with [`LETTER_COLUMNS`]; `None` when it has others.
    pub fn read(batch: &RecordBatch) -> Option<Vec<Letter>> {
        let text = |column: usize| batch.columns().get(column)?.as_string_opt::<i32>();
        let integer = |column: usize| batch.columns().get(column)?.as_primitive_opt::<Int32Type>();
        let long = |column: usize| batch.columns().get(column)?.as_primitive_opt::<Int64Type>();
        let bytes = |column: usize| batch.columns().get(column)?.as_binary_opt::<i32>();
        let (topics, partitions, offsets, elements) = (text(0)?, integer(1)?, long(2)?, integer(3)?);
        let (timestamps, keys, values) = (long(4)?, bytes(5)?, bytes(6)?);
        let (stages, classes, errors, fields) = (text(7)?, text(8)?, text(9)?, text(10)?);
        let letter = |row: usize| Letter {
            id: RecordId::new(
                TopicPartition::new(topics.value(row), partitions.value(row)),
                offsets.value(row),
                elements.is_valid(row).then(|| elements.value(row) as u32),
            ),
            kafka_timestamp_us: timestamps.is_valid(row).then(|| timestamps.value(row)),
            key: keys.is_valid(row).then(|| keys.value(row).to_owned()),
            value: values.is_valid(row).then(|| values.value(row).to_owned()),
            stage: stages.value(row).to_owned(),
            error_class: classes.value(row).to_owned(),
            error: errors.value(row).to_owned(),
            field: fields.is_valid(row).then(|| fields.value(row).to_owned()),
        };
        Some((0..batch.num_rows()).map(letter).collect())
    }

    /// Of its key and value.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// What became of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Rows that were made of them; several of one message with elements.
    pub rows: u64,
    /// Had their rows already, of a replay that did not come to its end.
    pub finished: u64,
    /// Still bad.
    pub bad: u64,
    /// Not below the offset up to which rows are committed; ingest comes to them.
    pub ahead: u64,
}

impl Replayed {
    pub fn add(&mut self, other: Replayed) {
        self.rows += other.rows;
        self.finished += other.finished;
        self.bad += other.bad;
        self.ahead += other.ahead;
    }
}

/// What a replay would make of dead letters of one stream, without a lake to write to.
pub fn preview(stream: &Stream, letters: &[Letter]) -> Replayed {
    let letters = by_id(letters.iter());
    let decoded = decode(&mut Decoder::new(stream), &letters, stream.elements.is_some(), 0);
    Replayed {
        rows: decoded.rows.len() as u64,
        bad: (letters.len() - decoded.good.len()) as u64,
        ..Replayed::default()
    }
}

/// Replays dead letters of one stream.
pub struct Replay {
    table: Table,
    dead_letters: DeadLetters,
    decoder: Decoder,
    has_elements: bool,
}

impl Replay {
    /// `application` is the one that wrote the dead letters.
    pub async fn open(lake: &Lake, stream: &Stream, application: &str) -> Result<Self, LakeError> {
        Ok(Self {
            table: lake.table(stream, application).await?,
            dead_letters: lake.dead_letters([stream], application).await?,
            decoder: Decoder::new(stream),
            has_elements: stream.elements.is_some(),
        })
    }

    /// Makes rows of those of these dead letters that are good now. All are this stream's. `now_us` is the present time.
    ///
    /// After a retryable error the same dead letters may be replayed again.
    pub async fn land(&mut self, letters: &[Letter], now_us: i64) -> Result<Replayed, LakeError> {
        let letters = by_id(letters.iter());
        // Before any row is written: its dead letter must be removed afterwards.
        self.dead_letters.refresh().await?;
        self.dead_letters.check_rewritable()?;
        for _ in 0..TRIES_MAX {
            self.table.refresh().await?;
            let read_version = self.table.version();
            let is_ready = |id: &RecordId| {
                let recorded = self.table.recorded(&id.topic_partition);
                recorded.is_some_and(|recorded| id.offset < recorded)
            };
            let ready = by_id(letters.values().copied().filter(|letter| is_ready(&letter.id)));
            let decoded = decode(&mut self.decoder, &ready, self.has_elements, now_us);
            let present = self.table.present(&decoded.rows).await?;
            let rows = (decoded.rows.len() - present.len()) as u64;
            let messages = decoded.messages(&present);
            if rows > 0 || !messages.is_empty() {
                let staged = self.stage(&decoded, &present).await?;
                let committed = self.table.commit_replayed(&staged, read_version, &messages).await?;
                if committed.is_none() {
                    continue;
                }
            }
            // With a message those of its elements as well: they have their rows now.
            let gone: BTreeSet<RecordId> = decoded.good.keys().chain(&decoded.rows).cloned().collect();
            if !gone.is_empty() {
                self.dead_letters.remove(&gone).await?;
            }
            counter!("smartcity_replayed_letters_total", "stream" => self.table.name().to_owned()).increment(rows);
            let finished = decoded.good.values().filter(|rows| is_finished(rows, &present));
            return Ok(Replayed {
                rows,
                finished: finished.count() as u64,
                bad: (ready.len() - decoded.good.len()) as u64,
                ahead: (letters.len() - ready.len()) as u64,
            });
        }
        Err(LakeError::Unsettled {
            table: self.table.name().to_owned(),
            tries: TRIES_MAX,
            source: None,
        })
    }

    /// Stores the rows that are not there yet.
    async fn stage(&self, decoded: &Decoded, present: &BTreeSet<RecordId>) -> Result<StagedFiles, LakeError> {
        let mut writer = self.table.file_writer();
        for batch in &decoded.batches {
            let is_new: BooleanArray = ids(batch)
                .map(|id| Some(decoded.rows.contains(&id) && !present.contains(&id)))
                .collect();
            let new = filter_record_batch(batch, &is_new)
                .map_err(|error| LakeError::unusable(self.table.name(), error.to_string()))?;
            if new.num_rows() > 0 {
                writer.write(&new)?;
            }
        }
        if writer.is_empty() {
            return Ok(StagedFiles::default());
        }
        self.table.upload(writer.finish()?).await
    }
}

/// What dead letters are by the present declaration.
#[derive(Default)]
struct Decoded {
    /// Rows of their messages, wanted or not.
    batches: Vec<RecordBatch>,
    /// The dead letters that are good now, with the rows that each makes.
    good: BTreeMap<RecordId, Vec<RecordId>>,
    /// All rows that are wanted.
    rows: BTreeSet<RecordId>,
    has_elements: bool,
}

impl Decoded {
    /// The dead letters of whole messages that become the rows of their elements now.
    fn messages(&self, present: &BTreeSet<RecordId>) -> Vec<ReplayedMessage> {
        let is_whole = |(id, rows): &(&RecordId, &Vec<RecordId>)| {
            self.has_elements && id.element.is_none() && !is_finished(rows, present)
        };
        let whole = self.good.iter().filter(is_whole);
        whole
            .map(|(id, rows)| ReplayedMessage {
                topic_partition: id.topic_partition.clone(),
                offset: id.offset,
                elements: rows.len() as u64,
            })
            .collect()
    }
}

/// Whether a former replay committed the rows of a dead letter.
fn is_finished(rows: &[RecordId], present: &BTreeSet<RecordId>) -> bool {
    !rows.is_empty() && rows.iter().all(|row| present.contains(row))
}

/// Each once, in Kafka's order.
fn by_id<'a>(letters: impl Iterator<Item = &'a Letter>) -> BTreeMap<&'a RecordId, &'a Letter> {
    letters.map(|letter| (&letter.id, letter)).collect()
}

/// Decodes the messages of dead letters, each once, and says which of them are good.
fn decode(decoder: &mut Decoder, letters: &BTreeMap<&RecordId, &Letter>, has_elements: bool, now_us: i64) -> Decoded {
    let mut decoded = Decoded {
        has_elements,
        ..Decoded::default()
    };
    let (none, mut bad) = (BTreeSet::new(), Vec::new());
    decoder.take();
    for chunk in chunks(letters) {
        let mut done = 0;
        while done < chunk.len() {
            done += decoder.decode_from(done, &chunk, &none, now_us, &mut bad).records;
            decoded.batches.extend(decoder.take());
        }
    }
    // The rows of each message, and the messages with something bad in them.
    let mut rows: BTreeMap<RecordId, Vec<RecordId>> = BTreeMap::new();
    for id in decoded.batches.iter().flat_map(ids) {
        rows.entry(message(&id)).or_default().push(id);
    }
    let with_bad: BTreeSet<RecordId> = bad.iter().map(|letter| message(&letter.id())).collect();
    for id in letters.keys() {
        let of_message = rows.get(&message(id)).map_or(&[][..], Vec::as_slice);
        let made = match (has_elements, id.element) {
            (true, None) if with_bad.contains(*id) => continue,
            (true, None) => of_message.to_vec(),
            // One that the message does not hold any more is as bad as before.
            _ if of_message.contains(id) => vec![(*id).clone()],
            _ => continue,
        };
        decoded.rows.extend(made.iter().cloned());
        decoded.good.insert((*id).clone(), made);
    }
    decoded
}

/// The id of the whole message.
fn message(id: &RecordId) -> RecordId {
    RecordId {
        element: None,
        ..id.clone()
    }
}

/// The messages of dead letters, those of one partition in one chunk.
fn chunks(letters: &BTreeMap<&RecordId, &Letter>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut open: Option<(ChunkBuilder, &RecordId)> = None;
    for (id, letter) in letters {
        let mut chunk = match open.take() {
            // Another element of the same message.
            Some((chunk, last)) if last.topic_partition == id.topic_partition && last.offset == id.offset => {
                open = Some((chunk, last));
                continue;
            }
            Some((chunk, last)) if last.topic_partition == id.topic_partition => chunk,
            other => {
                chunks.extend(other.map(|(chunk, last)| chunk.finish(last.offset + 1)));
                ChunkBuilder::new(id.topic_partition.clone(), id.offset)
            }
        };
        // Kafka's value for a record without a timestamp.
        let timestamp_ms = letter.kafka_timestamp_us.map_or(-1, |us| us.div_euclid(1_000));
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        chunk.push(id.offset, timestamp_ms, key, value, []);
        open = Some((chunk, id));
    }
    chunks.extend(open.map(|(chunk, last)| chunk.finish(last.offset + 1)));
    chunks
}

/// The ids of a decoder's rows.
fn ids(batch: &RecordBatch) -> impl Iterator<Item = RecordId> + '_ {
    let topics = batch[TOPIC].as_string::<i32>();
    let partitions = batch[PARTITION].as_primitive::<Int32Type>();
    let offsets = batch[OFFSET].as_primitive::<Int64Type>();
    let elements = batch[ELEMENT].as_primitive::<Int32Type>();
    let mut last: Option<TopicPartition> = None;
    (0..batch.num_rows()).map(move |row| {
        let (topic, partition) = (topics.value(row), partitions.value(row));
        let known = last
            .take()
            .filter(|last| *last.topic == *topic && last.partition == partition);
        let topic_partition = known.unwrap_or_else(|| TopicPartition::new(topic, partition));
        last = Some(topic_partition.clone());
        let element = elements.is_valid(row).then(|| elements.value(row) as u32);
        RecordId::new(topic_partition, offsets.value(row), element)
    })
}
