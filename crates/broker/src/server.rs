//! The sockets: accepting, reading frames, answering in order, and the bounds on all of it.
//!
//! A connection has one request under way at a time, as with Kafka, so what a client can make the broker hold is one
//! request and one answer. Only records that have been written and are on their way to the disk let the next Produce
//! request begin, a few of them, so that one sync serves several. Answers go out in the order of their requests. Bytes
//! that are no request close their connection and touch no other.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::HandshakeError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::buffers::Buffers;
use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::peer::Peer;
use crate::protocol::{self, Answer, Later, Outcome};
use crate::sasl::{AUTHENTICATION_TIMEOUT, FAILURE_DELAY, FRAME_BYTES_MAX, Session};
use crate::send::send;
use crate::state::State;
use crate::stream::Stream;

/// A connection gives back its buffer when nothing has come for so long.
const BUFFER_KEPT_FOR: Duration = Duration::from_secs(1);
/// Room that is made before anything has come.
const FIRST_READ: usize = 4 << 10;
/// Buffers grow with what has arrived, from the first of these at once to the second: a length alone makes no one
/// allocate.
const GROWTH: (usize, usize) = (64 << 10, 1 << 20);
const BACKLOG: u32 = 1024;
/// Requests up to this size do not wait for large ones to end: heartbeats must get through. Larger ones are read into a
/// buffer that the connection does not keep.
const SMALL_REQUEST: usize = 16 << 10;
/// Produce requests of a connection that wait for the disk: as many as an idempotent producer has in flight.
const UNSYNCED_MAX: usize = 5;
/// A request that has begun must be whole by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn bind(config: &BrokerConfig) -> Result<TcpListener, BrokerError> {
    let address = config.listen;
    let listen = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // A restart must not wait for old connections to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BrokerError::AddressInUse { address },
        _ => BrokerError::Listen { address, source },
    })
}

pub(crate) fn spawn(listener: TcpListener, state: Arc<State>, tasks: &TaskTracker, stop: CancellationToken) {
    let connections = Arc::new(Semaphore::new(state.config.limits.connections_max));
    let in_flight = Arc::new(Semaphore::new(state.config.limits.in_flight_bytes_max));
    let buffers = Arc::new(Buffers::default());
    let spawner = tasks.clone();
    tasks.spawn(async move {
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file handles, most likely: wait for connections to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                closed("too_many_connections");
                tracing::warn!(%peer, "connection refused: too many are open (limits.connections_max)");
                continue;
            };
            let (in_flight, buffers) = (Arc::clone(&in_flight), Arc::clone(&buffers));
            let served = serve(Arc::clone(&state), stream, peer, in_flight, buffers);
            let stop = stop.clone();
            spawner.spawn(async move {
                metrics::gauge!("smartcity_broker_connections").increment(1.0);
                if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                    closed(error.reason());
                    tracing::warn!(%peer, %error, "connection closed");
                }
                metrics::gauge!("smartcity_broker_connections").decrement(1.0);
                drop(permit);
            });
        }
    });
}

/// Serves one connection to its end. The TLS handshake is part of it: it holds up no other connection, and counts as
/// one.
async fn serve(
    state: Arc<State>,
    stream: TcpStream,
    peer: SocketAddr,
    in_flight: Arc<Semaphore>,
    buffers: Arc<Buffers>,
) -> Result<(), Closed> {
    stream.set_nodelay(true)?;
    let stream = match &state.tls {
        None => Stream::Plain(stream),
        // Boxed, as whatever is awaited once: what it needs would be held for as long as the connection is.
        Some(tls) => Box::pin(Stream::accept(tls, stream)).await?,
    };
    let connection = Connection {
        state,
        stream,
        in_flight,
        buffers,
    };
    connection.serve(peer.ip().to_string()).await
}

struct Connection {
    state: Arc<State>,
    stream: Stream,
    in_flight: Arc<Semaphore>,
    buffers: Arc<Buffers>,
}

/// Connections that were not closed by their clients, for whoever reads the metrics.
fn closed(reason: &'static str) {
    metrics::counter!("smartcity_broker_connections_closed", "reason" => reason).increment(1);
}

#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame of {length} bytes was announced, the limit is {limit}")]
    FrameLength { length: i32, limit: usize },
    #[error("no byte of a request came for {0:?} (limits.stalled_connection)")]
    Sending(Duration),
    #[error("no byte of an answer was taken for {0:?} (limits.stalled_connection)")]
    Reading(Duration),
    #[error("a request was not whole after {REQUEST_TIMEOUT:?}")]
    TooSlow,
    #[error("no room for a request of {0} bytes beside those under way (limits.in_flight_bytes_max)")]
    NoRoom(usize),
    #[error("{0}")]
    Tls(#[from] HandshakeError),
    #[error("not authenticated within {AUTHENTICATION_TIMEOUT:?}")]
    Unauthenticated,
    #[error("{0}")]
    Rejected(String),
    #[error("{0}")]
    Request(String),
}

impl Closed {
    /// As the metric names it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Io(_) => "io",
            Self::FrameLength { .. } => "frame_length",
            Self::Sending(_) | Self::TooSlow => "slow_request",
            Self::Reading(_) => "slow_reader",
            Self::NoRoom(_) => "no_room",
            Self::Tls(_) => "tls",
            Self::Unauthenticated | Self::Rejected(_) => "authentication",
            Self::Request(_) => "bad_request",
        }
    }
}

impl Connection {
    async fn serve(mut self, host: String) -> Result<(), Closed> {
        let mut buffer = BytesMut::new();
        let mut peer = Peer::new(host, Session::new(self.state.sasl.as_ref()));
        let mut unsynced: VecDeque<Later> = VecDeque::new();
        loop {
            self.answer_until_next(&mut unsynced, &mut buffer).await?;
            let frame = match peer.session.deadline() {
                None => {
                    let limit = self.state.config.limits.request_bytes_max;
                    self.read_frame(&mut buffer, limit).await?
                }
                Some(deadline) => {
                    let frame = self.read_frame(&mut buffer, FRAME_BYTES_MAX);
                    let frame = tokio::time::timeout_at(deadline, frame).await;
                    frame.map_err(|_| Closed::Unauthenticated)??
                }
            };
            let Some((frame, _permit)) = frame else { return Ok(()) };
            if !protocol::is_produce(&frame) {
                self.answer_all(&mut unsynced).await?;
            }
            let large = (frame.len() > SMALL_REQUEST).then(|| frame.clone());
            let outcome = protocol::handle(&self.state, &mut peer, frame).await;
            if let Some(request) = large {
                self.buffers.give_back(request);
            }
            match outcome {
                Outcome::Later(later) => unsynced.push_back(later),
                Outcome::Silence => {}
                outcome => {
                    self.answer_all(&mut unsynced).await?;
                    self.conclude(outcome).await?;
                }
            }
        }
    }

    /// Sends the answers that become ready until the next request comes or there is none to wait for. At the most of them
    /// no request is read.
    async fn answer_until_next(&mut self, unsynced: &mut VecDeque<Later>, buffer: &mut BytesMut) -> Result<(), Closed> {
        while !unsynced.is_empty() {
            let is_full = unsynced.len() >= UNSYNCED_MAX;
            let Some(first) = unsynced.front_mut() else { break };
            let outcome = tokio::select! {
                biased;
                outcome = first => outcome,
                // Nothing is lost when the other comes first: what has been read is in the buffer.
                read = self.read_length(buffer), if !is_full => {
                    if !matches!(read, Ok(true)) {
                        // The client sends no more, but may still want its answers.
                        self.answer_all(unsynced).await?;
                    }
                    return Ok(());
                }
            };
            unsynced.pop_front();
            self.conclude(outcome).await?;
        }
        Ok(())
    }

    async fn answer_all(&mut self, unsynced: &mut VecDeque<Later>) -> Result<(), Closed> {
        while let Some(first) = unsynced.pop_front() {
            let outcome = first.await;
            self.conclude(outcome).await?;
        }
        Ok(())
    }

    /// Sends an answer, and ends the connection where the outcome says so.
    async fn conclude(&mut self, outcome: Outcome) -> Result<(), Closed> {
        match outcome {
            Outcome::Answer(answer) => self.send(answer).await,
            Outcome::Silence | Outcome::Later(_) => Ok(()),
            Outcome::Reject(answer, reason) => {
                tokio::time::sleep(FAILURE_DELAY).await;
                if let Some(answer) = answer {
                    self.send(answer).await?;
                }
                Err(Closed::Rejected(reason))
            }
            Outcome::Close(reason) => Err(Closed::Request(reason)),
        }
    }

    async fn send(&mut self, answer: Answer) -> Result<(), Closed> {
        let stall = self.state.config.limits.stalled_connection;
        let sent = send(&mut self.stream, answer, stall).await;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Closed::Reading(stall),
            _ => error.into(),
        })
    }

    /// The next whole frame, without its length; `None` when the client is done or has been idle for too long.
    async fn read_frame(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Result<Option<(Bytes, Option<OwnedSemaphorePermit>)>, Closed> {
        if !self.read_length(buffer).await? {
            return Ok(None);
        }
        let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        if length <= 0 || length as usize > limit {
            return Err(Closed::FrameLength { length, limit });
        }
        let length = length as usize;
        buffer.advance(4);
        if length <= SMALL_REQUEST {
            self.read_whole(buffer, length).await?;
            return Ok(Some((buffer.split_to(length).freeze(), None)));
        }
        let mut large = self.buffers.take();
        let arrived = buffer.len().min(length);
        large.extend_from_slice(&buffer[..arrived]);
        buffer.advance(arrived);
        let permit = self.read_whole(&mut large, length).await?;
        Ok(Some((large.freeze(), permit)))
    }

    /// Reads on until the buffer holds a request of this length, and no more where it is a large one.
    async fn read_whole(
        &mut self,
        buffer: &mut BytesMut,
        length: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, Closed> {
        let reading = tokio::time::timeout(REQUEST_TIMEOUT, self.read_body(buffer, length));
        reading.await.map_err(|_| Closed::TooSlow)?
    }

    /// Waits for a request's length; false when none comes any more.
    async fn read_length(&mut self, buffer: &mut BytesMut) -> Result<bool, Closed> {
        let idle = self.state.config.limits.idle_connection;
        match tokio::time::timeout(BUFFER_KEPT_FOR.min(idle), self.read_until(buffer, 4)).await {
            Ok(read) => read,
            Err(_) => {
                if buffer.is_empty() {
                    *buffer = BytesMut::new();
                }
                let read = tokio::time::timeout(idle, self.read_until(buffer, 4)).await;
                read.unwrap_or(Ok(false))
            }
        }
    }

    /// Reads until the buffer holds so many bytes; false when the client closed before.
    async fn read_until(&mut self, buffer: &mut BytesMut, bytes: usize) -> Result<bool, Closed> {
        while buffer.len() < bytes {
            buffer.reserve(FIRST_READ);
            if self.stream.read_buf(buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a request whose length is known. Room for a large one is taken as its bytes come: who announces much and
    /// sends little holds little.
    async fn read_body(&mut self, buffer: &mut BytesMut, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Closed> {
        let stall = self.state.config.limits.stalled_connection;
        let mut held: Option<OwnedSemaphorePermit> = None;
        while buffer.len() < bytes {
            let step = (bytes - buffer.len()).min(buffer.len().clamp(GROWTH.0, GROWTH.1));
            let holding = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let wanted = buffer.len() + step;
            if wanted > SMALL_REQUEST && wanted > holding {
                let taking = Arc::clone(&self.in_flight).acquire_many_owned((wanted - holding) as u32);
                let taken = tokio::time::timeout(stall, taking).await;
                let taken = taken.ok().and_then(Result::ok).ok_or(Closed::NoRoom(bytes))?;
                match &mut held {
                    Some(held) => held.merge(taken),
                    None => held = Some(taken),
                }
            }
            buffer.reserve(step);
            let mut room = buffer.limit(step);
            let read = tokio::time::timeout(stall, self.stream.read_buf(&mut room)).await;
            if read.map_err(|_| Closed::Sending(stall))?? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a request was cut off").into());
            }
        }
        Ok(held)
    }
}
