//! A whole answer, ready to be sent: bytes, and between them ranges of segment files that are never read into memory.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{FetchResponse, ResponseHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::log::{FileRange, Records};

/// From this version on counts and lengths are varints, and structs end with tagged fields.
const FETCH_FLEXIBLE: i16 = 12;

type Encoded<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A frame with its length.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pieces: Vec<Piece>,
    /// In bytes.
    pub(crate) len: usize,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    File(FileRange),
}

impl Answer {
    pub(super) fn encode<R: Encodable + HeaderVersion>(correlation_id: i32, version: i16, answer: &R) -> Encoded<Self> {
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        let header_version = R::header_version(version);
        let size = 4 + header.compute_size(header_version)? + answer.compute_size(version)?;
        let mut frame = BytesMut::with_capacity(size);
        frame.put_i32(0);
        header.encode(&mut frame, header_version)?;
        answer.encode(&mut frame, version)?;
        Ok(Self::framed(frame, Vec::new(), 0))
    }

    /// Bytes that have no header.
    pub(super) fn raw(bytes: &[u8]) -> Self {
        let mut frame = BytesMut::with_capacity(4 + bytes.len());
        frame.put_i32(0);
        frame.put_slice(bytes);
        Self::framed(frame, Vec::new(), 0)
    }

    /// A fetch's answer with `records`, one for each partition of `answer` in its order. The partitions in `answer` have
    /// no records of their own, and no tagged fields where `records` has some.
    pub(super) fn encode_fetch(
        correlation_id: i32,
        version: i16,
        mut answer: FetchResponse,
        records: Vec<Records>,
    ) -> Encoded<Self> {
        let flexible = version >= FETCH_FLEXIBLE;
        let header = ResponseHeader::default().with_correlation_id(correlation_id);
        let mut frame = BytesMut::with_capacity(256);
        frame.put_i32(0);
        header.encode(&mut frame, FetchResponse::header_version(version))?;
        let topics = std::mem::take(&mut answer.responses);
        let tags = encode_open(&mut frame, version, &answer)?;
        put_count(&mut frame, flexible, topics.len());
        let (mut pieces, mut sent) = (Vec::new(), 0);
        let mut records = records.into_iter();
        for mut topic in topics {
            let partitions = std::mem::take(&mut topic.partitions);
            let tags = encode_open(&mut frame, version, &topic)?;
            put_count(&mut frame, flexible, partitions.len());
            for partition in partitions {
                let records = records.next().unwrap_or_default();
                if records.is_empty() {
                    partition.encode(&mut frame, version)?;
                    continue;
                }
                let tags = encode_open(&mut frame, version, &partition)?;
                put_count(&mut frame, flexible, records.len());
                match records {
                    Records::Bytes(bytes) => frame.put_slice(&bytes),
                    Records::File(range) => {
                        sent += frame.len() + range.len;
                        pieces.push(Piece::Bytes(frame.split().freeze()));
                        pieces.push(Piece::File(range));
                    }
                }
                frame.put_slice(&tags);
            }
            frame.put_slice(&tags);
        }
        frame.put_slice(&tags);
        Ok(Self::framed(frame, pieces, sent))
    }

    /// Puts the length in front. `sent` is how many bytes `pieces` make.
    fn framed(last: BytesMut, mut pieces: Vec<Piece>, sent: usize) -> Self {
        let len = sent + last.len();
        pieces.push(Piece::Bytes(last.freeze()));
        if let Some(Piece::Bytes(first)) = pieces.first_mut() {
            let mut patched = BytesMut::from(std::mem::take(first));
            patched[..4].copy_from_slice(&((len - 4) as i32).to_be_bytes());
            *first = patched.freeze();
        }
        Self { pieces, len }
    }

    /// Panics unless the frame is as long as it says.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn check(&self) {
        let lengths = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::File(range) => range.len,
        });
        assert_eq!(lengths.sum::<usize>(), self.len);
        let Some(Piece::Bytes(first)) = self.pieces.first() else {
            panic!("an answer starts with its length");
        };
        assert_eq!(first[..4], ((self.len - 4) as u32).to_be_bytes());
    }

    /// The answer in one piece.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Bytes {
        let mut all = BytesMut::new();
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => all.put_slice(bytes),
                Piece::File(range) => all.put_slice(&range.read().expect("the file can be read")),
            }
        }
        all.freeze()
    }
}

/// Encodes a struct that ends with an empty array or empty bytes, but for that end: its count or length, and what comes
/// behind, which is returned.
fn encode_open<R: Encodable>(frame: &mut BytesMut, version: i16, open: &R) -> Encoded<Bytes> {
    open.encode(frame, version)?;
    // A varint and no tagged fields; or a count of four bytes.
    let end = if version >= FETCH_FLEXIBLE { 2 } else { 4 };
    let end = frame.split_off(frame.len().saturating_sub(end));
    if end[..] != [1, 0] && end[..] != [0; 4] {
        return Err("a struct that was to stay open has an end of its own".into());
    }
    Ok(if version >= FETCH_FLEXIBLE {
        Bytes::from_static(&[0])
    } else {
        Bytes::new()
    })
}

/// A count or a length.
fn put_count(frame: &mut BytesMut, flexible: bool, count: usize) {
    if !flexible {
        return frame.put_i32(count as i32);
    }
    let mut rest = count as u32 + 1;
    while rest >= 0x80 {
        frame.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    frame.put_u8(rest as u8);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::sync::Arc;

    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::protocol::Decodable;

    use super::*;

    #[test]
    fn an_answer_with_file_ranges_is_the_answer_with_their_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        file.write_all(&content).unwrap();
        let file: Arc<File> = Arc::new(file);
        let lengths = [0, 1, 126, 127, 128, 16_382, 16_383, 16_384, 70_000];
        for version in 4..=17 {
            let mut answer = FetchResponse::default();
            let (mut plain, mut records) = (Vec::new(), Vec::new());
            for (t, lengths) in lengths.chunks(2).enumerate() {
                let mut topic = FetchableTopicResponse::default();
                if version >= 13 {
                    topic.topic_id = uuid::Uuid::from_u128(t as u128 + 1);
                } else {
                    topic.topic = kafka_protocol::protocol::StrBytes::from_string(format!("topic-{t}")).into();
                }
                for (p, &len) in lengths.iter().enumerate() {
                    let mut data = PartitionData::default()
                        .with_partition_index(p as i32)
                        .with_high_watermark(7);
                    if t == 1 {
                        data.aborted_transactions = Some(vec![AbortedTransaction::default().with_first_offset(3)]);
                    }
                    if len == 0 && version >= 12 {
                        data.diverging_epoch = EpochEndOffset::default().with_epoch(0).with_end_offset(3);
                    }
                    topic.partitions.push(data.with_records(Some(Bytes::new())));
                    plain.push(Bytes::copy_from_slice(&content[p..p + len]));
                    records.push(match len {
                        0 | 127 => Records::Bytes(Bytes::copy_from_slice(&content[p..p + len])),
                        _ => Records::File(FileRange {
                            file: Arc::clone(&file),
                            position: p as u64,
                            len,
                            permit: None,
                        }),
                    });
                }
                answer.responses.push(topic);
            }
            let encoded = Answer::encode_fetch(42, version, answer.clone(), records).unwrap();
            let mut plain = plain.into_iter();
            for data in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                data.records = plain.next();
            }
            let expected = Answer::encode(42, version, &answer).unwrap();
            assert_eq!(encoded.len, encoded.bytes().len());
            assert_eq!(encoded.bytes(), expected.bytes(), "version {version}");
            let mut body = encoded.bytes().slice(if version >= 12 { 9 } else { 8 }..);
            assert_eq!(FetchResponse::decode(&mut body, version).unwrap(), answer);
        }
    }
}
