//! ApiVersions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use crate::protocol::SPOKEN;

pub(crate) fn versions(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if version >= 3 && !(is_legal(&request.client_software_name) && is_legal(&request.client_software_version)) {
        return ApiVersionsResponse::default().with_error_code(ResponseError::InvalidRequest.code());
    }
    ApiVersionsResponse::default().with_api_keys(SPOKEN.iter().map(spoken).collect())
}

/// To a version of this very request that is not known: which ones are (KIP-511).
pub(crate) fn too_new() -> ApiVersionsResponse {
    let known = SPOKEN.iter().filter(|(key, ..)| *key == ApiKey::ApiVersions);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(known.map(spoken).collect())
}

fn spoken((key, _, range): &(ApiKey, &str, std::ops::RangeInclusive<i16>)) -> ApiVersion {
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
