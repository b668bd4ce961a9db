//! What administrators ask of topics and the broker: deleting, growing, settings, sizes.

use std::collections::HashSet;
use std::sync::Arc;

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
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::log::{LogConfig, LogError};
use crate::settings::{LIST, SETTINGS, TopicConfig, elements, setting};
use crate::state::{NODE_ID, State};
use crate::topics::{Topic, is_internal, is_legal_name, unknown_topic};

use super::topics::{SOURCE_DEFAULT, SOURCE_TOPIC};
use super::{CLUSTER_OPERATIONS, text};

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
        let have = state
            .topics
            .topic(&topic.name)
            .map_or(0, |topic| topic.partition_count());
        let assignments = topic.assignments.as_ref().map(|assignments| assignments.len() as i32);
        let result = if assigned.into_iter().any(elsewhere) || assignments.is_some_and(|n| n != topic.count - have) {
            Err(LogError::refused(
                Code::InvalidReplicaAssignment,
                format!("each new partition has one place, on broker {NODE_ID}"),
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
            if is_internal(&topic.name) {
                let code = Code::InvalidTopicException.code();
                return answer.with_low_watermark(-1).with_error_code(code);
            }
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
    let topic = named(state, name)?;
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
        ("offsets.topic.num.partitions", "1".to_owned()),
        (
            "offsets.retention.minutes",
            (config.offsets_retention.as_secs() / 60).to_string(),
        ),
        ("socket.request.max.bytes", config.limits.request_bytes_max.to_string()),
        (
            "transaction.max.timeout.ms",
            config.transaction_timeout_max.as_millis().to_string(),
        ),
        ("transaction.state.log.num.partitions", "1".to_owned()),
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
    let responses = request.resources.into_iter().map(|resource| {
        let changes: Vec<_> = resource
            .configs
            .iter()
            .map(|change| (change.name.as_str(), change.config_operation, change.value.as_deref()))
            .collect();
        let defaults = state.topics.defaults();
        let change = |config: &mut TopicConfig| changes.iter().try_for_each(|&change| apply(config, defaults, change));
        let names = changes.iter().map(|&(name, ..)| name);
        let (code, message) = alter(
            state,
            (resource.resource_type, &resource.resource_name),
            request.validate_only,
            names,
            change,
        );
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

/// One change of IncrementalAlterConfigs (KIP-339).
fn apply(
    config: &mut TopicConfig,
    defaults: &LogConfig,
    (name, operation, value): (&str, i8, Option<&str>),
) -> Result<(), LogError> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let is_list = setting(name).is_some_and(|setting| setting.kind == LIST);
    match (operation, value) {
        (DELETE, _) => drop(config.remove(name)),
        (_, None) => {
            return Err(LogError::refused(
                Code::InvalidRequest,
                format!("Null value not supported for : {name}"),
            ));
        }
        (SET, Some(value)) => drop(config.insert(name.to_owned(), value.to_owned())),
        (APPEND | SUBTRACT, Some(value)) if is_list => {
            let before = config.get(name).cloned();
            let before = before.or_else(|| setting(name).map(|setting| (setting.default)(defaults)));
            let before = before.unwrap_or_default();
            let mut list: Vec<&str> = elements(&before).filter(|element| !element.is_empty()).collect();
            for element in elements(value) {
                match operation {
                    APPEND if list.contains(&element) => {}
                    APPEND => list.push(element),
                    _ => list.retain(|kept| *kept != element),
                }
            }
            config.insert(name.to_owned(), list.join(","));
        }
        _ => {
            return Err(LogError::refused(
                Code::InvalidConfig,
                format!("{name} is no list, or the operation is not known"),
            ));
        }
    }
    Ok(())
}

pub(crate) fn alter_configs(state: &State, request: AlterConfigsRequest) -> AlterConfigsResponse {
    use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
    let responses = request.resources.into_iter().map(|resource| {
        let change = |config: &mut TopicConfig| {
            config.clear();
            for given in &resource.configs {
                let Some(value) = &given.value else {
                    return Err(LogError::refused(
                        Code::InvalidRequest,
                        format!("Null value not supported for : {}", given.name.as_str()),
                    ));
                };
                config.insert(given.name.to_string(), value.to_string());
            }
            Ok(())
        };
        let names = resource.configs.iter().map(|given| given.name.as_str());
        let (code, message) = alter(
            state,
            (resource.resource_type, &resource.resource_name),
            request.validate_only,
            names,
            change,
        );
        AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_error_code(code)
            .with_error_message(message)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

/// Changes the settings of a resource; answers the error's code and message.
fn alter<'a>(
    state: &State,
    (kind, name): (i8, &str),
    validate_only: bool,
    mut names: impl Iterator<Item = &'a str>,
    change: impl FnOnce(&mut TopicConfig) -> Result<(), LogError>,
) -> (i16, Option<StrBytes>) {
    let mut seen = HashSet::new();
    let result = if kind != TOPIC {
        let reason = "only the settings of topics can be changed here";
        Err(LogError::refused(Code::InvalidRequest, reason))
    } else if !names.all(|name| seen.insert(name)) {
        let reason = "a setting is in the request more than once";
        Err(LogError::refused(Code::InvalidRequest, reason))
    } else {
        named(state, name).and_then(|topic| {
            let mut config = topic.config.read().clone();
            change(&mut config)?;
            state.topics.set_config(name, config, validate_only)
        })
    };
    match result {
        Ok(()) => (0, None),
        Err(error) => (error.code().code(), Some(text(error.to_string()))),
    }
}

/// The topic of this name; an impossible name is told from one that is not there.
fn named(state: &State, name: &str) -> Result<Arc<Topic>, LogError> {
    if !is_legal_name(name) {
        return Err(LogError::refused(
            Code::InvalidTopicException,
            format!("no topic can be called '{name}'"),
        ));
    }
    state.topics.topic(name).ok_or_else(|| unknown_topic(name))
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
        .with_cluster_authorized_operations(super::operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ))
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
    for (name, partition) in state.topics.partitions() {
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
