//! From where partitions are read: which topics there are, and what Kafka and the tables say of them. What does not answer
//! is asked again later, while the group is served on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kafka::{KafkaError, PartitionOffsets, Source};
use lake::{Backoff, Lake, LakeError, Table};
use metrics::counter;
use model::{TopicPartition, recreated_topic};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Partition, Reader};
use crate::IngestError;
use crate::assignment::{self, Start};
use crate::config::{StartingOffsets, Until};
use crate::handoff::{Binding, LetterOffset};
use crate::progress::Part;
use crate::topics::{missing, same_topic};

/// How long Kafka may take to say which topic it is, where partitions cannot be read before it is known.
const TOPIC_ID_TIMEOUT: Duration = Duration::from_secs(10);

/// Partitions that are ours and not read yet: Kafka and the lake are asked from where. While they do not answer the group
/// is served on, so that it does not take us for dead.
pub(crate) struct Pending {
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// The group waits for an answer to an assignment, which may be one of nothing.
    is_asked: bool,
    due: Instant,
    backoff: Backoff,
    tries: u32,
}

impl Pending {
    pub(crate) fn new(lake: &Lake) -> Self {
        Self {
            partitions: BTreeSet::new(),
            is_asked: false,
            due: Instant::now(),
            backoff: lake.backoff(),
            tries: 0,
        }
    }

    /// Partitions that the group has assigned, none perhaps.
    pub(super) fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        self.is_asked = true;
        self.add(partitions);
    }

    /// Whether it is time to start them, and to answer the group.
    pub(super) fn is_due(&self) -> bool {
        (self.is_asked || !self.partitions.is_empty()) && Instant::now() >= self.due
    }

    pub(super) fn add(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.partitions.extend(partitions);
        self.due = Instant::now();
    }
}

impl Reader {
    /// Asks Kafka which topics there are, until it is known.
    pub(super) fn find_topics_when_due(&mut self) -> Result<(), IngestError> {
        if self.knows_topics || Instant::now() < self.pending.due {
            return Ok(());
        }
        let found = self.find_topics();
        self.or_later(found, Part::Kafka)
    }

    /// Says which topics are not there. "Latest" is decided for them now: whatever is sent to them from here on is read.
    fn find_topics(&mut self) -> Result<(), IngestError> {
        let counts = self.source.partition_counts()?;
        let missing = missing(self.streams.iter().map(|stream| stream.topic.as_str()), &counts);
        for topic in &missing {
            let nearest = topic.nearest.as_deref();
            warn!(topic = topic.topic, nearest, "there is no such topic in Kafka");
        }
        let is_missing = |topic: &str| missing.iter().any(|missing| missing.topic == topic);
        if self.starting_offsets == StartingOffsets::Latest {
            for state in self.streams.iter().filter(|state| is_missing(&state.topic)) {
                let wait = Wait::new(&self.runtime, &self.stop, &self.abort, &state.name);
                wait.lake(state.table.refresh())?;
                if !state.table.has_starts(&state.topic, []) {
                    let policy = self.starting_offsets.as_str();
                    wait.lake(state.table.record_starts(&state.topic, policy, &[]))?;
                }
            }
        }
        if self.until == Until::CaughtUp && missing.len() == self.streams.len() {
            return Err(IngestError::NoTopics { topics: missing });
        }
        self.knows_topics = true;
        Ok(())
    }

    /// What can be tried again is, later.
    fn or_later(&mut self, result: Result<(), IngestError>, part: Part) -> Result<(), IngestError> {
        match result {
            Ok(()) => {
                self.progress.answered(part);
                Ok(())
            }
            Err(IngestError::Ending) => Ok(()),
            Err(error) if error.is_retryable() => {
                self.progress.failed(part, "where to read from", &error);
                counter!("smartcity_ingest_assignment_retries_total").increment(1);
                self.pending.due = Instant::now() + self.pending.backoff.pause();
                self.pending.tries += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Begins to read the partitions of which Kafka and the lake say from where. The others are tried again later.
    pub(super) fn start_pending(&mut self) -> Result<(), IngestError> {
        self.pending.is_asked = false;
        if !self.knows_topics {
            // Otherwise "latest" could be decided for a topic that was created a moment ago.
            return Ok(self.source.assign(&[])?);
        }
        let pending: Vec<_> = std::mem::take(&mut self.pending.partitions).into_iter().collect();
        let (mut starts, mut paused) = (Vec::new(), Vec::new());
        let tries = self.pending.tries;
        for stream in 0..self.streams.len() {
            let state = &self.streams[stream];
            let own = |partition: &&TopicPartition| *partition.topic == *state.topic;
            let own: Vec<_> = pending.iter().filter(own).cloned().collect();
            if own.is_empty() {
                continue;
            }
            if state.stopped.is_some() {
                // The group wants its answer all the same.
                starts.extend(own.iter().map(|partition| (partition.clone(), 0)));
                paused.extend(own);
                continue;
            }
            match self.start(stream, &own) {
                Ok(started) => {
                    self.progress.answered(Part::Kafka);
                    self.progress.answered(Part::Table(stream));
                    starts.extend(started);
                }
                Err(error) => {
                    let part = match error {
                        IngestError::Lake { .. } => Part::Table(stream),
                        _ => Part::Kafka,
                    };
                    self.or_later(Err(error), part)?;
                    self.pending.partitions.extend(own);
                }
            }
        }
        if self.pending.tries == tries {
            self.pending.tries = 0;
            self.pending.backoff = self.lake.backoff();
        }
        // Also when there are none: the group waits for an answer.
        self.source.assign(&starts)?;
        for (partition, _) in &starts {
            let lane = self.dispatcher.lane_of(partition);
            if self.dispatcher.is_paused(lane) {
                paused.push(partition.clone());
            }
        }
        if !paused.is_empty() {
            self.source.pause(&paused)?;
        }
        Ok(())
    }

    /// Where partitions of one stream are read from; they count as read from now on.
    fn start(&mut self, stream: usize, own: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64)>, IngestError> {
        let state = &mut self.streams[stream];
        let wait = Wait::new(&self.runtime, &self.stop, &self.abort, &state.name);
        wait.lake(state.table.refresh())?;
        wait.lake(self.dead_letters.refresh())?;
        let topic_id = self.topic_ids.topic_id(&state.topic, TOPIC_ID_TIMEOUT)?;
        let known = state
            .binding
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .topic_id
            .clone();
        if topic_id.is_none() && known.is_some() {
            // It is deleted, or its metadata is on its way: nobody knows whose records these would be.
            let topic = state.topic.clone();
            return Err(KafkaError::NotReady { topic }.into());
        }
        if let Some(found) = &topic_id {
            state.recorded_topic = recorded_topic(
                &state.table,
                &state.topic,
                found,
                &wait,
                self.migrated_topics.get(&state.topic),
                !self.fail_on_data_loss,
            )?;
        }
        *state.binding.lock().unwrap_or_else(PoisonError::into_inner) = Binding {
            epoch: state.epoch,
            topic_id,
        };
        let numbers = || own.iter().map(|topic_partition| topic_partition.partition);
        let is_recreated = *state.recorded_topic != *state.topic;
        if !state.table.has_starts(&state.recorded_topic, numbers()) {
            let logs = logs(&mut *self.source, &state.topic, numbers())?;
            // Of a topic that was recreated nothing is left out.
            let policy = if is_recreated {
                StartingOffsets::Earliest
            } else {
                self.starting_offsets
            };
            wait.lake(assignment::record_starts(
                &state.table,
                &state.recorded_topic,
                &logs,
                policy,
            ))?;
        }
        let mut starts = Vec::with_capacity(own.len());
        for topic_partition in own {
            self.progress.reader_moved();
            if self.stop.is_cancelled() || self.abort.is_cancelled() {
                return Err(IngestError::Ending);
            }
            let log = self.source.offsets(topic_partition)?;
            let recorded = state.recorded(topic_partition);
            if !self.fail_on_data_loss {
                let gap = assignment::pass_over_gap(&self.lake, &self.application, &state.table, &recorded, log);
                wait.lake(gap)?;
            }
            let start = assignment::start(&state.table, &self.dead_letters, &recorded, log);
            starts.push((topic_partition.clone(), wait.any(start)?, log));
        }
        // All of them, or none: what failed half-way is asked again as a whole.
        let mut positions = Vec::with_capacity(starts.len());
        for (topic_partition, start, log) in starts {
            let Start {
                position,
                dead_lettered,
                letters,
            } = start;
            if !dead_lettered.is_empty() {
                info!(partition = %topic_partition, count = dead_lettered.len(), "dead letters are ahead of the rows");
            }
            let known = LetterOffset {
                epoch: state.epoch,
                mark: letters,
            };
            let mut letter_offsets = self.letter_offsets.lock().unwrap_or_else(PoisonError::into_inner);
            letter_offsets.insert(state.recorded(&topic_partition), known);
            drop(letter_offsets);
            info!(partition = %topic_partition, offset = position, end = log.high, "reading");
            self.progress
                .assigned(stream, topic_partition.partition, position, log.high);
            let partition = Partition {
                stream,
                position,
                end: log.high,
                dead_lettered: Arc::new(dead_lettered),
                reported: None,
            };
            self.partitions.insert(topic_partition.clone(), partition);
            positions.push((topic_partition, position));
        }
        Ok(positions)
    }
}

/// Waits for the lake, unless the job ends meanwhile.
struct Wait<'a> {
    runtime: &'a Handle,
    stop: &'a CancellationToken,
    abort: &'a CancellationToken,
    stream: &'a str,
}

impl<'a> Wait<'a> {
    fn new(runtime: &'a Handle, stop: &'a CancellationToken, abort: &'a CancellationToken, stream: &'a str) -> Self {
        Self {
            runtime,
            stop,
            abort,
            stream,
        }
    }

    fn lake<T>(&self, call: impl Future<Output = Result<T, LakeError>>) -> Result<T, IngestError> {
        self.any(async {
            call.await.map_err(|source| IngestError::Lake {
                stream: self.stream.to_owned(),
                source,
            })
        })
    }

    fn any<T>(&self, call: impl Future<Output = Result<T, IngestError>>) -> Result<T, IngestError> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(IngestError::Ending),
                () = self.abort.cancelled() => Err(IngestError::Ending),
                done = call => done,
            }
        })
    }
}

/// What the table calls the topic that has this id now: its own name as long as it is the one that the table's rows come
/// from. A topic that was recreated is an error, or goes on under a name of its own where lost records are no reason to
/// stop; from then on it always does.
fn recorded_topic(
    table: &Table,
    topic: &str,
    found: &str,
    wait: &Wait<'_>,
    migrated_to: Option<&String>,
    goes_on: bool,
) -> Result<Arc<str>, IngestError> {
    let bound = wait.lake(table.bind_topic(topic, found))?;
    if bound == found {
        return Ok(topic.into());
    }
    if migrated_to.is_some_and(|to| to == found) {
        wait.lake(table.rebind_topic(topic, &bound, found))?;
        warn!(
            topic,
            from = bound,
            to = found,
            "the topic was migrated, as the settings say"
        );
        return Ok(topic.into());
    }
    // As Kafka's tools print ids: a slash would end the name where offsets are recorded.
    let recreated = recreated_topic(topic, &found.replace('/', "_").replace('+', "-"));
    if !table.has_starts(&recreated, []) {
        if !goes_on {
            same_topic(topic, &bound, found)?;
        }
        warn!(
            topic,
            recorded_as = recreated,
            "the topic was recreated: what the old one held beyond the recorded offsets is lost; reading the new one"
        );
        counter!("smartcity_ingest_recreated_topics_total").increment(1);
    }
    Ok(recreated.into())
}

/// The offsets of every partition of a topic: those that it has now, and those that the group has assigned to us.
fn logs(
    source: &mut dyn Source,
    topic: &str,
    assigned: impl Iterator<Item = i32>,
) -> Result<BTreeMap<i32, PartitionOffsets>, KafkaError> {
    let count = source.partition_counts()?.get(topic).copied().unwrap_or_default();
    if count == 0 {
        // Few partitions must not pass for all of them.
        return Err(KafkaError::NotReady {
            topic: topic.to_owned(),
        });
    }
    let all: BTreeSet<i32> = (0..count).chain(assigned).collect();
    let offsets = |partition| Ok((partition, source.offsets(&TopicPartition::new(topic, partition))?));
    all.into_iter().map(offsets).collect()
}
