//! Fetch: ranges of the segment files are the answer, as they lie there. Waits for `min_bytes` for up to `max_wait_ms`.
//!
//! Sessions (KIP-227) are declined: every answer says session 0, and clients go on with full requests.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProducerId};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::log::{Chunk, LogError, Records};
use crate::partition::Partition;
use crate::state::State;
use crate::topics::Topic;

/// A client may ask to wait longer; it gets an empty answer and asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// A segment can be deleted or replaced between the look for a place in it and the reading; then both are done again.
const TRIES: usize = 4;
/// Small ranges of records are sent together with what stands around them; beyond so many bytes in one answer, the
/// file is sent from.
const IN_MEMORY_MAX: usize = 64 << 10;

/// An answer, and the records of each of its partitions in order.
pub(crate) async fn fetch(state: &State, version: i16, request: FetchRequest) -> (FetchResponse, Vec<Records>) {
    if request.session_id != 0 && request.session_epoch > 0 {
        let code = ResponseError::FetchSessionIdNotFound.code();
        return (FetchResponse::default().with_error_code(code), Vec::new());
    }
    let places = places(state, version, &request);
    wait(&request, &places).await;
    answer(state, &request, &places)
}

/// What a request asks of one partition, looked up once.
struct Place<'a> {
    asked: &'a FetchPartition,
    found: Result<(Arc<Topic>, Arc<Partition>), ResponseError>,
}

fn places<'a>(state: &State, version: i16, request: &'a FetchRequest) -> Vec<Vec<Place<'a>>> {
    let by_topic = request.topics.iter().map(|asked| {
        let topic = super::topic(state, &asked.topic, asked.topic_id, version >= 13);
        let place = |asked: &'a FetchPartition| {
            let found = topic.clone().and_then(|topic| {
                super::check_leader_epoch(asked.current_leader_epoch)?;
                let partition = topic
                    .partition(asked.partition)
                    .ok_or(ResponseError::UnknownTopicOrPartition)?;
                Ok((topic, partition))
            });
            Place { asked, found }
        };
        asked.partitions.iter().map(place).collect()
    });
    by_topic.collect()
}

/// Registered with every partition of a request, once, for as long as it lives.
struct Waiting {
    notify: Arc<Notify>,
    partitions: Vec<Arc<Partition>>,
}

impl Waiting {
    fn new(places: &[Vec<Place<'_>>]) -> Self {
        let found = places.iter().flatten().filter_map(|place| place.found.as_ref().ok());
        let mut partitions: Vec<_> = found.map(|(_, partition)| Arc::clone(partition)).collect();
        // A hostile request may name one partition thousands of times.
        partitions.sort_unstable_by_key(Arc::as_ptr);
        partitions.dedup_by_key(|partition| Arc::as_ptr(partition));
        let notify = Arc::new(Notify::new());
        partitions.iter().for_each(|partition| partition.wait_with(&notify));
        Self { notify, partitions }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.partitions
            .iter()
            .for_each(|partition| partition.stop_waiting(&self.notify));
    }
}

async fn wait(request: &FetchRequest, places: &[Vec<Place<'_>>]) {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64).min(WAIT_MAX);
    if request.min_bytes <= 0 || request.max_wait_ms <= 0 || has_enough(request, places) {
        return;
    }
    let waiting = Waiting::new(places);
    // Records may have come between the look and the registration.
    while !has_enough(request, places) {
        if tokio::time::timeout_at(deadline, waiting.notify.notified())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Whether the request can be answered now: enough bytes, or something that the client should hear of.
fn has_enough(request: &FetchRequest, places: &[Vec<Place<'_>>]) -> bool {
    let mut bytes = 0;
    for place in places.iter().flatten() {
        let Ok((_, partition)) = &place.found else { return true };
        let log = partition.log.lock();
        let offset = place.asked.fetch_offset;
        if offset < log.log_start() || offset > log.end_offset() {
            return true;
        }
        let upper = if is_committed(request) {
            log.last_stable_offset()
        } else {
            log.high_watermark()
        };
        bytes += log
            .bytes_from(offset, upper)
            .min(place.asked.partition_max_bytes.max(1) as u64);
    }
    bytes >= request.min_bytes as u64 || places.iter().all(Vec::is_empty)
}

fn is_committed(request: &FetchRequest) -> bool {
    request.isolation_level == 1
}

fn answer(state: &State, request: &FetchRequest, places: &[Vec<Place<'_>>]) -> (FetchResponse, Vec<Records>) {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut room = Room {
        bytes: asked.min(state.config.limits.fetch_bytes_max),
        in_memory: IN_MEMORY_MAX,
        anything: false,
        files: &state.fetch_files,
    };
    let mut all = Vec::with_capacity(places.iter().map(Vec::len).sum());
    let mut topics = Vec::with_capacity(places.len());
    for (asked, places) in request.topics.iter().zip(places) {
        let mut partitions = Vec::with_capacity(places.len());
        for place in places {
            let (answer, records) = match &place.found {
                Ok((_, partition)) => read(request, place.asked, partition, &mut room),
                Err(code) => (failed(place.asked.partition, *code), Records::default()),
            };
            partitions.push(answer);
            all.push(records);
        }
        topics.push(
            FetchableTopicResponse::default()
                .with_topic(asked.topic.clone())
                .with_topic_id(asked.topic_id)
                .with_partitions(partitions),
        );
    }
    (FetchResponse::default().with_responses(topics), all)
}

/// What an answer may still take.
struct Room<'a> {
    /// Of records.
    bytes: usize,
    /// Of records that are held in memory until they are sent.
    in_memory: usize,
    /// Whether it has records already.
    anything: bool,
    /// Closed segments that answers hold open.
    files: &'a Arc<Semaphore>,
}

impl Room<'_> {
    /// Takes a chunk into the answer: as bytes if it is small, as a range of its file otherwise; or not at all when too
    /// many files are open. The first is always taken, so that every client gets on.
    fn take(&mut self, chunk: Chunk) -> Records {
        let Some(mut range) = chunk.range else {
            return Records::default();
        };
        let bytes = chunk.bytes.filter(|bytes| bytes.len() <= self.in_memory);
        let records = match bytes {
            Some(bytes) => {
                self.in_memory -= bytes.len();
                Records::Bytes(bytes)
            }
            None => {
                if chunk.is_own_file {
                    range.permit = Arc::clone(self.files).try_acquire_owned().ok();
                    if range.permit.is_none() && self.anything {
                        return Records::default();
                    }
                }
                Records::File(range)
            }
        };
        self.bytes = self.bytes.saturating_sub(records.len());
        self.anything = true;
        records
    }
}

fn failed(partition: i32, code: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_records(Some(bytes::Bytes::new()))
}

fn read(
    request: &FetchRequest,
    asked: &FetchPartition,
    partition: &Partition,
    room: &mut Room<'_>,
) -> (PartitionData, Records) {
    let bytes_max = room.bytes.min(asked.partition_max_bytes.max(0) as usize);
    let at_least_one = !room.anything;
    let plan = || {
        let log = partition.log.lock();
        let (high_watermark, stable) = (log.high_watermark(), log.last_stable_offset());
        let upper = if is_committed(request) { stable } else { high_watermark };
        let plan = log.plan_read(asked.fetch_offset, upper, bytes_max);
        (plan, high_watermark, stable, log.log_start())
    };
    let (mut planned, mut high_watermark, mut stable, mut log_start) = plan();
    let nothing = PartitionData::default()
        .with_partition_index(asked.partition)
        .with_records(Some(bytes::Bytes::new()));
    if asked.last_fetched_epoch > 0 {
        // No such epoch has been: the client's log ends where ours began to differ.
        let diverging = EpochEndOffset::default().with_epoch(0).with_end_offset(high_watermark);
        let data = described(
            nothing.with_diverging_epoch(diverging),
            high_watermark,
            stable,
            log_start,
        );
        return (data, Records::default());
    }
    let mut tries = 1;
    let chunk = loop {
        let chunk = match planned {
            Ok(None) => Ok(Chunk::default()),
            // Nothing fits any more, unless even the first batch is still to come.
            Ok(Some(_)) if bytes_max == 0 && !at_least_one => Ok(Chunk::default()),
            Ok(Some(plan)) => plan.run(bytes_max, at_least_one),
            Err(error) => Err(error),
        };
        match chunk {
            Err(LogError::Gone { .. }) if tries < TRIES => {
                tries += 1;
                (planned, high_watermark, stable, log_start) = plan();
            }
            chunk => break chunk,
        }
    };
    let read = chunk.and_then(|chunk| {
        let next_offset = chunk.next_offset;
        let records = room.take(chunk);
        let aborted = aborted(request, asked.fetch_offset, next_offset, partition, &records)?;
        Ok((records, aborted))
    });
    match read {
        Ok((records, aborted)) => {
            let data = nothing.with_aborted_transactions(aborted);
            (described(data, high_watermark, stable, log_start), records)
        }
        Err(error) => {
            if let LogError::Storage { .. } = error {
                tracing::error!(partition = asked.partition, offset = asked.fetch_offset, %error, "fetch failed");
            }
            (failed(asked.partition, error.code()), Records::default())
        }
    }
}

fn described(data: PartitionData, high_watermark: i64, stable: i64, log_start: i64) -> PartitionData {
    data.with_high_watermark(high_watermark)
        .with_last_stable_offset(stable)
        .with_log_start_offset(log_start)
}

/// Readers of committed records are told which of them to leave out.
fn aborted(
    request: &FetchRequest,
    from: i64,
    to: i64,
    partition: &Partition,
    records: &Records,
) -> Result<Option<Vec<AbortedTransaction>>, LogError> {
    if !is_committed(request) {
        return Ok(None);
    }
    if records.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let aborted = partition.log.lock().aborted_in(from, to)?;
    let answer = aborted.iter().map(|aborted| {
        AbortedTransaction::default()
            .with_producer_id(ProducerId(aborted.producer_id))
            .with_first_offset(aborted.first_offset)
    });
    Ok(Some(answer.collect()))
}
