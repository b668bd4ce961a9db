//! Fetch: file ranges go into the answer as they lie there. Waits for `min_bytes` for up to `max_wait_ms`.
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
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::log::{Chunk, LogError};
use crate::state::State;
use crate::topics::{Partition, Topic};

/// A client may ask to wait longer; it gets an empty answer and asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn fetch(state: &State, version: i16, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
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

/// Registered with every partition of a request for as long as it lives.
struct Waiting<'a> {
    notify: Arc<Notify>,
    places: &'a [Vec<Place<'a>>],
}

impl<'a> Waiting<'a> {
    fn new(places: &'a [Vec<Place<'a>>]) -> Self {
        let waiting = Self {
            notify: Arc::new(Notify::new()),
            places,
        };
        waiting
            .partitions()
            .for_each(|partition| partition.wait_with(&waiting.notify));
        waiting
    }

    fn partitions(&self) -> impl Iterator<Item = &'a Arc<Partition>> {
        self.places
            .iter()
            .flatten()
            .filter_map(|place| place.found.as_ref().ok().map(|(_, partition)| partition))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.partitions()
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
        if offset < log.log_start() || offset > log.high_watermark() {
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

fn answer(state: &State, request: &FetchRequest, places: &[Vec<Place<'_>>]) -> FetchResponse {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut budget = asked.min(state.config.limits.fetch_bytes_max);
    let mut anything = false;
    let mut topics = Vec::with_capacity(places.len());
    for (asked, places) in request.topics.iter().zip(places) {
        let mut partitions = Vec::with_capacity(places.len());
        for place in places {
            let answer = match &place.found {
                Ok((_, partition)) => {
                    let bytes_max = budget.min(place.asked.partition_max_bytes.max(0) as usize);
                    read(request, place.asked, partition, bytes_max, !anything)
                }
                Err(code) => failed(place.asked.partition, *code),
            };
            let bytes = answer.records.as_ref().map_or(0, |records| records.len());
            anything |= bytes > 0;
            budget = budget.saturating_sub(bytes);
            partitions.push(answer);
        }
        topics.push(
            FetchableTopicResponse::default()
                .with_topic(asked.topic.clone())
                .with_topic_id(asked.topic_id)
                .with_partitions(partitions),
        );
    }
    FetchResponse::default().with_responses(topics)
}

fn failed(partition: i32, code: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_partition_index(partition)
        .with_error_code(code.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_records(Some(bytes::Bytes::new()))
}

fn read(
    request: &FetchRequest,
    asked: &FetchPartition,
    partition: &Partition,
    bytes_max: usize,
    at_least_one: bool,
) -> PartitionData {
    let (plan, high_watermark, stable, log_start) = {
        let log = partition.log.lock();
        let (high_watermark, stable) = (log.high_watermark(), log.last_stable_offset());
        let upper = if is_committed(request) { stable } else { high_watermark };
        (
            log.plan_read(asked.fetch_offset, upper),
            high_watermark,
            stable,
            log.log_start(),
        )
    };
    let described = |data: PartitionData| {
        data.with_high_watermark(high_watermark)
            .with_last_stable_offset(stable)
            .with_log_start_offset(log_start)
    };
    if asked.last_fetched_epoch > 0 {
        // No such epoch has been: the client's log ends where ours began to differ.
        let diverging = EpochEndOffset::default().with_epoch(0).with_end_offset(high_watermark);
        let data = PartitionData::default()
            .with_partition_index(asked.partition)
            .with_diverging_epoch(diverging);
        return described(data.with_records(Some(bytes::Bytes::new())));
    }
    let chunk = match plan {
        Ok(None) => Ok(Chunk::default()),
        // Nothing fits any more, unless even the first batch is still to come.
        Ok(Some(_)) if bytes_max == 0 && !at_least_one => Ok(Chunk::default()),
        Ok(Some(plan)) => plan.run(bytes_max, at_least_one),
        Err(error) => Err(error),
    };
    let chunk = match chunk {
        Ok(chunk) => chunk,
        Err(error) => {
            if let LogError::Storage { .. } = error {
                tracing::error!(partition = asked.partition, offset = asked.fetch_offset, %error, "fetch failed");
            }
            return described(failed(asked.partition, error.code()));
        }
    };
    let aborted = is_committed(request).then(|| {
        let aborted = partition.log.lock().aborted_in(asked.fetch_offset, chunk.next_offset);
        let answer = aborted.iter().map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(ProducerId(aborted.producer_id))
                .with_first_offset(aborted.first_offset)
        });
        answer.collect()
    });
    let data = PartitionData::default()
        .with_partition_index(asked.partition)
        .with_aborted_transactions(aborted)
        .with_records(Some(chunk.bytes));
    described(data)
}
