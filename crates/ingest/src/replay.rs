//! Dead letters judged anew: those that are good by the present declaration become rows, exactly once.
//!
//! Rows and letters are two tables. A replay first commits the rows, then takes the letters out; when it ends in between,
//! the next one finds that these letters have rows, and only takes them out. Of two replays at the same time the second
//! to commit is sent back to look again. `docs/design/ingest.md` says more.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use codec::Decoder;
use lake::{DeadLetters, Lake, LakeError, StagedFiles, Table};
use metrics::counter;
use model::{ChunkBuilder, DeadLetter, Stream, TopicPartition};

/// What a query of the dead letters must select for [`Letter::read`], in this order.
pub const LETTER_COLUMNS: &str = r#"arrow_cast(topic, 'Utf8') as topic, arrow_cast("partition", 'Int32') as "partition",
arrow_cast("offset", 'Int64') as "offset",
arrow_cast(arrow_cast(kafka_timestamp, 'Timestamp(Microsecond, None)'), 'Int64') as kafka_timestamp,
arrow_cast("key", 'Binary') as "key", arrow_cast("value", 'Binary') as "value",
arrow_cast(stage, 'Utf8') as stage, arrow_cast(error_class, 'Utf8') as error_class,
arrow_cast(error, 'Utf8') as error, arrow_cast(field, 'Utf8') as field"#;

/// Other replays may be faster, each by one pass.
const TRIES_MAX: u32 = 20;

/// A dead letter as the lake holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub topic_partition: TopicPartition,
    pub offset: i64,
    /// Microseconds since the epoch.
    pub kafka_timestamp_us: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub stage: String,
    pub error_class: String,
    pub error: String,
    pub field: Option<String>,
}

impl Letter {
    /// The letters of a batch with [`LETTER_COLUMNS`]; `None` when it has others.
    pub fn read(batch: &RecordBatch) -> Option<Vec<Letter>> {
        let text = |column: usize| batch.columns().get(column)?.as_string_opt::<i32>();
        let long = |column: usize| batch.columns().get(column)?.as_primitive_opt::<Int64Type>();
        let bytes = |column: usize| batch.columns().get(column)?.as_binary_opt::<i32>();
        let (topics, partitions, offsets) = (
            text(0)?,
            batch.columns().get(1)?.as_primitive_opt::<Int32Type>()?,
            long(2)?,
        );
        let (timestamps, keys, values) = (long(3)?, bytes(4)?, bytes(5)?);
        let (stages, classes, errors, fields) = (text(6)?, text(7)?, text(8)?, text(9)?);
        let letter = |row: usize| Letter {
            topic_partition: TopicPartition::new(topics.value(row), partitions.value(row)),
            offset: offsets.value(row),
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

/// What became of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Now rows.
    pub rows: u64,
    /// Were rows already, of a replay that did not come to its end.
    pub finished: u64,
    /// Still bad.
    pub bad: u64,
    /// Not past the offset that the rows have landed to; their turn comes.
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

/// How letters of one stream would be judged now, without a lake to write to.
pub fn judge(stream: &Stream, letters: &[Letter]) -> Replayed {
    let (mut decoder, letters) = (Decoder::new(stream), by_place(letters));
    let bad = decode(&mut decoder, letters.values().copied(), 0);
    Replayed {
        rows: letters.len() as u64 - bad.len() as u64,
        bad: bad.len() as u64,
        ..Replayed::default()
    }
}

/// Replays letters of one stream.
pub struct Replay {
    table: Table,
    dead_letters: DeadLetters,
    decoder: Decoder,
}

impl Replay {
    /// `application` is the one that landed the letters.
    pub async fn open(lake: &Lake, stream: &Stream, application: &str) -> Result<Self, LakeError> {
        Ok(Self {
            table: lake.table(stream, application).await?,
            dead_letters: lake.dead_letters([stream], application).await?,
            decoder: Decoder::new(stream),
        })
    }

    /// Lands what is good of these letters, which are all of this stream's topic. `now_us` is the present time.
    ///
    /// After a retryable error the same letters may be replayed again.
    pub async fn land(&mut self, letters: &[Letter], now_us: i64) -> Result<Replayed, LakeError> {
        let letters = by_place(letters);
        for _ in 0..TRIES_MAX {
            self.table.refresh().await?;
            let read_version = self.table.version();
            let (mut replayed, mut ready) = (Replayed::default(), BTreeMap::new());
            for ((topic_partition, offset), letter) in &letters {
                match self.table.recorded(topic_partition) {
                    Some(recorded) if *offset < recorded => {
                        ready.insert((topic_partition.partition, *offset), *letter);
                    }
                    _ => replayed.ahead += 1,
                }
            }
            let present = self.table.present(&ready.keys().copied().collect()).await?;
            replayed.finished = present.len() as u64;
            let absent: Vec<&Letter> = ready
                .iter()
                .filter(|(place, _)| !present.contains(place))
                .map(|(_, letter)| *letter)
                .collect();
            let bad = decode(&mut self.decoder, absent.iter().copied(), now_us);
            let rows: Vec<&Letter> = absent
                .into_iter()
                .filter(|letter| !bad.contains(&(letter.topic_partition.partition, letter.offset)))
                .collect();
            replayed.bad = bad.len() as u64;
            replayed.rows = rows.len() as u64;
            let staged = self.stage().await?;
            if replayed.rows > 0 && self.table.commit_replayed(&staged, read_version).await?.is_none() {
                continue;
            }
            let finished = present.iter().map(|place| ready[place]);
            let gone = rows.into_iter().chain(finished);
            let gone: BTreeSet<_> = gone
                .map(|letter| (letter.topic_partition.clone(), letter.offset))
                .collect();
            if !gone.is_empty() {
                self.dead_letters.remove(&gone).await?;
            }
            counter!("smartcity_replayed_letters_total", "stream" => self.table.name().to_owned())
                .increment(replayed.rows);
            return Ok(replayed);
        }
        Err(LakeError::Unsettled {
            table: self.table.name().to_owned(),
            tries: TRIES_MAX,
            source: None,
        })
    }

    /// Stores the rows that were decoded last.
    async fn stage(&mut self) -> Result<StagedFiles, LakeError> {
        let Some(rows) = self.decoder.take() else {
            return Ok(StagedFiles::default());
        };
        let mut writer = self.table.file_writer();
        writer.write(&rows)?;
        self.table.upload(writer.finish()?).await
    }
}

/// Each place once, in Kafka's order.
fn by_place(letters: &[Letter]) -> BTreeMap<(TopicPartition, i64), &Letter> {
    let place = |letter: &Letter| (letter.topic_partition.clone(), letter.offset);
    letters.iter().map(|letter| (place(letter), letter)).collect()
}

/// Decodes letters in the order of their partitions and offsets; the places of those that are bad.
fn decode<'a>(decoder: &mut Decoder, letters: impl Iterator<Item = &'a Letter>, now_us: i64) -> BTreeSet<(i32, i64)> {
    decoder.take();
    let mut bad: Vec<DeadLetter> = Vec::new();
    let mut letters = letters.peekable();
    while let Some(first) = letters.next() {
        let place = &first.topic_partition;
        let mut chunk = ChunkBuilder::new(place.clone(), first.offset);
        let mut last = first;
        push(&mut chunk, first);
        while let Some(letter) = letters.next_if(|letter| letter.topic_partition == *place) {
            push(&mut chunk, letter);
            last = letter;
        }
        decoder.decode(&chunk.finish(last.offset + 1), &BTreeSet::new(), now_us, &mut bad);
    }
    bad.iter()
        .map(|letter| (letter.topic_partition.partition, letter.offset))
        .collect()
}

fn push(chunk: &mut ChunkBuilder, letter: &Letter) {
    // Kafka's word for a record without a timestamp.
    let timestamp_ms = letter.kafka_timestamp_us.map_or(-1, |us| us.div_euclid(1_000));
    chunk.push(
        letter.offset,
        timestamp_ms,
        letter.key.as_deref(),
        letter.value.as_deref(),
        [],
    );
}
