//! One ingest process: what `reader`, `worker` and `committer` do in their threads, one step after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use kafka::{KafkaError, TopicIds};
use lake::{CommitOutcome, DeadLetters, Lake, LakeError, Names, Pause, Table};
use model::{ManualClock, OffsetElement, TopicPartition};
use parquet::basic::Compression;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::store::{SimStore, steps_pass};
use super::world::{TOPIC, World};
use super::{Planted, check};
use crate::IngestError;
use crate::assignment::{self, Start};
use crate::batch::Batch;
use crate::committer::{Committer, Joined, Landed};
use crate::config::StartingOffsets;
use crate::handoff::{LetterOffset, LetterOffsets, SharedBinding};
use crate::progress::Progress;
use crate::replay::Replay;
use crate::worker::StreamWorker;

pub(super) const APPLICATION: &str = "simulated";

pub(super) struct Process {
    number: usize,
    world: Arc<World>,
    lake: Lake,
    rng: Rng,
}

/// The topic is never another one here.
struct NoIds;

impl TopicIds for NoIds {
    fn topic_id(&self, _: &str, _: Duration) -> Result<Option<String>, KafkaError> {
        Ok(None)
    }
}

/// What is read of a partition.
struct Partition {
    position: i64,
    end: i64,
    dead_lettered: BTreeSet<OffsetElement>,
}

impl Process {
    pub(super) fn new(number: usize, world: Arc<World>, store: Arc<SimStore>, mut rng: Rng, names: u64) -> Self {
        let chances = std::sync::Mutex::new(rng.fork());
        let pause = Pause::new(move |_| {
            let steps = chances.lock().unwrap().u64(0..6);
            Box::pin(steps_pass(steps))
        });
        let url = Url::parse("memory:///lake/").unwrap();
        let lake = Lake::with_store(store, url, Arc::new(ManualClock::new(0)), Names::seeded(names))
            .with_pause(pause)
            // Making zstd's contexts would take half of the time.
            .with_compression(Compression::UNCOMPRESSED);
        Self {
            number,
            world,
            lake,
            rng,
        }
    }

    /// Until everything has landed, or something will never work.
    pub(super) async fn live(mut self) -> Result<(), String> {
        let streams = self.world.streams();
        let stream = streams.get(TOPIC).unwrap();
        let table = retry(async || self.lake.table(stream, APPLICATION).await).await?;
        let dead_letters = retry(async || self.lake.dead_letters(&streams, APPLICATION).await).await?;
        let letter_offsets = LetterOffsets::default();
        let (control, _control) = channel();
        let committer = Committer {
            stream: 0,
            name: stream.name.as_str().into(),
            topic: TOPIC.to_owned(),
            binding: SharedBinding::default(),
            topic_ids: Arc::new(NoIds),
            outlives_topic: false,
            table: table.clone(),
            dead_letters: dead_letters.clone(),
            letter_offsets: Arc::clone(&letter_offsets),
            dlq_topic: None,
            progress: Arc::new(Progress::new(
                APPLICATION,
                "run",
                &streams,
                Arc::new(ManualClock::new(0)),
            )),
            control,
            lake: self.lake.clone(),
            abort: CancellationToken::new(),
        };
        let mut worker = StreamWorker::new(stream, table.clone());
        let mut epoch = 0;
        loop {
            let generation = self.world.generation();
            let owned = self.world.owned_by(self.number);
            epoch += 1;
            let mut partitions = self
                .assign(epoch, &owned, &table, &dead_letters, &letter_offsets)
                .await?;
            // A process does not hear of an assignment at once.
            if !partitions.is_empty() {
                self.world.begins_to_read();
            }
            let deaf_for = [0, 10, 50, 500][self.rng.usize(0..4)];
            let mut since_moved = 0;
            loop {
                if self.world.all_landed() {
                    return Ok(());
                }
                if self.world.generation() != generation {
                    since_moved += 1;
                    if since_moved > deaf_for {
                        // What is open lands first, unless that takes too long.
                        if self.rng.bool()
                            && let Some(batch) = worker.close().map_err(|_| "a batch could not be closed")?
                        {
                            self.land(&committer, batch).await.map_err(|error| error.to_string())?;
                        }
                        break;
                    }
                }
                for (topic_partition, partition) in &mut partitions {
                    partition.end = self.world.offsets(topic_partition).high;
                }
                let unread: Vec<_> = partitions
                    .iter_mut()
                    .filter(|(_, partition)| partition.position < partition.end)
                    .collect();
                let is_idle = unread.is_empty();
                if !is_idle {
                    let at = self.rng.usize(0..unread.len());
                    let (topic_partition, partition) = unread.into_iter().nth(at).unwrap();
                    let to = partition.end.min(partition.position + self.rng.i64(1..6));
                    let chunk = self.world.chunk(topic_partition, partition.position, to);
                    worker
                        .take(epoch, &chunk, &partition.dead_lettered, 0)
                        .map_err(|_| "a chunk could not be encoded")?;
                    partition.position = to;
                    self.world.report_group_offset(topic_partition, to);
                    if self.rng.u32(0..3) > 0 {
                        steps_pass(1).await;
                        continue;
                    }
                }
                let batch = worker.close().map_err(|_| "a batch could not be closed")?;
                let landed = match batch {
                    Some(batch) => self.land(&committer, batch).await.map_err(|error| error.to_string())?,
                    None => Landed::Yes,
                };
                if landed == Landed::Fenced {
                    self.world.count_fenced();
                    break;
                }
                if is_idle {
                    for (topic_partition, partition) in &partitions {
                        let recorded = table.recorded(topic_partition).unwrap_or(partition.position);
                        if self.world.is_end(topic_partition, recorded) {
                            self.world.has_landed(topic_partition);
                        }
                    }
                    steps_pass(3).await;
                }
            }
        }
    }

    /// Replays dead letters now and then, once more when everything has landed.
    pub(super) async fn replay(mut self) -> Result<(), String> {
        loop {
            steps_pass(self.rng.u64(50..1_000)).await;
            let is_last = self.world.all_landed();
            let letters = check::letters(&self.world)?;
            let letters: Vec<_> = letters.into_iter().map(|at| self.world.letter(at)).collect();
            // What it knows may be old by the time it comes to use it.
            steps_pass(self.rng.u64(0..50)).await;
            let streams = self.world.streams();
            let stream = streams.get(TOPIC).unwrap();
            let mut replay = retry(async || Replay::open(&self.lake, stream, APPLICATION).await).await?;
            let replayed = retry(async || replay.land(&letters, 0).await).await?;
            self.world.count_replayed(replayed.rows);
            if is_last {
                return Ok(());
            }
        }
    }

    async fn assign(
        &mut self,
        epoch: u64,
        owned: &[TopicPartition],
        table: &Table,
        dead_letters: &DeadLetters,
        letter_offsets: &LetterOffsets,
    ) -> Result<BTreeMap<TopicPartition, Partition>, String> {
        retry(async || table.refresh().await).await?;
        retry(async || dead_letters.refresh().await).await?;
        let numbers = || owned.iter().map(|topic_partition| topic_partition.partition);
        if !owned.is_empty() && !table.has_starts(TOPIC, numbers()) && self.world.planted != Some(Planted::NoStarts) {
            let count = self.world.partition_count();
            let logs = (0..count).map(|number| (number, self.world.offsets(&TopicPartition::new(TOPIC, number))));
            let logs = logs.collect();
            let policy = self.world.starting_offsets;
            retry(async || assignment::record_starts(table, TOPIC, &logs, policy).await).await?;
        }
        let mut partitions = BTreeMap::new();
        for topic_partition in owned {
            let offsets = self.world.offsets(topic_partition);
            let Start {
                mut position,
                dead_lettered,
                letters,
            } = retry(async || {
                let start = assignment::start(table, dead_letters, topic_partition, offsets).await;
                match start {
                    Err(IngestError::NoStart { .. }) if self.world.planted == Some(Planted::NoStarts) => {
                        let position = match self.world.starting_offsets {
                            StartingOffsets::Earliest => offsets.low,
                            StartingOffsets::Latest => offsets.high,
                        };
                        Ok(Start {
                            position,
                            dead_lettered: dead_letters.offsets_from(topic_partition, position).await?,
                            letters: dead_letters.mark(topic_partition),
                        })
                    }
                    Err(IngestError::Lake { source, .. }) => Err(source),
                    Err(error) => panic!("{error}"),
                    Ok(start) => Ok(start),
                }
            })
            .await?;
            if self.world.planted == Some(Planted::SeekToGroup) {
                position = self.world.group_offset(topic_partition);
            }
            let known = LetterOffset { epoch, mark: letters };
            letter_offsets
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(topic_partition.clone(), known);
            let partition = Partition {
                position,
                end: offsets.high,
                dead_lettered,
            };
            partitions.insert(topic_partition.clone(), partition);
        }
        Ok(partitions)
    }

    async fn land(&self, committer: &Committer, batch: Batch) -> Result<Landed, IngestError> {
        if self.world.planted != Some(Planted::LettersAfterRows) {
            return committer.land(vec![batch]).await;
        }
        let batch = Joined::new(vec![batch]);
        let staged = committer.upload(batch.files).await?;
        let rows = committer.commit_rows(&staged, &batch.spans, &batch.figures);
        if matches!(rows.await?, CommitOutcome::Fenced { .. }) {
            return Ok(Landed::Fenced);
        }
        committer
            .commit_letters(batch.epoch, &batch.dead_letters, &batch.spans)
            .await
    }
}

/// Until it works or never will.
async fn retry<T>(mut attempt: impl AsyncFnMut() -> Result<T, LakeError>) -> Result<T, String> {
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if error.is_retryable() => steps_pass(2).await,
            Err(error) => return Err(error.to_string()),
        }
    }
}
