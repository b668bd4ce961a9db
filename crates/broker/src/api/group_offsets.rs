//! OffsetCommit and OffsetFetch.

use std::time::Instant;

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};

use crate::groups::{Committed, Committer, FetchedOffset, Place};
use crate::state::State;

use super::text;

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_MAX: usize = 4096;

/// An offset as a request gives it: partition, offset, leader epoch, metadata.
pub(super) struct Given<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<&'a str>,
}

/// What can be committed, and for each given offset what stands against it.
pub(super) fn sort_out(
    state: &State,
    topic: &str,
    given: &[Given<'_>],
    good: &mut Vec<(Place, Committed)>,
) -> Vec<Option<Code>> {
    let at_ms = state.now_ms();
    let check = |given: &Given<'_>| {
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
        good.push(((topic.to_owned(), given.partition), committed));
        None
    };
    given.iter().map(check).collect()
}

pub(crate) fn commit(state: &State, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut good = Vec::new();
    let mut faults = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let given: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| Given {
                partition: p.partition_index,
                offset: p.committed_offset,
                leader_epoch: p.committed_leader_epoch,
                metadata: p.committed_metadata.as_deref(),
            })
            .collect();
        faults.push(sort_out(state, &topic.name, &given, &mut good));
    }
    let by = Committer {
        group: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let result = if request.group_id.is_empty() && by.generation >= 0 {
        Err(Code::InvalidGroupId)
    } else {
        state.groups.commit(by, None, good, Instant::now())
    };
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

pub(crate) fn fetch(state: &State, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let places = group.topics.map(|topics| {
                places(
                    topics
                        .iter()
                        .map(|topic| (topic.name.as_str(), topic.partition_indexes.as_slice())),
                )
            });
            let topics = by_topic(state.groups.fetch(&group.group_id, places))
                .into_iter()
                .map(|(name, offsets)| {
                    let partitions = offsets.into_iter().map(|fetched| {
                        let (offset, epoch, metadata, code) = shown(&fetched, stable);
                        OffsetFetchResponsePartitions::default()
                            .with_partition_index(fetched.place.1)
                            .with_committed_offset(offset)
                            .with_committed_leader_epoch(epoch)
                            .with_metadata(Some(text(metadata)))
                            .with_error_code(code)
                    });
                    let partitions = partitions.collect();
                    OffsetFetchResponseTopics::default()
                        .with_name(TopicName(text(name)))
                        .with_partitions(partitions)
                });
            let topics = topics.collect();
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_topics(topics)
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let places = request.topics.map(|topics| {
        places(
            topics
                .iter()
                .map(|topic| (topic.name.as_str(), topic.partition_indexes.as_slice())),
        )
    });
    let topics = by_topic(state.groups.fetch(&request.group_id, places))
        .into_iter()
        .map(|(name, offsets)| {
            let partitions = offsets.into_iter().map(|fetched| {
                let (offset, epoch, metadata, code) = shown(&fetched, stable);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(fetched.place.1)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch)
                    .with_metadata(Some(text(metadata)))
                    .with_error_code(code)
            });
            let partitions = partitions.collect();
            OffsetFetchResponseTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions)
        });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn places<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Vec<Place> {
    topics
        .flat_map(|(name, partitions)| partitions.iter().map(move |&p| (name.to_owned(), p)))
        .collect()
}

/// Offset, leader epoch, metadata and error code as the client is shown them.
fn shown(fetched: &FetchedOffset, stable: bool) -> (i64, i32, String, i16) {
    match &fetched.committed {
        _ if stable && fetched.unstable => (-1, -1, String::new(), Code::UnstableOffsetCommit.code()),
        Some(committed) => (committed.offset, committed.leader_epoch, committed.metadata.clone(), 0),
        None => (-1, -1, String::new(), 0),
    }
}

fn by_topic(fetched: Vec<FetchedOffset>) -> Vec<(String, Vec<FetchedOffset>)> {
    let mut topics: Vec<(String, Vec<FetchedOffset>)> = Vec::new();
    for offset in fetched {
        match topics.iter_mut().find(|(name, _)| *name == offset.place.0) {
            Some((_, offsets)) => offsets.push(offset),
            None => topics.push((offset.place.0.clone(), vec![offset])),
        }
    }
    topics
}
