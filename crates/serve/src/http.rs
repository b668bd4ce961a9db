//! The HTTP face of a running process: `GET /api/progress`, `/livez`, `/readyz` (also `/health`), `/metrics`, and an index
//! of them at `/`.
//!
//! There is no authentication yet, so it listens on loopback addresses alone, and answers only requests that name such a
//! host: a web page whose name is made to point here (DNS rebinding) gets nothing. What it serves comes from a
//! [`StatusSource`], so it knows nothing of what runs behind it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::counter;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Connections served at the same time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;

/// Time for a request's head to arrive, and for a kept connection to stay silent.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest life of one connection, so that readers who read nothing cannot hold all of them.
const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(300);

/// Time that requests in progress get at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const INDEX: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>smartcity</title>
<h1>smartcity</h1>
<ul>
<li><a href=\"/api/progress\">/api/progress</a> progress of every stream, JSON</li>
<li><a href=\"/readyz\">/readyz</a> 200 when it does what it is for, 503 and the reasons when not</li>
<li><a href=\"/livez\">/livez</a> 200 unless the process must be started again</li>
<li><a href=\"/metrics\">/metrics</a> Prometheus metrics</li>
</ul>
</html>
";

/// The answer to one question about the process.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// All is well; a few facts about it.
    Well(Value),
    /// Something is wrong; one line that says what.
    Unwell(String),
}

/// Where the answers come from. Called for each request, so keep it to reading what is in memory.
pub trait StatusSource: Send + Sync + 'static {
    /// Progress of every stream, in the shape of Spark's progress JSON.
    fn progress(&self) -> Value;
    /// Whether the process does what it is for; starting it again may mend nothing.
    fn health(&self) -> Health;
    /// Whether the process can go on. Unwell means that it must be started again.
    fn live(&self) -> Health {
        Health::Well(json!({}))
    }
    /// All metrics in Prometheus' text format, version 0.0.4.
    fn metrics(&self) -> String;
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Bind to `127.0.0.1` or `[::1]` instead.
    #[error(
        "HTTP cannot listen on {address}: it has no authentication yet, so only loopback addresses are allowed (127.0.0.1 or [::1])"
    )]
    NotLoopback { address: SocketAddr },
    /// Choose another port, or end the process that has this one.
    #[error("HTTP address {address} is in use by another process: choose another port")]
    InUse { address: SocketAddr },
    /// Anything else the system says.
    #[error("HTTP cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
}

/// A running server. Dropping it ends the server at once; [`HttpServer::shutdown`] lets requests in progress end.
pub struct HttpServer {
    address: SocketAddr,
    stop: CancellationToken,
    accepting: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Listens on `address`, a loopback address (port 0 chooses a free one).
    pub async fn start(address: SocketAddr, source: Arc<dyn StatusSource>) -> Result<HttpServer, HttpError> {
        if !address.ip().is_loopback() {
            return Err(HttpError::NotLoopback { address });
        }
        let listen_error = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => HttpError::InUse { address },
            _ => HttpError::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let stop = CancellationToken::new();
        let accepting = tokio::spawn(accept(listener, router(source, address.ip()), stop.clone()));
        info!(%address, "http listening");
        Ok(HttpServer {
            address,
            stop,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets requests in progress end for up to two seconds, and closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take()
            && let Err(error) = accepting.await
        {
            warn!(%error, "http server ended badly");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // The task owns the listener and all connections.
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // The permit comes first: a connection that cannot be served yet waits unaccepted.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
        };
        match accepted {
            (Ok((stream, _)), permit) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    serve_connection(stream, router, stop).await;
                });
            }
            (Err(error), _) => {
                // Out of file descriptors, or the peer left already: neither is mended by trying again at once.
                warn!(%error, "http connection not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_GRACE, ended).await.is_err() {
        debug!("http connections cut at shutdown");
    }
}

async fn serve_connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let served = timeout(CONNECTION_LIFE_MAX, async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    });
    match served.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "http connection ended"),
        Err(_) => debug!("http connection closed for its age"),
    }
}

fn router(source: Arc<dyn StatusSource>, bound: IpAddr) -> Router {
    Router::new()
        .route("/", get(|| async { Html(INDEX) }))
        .route("/api/progress", get(progress))
        .route("/livez", get(live))
        .route("/readyz", get(health))
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; / lists what there is\n") })
        .with_state(source)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            guard(bound, request, next)
        }))
}

async fn progress(State(source): State<Arc<dyn StatusSource>>) -> Response {
    Json(source.progress()).into_response()
}

async fn health(State(source): State<Arc<dyn StatusSource>>) -> Response {
    answer(source.health())
}

async fn live(State(source): State<Arc<dyn StatusSource>>) -> Response {
    answer(source.live())
}

fn answer(health: Health) -> Response {
    match health {
        Health::Well(facts) => Json(json!({ "status": "ok", "details": facts })).into_response(),
        Health::Unwell(reason) => {
            let body = json!({ "status": "unwell", "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics_text(State(source): State<Arc<dyn StatusSource>>) -> Response {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4");
    ([(header::CONTENT_TYPE, content_type)], source.metrics()).into_response()
}

/// Refuses foreign hosts and requests with a body; adds what keeps browsers from guessing and caching.
async fn guard(bound: IpAddr, request: Request, next: Next) -> Response {
    let mut response = if !names_this_host(request.headers(), bound) {
        (StatusCode::FORBIDDEN, "this server answers to localhost only\n").into_response()
    } else if has_body(request.headers()) {
        (StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n").into_response()
    } else {
        next.run(request).await
    };
    counter!("smartcity_serve_http_requests_total", "status" => response.status().as_u16().to_string()).increment(1);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn names_this_host(headers: &HeaderMap, bound: IpAddr) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(v6) => v6
            .parse()
            .is_ok_and(|address: IpAddr| address == bound || address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name
                    .parse()
                    .is_ok_and(|address: IpAddr| address == bound || address == IpAddr::from([127, 0, 0, 1]))
        }
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_names_pass() {
        let passes = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            names_this_host(&headers, IpAddr::from([127, 0, 0, 2]))
        };
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1",
            "127.0.0.1:9090",
            "[::1]:9090",
            "[::1]",
            "127.0.0.2:1",
        ] {
            assert!(passes(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9090",
            "10.0.0.1",
            "::1",
            "",
            "[::2]",
            "localhost:x",
        ] {
            assert!(!passes(host), "{host}");
        }
        assert!(!names_this_host(&HeaderMap::new(), IpAddr::from([127, 0, 0, 1])));
    }
}
