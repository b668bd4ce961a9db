//! The log against what should be in it, cut and broken wherever it can be.

#![allow(clippy::unwrap_used)]

mod bounds;
mod reading;
mod recovery;
mod transactions;

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError as Code;
use tempfile::TempDir;

use super::batch::{BatchHeader, HEADER_BYTES};
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
        compaction: None,
        waits_for_disk: false,
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
