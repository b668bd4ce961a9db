//! Requests of every kind, to start the fuzz targets from.

#![allow(clippy::unwrap_used)]

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::shape::tests::encoded;
use crate::api::versions::SPOKEN;

/// Each input is one connection's frames. The oldest and the newest version of every request, empty, and one
/// conversation for each batch: make a topic, write, read, look up a time.
pub(crate) fn sample_requests(batches: &[(String, Bytes)]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (api_key, name, versions) in SPOKEN {
        let mut input = BytesMut::new();
        for version in [*versions.start(), *versions.end()] {
            put(&mut input, *api_key, version, &encoded(*api_key, version));
        }
        all.push((name.to_lowercase(), input.to_vec()));
    }
    for (name, batch) in batches {
        all.push((format!("conversation-{name}"), conversation(batch)));
    }
    all
}

fn put(input: &mut BytesMut, api_key: ApiKey, version: i16, body: &[u8]) {
    let header = RequestHeader::default()
        .with_request_api_key(api_key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("c")));
    let mut frame = BytesMut::new();
    header
        .encode(&mut frame, api_key.request_header_version(version))
        .unwrap();
    frame.put_slice(body);
    input.put_u32(frame.len() as u32);
    input.put_slice(&frame);
}

fn conversation(batch: &Bytes) -> Vec<u8> {
    let mut input = BytesMut::new();
    let mut say = |api_key: ApiKey, version: i16, request: &dyn Fn(&mut BytesMut, i16)| {
        let mut body = BytesMut::new();
        request(&mut body, version);
        put(&mut input, api_key, version, &body);
    };
    let name = || TopicName(StrBytes::from_static_str("t"));
    say(ApiKey::CreateTopics, 7, &|body, version| {
        let topic = CreatableTopic::default()
            .with_name(name())
            .with_num_partitions(1)
            .with_replication_factor(1);
        CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .encode(body, version)
            .unwrap();
    });
    say(ApiKey::Produce, 9, &|body, version| {
        let data = PartitionProduceData::default()
            .with_index(0)
            .with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(name())
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(1000)
            .with_topic_data(vec![topic]);
        request.encode(body, version).unwrap();
    });
    say(ApiKey::Fetch, 12, &|body, version| {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(name())
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_topics(vec![topic]);
        request.encode(body, version).unwrap();
    });
    say(ApiKey::ListOffsets, 7, &|body, version| {
        let partition = ListOffsetsPartition::default().with_timestamp(1);
        let topic = ListOffsetsTopic::default()
            .with_name(name())
            .with_partitions(vec![partition]);
        ListOffsetsRequest::default()
            .with_topics(vec![topic])
            .encode(body, version)
            .unwrap();
    });
    say(ApiKey::JoinGroup, 9, &|body, version| {
        let protocol = JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_session_timeout_ms(6000)
            .with_rebalance_timeout_ms(6000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        request.encode(body, version).unwrap();
    });
    say(ApiKey::InitProducerId, 4, &|body, version| {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))))
            .with_transaction_timeout_ms(1000);
        request.encode(body, version).unwrap();
    });
    input.to_vec()
}
