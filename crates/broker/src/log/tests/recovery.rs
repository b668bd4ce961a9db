//! Logs that were cut, broken, or lost what stood beside them.

use std::fs::{self, OpenOptions};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::batch::control_batch;
use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

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
}
