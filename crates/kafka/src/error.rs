//! What can go wrong with a cluster, by what the caller should do about it.

use model::TopicPartition;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum KafkaError {
    /// Fix the configuration.
    #[error("kafka configuration: {0}")]
    Config(String),
    /// Nobody answered in time, or nobody who leads the partition yet; the address is wrong, or the broker is down or just
    /// coming up. Try again later.
    #[error("no answer from kafka at {bootstrap_servers}: {reason}")]
    Unreachable { bootstrap_servers: String, reason: String },
    /// The topic was created or deleted just now. Try again later.
    #[error("{topic}: Kafka does not say yet which partitions it has")]
    NotReady { topic: String },
    /// The offset to read from is not in the log (any more): records were lost to retention, or the topic was recreated.
    #[error("{topic_partition}: the offset to read from is outside the log")]
    OffsetOutOfRange { topic_partition: TopicPartition },
    /// A record was not accepted by the cluster; nothing after it was sent.
    #[error("{topic}: a record was not delivered: {reason}")]
    NotDelivered { topic: String, reason: String },
    /// This record is longer than the client may send (`message.max.bytes`).
    #[error("{topic}: a record is longer than `message.max.bytes`")]
    TooLarge { topic: String },
    /// Stop: going on would not help.
    #[error("kafka: {0}")]
    Fatal(String),
}

impl KafkaError {
    /// The same call may succeed later without anyone's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self, KafkaError::Unreachable { .. } | KafkaError::NotReady { .. })
    }

    /// Sorts a librdkafka error from a call to the cluster.
    pub(crate) fn from_call(bootstrap_servers: &str, error: &Native) -> Self {
        let code = error.rdkafka_error_code();
        let unreachable = matches!(
            code,
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::Resolve
                    // While a broker starts or leadership moves (Kafka's protocol guide calls them retriable).
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::ReplicaNotAvailable
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::NetworkException
                    | RDKafkaErrorCode::FencedLeaderEpoch
                    | RDKafkaErrorCode::UnknownLeaderEpoch
                    | RDKafkaErrorCode::OffsetNotAvailable
            )
        );
        match (unreachable, error) {
            (true, _) => KafkaError::Unreachable {
                bootstrap_servers: bootstrap_servers.to_owned(),
                reason: code.map(|code| code.to_string()).unwrap_or_default(),
            },
            (false, Native::ClientConfig(_, text, key, value)) => {
                let value = if is_secret(key) { "***" } else { value };
                KafkaError::Config(format!("{key}={value}: {text}"))
            }
            (false, error) => KafkaError::Fatal(error.to_string()),
        }
    }
}

/// Whether the value of this librdkafka property must stay out of logs and dumps.
pub fn is_secret(property: &str) -> bool {
    ["password", "secret", "jaas", "token", "key.pem", "certificate.pem"]
        .iter()
        .any(|part| property.contains(part))
}
