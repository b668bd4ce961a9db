//! The APIs and the versions of each that this broker speaks.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;

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
    (ApiKey::ApiVersions, "ApiVersions", 0..=4),
    (ApiKey::CreateTopics, "CreateTopics", 2..=7),
    (ApiKey::InitProducerId, "InitProducerId", 0..=5),
    (ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2..=4),
];

pub(crate) fn spoken(api_key: ApiKey) -> Option<RangeInclusive<i16>> {
    SPOKEN.iter().find(|(key, ..)| *key == api_key).map(|(_, _, range)| range.clone())
}

pub(crate) fn name(api_key: ApiKey) -> &'static str {
    SPOKEN.iter().find(|(key, ..)| *key == api_key).map_or("unknown", |(_, name, _)| name)
}
