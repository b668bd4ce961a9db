//! What the tests need around the clients: the broker to ask, the programs that are on this machine.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use broker::{Broker, BrokerConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub fn python() -> String {
    std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

pub fn script(name: &str) -> PathBuf {
    Path::new("tests/clients").join(name)
}

/// Whether `command` runs; says loudly when it does not.
pub fn have(what: &str, command: &mut Command) -> bool {
    let there = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        crate::skip::skip(what);
    }
    there
}

pub fn have_python() -> bool {
    let modules = "import confluent_kafka, kafka";
    have(
        "Python with confluent-kafka and kafka-python (SMARTCITY_PYTHON)",
        Command::new(python()).args(["-c", modules]),
    )
}

/// Runs a client to its end; it says itself what is wrong.
pub fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let (out, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{command:?}\n{out}");
    assert!(output.status.success(), "{command:?}: {}\n{out}{errors}", output.status);
}

fn real_kafka_script() -> PathBuf {
    PathBuf::from("../../tests/kafka/real-kafka")
}

/// Where the jars of Apache Kafka are; fetches them when they are missing.
pub fn jars() -> Option<PathBuf> {
    static JARS: OnceLock<Option<PathBuf>> = OnceLock::new();
    JARS.get_or_init(|| {
        let fetch = &mut Command::new(real_kafka_script());
        if !have("Java 17 with Maven, for the jars of Apache Kafka", fetch.arg("--jars")) {
            return None;
        }
        let cache = std::env::var_os("SMARTCITY_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache/smartcity")));
        Some(cache?.join("kafka-4.1.0"))
    })
    .clone()
}

/// The franz-go program, built once.
pub fn franz() -> Option<PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            if !have("Go", Command::new("go").arg("version")) {
                return None;
            }
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("franz");
            let mut build = Command::new("go");
            build.arg("build").arg("-o").arg(&program).arg(".");
            succeeds(build.current_dir(script("franz")));
            Some(program)
        })
        .clone()
}

/// A broker of our own, or the one that was asked for.
pub struct Target {
    pub bootstrap: String,
    running: Option<(Runtime, Broker, TempDir)>,
}

impl Target {
    pub fn start() -> Self {
        if let Ok(bootstrap) = std::env::var("SMARTCITY_TEST_BOOTSTRAP") {
            return Self {
                bootstrap,
                running: None,
            };
        }
        let runtime = Runtime::new().unwrap();
        let dir = TempDir::new().unwrap();
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path());
        // Small, so that every test crosses segments.
        config.segment_bytes = 64 << 10;
        let broker = runtime.block_on(Broker::start(config)).unwrap();
        Self {
            bootstrap: broker.address().to_string(),
            running: Some((runtime, broker, dir)),
        }
    }

    pub fn stop(self) {
        if let Some((runtime, broker, _dir)) = self.running {
            runtime.block_on(broker.shutdown()).unwrap();
        }
    }
}

/// A real Apache Kafka, ended when dropped.
pub struct RealKafka {
    pub bootstrap: String,
    child: Child,
    _dir: TempDir,
}

impl RealKafka {
    pub fn start() -> Option<Self> {
        jars()?;
        let dir = TempDir::new().unwrap();
        let port = two_free_ports();
        // A machine that is busy with tests must not look like a broker that is gone. (One that is killed could not come
        // back for as long.)
        let properties = dir.path().join("more.properties");
        std::fs::write(&properties, "broker.session.timeout.ms=120000\n").unwrap();
        let mut child = Command::new(real_kafka_script())
            .arg(dir.path())
            .arg(port.to_string())
            .arg(properties)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "Apache Kafka did not start: {}", dir.path().display());
        Some(Self {
            bootstrap: format!("127.0.0.1:{port}"),
            child,
            _dir: dir,
        })
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn two_free_ports() -> u16 {
    let free = |port| TcpListener::bind(("127.0.0.1", port));
    let port = || free(0).unwrap().local_addr().unwrap().port();
    (0..100)
        .map(|_| port())
        .find(|&port| port < u16::MAX && free(port + 1).is_ok())
        .unwrap()
}
