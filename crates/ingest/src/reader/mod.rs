//! The loop that owns the Kafka source: starts partitions at the table's offsets, hands chunks to the workers, holds back
//! when they are busy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use kafka::{Event, KafkaError, Source, TopicIds};
use lake::{DeadLetters, Lake, Table};
use metrics::{counter, gauge};
use model::{OffsetElement, TopicPartition};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::IngestError;
use crate::config::{StartingOffsets, Until};
use crate::dispatch::{Dispatcher, Sent};
use crate::handoff::{Commit, Control, LetterOffsets, SharedBinding, Work};
use crate::progress::{Phase, Progress};
use crate::tolerance::Excess;

mod start;

pub(crate) use start::Pending;

/// How long one poll may wait for records, and while chunks wait for a worker.
const POLL: Duration = Duration::from_millis(50);
const POLL_WAITING: Duration = Duration::from_millis(5);
/// How long partitions that move to another process are held for their last batch to be committed; after that their new
/// owner reads it again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct Reader {
    pub(crate) source: Box<dyn Source>,
    pub(crate) topic_ids: Arc<dyn TopicIds>,
    pub(crate) streams: Vec<ReaderStream>,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) letter_offsets: LetterOffsets,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) control: Receiver<Control>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) runtime: Handle,
    pub(crate) starting_offsets: StartingOffsets,
    pub(crate) fail_on_data_loss: bool,
    pub(crate) migrated_topics: BTreeMap<String, String>,
    pub(crate) lake: Lake,
    pub(crate) application: String,
    pub(crate) until: Until,
    pub(crate) stop: CancellationToken,
    pub(crate) abort: CancellationToken,
    pub(crate) partitions: HashMap<TopicPartition, Partition>,
    pub(crate) pending: Pending,
    /// It is known which topics Kafka has, and the starts of those that it has not are recorded.
    pub(crate) knows_topics: bool,
}

pub(crate) struct ReaderStream {
    pub(crate) name: String,
    /// Kafka's name.
    pub(crate) topic: String,
    /// What the table calls it: another name once it was recreated.
    pub(crate) recorded_topic: Arc<str>,
    pub(crate) table: Table,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) epoch: u64,
    pub(crate) binding: SharedBinding,
    /// Why nothing of it is read any more.
    pub(crate) stopped: Option<Excess>,
}

/// What the reader knows of a partition that it reads.
pub(crate) struct Partition {
    stream: usize,
    /// The next offset to hand to a worker.
    position: i64,
    /// Where `until caught up` ends.
    end: i64,
    dead_lettered: Arc<BTreeSet<OffsetElement>>,
    /// What the group's monitors were told last.
    reported: Option<i64>,
}

impl ReaderStream {
    /// What the table calls a partition of Kafka's.
    fn recorded(&self, partition: &TopicPartition) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.recorded_topic), partition.partition)
    }
}

impl Reader {
    /// Reads until told to stop or caught up. Dropping the workers' senders on return makes them close and commit what
    /// they hold.
    pub(crate) fn run(mut self) -> Result<(), IngestError> {
        let mut was_assigned = false;
        let mut reported_at = Instant::now();
        self.progress.set_phase(Phase::Running);
        while !self.is_ending() {
            self.progress.reader_moved();
            self.find_topics_when_due()?;
            let poll_records = self.hold_back()?;
            let timeout = if self.dispatcher.is_empty() { POLL } else { POLL_WAITING };
            let events = match self.source.poll(timeout, poll_records) {
                Ok(events) => events,
                // Retention was faster than we are. Where to go on, or why not, is what the next start tells.
                Err(KafkaError::OffsetOutOfRange { topic_partition }) => {
                    if let Some(stream) = self.partitions.get(&topic_partition).map(|partition| partition.stream) {
                        self.rewind(stream, self.streams[stream].epoch + 1)?;
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for event in events {
                match event {
                    Event::Chunk(chunk) => self.dispatcher.push(chunk),
                    Event::Assigned(assigned) => {
                        was_assigned = true;
                        self.pending.assigned(assigned);
                        // Before the next one: what comes later is another assignment, whose partitions may be new.
                        if self.pending.is_due() {
                            self.start_pending()?;
                        }
                    }
                    Event::Revoked(revoked) => self.revoke(&revoked)?,
                }
            }
            if self.pending.is_due() {
                self.start_pending()?;
            }
            while let Ok(control) = self.control.try_recv() {
                match control {
                    // What fenced may be of an epoch that is over already.
                    Control::Rewind { stream, epoch } if epoch > self.streams[stream].epoch => {
                        self.rewind(stream, epoch)?;
                    }
                    Control::Rewind { .. } => {}
                    Control::Stop { stream, excess } => self.stop_stream(stream, excess)?,
                }
            }
            if self.streams.iter().all(|stream| stream.stopped.is_some()) {
                break;
            }
            self.dispatch();
            if reported_at.elapsed() >= REPORT_INTERVAL {
                reported_at = Instant::now();
                self.report();
            }
            if self.until == Until::CaughtUp && was_assigned && self.is_caught_up() {
                self.drain();
                // A batch that another writer fenced is read again before this is the end.
                if self.is_committed() || self.abort.is_cancelled() {
                    break;
                }
            }
        }
        self.progress.set_phase(Phase::Stopping);
        if self.abort.is_cancelled() {
            return Ok(());
        }
        // The last batches are committed before the group is left, so that a successor finds nothing to read again.
        self.drain();
        self.report_positions();
        let stopped = self.streams.into_iter().find_map(|state| {
            let excess = state.stopped?;
            Some(IngestError::TooManyErrors {
                stream: state.name,
                excess,
            })
        });
        stopped.map_or(Ok(()), Err)
    }

    fn is_ending(&self) -> bool {
        self.stop.is_cancelled() || self.abort.is_cancelled()
    }

    fn is_caught_up(&self) -> bool {
        let mut partitions = self.partitions.values();
        self.knows_topics
            && self.pending.partitions.is_empty()
            && self.dispatcher.is_empty()
            && partitions.all(|partition| partition.position >= partition.end)
    }

    /// Pauses partitions whose worker is too slow, and resumes them. Whether to take records from Kafka.
    fn hold_back(&mut self) -> Result<bool, IngestError> {
        let lanes: HashMap<&TopicPartition, usize> = match self.dispatcher.is_empty() && !self.dispatcher.has_paused() {
            // As a rule.
            true => return Ok(true),
            false => {
                let lane_of = |partition| (partition, self.dispatcher.lane_of(partition));
                self.partitions.keys().map(lane_of).collect()
            }
        };
        let reading: BTreeSet<usize> = lanes.values().copied().collect();
        let of_lanes = |numbers: &[usize]| {
            let of = lanes.iter().filter(|(_, lane)| numbers.contains(lane));
            of.map(|(partition, _)| (*partition).clone()).collect::<Vec<_>>()
        };
        let plan = self.dispatcher.plan(|lane| reading.contains(&lane), Instant::now());
        if !plan.pause.is_empty() {
            counter!("smartcity_ingest_pauses_total").increment(plan.pause.len() as u64);
            self.source.pause(&of_lanes(&plan.pause))?;
        }
        if !plan.resume.is_empty() {
            self.source.resume(&of_lanes(&plan.resume))?;
        }
        Ok(plan.poll_records)
    }

    /// Sends chunks on, in order, until their worker's queue is full.
    fn dispatch(&mut self) {
        for lane in self.dispatcher.lanes() {
            while let Some(chunk) = lane.pop() {
                // Not ours any more: its next owner reads it again.
                let Some(partition) = self.partitions.get_mut(chunk.topic_partition()) else {
                    continue;
                };
                let (to, state) = (chunk.span().to, &self.streams[partition.stream]);
                let work = Work::Chunk {
                    stream: partition.stream,
                    epoch: state.epoch,
                    chunk,
                    recorded_topic: Arc::clone(&state.recorded_topic),
                    dead_lettered: Arc::clone(&partition.dead_lettered),
                };
                match lane.send(work) {
                    Sent::Yes => partition.position = to,
                    Sent::Full => break,
                    // A worker ends early only with an error, which the job reports.
                    Sent::Gone => return self.abort.cancel(),
                }
            }
        }
    }

    /// Reads no more of a stream; the others go on.
    fn stop_stream(&mut self, stream: usize, excess: Excess) -> Result<(), IngestError> {
        let state = &mut self.streams[stream];
        // Each worker may say so.
        if state.stopped.is_some() {
            return Ok(());
        }
        state.stopped = Some(excess);
        error!(stream = %state.name, "stopped: {excess}; the next run reads on from what is committed");
        self.progress.stopped(stream, excess);
        self.dispatcher.retain(|partition| *partition.topic != *state.topic);
        let own: Vec<_> = self
            .partitions
            .extract_if(|_, partition| partition.stream == stream)
            .map(|(topic_partition, _)| topic_partition)
            .collect();
        Ok(self.source.pause(&own)?)
    }

    fn revoke(&mut self, revoked: &[TopicPartition]) -> Result<(), IngestError> {
        // Only chunks of partitions that stay may still be handed out.
        self.dispatcher.retain(|partition| !revoked.contains(partition));
        self.pending.partitions.retain(|partition| !revoked.contains(partition));
        let is_drained = self.drain();
        let mut uncommitted = BTreeSet::new();
        for topic_partition in revoked {
            if let Some(partition) = self.partitions.remove(topic_partition) {
                self.progress.unassigned(partition.stream, topic_partition.partition);
                uncommitted.insert(partition.stream);
            }
        }
        self.source.unassign(revoked)?;
        // The partitions may come back while batches with them are still on their way, which then must not count.
        for stream in uncommitted.into_iter().filter(|_| !is_drained) {
            self.rewind(stream, self.streams[stream].epoch + 1)?;
        }
        Ok(())
    }

    /// What this stream has in flight is void: start over from what the table records.
    fn rewind(&mut self, stream: usize, epoch: u64) -> Result<(), IngestError> {
        let state = &mut self.streams[stream];
        state.epoch = epoch;
        self.dispatcher.retain(|partition| *partition.topic != *state.topic);
        let own: Vec<_> = self
            .partitions
            .extract_if(|_, partition| partition.stream == stream)
            .map(|(topic_partition, _)| topic_partition)
            .collect();
        warn!(stream = %self.streams[stream].name, partitions = own.len(), "rewinding");
        self.source.unassign(&own)?;
        self.pending.add(own);
        Ok(())
    }

    /// Closes every open batch and waits until it is committed. Not for ever: `false` when some may still be on their way.
    fn drain(&self) -> bool {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut flushed = Vec::new();
        for worker in self.dispatcher.workers() {
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
            let committed = async {
                for stream in &self.streams {
                    let (done, barrier) = oneshot::channel();
                    if stream.commits.send(Commit::Barrier(done)).await.is_err() || barrier.await.is_err() {
                        return false;
                    }
                }
                true
            };
            tokio::time::timeout(left(), committed).await.unwrap_or_else(|_| {
                warn!("not everything was committed in time; what was not is read again");
                false
            })
        })
    }

    /// Whether the tables record every offset up to each partition's end.
    fn is_committed(&self) -> bool {
        self.partitions.iter().all(|(topic_partition, partition)| {
            let state = &self.streams[partition.stream];
            let recorded = state.table.recorded(&state.recorded(topic_partition));
            recorded.is_some_and(|recorded| recorded >= partition.end)
        })
    }

    /// Watermarks for the lag, positions for the group's monitors.
    fn report(&mut self) {
        for (topic_partition, partition) in &self.partitions {
            if let Some(high) = self.source.high_watermark(topic_partition) {
                self.progress
                    .high_watermark(partition.stream, topic_partition.partition, high);
            }
        }
        gauge!("smartcity_ingest_waiting_bytes").set(self.dispatcher.bytes() as f64);
        gauge!("smartcity_ingest_paused_workers").set(self.dispatcher.paused_lanes() as f64);
        gauge!("smartcity_ingest_pending_partitions").set(self.pending.partitions.len() as f64);
        self.report_positions();
    }

    fn report_positions(&mut self) {
        let mut committed = Vec::new();
        for (topic_partition, partition) in &mut self.partitions {
            let state = &self.streams[partition.stream];
            let recorded = state.table.recorded(&state.recorded(topic_partition));
            if recorded != partition.reported {
                partition.reported = recorded;
                committed.extend(recorded.map(|recorded| (topic_partition.clone(), recorded)));
            }
        }
        self.source.report_positions(&committed);
    }
}
