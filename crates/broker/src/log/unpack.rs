//! The records of a compressed batch as a stream, in little memory whatever a hostile producer claims.
//!
//! A megabyte can unpack to gigabytes, so nothing is unpacked whole: a decoder holds its window, and the reader decides
//! how far to go. The codecs' own libraries are used for their streams; `kafka_protocol` unpacks into one buffer.

use std::io::{self, Cursor, Read};

use super::batch::{BatchHeader, HEADER_BYTES};

/// Windows up to 8 MiB: what zstd's levels up to 19 use. A larger one would be memory that a producer chooses.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A snappy block is unpacked whole.
const SNAPPY_BLOCK_MAX: usize = 64 << 20;
/// The format's densest element copies 64 bytes and takes 3.
const SNAPPY_RATIO_MAX: usize = 22;
/// The frames that Java clients write: a header, then blocks with their lengths.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;

/// The records of a batch, unpacked as they are read.
pub(super) fn unpack<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Box<dyn Read + 'a>, &'static str> {
    let packed = batch.get(HEADER_BYTES..header.size).ok_or("the batch is cut off")?;
    let broken = |_| "records cannot be unpacked";
    Ok(match header.compression() {
        0 => Box::new(packed),
        1 => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        2 => Box::new(SnappyReader::new(packed)),
        3 => Box::new(lz4::Decoder::new(packed).map_err(broken)?),
        4 => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            Box::new(decoder)
        }
        _ => return Err("unknown compression type"),
    })
}

/// Snappy, in xerial's frames or as one bare block (librdkafka), a block at a time.
struct SnappyReader<'a> {
    packed: &'a [u8],
    framed: bool,
    block: Cursor<Vec<u8>>,
}

impl<'a> SnappyReader<'a> {
    fn new(packed: &'a [u8]) -> Self {
        let framed = packed.len() >= XERIAL_HEADER && packed.starts_with(XERIAL_MAGIC);
        Self {
            packed: if framed { &packed[XERIAL_HEADER..] } else { packed },
            framed,
            block: Cursor::default(),
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
        let packed = if self.framed {
            let (length, rest) = self.packed.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (packed, rest) = rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.packed = rest;
            packed
        } else {
            std::mem::take(&mut self.packed)
        };
        let length = snap::raw::decompress_len(packed)?;
        if length > SNAPPY_BLOCK_MAX || length > packed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(invalid("a snappy block claims more than it can hold"));
        }
        let mut block = std::mem::take(&mut self.block).into_inner();
        block.resize(length, 0);
        snap::raw::Decoder::new().decompress(packed, &mut block)?;
        self.block = Cursor::new(block);
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.block.read(into)?;
            if read > 0 || into.is_empty() || self.packed.is_empty() {
                return Ok(read);
            }
            self.next_block()?;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::io::Write;

    use bytes::{BufMut, Bytes, BytesMut};
    use kafka_protocol::compression::{Compressor, Gzip, Lz4, Snappy, Zstd};

    use super::super::records::first_at_or_after;
    use super::*;

    /// `count` records of `value_len` zeros each, a millisecond apart, packed by `codec`.
    pub(in super::super) fn batch(codec: i16, count: usize, value_len: usize) -> Bytes {
        let mut records = Vec::new();
        for i in 0..count as i64 {
            let mut record = vec![0];
            for field in [i, i, -1, value_len as i64] {
                varlong(&mut record, field);
            }
            record.resize(record.len() + value_len, 0);
            varlong(&mut record, 0);
            varlong(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        pack(codec, count, &records)
    }

    fn pack(codec: i16, count: usize, records: &[u8]) -> Bytes {
        let mut packed = BytesMut::new();
        let put = |to: &mut BytesMut| {
            to.put_slice(records);
            Ok(())
        };
        match codec {
            1 => Gzip::compress(&mut packed, put).unwrap(),
            2 => Snappy::compress(&mut packed, put).unwrap(),
            3 => Lz4::compress(&mut packed, put).unwrap(),
            4 => Zstd::compress(&mut packed, put).unwrap(),
            // A bare snappy block, as librdkafka writes it.
            -2 => packed.put_slice(&snap::raw::Encoder::new().compress_vec(records).unwrap()),
            _ => packed.put_slice(records),
        }
        sealed(codec.abs(), count, &packed)
    }

    fn sealed(codec: i16, count: usize, packed: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i64(1000);
        bytes.put_i32((HEADER_BYTES - 12 + packed.len()) as i32);
        bytes.put_i32(0);
        bytes.put_i8(2);
        bytes.put_u32(0);
        bytes.put_i16(codec);
        bytes.put_i32(count as i32 - 1);
        bytes.put_i64(0);
        bytes.put_i64(count as i64 - 1);
        bytes.put_i64(-1);
        bytes.put_i16(-1);
        bytes.put_i32(-1);
        bytes.put_i32(count as i32);
        bytes.put_slice(packed);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes.freeze()
    }

    fn varlong(to: &mut Vec<u8>, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
        while zigzag >= 0x80 {
            to.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        to.push(zigzag as u8);
    }

    fn find(batch: &Bytes, target: i64, budget: &mut u64) -> Option<(i64, i64)> {
        let header = BatchHeader::check(batch).unwrap();
        first_at_or_after(&header, batch, target, 0, budget)
    }

    #[test]
    fn every_codec_leads_to_the_record() {
        for codec in [0, 1, 2, -2, 3, 4] {
            let batch = batch(codec, 5000, 100);
            for target in [0, 1, 2500, 4999] {
                let mut budget = 1 << 30;
                assert_eq!(
                    find(&batch, target, &mut budget),
                    Some((1000 + target, target)),
                    "codec {codec}"
                );
            }
            let mut budget = 1 << 30;
            assert_eq!(find(&batch, 5000, &mut budget), None, "codec {codec}");
            assert!(budget < 1 << 30);
        }
    }

    /// Unpacked whole these would take 2 GiB each.
    #[test]
    fn a_decompression_bomb_is_given_up_at_the_budget() {
        for codec in [1, 3, 4] {
            let packed = match codec {
                1 => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    zeros(&mut encoder);
                    encoder.finish().unwrap()
                }
                3 => {
                    let mut encoder = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
                    zeros(&mut encoder);
                    encoder.finish().0
                }
                _ => {
                    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
                    zeros(&mut encoder);
                    encoder.finish().unwrap()
                }
            };
            let bomb = sealed(codec, 1 << 30, &packed);
            let mut budget = 1 << 20;
            // A zero byte is a record of no length, which none is: seen at the first.
            assert_eq!(find(&bomb, i64::MAX, &mut budget), Some((1000, (1 << 30) - 1)));
            let mut unpacked = unpack(&BatchHeader::check(&bomb).unwrap(), &bomb)
                .unwrap()
                .take(8 << 20);
            assert_eq!(io::copy(&mut unpacked, &mut io::sink()).unwrap(), 8 << 20);
        }
    }

    fn zeros(to: &mut impl Write) {
        let block = vec![0; 1 << 20];
        for _ in 0..64 {
            to.write_all(&block).unwrap();
        }
    }

    #[test]
    fn many_records_end_at_the_budget_too() {
        let batch = batch(4, 100_000, 100);
        let mut budget = 1 << 20;
        // Past a mebibyte the search gives up and answers the batch's start.
        assert_eq!(find(&batch, 99_999, &mut budget), Some((1000, 99_999)));
        let mut budget = 1 << 30;
        assert_eq!(find(&batch, 99_999, &mut budget), Some((100_999, 99_999)));
    }

    #[test]
    fn lengths_that_snappy_cannot_reach_are_not_believed() {
        // A bare block that says it holds 4 GiB less one.
        for packed in [&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0][..], &[0xff, 0xff, 0xff, 0x0f, 0]] {
            let bomb = sealed(2, 10, packed);
            assert_eq!(find(&bomb, 5, &mut (1 << 30)), Some((1000, 9)));
        }
    }

    #[test]
    fn bytes_that_no_codec_wrote_lead_to_the_batchs_start() {
        for codec in 1..5 {
            for packed in [
                &b""[..],
                b"x",
                b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff",
                &[0x28; 50],
            ] {
                let broken = sealed(codec, 10, packed);
                assert_eq!(find(&broken, 5, &mut (1 << 30)), Some((1000, 9)), "{codec} {packed:?}");
            }
        }
    }
}
