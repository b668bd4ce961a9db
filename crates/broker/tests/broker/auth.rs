//! SASL and TLS with real clients: librdkafka (current, through confluent-kafka; 2.0.2, through Debian's kcat),
//! kafka-python, the Java client (through Kafka's own tool), and byte by byte. `SMARTCITY_TEST_SASL_BOOTSTRAP=host:port`
//! runs the bytes against that broker: a real Kafka, started with `tests/kafka/sasl.properties`, answers the same.
//!
//! Where a client is missing a test says SKIPPED and passes, but fails where `CI` is set.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use auth::{ClientAuth, Entropy, Mechanism, TlsConfig, replace_user, user_entries};
use broker::{Broker, BrokerConfig, BrokerError, SaslConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn python() -> String {
    std::env::var("SMARTCITY_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn script(name: &str) -> PathBuf {
    Path::new("tests/clients").join(name)
}

/// Whether `command` runs; says loudly when it does not.
fn have(what: &str, command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = status.is_ok_and(|status| status.success());
    if !there {
        crate::skip::skip(what);
    }
    there
}

fn have_python() -> bool {
    let mut command = Command::new(python());
    command.args(["-c", "import confluent_kafka, kafka"]);
    have(
        "Python with confluent-kafka and kafka-python (SMARTCITY_PYTHON)",
        &mut command,
    )
}

/// Certificates and users of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        let ca = authority();
        files.write("ca.pem", &ca.pem());
        let (certificate, key) = leaf(&ca, ExtendedKeyUsagePurpose::ServerAuth);
        files.write("server.pem", &certificate);
        files.write("server.key", &key);
        let (certificate, key) = leaf(&ca, ExtendedKeyUsagePurpose::ClientAuth);
        files.write("client.pem", &certificate);
        files.write("client.key", &key);
        files.write("client-both.pem", &format!("{key}{certificate}"));
        let (certificate, key) = leaf(&authority(), ExtendedKeyUsagePurpose::ClientAuth);
        files.write("stranger.pem", &certificate);
        files.write("stranger.key", &key);
        files.write("users", &entries("alice", "wonder"));
        files
    }

    /// For its owner alone.
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn tls(&self) -> TlsConfig {
        TlsConfig::new(self.path("server.pem"), self.path("server.key"))
    }

    fn sasl(&self) -> SaslConfig {
        SaslConfig::new(self.path("users"))
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, PEM.
fn leaf(ca: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) -> (String, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    // OpenSSL takes a certificate named as its authority for one of the authority's own.
    params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap().pem(), key.serialize_pem())
}

/// The same byte over and over.
#[derive(Debug)]
struct Foreseen;

impl Entropy for Foreseen {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(42);
    }
}

fn entries(name: &str, password: &str) -> String {
    user_entries(name, password, 4096, &Foreseen).unwrap()
}

struct Running {
    runtime: Runtime,
    broker: Broker,
    dir: TempDir,
}

impl Running {
    fn start(sasl: Option<SaslConfig>, tls: Option<TlsConfig>) -> Self {
        let (runtime, dir) = (Runtime::new().unwrap(), TempDir::new().unwrap());
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path());
        (config.sasl, config.tls) = (sasl, tls);
        let broker = runtime.block_on(Broker::start(config)).unwrap();
        Self { runtime, broker, dir }
    }

    fn bootstrap(&self) -> String {
        self.broker.address().to_string()
    }

    fn stop(self) {
        self.runtime.block_on(self.broker.shutdown()).unwrap();
        drop(self.dir);
    }
}

/// Runs cases of `auth.py` against a broker of their own.
fn python_cases(files: &Files, sasl: Option<SaslConfig>, tls: Option<TlsConfig>, cases: &[&str]) {
    if !have_python() {
        return;
    }
    let security = match (&sasl, &tls) {
        (Some(_), Some(_)) => "sasl+tls",
        (Some(_), None) => "sasl",
        _ => "tls",
    };
    let certificate = match tls.as_ref().map(|tls| tls.client_auth) {
        Some(ClientAuth::Required) => format!(
            r#", "certificate": "{}", "key": "{}", "other_certificate": "{}", "other_key": "{}""#,
            files.text("client.pem"),
            files.text("client.key"),
            files.text("stranger.pem"),
            files.text("stranger.key")
        ),
        _ => String::new(),
    };
    let running = Running::start(sasl, tls);
    let arguments = format!(
        r#"{{"bootstrap": "{}", "security": "{security}", "ca": "{}"{certificate}}}"#,
        running.bootstrap(),
        files.text("ca.pem")
    );
    let mut command = Command::new(python());
    let status = command
        .arg(script("auth.py"))
        .arg(arguments)
        .args(cases)
        .status()
        .unwrap();
    assert!(status.success(), "{cases:?}: {status}");
    running.stop();
}

#[test]
fn tokens_are_answered_as_kafka_does() {
    let files = Files::new();
    let running = Running::start(Some(files.sasl()), None);
    let bootstrap = std::env::var("SMARTCITY_TEST_SASL_BOOTSTRAP").unwrap_or_else(|_| running.bootstrap());
    if have("Python (SMARTCITY_PYTHON)", Command::new(python()).arg("-V")) {
        let mut command = Command::new(python());
        let status = command.arg(script("auth_wire.py")).arg(bootstrap).status().unwrap();
        assert!(status.success(), "{status}");
    }
    running.stop();
}

#[test]
fn python_clients_over_plain_text() {
    let files = Files::new();
    let cases = ["confluent_is_let_in", "kafka_python_is_let_in", "the_wrong_are_refused"];
    python_cases(&files, Some(files.sasl()), None, &cases);
}

#[test]
fn python_clients_over_tls() {
    let files = Files::new();
    let cases = [
        "confluent_is_let_in",
        "kafka_python_is_let_in",
        "the_wrong_are_refused",
        "plain_text_does_not_pass",
    ];
    python_cases(&files, Some(files.sasl()), Some(files.tls()), &cases);
}

#[test]
fn python_clients_with_certificates() {
    let files = Files::new();
    let tls = TlsConfig {
        client_ca: Some(files.path("ca.pem")),
        client_auth: ClientAuth::Required,
        ..files.tls()
    };
    let cases = [
        "confluent_is_let_in",
        "kafka_python_is_let_in",
        "without_a_good_certificate_there_is_no_way",
    ];
    python_cases(&files, None, Some(tls.clone()), &cases);
    python_cases(&files, Some(files.sasl()), Some(tls), &cases[..1]);
}

#[test]
fn a_certificate_is_asked_for_and_not_needed() {
    let files = Files::new();
    let tls = TlsConfig {
        client_ca: Some(files.path("ca.pem")),
        client_auth: ClientAuth::Requested,
        ..files.tls()
    };
    python_cases(&files, Some(files.sasl()), Some(tls), &["confluent_is_let_in"]);
}

#[test]
fn only_what_is_enabled_is_taken() {
    let files = Files::new();
    let sasl = SaslConfig {
        mechanisms: vec![Mechanism::ScramSha512],
        ..files.sasl()
    };
    python_cases(&files, Some(sasl), None, &["a_mechanism_that_is_off_is_refused"]);
}

#[test]
fn sessions_end_and_are_renewed() {
    let files = Files::new();
    let sasl = SaslConfig {
        session_lifetime: Some(Duration::from_secs(2)),
        ..files.sasl()
    };
    python_cases(&files, Some(sasl), None, &["sessions_are_renewed"]);
}

#[test]
fn kcat_over_tls() {
    if !have("kcat", Command::new("kcat").arg("-V")) {
        return;
    }
    let files = Files::new();
    let running = Running::start(Some(files.sasl()), Some(files.tls()));
    // librdkafka before 2.6.1 repeats its nonce in SCRAM, which Kafka 4 refuses and so do we: PLAIN it is.
    let kcat = |password: &str| {
        let mut command = Command::new("kcat");
        // Cargo's is the path to our own librdkafka, which kcat would take for its own.
        command.env_remove("LD_LIBRARY_PATH");
        command.args(["-b", &running.bootstrap(), "-X", "security.protocol=SASL_SSL"]);
        for setting in [
            format!("ssl.ca.location={}", files.text("ca.pem")),
            "sasl.mechanism=PLAIN".to_owned(),
            "sasl.username=alice".to_owned(),
            format!("sasl.password={password}"),
        ] {
            command.args(["-X", &setting]);
        }
        command
    };
    let mut producer = kcat("wonder")
        .args(["-P", "-t", "lines"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Larger than what TLS takes at once.
    let lines = format!("{}\n", "x".repeat(100_000)).repeat(20);
    producer.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(producer.wait().unwrap().success());
    let output = kcat("wonder").args(["-C", "-t", "lines", "-e", "-q"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap() == lines);
    let refused = kcat("wrong").args(["-L", "-m", "3"]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("Authentication failed"),
        "{told}"
    );
    running.stop();
}

#[test]
fn the_java_client_over_tls() {
    let cache = std::env::var("SMARTCITY_CACHE").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/smartcity"),
        PathBuf::from,
    );
    let jars = format!("{}/kafka-4.1.0/*", cache.display());
    let mut find = Command::new("sh");
    find.args(["-c", &format!("java -version && ls {jars}")]);
    if !have("Java with Kafka's jars (tests/kafka/real-kafka --jars)", &mut find) {
        return;
    }
    let files = Files::new();
    let tls = TlsConfig {
        client_ca: Some(files.path("ca.pem")),
        client_auth: ClientAuth::Required,
        ..files.tls()
    };
    let running = Running::start(Some(files.sasl()), Some(tls));
    let tool = |mechanism: &str, password: &str| {
        let module = match mechanism {
            "PLAIN" => "plain.PlainLoginModule",
            _ => "scram.ScramLoginModule",
        };
        let properties = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\nsasl.jaas.config=org.apache.kafka.common.security.\
             {module} required username=\"alice\" password=\"{password}\";\nssl.truststore.type=PEM\n\
             ssl.truststore.location={}\nssl.keystore.type=PEM\nssl.keystore.location={}\n",
            files.text("ca.pem"),
            files.text("client-both.pem"),
        );
        files.write("client.properties", &properties);
        let mut command = Command::new("java");
        command
            .args([
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                "-cp",
                &jars,
                "kafka.admin.ConfigCommand",
            ])
            .args([
                "--bootstrap-server",
                &running.bootstrap(),
                "--command-config",
                &files.text("client.properties"),
            ])
            .args(["--describe", "--entity-type", "brokers", "--entity-name", "1", "--all"]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let (good, text) = tool(mechanism, "wonder");
        assert!(good && text.contains("num.partitions"), "{mechanism}: {text}");
    }
    let (good, text) = tool("SCRAM-SHA-256", "wrong");
    assert!(!good && text.contains("SaslAuthenticationException"), "{text}");
    running.stop();
}

/// Metadata of version 1 for no topics, as a frame.
const METADATA: &[u8] = &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0, 0, 0, 0];

#[test]
fn plain_text_on_a_tls_port_is_closed_and_holds_up_nobody() {
    let files = Files::new();
    let running = Running::start(None, Some(files.tls()));
    // Silent: its handshake is under way until it times out.
    let _silent = TcpStream::connect(running.broker.address()).unwrap();
    for bytes in [
        METADATA,
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 40],
        &[0x16, 3, 1, 0xff, 0xff, 0, 0],
    ] {
        let mut stream = TcpStream::connect(running.broker.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        // At most an alert.
        assert!(rest.len() < 16, "{rest:?}");
    }
    running.stop();
}

#[test]
fn users_and_certificates_are_read_again_when_they_change() {
    if !have_python() {
        return;
    }
    let files = Files::new();
    files.write("users", &entries("bob", "builder"));
    let running = Running::start(Some(files.sasl()), None);
    let wire = |case: &str| {
        let code = format!(
            "import sys; sys.argv = ['', '{}']; sys.path.insert(0, '{}')\nfrom auth_wire import *\n{case}()",
            running.bootstrap(),
            script("").display()
        );
        let mut command = Command::new(python());
        command.args(["-B", "-c", &code]).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(!wire("plain_lets_in"));
    let users = fs::read_to_string(files.path("users")).unwrap();
    files.write("users", &replace_user(&users, "alice", &entries("alice", "wonder")));
    std::thread::sleep(Duration::from_millis(2500));
    assert!(wire("plain_lets_in"));
    // What cannot be read changes nothing.
    files.write("users", "no file of users");
    std::thread::sleep(Duration::from_millis(2500));
    assert!(wire("plain_lets_in"));
    running.stop();
}

#[test]
fn it_says_what_keeps_it_from_starting() {
    let (files, dir, runtime) = (Files::new(), TempDir::new().unwrap(), Runtime::new().unwrap());
    let error = |address: &str, sasl: Option<SaslConfig>, tls: Option<TlsConfig>| {
        let mut config = BrokerConfig::new(address.parse().unwrap(), dir.path());
        (config.sasl, config.tls) = (sasl, tls);
        runtime.block_on(Broker::start(config)).unwrap_err()
    };
    for (sasl, tls, wanted) in [
        (None, None, "without TLS and SASL"),
        (Some(files.sasl()), None, "without TLS"),
        (None, Some(files.tls()), "without SASL"),
    ] {
        let error = error("192.0.2.1:9092", sasl, tls);
        assert!(matches!(error, BrokerError::NotLoopback { .. }));
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let nowhere = error("0.0.0.0:0", Some(files.sasl()), Some(files.tls()));
    assert!(nowhere.to_string().contains("advertised"), "{nowhere}");

    let local = |sasl, tls| error("127.0.0.1:0", sasl, tls).to_string();
    for (file, mode) in [("users", 0o640), ("server.key", 0o644)] {
        fs::set_permissions(files.path(file), Permissions::from_mode(mode)).unwrap();
        let told = local(Some(files.sasl()), Some(files.tls()));
        assert!(told.contains(file) && told.contains("chmod 600"), "{told}");
        fs::set_permissions(files.path(file), Permissions::from_mode(0o600)).unwrap();
    }
    let other = TlsConfig::new(files.path("server.pem"), files.path("stranger.key"));
    assert!(local(None, Some(other)).contains("server.pem cannot be used for TLS"));
    let swapped = TlsConfig::new(files.path("server.key"), files.path("server.pem"));
    assert!(local(None, Some(swapped)).contains("no certificates"));
    let rootless = TlsConfig {
        client_auth: ClientAuth::Required,
        ..files.tls()
    };
    assert!(local(None, Some(rootless)).contains("client_ca"));
    files.write("users", "alice:wonder\n");
    let told = local(Some(files.sasl()), None);
    assert!(told.contains("line 1") && !told.contains("wonder"), "{told}");
}
