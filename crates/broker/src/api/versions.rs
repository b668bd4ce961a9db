//! ApiVersions.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use crate::protocol::SPOKEN;

pub(crate) fn answer(error: i16) -> ApiVersionsResponse {
    let spoken = SPOKEN.iter().map(|(key, _, range)| {
        // Clients on librdkafka decide by Produce 0 whether they may compress (KAFKA-18659); Kafka 4 says 0 as well.
        let min = if *key == ApiKey::Produce { 0 } else { *range.start() };
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(min)
            .with_max_version(*range.end())
    });
    ApiVersionsResponse::default()
        .with_error_code(error)
        .with_api_keys(spoken.collect())
}
