//! The records inside a batch: walked only to validate what a producer sent and to find a record by its time.
//! Fetching never comes here.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::RangeInclusive;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::unpack::unpack;

const OFFSET_DELTA: &str = "record offset is not in its batch";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordPlace {
    pub(crate) offset_delta: i32,
    pub(crate) timestamp_delta: i64,
}

/// Checks that a batch holds as many whole records as it says, numbered from 0. Compressed batches are taken at their
/// word: their CRC has been checked, and unpacking each would cost more than all the rest.
pub(crate) fn validate(header: &BatchHeader, batch: &[u8]) -> Result<(), &'static str> {
    if header.record_count == 0 || header.last_offset_delta != header.record_count - 1 {
        return Err("record count and last offset delta do not fit");
    }
    if header.compression() > 4 {
        return Err("unknown compression type");
    }
    if header.compression() != 0 {
        return Ok(());
    }
    let mut walk = Walk {
        bytes: &batch[HEADER_BYTES..],
    };
    for expected in 0..header.record_count {
        if walk.record()?.offset_delta != expected {
            return Err("record offsets are not consecutive");
        }
    }
    if walk.bytes.is_empty() {
        Ok(())
    } else {
        Err("bytes behind the last record")
    }
}

/// The first record from an offset on with a timestamp of at least `target`, as its offset and timestamp. `budget` is how
/// many more bytes this lookup may unpack; where it runs out, or the batch cannot be unpacked, the answer is the batch's
/// start, which costs a reader the records before the wanted one and skips none.
pub(super) fn first_at_or_after(
    header: &BatchHeader,
    batch: &[u8],
    target: i64,
    from_offset: i64,
    budget: &mut u64,
) -> Option<(i64, i64)> {
    if header.is_log_append_time() {
        let offset = header.base_offset.max(from_offset);
        return (header.max_timestamp >= target).then_some((offset, header.max_timestamp));
    }
    let wanted = |offset: i64, timestamp: i64| offset >= from_offset && timestamp >= target;
    let start = (header.base_offset.max(from_offset), header.max_timestamp);
    search(header, batch, wanted, budget).unwrap_or(Some(start))
}

/// The first record with a timestamp that is not in the range, as its index and timestamp; a producer may leave it out
/// (-1). Of a compressed batch the header's word is taken.
pub(super) fn first_outside(header: &BatchHeader, batch: &[u8], range: &RangeInclusive<i64>) -> Option<(i32, i64)> {
    let outside = |timestamp: i64| timestamp != -1 && !range.contains(&timestamp);
    if header.compression() != 0 {
        let told = [header.base_timestamp, header.max_timestamp];
        return told.into_iter().find(|&t| outside(t)).map(|t| (0, t));
    }
    let mut budget = batch.len() as u64;
    let found = search(header, batch, |_, timestamp| outside(timestamp), &mut budget);
    let (offset, timestamp) = found.ok().flatten()?;
    Some(((offset - header.base_offset) as i32, timestamp))
}

/// The first record whose offset and timestamp are `wanted`.
fn search(
    header: &BatchHeader,
    batch: &[u8],
    wanted: impl Fn(i64, i64) -> bool,
    budget: &mut u64,
) -> Result<Option<(i64, i64)>, &'static str> {
    let mut unpacked = BufReader::new(unpack(header, batch)?.take(*budget));
    for _ in 0..header.record_count {
        let record = next_record(&mut unpacked)?;
        // Compressed records were taken at their word when they came.
        if !(0..=header.last_offset_delta).contains(&record.offset_delta) {
            return Err(OFFSET_DELTA);
        }
        let offset = header.base_offset.saturating_add(i64::from(record.offset_delta));
        let timestamp = header.base_timestamp.saturating_add(record.timestamp_delta);
        if wanted(offset, timestamp) {
            return Ok(Some((offset, timestamp)));
        }
    }
    *budget = unpacked.into_inner().limit();
    Ok(None)
}

/// Reads a record's first fields and skips the rest of it.
fn next_record(from: &mut impl BufRead) -> Result<RecordPlace, &'static str> {
    let (length, _) = read_varlong(from)?;
    let length = u64::try_from(length).map_err(|_| "record without a length")?;
    skip(from, 1)?;
    let (timestamp_delta, first) = read_varlong(from)?;
    let (offset_delta, second) = read_varlong(from)?;
    let rest = length
        .checked_sub(1 + first + second)
        .ok_or("record is not as long as it says")?;
    skip(from, rest)?;
    Ok(RecordPlace {
        offset_delta: i32::try_from(offset_delta).map_err(|_| OFFSET_DELTA)?,
        timestamp_delta,
    })
}

fn skip(from: &mut impl BufRead, bytes: u64) -> Result<(), &'static str> {
    let skipped = io::copy(&mut from.take(bytes), &mut io::sink());
    if skipped.is_ok_and(|skipped| skipped == bytes) {
        Ok(())
    } else {
        Err("records end early")
    }
}

/// A zigzag varint, and the bytes it took.
fn read_varlong(from: &mut impl BufRead) -> Result<(i64, u64), &'static str> {
    let mut value = 0_u64;
    for i in 0..10 {
        let mut byte = [0];
        from.read_exact(&mut byte).map_err(|_| "records end early")?;
        value |= u64::from(byte[0] & 0x7f) << (7 * i);
        if byte[0] < 0x80 {
            return Ok(((value >> 1) as i64 ^ -((value & 1) as i64), i + 1));
        }
    }
    Err("varint does not end")
}

struct Walk<'a> {
    bytes: &'a [u8],
}

impl Walk<'_> {
    fn record(&mut self) -> Result<RecordPlace, &'static str> {
        let length = self.length()?.ok_or("record without a length")?;
        let rest = self
            .bytes
            .len()
            .checked_sub(length)
            .ok_or("record goes past its batch")?;
        self.skip(1)?;
        let timestamp_delta = self.varlong()?;
        let offset_delta = i32::try_from(self.varlong()?).map_err(|_| OFFSET_DELTA)?;
        for _ in 0..2 {
            if let Some(length) = self.length()? {
                self.skip(length)?;
            }
        }
        let headers = self.length()?.ok_or("negative header count")?;
        for _ in 0..headers {
            let key = self.length()?.ok_or("header without a key")?;
            self.skip(key)?;
            if let Some(value) = self.length()? {
                self.skip(value)?;
            }
        }
        if self.bytes.len() == rest {
            Ok(RecordPlace {
                offset_delta,
                timestamp_delta,
            })
        } else {
            Err("record is not as long as it says")
        }
    }

    /// A length of -1 stands for null.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        match self.varlong()? {
            -1 => Ok(None),
            length if length >= 0 => Ok(Some(length as usize)),
            _ => Err("negative length"),
        }
    }

    fn skip(&mut self, length: usize) -> Result<(), &'static str> {
        self.bytes = self.bytes.get(length..).ok_or("field goes past its batch")?;
        Ok(())
    }

    fn varlong(&mut self) -> Result<i64, &'static str> {
        let mut value = 0_u64;
        for (i, &byte) in self.bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.bytes = &self.bytes[i + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("varint does not end")
    }
}
