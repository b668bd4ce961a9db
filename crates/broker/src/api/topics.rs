//! Making topics.

use std::collections::{HashMap, HashSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use uuid::Uuid;

use crate::log::LogError;
use crate::settings::{SETTINGS, TopicConfig};
use crate::state::{NODE_ID, State};

use super::text;

/// DescribeConfigs' numbers for where a value comes from.
pub(super) const SOURCE_TOPIC: i8 = 1;
pub(super) const SOURCE_DEFAULT: i8 = 5;

pub(crate) fn create(state: &State, version: i16, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut asked: HashMap<String, usize> = HashMap::new();
    for topic in &request.topics {
        *asked.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut answered: HashSet<&str> = HashSet::new();
    let distinct = request
        .topics
        .iter()
        .filter(|topic| answered.insert(topic.name.as_str()));
    let results = distinct.map(|topic| {
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_message(None);
        let made = if asked.get(topic.name.as_str()).is_some_and(|&count| count > 1) {
            Err(LogError::refused(
                ResponseError::InvalidRequest,
                "the topic is in the request more than once",
            ))
        } else {
            make(state, topic, request.validate_only)
        };
        match made {
            Ok((id, partitions, config)) => {
                let result = result
                    .with_topic_id(id)
                    .with_num_partitions(partitions)
                    .with_replication_factor(1);
                if version >= 5 {
                    result.with_configs(Some(described(state, &config)))
                } else {
                    result
                }
            }
            Err(error) => result
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string())))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn make(state: &State, topic: &CreatableTopic, validate_only: bool) -> Result<(Uuid, i32, TopicConfig), LogError> {
    let partitions = match (topic.assignments.as_slice(), topic.num_partitions) {
        ([], -1) => state.config.num_partitions,
        ([], partitions) => partitions,
        (assignments, _) => {
            let mut indexes: Vec<_> = assignments
                .iter()
                .map(|assignment| assignment.partition_index)
                .collect();
            indexes.sort_unstable();
            let ours = assignments
                .iter()
                .all(|a| a.broker_ids.len() == 1 && a.broker_ids[0].0 == NODE_ID);
            if !ours || !indexes.iter().copied().eq(0..indexes.len() as i32) {
                return Err(LogError::refused(
                    ResponseError::InvalidReplicaAssignment,
                    format!("partitions are numbered from 0 and each is on broker {NODE_ID} alone"),
                ));
            }
            indexes.len() as i32
        }
    };
    if !topic.assignments.is_empty() && (topic.num_partitions, topic.replication_factor) != (-1, -1) {
        return Err(LogError::refused(
            ResponseError::InvalidRequest,
            "with an assignment, the numbers of partitions and replicas are -1",
        ));
    }
    if topic.assignments.is_empty() && !matches!(topic.replication_factor, -1 | 1) {
        return Err(LogError::refused(
            ResponseError::InvalidReplicationFactor,
            format!(
                "Replication factor: {} larger than available brokers: 1.",
                topic.replication_factor
            ),
        ));
    }
    let config: TopicConfig = topic
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
        .collect();
    if validate_only {
        state.topics.check_create(&topic.name, partitions, &config)?;
        // As Kafka: an id that none will have.
        return Ok((state.ids.uuid(), partitions, config));
    }
    let made = state
        .topics
        .create(&topic.name, partitions, config.clone(), &state.ids, state.now_ms())?;
    Ok((made.id, partitions, config))
}

fn described(state: &State, config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let defaults = state.topics.defaults();
    let settings = SETTINGS.iter().map(|setting| {
        let given = config.get(setting.name);
        CreatableTopicConfigs::default()
            .with_name(text(setting.name))
            .with_value(Some(text(
                given.cloned().unwrap_or_else(|| (setting.default)(defaults)),
            )))
            .with_config_source(if given.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT })
    });
    settings.collect()
}
