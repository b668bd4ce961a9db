//! The log against what should be in it, cut and broken wherever it can be.

#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as Code;
use proptest::prelude::*;
use tempfile::TempDir;

use super::batch::{BatchHeader, HEADER_BYTES, control_batch, with_append_time};
use super::*;

const NOW: i64 = 1_700_000_000_000;

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
        deletes: true,
    }
}

struct Batch {
    timestamps: Vec<i64>,
    value_len: usize,
    producer: Option<(i64, i16, i32)>,
    transactional: bool,
}

fn plain(count: usize) -> Batch {
    Batch {
        timestamps: (0..count as i64).map(|i| NOW + i).collect(),
        value_len: 10,
        producer: None,
        transactional: false,
    }
}

impl Batch {
    fn bytes(&self) -> Bytes {
        let base = self.timestamps[0];
        let mut records = BytesMut::new();
        for (i, &timestamp) in self.timestamps.iter().enumerate() {
            let mut record = BytesMut::new();
            record.put_i8(0);
            varlong(&mut record, timestamp - base);
            varlong(&mut record, i as i64);
            varlong(&mut record, -1);
            varlong(&mut record, self.value_len as i64);
            record.put_bytes(b'v', self.value_len);
            varlong(&mut record, 0);
            varlong(&mut records, record.len() as i64);
            records.put_slice(&record);
        }
        let (id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let mut bytes = BytesMut::new();
        // The client's own base offset and leader epoch: to be replaced.
        bytes.put_i64(77);
        bytes.put_i32((HEADER_BYTES - 12 + records.len()) as i32);
        bytes.put_i32(-1);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(if self.transactional { 0x10 } else { 0 });
        bytes.put_i32(self.timestamps.len() as i32 - 1);
        bytes.put_i64(base);
        bytes.put_i64(*self.timestamps.iter().max().unwrap());
        bytes.put_i64(id);
        bytes.put_i16(epoch);
        bytes.put_i32(sequence);
        bytes.put_i32(self.timestamps.len() as i32);
        bytes.put_slice(&records);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }
}

fn varlong(to: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.put_u8(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.put_u8(zigzag as u8);
}

fn open(dir: &Path, segment_bytes: u64) -> PartitionLog {
    PartitionLog::open(dir, config(segment_bytes), NOW).unwrap()
}

fn append(log: &mut PartitionLog, batch: &Batch) -> Result<Appended, LogError> {
    let bytes = batch.bytes();
    let header = BatchHeader::check(&bytes).unwrap();
    validate_records(&header, &bytes).unwrap();
    log.append(&header, &bytes, NOW)
}

/// Every batch's header from `offset` on, read chunk by chunk as a consumer does.
fn read_all(log: &PartitionLog, mut offset: i64, bytes_max: usize) -> Vec<BatchHeader> {
    let mut headers = Vec::new();
    while offset < log.high_watermark() {
        let (bytes, next_offset) = read(log, offset, i64::MAX, bytes_max, true);
        assert!(
            !bytes.is_empty(),
            "nothing at {offset}, the log ends at {}",
            log.high_watermark()
        );
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::check(rest).unwrap();
            rest = &rest[header.size..];
            headers.push(header);
        }
        offset = next_offset;
    }
    headers
}

/// One read's bytes and the offset behind them.
fn read(log: &PartitionLog, offset: i64, upper: i64, bytes_max: usize, at_least_one: bool) -> (Bytes, i64) {
    let Some(plan) = log.plan_read(offset, upper, bytes_max).unwrap() else {
        return (Bytes::new(), offset);
    };
    let chunk = plan.run(bytes_max, at_least_one).unwrap();
    let Some(range) = chunk.range else {
        return (Bytes::new(), offset);
    };
    let bytes = range.read().unwrap();
    assert!(chunk.bytes.is_none_or(|early| early == bytes));
    (bytes, chunk.next_offset)
}

#[test]
fn batches_come_back_with_the_brokers_offsets() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 1 << 20);
    assert_eq!(append(&mut log, &plain(3)).unwrap().base_offset, 0);
    assert_eq!(append(&mut log, &plain(5)).unwrap().base_offset, 3);
    assert_eq!(log.high_watermark(), 8);
    let (bytes, _) = read(&log, 4, i64::MAX, 1 << 20, true);
    let header = BatchHeader::check(&bytes).unwrap();
    assert_eq!((header.base_offset, header.next_offset()), (3, 8));
    // Beside offset and leader epoch the bytes are those of the producer.
    assert_eq!(bytes[16..], plain(5).bytes()[16..]);
    assert_eq!(bytes[12..16], [0; 4]);
    let plan = |offset| log.plan_read(offset, i64::MAX, 100);
    assert!(plan(8).unwrap().is_none());
    assert_eq!(plan(9).unwrap_err().code(), Code::OffsetOutOfRange);
    assert_eq!(plan(-1).unwrap_err().code(), Code::OffsetOutOfRange);
}

#[test]
fn a_read_gives_whole_batches_within_its_bounds() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 1 << 20);
    let size = plain(2).bytes().len();
    for _ in 0..10 {
        append(&mut log, &plain(2)).unwrap();
    }
    let read = |upper, bytes_max, at_least_one| read(&log, 3, upper, bytes_max, at_least_one);
    assert_eq!(read(i64::MAX, size * 3 + 1, false).0.len(), size * 3);
    assert_eq!(read(i64::MAX, 1, true).0.len(), size);
    assert_eq!(read(i64::MAX, 1, false).0.len(), 0);
    assert_eq!(read(6, 1 << 20, true).1, 6);
}

#[test]
fn a_log_cut_at_any_length_keeps_its_whole_batches() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    let mut ends = vec![0];
    {
        let mut log = open(dir.path(), 1 << 20);
        for count in [1, 3, 2] {
            append(&mut log, &plain(count)).unwrap();
            ends.push(log.size() as usize);
        }
    }
    let whole = fs::read(&file).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&file, &whole[..cut]).unwrap();
        let mut log = open(dir.path(), 1 << 20);
        let batches = ends.iter().filter(|&&end| end <= cut && end > 0).count();
        let expected = [0, 1, 4, 6][batches];
        assert_eq!(log.high_watermark(), expected, "cut at {cut}");
        assert_eq!(fs::metadata(&file).unwrap().len() as usize, ends[batches]);
        assert_eq!(append(&mut log, &plain(2)).unwrap().base_offset, expected);
        assert_eq!(read_all(&log, 0, 1 << 20).len(), batches + 1);
    }
}

#[test]
fn a_broken_last_batch_is_cut_off_whichever_byte_it_is() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    let first = {
        let mut log = open(dir.path(), 1 << 20);
        append(&mut log, &plain(1)).unwrap();
        let first = log.size() as usize;
        append(&mut log, &plain(1)).unwrap();
        first
    };
    let whole = fs::read(&file).unwrap();
    // Base offset and leader epoch stand outside the CRC; a base offset that goes back is noticed all the same.
    for at in (first + 8..first + 12).chain(first + 16..whole.len()) {
        let mut broken = whole.clone();
        broken[at] ^= 0x55;
        fs::write(&file, &broken).unwrap();
        assert_eq!(open(dir.path(), 1 << 20).high_watermark(), 1, "byte {at}");
    }
}

#[test]
fn closed_segments_are_read_by_their_index_files() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 4096);
    for i in 0..500 {
        append(
            &mut log,
            &Batch {
                value_len: 50 + i % 40,
                ..plain(1 + i % 4)
            },
        )
        .unwrap();
        if i % 7 == 0
            && let Some(upkeep) = log.take_upkeep()
        {
            upkeep.run().unwrap();
            log.upkeep_done(&upkeep);
        }
    }
    let expected = read_all(&log, 0, 3000);
    assert_eq!(expected.len(), 500);
    for offset in 0..log.high_watermark() {
        let header = BatchHeader::check(&read(&log, offset, i64::MAX, 1, true).0).unwrap();
        assert!(header.base_offset <= offset && offset < header.next_offset());
    }
    // Killed: the last segment is scanned. Closed: nothing is.
    for close in [false, true, false] {
        if close {
            log.close().unwrap();
        }
        drop(log);
        log = open(dir.path(), 4096);
        assert_eq!(read_all(&log, 0, 100_000), expected);
    }
}

#[test]
fn records_are_found_by_time_as_a_search_through_all_finds_them() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 2048);
    let mut all = Vec::new();
    for i in 0..200_i64 {
        // Out of order within and between batches.
        let timestamps: Vec<_> = (0..1 + i % 5)
            .map(|j| 1000 + i * 10 + (j * 7919 + i * 31) % 60)
            .collect();
        all.extend(&timestamps);
        append(&mut log, &Batch { timestamps, ..plain(1) }).unwrap();
    }
    let check = |log: &PartitionLog| {
        for target in (0..3200).step_by(3) {
            let naive = all
                .iter()
                .position(|&t| t >= target)
                .map(|offset| (offset as i64, all[offset]));
            let found = log
                .plan_timestamp(target, 0)
                .unwrap()
                .and_then(|plan| plan.run().unwrap());
            assert_eq!(found.map(|f| (f.offset, f.timestamp)), naive, "target {target}");
        }
        let latest = *all.iter().max().unwrap();
        let found = log.plan_max_timestamp().unwrap().unwrap().run().unwrap().unwrap();
        assert_eq!((found.timestamp, all[found.offset as usize]), (latest, latest));
    };
    check(&log);
    log.close().unwrap();
    check(&open(dir.path(), 2048));
}

#[test]
fn retention_and_deletion_move_the_start() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 2048);
    for i in 0..100 {
        append(
            &mut log,
            &Batch {
                timestamps: vec![NOW + i],
                value_len: 100,
                ..plain(1)
            },
        )
        .unwrap();
    }
    assert_eq!(log.delete_before(10).unwrap(), 10);
    assert_eq!(log.log_start(), 10);
    assert_eq!(
        log.plan_read(9, i64::MAX, 1).unwrap_err().code(),
        Code::OffsetOutOfRange
    );
    assert_eq!(read_all(&log, 10, 1 << 20).last().unwrap().next_offset(), 100);
    assert_eq!(log.delete_before(101).unwrap_err().code(), Code::OffsetOutOfRange);
    drop(log);
    let mut log = open(dir.path(), 2048);
    assert_eq!(log.log_start(), 10);
    log.set_config(LogConfig {
        retention_bytes: Some(6000),
        ..config(2048)
    });
    assert!(log.retain(NOW).unwrap() > 0);
    assert!((6000..6000 + 2 * 2048).contains(&log.size()), "{}", log.size());
    log.set_config(LogConfig {
        retention_ms: Some(1000),
        ..config(2048)
    });
    log.retain(NOW + 5000).unwrap();
    assert_eq!((log.log_start(), log.high_watermark()), (100, 100));
    assert_eq!(append(&mut log, &plain(1)).unwrap().base_offset, 100);
    drop(log);
    assert_eq!(open(dir.path(), 2048).high_watermark(), 101);
}

fn sequenced(sequence: i32, count: usize) -> Batch {
    Batch {
        producer: Some((1, 0, sequence)),
        ..plain(count)
    }
}

#[test]
fn a_producers_batches_are_taken_once_and_in_order() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 1 << 20);
    for i in 0..7 {
        assert_eq!(
            append(&mut log, &sequenced(i * 2, 2)).unwrap().base_offset,
            i64::from(i) * 2
        );
    }
    let check = |log: &mut PartitionLog| {
        for i in 2..7 {
            let again = append(log, &sequenced(i * 2, 2)).unwrap();
            assert!(again.duplicate);
            assert_eq!(again.base_offset, i64::from(i) * 2);
        }
        let code = |batch: Batch, log: &mut PartitionLog| append(log, &batch).unwrap_err().code();
        assert_eq!(code(sequenced(0, 2), log), Code::OutOfOrderSequenceNumber);
        assert_eq!(code(sequenced(16, 1), log), Code::OutOfOrderSequenceNumber);
        assert_eq!(code(sequenced(12, 1), log), Code::OutOfOrderSequenceNumber);
        let next_epoch = |sequence| Batch {
            producer: Some((1, 1, sequence)),
            ..plain(1)
        };
        assert_eq!(code(next_epoch(14), log), Code::OutOfOrderSequenceNumber);
    };
    check(&mut log);
    drop(log);
    // After a kill, after a clean end, and after a kill with a snapshot that is older than the log.
    let mut log = open(dir.path(), 1 << 20);
    check(&mut log);
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), 1 << 20);
    check(&mut log);
    assert_eq!(append(&mut log, &sequenced(14, 1)).unwrap().base_offset, 14);
    drop(log);
    let mut log = open(dir.path(), 1 << 20);
    assert!(append(&mut log, &sequenced(14, 1)).unwrap().duplicate);
    let next_epoch = |sequence| Batch {
        producer: Some((1, 1, sequence)),
        ..plain(1)
    };
    assert_eq!(append(&mut log, &next_epoch(0)).unwrap().base_offset, 15);
    assert_eq!(
        append(&mut log, &sequenced(15, 1)).unwrap_err().code(),
        Code::InvalidProducerEpoch
    );
    assert_eq!(log.high_watermark(), 16);
}

#[test]
fn sequences_wrap_to_zero() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 1 << 20);
    append(&mut log, &sequenced(i32::MAX - 1, 3)).unwrap();
    assert!(append(&mut log, &sequenced(i32::MAX - 1, 3)).unwrap().duplicate);
    assert_eq!(append(&mut log, &sequenced(1, 1)).unwrap().base_offset, 3);
}

#[test]
fn the_last_stable_offset_waits_for_open_transactions() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 700);
    let batch = |id, sequence| Batch {
        producer: Some((id, 0, sequence)),
        transactional: true,
        ..plain(2)
    };
    let end = |log: &mut PartitionLog, id, commit| {
        let marker = control_batch(id, 0, commit, NOW);
        log.append(&BatchHeader::check(&marker).unwrap(), &marker, NOW).unwrap()
    };
    append(&mut log, &plain(1)).unwrap();
    append(&mut log, &batch(1, 0)).unwrap();
    append(&mut log, &batch(2, 0)).unwrap();
    append(&mut log, &batch(1, 2)).unwrap();
    assert_eq!((log.last_stable_offset(), log.high_watermark()), (1, 7));
    assert_eq!(end(&mut log, 1, false).base_offset, 7);
    assert_eq!(log.last_stable_offset(), 3);
    let check = |log: &PartitionLog| {
        assert_eq!(log.last_stable_offset(), 3);
        let aborted = log.aborted_in(0, 100).unwrap();
        assert_eq!(
            aborted,
            [AbortedTransaction {
                producer_id: 1,
                first_offset: 1,
                last_offset: 7,
                stable_offset: 3
            }]
        );
        assert!(log.aborted_in(8, 100).unwrap().is_empty());
        assert!(log.aborted_in(0, 1).unwrap().is_empty());
        assert!(log.has_open_transaction(2) && !log.has_open_transaction(1));
    };
    check(&log);
    drop(log);
    let mut log = open(dir.path(), 700);
    check(&log);
    log.close().unwrap();
    drop(log);
    let mut log = open(dir.path(), 700);
    check(&log);
    end(&mut log, 2, true);
    assert_eq!(log.last_stable_offset(), 9);
    assert_eq!(log.aborted_in(0, 100).unwrap().len(), 1);
}

#[test]
fn the_brokers_time_is_written_under_a_new_crc() {
    let bytes = plain(3).bytes();
    let stamped = with_append_time(&bytes, NOW + 99);
    let header = BatchHeader::check(&stamped).unwrap();
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp, NOW + 99);
}

#[test]
fn records_that_are_not_as_the_header_says_are_refused() {
    let good = plain(3).bytes();
    let header = BatchHeader::check(&good).unwrap();
    assert_eq!(validate_records(&header, &good), Ok(()));
    for at in HEADER_BYTES..good.len() {
        let mut broken = good.to_vec();
        broken[at] = broken[at].wrapping_add(64);
        // A value's bytes can be anything; nothing here may panic.
        let _ = validate_records(&header, &broken);
    }
    assert!(
        validate_records(
            &BatchHeader {
                record_count: 2,
                ..header
            },
            &good
        )
        .is_err()
    );
    assert!(
        validate_records(
            &BatchHeader {
                record_count: 2,
                last_offset_delta: 1,
                ..header
            },
            &good
        )
        .is_err()
    );
}

#[test]
fn a_full_disk_refuses_writes_and_harms_nothing() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 1 << 20);
    append(&mut log, &plain(3)).unwrap();
    // A file opened for reading alone refuses writes as a full disk does.
    let file = dir.path().join("00000000000000000000.log");
    let writable = log.replace_file(Arc::new(OpenOptions::new().read(true).open(&file).unwrap()));
    assert_eq!(append(&mut log, &plain(1)).unwrap_err().code(), Code::KafkaStorageError);
    assert_eq!(read_all(&log, 0, 1 << 20).len(), 1);
    log.replace_file(writable);
    assert_eq!(append(&mut log, &plain(1)).unwrap().base_offset, 3);
    assert_eq!(read_all(&log, 0, 1 << 20).len(), 2);
}

#[test]
fn what_stands_beside_the_log_is_rebuilt_when_it_is_lost() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 700);
    for i in 0..40 {
        let batch = Batch {
            producer: Some((i % 3, 0, i as i32 / 3)),
            transactional: true,
            ..plain(1)
        };
        append(&mut log, &batch).unwrap();
        let marker = control_batch(i % 3, 0, i % 4 == 0, NOW);
        log.append(&BatchHeader::check(&marker).unwrap(), &marker, NOW).unwrap();
        if i == 20 {
            log.close().unwrap();
            drop(log);
            log = open(dir.path(), 700);
        }
    }
    let expected = log.aborted_in(0, i64::MAX).unwrap();
    assert_eq!(expected.len(), 30);
    log.close().unwrap();
    drop(log);
    let mut beside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    beside.retain(|path| path.extension().is_some_and(|e| e != "log"));
    assert!(beside.len() > 20);
    for lost in beside {
        let kept = fs::read(&lost);
        // Gone since, when an earlier round has opened the last segment.
        let Ok(kept) = kept else { continue };
        for cut in [None, Some(0), Some(kept.len() / 2), Some(kept.len() - 1)] {
            match cut {
                None => fs::remove_file(&lost).unwrap(),
                Some(cut) => fs::write(&lost, &kept[..cut]).unwrap(),
            }
            let mut log = open(dir.path(), 700);
            assert_eq!(
                log.aborted_in(0, i64::MAX).unwrap(),
                expected,
                "{cut:?} {}",
                lost.display()
            );
            assert_eq!(log.producers().len(), 3);
            log.close().unwrap();
        }
    }
}

#[test]
fn a_checkpoint_counts_until_the_system_starts_anew() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    let index = file.with_extension("index");
    let mut log = open(dir.path(), 1 << 20);
    let write = |log: &mut PartitionLog, from: i64, to: i64| {
        for i in from..to {
            let batch = Batch {
                producer: Some((i % 3, 0, i as i32 / 3)),
                transactional: true,
                ..plain(1)
            };
            append(log, &batch).unwrap();
            if i % 5 == 0 {
                let marker = control_batch(i % 3, 0, i % 2 == 0, NOW);
                log.append(&BatchHeader::check(&marker).unwrap(), &marker, NOW).unwrap();
            }
        }
    };
    write(&mut log, 0, 50);
    let checkpointed = log.size();
    log.take_upkeep().unwrap().run().unwrap();
    write(&mut log, 50, 60);
    let (end, aborted) = (log.high_watermark(), log.aborted_in(0, i64::MAX).unwrap());
    let producers = format!("{:?}", log.producers());
    drop(log);
    let check = |log: PartitionLog, end: i64| {
        assert_eq!(log.high_watermark(), end);
        assert_eq!(log.aborted_in(0, i64::MAX).unwrap(), aborted);
        assert_eq!(format!("{:?}", log.producers()), producers);
    };
    check(open(dir.path(), 1 << 20), end);
    // Only what is behind the checkpoint is scanned: a broken byte before it is not seen,
    let whole = fs::read(&file).unwrap();
    let mut broken = whole.clone();
    broken[100] ^= 1;
    fs::write(&file, &broken).unwrap();
    check(open(dir.path(), 1 << 20), end);
    // one behind it is,
    let mut broken = whole.clone();
    broken[checkpointed as usize + 30] ^= 1;
    fs::write(&file, &broken).unwrap();
    assert_eq!(open(dir.path(), 1 << 20).size(), checkpointed);
    // and after a power cut all of it is, with what follows from it.
    fs::write(&file, &whole).unwrap();
    let mut bytes = fs::read(&index).unwrap();
    bytes[70] ^= 1;
    let body = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_be_bytes());
    fs::write(&index, &bytes).unwrap();
    check(open(dir.path(), 1 << 20), end);
    let mut broken = whole;
    broken[100] ^= 1;
    fs::write(&file, &broken).unwrap();
    assert_eq!(open(dir.path(), 1 << 20).high_watermark(), 1);
}

#[test]
fn producers_beyond_the_bound_are_forgotten_oldest_first() {
    let dir = TempDir::new().unwrap();
    let mut log = open(dir.path(), 100 << 20);
    for id in 0..10_500 {
        let batch = Batch {
            timestamps: vec![NOW + id],
            producer: Some((id, 0, 0)),
            ..plain(1)
        };
        append(&mut log, &batch).unwrap();
    }
    let known = log.producers();
    assert!(known.len() <= 10_000, "{}", known.len());
    assert_eq!(
        (known[0].producer_id, known[known.len() - 1].producer_id),
        (1000, 10_499)
    );
}

/// The aborted transactions of a log, by the definition.
#[derive(Default)]
struct Naive {
    open: std::collections::BTreeMap<i64, i64>,
    /// Producer, first offset, marker's offset.
    aborted: Vec<(i64, i64, i64)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn aborted_transactions_are_told_whatever_happens(
        steps in prop::collection::vec((0_u8..12, 1_i64..5), 1..150),
        segment_bytes in 200_u64..3000,
    ) {
        let dir = TempDir::new().unwrap();
        let mut log = open(dir.path(), segment_bytes);
        let mut sequences = [0; 5];
        let mut naive = Naive::default();
        for (step, id) in steps {
            match step {
                0..6 => {
                    let sequence = sequences[id as usize];
                    sequences[id as usize] += 1;
                    let batch = Batch { producer: Some((id, 0, sequence)), transactional: true, ..plain(1) };
                    let at = append(&mut log, &batch).unwrap().base_offset;
                    naive.open.entry(id).or_insert(at);
                }
                6..10 => {
                    if let Some(start) = naive.open.remove(&id) {
                        let marker = control_batch(id, 0, step == 6, NOW);
                        let at = log.append(&BatchHeader::check(&marker).unwrap(), &marker, NOW).unwrap().base_offset;
                        if step != 6 {
                            naive.aborted.push((id, start, at));
                        }
                    }
                }
                10 => {
                    if let Some(upkeep) = log.take_upkeep() {
                        upkeep.run().unwrap();
                        log.upkeep_done(&upkeep);
                    }
                }
                _ => {
                    if id % 2 == 0 {
                        log.close().unwrap();
                    }
                    drop(log);
                    log = open(dir.path(), segment_bytes);
                }
            }
        }
        let end = log.high_watermark();
        for from in 0..=end {
            for to in [from + 1, from + 3, from + 20, end] {
                let expected: Vec<_> = naive.aborted.iter().filter(|a| a.2 >= from && a.1 < to).copied().collect();
                let found: Vec<_> = log.aborted_in(from, to).unwrap().iter().map(|a| (a.producer_id, a.first_offset, a.last_offset)).collect();
                prop_assert_eq!(found, expected, "[{}, {})", from, to);
            }
        }
    }

    #[test]
    fn a_log_killed_anywhere_keeps_a_whole_prefix(
        counts in prop::collection::vec((1_usize..6, 0_usize..300), 1..60),
        segment_bytes in 300_u64..3000,
        lost in 0_usize..400,
        bytes_max in 1_usize..2000,
    ) {
        let dir = TempDir::new().unwrap();
        let mut ends = vec![0];
        let mut log = open(dir.path(), segment_bytes);
        for &(count, value_len) in &counts {
            append(&mut log, &Batch { value_len, ..plain(count) }).unwrap();
            ends.push(log.high_watermark());
        }
        drop(log);
        let last = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap();
        let len = fs::metadata(&last).unwrap().len();
        OpenOptions::new().write(true).open(&last).unwrap().set_len(len.saturating_sub(lost as u64)).unwrap();
        let log = open(dir.path(), segment_bytes);
        let end = log.high_watermark();
        prop_assert!(ends.contains(&end));
        let batches = ends.iter().position(|&e| e == end).unwrap();
        let headers = read_all(&log, 0, bytes_max);
        prop_assert_eq!(headers.len(), batches);
        for (header, end) in headers.iter().zip(&ends[1..]) {
            prop_assert_eq!(header.next_offset(), *end);
        }
    }

    #[test]
    fn a_read_is_whole_batches_within_all_its_bounds(
        counts in prop::collection::vec((1_usize..6, 0_usize..9000), 1..60),
        segment_bytes in 5_000_u64..100_000,
        close in any::<bool>(),
        asks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..150_000), 1..20),
    ) {
        let dir = TempDir::new().unwrap();
        let mut log = open(dir.path(), segment_bytes);
        for &(count, value_len) in &counts {
            append(&mut log, &Batch { value_len, ..plain(count) }).unwrap();
        }
        if close && let Some(upkeep) = log.take_upkeep() {
            upkeep.run().unwrap();
            log.upkeep_done(&upkeep);
        }
        let headers = read_all(&log, 0, 10_000);
        prop_assert_eq!(headers.len(), counts.len());
        for (from, to, bytes_max) in asks {
            let first = from.index(headers.len());
            let upper = headers[first + to.index(headers.len() - first)].next_offset();
            // The last offset of a batch leads to it as well as its first.
            let (bytes, next_offset) = read(&log, headers[first].last_offset(), upper, bytes_max, true);
            let mut size = 0;
            let mut expected = Vec::new();
            for header in &headers[first..] {
                let fits = expected.is_empty() || size + header.size <= bytes_max;
                if header.base_offset >= upper || !fits {
                    break;
                }
                size += header.size;
                expected.push(header.base_offset);
            }
            let mut got = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let header = BatchHeader::check(rest).unwrap();
                rest = &rest[header.size..];
                got.push(header.base_offset);
                prop_assert!(next_offset >= header.next_offset());
            }
            // A read ends with its segment.
            prop_assert!(!got.is_empty() && expected.starts_with(&got), "{:?} is no start of {:?}", got, expected);
            let at_segment_end = headers.get(first + got.len()).is_some_and(|next| dir.path().join(format!("{:020}.log", next.base_offset)).exists());
            prop_assert!(got.len() == expected.len() || at_segment_end);
        }
    }

    #[test]
    fn random_bytes_are_no_batch(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(header) = BatchHeader::check(&bytes) {
            let _ = validate_records(&header, &bytes);
        }
    }
}
