//! What a power cut takes of a broker: nothing that it acknowledged, wherever the cut comes, and nothing that a reader
//! has seen. Every change of a file is recorded while a broker works; then each beginning of that is replayed without
//! what had not been synced, and a broker is opened on what is left.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::api::produce::produce;
use crate::config::{BrokerConfig, Durability};
use crate::files::power_cut::Recorder;
use crate::groups::{Committed, Committer};
use crate::log::{BatchHeader, sample_batches};
use crate::state::State;
use crate::transactions::{Claim, Phase};

/// What was promised, from a number of steps on.
#[derive(Debug, Clone, PartialEq)]
enum Promise {
    /// A record batch is there, which its first timestamp tells from all others.
    Record {
        topic: String,
        offset: i64,
        mark: i64,
    },
    /// Someone has read up to here.
    Seen {
        topic: String,
        offset: i64,
    },
    /// Readers of committed records get these batches, or never do.
    Ended {
        topic: String,
        marks: Vec<i64>,
        committed: bool,
    },
    /// A group goes on from here, or from later.
    Offset {
        group: String,
        offset: i64,
    },
    Topic {
        name: String,
    },
    NoTopic {
        name: String,
    },
}

struct Work {
    dir: TempDir,
    recorder: Recorder,
    promises: Vec<(usize, Promise)>,
    /// Topics that are deleted from these steps on.
    deleted: BTreeMap<String, usize>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn config(dir: &Path, durability: Durability) -> BrokerConfig {
    let mut config = BrokerConfig::new(([127, 0, 0, 1], 0).into(), dir);
    config.durability = durability;
    config.segment_bytes = 1 << 10;
    config
}

fn open(dir: &Path, durability: Durability) -> State {
    State::open(config(dir, durability), ([127, 0, 0, 1], 1).into()).unwrap()
}

fn marked(mark: i64, producer: Option<(i64, i16, i32)>, transactional: bool) -> Bytes {
    let (_, sample) = sample_batches().into_iter().find(|(name, _)| name == "plain").unwrap();
    let mut batch = sample.to_vec();
    batch[21..23].copy_from_slice(&(if transactional { 0x10_i16 } else { 0 }).to_be_bytes());
    batch[27..35].copy_from_slice(&mark.to_be_bytes());
    batch[35..43].copy_from_slice(&(mark + 2).to_be_bytes());
    let (id, epoch, sequence) = producer.unwrap_or((-1, -1, -1));
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// Sends a batch to partition 0; its offset when it was acknowledged.
fn send(runtime: &Runtime, state: &State, topic: &str, batch: Bytes, transactional_id: Option<&str>) -> Option<i64> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(TopicName(text(topic)))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_topic_data(vec![data]);
    let answer = runtime.block_on(async { produce(state, 9, request).answer().await });
    let answer = &answer.responses[0].partition_responses[0];
    (answer.error_code == 0).then_some(answer.base_offset)
}

/// Some hundred random requests to a broker, with what was promised by each.
fn work(seed: u64, durability: Durability) -> Work {
    let dir = TempDir::new().unwrap();
    let recorder = Recorder::start(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let state = open(dir.path(), durability);
    let mut random = Random(seed * 2 + 1);
    let mut promises = Vec::new();
    let mut deleted = BTreeMap::new();
    let mut topics: Vec<String> = Vec::new();
    let (mut mark, mut sequence) = (0, 0);
    for step in 0..120 {
        if topics.is_empty() || random.below(25) == 0 {
            let name = format!("t{step}");
            let created = state.topics.create(&name, 1, Default::default(), &state.ids, 0);
            created.unwrap();
            promises.push((recorder.len(), Promise::Topic { name: name.clone() }));
            topics.push(name);
        }
        let topic = topics[random.below(topics.len() as u64) as usize].clone();
        match random.below(20) {
            0..10 => {
                mark += 10;
                if let Some(offset) = send(&runtime, &state, &topic, marked(mark, None, false), None) {
                    promises.push((recorder.len(), Promise::Record { topic, offset, mark }));
                }
            }
            10..13 => {
                let now = state.now();
                let to = state.participants();
                let (producer_id, epoch) = state.transactions.init(to, "x", 60_000, None).unwrap();
                sequence = if epoch == 0 { sequence } else { 0 };
                let claim = Claim {
                    transactional_id: "x",
                    producer_id,
                    epoch,
                };
                let add = state
                    .transactions
                    .add(claim, now, |t| t.partitions.insert((topic.clone(), 0)));
                add.unwrap();
                let mut marks = Vec::new();
                for _ in 0..1 + random.below(3) {
                    mark += 10;
                    let batch = marked(mark, Some((producer_id, epoch, sequence)), true);
                    sequence += 3;
                    assert!(send(&runtime, &state, &topic, batch, Some("x")).is_some());
                    marks.push(mark);
                }
                let committed = random.below(2) == 0;
                state.transactions.end(state.participants(), claim, committed).unwrap();
                let ended = Promise::Ended {
                    topic,
                    marks,
                    committed,
                };
                promises.push((recorder.len(), ended));
            }
            13..16 => {
                let offset = i64::from(step);
                let group = format!("g{}", random.below(3));
                let committer = Committer {
                    group: &group,
                    member_id: "",
                    instance_id: None,
                    generation: -1,
                };
                let committed = Committed {
                    offset,
                    leader_epoch: -1,
                    metadata: String::new(),
                    at_ms: 0,
                };
                let offsets = vec![(("any".to_owned(), 0), committed)];
                state.groups.commit(committer, None, offsets, Instant::now()).unwrap();
                state.groups.on_disk().unwrap();
                promises.push((recorder.len(), Promise::Offset { group, offset }));
            }
            16..18 => state.log_upkeep(),
            18 => {
                let offset = state.topics.partition(&topic, 0).unwrap().log.lock().high_watermark();
                promises.push((recorder.len(), Promise::Seen { topic, offset }));
            }
            _ if topics.len() > 1 => {
                let began = recorder.len();
                topics.retain(|name| *name != topic);
                deleted.insert(topic.clone(), began);
                state.topics.delete(&topic).unwrap();
                promises.push((recorder.len(), Promise::NoTopic { name: topic }));
            }
            _ => {}
        }
    }
    Work {
        dir,
        recorder,
        promises,
        deleted,
    }
}

/// Indexes that count in one run of the system only do not count after a power cut; here it is the same run.
fn forget_the_run(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            forget_the_run(&entry);
        } else if entry.extension().is_some_and(|extension| extension == "index") {
            let bytes = fs::read(&entry).unwrap();
            if bytes.get(64..80).is_some_and(|run| run.iter().any(|&byte| byte != 0)) {
                fs::remove_file(&entry).unwrap();
            }
        }
    }
}

/// The offset and the mark of each batch, and the marks that readers of committed records get.
fn read(state: &State, topic: &str) -> (BTreeMap<i64, i64>, BTreeSet<i64>) {
    let partition = state.topics.partition(topic, 0).unwrap();
    let log = partition.log.lock();
    let aborted = log.aborted_in(0, i64::MAX).unwrap();
    let (mut all, mut committed) = (BTreeMap::new(), BTreeSet::new());
    let mut offset = log.log_start();
    while let Some(plan) = log.plan_read(offset, i64::MAX, 1).unwrap() {
        let Some(range) = plan.run(1, true).unwrap().range else {
            break;
        };
        let header = BatchHeader::check(&range.read().unwrap()).unwrap();
        offset = header.next_offset();
        if header.is_control() {
            continue;
        }
        all.insert(header.base_offset, header.base_timestamp);
        let is_aborted = header.is_transactional()
            && aborted.iter().any(|it| {
                it.producer_id == header.producer_id && (it.first_offset..=it.last_offset).contains(&header.base_offset)
            });
        if !is_aborted && header.base_offset < log.last_stable_offset() {
            committed.insert(header.base_timestamp);
        }
    }
    (all, committed)
}

/// The promises that are broken by a broker opened on what a cut behind `count` steps left.
fn broken(work: &Work, count: usize, seed: u64) -> Vec<Promise> {
    let dir = TempDir::new().unwrap();
    work.recorder.cut(count, seed, dir.path());
    forget_the_run(dir.path());
    let state = open(dir.path(), Durability::Fsync);
    let is_gone = |topic: &String| work.deleted.get(topic).is_some_and(|&began| began < count);
    let given = work.promises.iter().filter(|(from, _)| *from <= count);
    let broken = given.filter(|(_, promise)| match promise {
        Promise::Record { topic, .. } | Promise::Seen { topic, .. } | Promise::Ended { topic, .. }
            if is_gone(topic) =>
        {
            false
        }
        Promise::Record { topic, .. } | Promise::Seen { topic, .. } | Promise::Ended { topic, .. }
            if state.topics.topic(topic).is_none() =>
        {
            true
        }
        Promise::Record { topic, offset, mark } => read(&state, topic).0.get(offset) != Some(mark),
        Promise::Seen { topic, offset } => {
            state.topics.partition(topic, 0).unwrap().log.lock().high_watermark() < *offset
        }
        Promise::Ended {
            topic,
            marks,
            committed,
        } => {
            let (_, readable) = read(&state, topic);
            marks.iter().any(|mark| readable.contains(mark) != *committed)
        }
        Promise::Offset { group, offset } => {
            let fetched = state.groups.fetch(group, None);
            let found = fetched.first().and_then(|fetched| fetched.committed.as_ref());
            found.is_none_or(|found| found.offset < *offset)
        }
        Promise::Topic { name } => !is_gone(name) && state.topics.topic(name).is_none(),
        Promise::NoTopic { name } => state.topics.topic(name).is_some(),
    });
    let broken = broken.map(|(_, promise)| promise.clone()).collect();
    // And it goes on.
    let transactions = state.transactions.list();
    assert!(
        transactions
            .iter()
            .all(|(_, transaction)| transaction.phase != Phase::PrepareCommit)
    );
    broken
}

fn seeds() -> std::ops::Range<u64> {
    let seeds = std::env::var("SMARTCITY_POWER_CUT_SEEDS").ok();
    0..seeds.map_or(2, |seeds| seeds.parse().unwrap())
}

#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    for seed in seeds() {
        let work = work(seed, Durability::Fsync);
        let steps = work.recorder.len();
        assert!(
            work.promises.len() > 60 && steps > 500,
            "{} {steps}",
            work.promises.len()
        );
        for count in (0..=steps).step_by(5).chain([steps]) {
            let broken = broken(&work, count, seed + count as u64);
            assert!(broken.is_empty(), "seed {seed}, cut behind step {count}: {broken:?}");
        }
        drop(work.dir);
    }
}

/// The replay can tell: what the system is free to keep back is lost where no one asks for it.
#[test]
fn without_syncs_a_power_cut_takes_records() {
    let work = work(1, Durability::Os);
    let steps = work.recorder.len();
    let lost = (0..=steps).step_by(50).any(|count| {
        let broken = broken(&work, count, count as u64);
        broken.iter().any(|promise| matches!(promise, Promise::Record { .. }))
    });
    assert!(lost);
}
