//! InitProducerId and the requests of transactions.

use std::collections::BTreeSet;
use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as DescribedTransaction};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::*;

use crate::groups::Committer;
use crate::state::State;
use crate::transactions::{Claim, Phase, Transaction};

use super::group_offsets::{no_such_group_as, sort_out};
use super::text;

pub(crate) fn init(state: &State, version: i16, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let result = match &request.transactional_id {
        None => state.transactions.new_producer_id().map(|id| (id, 0)),
        Some(id) => {
            let claimed = (request.producer_id.0 >= 0).then_some((request.producer_id.0, request.producer_epoch));
            let timeout_ms = request.transaction_timeout_ms;
            state.transactions.init(state.participants(), id, timeout_ms, claimed)
        }
    };
    let answer = InitProducerIdResponse::default();
    match result {
        Ok((id, epoch)) => answer.with_producer_id(ProducerId(id)).with_producer_epoch(epoch),
        Err(code) => answer
            .with_error_code(fenced_as(code, version >= 4).code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

/// Clients older than KIP-588 know a fenced producer by another code.
fn fenced_as(code: Code, knows_fenced: bool) -> Code {
    if code == Code::ProducerFenced && !knows_fenced {
        Code::InvalidProducerEpoch
    } else {
        code
    }
}

pub(crate) fn add_partitions(
    state: &State,
    version: i16,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let claim = Claim {
        transactional_id: &request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id.0,
        epoch: request.v3_and_below_producer_epoch,
    };
    let asked: BTreeSet<(String, i32)> = request
        .v3_and_below_topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|&partition| (topic.name.to_string(), partition))
        })
        .collect();
    let exists = |(topic, partition): &(String, i32)| state.topics.partition(topic, *partition).is_some();
    let result = if asked.iter().all(exists) {
        state.transactions.add(claim, state.now(), |transaction| {
            let before = transaction.partitions.len();
            transaction.partitions.extend(asked.iter().cloned());
            transaction.partitions.len() > before
        })
    } else {
        Err(Code::OperationNotAttempted)
    };
    let topics = request.v3_and_below_topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&partition| {
            let code = match result {
                Ok(()) => 0,
                Err(Code::OperationNotAttempted) if !exists(&(topic.name.to_string(), partition)) => {
                    Code::UnknownTopicOrPartition.code()
                }
                Err(code) => fenced_as(code, version >= 2).code(),
            };
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(partition)
                .with_partition_error_code(code)
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics.collect())
}

pub(crate) fn add_offsets(state: &State, version: i16, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let claim = Claim {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let group = request.group_id.to_string();
    let result = state
        .transactions
        .add(claim, state.now(), |transaction| transaction.groups.insert(group));
    let code = result.err().map_or(0, |code| fenced_as(code, version >= 2).code());
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

pub(crate) fn commit_offsets(state: &State, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let (good, faults) = sort_out(
        state,
        request.topics.iter().map(|topic| (&topic.name, &topic.partitions)),
    );
    let claim = Claim {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let by = Committer {
        group: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let result = state.transactions.with_group(claim, &request.group_id, || {
        state.groups.commit(by, Some(claim.producer_id), good, Instant::now())
    });
    let result = result.and_then(|()| state.groups.on_disk());
    let result = result.map_err(|code| no_such_group_as(code, false));
    let topics = request.topics.iter().zip(faults).map(|(topic, faults)| {
        let partitions = topic.partitions.iter().zip(faults).map(|(partition, fault)| {
            // This request's clients know a fenced producer only by its epoch.
            let code = fault.or(result.err()).map_or(0, |code| fenced_as(code, false).code());
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

pub(crate) fn end(state: &State, version: i16, request: EndTxnRequest) -> EndTxnResponse {
    let claim = Claim {
        transactional_id: &request.transactional_id,
        producer_id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let result = state.transactions.end(state.participants(), claim, request.committed);
    let code = result.err().map_or(0, |code| fenced_as(code, version >= 2).code());
    EndTxnResponse::default().with_error_code(code)
}

pub(crate) fn describe(state: &State, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let described = request.transactional_ids.into_iter().map(|id| {
        let answer = DescribedTransaction::default().with_transactional_id(id.clone());
        let Some(transaction) = state.transactions.get(&id) else {
            return answer.with_error_code(Code::TransactionalIdNotFound.code());
        };
        let mut topics: Vec<TopicData> = Vec::new();
        for (name, partition) in &transaction.partitions {
            match topics.iter_mut().find(|topic| topic.topic.as_str() == name) {
                Some(topic) => topic.partitions.push(*partition),
                None => topics.push(
                    TopicData::default()
                        .with_topic(TopicName(text(name)))
                        .with_partitions(vec![*partition]),
                ),
            }
        }
        answer
            .with_transaction_state(text(transaction.phase.name()))
            .with_transaction_timeout_ms(transaction.timeout_ms)
            .with_transaction_start_time_ms(transaction.started_ms.unwrap_or(-1))
            .with_producer_id(ProducerId(transaction.producer_id))
            .with_producer_epoch(transaction.epoch)
            .with_topics(topics)
    });
    DescribeTransactionsResponse::default().with_transaction_states(described.collect())
}

pub(crate) fn list(state: &State, request: ListTransactionsRequest) -> ListTransactionsResponse {
    const PHASES: [Phase; 6] = [
        Phase::Empty,
        Phase::Ongoing,
        Phase::PrepareCommit,
        Phase::PrepareAbort,
        Phase::CompleteCommit,
        Phase::CompleteAbort,
    ];
    let now_ms = state.now_ms();
    let known = |name: &str| PHASES.iter().any(|phase| phase.name() == name);
    let wanted = |transaction: &Transaction| {
        let age_ms = transaction.started_ms.map_or(-1, |started| now_ms - started);
        let states = &request.state_filters;
        let ids = &request.producer_id_filters;
        (states.is_empty() || states.iter().any(|name| name.as_str() == transaction.phase.name()))
            && (ids.is_empty() || ids.iter().any(|id| id.0 == transaction.producer_id))
            && (request.duration_filter < 0 || age_ms >= request.duration_filter)
    };
    let listed = state
        .transactions
        .list()
        .into_iter()
        .filter(|(_, t)| wanted(t))
        .map(|(id, transaction)| {
            ListedTransaction::default()
                .with_transactional_id(TransactionalId(text(id)))
                .with_producer_id(ProducerId(transaction.producer_id))
                .with_transaction_state(text(transaction.phase.name()))
        });
    let unknown = request
        .state_filters
        .iter()
        .filter(|name| !known(name))
        .cloned()
        .collect();
    ListTransactionsResponse::default()
        .with_transaction_states(listed.collect())
        .with_unknown_state_filters(unknown)
}

pub(crate) fn producers(state: &State, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let answer = PartitionResponse::default().with_partition_index(index);
            let Some(partition) = state.topics.partition(&topic.name, index) else {
                return answer.with_error_code(Code::UnknownTopicOrPartition.code());
            };
            let producers = partition.log.lock().producers().into_iter().map(|producer| {
                ProducerState::default()
                    .with_producer_id(ProducerId(producer.producer_id))
                    .with_producer_epoch(i32::from(producer.epoch))
                    .with_last_sequence(producer.last_sequence)
                    .with_last_timestamp(producer.last_timestamp)
                    .with_coordinator_epoch(0)
                    .with_current_txn_start_offset(producer.transaction_start.unwrap_or(-1))
            });
            answer.with_active_producers(producers.collect())
        });
        let partitions = partitions.collect();
        TopicResponse::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}
