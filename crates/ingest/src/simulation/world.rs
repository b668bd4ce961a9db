//! What all processes share: Kafka's log, who owns which partition, the store's contents.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use futures::FutureExt;
use kafka::PartitionOffsets;
use model::{Chunk, ChunkBuilder, RecordId, Streams, TopicPartition};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, PutOptions, PutPayload};

use super::{Planted, STEPS_MAX};
use crate::config::StartingOffsets;
use crate::replay::Letter;

pub(super) const TOPIC: &str = "readings";

/// Where a row or dead letter belongs: partition, offset, element.
pub(super) type Place = (i32, i64, Option<u32>);

/// What becomes of a record, or of an element, under the two declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Good,
    Bad,
    /// A row by the first declaration, a letter by the second.
    BadLater,
    /// A letter by the first declaration, a row by the second.
    GoodLater,
}

#[derive(Debug, Clone)]
pub(super) struct SimRecord {
    pub(super) offset: i64,
    /// Of the record; of the message around its elements, where it has some.
    pub(super) kind: Kind,
    /// Empty in a stream without elements.
    pub(super) elements: Vec<Kind>,
}

pub(super) struct World {
    pub(super) processes: usize,
    /// Processes that replay dead letters.
    pub(super) replays: usize,
    pub(super) planted: Option<Planted>,
    /// A partition moves at one step in so many.
    pub(super) move_one_in: u32,
    pub(super) moves_max: u64,
    pub(super) deploy_at: u64,
    /// Of a thousand requests, in good times.
    faults_per_mille: u32,
    /// Of a thousand requests.
    pub(super) crashes_per_mille: u32,
    /// Whether the stream's messages have elements.
    pub(super) has_elements: bool,
    pub(super) starting_offsets: StartingOffsets,
    pub(super) records: Vec<Vec<SimRecord>>,
    /// Of each partition.
    arrivals: Vec<Arrivals>,
    pub(super) store: InMemory,
    steps: AtomicU64,
    state: Mutex<State>,
}

/// When a partition's records are sent.
struct Arrivals {
    /// The step at which the partition is added to the topic; 0 where it was there before.
    added_at: u64,
    /// Records that it holds then, before anyone can know of it.
    first: usize,
    /// Steps from one of the others to the next.
    every: u64,
}

impl Arrivals {
    fn new(rng: &mut Rng, records: usize, is_added: bool) -> Self {
        Self {
            added_at: if is_added { rng.u64(1..1_500) } else { 0 },
            first: rng.usize(0..=records),
            every: rng.u64(1..=20),
        }
    }

    fn all_at_once() -> Self {
        Self {
            added_at: 0,
            first: usize::MAX,
            every: 1,
        }
    }

    /// How many there are by then.
    fn by(&self, step: u64) -> usize {
        let since = step.saturating_sub(self.added_at) / self.every;
        self.first.saturating_add(since as usize)
    }
}

struct State {
    /// The end of each partition when a process first began to read; `None` of those that were added later.
    first_read: Option<Vec<Option<i64>>>,
    /// Of each partition. There should be one; by accident, or for lack of a fence, there are two.
    owners: Vec<[usize; 2]>,
    generation: u64,
    landed: Vec<bool>,
    group: Vec<i64>,
    declaration: usize,
    late: Vec<(u64, Path, PutPayload, PutOptions)>,
    crashes_left: u32,
    fenced: u64,
    replayed: u64,
}

impl World {
    pub(super) fn new(rng: &mut Rng, planted: Option<Planted>) -> Self {
        let processes = [1, 2, 2, 3][rng.usize(0..4)];
        let partitions = rng.usize(1..=3);
        let has_elements = rng.u32(0..3) == 0;
        let records: Vec<Vec<SimRecord>> = (0..partitions).map(|_| records(rng, has_elements)).collect();
        let owners = (0..partitions).map(|_| owners(rng, processes)).collect();
        let grows = rng.bool();
        let arrivals: Vec<_> = (0..partitions)
            .map(|partition| {
                let is_added = partition > 0 && partition + 1 == partitions && rng.bool();
                match grows {
                    true => Arrivals::new(rng, records[partition].len(), is_added),
                    false => Arrivals::all_at_once(),
                }
            })
            .collect();
        let starting_offsets = match grows && rng.u32(0..3) > 0 {
            true => StartingOffsets::Latest,
            false => StartingOffsets::Earliest,
        };
        let state = State {
            first_read: None,
            owners,
            generation: 0,
            landed: vec![false; partitions],
            group: vec![0; partitions],
            declaration: 0,
            late: Vec::new(),
            crashes_left: rng.u32(0..6),
            fenced: 0,
            replayed: 0,
        };
        Self {
            processes,
            replays: [0, 0, 0, 0, 1, 2][rng.usize(0..6)],
            planted,
            move_one_in: rng.u32(10..200),
            moves_max: rng.u64(0..16),
            deploy_at: if rng.bool() { rng.u64(50..1_500) } else { u64::MAX },
            faults_per_mille: [0, 20, 60, 150][rng.usize(0..4)],
            crashes_per_mille: rng.u32(0..60),
            has_elements,
            starting_offsets,
            records,
            arrivals,
            store: InMemory::new(),
            steps: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Of a thousand requests: one third of the time the store is hardly there, and in the end it is well.
    pub(super) fn faults_per_mille(&self) -> u32 {
        let steps = self.steps.load(Ordering::Relaxed);
        match steps / 200 % 3 {
            _ if steps > STEPS_MAX / 2 => 0,
            1 => self.faults_per_mille * 6,
            _ => self.faults_per_mille,
        }
    }

    /// A step has passed: requests that were only delayed arrive.
    pub(super) fn tick(&self) {
        let now = self.steps.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if now > 0 && self.arrivals.iter().any(|arrivals| arrivals.added_at == now) {
            state.generation += 1;
        }
        while let Some(at) = state.late.iter().position(|(due, ..)| *due <= now) {
            let (_, path, payload, options) = state.late.swap_remove(at);
            // It may have lost its race.
            let _ = self.store.put_opts(&path, payload, options).now_or_never();
        }
    }

    /// The request arrives after whoever sent it has given up on it.
    pub(super) fn put_late(&self, after: u64, path: &Path, payload: PutPayload, options: PutOptions) {
        let due = self.steps.load(Ordering::Relaxed) + after;
        self.state().late.push((due, path.clone(), payload, options));
    }

    pub(super) fn move_partition(&self, rng: &mut Rng) {
        let mut state = self.state();
        let partition = rng.usize(0..state.owners.len());
        state.owners[partition] = owners(rng, self.processes);
        state.generation += 1;
    }

    /// From now on whoever starts has the second declaration.
    pub(super) fn deploy(&self) {
        self.state().declaration = 1;
    }

    pub(super) fn streams(&self) -> Streams {
        let (lowest, highest) = [(-2, 5), (0, 9)][self.state().declaration];
        if self.has_elements {
            let declaration = format!(
                "name = \"{TOPIC}\"\ndescription = \"d\"\nkey = \"level\"\nevent_time = \"at\"\n\
                 elements = \"parts[*]\"\n\
                 [[field]]\nname = \"level\"\ntype = \"long\"\nmin = {lowest}\nmax = {highest}\ndoc = \"l\"\n\
                 [[field]]\nname = \"at\"\ntype = \"timestamp\"\ndoc = \"t\"\n\
                 [[field]]\nname = \"id\"\ntype = \"long\"\nfrom = [\"parts[*].id\"]\ndoc = \"i\"\n\
                 [[field]]\nname = \"sign\"\ntype = \"long\"\nfrom = [\"parts[*].sign\"]\n\
                 min = {lowest}\nmax = {highest}\ndoc = \"s\"\n"
            );
            return Streams::parse([("readings.toml", declaration.as_str())]).unwrap();
        }
        let declaration = format!(
            "name = \"{TOPIC}\"\ndescription = \"d\"\nkey = \"id\"\nevent_time = \"at\"\n\
             [[field]]\nname = \"id\"\ntype = \"long\"\ndoc = \"i\"\n\
             [[field]]\nname = \"sign\"\ntype = \"long\"\nmin = {lowest}\nmax = {highest}\ndoc = \"s\"\n\
             [[field]]\nname = \"at\"\ntype = \"timestamp\"\ndoc = \"t\"\n"
        );
        Streams::parse([("readings.toml", declaration.as_str())]).unwrap()
    }

    pub(super) fn generation(&self) -> u64 {
        self.state().generation
    }

    pub(super) fn owned_by(&self, process: usize) -> Vec<TopicPartition> {
        let state = self.state();
        let owned = state
            .owners
            .iter()
            .enumerate()
            .filter(|(_, owners)| owners.contains(&process));
        let there = owned.filter(|(partition, _)| self.is_there(*partition));
        there
            .map(|(partition, _)| TopicPartition::new(TOPIC, partition as i32))
            .collect()
    }

    fn is_there(&self, partition: usize) -> bool {
        self.arrivals[partition].added_at <= self.steps.load(Ordering::Relaxed)
    }

    pub(super) fn partition_count(&self) -> i32 {
        (0..self.records.len())
            .filter(|partition| self.is_there(*partition))
            .count() as i32
    }

    /// Partitions that are added after the beginning.
    pub(super) fn added(&self) -> u64 {
        self.arrivals.iter().filter(|arrivals| arrivals.added_at > 0).count() as u64
    }

    /// A process is about to read its first record.
    pub(super) fn begins_to_read(&self) {
        let ends = (0..self.records.len())
            .map(|partition| self.is_there(partition).then(|| self.end(partition)))
            .collect();
        self.state().first_read.get_or_insert(ends);
    }

    /// The greatest offset that a partition may start at, when nothing is to be skipped.
    pub(super) fn start_max(&self, partition: usize) -> i64 {
        let first_read = self.state().first_read.clone();
        match (self.starting_offsets, first_read) {
            (StartingOffsets::Latest, Some(ends)) => ends[partition].unwrap_or(0),
            _ => 0,
        }
    }

    fn end(&self, partition: usize) -> i64 {
        let sent = self.arrivals[partition].by(self.steps.load(Ordering::Relaxed));
        let mut sent = self.records[partition].iter().take(sent);
        sent.next_back().map_or(0, |record| record.offset + 1)
    }

    /// Whether nothing comes after this offset any more.
    pub(super) fn is_end(&self, topic_partition: &TopicPartition, offset: i64) -> bool {
        let last = self.records[topic_partition.partition as usize].last();
        last.is_none_or(|record| record.offset < offset)
    }

    pub(super) fn offsets(&self, topic_partition: &TopicPartition) -> PartitionOffsets {
        PartitionOffsets {
            low: 0,
            high: self.end(topic_partition.partition as usize),
        }
    }

    /// The records of `[from, to)`.
    pub(super) fn chunk(&self, topic_partition: &TopicPartition, from: i64, to: i64) -> Chunk {
        let partition = topic_partition.partition;
        let mut chunk = ChunkBuilder::new(topic_partition.clone(), from);
        for record in &self.records[partition as usize] {
            if (from..to).contains(&record.offset) {
                chunk.push(record.offset, 0, None, Some(&self.value(partition, record)), []);
            }
        }
        chunk.finish(to)
    }

    fn value(&self, partition: i32, record: &SimRecord) -> Vec<u8> {
        match self.has_elements {
            true => message(partition, record),
            false => value(partition, record.offset, record.kind),
        }
    }

    /// The dead letter of a record or an element, as a replay reads it.
    pub(super) fn letter(&self, (partition, offset, element): Place) -> Letter {
        let records = &self.records[partition as usize];
        let record = records.iter().find(|record| record.offset == offset).unwrap();
        Letter {
            id: RecordId::new(TopicPartition::new(TOPIC, partition), offset, element),
            kafka_timestamp_us: Some(0),
            key: None,
            value: Some(self.value(partition, record)),
            stage: String::new(),
            error_class: String::new(),
            error: String::new(),
            field: None,
        }
    }

    pub(super) fn count_replayed(&self, rows: u64) {
        self.state().replayed += rows;
    }

    pub(super) fn replayed(&self) -> u64 {
        self.state().replayed
    }

    pub(super) fn group_offset(&self, topic_partition: &TopicPartition) -> i64 {
        self.state().group[topic_partition.partition as usize]
    }

    /// As a consumer that commits what it has read, not what has landed.
    pub(super) fn report_group_offset(&self, topic_partition: &TopicPartition, offset: i64) {
        self.state().group[topic_partition.partition as usize] = offset;
    }

    pub(super) fn has_landed(&self, topic_partition: &TopicPartition) {
        self.state().landed[topic_partition.partition as usize] = true;
    }

    pub(super) fn all_landed(&self) -> bool {
        self.state().landed.iter().all(|landed| *landed)
    }

    pub(super) fn count_fenced(&self) {
        self.state().fenced += 1;
    }

    pub(super) fn fenced(&self) -> u64 {
        self.state().fenced
    }

    /// Whether a process may die now.
    pub(super) fn take_crash(&self) -> bool {
        let mut state = self.state();
        let may = state.crashes_left > 0;
        state.crashes_left -= u32::from(may);
        may
    }

    pub(super) fn describe(&self) -> String {
        let state = self.state();
        format!("landed {:?}, owners {:?}", state.landed, state.owners)
    }
}

fn owners(rng: &mut Rng, processes: usize) -> [usize; 2] {
    let owner = rng.usize(0..processes);
    let other = if rng.u32(0..3) == 0 {
        rng.usize(0..processes)
    } else {
        owner
    };
    [owner, other]
}

/// Unique over all partitions, offsets and elements.
pub(super) fn id((partition, offset, element): Place) -> i64 {
    i64::from(partition) * 1_000_000 + offset * 100 + element.map_or(0, |element| i64::from(element) + 1)
}

/// A message with elements. A bad one is cut off.
fn message(partition: i32, record: &SimRecord) -> Vec<u8> {
    let SimRecord { offset, kind, elements } = record;
    let parts: Vec<String> = (0..)
        .zip(elements)
        .map(|(element, kind)| {
            let id = id((partition, *offset, Some(element)));
            match kind {
                Kind::Bad => format!(r#"{{"id":"{id}","sign":1}}"#),
                kind => format!(r#"{{"id":{id},"sign":{}}}"#, sign(*kind)),
            }
        })
        .collect();
    let level = sign(*kind);
    let mut text = format!(
        r#"{{"level":{level},"parts":[{}],"at":"2026-01-01T00:00:00Z"}}"#,
        parts.join(",")
    );
    if *kind == Kind::Bad {
        text.truncate(text.len() - 10);
    }
    text.into_bytes()
}

fn sign(kind: Kind) -> i64 {
    match kind {
        Kind::Good | Kind::Bad => 1,
        Kind::BadLater => -1,
        Kind::GoodLater => 7,
    }
}

fn value(partition: i32, offset: i64, kind: Kind) -> Vec<u8> {
    let id = id((partition, offset, None));
    let sign = match kind {
        Kind::Bad => return format!(r#"{{"id":{id},"sign":"#).into_bytes(),
        kind => sign(kind),
    };
    format!(r#"{{"id":{id},"sign":{sign},"at":"2026-01-01T00:00:00Z"}}"#).into_bytes()
}

/// Offsets with holes, as transactions and compaction leave them.
fn records(rng: &mut Rng, has_elements: bool) -> Vec<SimRecord> {
    let mut offset = 0;
    (0..rng.usize(5..60))
        .map(|_| {
            if rng.u32(0..10) == 0 {
                offset += rng.i64(1..4);
            }
            let count = if has_elements { rng.usize(0..=5) } else { 0 };
            let record = SimRecord {
                offset,
                kind: kind(rng),
                elements: (0..count).map(|_| kind(rng)).collect(),
            };
            offset += 1;
            record
        })
        .collect()
}

fn kind(rng: &mut Rng) -> Kind {
    match rng.u32(0..20) {
        0 | 1 => Kind::Bad,
        2 => Kind::BadLater,
        3 => Kind::GoodLater,
        _ => Kind::Good,
    }
}
