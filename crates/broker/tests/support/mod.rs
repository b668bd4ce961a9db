//! A client by hand, for what no client library would send.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

pub fn frame<R: Encodable + HeaderVersion>(api_key: ApiKey, version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(api_key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7);
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

pub fn ask<A: Decodable + HeaderVersion>(stream: &mut TcpStream, version: i16, frame: &[u8]) -> A {
    stream.write_all(frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let mut body = Bytes::from(body);
    ResponseHeader::decode(&mut body, A::header_version(version)).unwrap();
    A::decode(&mut body, version).unwrap()
}

pub fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub fn make_topic(stream: &mut TcpStream, name: &str) {
    let named = MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![named]))
        .with_allow_auto_topic_creation(true);
    let _: MetadataResponse = ask(stream, 9, &frame(ApiKey::Metadata, 9, &request));
}

pub fn produce(stream: &mut TcpStream, name: &str, batch: Bytes) -> i16 {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
    let answer: ProduceResponse = ask(stream, 9, &frame(ApiKey::Produce, 9, &request));
    answer.responses[0].partition_responses[0].error_code
}

pub fn fetch_all(name: &str) -> Bytes {
    let partition = FetchPartition::default().with_partition_max_bytes(i32::MAX);
    let wanted = FetchTopic::default()
        .with_topic(topic(name))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_bytes(i32::MAX)
        .with_topics(vec![wanted]);
    frame(ApiKey::Fetch, 12, &request)
}

pub fn latest_time(stream: &mut TcpStream, name: &str, timestamp: i64) -> (i16, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let wanted = ListOffsetsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![wanted]);
    let answer: ListOffsetsResponse = ask(stream, 7, &frame(ApiKey::ListOffsets, 7, &request));
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.offset)
}

/// A batch around records that were packed already.
pub fn batch(codec: i16, count: i32, packed: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i64(0);
    bytes.put_i32((49 + packed.len()) as i32);
    bytes.put_i32(0);
    bytes.put_i8(2);
    bytes.put_u32(0);
    bytes.put_i16(codec);
    bytes.put_i32(count - 1);
    bytes.put_i64(0);
    bytes.put_i64(i64::from(count));
    bytes.put_i64(-1);
    bytes.put_i16(-1);
    bytes.put_i32(-1);
    bytes.put_i32(count);
    bytes.put_slice(packed);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

pub fn varlong(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

pub fn record(offset: i64, value: &[u8]) -> Vec<u8> {
    let mut record = vec![0];
    for field in [0, offset, -1, value.len() as i64] {
        varlong(&mut record, field);
    }
    record.extend_from_slice(value);
    varlong(&mut record, 0);
    let mut whole = Vec::new();
    varlong(&mut whole, record.len() as i64);
    whole.extend(record);
    whole
}

pub fn delete_before(stream: &mut TcpStream, name: &str, offset: i64) -> i16 {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let wanted = DeleteRecordsTopic::default()
        .with_name(topic(name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(1000);
    let answer: DeleteRecordsResponse = ask(stream, 2, &frame(ApiKey::DeleteRecords, 2, &request));
    answer.topics[0].partitions[0].error_code
}

/// The base offset and size of every batch from an offset on.
pub fn read_from(stream: &mut TcpStream, name: &str, mut offset: i64) -> Vec<(i64, usize)> {
    let mut all = Vec::new();
    loop {
        let partition = FetchPartition::default()
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let wanted = FetchTopic::default()
            .with_topic(topic(name))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_topics(vec![wanted]);
        let answer: FetchResponse = ask(stream, 12, &frame(ApiKey::Fetch, 12, &request));
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, 0);
        let records = data.records.clone().unwrap_or_default();
        if records.is_empty() {
            return all;
        }
        let mut rest = &records[..];
        while !rest.is_empty() {
            let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
            let size = 12 + i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
            let crc = u32::from_be_bytes(rest[17..21].try_into().unwrap());
            assert_eq!(crc32c::crc32c(&rest[21..size]), crc);
            all.push((base, size));
            offset = base + i64::from(i32::from_be_bytes(rest[23..27].try_into().unwrap())) + 1;
            rest = &rest[size..];
        }
    }
}
