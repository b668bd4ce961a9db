//! What hostile clients can make the broker hold, by the process's resident memory, and whether others notice.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig, Limits};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use support::*;

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
fn members_metadata_has_one_bound_for_all_groups() {
    let _alone = alone();
    let running = Running::start(Limits::default());
    let mut stream = connect(running.address());
    let before = resident();
    let mut codes = Vec::new();
    for group in 0..120 {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(vec![7; 1_000_000].into());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(format!("g{group}"))))
            .with_session_timeout_ms(60_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let answer: JoinGroupResponse = ask(&mut stream, 2, &frame(ApiKey::JoinGroup, 2, &request));
        codes.push(answer.error_code);
    }
    let grown = resident().saturating_sub(before);
    let joined = codes.iter().filter(|&&code| code == 0).count();
    eprintln!(
        "{joined} of 120 groups with a megabyte of metadata: {} KiB more resident",
        grown >> 10
    );
    assert!((60..=67).contains(&joined), "{joined}");
    assert!(
        codes[joined..]
            .iter()
            .all(|&code| code == ResponseError::GroupMaxSizeReached.code())
    );
    assert!(grown < 100 * MIB, "{} MiB", grown >> 20);
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
    // At once, and for those that go on with small requests as well: none keeps the buffer of a large one.
    let grown = resident().saturating_sub(before);
    eprintln!(
        "300 connections that have each sent 500 KB: {} KiB more resident",
        grown >> 10
    );
    assert!(grown < 24 * MIB, "{} MiB", grown >> 20);
    running.stop();
}
