//! What librdkafka says of itself, in our log: each message once a minute at most.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

use crate::repeats::Repeats;

/// The log of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientLog(Mutex<Repeats>);

impl ClientLog {
    /// An error of the client as a whole. Nothing is wrong that it does not try again itself.
    pub(crate) fn error(&self, error: &Native, reason: &str) {
        let kind = match error.rdkafka_error_code() {
            // Whoever subscribes says so, with a name that may be meant.
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                debug!(%error, reason, "kafka client error");
                return;
            }
            // However it shows, it is one outage: a broker refuses, then all are down, then requests time out.
            Some(code) if is_outage(code) => "outage",
            _ => reason,
        };
        if let Some(count) = self.count(kind) {
            warn!(%error, reason, count, "kafka client error");
        }
    }

    /// A line of librdkafka's own log.
    pub(crate) fn line(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Each failed connection is an error of the client as well; a property of the other kind of client is expected,
        // since all share one set.
        let is_known = facility == "FAIL" || facility == "CONFWARN" && message.contains("will be ignored by this");
        if is_known || matches!(level, RDKafkaLogLevel::Debug) {
            debug!(facility, message, "librdkafka");
            return;
        }
        let Some(count) = self.count(message) else { return };
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(facility, message, count, "librdkafka"),
            RDKafkaLogLevel::Warning => warn!(facility, message, count, "librdkafka"),
            _ => error!(facility, message, count, "librdkafka"),
        }
    }

    fn count(&self, kind: &str) -> Option<u64> {
        let mut repeats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.count(kind, Instant::now())
    }
}

fn is_outage(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::Resolve
    )
}

/// The context of clients that do one thing and end: their calls report what fails.
#[derive(Debug, Default)]
pub(crate) struct QuietContext(ClientLog);

impl ClientContext for QuietContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.line(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        debug!(%error, reason, "kafka client error");
    }
}

impl rdkafka::consumer::ConsumerContext for QuietContext {}
