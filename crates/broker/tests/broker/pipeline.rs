//! Requests that a client sends without waiting for answers, with and without acknowledgements that wait for the disk.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use broker::{Broker, BrokerConfig, Durability};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use tempfile::TempDir;

use crate::support::*;

fn numbered(frame: &Bytes, correlation_id: i32) -> Bytes {
    let mut bytes = BytesMut::from(&frame[..]);
    bytes[8..12].copy_from_slice(&correlation_id.to_be_bytes());
    bytes.freeze()
}

fn produce_frame(acks: i16, correlation_id: i32, value: &[u8]) -> Bytes {
    let batch = batch(0, 1, &record(0, value));
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(topic("t"))
        .with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(acks).with_topic_data(vec![data]);
    numbered(&frame(ApiKey::Produce, 9, &request), correlation_id)
}

/// The next answer's correlation id and what is behind its header.
fn next<A: Decodable + HeaderVersion>(stream: &mut TcpStream, version: i16) -> (i32, A) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).unwrap();
    let mut body = Bytes::from(body);
    let header = ResponseHeader::decode(&mut body, A::header_version(version)).unwrap();
    (header.correlation_id, A::decode(&mut body, version).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_their_requests() {
    for durability in [Durability::Fsync, Durability::Os] {
        let dir = TempDir::new().unwrap();
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), dir.path());
        config.durability = durability;
        config.num_partitions = 1;
        let broker = Broker::start(config).await.unwrap();
        make_topic(&mut connect(broker.address()), "t");
        let mut stream = connect(broker.address());
        let metadata = frame(
            ApiKey::Metadata,
            9,
            &MetadataRequest::default().with_topics(Some(Vec::new())),
        );
        let large = vec![b'v'; 100_000];
        let mut requests = BytesMut::new();
        for id in 0..40 {
            match id % 10 {
                // Not answered; its record counts all the same.
                5 => requests.extend_from_slice(&produce_frame(0, id, b"silent")),
                7 => requests.extend_from_slice(&numbered(&metadata, id)),
                8 => requests.extend_from_slice(&produce_frame(1, id, &large)),
                _ => requests.extend_from_slice(&produce_frame(-1, id, b"v")),
            }
        }
        let writing = std::thread::spawn({
            let mut stream = stream.try_clone().unwrap();
            move || {
                stream.write_all(&requests).unwrap();
                // No more requests; the answers are wanted still.
                stream.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut offset = 0;
        for id in 0..40 {
            match id % 10 {
                5 => offset += 1,
                7 => assert_eq!(next::<MetadataResponse>(&mut stream, 9).0, id),
                _ => {
                    let (answered, answer) = next::<ProduceResponse>(&mut stream, 9);
                    let answer = &answer.responses[0].partition_responses[0];
                    assert_eq!((answered, answer.error_code, answer.base_offset), (id, 0, offset));
                    offset += 1;
                }
            }
        }
        writing.join().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(latest_time(&mut connect(broker.address()), "t", -1), (0, offset));
        broker.shutdown().await.unwrap();
    }
}
