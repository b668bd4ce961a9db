//! An idempotent producer that knows how many records the cluster has taken and stops at the first that it has not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tracing::debug;

use crate::client_log::ClientLog;
use crate::properties::Role;
use crate::{KafkaConfig, KafkaError};

/// Sends records in order per partition, each exactly once as long as the producer lives (KIP-98).
pub struct Producer {
    producer: ThreadedProducer<Context>,
    counts: Arc<Counts>,
    bootstrap_servers: String,
}

/// A record to send.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// How many records were handed to librdkafka and how many the cluster has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    pub sent: u64,
    pub delivered: u64,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    has_failed: AtomicBool,
    /// The first record that was not taken.
    failure: Mutex<Option<Failure>>,
}

struct Failure {
    topic: String,
    error: Native,
}

struct Context {
    counts: Arc<Counts>,
    log: ClientLog,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = false;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.log.line(level, facility, message);
    }

    fn error(&self, error: Native, reason: &str) {
        debug!(%error, reason, "kafka client error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failure = self.counts.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| Failure {
                topic: message.topic().to_owned(),
                error: error.clone(),
            });
            self.counts.has_failed.store(true, Ordering::Release);
        }
    }
}

impl Producer {
    /// `linger` is how long a record may wait for others to share its request.
    pub fn open(config: &KafkaConfig, linger: Duration) -> Result<Self, KafkaError> {
        let linger_ms = linger.as_millis().to_string();
        let counts = Arc::new(Counts::default());
        let producer = config
            .client(
                Role::Producer,
                &[
                    ("enable.idempotence", "true"),
                    ("linger.ms", &linger_ms),
                    ("compression.type", "lz4"),
                    // A report for each record costs as much as sending it; that all are there shows in what is in flight.
                    ("delivery.report.only.error", "true"),
                    // What waits fits the cache, and still fills a link of 100 ms at full speed.
                    ("queue.buffering.max.kbytes", "8192"),
                    ("queue.buffering.max.messages", "1000000"),
                    // As Java's: a record's partition follows from its key by murmur2, so that all producers agree.
                    ("partitioner", "murmur2_random"),
                ],
            )
            .create_with_context(Context {
                counts: Arc::clone(&counts),
                log: ClientLog::default(),
            })
            .map_err(|error| KafkaError::from_call(&config.bootstrap_servers, &error))?;
        let producer = Self {
            producer,
            counts,
            bootstrap_servers: config.bootstrap_servers.clone(),
        };
        producer
            .producer
            .client()
            .fetch_metadata(None, config.request_timeout)
            .map_err(|error| producer.error(&error))?;
        Ok(producer)
    }

    /// Hands one record to librdkafka, waiting while its queue is full.
    ///
    /// # Errors
    /// [`KafkaError::TooLarge`] for this one; [`KafkaError::NotDelivered`] or [`KafkaError::Unreachable`] as soon as any
    /// earlier record is known to have failed.
    pub fn send(&self, topic: &str, message: Message<'_>) -> Result<(), KafkaError> {
        self.check()?;
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        record.key = message.key;
        record.payload = message.value;
        if !message.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(message.headers.len());
            let all = message.headers.iter().fold(headers, |headers, (key, value)| {
                headers.insert(Header { key, value: *value })
            });
            record.headers = Some(all);
        }
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Err((Native::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    self.producer.poll(Duration::from_millis(10));
                    self.check()?;
                }
                Err((Native::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Err(KafkaError::TooLarge {
                        topic: topic.to_owned(),
                    });
                }
                Err((error, _)) => {
                    return Err(KafkaError::NotDelivered {
                        topic: topic.to_owned(),
                        reason: error.to_string(),
                    });
                }
            }
        }
    }

    /// A record is in flight until it is acknowledged, or until its failure has been noted.
    pub fn delivery(&self) -> Delivery {
        let sent = self.counts.sent.load(Ordering::Relaxed);
        let in_flight = self.producer.in_flight_count().max(0) as u64;
        Delivery {
            sent,
            delivered: sent.saturating_sub(in_flight),
        }
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// [`KafkaError::NotDelivered`] when one was refused, [`KafkaError::Unreachable`] when some are still waiting after
    /// `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<Delivery, KafkaError> {
        let end = Instant::now() + timeout;
        loop {
            let delivery = self.delivery();
            self.check()?;
            if delivery.delivered == delivery.sent {
                return Ok(delivery);
            }
            if Instant::now() >= end {
                return Err(KafkaError::Unreachable {
                    bootstrap_servers: self.bootstrap_servers.clone(),
                    reason: format!("{} of {} records acknowledged", delivery.delivered, delivery.sent),
                });
            }
            // An error here is a time-out, which the loop judges by the counts.
            self.producer.flush(Duration::from_millis(200)).ok();
        }
    }

    fn check(&self) -> Result<(), KafkaError> {
        if !self.counts.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let failure = self.counts.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(Failure { error, .. }) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageTimedOut) => {
                Err(KafkaError::Unreachable {
                    bootstrap_servers: self.bootstrap_servers.clone(),
                    reason: error.to_string(),
                })
            }
            Some(Failure { topic, error }) => Err(KafkaError::NotDelivered {
                topic: topic.clone(),
                reason: error.to_string(),
            }),
        }
    }

    fn error(&self, error: &Native) -> KafkaError {
        KafkaError::from_call(&self.bootstrap_servers, error)
    }
}
