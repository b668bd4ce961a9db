//! Starting, stopping and bad clients, by hand over a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use broker::{Broker, BrokerConfig, BrokerError};
use tempfile::TempDir;

fn config(dir: &TempDir) -> BrokerConfig {
    BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

fn frame(api_key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation_id.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    frame.extend(body);
    let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

fn answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

/// Metadata of version 1 for no topics: answered by any broker.
fn is_alive(stream: &mut TcpStream) -> bool {
    stream.write_all(&frame(3, 1, 9, &[0, 0, 0, 0])).unwrap();
    answer(stream)[..4] == [0, 0, 0, 9]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_the_future_is_told_what_is_spoken() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(&dir)).await.unwrap();
    let mut stream = connect(broker.address());
    stream
        .write_all(&frame(18, 99, 42, b"whatever the future brings"))
        .unwrap();
    let body = answer(&mut stream);
    assert_eq!(body[..4], [0, 0, 0, 42]);
    assert_eq!(body[4..6], 35_i16.to_be_bytes());
    // One API: this one, from version 0 to 4.
    assert_eq!(body[6..], [0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    assert!(is_alive(&mut stream));
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bytes_close_their_connection_and_no_other() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(&dir)).await.unwrap();
    let mut neighbour = connect(broker.address());
    assert!(is_alive(&mut neighbour));
    let cut = &frame(3, 1, 1, &[0, 0, 0, 0])[..9];
    let bad: [&[u8]; 10] = [
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff, 0, 0],
        &[0, 0, 0, 2, 0, 0],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        cut,
        // An unknown API, an unknown version, counts that cannot be.
        &frame(999, 0, 1, &[]),
        &frame(0, 99, 1, &[]),
        &frame(3, 1, 1, &[0x7f, 0xff, 0xff, 0xff]),
        &frame(0, 3, 1, &[0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
    ];
    for bytes in bad {
        let mut stream = connect(broker.address());
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        // Closed, with or without a reset, and nothing was answered.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{bytes:?} was answered with {rest:?}");
        assert!(is_alive(&mut neighbour));
    }
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_keeps_it_from_starting() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(&dir)).await.unwrap();
    let error = Broker::start(config(&dir)).await.unwrap_err();
    assert!(matches!(error, BrokerError::DataDirInUse { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()));

    let other = TempDir::new().unwrap();
    let mut taken = config(&other);
    taken.listen = broker.address();
    let error = Broker::start(taken).await.unwrap_err();
    assert!(matches!(error, BrokerError::AddressInUse { .. }));
    assert!(error.to_string().contains(&broker.address().to_string()));

    let mut open = config(&other);
    open.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(
        Broker::start(open).await.unwrap_err(),
        BrokerError::NotLoopback { .. }
    ));

    std::fs::write(other.path().join("holiday.jpg"), b"").unwrap();
    assert!(matches!(
        Broker::start(config(&other)).await.unwrap_err(),
        BrokerError::DataDir { .. }
    ));

    broker.shutdown().await.unwrap();
    std::fs::write(dir.path().join("meta.json"), br#"{"format": 99, "cluster_id": "x"}"#).unwrap();
    let error = Broker::start(config(&dir)).await.unwrap_err();
    assert!(error.to_string().contains("format is 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_free_again_after_the_end_and_data_are_where_they_were() {
    let dir = TempDir::new().unwrap();
    let broker = Broker::start(config(&dir)).await.unwrap();
    let address = broker.address();
    let mut stream = connect(address);
    // Metadata of version 1 for the topic `made`, which makes it.
    stream
        .write_all(&frame(3, 1, 1, &[0, 0, 0, 1, 0, 4, b'm', b'a', b'd', b'e']))
        .unwrap();
    answer(&mut stream);
    assert_eq!(broker.high_watermark("made", 3), Some(0));
    assert_eq!(broker.high_watermark("made", 4), None);
    let started = Instant::now();
    broker.shutdown().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(dir.path().join("clean-shutdown").exists());
    assert!(TcpListener::bind(address).is_ok());
    let mut again = config(&dir);
    again.listen = address;
    let broker = Broker::start(again).await.unwrap();
    assert_eq!(broker.high_watermark("made", 3), Some(0));
    assert!(!dir.path().join("clean-shutdown").exists());
    broker.shutdown().await.unwrap();
}
