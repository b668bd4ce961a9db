//! What librdkafka tells the client beside records: errors, and what the group decides.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use model::TopicPartition;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as Native;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tracing::debug;

use crate::Event;
use crate::client_log::ClientLog;

pub(crate) type Consumer = BaseConsumer<Context>;

/// Keeps what the group decides until the next poll hands it over: assignments are answered by the caller, who alone
/// knows the positions.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) waiting: Mutex<VecDeque<Event>>,
    /// There is no caller any more; librdkafka waits for an answer all the same before it leaves the group.
    pub(crate) closing: AtomicBool,
    /// The group was not heard of for a session's length, and has given us no partitions since.
    pub(crate) session_timed_out: AtomicBool,
    pub(crate) log: ClientLog,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // It says so nowhere else.
        if facility == "SESSTMOUT" {
            self.session_timed_out.store(true, Ordering::Relaxed);
        }
        self.log.line(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        self.log.error(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Relaxed) {
            if let Err(error) = consumer.incremental_unassign(list) {
                debug!(%error, "partitions were not given back while closing");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| TopicPartition::new(element.topic(), element.partition()))
            .collect();
        let event = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.session_timed_out.store(false, Ordering::Relaxed);
                Event::Assigned(partitions)
            }
            _ => Event::Revoked(partitions),
        };
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
    }

    fn commit_callback(&self, result: Result<(), Native>, _: &TopicPartitionList) {
        if let Err(error) = result {
            debug!(%error, "positions were not reported to the group");
        }
    }
}
