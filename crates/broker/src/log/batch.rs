//! The header of a record batch, version 2 (KIP-98), and its checks.
//!
//! Base offset and leader epoch stand outside the CRC, so the broker sets them without touching the rest.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a batch before its records.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length field does not count: the base offset and the length itself.
const BEFORE_LENGTH: usize = 12;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;

const COMPRESSION_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// The base timestamp is the batch's delete horizon (KIP-534).
const DELETE_HORIZON: i16 = 0x40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// The whole batch, in bytes.
    pub(crate) size: usize,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) record_count: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchFault {
    /// The bytes end before the batch does.
    CutOff,
    /// No batch of version 2.
    Magic(i8),
    /// Length, counts or offsets that cannot be.
    Malformed(&'static str),
    Crc,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may end before the batch does (but not before its header).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BatchFault> {
        if bytes.len() < HEADER_BYTES {
            return Err(match bytes.get(16) {
                Some(&magic) if magic != 2 => BatchFault::Magic(magic as i8),
                _ => BatchFault::CutOff,
            });
        }
        let header = Self {
            base_offset: i64_at(bytes, 0),
            size: BEFORE_LENGTH.saturating_add(i32_at(bytes, 8).max(0) as usize),
            attributes: i16_at(bytes, 21),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp: i64_at(bytes, 27),
            max_timestamp: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            producer_epoch: i16_at(bytes, 51),
            base_sequence: i32_at(bytes, 53),
            record_count: i32_at(bytes, 57),
        };
        if bytes[16] != 2 {
            return Err(BatchFault::Magic(bytes[16] as i8));
        }
        if header.size < HEADER_BYTES {
            return Err(BatchFault::Malformed("batch length is shorter than a header"));
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(BatchFault::Malformed("negative record count"));
        }
        Ok(header)
    }

    /// Reads and checks one whole batch, CRC included; `bytes` may go on behind it.
    pub(crate) fn check(bytes: &[u8]) -> Result<Self, BatchFault> {
        let header = Self::parse(bytes)?;
        let batch = bytes.get(..header.size).ok_or(BatchFault::CutOff)?;
        if crc32c::crc32c(&batch[CRC_FROM..]) != u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]) {
            return Err(BatchFault::Crc);
        }
        Ok(header)
    }

    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    pub(crate) fn compression(&self) -> i16 {
        self.attributes & COMPRESSION_MASK
    }

    pub(crate) fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When the tombstones in a cleaned batch, or the marker that it is, may go, in milliseconds; `None` until the
    /// cleaner has come by.
    pub(crate) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    pub(crate) fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequences wrap from the largest i32 to 0.
    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

pub(crate) fn sequence_after(sequence: i32, by: i32) -> i32 {
    ((i64::from(sequence) + i64::from(by)) % (1 << 31)) as i32
}

/// The first 16 bytes of a batch with our offset and leader epoch in place of the client's.
pub(crate) fn patched_prefix(batch: &[u8], base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
    prefix[8..12].copy_from_slice(&batch[8..12]);
    prefix[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    prefix
}

/// The batch with the broker's time as that of every record (`message.timestamp.type=LogAppendTime`).
pub(crate) fn with_append_time(batch: &[u8], now_ms: i64) -> Bytes {
    let mut bytes = BytesMut::from(batch);
    let attributes = i16_at(batch, 21) | LOG_APPEND_TIME;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&now_ms.to_be_bytes());
    seal(&mut bytes);
    bytes.freeze()
}

/// What the cleaner changes of a batch. Its offsets, its producer and its sequences stay.
pub(super) struct Rewrite<'a> {
    pub(super) record_count: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Whether the base timestamp is a delete horizon.
    pub(super) has_horizon: bool,
    /// Compressed as the batch was.
    pub(super) records: &'a [u8],
}

/// The batch with these records in place of its own.
pub(super) fn rewritten(batch: &[u8], rewrite: &Rewrite<'_>) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + rewrite.records.len());
    bytes.put_slice(&batch[..HEADER_BYTES]);
    bytes.put_slice(rewrite.records);
    let length = (bytes.len() - BEFORE_LENGTH) as i32;
    bytes[8..BEFORE_LENGTH].copy_from_slice(&length.to_be_bytes());
    let mut attributes = i16_at(batch, 21);
    if rewrite.has_horizon {
        attributes |= DELETE_HORIZON;
    }
    if rewrite.record_count == 0 {
        // There is nothing to unpack.
        attributes &= !COMPRESSION_MASK;
    }
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[27..35].copy_from_slice(&rewrite.base_timestamp.to_be_bytes());
    bytes[35..43].copy_from_slice(&rewrite.max_timestamp.to_be_bytes());
    bytes[57..61].copy_from_slice(&rewrite.record_count.to_be_bytes());
    seal(&mut bytes);
    bytes.freeze()
}

/// A transaction's end marker: one control record, version 0.
pub(crate) fn control_batch(producer_id: i64, producer_epoch: i16, commit: bool, now_ms: i64) -> Bytes {
    // Key: version 0, type (0 abort, 1 commit). Value: version 0, coordinator epoch 0. Lengths are zigzag varints.
    let record = [0, 0, 0, 8, 0, 0, 0, u8::from(commit), 12, 0, 0, 0, 0, 0, 0, 0];
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + 1 + record.len());
    bytes.put_i64(0);
    bytes.put_i32((HEADER_BYTES - BEFORE_LENGTH + 1 + record.len()) as i32);
    bytes.put_i32(0);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(TRANSACTIONAL | CONTROL);
    bytes.put_i32(0);
    bytes.put_i64(now_ms);
    bytes.put_i64(now_ms);
    bytes.put_i64(producer_id);
    bytes.put_i16(producer_epoch);
    bytes.put_i32(-1);
    bytes.put_i32(1);
    bytes.put_u8((record.len() as u8) << 1);
    bytes.put_slice(&record);
    seal(&mut bytes);
    bytes.freeze()
}

pub(super) fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    i64::from_be_bytes(word)
}
