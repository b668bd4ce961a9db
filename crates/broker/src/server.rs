//! The sockets: accepting, reading frames, answering in order, and the bounds on all of it.
//!
//! A connection has one request under way at a time, as with Kafka, so what a client can make the broker hold is one
//! request and one answer. Bytes that are no request close their connection and touch no other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::BrokerConfig;
use crate::error::BrokerError;
use crate::protocol::{self, Outcome, Peer};
use crate::state::State;

/// A buffer that has grown past this is given back once its request is answered.
const BUFFER_KEPT: usize = 256 << 10;
/// Buffers grow as bytes arrive, by at most this, so that a length alone makes no one allocate.
const GROWTH: usize = 1 << 20;
const BACKLOG: u32 = 1024;
/// Requests up to this size do not wait for large ones to end: heartbeats must get through.
const SMALL_REQUEST: usize = 64 << 10;
/// A request that has begun must be whole by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn bind(config: &BrokerConfig) -> Result<TcpListener, BrokerError> {
    let address = config.listen;
    if !address.ip().is_loopback() {
        return Err(BrokerError::NotLoopback { address });
    }
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
                tracing::warn!(%peer, "connection refused: too many are open (limits.connections_max)");
                continue;
            };
            let connection = Connection {
                state: Arc::clone(&state),
                stream,
                peer,
                in_flight: Arc::clone(&in_flight),
            };
            let stop = stop.clone();
            spawner.spawn(async move {
                metrics::gauge!("smartcity_broker_connections").increment(1.0);
                if let Some(Err(error)) = stop.run_until_cancelled(connection.serve()).await {
                    tracing::warn!(%peer, %error, "connection closed");
                }
                metrics::gauge!("smartcity_broker_connections").decrement(1.0);
                drop(permit);
            });
        }
    });
}

struct Connection {
    state: Arc<State>,
    stream: TcpStream,
    peer: SocketAddr,
    in_flight: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame of {length} bytes was announced, the limit is {limit} (limits.request_bytes_max)")]
    FrameLength { length: i32, limit: usize },
    #[error("{0}")]
    Request(String),
}

impl Connection {
    async fn serve(mut self) -> Result<(), Closed> {
        self.stream.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        let mut peer = Peer::new(self.peer.ip().to_string());
        while let Some((frame, _permit)) = self.read_frame(&mut buffer).await? {
            match protocol::handle(&self.state, &mut peer, frame).await {
                Outcome::Answer(answer) => {
                    metrics::counter!("smartcity_broker_sent_bytes").increment(answer.len() as u64);
                    self.stream.write_all(&answer).await?;
                }
                Outcome::Silence => {}
                Outcome::Close(reason) => return Err(Closed::Request(reason)),
            }
        }
        Ok(())
    }

    /// The next whole frame, without its length; `None` when the client is done or has been idle for too long.
    async fn read_frame(&mut self, buffer: &mut BytesMut) -> Result<Option<(Bytes, OwnedSemaphorePermit)>, Closed> {
        let idle = self.state.config.limits.idle_connection;
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            *buffer = BytesMut::new();
        }
        if !tokio::time::timeout(idle, self.read_until(buffer, 4))
            .await
            .unwrap_or(Ok(false))?
        {
            return Ok(None);
        }
        let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        let limit = self.state.config.limits.request_bytes_max;
        if length <= 0 || length as usize > limit {
            return Err(Closed::FrameLength { length, limit });
        }
        let length = length as usize;
        let permits = if length > SMALL_REQUEST { length as u32 } else { 0 };
        let permit = Arc::clone(&self.in_flight).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let whole = tokio::time::timeout(REQUEST_TIMEOUT, self.read_until(buffer, 4 + length)).await;
        if !whole.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))? {
            return Ok(None);
        }
        metrics::counter!("smartcity_broker_received_bytes").increment(4 + length as u64);
        buffer.advance(4);
        Ok(Some((buffer.split_to(length).freeze(), permit)))
    }

    /// Reads until the buffer holds so many bytes; false when the client closed before.
    async fn read_until(&mut self, buffer: &mut BytesMut, bytes: usize) -> Result<bool, Closed> {
        while buffer.len() < bytes {
            buffer.reserve((bytes - buffer.len()).clamp(4 << 10, GROWTH));
            if self.stream.read_buf(buffer).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
