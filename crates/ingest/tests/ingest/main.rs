//! Ingest from the outside: the whole job, dead letters replayed, and a lake compared with its topic.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod elements;
mod foreign;
mod job;
mod reader;
mod replay;
#[path = "../../../../tests/skip.rs"]
mod skip;
#[path = "../../../../tests/spark/spark.rs"]
mod spark;
mod starts;
mod types;
mod verify;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ingest::replay::Letter;
use kafka::{Event, KafkaError, PartitionOffsets, Source, TopicIds};
use lake::{Lake, Names};
use model::{Chunk, DeadLetter, ManualClock, TopicPartition};

async fn open_lake(folder: &Path) -> Lake {
    let clock = Arc::new(ManualClock::new(0));
    let lake = Lake::open(folder.to_str().unwrap(), clock, Names::seeded(1));
    lake.await.unwrap()
}

/// A dead letter as a replay reads it from its table.
fn stored(letter: DeadLetter) -> Letter {
    Letter {
        id: letter.id(),
        kafka_timestamp_us: letter.kafka_timestamp_us,
        key: letter.key,
        value: letter.value,
        stage: letter.stage.as_str().to_owned(),
        error_class: letter.error_class.to_owned(),
        error: letter.error,
        field: letter.field,
    }
}

/// Brokers that are older than topic ids.
struct NoIds;

impl TopicIds for NoIds {
    fn topic_id(&self, _: &str, _: Duration) -> Result<Option<String>, KafkaError> {
        Ok(None)
    }
}

/// A log of one chunk.
struct OneChunk(Chunk, bool);

impl Source for OneChunk {
    fn poll(&mut self, _: Duration, _: bool) -> Result<Vec<Event>, KafkaError> {
        match std::mem::take(&mut self.1) {
            true => Ok(vec![Event::Chunk(self.0.clone())]),
            false => Ok(Vec::new()),
        }
    }

    fn assign(&mut self, _: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        self.1 = true;
        Ok(())
    }

    fn pause(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(())
    }

    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        Ok(())
    }

    fn unassign(&mut self, _: &[TopicPartition]) -> Result<(), KafkaError> {
        self.1 = false;
        Ok(())
    }

    fn offsets(&mut self, _: &TopicPartition) -> Result<PartitionOffsets, KafkaError> {
        let span = self.0.span();
        Ok(PartitionOffsets {
            low: span.from,
            high: span.to,
        })
    }

    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError> {
        Ok([("readings".to_owned(), 1)].into())
    }

    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError> {
        Ok(Arc::new(NoIds))
    }

    fn high_watermark(&self, _: &TopicPartition) -> Option<i64> {
        Some(self.0.span().to)
    }

    fn report_positions(&mut self, _: &[(TopicPartition, i64)]) {}
}
