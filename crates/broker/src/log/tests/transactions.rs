//! Producers' sequences and transactions.

use proptest::prelude::*;

use super::super::aborted::AbortedTransaction;
use super::super::batch::control_batch;
use super::*;

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
}
