//! The broker's settings and its limits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use auth::{Entropy, SystemEntropy, TlsConfig};

use crate::clock::{Clock, SystemClock};
use crate::error::BrokerError;
use crate::sasl::SaslConfig;

/// What a power cut may take. A killed process loses nothing acknowledged, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing that was acknowledged: an acknowledgement waits until the disk has what it promises, and readers see no
    /// record before.
    #[default]
    Fsync,
    /// What the operating system had not written yet: it decides when, as with Kafka's defaults.
    Os,
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fsync" => Ok(Self::Fsync),
            "os" => Ok(Self::Os),
            text => Err(format!("`{text}` is not a durability; write fsync or os")),
        }
    }
}

/// Bounds on what clients can make the broker hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request, in bytes; a larger one closes its connection.
    pub request_bytes_max: usize,
    /// Requests being read or answered at one time, in bytes, over all connections; a request beyond it waits. Those
    /// up to 16 KiB are not counted: heartbeats must get through.
    pub in_flight_bytes_max: usize,
    /// Open connections; further ones are closed at once.
    pub connections_max: usize,
    /// Records in one fetch answer, in bytes, whatever the client asks for.
    pub fetch_bytes_max: usize,
    /// Partitions over all topics: each holds an open file.
    pub partitions_max: usize,
    /// Largest record batch, in bytes (`max.message.bytes`).
    pub message_bytes_max: usize,
    /// Consumer groups.
    pub groups_max: usize,
    /// Transactional ids.
    pub transactions_max: usize,
    /// The memory that the log cleaner takes for the keys of one pass, in bytes: 24 and a third more for each key. A topic
    /// with more keys takes several passes.
    pub cleaner_keys_bytes_max: usize,
    /// A connection that sends nothing for this long is closed.
    pub idle_connection: Duration,
    /// A connection that moves no byte for this long in the middle of a request or an answer is closed.
    pub stalled_connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            in_flight_bytes_max: 256 << 20,
            connections_max: 2_000,
            fetch_bytes_max: 55 << 20,
            partitions_max: 4_000,
            message_bytes_max: 1_048_588,
            groups_max: 10_000,
            transactions_max: 10_000,
            cleaner_keys_bytes_max: 64 << 20,
            idle_connection: Duration::from_secs(600),
            stalled_connection: Duration::from_secs(30),
        }
    }
}

/// What [`crate::Broker::start`] needs to know.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host and port that clients are told to connect to; the listening address when `None`.
    pub advertised: Option<(String, u16)>,
    /// Encryption of the listener; `None` speaks plain text, on the loopback only.
    pub tls: Option<TlsConfig>,
    /// Who may connect; `None` lets everyone in, on the loopback only.
    pub sasl: Option<SaslConfig>,
    /// Everything the broker keeps; made when missing.
    pub data_dir: PathBuf,
    /// Partitions of a topic whose creator does not say.
    pub num_partitions: i32,
    /// Whether a topic is made when a client asks for it.
    pub auto_create_topics: bool,
    /// A segment is closed at this size, in bytes.
    pub segment_bytes: u64,
    /// Records older than this are deleted, a segment at a time; `None` keeps them.
    pub retention: Option<Duration>,
    /// Oldest segments are deleted while a partition is larger than this, in bytes; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// How often retention looks.
    pub retention_check: Duration,
    /// Offsets of a group without members are forgotten after this long.
    pub offsets_retention: Duration,
    /// A producer that has been silent this long is forgotten.
    pub producer_expiry: Duration,
    /// Longest transaction time-out that a client may ask for.
    pub transaction_timeout_max: Duration,
    /// What a power cut may take.
    pub durability: Durability,
    /// How often the cleaner looks for compacted topics that are due (Kafka's `log.cleaner.backoff.ms`).
    pub cleaner_interval: Duration,
    /// Bounds on clients.
    pub limits: Limits,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl BrokerConfig {
    /// Kafka's defaults where they fit a single node: 4 partitions, automatic topics, 7 days of retention.
    pub fn new(listen: SocketAddr, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            advertised: None,
            tls: None,
            sasl: None,
            data_dir: data_dir.into(),
            num_partitions: 4,
            auto_create_topics: true,
            segment_bytes: 128 << 20,
            retention: Some(Duration::from_secs(7 * 24 * 3600)),
            retention_bytes: None,
            retention_check: Duration::from_secs(300),
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            producer_expiry: Duration::from_secs(24 * 3600),
            transaction_timeout_max: Duration::from_secs(15 * 60),
            durability: Durability::default(),
            cleaner_interval: Duration::from_secs(15),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }

    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let fault = |name, reason: &str| {
            Err(BrokerError::Config {
                name,
                reason: reason.to_owned(),
            })
        };
        let address = self.listen;
        let missing = match (&self.tls, &self.sasl) {
            (None, None) => Some("TLS and SASL"),
            (None, _) => Some("TLS"),
            (_, None) => Some("SASL"),
            _ => None,
        };
        if let Some(missing) = missing.filter(|_| !address.ip().is_loopback()) {
            return Err(BrokerError::NotLoopback { address, missing });
        }
        if address.ip().is_unspecified() && self.advertised.is_none() {
            return fault(
                "advertised",
                &format!(
                    "clients cannot connect to {}: say which host and port to tell them",
                    address.ip()
                ),
            );
        }
        if self.sasl.as_ref().is_some_and(|sasl| sasl.mechanisms.is_empty()) {
            return fault("sasl.mechanisms", "at least one is needed");
        }
        if self.num_partitions < 1 {
            return fault("num_partitions", "must be at least 1");
        }
        if self.segment_bytes < 1 << 10 || self.segment_bytes > i32::MAX as u64 {
            return fault("segment_bytes", "must be from 1 KiB to 2 GiB");
        }
        if self.limits.request_bytes_max > self.limits.in_flight_bytes_max {
            return fault("limits.in_flight_bytes_max", "must be at least request_bytes_max");
        }
        if self.limits.in_flight_bytes_max > u32::MAX as usize {
            return fault("limits.in_flight_bytes_max", "must be under 4 GiB");
        }
        Ok(())
    }
}
