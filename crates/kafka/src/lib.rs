//! librdkafka behind small types: a [`Source`] of chunks, an idempotent [`Producer`], topics and tails.
//!
//! Nothing here knows what the bytes mean.

mod client_log;
mod config;
mod consumer;
mod context;
mod error;
mod producer;
mod properties;
mod queue;
mod repeats;
mod source;
mod topic_id;
mod topics;

pub use config::KafkaConfig;
pub use consumer::{KafkaSource, Subscription};
pub use error::{KafkaError, is_secret};
pub use producer::{Delivery, Message, Producer};
pub use source::{Event, PartitionOffsets, Source, TopicIds};
pub use topics::{create_topics, partition_counts, tail};
