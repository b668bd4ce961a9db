//! What is appended is read back, by offset and by time.

use proptest::prelude::*;

use super::*;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

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
}
