//! Chunks on their way to the workers: a small queue for each, so that one busy worker does not hold back the others.
//!
//! A partition always goes to the same worker. While all workers are busy nothing more is read from Kafka. When one is so
//! slow that its queue stays full while another has nothing to do, its partitions are paused and the others are read on.
//! Pausing costs what was fetched of these partitions, so a worker that is merely behind for a moment is waited for.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use model::{Chunk, TopicPartition};

use crate::handoff::Work;

/// What may wait for one worker before nothing more is read for it. A chunk has up to 4 MiB, and what one poll brought
/// comes on top.
const LANE_BYTES_MAX: usize = 4 << 20;
/// How long a worker's queue stays full before its partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_millis(250);

/// The ways to all workers.
pub(crate) struct Dispatcher(Vec<Lane>);

/// The way to one worker.
pub(crate) struct Lane {
    worker: SyncSender<Work>,
    waiting: VecDeque<Chunk>,
    waiting_bytes: usize,
    /// Since when its queue is full.
    full_since: Option<Instant>,
    /// Its partitions are paused.
    is_paused: bool,
}

/// What to do before the next poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether to take records from Kafka.
    pub(crate) poll_records: bool,
    /// Workers whose partitions are to be paused.
    pub(crate) pause: Vec<usize>,
    /// Workers whose partitions are to be read again.
    pub(crate) resume: Vec<usize>,
}

/// What became of a chunk that was sent.
pub(crate) enum Sent {
    Yes,
    /// The worker has no room: the chunk waits on.
    Full,
    /// The worker has ended.
    Gone,
}

impl Dispatcher {
    pub(crate) fn new(workers: Vec<SyncSender<Work>>) -> Self {
        let lane = |worker| Lane {
            worker,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            full_since: None,
            is_paused: false,
        };
        Self(workers.into_iter().map(lane).collect())
    }

    /// The number of the worker that a partition goes to.
    pub(crate) fn lane_of(&self, partition: &TopicPartition) -> usize {
        partition_hash(partition) % self.0.len()
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        let lane = self.lane_of(chunk.topic_partition());
        self.0[lane].push_back(chunk);
    }

    /// Drops the chunks of other partitions.
    pub(crate) fn retain(&mut self, keep: impl Fn(&TopicPartition) -> bool) {
        for lane in &mut self.0 {
            lane.waiting.retain(|chunk| keep(chunk.topic_partition()));
            lane.waiting_bytes = lane.waiting.iter().map(Chunk::bytes).sum();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|lane| lane.waiting.is_empty())
    }

    /// Bytes that wait for all workers.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|lane| lane.waiting_bytes).sum()
    }

    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.0.iter_mut()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &SyncSender<Work>> {
        self.0.iter().map(|lane| &lane.worker)
    }

    pub(crate) fn is_paused(&self, lane: usize) -> bool {
        self.0[lane].is_paused
    }

    pub(crate) fn has_paused(&self) -> bool {
        self.0.iter().any(|lane| lane.is_paused)
    }

    /// How many workers have their partitions paused.
    pub(crate) fn paused_lanes(&self) -> usize {
        self.0.iter().filter(|lane| lane.is_paused).count()
    }

    /// Decides what to do next. `reads(lane)`: whether the worker has partitions. What is to be paused or resumed counts
    /// as such from now on.
    pub(crate) fn plan(&mut self, reads: impl Fn(usize) -> bool, now: Instant) -> Plan {
        let has_idle = (0..self.0.len()).any(|lane| self.0[lane].waiting.is_empty() && reads(lane));
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        let mut waits_for_full = false;
        for (number, lane) in self.0.iter_mut().enumerate() {
            let is_full = lane.waiting_bytes > LANE_BYTES_MAX;
            lane.full_since = match is_full {
                true => lane.full_since.or(Some(now)),
                false => None,
            };
            if lane.is_paused {
                if lane.waiting.is_empty() {
                    lane.is_paused = false;
                    resume.push(number);
                }
            } else if let Some(since) = lane.full_since {
                match has_idle && now.saturating_duration_since(since) >= PAUSE_AFTER {
                    true => {
                        lane.is_paused = true;
                        pause.push(number);
                    }
                    false => waits_for_full = true,
                }
            }
        }
        Plan {
            poll_records: !waits_for_full && (has_idle || self.is_empty()),
            pause,
            resume,
        }
    }
}

impl Lane {
    fn push_back(&mut self, chunk: Chunk) {
        self.waiting_bytes += chunk.bytes();
        self.waiting.push_back(chunk);
    }

    /// The chunk that has waited longest.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.waiting.pop_front()?;
        self.waiting_bytes -= chunk.bytes();
        Some(chunk)
    }

    /// Hands a chunk, the one popped last, to the worker.
    pub(crate) fn send(&mut self, work: Work) -> Sent {
        match self.worker.try_send(work) {
            Ok(()) => Sent::Yes,
            Err(TrySendError::Full(Work::Chunk { chunk, .. })) => {
                self.waiting_bytes += chunk.bytes();
                self.waiting.push_front(chunk);
                Sent::Full
            }
            Err(_) => Sent::Gone,
        }
    }
}

/// FNV-1a over the topic, plus the partition: neighbours go to different workers.
fn partition_hash(partition: &TopicPartition) -> usize {
    let topic = partition.topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (topic as usize >> 8).wrapping_add(partition.partition as usize)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, sync_channel};

    use model::ChunkBuilder;

    use super::*;

    fn dispatcher(workers: usize) -> (Dispatcher, Vec<Receiver<Work>>) {
        let (senders, receivers) = (0..workers).map(|_| sync_channel(1)).unzip();
        (Dispatcher::new(senders), receivers)
    }

    /// A chunk for one of two workers.
    fn chunk(partition: i32, from: i64, bytes: usize) -> Chunk {
        let mut chunk = ChunkBuilder::new(TopicPartition::new("t", partition), from);
        chunk.push(from, 0, None, Some(&vec![b'x'; bytes]), []);
        chunk.finish(from + 1)
    }

    fn send_all(dispatcher: &mut Dispatcher) {
        for lane in dispatcher.lanes() {
            while let Some(chunk) = lane.pop() {
                let work = Work::Chunk {
                    stream: 0,
                    epoch: 0,
                    chunk,
                    recorded_topic: "t".into(),
                    dead_lettered: Arc::new(BTreeSet::new()),
                };
                if !matches!(lane.send(work), Sent::Yes) {
                    break;
                }
            }
        }
    }

    fn plan(poll_records: bool, pause: &[usize], resume: &[usize]) -> Plan {
        Plan {
            poll_records,
            pause: pause.to_vec(),
            resume: resume.to_vec(),
        }
    }

    #[test]
    fn one_slow_worker_does_not_hold_back_the_others() {
        let (mut dispatcher, receivers) = dispatcher(2);
        let slow = dispatcher.lane_of(&TopicPartition::new("t", 0));
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let both = |_| true;
        assert_eq!(dispatcher.plan(both, start), plan(true, &[], &[]));
        // One chunk is with the slow worker, the others wait; the other worker has nothing to do.
        let (mut offset, mut read) = (0, 0);
        while dispatcher.bytes() <= LANE_BYTES_MAX {
            assert!(dispatcher.plan(both, start).poll_records);
            dispatcher.push(chunk(0, offset, 1 << 20));
            dispatcher.push(chunk(1, offset, 10));
            offset += 1;
            send_all(&mut dispatcher);
            while receivers[1 - slow].try_recv().is_ok() {
                read += 1;
            }
        }
        assert_eq!(read, offset, "the other worker got all of its chunks");
        // A moment is waited for it, then its partitions are paused and the others go on.
        assert_eq!(dispatcher.plan(both, after(0)), plan(false, &[], &[]));
        assert_eq!(dispatcher.plan(both, after(249)), plan(false, &[], &[]));
        assert_eq!(dispatcher.plan(both, after(250)), plan(true, &[slow], &[]));
        assert_eq!(dispatcher.plan(both, after(9_000)), plan(true, &[], &[]));
        assert_eq!(dispatcher.paused_lanes(), 1);
        // Its chunks come in order, and once nothing waits it is read again.
        let mut offsets = Vec::new();
        while let Ok(Work::Chunk { chunk, .. }) = receivers[slow].try_recv() {
            offsets.push(chunk.span().from);
            send_all(&mut dispatcher);
        }
        assert_eq!(offsets, (0..offset).collect::<Vec<_>>());
        assert_eq!(dispatcher.plan(both, after(9_001)), plan(true, &[], &[slow]));
        assert_eq!(dispatcher.bytes(), 0);
    }

    #[test]
    fn while_all_are_busy_nothing_more_is_read() {
        let (mut dispatcher, _receivers) = dispatcher(2);
        for partition in [0, 1, 0, 1] {
            dispatcher.push(chunk(partition, 0, 10));
            send_all(&mut dispatcher);
        }
        let late = Instant::now() + Duration::from_secs(60);
        assert_eq!(dispatcher.plan(|_| true, late), plan(false, &[], &[]));
        // Nor while the only one that has partitions is.
        dispatcher.retain(|partition| partition.partition == 0);
        let busy = dispatcher.lane_of(&TopicPartition::new("t", 0));
        assert_eq!(dispatcher.plan(|lane| lane == busy, late), plan(false, &[], &[]));
        assert!(dispatcher.plan(|_| true, late).poll_records);
    }
}
