//! Metadata: the one broker, the topics asked for, those made because they were asked for.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use uuid::Uuid;

use crate::settings::TopicConfig;
use crate::state::{NODE_ID, State};
use crate::topics::{Topic, is_internal};

use super::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, text};

pub(crate) fn metadata(state: &State, version: i16, request: MetadataRequest) -> MetadataResponse {
    let may_create = state.config.auto_create_topics && request.allow_auto_topic_creation;
    let topics = match request.topics {
        None => state.topics.all().iter().map(described).collect(),
        Some(topics) if topics.is_empty() && version == 0 => state.topics.all().iter().map(described).collect(),
        Some(topics) => topics
            .into_iter()
            .map(|asked| match &asked.name {
                Some(name) if asked.topic_id.is_nil() => by_name(state, name, may_create),
                _ => by_id(state, asked.topic_id, version),
            })
            .collect::<Vec<_>>(),
    };
    let may = super::operations(request.include_topic_authorized_operations, TOPIC_OPERATIONS);
    let with_operations = |topic: MetadataResponseTopic| match topic.error_code {
        0 => topic.with_topic_authorized_operations(may),
        _ => topic,
    };
    let topics = topics.into_iter().map(with_operations).collect();
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(NODE_ID))
        .with_host(text(&state.host))
        .with_port(i32::from(state.port));
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(&state.cluster_id)))
        .with_cluster_authorized_operations(super::operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ))
        .with_controller_id(BrokerId(NODE_ID))
        .with_topics(topics)
}

fn by_name(state: &State, name: &TopicName, may_create: bool) -> MetadataResponseTopic {
    if let Some(topic) = state.topics.topic(name) {
        return described(&topic);
    }
    let unknown = |code: ResponseError| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_name(Some(name.clone()))
    };
    if !may_create {
        let legal = state.topics.check_create(name, 1, &TopicConfig::new());
        let illegal = legal.is_err_and(|error| error.code() == ResponseError::InvalidTopicException);
        return unknown(if illegal {
            ResponseError::InvalidTopicException
        } else {
            ResponseError::UnknownTopicOrPartition
        });
    }
    if is_internal(name) {
        state.topics.ensure_internal(name, &state.ids, state.now_ms());
        if let Some(topic) = state.topics.topic(name) {
            return described(&topic);
        }
    }
    let config = TopicConfig::new();
    match state
        .topics
        .create(name, state.config.num_partitions, config, &state.ids, state.now_ms())
    {
        Ok(topic) => described(&topic),
        Err(error) => match state.topics.topic(name) {
            // Someone else made it in between.
            Some(topic) => described(&topic),
            None => {
                tracing::warn!(topic = %name.as_str(), %error, "topic could not be created");
                unknown(error.code())
            }
        },
    }
}

fn by_id(state: &State, id: Uuid, version: i16) -> MetadataResponseTopic {
    match state.topics.topic_by_id(id) {
        Some(topic) => described(&topic),
        None => MetadataResponseTopic::default()
            .with_error_code(ResponseError::UnknownTopicId.code())
            .with_name((version < 12).then(TopicName::default))
            .with_topic_id(id),
    }
}

fn described(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let node = BrokerId(NODE_ID);
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(0)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions((0..topic.partition_count()).map(partition).collect())
}
