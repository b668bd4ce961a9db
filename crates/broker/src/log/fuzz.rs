//! The log's side of the fuzz targets.

use std::fs;
use std::path::Path;

#[cfg(test)]
use bytes::Bytes;

use super::batch::{BatchHeader, seal};
use super::records::first_at_or_after;
use super::{LogConfig, LogError, PartitionLog, TimestampType, control_batch};

const NOW: i64 = 1_700_000_000_000;
/// The files that an input of the segment target stands for, each behind its length in two bytes.
const FILES: [&str; 5] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.aborted",
    "producers.snapshot",
    "00000000000000000100.log",
];

/// Gives the batch at the start a good CRC.
pub(crate) fn seal_first(bytes: &mut [u8]) {
    if let Ok(header) = BatchHeader::parse(bytes)
        && let Some(batch) = bytes.get_mut(..header.size)
    {
        seal(batch);
    }
}

/// Looks for a few times in a batch.
pub(crate) fn find_all(header: &BatchHeader, batch: &[u8]) {
    for target in [i64::MIN, header.base_timestamp, header.max_timestamp, i64::MAX] {
        let mut budget = 1 << 20;
        let _ = first_at_or_after(header, batch, target, 0, &mut budget);
        assert!(budget <= 1 << 20);
    }
}

pub(crate) fn open_and_compare(dir: &Path, input: &[u8]) {
    let mut rest = input;
    for name in FILES {
        let Some((length, behind)) = rest.split_first_chunk() else {
            break;
        };
        let (content, behind) = behind.split_at(behind.len().min(u16::from_be_bytes(*length).into()));
        rest = behind;
        let mut content = content.to_vec();
        if name.ends_with("log") {
            let mut at = 0;
            while let Ok(header) = BatchHeader::parse(&content[at..]) {
                seal_first(&mut content[at..]);
                at = at.saturating_add(header.size).min(content.len());
            }
        } else if name.ends_with("index")
            && let Some((body, crc)) = content.split_last_chunk_mut::<4>()
        {
            // True in any run of the system, or the fuzzer could not write one.
            if let Some(boot) = body.get_mut(64..80) {
                boot.fill(0);
            }
            *crc = crc32c::crc32c(body).to_be_bytes();
        }
        if !content.is_empty() {
            fs::write(dir.join(name), content).expect("a file can be written");
        }
    }
    let open = || PartitionLog::open(dir, config(), NOW).expect("any files can be opened");
    let mut log = open();
    let (start, end) = (log.log_start(), log.high_watermark());
    assert!(start <= end);
    read_through(&log);
    let batch = control_batch(-1, -1, true, NOW);
    let header = BatchHeader::check(&batch).expect("a batch of our own");
    let appended = log.append(&header, &batch, NOW);
    let end = match appended {
        Ok(appended) => {
            assert_eq!(appended.base_offset, end);
            end + 1
        }
        Err(LogError::Refused(..)) => end,
        Err(error) => panic!("{error}"),
    };
    drop(log);
    let mut log = open();
    assert_eq!(log.high_watermark(), end, "after a kill");
    log.close().expect("a log can be closed");
    drop(log);
    let log = open();
    assert_eq!(log.high_watermark(), end, "after a clean end");
    read_through(&log);
}

/// Reads as consumers do, without the end of each read being any one's promise: files may be broken in the middle.
fn read_through(log: &PartitionLog) {
    let mut offset = log.log_start();
    for _ in 0..100 {
        let Ok(Some(plan)) = log.plan_read(offset, log.high_watermark(), 500) else {
            break;
        };
        match plan.run(500, true) {
            // Batches that overlap under good CRCs and a good index, which no broker writes, lead nowhere.
            Ok(chunk) if chunk.range.is_some() && chunk.next_offset > offset => offset = chunk.next_offset,
            _ => break,
        }
    }
    let _ = log.aborted_in(log.log_start(), log.high_watermark());
    for plan in [
        log.plan_timestamp(0, 0),
        log.plan_timestamp(NOW, 0),
        log.plan_max_timestamp(),
    ] {
        if let Ok(Some(plan)) = plan {
            let _ = plan.run();
        }
    }
    let _ = log.bytes_from(log.log_start(), log.high_watermark());
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        segment_ms: i64::MAX,
        message_bytes_max: 1 << 20,
        timestamp_type: TimestampType::Create,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        retention_ms: None,
        retention_bytes: None,
        deletes: true,
        compaction: None,
        waits_for_disk: false,
    }
}

/// One batch of every codec, some plain ones of producers, and transactions' ends.
#[cfg(test)]
pub(crate) fn sample_batches() -> Vec<(String, Bytes)> {
    use super::unpack::tests::batch;

    let mut all = Vec::new();
    for (name, codec) in [
        ("plain", 0),
        ("gzip", 1),
        ("snappy", 2),
        ("snappy-bare", -2),
        ("lz4", 3),
        ("zstd", 4),
    ] {
        all.push((name.to_owned(), batch(codec, 3, 20)));
    }
    for sequence in 0..2_i32 {
        let mut bytes = batch(0, 1, 5).to_vec();
        bytes[21..23].copy_from_slice(&0x10_i16.to_be_bytes());
        bytes[43..51].copy_from_slice(&7_i64.to_be_bytes());
        bytes[51..53].copy_from_slice(&0_i16.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
        seal(&mut bytes);
        all.push((format!("transactional-{sequence}"), bytes.into()));
    }
    all.push(("abort".to_owned(), control_batch(7, 0, false, NOW)));
    all.push(("commit".to_owned(), control_batch(7, 0, true, NOW)));
    for (_, batch) in &all {
        let header = BatchHeader::check(batch).expect("a good sample");
        assert!(header.is_control() || super::validate_records(&header, batch).is_ok());
    }
    all
}

/// Logs of those batches, as a kill and as a clean end leave them.
#[cfg(test)]
pub(crate) fn sample_segments(batches: &[(String, Bytes)]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for close in [false, true] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = PartitionLog::open(dir.path(), config(), NOW).expect("a new log");
        for (_, batch) in batches {
            let header = BatchHeader::check(batch).expect("a good sample");
            log.append(&header, batch, NOW).expect("a good sample");
        }
        if close {
            log.close().expect("a log can be closed");
        }
        drop(log);
        let mut input = Vec::new();
        for name in FILES {
            let content = fs::read(dir.path().join(name)).unwrap_or_default();
            input.extend_from_slice(&(content.len() as u16).to_be_bytes());
            input.extend_from_slice(&content);
        }
        all.push((if close { "closed" } else { "killed" }.to_owned(), input));
    }
    all
}
