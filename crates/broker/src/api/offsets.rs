//! ListOffsets and OffsetForLeaderEpoch.

use std::collections::HashSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::log::{LogError, TimestampAnswer};
use crate::state::State;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// Of what is not in tiered storage: here, everything.
const EARLIEST_LOCAL: i64 = -4;
/// Of what is in tiered storage: here, nothing.
const LATEST_TIERED: i64 = -5;

/// How often a lookup begins again because a segment was deleted or replaced under it.
const TRIES: usize = 4;

pub(crate) async fn list_offsets(state: &State, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let committed = request.isolation_level == 1;
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            // As Kafka: a partition named twice is a mistake; here it also bounds how much one request can search.
            let found = if seen.insert((topic.name.clone(), asked.partition_index)) {
                find(state, version, &topic.name, asked, committed).await
            } else {
                Err(ResponseError::InvalidRequest)
            };
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            partitions.push(match found {
                Ok(Some(found)) => {
                    let epoch = if version >= 4 { 0 } else { -1 };
                    answer
                        .with_timestamp(found.timestamp)
                        .with_offset(found.offset)
                        .with_leader_epoch(epoch)
                }
                Ok(None) => answer.with_timestamp(-1).with_offset(-1),
                Err(code) => answer.with_error_code(code.code()).with_timestamp(-1).with_offset(-1),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// The version that brought each of the times that stand for something else (KIP-734, KIP-405).
fn is_known(timestamp: i64, version: i16) -> bool {
    match timestamp {
        MAX_TIMESTAMP => version >= 7,
        EARLIEST_LOCAL => version >= 8,
        LATEST_TIERED => version >= 9,
        _ => true,
    }
}

async fn find(
    state: &State,
    version: i16,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Option<TimestampAnswer>, ResponseError> {
    let partition = state
        .topics
        .partition(topic, asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    super::check_leader_epoch(asked.current_leader_epoch)?;
    if !is_known(asked.timestamp, version) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let upper = {
        let log = partition.log.lock();
        let upper = if committed {
            log.last_stable_offset()
        } else {
            log.high_watermark()
        };
        let at = |offset| Ok(Some(TimestampAnswer { offset, timestamp: -1 }));
        match asked.timestamp {
            LATEST => return at(upper),
            EARLIEST | EARLIEST_LOCAL => return at(log.log_start()),
            LATEST_TIERED => return Ok(None),
            MAX_TIMESTAMP | 0.. => upper,
            _ => return Err(ResponseError::UnsupportedVersion),
        }
    };
    let (mut from, mut tries) = (0, 1);
    loop {
        let plan = match asked.timestamp {
            MAX_TIMESTAMP => partition.log.lock().plan_max_timestamp(),
            timestamp => partition.log.lock().plan_timestamp(timestamp, from),
        };
        let Some(plan) = plan.map_err(|error| error.code())? else {
            return Ok(None);
        };
        let next_offset = plan.next_offset;
        // The file is read without the log's lock, and off the threads that answer requests: it may be much to unpack.
        let _permit = state.lookups.acquire().await;
        let found = tokio::task::spawn_blocking(move || plan.run())
            .await
            .map_err(|_| ResponseError::UnknownServerError)?;
        let found = match found {
            // Retention or the cleaner was faster than the reading.
            Err(LogError::Gone { .. }) if tries < TRIES => {
                tries += 1;
                continue;
            }
            found => found.map_err(|error| error.code())?,
        };
        // What is late enough in this segment may have been deleted: then it is in a later one.
        from = next_offset;
        if found.is_some() || asked.timestamp == MAX_TIMESTAMP {
            return Ok(found.filter(|found| found.offset < upper));
        }
    }
}

pub(crate) fn for_leader_epoch(state: &State, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let found = state
                .topics
                .partition(&topic.topic, asked.partition)
                .ok_or(ResponseError::UnknownTopicOrPartition)
                .and_then(|partition| {
                    super::check_leader_epoch(asked.current_leader_epoch)?;
                    Ok(partition.log.lock().high_watermark())
                });
            match found {
                Ok(end) if asked.leader_epoch == 0 => answer.with_leader_epoch(0).with_end_offset(end),
                Ok(_) => answer.with_leader_epoch(-1).with_end_offset(-1),
                Err(code) => answer
                    .with_error_code(code.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}
