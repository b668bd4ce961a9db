//! OffsetCommit and OffsetFetch.

use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use crate::groups::{Committed, Committer, Place};
use crate::state::State;

use super::text;

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX: usize = 4096;

/// An offset as a request gives it.
pub(super) struct Given<'a> {
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a str>,
}

impl<'a> From<&'a OffsetCommitRequestPartition> for Given<'a> {
    fn from(given: &'a OffsetCommitRequestPartition) -> Self {
        Self {
            partition: given.partition_index,
            offset: given.committed_offset,
            leader_epoch: given.committed_leader_epoch,
            metadata: given.committed_metadata.as_deref(),
        }
    }
}

impl<'a> From<&'a TxnOffsetCommitRequestPartition> for Given<'a> {
    fn from(given: &'a TxnOffsetCommitRequestPartition) -> Self {
        Self {
            partition: given.partition_index,
            offset: given.committed_offset,
            leader_epoch: given.committed_leader_epoch,
            metadata: given.committed_metadata.as_deref(),
        }
    }
}

/// By topic, then by partition, as they were given.
type Faults = Vec<Vec<Option<Code>>>;

/// What can be committed, and for each topic's given offsets what stands against them.
pub(super) fn sort_out<'a, P>(
    state: &State,
    topics: impl Iterator<Item = (&'a TopicName, &'a Vec<P>)>,
) -> (Vec<(Place, Committed)>, Faults)
where
    P: 'a,
    Given<'a>: From<&'a P>,
{
    let at_ms = state.now_ms();
    let mut good = Vec::new();
    let faults = topics.map(|(topic, partitions)| {
        let check = |given: Given<'_>| {
            let metadata = given.metadata.unwrap_or("");
            if state.topics.partition(topic, given.partition).is_none() {
                return Some(Code::UnknownTopicOrPartition);
            }
            if metadata.len() > METADATA_MAX {
                return Some(Code::OffsetMetadataTooLarge);
            }
            let committed = Committed {
                offset: given.offset,
                leader_epoch: given.leader_epoch,
                metadata: metadata.to_owned(),
                at_ms,
            };
            good.push(((topic.to_string(), given.partition), committed));
            None
        };
        partitions.iter().map(Given::from).map(check).collect()
    });
    let faults = faults.collect();
    (good, faults)
}

pub(crate) fn commit(state: &State, version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let (good, faults) = sort_out(
        state,
        request.topics.iter().map(|topic| (&topic.name, &topic.partitions)),
    );
    let by = Committer {
        group: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let result = if request.group_id.is_empty() && by.generation >= 0 {
        Err(Code::InvalidGroupId)
    } else {
        let committed = state.groups.commit(by, None, good, Instant::now());
        committed.and_then(|()| state.groups.on_disk())
    };
    let result = result.map_err(|code| no_such_group_as(code, version >= 9));
    let topics = request.topics.iter().zip(faults).map(|(topic, faults)| {
        let partitions = topic.partitions.iter().zip(faults).map(|(partition, fault)| {
            let code = fault.or(result.err()).map_or(0, |code| code.code());
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Clients older than KIP-848 know a group that is not by another code.
pub(super) fn no_such_group_as(code: Code, knows_not_found: bool) -> Code {
    if code == Code::GroupIdNotFound && !knows_not_found {
        Code::IllegalGeneration
    } else {
        code
    }
}

pub(crate) fn fetch(state: &State, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let asked = group.topics.as_ref().map(|topics| {
                places(
                    topics
                        .iter()
                        .map(|topic| (&topic.name, topic.partition_indexes.as_slice())),
                )
            });
            fetch_group(state, group.group_id, asked, stable)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let asked = request.topics.as_ref().map(|topics| {
        places(
            topics
                .iter()
                .map(|topic| (&topic.name, topic.partition_indexes.as_slice())),
        )
    });
    one_group(fetch_group(state, request.group_id, asked, stable))
}

fn fetch_group(state: &State, group: GroupId, asked: Option<Vec<Place>>, stable: bool) -> OffsetFetchResponseGroup {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for fetched in state.groups.fetch(&group, asked) {
        let (name, index) = &fetched.place;
        let answer = OffsetFetchResponsePartitions::default().with_partition_index(*index);
        let nothing = answer.clone().with_committed_offset(-1).with_metadata(Some(text("")));
        let answer = match &fetched.committed {
            _ if stable && fetched.unstable => nothing.with_error_code(Code::UnstableOffsetCommit.code()),
            Some(committed) => answer
                .with_committed_offset(committed.offset)
                .with_committed_leader_epoch(committed.leader_epoch)
                .with_metadata(Some(text(&committed.metadata))),
            None => nothing,
        };
        match topics.iter_mut().find(|topic| topic.name.as_str() == name) {
            Some(topic) => topic.partitions.push(answer),
            None => topics.push(
                OffsetFetchResponseTopics::default()
                    .with_name(TopicName(text(name)))
                    .with_partitions(vec![answer]),
            ),
        }
    }
    OffsetFetchResponseGroup::default()
        .with_group_id(group)
        .with_topics(topics)
}

/// The same in the form of the versions that ask for one group only.
fn one_group(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions)
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn places<'a>(topics: impl Iterator<Item = (&'a TopicName, &'a [i32])>) -> Vec<Place> {
    topics
        .flat_map(|(name, partitions)| partitions.iter().map(|&p| (name.to_string(), p)))
        .collect()
}
