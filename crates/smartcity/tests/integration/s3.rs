//! The whole way on S3: a broker, the classic run, ingest through a server that dies in the middle, and the proof.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{Process, broker, eventually, free_port, python, root, run, smartcity};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

const LAKE: &str = "s3://city/lake";

fn on_s3(endpoint: &str) -> Command {
    let mut command = smartcity();
    let variables = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "testtest"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ENDPOINT_URL", endpoint),
    ];
    command.envs(variables);
    command
}

fn serve_s3(dir: &Path, port: u16) -> Process {
    std::fs::create_dir_all(dir.join("buckets/city")).unwrap();
    let mut server = Process::start(
        Command::new(root().join("tests/s3/real-s3"))
            .arg(dir)
            .arg(port.to_string()),
    );
    server.wait_for("ready", Duration::from_secs(600));
    server
}

fn has_go() -> bool {
    let version = Command::new("go").arg("version").output();
    let found = version.is_ok_and(|output| output.status.success());
    if !found {
        crate::support::skip("go, to build an S3 server,");
    }
    found
}

/// As a pod in Kubernetes: no keys, only a token that STS changes into some, and again when they have expired.
#[test]
fn a_lake_by_web_identity() {
    if !has_go() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let _server = serve_s3(&dir.path().join("s3"), port);
    let (_broker, kafka) = broker(dir.path());
    run(smartcity().args(["simulate", "--pace", "max", "--bootstrap-servers", &kafka]));

    let token = dir.path().join("token");
    std::fs::write(&token, "pod-token").unwrap();
    let sts = Sts::start(dir.path());
    let mut ingest = on_s3(&endpoint);
    ingest
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    ingest
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
        .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/city")
        .env("AWS_ENDPOINT_URL_STS", &sts.endpoint)
        .env("SSL_CERT_FILE", &sts.authority);
    ingest.args(["ingest", "--until-caught-up", "--bootstrap-servers", &kafka]);
    run(ingest.args(["--lake", LAKE]));

    let asked = sts.asked.lock().unwrap();
    assert!(
        asked.len() > 3,
        "keys that had expired were used again: asked {} times",
        asked.len()
    );
    let expected = ["AssumeRoleWithWebIdentity", "role%2Fcity", "pod-token"];
    assert!(expected.iter().all(|part| asked[0].contains(part)), "{}", asked[0]);
    let count = [
        "query",
        "select count(*) as n from vehicle_data",
        "--format",
        "json",
        "--lake",
        LAKE,
    ];
    let printed = run(on_s3(&endpoint).args(count));
    assert_ne!(serde_json::from_str::<Value>(&printed).unwrap()["n"], 0);
}

/// Changes tokens into keys that have expired already, so that each request needs new ones.
struct Sts {
    endpoint: String,
    /// The certificate to trust.
    authority: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Sts {
    fn start(dir: &Path) -> Self {
        let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let authority = dir.join("authority.pem");
        std::fs::write(&authority, signed.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut client = StreamOwned::new(connection, client.unwrap());
                let mut request = String::new();
                if BufReader::new(&mut client).read_line(&mut request).is_ok() && !request.is_empty() {
                    heard.lock().unwrap().push(request);
                    client.write_all(Self::answer().as_bytes()).ok();
                    client.conn.send_close_notify();
                    client.flush().ok();
                }
            }
        });
        Self {
            endpoint,
            authority,
            asked,
        }
    }

    fn answer() -> String {
        let body = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                    <AccessKeyId>test</AccessKeyId><SecretAccessKey>testtest</SecretAccessKey><SessionToken></SessionToken>\
                    <Expiration>2020-01-01T00:00:00Z</Expiration>\
                    </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\n";
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
    }
}

#[test]
fn a_lake_on_a_server_that_dies_is_whole() {
    if !has_go() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let server = serve_s3(&dir.path().join("s3"), port);

    let (_broker, kafka) = broker(dir.path());

    run(smartcity().args(["simulate", "--pace", "max", "--bootstrap-servers", &kafka]));
    let ingest = Process::start(on_s3(&endpoint).args([
        "ingest",
        "--latency",
        "100ms",
        "--bootstrap-servers",
        &kafka,
        "--lake",
        LAKE,
    ]));
    let data = dir.path().join("s3/buckets/city/lake/data/vehicle_data/_delta_log");
    // The table, its topic, its first rows.
    eventually("a first commit", Duration::from_secs(60), || {
        data.join(format!("{:020}.json", 2)).exists()
    });
    server.kill();
    run(smartcity().args([
        "simulate",
        "--seed",
        "8",
        "--pace",
        "max",
        "--bootstrap-servers",
        &kafka,
    ]));
    thread::sleep(Duration::from_secs(1));
    let _server = serve_s3(&dir.path().join("s3"), port);
    // What ingest held while the store was away lands by itself; the rest by the next run.
    eventually("a commit after the outage", Duration::from_secs(60), || {
        data.join(format!("{:020}.json", 3)).exists()
    });
    ingest.stop();
    run(on_s3(&endpoint).args([
        "ingest",
        "--until-caught-up",
        "--bootstrap-servers",
        &kafka,
        "--lake",
        LAKE,
    ]));

    let verify = [
        "lake",
        "verify",
        "--against-kafka",
        "--json",
        "--bootstrap-servers",
        &kafka,
        "--lake",
        LAKE,
    ];
    let verdict: Value = serde_json::from_str(&run(on_s3(&endpoint).args(verify))).unwrap();
    let tables = verdict["tables"].as_array().unwrap();
    let vehicle = tables.iter().find(|table| table["table"] == "vehicle_data").unwrap();
    let rows = vehicle["rows"].as_u64().unwrap();
    let compared: u64 = vehicle["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["compared"].as_u64().unwrap())
        .sum();
    assert!(rows > 0 && compared == rows, "{verdict:#}");
    assert_eq!(
        (&verdict["faulty_tables"], &verdict["doubtful_tables"]),
        (&0.into(), &0.into()),
        "{verdict:#}"
    );

    let count = "select count(*) as n from vehicle_data";
    let printed = run(on_s3(&endpoint).args(["query", count, "--format", "json", "--lake", LAKE]));
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["n"], rows);

    let Some(mut reader) = python("s3_rows.py") else { return };
    let seen = run(reader.args([endpoint.as_str(), "s3://city/lake/data/vehicle_data"]));
    assert_eq!(seen.trim(), rows.to_string());

    // A value that is changed behind everyone's back, the checksum in the log with it.
    let file = first_parquet(data.parent().unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = on_s3(&endpoint)
        .args(["lake", "verify", "--lake", LAKE])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.contains("vehicle_data: FAULTY") && printed.contains("another checksum"),
        "{printed}"
    );
}

fn first_parquet(table: &std::path::Path) -> std::path::PathBuf {
    let mut folders = vec![table.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("_delta_log") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                return path;
            }
        }
    }
    panic!("no file below {table:?}");
}
