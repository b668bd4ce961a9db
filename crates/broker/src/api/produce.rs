//! Produce: each partition's batch is checked, given its offsets and written before the answer goes out; with
//! `durability=fsync` it is on the disk then.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use crate::config::Durability;
use crate::log::{Appended, BatchFault, BatchHeader, HEADER_BYTES, LogError, first_without_key, validate_records};
use crate::partition::Partition;
use crate::state::State;
use crate::topics::{Topic, is_internal};

use super::text;

/// A partition that a request has written to, and the offset behind its records there.
#[derive(Debug)]
struct Written {
    partition: Arc<Partition>,
    next_offset: i64,
}

/// An answer that may have to wait for the disk. It holds nothing of the request.
#[derive(Debug)]
pub(crate) struct Produced {
    answer: ProduceResponse,
    written: Vec<Written>,
    waits: bool,
}

impl Produced {
    /// Whether the answer can go out now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.waits
    }

    /// The answer, when all that it promises is on the disk.
    pub(crate) async fn answer(self) -> ProduceResponse {
        let mut answer = self.answer;
        if self.waits && !on_disk(&self.written).await {
            let partitions = answer.responses.iter_mut();
            for partition in partitions.flat_map(|topic| &mut topic.partition_responses) {
                if partition.error_code == 0 {
                    partition.error_code = ResponseError::KafkaStorageError.code();
                }
            }
        }
        answer
    }
}

/// Writes what a request has, and begins to bring it to the disk.
pub(crate) fn produce(state: &State, version: i16, request: ProduceRequest) -> Produced {
    let now_ms = state.now_ms();
    let bad_acks = !(-1..=1).contains(&request.acks);
    let transactional_id = request.transactional_id.as_ref().map(|id| id.as_str());
    let nameless = transactional_id.is_none() && has_transactional_records(&request);
    let mut written: Vec<Written> = Vec::new();
    let mut answers = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        let topic = super::topic(state, &data.name, data.topic_id, version >= 13);
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in &data.partition_data {
            let appended = match &topic {
                _ if bad_acks => Err(LogError::refused(
                    ResponseError::InvalidRequiredAcks,
                    "acks must be -1, 0 or 1",
                )),
                _ if nameless => Err(LogError::refused(
                    ResponseError::TransactionalIdAuthorizationFailed,
                    "transactional records need a transactional id",
                )),
                Err(code) => Err(LogError::refused(*code, "")),
                Ok(topic) => append(
                    state,
                    topic,
                    partition.index,
                    partition.records.as_ref(),
                    transactional_id,
                    now_ms,
                )
                .map(|(partition, appended, next_offset)| {
                    // A duplicate too: its first copy may still be on the way to the disk.
                    written.push(Written {
                        partition: Arc::clone(&partition),
                        next_offset,
                    });
                    (partition, appended)
                }),
            };
            partitions.push(answer(partition.index, appended, version));
        }
        answers.push(
            TopicProduceResponse::default()
                // A copy: a part of the request would keep all of it while the answer waits.
                .with_name(TopicName(text(data.name.as_str())))
                .with_topic_id(data.topic_id)
                .with_partition_responses(partitions),
        );
    }
    let is_durable = state.config.durability == Durability::Fsync;
    for Written { partition, .. } in &written {
        if is_durable {
            // All of them side by side; who waits for records is woken when they are on the disk.
            partition.begin_sync();
        } else {
            partition.wake();
        }
    }
    Produced {
        answer: ProduceResponse::default().with_responses(answers),
        waits: is_durable && request.acks != 0 && !written.is_empty(),
        written,
    }
}

/// Waits until all of it is on the disk; false when any of it may not be.
async fn on_disk(written: &[Written]) -> bool {
    let mut all = true;
    for Written { partition, next_offset } in written {
        all &= partition.on_disk(*next_offset).await;
    }
    all
}

/// Whether any batch says that it is part of a transaction.
fn has_transactional_records(request: &ProduceRequest) -> bool {
    request
        .topic_data
        .iter()
        .flat_map(|topic| &topic.partition_data)
        .filter_map(|partition| partition.records.as_ref())
        .any(|records| BatchHeader::parse(records).is_ok_and(|header| header.is_transactional()))
}

fn append(
    state: &State,
    topic: &Topic,
    index: i32,
    records: Option<&Bytes>,
    transactional_id: Option<&str>,
    now_ms: i64,
) -> Result<(Arc<Partition>, Appended, i64), LogError> {
    if is_internal(&topic.name) {
        return Err(LogError::refused(
            ResponseError::InvalidTopicException,
            format!("Cannot append to internal topic {}", topic.name),
        ));
    }
    let Some(partition) = topic.partition(index) else {
        return Err(LogError::refused(ResponseError::UnknownTopicOrPartition, ""));
    };
    let Some(batch) = records.filter(|records| !records.is_empty()) else {
        return Err(LogError::refused(
            ResponseError::InvalidRecord,
            "a produce request needs a record batch",
        ));
    };
    let header = check(batch)?;
    if partition.log.lock().is_compacted() {
        check_keys(&header, batch, &topic.name, index)?;
    }
    let appended = {
        // Under the log's lock, so that the marker of this transaction cannot slip in between check and append.
        let mut log = partition.log.lock();
        if header.is_transactional() {
            state
                .transactions
                .check_produce(transactional_id, &header, &topic.name, index)?;
        }
        log.append(&header, batch, now_ms).inspect_err(|error| {
            if matches!(error, LogError::Storage { .. }) {
                state.storage.failed(&topic.name, index, error);
            }
        })?
    };
    state.storage.worked();
    let next_offset = appended.base_offset + i64::from(header.last_offset_delta) + 1;
    Ok((partition, appended, next_offset))
}

/// A compacted topic keeps the last record of each key, so each needs one. Its batches are unpacked for that, all of them:
/// the cleaner has to read them later.
fn check_keys(header: &BatchHeader, batch: &Bytes, topic: &str, partition: i32) -> Result<(), LogError> {
    match first_without_key(header, batch) {
        Ok(None) => Ok(()),
        Ok(Some(index)) => Err(LogError::BadRecord {
            code: ResponseError::InvalidRecord,
            index,
            reason: format!(
                "Compacted topic cannot accept message without key in topic partition {topic}-{partition}."
            ),
        }),
        Err(reason) => Err(LogError::refused(ResponseError::InvalidRecord, reason)),
    }
}

/// Exactly one batch, whole, with a good CRC and the records it says it has.
fn check(batch: &Bytes) -> Result<BatchHeader, LogError> {
    let header = BatchHeader::check(batch).map_err(|fault| match fault {
        BatchFault::Magic(magic) if (0..2).contains(&magic) => LogError::refused(
            ResponseError::InvalidRecord,
            format!("message format {magic} is not supported, only 2 is"),
        ),
        BatchFault::Magic(magic) => LogError::refused(ResponseError::CorruptMessage, format!("unknown magic {magic}")),
        BatchFault::CutOff => LogError::refused(ResponseError::InvalidRecord, "the record batch is cut off"),
        BatchFault::Crc => LogError::refused(ResponseError::CorruptMessage, "the record batch's CRC is wrong"),
        BatchFault::Malformed(what) => LogError::refused(ResponseError::CorruptMessage, what),
    })?;
    let invalid = |reason: &str| Err(LogError::refused(ResponseError::InvalidRecord, reason));
    if batch.len() > header.size {
        return invalid("a produce request has exactly one record batch per partition");
    }
    if header.is_control() {
        return invalid("clients cannot write control records");
    }
    if header.has_producer() && header.base_sequence < 0 {
        return invalid("a producer's batch needs a sequence");
    }
    debug_assert!(header.size >= HEADER_BYTES, "checked by the parser");
    match validate_records(&header, batch) {
        Ok(()) => Ok(header),
        Err(reason) => invalid(reason),
    }
}

fn answer(
    index: i32,
    appended: Result<(Arc<Partition>, Appended), LogError>,
    version: i16,
) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    let error = match appended {
        Ok((partition, appended)) => {
            return answer
                .with_base_offset(appended.base_offset)
                .with_log_append_time_ms(appended.log_append_time)
                .with_log_start_offset(partition.log.lock().log_start());
        }
        Err(error) => error,
    };
    let answer = answer
        .with_error_code(error.code().code())
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    match error {
        LogError::Refused(_, reason) if version >= 8 && !reason.is_empty() => {
            answer.with_error_message(Some(text(reason)))
        }
        LogError::BadRecord { index, reason, .. } if version >= 8 => {
            let record = BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(Some(text(reason.clone())));
            answer
                .with_record_errors(vec![record])
                .with_error_message(Some(text(reason)))
        }
        _ => answer,
    }
}
