//! The APIs and the versions of each that this broker speaks, and ApiVersions, which tells clients.

use std::ops::RangeInclusive;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

/// Transaction APIs stop where KIP-890's second part begins: its versions need the feature `transaction.version` 2,
/// which this broker does not announce. Fetch stops before tiered and replica-only fields.
pub(crate) const SPOKEN: &[(ApiKey, &str, RangeInclusive<i16>)] = &[
    (ApiKey::Produce, "Produce", 3..=13),
    (ApiKey::Fetch, "Fetch", 4..=17),
    (ApiKey::ListOffsets, "ListOffsets", 1..=10),
    (ApiKey::Metadata, "Metadata", 0..=13),
    (ApiKey::OffsetCommit, "OffsetCommit", 2..=9),
    (ApiKey::OffsetFetch, "OffsetFetch", 1..=9),
    (ApiKey::FindCoordinator, "FindCoordinator", 0..=5),
    (ApiKey::JoinGroup, "JoinGroup", 0..=9),
    (ApiKey::Heartbeat, "Heartbeat", 0..=4),
    (ApiKey::LeaveGroup, "LeaveGroup", 0..=5),
    (ApiKey::SyncGroup, "SyncGroup", 0..=5),
    (ApiKey::DescribeGroups, "DescribeGroups", 0..=6),
    (ApiKey::ListGroups, "ListGroups", 0..=5),
    (ApiKey::SaslHandshake, "SaslHandshake", 0..=1),
    (ApiKey::ApiVersions, "ApiVersions", 0..=4),
    (ApiKey::CreateTopics, "CreateTopics", 2..=7),
    (ApiKey::DeleteTopics, "DeleteTopics", 1..=6),
    (ApiKey::DeleteRecords, "DeleteRecords", 0..=2),
    (ApiKey::InitProducerId, "InitProducerId", 0..=5),
    (ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2..=4),
    (ApiKey::AddPartitionsToTxn, "AddPartitionsToTxn", 0..=3),
    (ApiKey::AddOffsetsToTxn, "AddOffsetsToTxn", 0..=4),
    (ApiKey::EndTxn, "EndTxn", 0..=4),
    (ApiKey::TxnOffsetCommit, "TxnOffsetCommit", 0..=4),
    (ApiKey::DescribeConfigs, "DescribeConfigs", 1..=4),
    (ApiKey::AlterConfigs, "AlterConfigs", 0..=2),
    (ApiKey::DescribeLogDirs, "DescribeLogDirs", 1..=4),
    (ApiKey::SaslAuthenticate, "SaslAuthenticate", 0..=2),
    (ApiKey::CreatePartitions, "CreatePartitions", 0..=3),
    (ApiKey::DeleteGroups, "DeleteGroups", 0..=2),
    (ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0..=1),
    (ApiKey::OffsetDelete, "OffsetDelete", 0..=0),
    (ApiKey::DescribeCluster, "DescribeCluster", 0..=2),
    (ApiKey::DescribeProducers, "DescribeProducers", 0..=0),
    (ApiKey::DescribeTransactions, "DescribeTransactions", 0..=0),
    (ApiKey::ListTransactions, "ListTransactions", 0..=1),
];

pub(crate) fn spoken(api_key: ApiKey) -> Option<RangeInclusive<i16>> {
    SPOKEN
        .iter()
        .find(|(key, ..)| *key == api_key)
        .map(|(_, _, range)| range.clone())
}

pub(crate) fn name(api_key: ApiKey) -> &'static str {
    SPOKEN
        .iter()
        .find(|(key, ..)| *key == api_key)
        .map_or("unknown", |(_, name, _)| name)
}

pub(crate) fn versions(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if version >= 3 && !(is_legal(&request.client_software_name) && is_legal(&request.client_software_version)) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    ApiVersionsResponse::default().with_api_keys(SPOKEN.iter().map(described).collect())
}

/// To a version of this very request that is not known: which ones are (KIP-511).
pub(crate) fn too_new() -> ApiVersionsResponse {
    let known = SPOKEN.iter().filter(|(key, ..)| *key == ApiKey::ApiVersions);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(known.map(described).collect())
}

fn described((key, _, range): &(ApiKey, &str, RangeInclusive<i16>)) -> ApiVersion {
    // Clients on librdkafka decide by Produce 0 whether they may compress (KAFKA-18659); Kafka 4 says 0 as well.
    let min = if *key == ApiKey::Produce { 0 } else { *range.start() };
    ApiVersion::default()
        .with_api_key(*key as i16)
        .with_min_version(min)
        .with_max_version(*range.end())
}

/// KIP-511: letters, digits, dots and dashes, the ends letters or digits.
fn is_legal(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.chars().all(inner) && outer(name.chars().next()) && outer(name.chars().next_back())
}
