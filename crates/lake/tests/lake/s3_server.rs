//! A real S3 server on a free port, and a proxy before it that spoils chosen requests.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lake::{Lake, LakeError, Names};
use model::ManualClock;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rows::NOON_US;

/// The one bucket.
pub(crate) const BUCKET: &str = "city";

pub(crate) struct S3Server {
    folder: tempfile::TempDir,
    port: u16,
    flags: Vec<&'static str>,
    process: Option<Child>,
}

fn script() -> PathBuf {
    PathBuf::from("../../tests/s3/real-s3")
}

impl S3Server {
    /// `None` after saying so loudly where there is no Go to build the server; CI must have it.
    pub(crate) fn start(flags: &[&'static str]) -> Option<S3Server> {
        let go = Command::new("go").arg("version").output();
        if !go.is_ok_and(|output| output.status.success()) {
            crate::skip::skip("go, to build an S3 server,");
            return None;
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("buckets").join(BUCKET)).unwrap();
        let mut server = S3Server {
            folder,
            port,
            flags: flags.to_vec(),
            process: None,
        };
        server.resume();
        Some(server)
    }

    /// Starts again after [`S3Server::kill`], on the same files and port.
    pub(crate) fn resume(&mut self) {
        let mut process = Command::new(script())
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .args(&self.flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "ready");
        self.process = Some(process);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Another account, which owns nothing.
    pub(crate) fn add_account(&self, access: &str, secret: &str) {
        let server = Command::new(script()).arg("--server").output().unwrap();
        let added = Command::new(String::from_utf8(server.stdout).unwrap().trim())
            .args(["admin", "--access", "test", "--secret", "testtest", "--endpoint-url"])
            .arg(self.endpoint())
            .args(["create-user", "-a", access, "-s", secret, "-r", "user"])
            .output()
            .unwrap();
        assert!(added.status.success(), "{added:?}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Where an object lies on this machine's disk.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join("buckets").join(BUCKET).join(key)
    }

    pub(crate) async fn open(&self, seed: u64) -> Lake {
        open_lake(&self.endpoint(), seed, &[]).await.unwrap()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// What the environment would say; `more` wins.
pub(crate) fn variables(endpoint: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let usual = [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "testtest"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
    ];
    let all = usual.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) async fn open_lake(endpoint: &str, seed: u64, more: &[(&str, &str)]) -> Result<Lake, LakeError> {
    let location = format!("s3://{BUCKET}/lake");
    let clock = Arc::new(ManualClock::new(NOON_US));
    Lake::open_with(&location, variables(endpoint, more), clock, Names::seeded(seed)).await
}

/// What the proxy does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// Answers this status; the server never hears of it.
    Answer(u16),
    /// The server does it, the client is told this status.
    DoneThenAnswer(u16),
    /// The server does it, the connection ends without an answer.
    DoneThenReset,
    /// The server does it, the answer never comes.
    DoneThenStall,
    /// The connection ends, and nothing was done.
    Reset,
}

/// A request as the proxy judges it: its method, and its path with the query.
pub(crate) type Judge = Box<dyn FnMut(&str, &str) -> Option<Spoil> + Send>;

/// Forwards to `upstream`, except for what `judge` spoils; gives the address to connect to. Ends with the runtime.
pub(crate) async fn proxy(upstream: SocketAddr, judge: Judge) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let judge = Arc::new(Mutex::new(judge));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, upstream, Arc::clone(&judge)));
        }
    });
    endpoint
}

/// One request for each connection: what is not told cannot be mixed up.
async fn pass_on(mut client: TcpStream, upstream: SocketAddr, judge: Arc<Mutex<Judge>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length: usize = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    while request.len() < head + 4 + length {
        client.read_buf(&mut request).await?;
    }
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let spoil = (judge.lock())(method, path);
    match spoil {
        Some(Spoil::Answer(status)) => return answer(&mut client, status).await,
        Some(Spoil::Reset) => return Ok(()),
        _ => {}
    }

    let mut server = TcpStream::connect(upstream).await?;
    let line = text.lines().next().unwrap().len();
    server.write_all(&request[..line]).await?;
    server.write_all(b"\r\nConnection: close").await?;
    server.write_all(&request[line..]).await?;
    let mut answered = Vec::new();
    server.read_to_end(&mut answered).await?;
    match spoil {
        Some(Spoil::DoneThenAnswer(status)) => answer(&mut client, status).await,
        Some(Spoil::DoneThenReset) => Ok(()),
        Some(Spoil::DoneThenStall) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        _ => client.write_all(&answered).await,
    }
}

async fn answer(client: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let code = match status {
        400 => "ExpiredToken",
        403 => "AccessDenied",
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
    let text = format!(
        "HTTP/1.1 {status} Spoiled\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    client.write_all(text.as_bytes()).await
}
