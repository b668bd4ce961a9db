//! librdkafka behind small types: a [`Source`] of chunks, an idempotent [`Producer`], topics and tails.
//!
//! Nothing here knows what the bytes mean.

mod config;
mod consumer;
mod context;
mod error;
mod producer;
mod queue;
mod source;
mod topic_id;
mod topics;

pub use config::KafkaConfig;
pub use consumer::{KafkaSource, Subscription};
pub use error::{KafkaError, is_secret};
pub use producer::{Delivery, Message, Producer};
pub use source::{Event, PartitionOffsets, Source};
pub use topics::{create_topics, partition_counts, tail};
