//! The loop that owns the Kafka source: answers assignments with the table's offsets, hands chunks to the workers, holds
//! back when they are busy.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kafka::{Event, KafkaError, PartitionOffsets, Source};
use lake::{DeadLetters, Lake, LakeError, Table};
use metrics::{counter, gauge};
use model::{Chunk, OffsetElement, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::IngestError;
use crate::assignment::{self, Start};
use crate::config::{StartingOffsets, Until};
use crate::handoff::{Commit, Control, LetterOffset, LetterOffsets, Work};
use crate::progress::Progress;
use crate::tolerance::Excess;

/// How long one poll may wait for records.
const POLL: Duration = Duration::from_millis(50);
/// How long partitions that move to another process are held for their last batch to land; after that their new owner
/// reads it again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks whether the topics are still the same, and how long one may take.
const TOPIC_CHECK_INTERVAL: Duration = Duration::from_secs(5);
const TOPIC_CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// The same, where partitions cannot be read before it is known.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Reader {
    pub(crate) source: Box<dyn Source>,
    pub(crate) streams: Vec<ReaderStream>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) letter_offsets: LetterOffsets,
    pub(crate) workers: Vec<SyncSender<Work>>,
    pub(crate) control: Receiver<Control>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
    pub(crate) starting_offsets: StartingOffsets,
    pub(crate) fail_on_data_loss: bool,
    pub(crate) lake: Lake,
    pub(crate) application: String,
    pub(crate) until: Until,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
}

pub(crate) struct ReaderStream {
    pub(crate) name: String,
    pub(crate) topic: String,
    pub(crate) table: Table,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) epoch: u64,
    /// Kafka's id of the topic, where it gives one: the table's rows come from no other.
    pub(crate) topic_id: Option<String>,
    /// Why nothing of it is read any more.
    pub(crate) stopped: Option<Excess>,
}

/// What the reader knows of a partition that is its own.
struct Partition {
    stream: usize,
    /// The next offset to hand to a worker.
    position: i64,
    /// Where `until caught up` ends.
    end: i64,
    dead_lettered: Arc<BTreeSet<OffsetElement>>,
    /// What the group's monitors were told last.
    reported: Option<i64>,
}

impl Reader {
    /// Reads until told to stop or caught up. Dropping the workers' senders on return makes them close and land what
    /// they hold.
    pub(crate) fn run(mut self) -> Result<(), IngestError> {
        let mut partitions: HashMap<TopicPartition, Partition> = HashMap::new();
        let mut waiting: VecDeque<Chunk> = VecDeque::new();
        let mut was_assigned = false;
        let (mut told, mut topics_checked) = (Instant::now(), Instant::now());
        while !self.stop.is_cancelled() && !self.abort.is_cancelled() {
            let records = waiting.is_empty();
            let timeout = if records { POLL } else { Duration::from_millis(5) };
            let events = match self.source.poll(timeout, records) {
                Ok(events) => events,
                // Retention was faster than we are. Where to go on, or why not, is what an assignment tells.
                Err(KafkaError::OffsetOutOfRange { topic_partition }) => {
                    if let Some(stream) = partitions.get(&topic_partition).map(|partition| partition.stream) {
                        self.rewind(stream, self.streams[stream].epoch + 1, &mut partitions, &mut waiting)?;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in events {
                match event {
                    Event::Chunk(chunk) => waiting.push_back(chunk),
                    Event::Assigned(assigned) => {
                        was_assigned = true;
                        self.assign(&assigned, &mut partitions)?;
                    }
                    Event::Revoked(revoked) => {
                        // Only chunks of partitions that stay may still be handed out.
                        waiting.retain(|chunk| !revoked.contains(chunk.topic_partition()));
                        self.revoke(&revoked, &mut partitions, &mut waiting)?;
                    }
                }
            }
            while let Ok(control) = self.control.try_recv() {
                match control {
                    // What fenced may be of an epoch that is over already.
                    Control::Rewind { stream, epoch } if epoch > self.streams[stream].epoch => {
                        self.rewind(stream, epoch, &mut partitions, &mut waiting)?;
                    }
                    Control::Rewind { .. } => {}
                    Control::Stop { stream, excess } => {
                        self.stop_stream(stream, excess, &mut partitions, &mut waiting)?;
                    }
                }
            }
            if self.streams.iter().all(|stream| stream.stopped.is_some()) {
                break;
            }
            self.dispatch(&mut waiting, &mut partitions);
            if told.elapsed() >= Duration::from_millis(500) {
                told = Instant::now();
                self.tell(&mut partitions, &waiting);
            }
            if topics_checked.elapsed() >= TOPIC_CHECK_INTERVAL {
                topics_checked = Instant::now();
                self.check_topics()?;
            }
            let caught_up = partitions.values().all(|partition| partition.position >= partition.end);
            if self.until == Until::CaughtUp && was_assigned && caught_up && waiting.is_empty() {
                self.drain();
                // A batch that another writer fenced is read again before this is the end.
                if self.has_landed(&partitions) || self.abort.is_cancelled() {
                    break;
                }
            }
        }
        if self.abort.is_cancelled() {
            return Ok(());
        }
        // The last batches land before the group is left, so that a successor finds nothing to read again.
        self.drain();
        self.report_positions(&mut partitions);
        let stopped = self.streams.into_iter().find_map(|state| {
            let excess = state.stopped?;
            Some(IngestError::TooManyErrors {
                stream: state.name,
                excess,
            })
        });
        stopped.map_or(Ok(()), Err)
    }

    /// Reads no more of a stream; the others go on.
    fn stop_stream(
        &mut self,
        stream: usize,
        excess: Excess,
        partitions: &mut HashMap<TopicPartition, Partition>,
        waiting: &mut VecDeque<Chunk>,
    ) -> Result<(), IngestError> {
        let state = &mut self.streams[stream];
        // Each worker may say so.
        if state.stopped.is_some() {
            return Ok(());
        }
        state.stopped = Some(excess);
        error!(stream = %state.name, "stopped: {excess}; the next run reads on from what has landed");
        self.progress.stopped(stream, excess);
        waiting.retain(|chunk| *chunk.topic_partition().topic != *state.topic);
        let own: Vec<_> = partitions
            .extract_if(|_, partition| partition.stream == stream)
            .map(|(topic_partition, _)| topic_partition)
            .collect();
        Ok(self.source.pause(&own)?)
    }

    /// Sends chunks on, in order, until one meets a full queue.
    fn dispatch(&mut self, waiting: &mut VecDeque<Chunk>, partitions: &mut HashMap<TopicPartition, Partition>) {
        while let Some(chunk) = waiting.pop_front() {
            // Not ours any more: its next owner reads it again.
            let Some(partition) = partitions.get_mut(chunk.topic_partition()) else {
                continue;
            };
            let to = chunk.span().to;
            let worker = partition_hash(chunk.topic_partition()) % self.workers.len();
            let work = Work::Chunk {
                stream: partition.stream,
                epoch: self.streams[partition.stream].epoch,
                chunk,
                dead_lettered: Arc::clone(&partition.dead_lettered),
            };
            match self.workers[worker].try_send(work) {
                Ok(()) => partition.position = to,
                Err(TrySendError::Full(Work::Chunk { chunk, .. })) => {
                    waiting.push_front(chunk);
                    return;
                }
                // A worker ends early only with an error, which the job reports.
                Err(_) => {
                    self.abort.cancel();
                    return;
                }
            }
        }
    }

    /// Begins to read partitions, as soon as Kafka and the lake say from where. Without success only when the job ends.
    fn assign(
        &mut self,
        assigned: &[TopicPartition],
        partitions: &mut HashMap<TopicPartition, Partition>,
    ) -> Result<(), IngestError> {
        let mut backoff = self.lake.backoff();
        loop {
            match self.try_assign(assigned, partitions) {
                Err(error) if error.is_retryable() => {
                    warn!(%error, "cannot tell where to read from; trying again");
                    counter!("smartcity_ingest_assignment_retries_total").increment(1);
                }
                result => return result,
            }
            let until = Instant::now() + backoff.pause();
            while Instant::now() < until {
                if self.stop.is_cancelled() || self.abort.is_cancelled() {
                    return Ok(());
                }
                std::thread::sleep(POLL);
            }
        }
    }

    fn try_assign(
        &mut self,
        assigned: &[TopicPartition],
        partitions: &mut HashMap<TopicPartition, Partition>,
    ) -> Result<(), IngestError> {
        let mut positions = Vec::with_capacity(assigned.len());
        let mut paused = Vec::new();
        for (stream, state) in self.streams.iter_mut().enumerate() {
            let own: Vec<_> = assigned
                .iter()
                .filter(|partition| *partition.topic == *state.topic)
                .collect();
            if own.is_empty() {
                continue;
            }
            if state.stopped.is_some() {
                // The group wants its answer all the same.
                positions.extend(own.iter().map(|partition| ((*partition).clone(), 0)));
                paused.extend(own.into_iter().cloned());
                continue;
            }
            let lake_error = |source: LakeError| IngestError::Lake {
                stream: state.name.clone(),
                source,
            };
            self.runtime.block_on(state.table.refresh()).map_err(lake_error)?;
            self.runtime.block_on(self.dead_letters.refresh()).map_err(lake_error)?;
            state.topic_id = self.source.topic_id(&state.topic, TOPIC_ID_TIMEOUT)?;
            if let Some(found) = &state.topic_id {
                let bound = self.runtime.block_on(state.table.bind_topic(&state.topic, found));
                same_topic(&state.topic, &bound.map_err(lake_error)?, found)?;
            }
            let numbers = || own.iter().map(|topic_partition| topic_partition.partition);
            if !state.table.has_starts(&state.topic, numbers()) {
                let logs = logs(&mut *self.source, &state.topic, numbers())?;
                let record = assignment::record_starts(&state.table, &state.topic, &logs, self.starting_offsets);
                self.runtime.block_on(record).map_err(lake_error)?;
            }
            for topic_partition in own {
                let log = self.source.offsets(topic_partition)?;
                if !self.fail_on_data_loss {
                    let gap =
                        assignment::pass_over_gap(&self.lake, &self.application, &state.table, topic_partition, log);
                    self.runtime.block_on(gap).map_err(lake_error)?;
                }
                let start = assignment::start(&state.table, &self.dead_letters, topic_partition, log);
                let Start {
                    position,
                    dead_lettered,
                    letters,
                } = self.runtime.block_on(start)?;
                if !dead_lettered.is_empty() {
                    info!(partition = %topic_partition, count = dead_lettered.len(), "dead letters are ahead of the rows");
                }
                self.letter_offsets
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(
                        topic_partition.clone(),
                        LetterOffset {
                            epoch: state.epoch,
                            mark: letters,
                        },
                    );
                info!(partition = %topic_partition, offset = position, end = log.high, "reading");
                self.progress
                    .assigned(stream, topic_partition.partition, position, log.high);
                positions.push((topic_partition.clone(), position));
                partitions.insert(
                    topic_partition.clone(),
                    Partition {
                        stream,
                        position,
                        end: log.high,
                        dead_lettered: Arc::new(dead_lettered),
                        reported: None,
                    },
                );
            }
        }
        self.source.assign(&positions)?;
        Ok(self.source.pause(&paused)?)
    }

    fn revoke(
        &mut self,
        revoked: &[TopicPartition],
        partitions: &mut HashMap<TopicPartition, Partition>,
        waiting: &mut VecDeque<Chunk>,
    ) -> Result<(), IngestError> {
        let is_drained = self.drain();
        let mut unlanded = BTreeSet::new();
        for topic_partition in revoked {
            if let Some(partition) = partitions.remove(topic_partition) {
                self.progress.unassigned(partition.stream, topic_partition.partition);
                unlanded.insert(partition.stream);
            }
        }
        self.source.unassign(revoked)?;
        // The partitions may come back while batches with them are still on their way, which then must not count.
        for stream in unlanded.into_iter().filter(|_| !is_drained) {
            self.rewind(stream, self.streams[stream].epoch + 1, partitions, waiting)?;
        }
        Ok(())
    }

    /// What this stream has in flight is void: start over from what the table records.
    fn rewind(
        &mut self,
        stream: usize,
        epoch: u64,
        partitions: &mut HashMap<TopicPartition, Partition>,
        waiting: &mut VecDeque<Chunk>,
    ) -> Result<(), IngestError> {
        let state = &mut self.streams[stream];
        state.epoch = epoch;
        waiting.retain(|chunk| *chunk.topic_partition().topic != *state.topic);
        let own: Vec<_> = partitions
            .iter()
            .filter(|(_, partition)| partition.stream == stream)
            .map(|(topic_partition, _)| topic_partition.clone())
            .collect();
        warn!(stream = %self.streams[stream].name, partitions = own.len(), "rewinding");
        self.source.unassign(&own)?;
        self.assign(&own, partitions)
    }

    /// Closes every open batch and waits until it has landed. Not for ever: `false` when some may still be on their way.
    fn drain(&self) -> bool {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut flushed = Vec::new();
        for worker in &self.workers {
            let (done, flush) = sync_channel(1);
            let mut work = Work::Flush(done);
            while let Err(TrySendError::Full(back)) = worker.try_send(work) {
                if left().is_zero() || self.abort.is_cancelled() {
                    return false;
                }
                work = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            flushed.push(flush);
        }
        for flush in flushed {
            if flush.recv_timeout(left()).is_err() {
                return false;
            }
        }
        self.runtime.block_on(async {
            let landed = async {
                for stream in &self.streams {
                    let (done, barrier) = oneshot::channel();
                    if stream.commits.send(Commit::Barrier(done)).await.is_err() || barrier.await.is_err() {
                        return false;
                    }
                }
                true
            };
            tokio::time::timeout(left(), landed).await.unwrap_or_else(|_| {
                warn!("not everything landed in time; what did not will be read again");
                false
            })
        })
    }

    /// Whether the tables record every offset up to each partition's end.
    fn has_landed(&self, partitions: &HashMap<TopicPartition, Partition>) -> bool {
        partitions.iter().all(|(topic_partition, partition)| {
            let recorded = self.streams[partition.stream].table.recorded(topic_partition);
            recorded.is_some_and(|recorded| recorded >= partition.end)
        })
    }

    /// A topic that is made anew while it is read may have grown past our position before anyone has noticed.
    fn check_topics(&mut self) -> Result<(), IngestError> {
        for state in &self.streams {
            let Some(bound) = &state.topic_id else { continue };
            match self.source.topic_id(&state.topic, TOPIC_CHECK_TIMEOUT) {
                Ok(Some(found)) => same_topic(&state.topic, bound, &found)?,
                Ok(None) => {}
                // Without an answer there are no records either, and the group must not wait.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Watermarks for the lag, positions for the group's monitors.
    fn tell(&mut self, partitions: &mut HashMap<TopicPartition, Partition>, waiting: &VecDeque<Chunk>) {
        for (topic_partition, partition) in partitions.iter() {
            if let Some(high) = self.source.high_watermark(topic_partition) {
                self.progress
                    .high_watermark(partition.stream, topic_partition.partition, high);
            }
        }
        gauge!("smartcity_ingest_waiting_bytes").set(waiting.iter().map(Chunk::bytes).sum::<usize>() as f64);
        self.report_positions(partitions);
    }

    fn report_positions(&mut self, partitions: &mut HashMap<TopicPartition, Partition>) {
        let mut landed = Vec::new();
        for (topic_partition, partition) in partitions {
            let recorded = self.streams[partition.stream].table.recorded(topic_partition);
            if recorded != partition.reported {
                partition.reported = recorded;
                landed.extend(recorded.map(|recorded| (topic_partition.clone(), recorded)));
            }
        }
        self.source.report_positions(&landed);
    }
}

/// The offsets of every partition of a topic: those that it has now, and those that the group has assigned to us.
fn logs(
    source: &mut dyn Source,
    topic: &str,
    assigned: impl Iterator<Item = i32>,
) -> Result<BTreeMap<i32, PartitionOffsets>, KafkaError> {
    let count = source.partition_count(topic)?;
    let all: BTreeSet<i32> = (0..count).chain(assigned).collect();
    let offsets = |partition| Ok((partition, source.offsets(&TopicPartition::new(topic, partition))?));
    all.into_iter().map(offsets).collect()
}

fn same_topic(topic: &str, bound: &str, found: &str) -> Result<(), IngestError> {
    if bound == found {
        return Ok(());
    }
    Err(IngestError::TopicRecreated {
        topic: topic.to_owned(),
        bound: bound.to_owned(),
        found: found.to_owned(),
    })
}

/// FNV-1a over the topic, plus the partition: neighbours go to different workers.
fn partition_hash(partition: &TopicPartition) -> usize {
    let topic = partition.topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (topic as usize >> 8).wrapping_add(partition.partition as usize)
}
