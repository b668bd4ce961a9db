//! Runs the built binary and what stands around it: Python, a real Kafka. What is not on the machine is said loudly and
//! skipped; where `CI` is set it is a failure instead.
#![allow(unreachable_pub, reason = "the crate is a test")]

use std::io::{BufRead, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Cargo runs tests in their package's folder. A path from build time may be another checkout's with the same target.
pub fn root() -> PathBuf {
    Path::new("../..").canonicalize().unwrap()
}

/// The binary under test, undisturbed by settings of whoever runs the tests.
pub fn smartcity() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartcity"));
    for (variable, _) in std::env::vars() {
        if variable.starts_with("SMARTCITY_") || variable.ends_with("_TOPIC") || variable.starts_with("KAFKA_") {
            command.env_remove(variable);
        }
    }
    command.env_remove("RUST_LOG");
    command
}

/// Runs to the end, which must be a good one; what it printed to stdout.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success(),
        "{command:?}: {status}\nstdout: {stdout}\nstderr: {stderr}"
    );
    stdout.into_owned()
}

/// The rows of a query as JSON objects.
pub fn query(lake: &Path, sql: &str) -> Vec<serde_json::Value> {
    let printed = run(smartcity().args(["query", sql, "--format", "json", "--lake"]).arg(lake));
    printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn count(lake: &Path, table: &str) -> i64 {
    query(lake, &format!("select count(*) as n from {table}"))[0]["n"]
        .as_i64()
        .unwrap()
}

/// A child that is killed when the test ends, and the lines it has printed.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Process {
    /// Starts and collects stdout and stderr.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let other = sender.clone();
        thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| other.send(line))
        });
        thread::spawn(move || {
            BufReader::new(err)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that holds `text`; gives it.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line with `{text}` among: {:#?}", self.seen),
            }
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, as a crash.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, then a clean end.
    pub fn stop(mut self) {
        run(Command::new("kill").arg(self.id().to_string()));
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let rest: Vec<_> = self.lines.iter().collect();
                assert!(status.success(), "{status}: {:#?} {rest:#?}", self.seen);
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still running 30 s after SIGTERM: {:#?}",
                self.seen
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM; what it takes to end is the caller's to check.
    pub fn terminate(&self) {
        run(Command::new("kill").arg(self.id().to_string()));
    }

    /// The lines so far.
    pub fn lines(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Waits for an end that nobody asked for: the exit code, and all lines.
    pub fn end(mut self, timeout: Duration) -> (Option<i32>, String) {
        let deadline = Instant::now() + timeout;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {timeout:?}: {:#?}",
                self.seen
            );
            thread::sleep(Duration::from_millis(20));
        };
        let seen = std::mem::take(&mut self.seen);
        let lines: Vec<String> = seen.into_iter().chain(self.lines.iter()).collect();
        (status.code(), lines.join("\n"))
    }

    /// Resident memory in bytes, from /proc.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `smartcity up` on free ports, with its lake and topics under `dir`; the classic profile, unless `more` names another.
pub struct Up {
    pub process: Process,
    pub kafka: String,
    pub http: String,
}

pub fn up(dir: &Path, more: &[&str]) -> Up {
    let mut command = smartcity();
    command.args([
        "up",
        "--kafka-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    command.arg(dir);
    if !more.contains(&"--profile") {
        command.args(["--profile", "classic"]);
    }
    let mut process = Process::start(command.args(more));
    let word = |line: String| line.split_whitespace().nth(1).unwrap().to_owned();
    let kafka = word(process.wait_for("  kafka  ", Duration::from_secs(30)));
    let http = word(process.wait_for("  progress  ", Duration::from_secs(30)));
    let http = http.trim_start_matches("http://").split('/').next().unwrap().to_owned();
    Up { process, kafka, http }
}

/// The embedded broker on a free port, with its topics under `dir`; its address.
pub fn broker(dir: &Path) -> (Process, String) {
    let mut command = smartcity();
    command.args(["broker", "--listen", "127.0.0.1:0", "--data-dir"]);
    let mut broker = Process::start(command.arg(dir.join("broker")));
    let line = broker.wait_for("kafka broker at ", Duration::from_secs(30));
    let (_, at) = line.split_once("broker at ").unwrap();
    let address = at.split(',').next().unwrap().to_owned();
    (broker, address)
}

/// A stream of numbers, each with a time, and more fields.
pub fn declaration(name: &str, more: &str) -> String {
    format!(
        r#"
name = "{name}"
description = "Numbers."
key = "id"
event_time = "at"
[[field]]
name = "id"
type = "long"
doc = "Number."
[[field]]
name = "at"
type = "timestamp"
doc = "When."
{more}"#
    )
}

/// GET over plain HTTP/1.1: status line and body.
pub fn get(address: &str, path: &str) -> (String, String) {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

pub(crate) use crate::skip::skip;

/// Python with the modules of `tests/python/requirements.txt`, running one of the scripts there.
pub fn python(script: &str) -> Option<Command> {
    let python = std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let modules = "import confluent_kafka, deltalake, duckdb, polars, pyarrow";
    let there = Command::new(&python)
        .args(["-c", modules])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        skip("Python with tests/python/requirements.txt (name it in SMARTCITY_PYTHON)");
        return None;
    }
    let mut command = Command::new(python);
    command
        .arg(root().join("tests/python").join(script))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// An address that takes connections and never answers: what a cluster or a store looks like behind a firewall.
pub fn silence() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A real Apache Kafka; its address.
pub fn real_kafka(dir: &Path) -> Option<(Process, String)> {
    real_kafka_with(dir, "")
}

/// The same with more properties of the broker.
pub fn real_kafka_with(dir: &Path, properties: &str) -> Option<(Process, String)> {
    let has = |program: &str, flag: &str| {
        Command::new(program)
            .arg(flag)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    if !has("java", "-version") || !has("mvn", "-version") {
        skip("Java and Maven, for a real Apache Kafka");
        return None;
    }
    // Two neighbouring ports; the second is the controller's.
    let port = free_port().min(65_000);
    let file = dir.with_extension("properties");
    std::fs::write(&file, properties).unwrap();
    let mut kafka = Process::start(
        Command::new(root().join("tests/kafka/real-kafka"))
            .arg(dir)
            .arg(port.to_string())
            .arg(file),
    );
    kafka.wait_for("ready", Duration::from_secs(180));
    Some((kafka, format!("127.0.0.1:{port}")))
}

/// Compares what three foreign readers see of these tables with what we see, to the bit; `false` without Python.
pub fn foreign_readers_agree(lake: &Path, tables: &[&str]) -> bool {
    let Some(mut readers) = python("readers.py") else {
        return false;
    };
    let seen: serde_json::Value = serde_json::from_str(&run(readers.arg(lake).args(tables))).unwrap();
    for table in tables {
        let offset = if *table == "dead_letters" {
            "\"offset\""
        } else {
            "_offset"
        };
        let ours = query(
            lake,
            &format!("select count(*) as rows, sum({offset}) as offsets from {table}"),
        );
        for reader in ["deltalake", "polars", "duckdb"] {
            assert_eq!(seen[table][reader]["rows"], ours[0]["rows"], "{table} through {reader}");
            assert_eq!(
                seen[table][reader]["offsets"], ours[0]["offsets"],
                "{table} through {reader}"
            );
            assert_eq!(
                seen[table][reader], seen[table]["deltalake"],
                "{table} through {reader}"
            );
        }
    }
    true
}

/// Tries until it is so.
pub fn eventually(what: &str, timeout: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
