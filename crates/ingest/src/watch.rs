//! Looks after what a job depends on while it runs: is Kafka there, does it still have the same topics, does the lake
//! answer. A job without records to read would not notice otherwise.

use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use kafka::TopicIds;
use lake::Lake;

use crate::IngestError;
use crate::handoff::{Control, SharedBinding};
use crate::progress::{Part, Progress};
use crate::topics::same_topic;

/// Between two looks at Kafka, and how long one may take.
const KAFKA_INTERVAL: Duration = Duration::from_secs(5);
const KAFKA_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the lake, each a request to the store.
const LAKE_INTERVAL: Duration = Duration::from_secs(10);
const LAKE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Watch {
    /// Topic of each stream, and which one it is bound to.
    pub(crate) topics: Vec<(String, SharedBinding)>,
    pub(crate) topic_ids: Arc<dyn TopicIds>,
    pub(crate) lake: Lake,
    pub(crate) progress: Arc<Progress>,
    pub(crate) control: Sender<Control>,
    /// Whether a topic that was recreated is read on, instead of stopping the job.
    pub(crate) outlives_topic: bool,
}

impl Watch {
    /// Ends with an error alone: a topic is not the one it was.
    pub(crate) async fn run(self) -> Result<(), IngestError> {
        let kafka = async {
            loop {
                tokio::time::sleep(KAFKA_INTERVAL).await;
                self.look_at_kafka().await?;
            }
        };
        let lake = async {
            loop {
                tokio::time::sleep(LAKE_INTERVAL).await;
                self.look_at_lake().await;
            }
        };
        tokio::select! {
            ended = kafka => ended,
            () = lake => Ok(()),
        }
    }

    async fn look_at_kafka(&self) -> Result<(), IngestError> {
        for (stream, (topic, binding)) in self.topics.iter().enumerate() {
            let bound = binding.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (ids, name) = (Arc::clone(&self.topic_ids), topic.clone());
            let asked = tokio::task::spawn_blocking(move || ids.topic_id(&name, KAFKA_TIMEOUT));
            let found = match asked.await.map_err(|_| IngestError::Lost("a request to Kafka"))? {
                Ok(found) => found,
                Err(error) => {
                    self.progress.failed(Part::Kafka, "whether it is there", &error);
                    return Ok(());
                }
            };
            self.progress.answered(Part::Kafka);
            let now = binding.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Not when it was bound to another one while the answer was on its way.
            let (Some(id), Some(found), true) = (&bound.topic_id, &found, now == bound) else {
                continue;
            };
            if id != found && self.outlives_topic {
                let epoch = bound.epoch + 1;
                self.control.send(Control::Rewind { stream, epoch }).ok();
            } else {
                same_topic(topic, id, found)?;
            }
        }
        Ok(())
    }

    async fn look_at_lake(&self) {
        let what = "whether it is there";
        match tokio::time::timeout(LAKE_TIMEOUT, self.lake.ping()).await {
            Ok(Ok(())) => self.progress.answered(Part::Lake),
            Ok(Err(error)) => self.progress.failed(Part::Lake, what, &error),
            Err(elapsed) => self.progress.failed(Part::Lake, what, &elapsed),
        }
    }
}
