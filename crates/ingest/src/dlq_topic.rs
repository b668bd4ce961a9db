//! Dead letters in a topic beside the table, for whoever watches one: at least once, under the headers that Kafka Connect's
//! sinks give them (KIP-298). The table has each of them exactly once.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kafka::{KafkaConfig, KafkaError, Message, Producer};
use model::{DeadLetter, Stage};

/// The longest wait for the cluster to take the letters of one batch, before it counts as away.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connect's name for what we have in words of our own.
const TOO_LARGE: &[u8] = b"longer than this topic takes: see the table dead_letters";

/// A topic that takes copies of dead letters.
pub struct DlqTopic {
    config: KafkaConfig,
    topic: String,
    application: String,
    /// A producer that has failed is over; the next letters get another.
    producer: Mutex<Option<Producer>>,
}

impl DlqTopic {
    /// `topic` must exist, or the cluster must make topics that are asked for.
    pub fn new(config: KafkaConfig, topic: &str, application: &str) -> Self {
        Self {
            config,
            topic: topic.to_owned(),
            application: application.to_owned(),
            producer: Mutex::new(None),
        }
    }

    /// Returns when the cluster has taken them all. Blocks.
    ///
    /// # Errors
    /// Some of the letters may be in the topic all the same, and will be again when they are sent again.
    pub(crate) fn send(&self, letters: &[DeadLetter]) -> Result<(), KafkaError> {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let producer = match kept.take() {
            Some(producer) => producer,
            None => Producer::open(&self.config, Duration::from_millis(5))?,
        };
        for letter in letters {
            self.send_one(&producer, letter)?;
        }
        producer.flush(PATIENCE)?;
        *kept = Some(producer);
        Ok(())
    }

    fn send_one(&self, producer: &Producer, letter: &DeadLetter) -> Result<(), KafkaError> {
        let partition = letter.topic_partition.partition.to_string();
        let offset = letter.offset.to_string();
        let ours = [
            ("__connect.errors.topic", &*letter.topic_partition.topic),
            ("__connect.errors.partition", &partition),
            ("__connect.errors.offset", &offset),
            ("__connect.errors.connector.name", &self.application),
            ("__connect.errors.task.id", "0"),
            ("__connect.errors.stage", stage(letter.stage)),
            ("__connect.errors.class.name", "smartcity"),
            ("__connect.errors.exception.class.name", letter.error_class),
            ("__connect.errors.exception.message", &letter.error),
        ];
        let own = letter
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        let element = letter.element.map(|element| element.to_string());
        let element = element
            .iter()
            .map(|element| ("smartcity.element", Some(element.as_bytes())));
        let headers: Vec<_> = own
            .chain(element)
            .chain(ours.map(|(name, value)| (name, Some(value.as_bytes()))))
            .collect();
        let message = Message {
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            headers: &headers,
        };
        match producer.send(&self.topic, message) {
            Err(KafkaError::TooLarge { .. }) => {
                let headers = [&*headers, &[("smartcity.value", Some(TOO_LARGE))]].concat();
                let without_value = Message {
                    value: None,
                    headers: &headers,
                    ..message
                };
                producer.send(&self.topic, without_value)
            }
            sent => sent,
        }
    }
}

impl fmt::Debug for DlqTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DlqTopic")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// The stage as Connect calls it: it has one for reading a value and one for what is done with it then.
fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Decode | Stage::Schema => "VALUE_CONVERTER",
        Stage::Validate => "TRANSFORMATION",
    }
}
