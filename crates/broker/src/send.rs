//! Sending an answer: bytes are written, ranges of segment files go from the file to the socket within the kernel, or
//! through a buffer where they have to be encrypted.
//!
//! A client that does not read is given up after a while, so that what an answer holds is let go of.

use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::log::FileRange;
use crate::protocol::{Answer, Piece};
use crate::stream::Stream;

/// Sent from a file before others get their turn on the thread.
const STEP_BYTES: usize = 256 << 10;
/// Where the kernel cannot do it, a file is copied through a buffer of this size.
const COPY_BYTES: usize = 64 << 10;

/// Sends all of it, or fails with `TimedOut` when the client takes no byte for `stall`.
pub(crate) async fn send(stream: &mut Stream, answer: Answer, stall: Duration) -> io::Result<()> {
    for piece in answer.pieces {
        match (&mut *stream, piece) {
            (Stream::Plain(stream), Piece::Bytes(bytes)) => write_all(stream, bytes, stall).await?,
            (Stream::Plain(stream), Piece::File(range)) => send_range(stream, range, stall).await?,
            (Stream::Tls(stream), Piece::Bytes(bytes)) => write_all(stream, bytes, stall).await?,
            (Stream::Tls(stream), Piece::File(range)) => copy_range(stream, &range, stall).await?,
        }
    }
    match stream {
        Stream::Plain(_) => Ok(()),
        Stream::Tls(stream) => tokio::time::timeout(stall, stream.flush()).await?,
    }
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), mut bytes: impl Buf, stall: Duration) -> io::Result<()> {
    while bytes.has_remaining() {
        let written = tokio::time::timeout(stall, to.write(bytes.chunk())).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes.advance(written);
    }
    Ok(())
}

#[cfg(target_os = "linux")]
async fn send_range(stream: &mut TcpStream, range: FileRange, stall: Duration) -> io::Result<()> {
    let (mut position, end) = (range.position, range.position + range.len as u64);
    while position < end {
        let step = STEP_BYTES.min((end - position) as usize);
        let sending = stream.async_io(tokio::io::Interest::WRITABLE, || {
            let mut at = position;
            Ok(rustix::fs::sendfile(&*stream, &range.file, Some(&mut at), step)?)
        });
        match tokio::time::timeout(stall, sending).await?? {
            0 => return Err(cut_short()),
            sent => position += sent as u64,
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
async fn send_range(stream: &mut TcpStream, range: FileRange, stall: Duration) -> io::Result<()> {
    copy_range(stream, &range, stall).await
}

/// For a stream that the kernel cannot write to by itself.
async fn copy_range(to: &mut (impl AsyncWrite + Unpin), range: &FileRange, stall: Duration) -> io::Result<()> {
    let (mut position, end) = (range.position, range.position + range.len as u64);
    let mut buffer = vec![0; COPY_BYTES.min(range.len)];
    while position < end {
        let step = buffer.len().min((end - position) as usize);
        range.file.read_exact_at(&mut buffer[..step], position)?;
        write_all(to, &buffer[..step], stall).await?;
        position += step as u64;
    }
    Ok(())
}

/// Files are cut only behind what readers are given; if one is all the same, the client must not get less than announced.
#[cfg(target_os = "linux")]
fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a segment file ends before its records")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Stream::Plain(listener.accept().await.unwrap().0), client)
    }

    fn range(content: &[u8], position: u64, len: usize) -> FileRange {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        FileRange {
            file: Arc::new(file),
            position,
            len,
            permit: None,
        }
    }

    #[tokio::test]
    async fn bytes_and_ranges_arrive_in_order() {
        let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
        let (mut server, mut client) = pair().await;
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        let pieces = vec![
            Piece::Bytes(Bytes::from_static(b"before")),
            Piece::File(range(&content, 1000, 2_500_000)),
            Piece::Bytes(Bytes::from_static(b"behind")),
        ];
        send(&mut server, Answer { pieces, len: 2_500_012 }, Duration::from_secs(5))
            .await
            .unwrap();
        let Stream::Plain(server) = &mut server else { return };
        copy_range(server, &range(&content, 5, 200_000), Duration::from_secs(5))
            .await
            .unwrap();
        server.shutdown().await.unwrap();
        let expected = [b"before", &content[1000..2_501_000], b"behind", &content[5..200_005]].concat();
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let content = vec![7; 20 << 20];
        let stall = Duration::from_millis(100);
        let (mut server, _client) = pair().await;
        let file = Answer {
            pieces: vec![Piece::File(range(&content, 0, content.len()))],
            len: content.len(),
        };
        assert_eq!(
            send(&mut server, file, stall).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        let (mut server, _client) = pair().await;
        let bytes = Answer {
            len: content.len(),
            pieces: vec![Piece::Bytes(content.into())],
        };
        assert_eq!(
            send(&mut server, bytes, stall).await.unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_sending() {
        let (mut server, _client) = pair().await;
        let answer = Answer {
            pieces: vec![Piece::File(range(b"short", 0, 10))],
            len: 10,
        };
        let error = send(&mut server, answer, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
