//! What hostile clients can make the broker hold, by the process's resident memory, and whether others notice.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig, Limits};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const MIB: u64 = 1 << 20;

/// Resident memory is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

struct Running {
    runtime: Runtime,
    broker: Broker,
    _dir: TempDir,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let dir = TempDir::new().unwrap();
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path());
        config.limits = limits;
        config.num_partitions = 1;
        // Closed segments and an open one.
        config.segment_bytes = 16 << 20;
        let broker = runtime.block_on(Broker::start(config)).unwrap();
        Self {
            runtime,
            broker,
            _dir: dir,
        }
    }

    fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.shutdown()).unwrap();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn frame<R: Encodable + HeaderVersion>(api_key: ApiKey, version: i16, request: &R) -> Bytes {
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

fn ask<A: Decodable + HeaderVersion>(stream: &mut TcpStream, version: i16, frame: &[u8]) -> A {
    stream.write_all(frame).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let mut body = Bytes::from(body);
    ResponseHeader::decode(&mut body, A::header_version(version)).unwrap();
    A::decode(&mut body, version).unwrap()
}

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn make_topic(stream: &mut TcpStream, name: &str) {
    let named = MetadataRequestTopic::default().with_name(Some(topic(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![named]))
        .with_allow_auto_topic_creation(true);
    let _: MetadataResponse = ask(stream, 9, &frame(ApiKey::Metadata, 9, &request));
}

fn produce(stream: &mut TcpStream, name: &str, batch: Bytes) -> i16 {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(topic(name))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![data]);
    let answer: ProduceResponse = ask(stream, 9, &frame(ApiKey::Produce, 9, &request));
    answer.responses[0].partition_responses[0].error_code
}

fn fetch_all(name: &str) -> Bytes {
    let partition = FetchPartition::default().with_partition_max_bytes(i32::MAX);
    let wanted = FetchTopic::default()
        .with_topic(topic(name))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_bytes(i32::MAX)
        .with_topics(vec![wanted]);
    frame(ApiKey::Fetch, 12, &request)
}

fn latest_time(stream: &mut TcpStream, name: &str, timestamp: i64) -> (i16, i64) {
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
fn batch(codec: i16, count: i32, packed: &[u8]) -> Bytes {
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

fn varlong(to: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn record(offset: i64, value: &[u8]) -> Vec<u8> {
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

fn big_batch() -> Bytes {
    batch(0, 1, &record(0, &vec![b'v'; 1_000_000]))
}

#[test]
fn answers_that_nobody_reads_take_no_memory() {
    let _alone = alone();
    let limits = Limits {
        stalled_connection: Duration::from_secs(2),
        ..Limits::default()
    };
    let running = Running::start(limits);
    let mut neighbour = connect(running.address());
    make_topic(&mut neighbour, "t");
    for _ in 0..50 {
        assert_eq!(produce(&mut neighbour, "t", big_batch()), 0);
    }
    let before = resident();
    let question = fetch_all("t");
    let mut hostile: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(running.address());
            stream.write_all(&question).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident().saturating_sub(before);
    eprintln!(
        "100 answers of up to 50 MB that nobody reads: {} KiB more resident",
        grown >> 10
    );
    assert!(grown < 32 * MIB, "{} MiB", grown >> 20);
    let asked = Instant::now();
    assert_eq!(produce(&mut neighbour, "t", big_batch()), 0);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // They are given up; what the system had taken for them already can still be read.
    std::thread::sleep(Duration::from_millis(2500));
    let mut rest = Vec::new();
    let _ = hostile[0].read_to_end(&mut rest);
    assert!(rest.len() < 16 << 20, "{}", rest.len());
    // A reader gets whole segments' worth.
    let answer: FetchResponse = ask(&mut neighbour, 12, &question);
    let records = answer.responses[0].partitions[0].records.as_ref().unwrap().len();
    assert!(records > 10_000_000, "{records}");
    running.stop();
}

#[test]
fn requests_that_never_come_take_no_memory() {
    let _alone = alone();
    let limits = Limits {
        stalled_connection: Duration::from_secs(2),
        in_flight_bytes_max: 100 << 20,
        ..Limits::default()
    };
    let running = Running::start(limits);
    let mut neighbour = connect(running.address());
    make_topic(&mut neighbour, "t");
    let before = resident();
    let mut begun = (100_i32 << 20).to_be_bytes().to_vec();
    begun.extend_from_slice(&[0; 40_000]);
    let mut hostile: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = connect(running.address());
            stream.write_all(&begun).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident().saturating_sub(before);
    eprintln!("300 announced requests of 100 MiB: {} KiB more resident", grown >> 10);
    assert!(grown < 64 * MIB, "{} MiB", grown >> 20);
    let asked = Instant::now();
    assert_eq!(produce(&mut neighbour, "t", big_batch()), 0);
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let mut rest = Vec::new();
    let _ = hostile[0].read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(produce(&mut neighbour, "t", big_batch()), 0);
    running.stop();
}

#[test]
fn a_decompression_bomb_is_looked_into_in_little_memory() {
    let _alone = alone();
    let running = Running::start(Limits::default());
    let mut neighbour = connect(running.address());
    make_topic(&mut neighbour, "t");
    // One record of 2 GB in 65 KB, and a header that promises a later one.
    let zeros = vec![0; 1 << 20];
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    let mut start = Vec::new();
    varlong(&mut start, (2 << 30) + 20);
    start.extend_from_slice(&[0, 0, 0, 1]);
    varlong(&mut start, 2 << 30);
    encoder.write_all(&start).unwrap();
    for _ in 0..2048 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = batch(4, 10, &encoder.finish().unwrap());
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    for _ in 0..5 {
        assert_eq!(produce(&mut neighbour, "t", bomb.clone()), 0);
    }
    let before = resident();
    let asked = Instant::now();
    // The first batch's start: nothing is skipped.
    assert_eq!(latest_time(&mut neighbour, "t", 5), (0, 0));
    let grown = resident().saturating_sub(before);
    eprintln!(
        "looking for a time in 2 GiB that are 65 KB: {} KiB more resident, {:?}",
        grown >> 10,
        asked.elapsed()
    );
    assert!(grown < 32 * MIB, "{} MiB", grown >> 20);
    running.stop();
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_stay() {
    let _alone = alone();
    let limits = Limits {
        connections_max: 10,
        ..Limits::default()
    };
    let running = Running::start(limits);
    let mut first = connect(running.address());
    make_topic(&mut first, "t");
    let _nine: Vec<_> = (0..9)
        .map(|_| {
            let mut stream = connect(running.address());
            make_topic(&mut stream, "t");
            stream
        })
        .collect();
    let mut eleventh = connect(running.address());
    let mut rest = Vec::new();
    assert!(eleventh.read_to_end(&mut rest).is_err() || rest.is_empty());
    assert_eq!(produce(&mut first, "t", big_batch()), 0);
    drop(_nine);
    std::thread::sleep(Duration::from_millis(200));
    make_topic(&mut connect(running.address()), "t");
    running.stop();
}

#[test]
fn idle_connections_take_little() {
    let _alone = alone();
    let running = Running::start(Limits::default());
    let mut first = connect(running.address());
    make_topic(&mut first, "t");
    let before = resident();
    let mut many: Vec<_> = (0..300).map(|_| connect(running.address())).collect();
    for stream in &mut many {
        assert_eq!(produce(stream, "t", batch(0, 1, &record(0, &vec![b'v'; 500_000]))), 0);
    }
    // A second later each has given its buffer back.
    std::thread::sleep(Duration::from_millis(1500));
    let grown = resident().saturating_sub(before);
    eprintln!(
        "300 connections that have each sent 500 KB: {} KiB more resident",
        grown >> 10
    );
    assert!(grown < 48 * MIB, "{} MiB", grown >> 20);
    running.stop();
}
