//! What administrators ask of topics and the broker: deleting, growing, settings, sizes.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::*;
use uuid::Uuid;

use crate::log::LogError;
use crate::state::{NODE_ID, State};
use crate::topics::{SETTINGS, TopicConfig, unknown_topic};

use super::text;
use super::topics::{SOURCE_DEFAULT, SOURCE_TOPIC};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// DescribeConfigs' number for what the broker was started with.
const SOURCE_STATIC: i8 = 4;

pub(crate) fn delete_topics(state: &State, version: i16, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked: Vec<(Option<String>, Uuid)> = if version >= 6 {
        request
            .topics
            .iter()
            .map(|topic| (topic.name.as_ref().map(|name| name.to_string()), topic.topic_id))
            .collect()
    } else {
        request
            .topic_names
            .iter()
            .map(|name| (Some(name.to_string()), Uuid::nil()))
            .collect()
    };
    let results = asked.into_iter().map(|(name, id)| {
        let deleted = match &name {
            Some(name) => state.topics.delete(name),
            None => match state.topics.topic_by_id(id) {
                Some(topic) => state.topics.delete(&topic.name),
                None => Err(LogError::refused(
                    Code::UnknownTopicId,
                    "This server does not host this topic ID.",
                )),
            },
        };
        let result = DeletableTopicResult::default().with_topic_id(id);
        match deleted {
            Ok(topic) => {
                state.groups.forget_topic(&topic.name);
                result
                    .with_name(Some(TopicName(text(&topic.name))))
                    .with_topic_id(topic.id)
            }
            Err(error) => result
                .with_name(name.map(|name| TopicName(text(name))))
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

pub(crate) fn create_partitions(state: &State, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let results = request.topics.into_iter().map(|topic| {
        let elsewhere = |broker: &BrokerId| broker.0 != NODE_ID;
        let assigned = topic
            .assignments
            .iter()
            .flatten()
            .flat_map(|assignment| &assignment.broker_ids);
        let result = if assigned.into_iter().any(elsewhere) {
            Err(LogError::refused(
                Code::InvalidReplicaAssignment,
                format!("there is only broker {NODE_ID}"),
            ))
        } else {
            state
                .topics
                .add_partitions(&topic.name, topic.count, request.validate_only, state.now_ms())
        };
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name);
        match result {
            Ok(()) => answer,
            Err(error) => answer
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

pub(crate) fn delete_records(state: &State, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            let deleted = state
                .topics
                .partition(&topic.name, asked.partition_index)
                .map(|partition| {
                    let mut log = partition.log.lock();
                    let offset = if asked.offset == -1 {
                        log.high_watermark()
                    } else {
                        asked.offset
                    };
                    log.delete_before(offset)
                });
            match deleted {
                Some(Ok(low_watermark)) => answer.with_low_watermark(low_watermark),
                Some(Err(error)) => answer.with_low_watermark(-1).with_error_code(error.code().code()),
                None => answer
                    .with_low_watermark(-1)
                    .with_error_code(Code::UnknownTopicOrPartition.code()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

pub(crate) fn describe_configs(state: &State, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let wanted = |name: &str| match &resource.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
            _ => true,
        };
        let described = match resource.resource_type {
            TOPIC => describe_topic(state, &resource.resource_name, request.include_synonyms),
            BROKER => describe_broker(state, &resource.resource_name),
            _ => Err(LogError::refused(
                Code::InvalidRequest,
                "only topics and brokers have settings here",
            )),
        };
        match described {
            Ok(mut configs) => {
                configs.retain(|config| wanted(&config.name));
                if !request.include_documentation {
                    configs.iter_mut().for_each(|config| config.documentation = None);
                }
                answer.with_configs(configs)
            }
            Err(error) => answer
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe_topic(state: &State, name: &str, synonyms: bool) -> Result<Vec<DescribeConfigsResourceResult>, LogError> {
    let topic = state.topics.topic(name).ok_or_else(|| unknown_topic(name))?;
    let config = topic.config.read();
    let defaults = state.topics.defaults();
    let known = SETTINGS.iter().map(|setting| {
        let default = (setting.default)(defaults);
        let given = config.get(setting.name);
        let synonym = |value: &str, source| {
            DescribeConfigsSynonym::default()
                .with_name(text(setting.name))
                .with_value(Some(text(value)))
                .with_source(source)
        };
        let mut same = Vec::new();
        if synonyms {
            same.extend(given.map(|value| synonym(value, SOURCE_TOPIC)));
            same.push(synonym(&default, SOURCE_DEFAULT));
        }
        DescribeConfigsResourceResult::default()
            .with_name(text(setting.name))
            .with_value(Some(text(given.unwrap_or(&default))))
            .with_config_source(if given.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT })
            .with_synonyms(same)
            .with_config_type(setting.kind)
            .with_documentation(Some(text(setting.documentation)))
    });
    // Taken and kept though it has no effect here: shown as it was given.
    let other = config
        .iter()
        .filter(|(name, _)| SETTINGS.iter().all(|setting| setting.name != name.as_str()));
    let other = other.map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_config_source(SOURCE_TOPIC)
            .with_config_type(2)
    });
    Ok(known.chain(other).collect())
}

fn describe_broker(state: &State, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, LogError> {
    if !name.is_empty() && name != NODE_ID.to_string() {
        return Err(LogError::refused(
            Code::InvalidRequest,
            format!("there is only broker {NODE_ID}"),
        ));
    }
    let (config, defaults) = (&state.config, state.topics.defaults());
    let settings = [
        (
            "advertised.listeners",
            format!("PLAINTEXT://{}:{}", state.host, state.port),
        ),
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("log.dirs", config.data_dir.display().to_string()),
        (
            "log.retention.bytes",
            defaults.retention_bytes.map_or(-1, |bytes| bytes as i64).to_string(),
        ),
        ("log.retention.ms", defaults.retention_ms.unwrap_or(-1).to_string()),
        ("log.segment.bytes", defaults.segment_bytes.to_string()),
        ("message.max.bytes", defaults.message_bytes_max.to_string()),
        ("min.insync.replicas", "1".to_owned()),
        ("node.id", NODE_ID.to_string()),
        ("num.partitions", config.num_partitions.to_string()),
        (
            "offsets.retention.minutes",
            (config.offsets_retention.as_secs() / 60).to_string(),
        ),
        ("socket.request.max.bytes", config.limits.request_bytes_max.to_string()),
        (
            "transaction.max.timeout.ms",
            config.transaction_timeout_max.as_millis().to_string(),
        ),
    ];
    let described = settings.into_iter().map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(SOURCE_STATIC)
            .with_config_type(2)
    });
    Ok(described.collect())
}

pub(crate) fn incremental_alter_configs(
    state: &State,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let responses = request.resources.into_iter().map(|resource| {
        let result = alter(
            state,
            resource.resource_type,
            &resource.resource_name,
            request.validate_only,
            |config| {
                for change in &resource.configs {
                    match (change.config_operation, &change.value) {
                        (SET, Some(value)) => drop(config.insert(change.name.to_string(), value.to_string())),
                        (DELETE, _) => drop(config.remove(change.name.as_str())),
                        // Appending to and subtracting from lists: the one list here has one possible element.
                        _ => {
                            let reason = format!("the operation on {} is not supported", change.name.as_str());
                            return Err(LogError::refused(Code::InvalidConfig, reason));
                        }
                    }
                }
                Ok(())
            },
        );
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match result {
            Ok(()) => answer,
            Err(error) => answer
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

pub(crate) fn alter_configs(state: &State, request: AlterConfigsRequest) -> AlterConfigsResponse {
    use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
    let responses = request.resources.into_iter().map(|resource| {
        let given: BTreeMap<_, _> = resource
            .configs
            .iter()
            .filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())))
            .collect();
        let result = alter(
            state,
            resource.resource_type,
            &resource.resource_name,
            request.validate_only,
            |config| {
                *config = given;
                Ok(())
            },
        );
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name);
        match result {
            Ok(()) => answer,
            Err(error) => answer
                .with_error_code(error.code().code())
                .with_error_message(Some(text(error.to_string()))),
        }
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

fn alter(
    state: &State,
    resource_type: i8,
    name: &str,
    validate_only: bool,
    change: impl FnOnce(&mut TopicConfig) -> Result<(), LogError>,
) -> Result<(), LogError> {
    if resource_type != TOPIC {
        return Err(LogError::refused(
            Code::InvalidRequest,
            "only the settings of topics can be changed here",
        ));
    }
    let topic = state.topics.topic(name).ok_or_else(|| unknown_topic(name))?;
    let mut config = topic.config.read().clone();
    change(&mut config)?;
    state.topics.set_config(name, config, validate_only)
}

pub(crate) fn describe_cluster(
    state: &State,
    version: i16,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    const BROKERS: i8 = 1;
    if version >= 1 && request.endpoint_type != BROKERS {
        return DescribeClusterResponse::default()
            .with_error_code(Code::UnsupportedEndpointType.code())
            .with_error_message(Some(text("there are no controllers of their own here")));
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(NODE_ID))
        .with_host(text(&state.host))
        .with_port(i32::from(state.port));
    DescribeClusterResponse::default()
        .with_cluster_id(text(&state.cluster_id))
        .with_controller_id(BrokerId(NODE_ID))
        .with_brokers(vec![broker])
}

pub(crate) fn describe_log_dirs(state: &State, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted = |topic: &str, partition: i32| match &request.topics {
        None => true,
        Some(topics) => topics
            .iter()
            .any(|t| t.topic.as_str() == topic && (t.partitions.is_empty() || t.partitions.contains(&partition))),
    };
    let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
    for (name, partition) in state.partitions() {
        if !wanted(&name, partition.index) {
            continue;
        }
        let described = DescribeLogDirsPartition::default()
            .with_partition_index(partition.index)
            .with_partition_size(partition.log.lock().size() as i64);
        match topics.last_mut().filter(|topic| topic.name.as_str() == name) {
            Some(topic) => topic.partitions.push(described),
            None => topics.push(
                DescribeLogDirsTopic::default()
                    .with_name(TopicName(text(name)))
                    .with_partitions(vec![described]),
            ),
        }
    }
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(text(state.config.data_dir.display().to_string()))
        .with_topics(topics);
    DescribeLogDirsResponse::default().with_results(vec![dir])
}
