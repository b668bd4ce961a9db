//! Compacted logs against what they should hold, with every codec, transactions, little memory for keys, and a crash at
//! every step.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as Code;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::files::power_cut::Recorder;

use super::super::batch::{HEADER_BYTES, control_batch, seal};
use super::super::pack::pack;
use super::super::partition::PartitionLog;
use super::super::records::first_without_key;
use super::super::{LogConfig, TimestampType};
use super::*;

const NOW: i64 = 1_700_000_000_000;
const HORIZON: i64 = 1000;

fn config(segment_bytes: u64) -> LogConfig {
    LogConfig {
        segment_bytes,
        segment_ms: i64::MAX,
        message_bytes_max: 1 << 20,
        timestamp_type: TimestampType::Create,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        retention_ms: None,
        retention_bytes: None,
        deletes: false,
        compaction: Some(CompactionConfig {
            dirty_ratio_min: 0.0,
            delete_retention_ms: HORIZON,
            ..CompactionConfig::default()
        }),
        waits_for_disk: false,
    }
}

/// Timestamp, key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry(i64, Option<String>, Option<String>);

#[derive(Debug, Clone, Copy, Default)]
struct Sender {
    codec: i16,
    /// Id and sequence.
    producer: Option<(i64, i32)>,
    transactional: bool,
}

fn varlong(to: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.put_u8(zigzag as u8);
}

fn batch(entries: &[Entry], sender: Sender) -> Bytes {
    let base = entries[0].0;
    let mut records = BytesMut::new();
    for (i, Entry(timestamp, key, value)) in entries.iter().enumerate() {
        let mut record = BytesMut::new();
        record.put_i8(0);
        varlong(&mut record, timestamp - base);
        varlong(&mut record, i as i64);
        for field in [key, value] {
            varlong(&mut record, field.as_ref().map_or(-1, |field| field.len() as i64));
            record.put_slice(field.as_deref().unwrap_or("").as_bytes());
        }
        // One header, to be kept with the record.
        varlong(&mut record, 1);
        varlong(&mut record, 1);
        record.put_slice(b"h");
        varlong(&mut record, -1);
        varlong(&mut records, record.len() as i64);
        records.put_slice(&record);
    }
    let packed = pack(sender.codec, &records).unwrap();
    let (id, sequence) = sender.producer.unwrap_or((-1, -1));
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32((HEADER_BYTES - 12 + packed.len()) as i32);
    bytes.put_i32(0);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(sender.codec | if sender.transactional { 0x10 } else { 0 });
    bytes.put_i32(entries.len() as i32 - 1);
    bytes.put_i64(base);
    bytes.put_i64(entries.iter().map(|entry| entry.0).max().unwrap());
    bytes.put_i64(id);
    bytes.put_i16(if id < 0 { -1 } else { 0 });
    bytes.put_i32(sequence);
    bytes.put_i32(entries.len() as i32);
    bytes.put_slice(&packed);
    seal(&mut bytes);
    bytes.freeze()
}

fn append(log: &mut PartitionLog, batch: &Bytes, now_ms: i64) -> i64 {
    log.append(&BatchHeader::check(batch).unwrap(), batch, now_ms)
        .unwrap()
        .base_offset
}

fn put(log: &mut PartitionLog, key: &str, value: Option<&str>) -> i64 {
    let entry = Entry(NOW, Some(key.to_owned()), value.map(str::to_owned));
    append(log, &batch(&[entry], Sender::default()), NOW)
}

fn upkeep(log: &mut PartitionLog) {
    if let Some(due) = log.take_upkeep() {
        due.run().unwrap();
        log.upkeep_done(&due);
    }
}

/// A log that no one else has.
struct Alone<'a>(RefCell<&'a mut PartitionLog>);

impl Exchange for Alone<'_> {
    fn replace(&self, replacement: &Replacement) -> Result<bool, LogError> {
        self.0.borrow_mut().replace(replacement)
    }

    fn remove_replaced(&self, replacement: &Replacement) -> Result<(), LogError> {
        self.0.borrow_mut().remove_replaced(replacement)
    }
}

/// Cleans as often as something is due.
fn clean(log: &mut PartitionLog, keys_bytes_max: usize, now_ms: i64) -> Vec<Cleaned> {
    let mut passes = Vec::new();
    upkeep(log);
    while let Some(job) = log.plan_cleaning(now_ms) {
        let cleaned = job.run(keys_bytes_max, &Alone(RefCell::new(log))).unwrap();
        log.cleaned(cleaned.upto).unwrap();
        assert!(passes.len() < 1000, "the cleaner does not get on");
        passes.push(cleaned);
    }
    passes
}

/// Every record that is in the log, with its offset, and the producer where it is of a transaction.
fn read(log: &PartitionLog) -> BTreeMap<i64, (Entry, Option<i64>)> {
    let mut found = BTreeMap::new();
    let mut offset = log.log_start();
    while offset < log.end_offset() {
        let plan = log.plan_read(offset, i64::MAX, 700).unwrap().unwrap();
        let chunk = plan.run(700, true).unwrap();
        let Some(range) = chunk.range else {
            panic!("nothing at {offset} of {}", log.end_offset());
        };
        let bytes = range.read().unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::check(rest).unwrap();
            assert!(header.next_offset() > offset, "batches go back");
            let records = unpacked(&header, &rest[..header.size]).unwrap();
            for record in each(&header, &records)
                .map(Result::unwrap)
                .filter(|_| !header.is_control())
            {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let value = record.value().map(text);
                let timestamp = header.base_timestamp + record.timestamp_delta;
                let entry = Entry(timestamp, record.key.map(text), value);
                let producer = header.is_transactional().then_some(header.producer_id);
                found.insert(header.base_offset + i64::from(record.offset_delta), (entry, producer));
            }
            offset = header.next_offset();
            rest = &rest[header.size..];
        }
    }
    found
}

/// What a reader of committed records makes of the log, as a table.
fn table(log: &PartitionLog) -> BTreeMap<String, String> {
    let aborted = log.aborted_in(0, i64::MAX).unwrap();
    let mut table = BTreeMap::new();
    for (offset, (Entry(_, key, value), producer)) in read(log) {
        let is_aborted = aborted.iter().any(|aborted| {
            Some(aborted.producer_id) == producer && (aborted.first_offset..=aborted.last_offset).contains(&offset)
        });
        if is_aborted || offset >= log.last_stable_offset() {
            continue;
        }
        match (key, value) {
            (Some(key), Some(value)) => drop(table.insert(key, value)),
            (Some(key), None) => drop(table.remove(&key)),
            (None, _) => {}
        }
    }
    table
}

fn files(dir: &Path, extension: &str) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|it| it == extension))
        .count()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(600), NOW).unwrap();
    for round in 0..30 {
        for key in ["a", "b", "c"] {
            put(&mut log, key, Some(&format!("{key}{round}")));
        }
    }
    put(&mut log, "once", Some("1"));
    let (before, segments) = (table(&log), files(dir.path(), "log"));
    assert!(segments > 10);
    let passes = clean(&mut log, 1 << 20, NOW);
    assert_eq!(passes.len(), 1);
    assert!(passes[0].counts.records_removed > 70 && passes[0].bytes_after < passes[0].bytes_before / 5);
    assert_eq!(table(&log), before);
    assert!(log.plan_cleaning(NOW).is_none());
    // All but the records of the segment being written, which is left alone, are the last of their keys.
    let records = read(&log);
    assert!(records.len() < 15, "{records:?}");
    assert_eq!(records.keys().next_back(), Some(&90));
    assert_eq!((log.log_start(), log.end_offset()), (0, 91));
    drop(log);
    let log = PartitionLog::open(dir.path(), config(600), NOW).unwrap();
    assert_eq!((read(&log), log.end_offset()), (records, 91));
    let mut log = log;
    assert!(log.plan_cleaning(NOW).is_none(), "what is clean is remembered");
    (0..10).for_each(|i| {
        put(&mut log, "d", Some(&i.to_string()));
    });
    let before = table(&log);
    clean(&mut log, 1 << 20, NOW);
    assert!(
        files(dir.path(), "log") <= 4,
        "what became small is joined by the next pass"
    );
    assert_eq!(table(&log), before);
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(200), NOW).unwrap();
    put(&mut log, "gone", Some("1"));
    let tombstone = put(&mut log, "gone", None);
    let fill = |log: &mut PartitionLog| {
        (0..5).for_each(|_| {
            put(log, "other", Some("xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
        })
    };
    fill(&mut log);
    clean(&mut log, 1 << 20, NOW);
    let at = |log: &PartitionLog| read(log).get(&tombstone).cloned();
    assert_eq!(read(&log).keys().next(), Some(&tombstone), "what it deletes is gone");
    let kept = at(&log).unwrap();
    assert_eq!(kept.0, Entry(NOW, Some("gone".to_owned()), None), "with its time");
    fill(&mut log);
    clean(&mut log, 1 << 20, NOW + HORIZON - 1);
    assert_eq!(at(&log), Some(kept));
    fill(&mut log);
    clean(&mut log, 1 << 20, NOW + HORIZON);
    assert_eq!(at(&log), None);
    assert_eq!(table(&log).keys().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn open_transactions_and_what_is_behind_them_are_left_alone() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(250), NOW).unwrap();
    let entry = |value: &str| Entry(NOW, Some("k".to_owned()), Some(value.to_owned()));
    let of = |id, sequence| Sender {
        producer: Some((id, sequence)),
        transactional: true,
        codec: 0,
    };
    (0..4).for_each(|i| {
        put(&mut log, "k", Some(&i.to_string()));
    });
    append(&mut log, &batch(&[entry("open")], of(1, 0)), NOW);
    (0..8).for_each(|i| {
        put(&mut log, "k", Some(&i.to_string()));
    });
    clean(&mut log, 1 << 20, NOW);
    assert!(read(&log).contains_key(&4) && read(&log).contains_key(&5));
    append(&mut log, &control_batch(1, 0, false, NOW), NOW);
    append(&mut log, &batch(&[entry("next")], of(1, 1)), NOW);
    append(&mut log, &control_batch(1, 0, true, NOW), NOW);
    (0..8).for_each(|i| {
        put(&mut log, "other", Some(&i.to_string()));
    });
    clean(&mut log, 1 << 20, NOW);
    assert!(!read(&log).contains_key(&4), "an aborted record goes");
    assert_eq!(table(&log)["k"], "next");
    // Readers who saw the aborted record need its marker for a while.
    let markers = |log: &PartitionLog| headers(log).iter().filter(|header| header.is_control()).count();
    assert_eq!(markers(&log), 2);
    (0..8).for_each(|i| {
        put(&mut log, "other", Some(&i.to_string()));
    });
    clean(&mut log, 1 << 20, NOW + 1);
    (0..8).for_each(|i| {
        put(&mut log, "other", Some(&i.to_string()));
    });
    clean(&mut log, 1 << 20, NOW + 10 * HORIZON);
    assert_eq!(markers(&log), 1, "that of the committed record stays with it");
    assert_eq!(table(&log)["k"], "next");
}

fn headers(log: &PartitionLog) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    let mut offset = 0;
    while offset < log.end_offset() {
        let chunk = log
            .plan_read(offset, i64::MAX, 1)
            .unwrap()
            .unwrap()
            .run(1, true)
            .unwrap();
        let bytes = chunk.range.unwrap().read().unwrap();
        let header = BatchHeader::check(&bytes).unwrap();
        offset = header.next_offset();
        headers.push(header);
    }
    headers
}

#[test]
fn a_producers_last_batch_stays_without_its_records() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(400), NOW).unwrap();
    let entry = Entry(NOW, Some("k".to_owned()), Some("v".to_owned()));
    let send = |sequence| {
        let sender = Sender {
            codec: 4,
            producer: Some((7, sequence)),
            transactional: false,
        };
        batch(&[entry.clone(), entry.clone()], sender)
    };
    append(&mut log, &send(0), NOW);
    let last = append(&mut log, &send(2), NOW);
    (0..8).for_each(|_| {
        put(&mut log, "k", Some("later"));
    });
    clean(&mut log, 1 << 20, NOW);
    let of_producer: Vec<_> = headers(&log).into_iter().filter(BatchHeader::has_producer).collect();
    assert_eq!(of_producer.len(), 1);
    assert_eq!((of_producer[0].base_offset, of_producer[0].record_count), (last, 0));
    drop(log);
    // Also when all that stands beside the segments is lost.
    for entry in fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_none_or(|extension| extension != "log") {
            fs::remove_file(entry).unwrap();
        }
    }
    let mut log = PartitionLog::open(dir.path(), config(400), NOW).unwrap();
    let again = send(2);
    let again = log.append(&BatchHeader::check(&again).unwrap(), &again, NOW).unwrap();
    assert_eq!((again.duplicate, again.base_offset), (true, last));
    append(&mut log, &send(4), NOW);
}

#[test]
fn a_batch_that_cannot_be_read_is_left_with_the_tombstones_behind_it() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(200), NOW).unwrap();
    let mut odd = batch(
        &[Entry(NOW, Some("k".to_owned()), Some("old".to_owned()))],
        Sender::default(),
    )
    .to_vec();
    odd[22] = 4;
    seal(&mut odd);
    append(&mut log, &odd.into(), NOW);
    let tombstone = put(&mut log, "k", None);
    for round in 0..3 {
        (0..5).for_each(|_| {
            put(&mut log, "other", Some("xxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
        });
        let passes = clean(&mut log, 1 << 20, NOW + round * 2 * HORIZON);
        assert!(passes.iter().all(|pass| pass.counts.batches_unreadable > 0));
    }
    let offsets: Vec<_> = headers(&log).iter().map(|header| header.base_offset).collect();
    assert_eq!(offsets[..2], [0, tombstone]);
}

#[test]
fn a_broken_batch_stops_the_cleaner_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(300), NOW).unwrap();
    (0..20).for_each(|_| {
        put(&mut log, "k", Some("v"));
    });
    upkeep(&mut log);
    let path = dir.path().join("00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let job = log.plan_cleaning(NOW).unwrap();
    let error = job.run(1 << 20, &Alone(RefCell::new(&mut log))).unwrap_err();
    assert_eq!(error.code(), Code::KafkaStorageError);
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(files(dir.path(), "cleaned"), 0);
}

#[test]
fn retention_and_deletion_come_between() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(300), NOW).unwrap();
    (0..40).for_each(|i| {
        put(&mut log, &i.to_string(), Some("v"));
    });
    upkeep(&mut log);
    let job = log.plan_cleaning(NOW).unwrap();
    log.delete_before(20).unwrap();
    let cleaned = job.run(1 << 20, &Alone(RefCell::new(&mut log)));
    assert!(cleaned.is_err() || cleaned.is_ok_and(|cleaned| cleaned.upto == 0));
    assert_eq!(read(&log).len(), 20);
    // A topic that is gone is not written to: its folder may be another one's.
    let job = log.plan_cleaning(NOW).unwrap();
    log.set_deleted(true);
    let count = files(dir.path(), "log");
    job.run(1 << 20, &Alone(RefCell::new(&mut log))).unwrap();
    assert_eq!((files(dir.path(), "log"), files(dir.path(), "cleaned")), (count, 0));
}

#[test]
fn readers_with_an_old_plan_find_the_old_file_or_none() {
    let dir = TempDir::new().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(300), NOW).unwrap();
    (0..40).for_each(|_| {
        put(&mut log, "k", Some("v"));
    });
    upkeep(&mut log);
    let plan = log.plan_read(3, i64::MAX, 100).unwrap().unwrap();
    clean(&mut log, 1 << 20, NOW);
    assert!(matches!(plan.run(100, true), Err(LogError::Gone { .. })));
    assert!(!read(&log).is_empty());
}

#[test]
fn records_without_a_key_are_found() {
    let entry = |key: Option<&str>| Entry(NOW, key.map(str::to_owned), None);
    for codec in 0..5 {
        let sender = Sender {
            codec,
            ..Sender::default()
        };
        let good = batch(&[entry(Some("a")), entry(Some(""))], sender);
        let header = BatchHeader::check(&good).unwrap();
        assert_eq!(first_without_key(&header, &good), Ok(None));
        let bad = batch(&[entry(Some("a")), entry(None)], sender);
        let header = BatchHeader::check(&bad).unwrap();
        assert_eq!(first_without_key(&header, &bad), Ok(Some(1)));
    }
}

/// Kills and power cuts behind every step of a pass: the log that is opened then holds the same table, and goes on.
#[test]
fn a_crash_at_any_step_of_a_pass_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("log");
    fs::create_dir(&root).unwrap();
    let recorder = Recorder::start(&root);
    let mut log = PartitionLog::open(&root, config(700), NOW).unwrap();
    let of = |sequence| Sender {
        codec: (sequence % 5) as i16,
        producer: Some((1, sequence)),
        transactional: true,
    };
    for i in 0..60 {
        put(
            &mut log,
            &(i % 7).to_string(),
            (i % 5 > 0).then_some(&i.to_string()[..]),
        );
        if i % 6 == 0 {
            let entry = Entry(NOW, Some("t".to_owned()), Some(i.to_string()));
            append(&mut log, &batch(&[entry], of(i / 6)), NOW);
            append(&mut log, &control_batch(1, 0, i % 4 == 0, NOW), NOW);
        }
    }
    let mut crashes = 0;
    for pass in 0..3 {
        for i in 0..20 {
            put(&mut log, &(i % 9).to_string(), Some("again"));
        }
        upkeep(&mut log);
        log.take_unsynced().0.iter().try_for_each(|file| file.sync()).unwrap();
        files::sync_dir(&root).unwrap();
        let (expected, end, producers) = (table(&log), log.end_offset(), format!("{:?}", log.producers()));
        let from = recorder.len();
        clean(&mut log, 1 << 20, NOW + pass * 2 * HORIZON);
        assert_eq!(table(&log), expected);
        for count in from..=recorder.len() {
            for seed in 0..4 {
                let copy = TempDir::new().unwrap();
                match seed {
                    0 => recorder.kill(count, copy.path()),
                    seed => recorder.cut(count, seed + count as u64, copy.path()),
                }
                let mut log = PartitionLog::open(copy.path(), config(700), NOW).unwrap();
                assert_eq!(table(&log), expected, "pass {pass}, step {count}, seed {seed}");
                assert_eq!(log.end_offset(), end, "pass {pass}, step {count}, seed {seed}");
                assert_eq!(format!("{:?}", log.producers()), producers);
                clean(&mut log, 1 << 20, NOW + pass * 2 * HORIZON);
                assert_eq!(table(&log), expected);
                assert_eq!((files(copy.path(), "cleaned"), files(copy.path(), "tmp")), (0, 0));
                put(&mut log, "0", Some("after"));
                crashes += 1;
            }
        }
    }
    assert!(crashes > 200, "{crashes}");
}

#[derive(Debug, Clone)]
enum Action {
    Put(Vec<(u8, bool)>, i16),
    Send(u8, Vec<(u8, bool)>, i16, bool),
    End(u8, bool),
    Clean(usize),
    Wait,
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let entries = || prop::collection::vec((0_u8..12, prop::bool::weighted(0.7)), 1..5);
    prop_oneof![
        5 => (entries(), 0_i16..5).prop_map(|(entries, codec)| Action::Put(entries, codec)),
        5 => (0_u8..3, entries(), 0_i16..5, any::<bool>())
            .prop_map(|(id, entries, codec, transactional)| Action::Send(id, entries, codec, transactional)),
        3 => (0_u8..3, any::<bool>()).prop_map(|(id, commit)| Action::End(id, commit)),
        2 => (0_usize..600).prop_map(Action::Clean),
        1 => Just(Action::Wait),
        1 => Just(Action::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn a_compacted_log_is_the_same_table_whatever_happens(
        actions in prop::collection::vec(action(), 1..120),
        segment_bytes in 200_u64..2500,
    ) {
        let dir = TempDir::new().unwrap();
        let mut log = PartitionLog::open(dir.path(), config(segment_bytes), NOW).unwrap();
        let mut now = NOW;
        let mut number = 0;
        let mut sequences = [0_i32; 6];
        let mut open = [false; 3];
        // All that was ever written, for a look at what stays.
        let mut written: BTreeMap<i64, Entry> = BTreeMap::new();
        // The table, and what open transactions would make of it.
        let mut expected: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
        let mut pending: [Vec<(String, i64, Option<String>)>; 3] = Default::default();
        let mut is_undecided = false;
        for action in actions.into_iter().chain([Action::End(0, true), Action::End(1, false), Action::End(2, true), Action::Clean(100_000)]) {
            let mut entries_of = |entries: &[(u8, bool)]| -> Vec<Entry> {
                entries.iter().map(|(key, has_value)| {
                    number += 1;
                    Entry(now + number % 3, Some(key.to_string()), has_value.then(|| number.to_string()))
                }).collect()
            };
            let apply = |expected: &mut BTreeMap<String, (i64, Option<String>)>, key: String, offset: i64, value| {
                let last = expected.entry(key).or_insert((-1, None));
                if offset > last.0 {
                    *last = (offset, value);
                }
            };
            match action {
                Action::Put(entries, codec) => {
                    let entries = entries_of(&entries);
                    let base = append(&mut log, &batch(&entries, Sender { codec, ..Sender::default() }), now);
                    for (i, entry) in entries.into_iter().enumerate() {
                        apply(&mut expected, entry.1.clone().unwrap(), base + i as i64, entry.2.clone());
                        written.insert(base + i as i64, entry);
                    }
                }
                Action::Send(id, entries, codec, transactional) => {
                    // Idempotent producers and transactional ones have ids of their own.
                    let producer = if transactional { i64::from(id) } else { i64::from(id) + 3 };
                    let entries = entries_of(&entries);
                    let sequence = &mut sequences[producer as usize];
                    let sender = Sender { codec, producer: Some((producer, *sequence)), transactional };
                    *sequence += entries.len() as i32;
                    let base = append(&mut log, &batch(&entries, sender), now);
                    for (i, entry) in entries.into_iter().enumerate() {
                        let (key, offset, value) = (entry.1.clone().unwrap(), base + i as i64, entry.2.clone());
                        written.insert(offset, entry);
                        if transactional {
                            open[id as usize] = true;
                            pending[id as usize].push((key, offset, value));
                        } else {
                            apply(&mut expected, key, offset, value);
                        }
                    }
                }
                Action::End(id, commit) => {
                    if std::mem::take(&mut open[id as usize]) {
                        append(&mut log, &control_batch(i64::from(id), 0, commit, now), now);
                        for (key, offset, value) in std::mem::take(&mut pending[id as usize]) {
                            if commit {
                                apply(&mut expected, key, offset, value);
                            }
                        }
                    }
                }
                Action::Clean(keys_bytes) => drop(clean(&mut log, keys_bytes, now)),
                Action::Wait => now += HORIZON / 2,
                Action::Reopen => {
                    let (end, stable) = (log.end_offset(), log.last_stable_offset());
                    let sequences: Vec<_> = log.producers().iter().map(|p| (p.producer_id, p.last_sequence)).collect();
                    if number % 2 == 0 {
                        log.close().unwrap();
                    }
                    drop(log);
                    log = PartitionLog::open(dir.path(), config(segment_bytes), now).unwrap();
                    prop_assert_eq!((log.end_offset(), log.last_stable_offset()), (end, stable));
                    let after: Vec<_> = log.producers().iter().map(|p| (p.producer_id, p.last_sequence)).collect();
                    prop_assert_eq!(after, sequences);
                }
            }
            is_undecided = open.iter().any(|&open| open);
            if !is_undecided {
                let live: BTreeMap<_, _> = expected.iter().filter_map(|(key, (_, value))| Some((key.clone(), value.clone()?))).collect();
                prop_assert_eq!(table(&log), live);
            }
            for (offset, (entry, _)) in read(&log) {
                prop_assert_eq!(&entry, &written[&offset], "offset {}", offset);
            }
        }
        prop_assert!(!is_undecided);
        // In the end nothing but the last record of each key is left in what was cleaned.
        let active = log.plan_cleaning(now).is_none();
        prop_assert!(active, "something is still due");
    }
}
