use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use serve::http::{Health, HttpError, HttpServer, StatusSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Default)]
struct Source {
    unwell: AtomicBool,
}

impl StatusSource for Source {
    fn progress(&self) -> Value {
        json!([{ "name": "vehicle_data", "numInputRows": 5 }])
    }

    fn health(&self) -> Health {
        if self.unwell.load(Ordering::Relaxed) {
            Health::Unwell("vehicle_data has not committed for 40 s".to_owned())
        } else {
            Health::Well(json!({ "streams": 5 }))
        }
    }

    fn metrics(&self) -> String {
        "# TYPE smartcity_ingest_rows_total counter\nsmartcity_ingest_rows_total 5\n".to_owned()
    }
}

async fn server() -> (HttpServer, Arc<Source>) {
    let source = Arc::new(Source::default());
    let server = HttpServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), source.clone())
        .await
        .unwrap();
    (server, source)
}

/// Sends bytes as they are and returns head and body of the answer.
async fn exchange(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_lowercase(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str, host: &str) -> (String, String) {
    exchange(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
    .await
}

#[tokio::test]
async fn what_it_serves() {
    let (server, source) = server().await;
    let address = server.address();

    let (head, body) = get(address, "/api/progress", "localhost:9090").await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-type: application/json"),
        "{head}"
    );
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), source.progress());

    let (head, body) = get(address, "/metrics", "127.0.0.1").await;
    assert!(head.contains("content-type: text/plain; version=0.0.4\r\n"), "{head}");
    assert_eq!(body, source.metrics());

    let (head, body) = get(address, "/", "[::1]:9090").await;
    assert!(
        head.contains("content-type: text/html") && head.contains("cache-control: no-store"),
        "{head}"
    );
    for path in ["/api/progress", "/livez", "/readyz", "/metrics"] {
        assert!(body.contains(path), "{body}");
    }

    let (head, body) = get(address, "/health", "localhost").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, r#"{"status":"ok","details":{"streams":5}}"#);
    source.unwell.store(true, Ordering::Relaxed);
    let (head, body) = get(address, "/health", "localhost").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    assert_eq!(
        body,
        r#"{"status":"unwell","reason":"vehicle_data has not committed for 40 s"}"#
    );

    server.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_it_refuses() {
    let (server, _) = server().await;
    let address = server.address();
    let status = |(head, _): (String, String)| head.lines().next().unwrap_or_default().to_owned();

    assert!(status(get(address, "/api/progress", "evil.example").await).contains("403"));
    assert!(status(exchange(address, "GET / HTTP/1.0\r\n\r\n").await).contains("403"));
    assert!(status(get(address, "/nothing", "localhost").await).contains("404"));
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(status(exchange(address, post).await).contains("405"));
    let with_body = "POST /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    assert!(status(exchange(address, with_body).await).contains("413"));
    let large = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "x".repeat(100_000)
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    // The server may close before it has read everything, which a client can see as a reset.
    let _ = stream.write_all(large.as_bytes()).await;
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "));
}

#[tokio::test]
async fn addresses_it_cannot_have() {
    let (server, source) = server().await;
    let taken = HttpServer::start(server.address(), source.clone()).await.err().unwrap();
    assert!(matches!(taken, HttpError::InUse { .. }));
    assert_eq!(
        taken.to_string(),
        format!(
            "HTTP address {} is in use by another process: choose another port",
            server.address()
        )
    );
    let open = HttpServer::start(SocketAddr::from(([0, 0, 0, 0], 0)), source)
        .await
        .err()
        .unwrap();
    assert!(
        open.to_string().contains("only loopback addresses are allowed"),
        "{open}"
    );
}

#[tokio::test]
async fn silent_connections_hold_up_nobody_and_end_at_shutdown() {
    let (server, _) = server().await;
    let address = server.address();
    let mut silent = Vec::new();
    for _ in 0..63 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HT").await.unwrap();
        silent.push(stream);
    }
    let (head, _) = get(address, "/health", "localhost").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    tokio::time::timeout(std::time::Duration::from_secs(5), server.shutdown())
        .await
        .unwrap();
}
