//! Retention, deletion, and batches that are not taken as they are.

use proptest::prelude::*;

use super::super::batch::with_append_time;
use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn random_bytes_are_no_batch(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(header) = BatchHeader::check(&bytes) {
            let _ = validate_records(&header, &bytes);
        }
    }
}
