//! [`Source`] on librdkafka.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{ChunkBuilder, TopicPartition};
use rdkafka::Offset;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError as Native, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use tracing::{debug, info, warn};

use crate::context::{Consumer, Context};
use crate::properties::Role;
use crate::queue::{RecordQueue, cached_high_watermark};
use crate::topic_id::KafkaTopicIds;
use crate::topics::fetch_partition_counts;
use crate::{Event, KafkaConfig, KafkaError, PartitionOffsets, Source, TopicIds};

/// Which partitions to read.
#[derive(Debug, Clone)]
pub enum Subscription {
    /// Share the topics with the other members of a consumer group; topics may come into being later.
    Group { group_id: String },
    /// All partitions that the topics have now, without a group.
    All,
}

/// The records one poll may take.
const BATCH_RECORDS_MAX: usize = 10_000;
/// Payload at which a chunk is handed over; with the record limit above it bounds what one poll allocates.
const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Reads topics of a Kafka cluster; see [`Source`].
pub struct KafkaSource {
    // Before `consumer`: the queue must go first.
    queue: RecordQueue,
    consumer: Consumer,
    config: KafkaConfig,
    topics: Vec<String>,
    subscription: Subscription,
    queued_bytes_max: usize,
    positions: HashMap<TopicPartition, i64>,
    /// Partitions that the group has assigned and the caller has yet to start.
    unstarted: BTreeSet<TopicPartition>,
    /// Partitions that the group wants back.
    revoked: BTreeSet<TopicPartition>,
    paused: BTreeSet<TopicPartition>,
    /// Partitions of a member that we are no longer; the caller has yet to let them go.
    abandoned: BTreeSet<TopicPartition>,
    /// Topic handles of librdkafka and what they stand for.
    topic_handles: HashMap<usize, Arc<str>>,
    events: VecDeque<Event>,
    /// Partitions that librdkafka has stopped reading; the caller has yet to hear of them.
    out_of_range: BTreeSet<TopicPartition>,
}

impl KafkaSource {
    /// Connects and subscribes. `queued_bytes_max` bounds what librdkafka fetches ahead.
    ///
    /// # Errors
    /// [`KafkaError::Unreachable`] when no broker answers, [`KafkaError::Config`] for a wrong property.
    pub fn open(
        config: &KafkaConfig,
        topics: &[&str],
        subscription: Subscription,
        queued_bytes_max: usize,
    ) -> Result<Self, KafkaError> {
        let (queue, consumer) = Self::connect(config, &subscription, queued_bytes_max)?;
        let mut source = Self {
            queue,
            consumer,
            config: config.clone(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            subscription,
            queued_bytes_max,
            positions: HashMap::new(),
            unstarted: BTreeSet::new(),
            revoked: BTreeSet::new(),
            paused: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            topic_handles: HashMap::new(),
            events: VecDeque::new(),
            out_of_range: BTreeSet::new(),
        };
        let mut counts = fetch_partition_counts(&source.consumer, config)?;
        counts.retain(|topic, _| topics.contains(&topic.as_str()));
        match source.subscription {
            Subscription::Group { .. } => source.subscribe()?,
            Subscription::All => {
                let partitions = counts
                    .iter()
                    .flat_map(|(topic, count)| (0..*count).map(|partition| TopicPartition::new(&**topic, partition)));
                source.events.push_back(Event::Assigned(partitions.collect()));
            }
        }
        Ok(source)
    }

    fn connect(
        config: &KafkaConfig,
        subscription: &Subscription,
        queued_bytes_max: usize,
    ) -> Result<(RecordQueue, Consumer), KafkaError> {
        let queued_kbytes = (queued_bytes_max / 1024).max(1).to_string();
        let group_id = match subscription {
            Subscription::Group { group_id } => group_id.clone(),
            // librdkafka's consumer queue exists only with a group; without a subscription it is never joined.
            Subscription::All => format!("{}-unsubscribed", config.client_id),
        };
        let mut client = config.client(
            Role::Consumer,
            &[
                ("group.id", &group_id),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                ("enable.partition.eof", "true"),
                ("isolation.level", "read_committed"),
                ("partition.assignment.strategy", "cooperative-sticky"),
                ("queued.min.messages", "1000000"),
                ("queued.max.messages.kbytes", &queued_kbytes),
                // A partition that met a full queue fetches again after so long; librdkafka's second leaves the core idle for
                // three quarters of a backlog.
                ("fetch.queue.backoff.ms", "20"),
                ("fetch.message.max.bytes", "4194304"),
                // A response comes on top of what is queued.
                ("fetch.max.bytes", "8388608"),
                ("fetch.wait.max.ms", "100"),
                // New topics and partitions are seen within so long.
                ("topic.metadata.refresh.interval.ms", "5000"),
                ("allow.auto.create.topics", "false"),
            ],
        );
        // Whatever is shown of the log: one of its warnings is an event to `Context`.
        if matches!(client.log_level, RDKafkaLogLevel::Error) {
            client.set_log_level(RDKafkaLogLevel::Warning);
        }
        let consumer: Consumer = client
            .create_with_context(Context::default())
            .map_err(|error| KafkaError::from_call(&config.bootstrap_servers, &error))?;
        let queue = RecordQueue::new(&consumer, BATCH_RECORDS_MAX)?;
        Ok((queue, consumer))
    }

    fn subscribe(&self) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| self.error(&error))
    }

    fn is_in_group(&self) -> bool {
        matches!(self.subscription, Subscription::Group { .. })
    }

    /// Joins the group again, as another client.
    ///
    /// A member that hears nothing of the group for a session's length forgets its id. If it is static (KIP-345), and back
    /// before the group has forgotten it as well, its heartbeats look like a second member's of the same name, and it is
    /// fenced (librdkafka #3437): by itself.
    fn rejoin(&mut self) -> Result<(), KafkaError> {
        warn!("the session with the group had timed out; joining it again");
        let (queue, consumer) = Self::connect(&self.config, &self.subscription, self.queued_bytes_max)?;
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        // The queue goes before its client here as well.
        self.queue = queue;
        self.consumer = consumer;
        self.topic_handles.clear();
        self.out_of_range.clear();
        self.events.clear();
        let mut held: Vec<_> = self.positions.drain().map(|(partition, _)| partition).collect();
        held.extend(std::mem::take(&mut self.unstarted));
        self.revoked.clear();
        self.paused.clear();
        if !held.is_empty() {
            self.abandoned.extend(held.iter().cloned());
            self.events.push_back(Event::Revoked(held));
        }
        self.subscribe()
    }

    fn error(&self, error: &Native) -> KafkaError {
        KafkaError::from_call(&self.config.bootstrap_servers, error)
    }

    /// Serves the group and the client's own events, at most `timeout`.
    fn poll_events(&mut self, timeout: Duration) -> Result<(), KafkaError> {
        match self.consumer.poll(timeout) {
            None => {}
            Some(Ok(_)) => return Err(KafkaError::Fatal("a record took the wrong queue".to_owned())),
            Some(Err(Native::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId)))
                if self.consumer.context().session_timed_out.load(Ordering::Relaxed) =>
            {
                return self.rejoin();
            }
            Some(Err(Native::MessageConsumptionFatal(code))) => return Err(KafkaError::Fatal(code.to_string())),
            Some(Err(error)) => self.consumer.context().log.error(&error, "while polling"),
        }
        let mut waiting = self
            .consumer
            .context()
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for event in &*waiting {
            match event {
                Event::Assigned(partitions) => self.unstarted.extend(partitions.iter().cloned()),
                Event::Revoked(partitions) => self.revoked.extend(partitions.iter().cloned()),
                Event::Chunk(_) => {}
            }
        }
        self.events.append(&mut waiting);
        Ok(())
    }

    /// Takes one batch and cuts it into a chunk per run of records of one partition.
    fn poll_records(&mut self, timeout: Duration) -> Result<(), KafkaError> {
        let mut warnings = Vec::new();
        let batch = self.queue.consume(timeout);
        let mut open: HashMap<TopicPartition, ChunkBuilder> = HashMap::new();
        // Neighbours mostly share their partition; this saves the look-up.
        let mut current: Option<(usize, i32, TopicPartition, ChunkBuilder)> = None;
        for message in batch.iter() {
            let same = matches!(&current, Some((handle, partition, ..))
                if *handle == message.topic_handle() && *partition == message.partition());
            if !same {
                if let Some((_, _, topic_partition, builder)) = current.take() {
                    open.insert(topic_partition, builder);
                }
                let topic = self
                    .topic_handles
                    .entry(message.topic_handle())
                    .or_insert_with(|| message.topic().into());
                let topic_partition = TopicPartition::new(Arc::clone(topic), message.partition());
                // A partition that was let go meanwhile; its next owner reads this again.
                let Some(position) = self.positions.get(&topic_partition) else {
                    continue;
                };
                let builder = open
                    .remove(&topic_partition)
                    .unwrap_or_else(|| ChunkBuilder::new(topic_partition.clone(), *position));
                current = Some((message.topic_handle(), message.partition(), topic_partition, builder));
            }
            let Some((_, _, topic_partition, builder)) = &mut current else {
                continue;
            };
            let Some(position) = self.positions.get_mut(topic_partition) else {
                continue;
            };
            match message.error() {
                None if message.offset() >= *position => {
                    builder.push(
                        message.offset(),
                        message.timestamp_ms(),
                        message.key(),
                        message.value(),
                        message.headers(),
                    );
                    *position = message.offset() + 1;
                }
                // librdkafka may hand over what lies before a position inside the same batch.
                None => {}
                // The end of the log: offsets up to here without a record were control records or aborted.
                Some(RDKafkaErrorCode::PartitionEOF) => *position = (*position).max(message.offset()),
                Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                    self.out_of_range.insert(topic_partition.clone());
                }
                Some(code) => warnings.push(code),
            }
            if builder.bytes() >= CHUNK_BYTES_MAX {
                let next = ChunkBuilder::new(topic_partition.clone(), *position);
                self.events
                    .push_back(Event::Chunk(std::mem::replace(builder, next).finish(*position)));
            }
        }
        drop(batch);
        let last = current.map(|(_, _, topic_partition, builder)| (topic_partition, builder));
        for (topic_partition, builder) in open.into_iter().chain(last) {
            if let Some(position) = self.positions.get(&topic_partition) {
                let chunk = builder.finish(*position);
                if !chunk.span().is_empty() {
                    self.events.push_back(Event::Chunk(chunk));
                }
            }
        }
        for code in warnings {
            self.consumer
                .context()
                .log
                .error(&Native::MessageConsumption(code), "while reading");
        }
        Ok(())
    }

    /// Tells librdkafka where we are in the partitions that stay.
    ///
    /// While the group moves partitions, librdkafka pauses all of them, and resumes where it believes the application to
    /// be. That is an offset too far when the last it handed over by a batch was no record but the partition's end
    /// (librdkafka #4844) or an error: the next record would never come.
    fn seek_held(&self) -> Result<(), KafkaError> {
        if !self.is_in_group() {
            return Ok(());
        }
        let held: Vec<_> = self.positions.keys().cloned().collect();
        self.seek(&held)
    }

    /// Tells librdkafka where we are in these partitions.
    fn seek(&self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let position = |partition: &TopicPartition| Some((partition.clone(), *self.positions.get(partition)?));
        let positions: Vec<_> = partitions.iter().filter_map(position).collect();
        if positions.is_empty() {
            return Ok(());
        }
        let sought = self
            .consumer
            .seek_partitions(self.list(&positions)?, self.config.request_timeout)
            .map_err(|error| self.error(&error))?;
        for partition in sought.elements() {
            match partition.error() {
                Ok(()) => {}
                // Its reading has yet to begin, at the offset it was assigned with.
                Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) => {}
                Err(error) => return Err(self.error(&error)),
            }
        }
        Ok(())
    }

    fn list(&self, positions: &[(TopicPartition, i64)]) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, offset) in positions {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*offset))
                .map_err(|error| self.error(&error))?;
        }
        Ok(list)
    }
}

fn without_offsets(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        if !self.unstarted.is_empty() {
            // librdkafka leaves the group only when its last assignment was answered.
            self.unstarted.clear();
            if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
                debug!(%error, "an assignment was not answered while closing");
            }
        }
        let held: Vec<_> = self.positions.keys().cloned().collect();
        if let Err(error) = self.unassign(&held) {
            debug!(%error, "partitions were not given back while closing");
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, timeout: Duration, records: bool) -> Result<Vec<Event>, KafkaError> {
        let waits_for_events = !records || self.positions.is_empty();
        self.poll_events(if waits_for_events && self.events.is_empty() {
            timeout
        } else {
            Duration::ZERO
        })?;
        if records && self.events.is_empty() && !self.positions.is_empty() {
            self.poll_records(timeout)?;
        }
        // One after the other; what the batch held of other partitions is handed over by the polls that follow.
        if let Some(topic_partition) = self.out_of_range.pop_first() {
            return Err(KafkaError::OffsetOutOfRange { topic_partition });
        }
        Ok(self.events.drain(..).collect())
    }

    fn assign(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), KafkaError> {
        let held = positions.iter().map(|(partition, _)| partition);
        let held: Vec<_> = held.filter(|held| self.positions.contains_key(held)).cloned().collect();
        if !held.is_empty() {
            self.unassign(&held)?;
        }
        for (partition, _) in positions {
            self.queue.forward(&self.consumer, partition)?;
        }
        let assigned = self.consumer.incremental_assign(&self.list(positions)?);
        assigned.map_err(|error| self.error(&error))?;
        self.seek_held()?;
        for (partition, position) in positions {
            self.unstarted.remove(partition);
            self.positions.insert(partition.clone(), *position);
        }
        if !positions.is_empty() {
            info!(partitions = positions.len(), "assigned");
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let paused = self.consumer.pause(&without_offsets(partitions));
        paused.map_err(|error| self.error(&error))?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let resumed = self.consumer.resume(&without_offsets(partitions));
        resumed.map_err(|error| self.error(&error))?;
        self.paused.retain(|paused| !partitions.contains(paused));
        // It resumes where it believes the application to be, as after a rebalance.
        self.seek(partitions)
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), KafkaError> {
        let known = partitions.iter().filter(|partition| !self.abandoned.remove(partition));
        let partitions: Vec<_> = known.cloned().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        // librdkafka refuses to let go what it was never told to read, and the group still waits for an answer.
        let is_started = |partition: &&TopicPartition| self.positions.contains_key(*partition);
        let started: Vec<_> = partitions.iter().filter(is_started).cloned().collect();
        // It would keep a partition paused that comes back.
        let paused: Vec<_> = partitions
            .iter()
            .filter(|partition| self.paused.remove(partition))
            .cloned()
            .collect();
        if !paused.is_empty() {
            let resumed = self.consumer.resume(&without_offsets(&paused));
            resumed.map_err(|error| self.error(&error))?;
        }
        for partition in &partitions {
            self.positions.remove(partition);
            self.out_of_range.remove(partition);
            match self.revoked.remove(partition) {
                true => self.unstarted.remove(partition),
                // The group still counts it as ours.
                false => self.unstarted.insert(partition.clone()),
            };
        }
        // Records that were read and not handed over yet are void as well.
        self.events
            .retain(|event| !matches!(event, Event::Chunk(chunk) if partitions.contains(chunk.topic_partition())));
        let unassigned = self.consumer.incremental_unassign(&without_offsets(&started));
        unassigned.map_err(|error| self.error(&error))?;
        // A partition stops a little later, and then its queue is forwarded nowhere any more: were it assigned again
        // before that, its records would come to no one. This request is answered after the stop, by the same thread.
        self.consumer.assignment().map_err(|error| self.error(&error))?;
        self.seek_held()?;
        info!(partitions = partitions.len(), "unassigned");
        Ok(())
    }

    fn offsets(&mut self, partition: &TopicPartition) -> Result<PartitionOffsets, KafkaError> {
        let (low, high) = self
            .consumer
            .fetch_watermarks(&partition.topic, partition.partition, self.config.request_timeout)
            .map_err(|error| self.error(&error))?;
        Ok(PartitionOffsets { low, high })
    }

    fn partition_counts(&mut self) -> Result<BTreeMap<String, i32>, KafkaError> {
        fetch_partition_counts(&self.consumer, &self.config)
    }

    fn topic_ids(&self) -> Result<Arc<dyn TopicIds>, KafkaError> {
        Ok(Arc::new(KafkaTopicIds::open(&self.config)?))
    }

    fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        cached_high_watermark(&self.consumer, partition)
    }

    fn report_positions(&mut self, positions: &[(TopicPartition, i64)]) {
        if !self.is_in_group() || positions.is_empty() {
            return;
        }
        let list = self.list(positions);
        if let Err(error) = list.and_then(|list| {
            self.consumer
                .commit(&list, CommitMode::Async)
                .map_err(|error| self.error(&error))
        }) {
            debug!(%error, "positions were not reported to the group");
        }
    }
}
