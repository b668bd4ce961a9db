//! A client's connection, encrypted or not.

use std::io;

use auth::{HandshakeError, TlsServer};
use bytes::BufMut;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Agrees with a client on TLS.
    pub(crate) async fn accept(tls: &TlsServer, stream: TcpStream) -> Result<Self, HandshakeError> {
        match tls.accept(stream).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => {
                metrics::counter!("smartcity_broker_tls_handshake_failures").increment(1);
                Err(error)
            }
        }
    }

    pub(crate) async fn read_buf(&mut self, buffer: &mut impl BufMut) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read_buf(buffer).await,
            Stream::Tls(stream) => stream.read_buf(buffer).await,
        }
    }
}
