//! The records inside a batch: walked only to validate what a producer sent, to find a record by its time and to clean
//! a log. Fetching never comes here.

use std::borrow::Cow;
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

/// The most that a batch may unpack to where all of it has to be read: one of a compacted topic.
const BATCH_UNPACKED_MAX: usize = 64 << 20;

/// One record, in the unpacked records of its batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) offset_delta: i32,
    pub(super) timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    /// A record without a value is a tombstone.
    pub(super) has_value: bool,
    /// All of it, with its length.
    pub(super) bytes: &'a [u8],
    attributes: u8,
    /// What is behind the timestamp.
    rest: &'a [u8],
}

impl<'a> Record<'a> {
    /// What follows the key.
    #[cfg(test)]
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        let mut walk = Walk { bytes: self.rest };
        walk.varlong().ok()?;
        let key = walk.length().ok()?.unwrap_or(0);
        walk.skip(key).ok()?;
        let length = walk.length().ok()??;
        walk.bytes.get(..length)
    }

    /// Adds the record with another timestamp delta.
    pub(super) fn put_with(&self, timestamp_delta: i64, to: &mut Vec<u8>) {
        let mut delta = Vec::with_capacity(10);
        put_varlong(&mut delta, timestamp_delta);
        put_varlong(to, (1 + delta.len() + self.rest.len()) as i64);
        to.push(self.attributes);
        to.extend_from_slice(&delta);
        to.extend_from_slice(self.rest);
    }
}

fn put_varlong(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

/// The records of a batch, unpacked. Refused when they are more than 64 MiB.
pub(super) fn unpacked<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Cow<'a, [u8]>, &'static str> {
    if header.compression() == 0 {
        let records = batch.get(HEADER_BYTES..header.size).ok_or("the batch is cut off")?;
        return Ok(Cow::Borrowed(records));
    }
    let mut records = Vec::new();
    unpack(header, batch)?
        .take(BATCH_UNPACKED_MAX as u64 + 1)
        .read_to_end(&mut records)
        .map_err(|_| "records cannot be unpacked")?;
    if records.len() > BATCH_UNPACKED_MAX {
        return Err("the records of the batch are larger than 64 MiB when unpacked");
    }
    Ok(Cow::Owned(records))
}

/// Walks the unpacked records of a batch, each as it is when it fits its batch.
pub(super) fn each<'a>(
    header: &BatchHeader,
    unpacked: &'a [u8],
) -> impl Iterator<Item = Result<Record<'a>, &'static str>> {
    let last = header.last_offset_delta;
    let mut walk = Walk { bytes: unpacked };
    (0..header.record_count).map(move |_| {
        let record = walk.whole()?;
        if (0..=last).contains(&record.offset_delta) {
            Ok(record)
        } else {
            Err(OFFSET_DELTA)
        }
    })
}

/// The index of the first record without a key; an error when the records cannot be read.
pub(crate) fn first_without_key(header: &BatchHeader, batch: &[u8]) -> Result<Option<i32>, &'static str> {
    let unpacked = unpacked(header, batch)?;
    for record in each(header, &unpacked) {
        let record = record?;
        if record.key.is_none() {
            return Ok(Some(record.offset_delta));
        }
    }
    Ok(None)
}

/// Whether a control batch commits; `None` when it is no end marker.
pub(super) fn control_commits(batch: &[u8]) -> Option<bool> {
    let mut walk = Walk {
        bytes: batch.get(HEADER_BYTES..)?,
    };
    // Version and type, two bytes each.
    match walk.whole().ok()?.key? {
        [_, _, 0, 0, ..] => Some(false),
        [_, _, 0, 1, ..] => Some(true),
        _ => None,
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
}

impl<'a> Walk<'a> {
    /// The next record with what is in it.
    fn whole(&mut self) -> Result<Record<'a>, &'static str> {
        let start = self.bytes;
        let length = self.length()?.ok_or("record without a length")?;
        let behind = self.bytes.get(length..).ok_or("record goes past its batch")?;
        let mut inside = Walk {
            bytes: &self.bytes[..length],
        };
        self.bytes = behind;
        let (&attributes, after) = inside.bytes.split_first().ok_or("record is not as long as it says")?;
        inside.bytes = after;
        let timestamp_delta = inside.varlong()?;
        let rest = inside.bytes;
        let offset_delta = i32::try_from(inside.varlong()?).map_err(|_| OFFSET_DELTA)?;
        let key = match inside.length()? {
            Some(length) => {
                let key = inside.bytes.get(..length).ok_or("field goes past its batch")?;
                inside.skip(length)?;
                Some(key)
            }
            None => None,
        };
        let has_value = inside.length()?.is_some();
        Ok(Record {
            offset_delta,
            timestamp_delta,
            key,
            has_value,
            bytes: &start[..start.len() - behind.len()],
            attributes,
            rest,
        })
    }

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
