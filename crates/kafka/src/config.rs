//! How to reach a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::KafkaError;
use crate::properties::{self, Role};

/// The address of a cluster and whatever else librdkafka should know, by librdkafka's own names.
#[derive(Clone)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    pub client_id: String,
    /// librdkafka properties (its `CONFIGURATION.md`); they win over ours. With the prefix `consumer.`, `producer.` or
    /// `admin.` they are for clients of that kind alone. [`KafkaConfig::check`] refuses those that are not the user's.
    pub properties: BTreeMap<String, String>,
    /// How long a single call to the cluster may take.
    pub request_timeout: Duration,
}

impl KafkaConfig {
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: "smartcity".to_owned(),
            properties: BTreeMap::new(),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Whether the properties can be used. Connects to nothing.
    ///
    /// # Errors
    /// [`KafkaError::Config`] with every property that is unknown, has a wrong value, or that exactly once rests on.
    pub fn check(&self) -> Result<(), KafkaError> {
        properties::check(self.properties.iter())
    }

    /// librdkafka's configuration: ours, then `defaults`, then the user's.
    pub(crate) fn client(&self, role: Role, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", &self.client_id);
        // A broker that restarts is back within a second or two; the default of 10 s between tries is an outage.
        config.set("reconnect.backoff.max.ms", "2000");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in properties::of_role(self.properties.iter(), role) {
            config.set(key, value);
        }
        config
    }
}

/// Property values can be secrets and stay out of logs.
impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}
