//! A disk that is full, for real: a file system of a few megabytes, and a limit on the size of files.
//!
//! Produce fails with KAFKA_STORAGE_ERROR, reading goes on, nothing that was there is harmed, and once there is room again
//! all goes on. Where the system gives no mount of our own the first test says SKIPPED.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use broker::{Broker, BrokerConfig};
use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tempfile::TempDir;

use crate::support::*;

const DATA_DIR: &str = "SMARTCITY_BROKER_TEST_DIR";
const BATCH_BYTES: usize = 100_000;

/// Not a test: this binary started again as a broker under the limits that a test has set.
#[test]
#[ignore = "the broker process of the tests"]
fn serve_as_a_process() {
    let Ok(dir) = std::env::var(DATA_DIR) else { return };
    let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir);
    config.num_partitions = 1;
    config.segment_bytes = std::env::var("SEGMENT_BYTES").unwrap().parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let broker = Broker::start(config).await.unwrap();
        println!("\nlistening {} {}", broker.address(), std::process::id());
        std::future::pending::<()>().await;
    });
}

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Runs `wrapper ... this binary`.
    fn start(wrapper: &[&str], dir: &Path, segment_bytes: u32) -> Self {
        let mut child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["full_disk::serve_as_a_process", "--exact", "--ignored", "--nocapture"])
            .env(DATA_DIR, dir)
            .env("SEGMENT_BYTES", segment_bytes.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The address and process id of the next broker that starts.
    fn listening(&mut self) -> (SocketAddr, String) {
        let line = self
            .lines
            .find_map(|line| line.unwrap().strip_prefix("listening ").map(str::to_owned));
        let line = line.expect("the broker process did not start");
        let (address, pid) = line.split_once(' ').unwrap();
        (address.parse().unwrap(), pid.to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().unwrap().success());
}

fn some_batch() -> Bytes {
    batch(0, 1, &record(0, &vec![b'v'; BATCH_BYTES]))
}

/// Writes until it fails: how many records were acknowledged.
fn fill(stream: &mut std::net::TcpStream) -> i64 {
    for acknowledged in 0..1000 {
        match produce(stream, "t", some_batch()) {
            0 => {}
            code => {
                assert_eq!(code, ResponseError::KafkaStorageError.code());
                return acknowledged;
            }
        }
    }
    panic!("the disk is never full");
}

fn offsets(read: &[(i64, usize)]) -> Vec<i64> {
    read.iter().map(|(offset, _)| *offset).collect()
}

#[test]
fn a_full_file_system_stops_writers_alone() {
    let dir = TempDir::new().unwrap();
    let mount = "mount -t tmpfs -o size=12m none \"$SMARTCITY_BROKER_TEST_DIR\"";
    let can = Command::new("unshare")
        .args(["-rm", "sh", "-c", mount])
        .env(DATA_DIR, dir.path())
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        crate::skip::skip("a mount of our own (unshare -rm), for a disk that is full,");
        return;
    }
    // The second broker starts in the same file system when the first has ended.
    let script = format!("{mount} && {{ \"$@\"; \"$@\"; }}");
    let mut process = Process::start(&["unshare", "-rm", "sh", "-c", &script, "sh"], dir.path(), 1 << 20);
    let (address, pid) = process.listening();
    let mut stream = connect(address);
    make_topic(&mut stream, "t");
    let written = fill(&mut stream);
    assert!((100..130).contains(&written), "{written}");
    for _ in 0..20 {
        assert_eq!(
            produce(&mut stream, "t", some_batch()),
            ResponseError::KafkaStorageError.code()
        );
        assert_eq!(latest_time(&mut stream, "t", -1), (0, written));
    }
    // Another connection reads on.
    let read = read_from(&mut connect(address), "t", 0);
    assert_eq!(offsets(&read), (0..written).collect::<Vec<_>>());
    // Killed on the full disk: all that was acknowledged is there.
    kill(&pid);
    let (address, pid) = process.listening();
    let mut stream = connect(address);
    assert_eq!(latest_time(&mut stream, "t", -1), (0, written));
    assert_eq!(read_from(&mut stream, "t", 0), read);
    // Room is made by deleting records, which needs none itself.
    assert_eq!(delete_before(&mut stream, "t", 50), 0);
    assert_eq!(produce(&mut stream, "t", some_batch()), 0);
    let read = read_from(&mut stream, "t", 50);
    assert_eq!(offsets(&read), (50..=written).collect::<Vec<_>>());
    kill(&pid);
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk_until_it_may() {
    let dir = TempDir::new().unwrap();
    // Over the limit a write fails, as the signal that comes with it is ignored.
    let wrapper = ["env", "--ignore-signal=XFSZ", "prlimit", "--fsize=3000000:"];
    let mut process = Process::start(&wrapper, dir.path(), 128 << 20);
    let (address, pid) = process.listening();
    let mut stream = connect(address);
    make_topic(&mut stream, "t");
    let written = fill(&mut stream);
    assert_eq!(written, 29);
    let read = read_from(&mut stream, "t", 0);
    assert_eq!(offsets(&read), (0..written).collect::<Vec<_>>());
    // What was written of the batch that did not fit has been cut off.
    let file = dir.path().join("topics/t/0/00000000000000000000.log");
    let bytes: usize = read.iter().map(|(_, size)| size).sum();
    assert_eq!(std::fs::metadata(&file).unwrap().len() as usize, bytes);
    // A topic with room takes records meanwhile.
    make_topic(&mut stream, "other");
    assert_eq!(produce(&mut stream, "other", some_batch()), 0);
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=unlimited:"])
        .status();
    assert!(raised.unwrap().success());
    assert_eq!(produce(&mut stream, "t", some_batch()), 0);
    assert_eq!(latest_time(&mut stream, "t", -1), (0, written + 1));
    assert_eq!(read_from(&mut stream, "t", 0)[..read.len()], read);
}
