//! What administrators ask of groups.

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::*;

use crate::groups::{GroupState, Place};
use crate::state::State;

use super::{GROUP_OPERATIONS, text};

pub(crate) fn list(state: &State, request: ListGroupsRequest) -> ListGroupsResponse {
    let any = |filter: &[kafka_protocol::protocol::StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let groups = state
        .groups
        .list()
        .into_iter()
        .filter(|(_, phase, _)| any(&request.states_filter, phase.name()) && any(&request.types_filter, "classic"))
        .map(|(id, phase, protocol_type)| {
            ListedGroup::default()
                .with_group_id(GroupId(text(id)))
                .with_protocol_type(text(protocol_type))
                .with_group_state(text(phase.name()))
                .with_group_type(text("classic"))
        });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn describe(state: &State, version: i16, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let may = super::operations(request.include_authorized_operations, GROUP_OPERATIONS);
    let groups = request.groups.into_iter().map(|id| {
        let found = state.groups.with(&id, |group| {
            let chosen = group.state == GroupState::Stable;
            let members = group.members().iter().map(|member| {
                let described = DescribedGroupMember::default()
                    .with_member_id(text(&member.id))
                    .with_client_id(text(&member.client_id))
                    .with_client_host(text(format!("/{}", member.client_host)))
                    .with_member_metadata(if chosen {
                        group.metadata_of(member)
                    } else {
                        Default::default()
                    })
                    .with_member_assignment(member.assignment.clone());
                if version >= 4 {
                    described.with_group_instance_id(member.instance_id.clone().map(text))
                } else {
                    described
                }
            });
            DescribedGroup::default()
                .with_group_state(text(group.state.name()))
                .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
                .with_protocol_data(text(group.protocol.clone().filter(|_| chosen).unwrap_or_default()))
                .with_members(members.collect())
        });
        match found {
            Some(described) => described.with_group_id(id).with_authorized_operations(may),
            None => {
                let missing = DescribedGroup::default().with_group_state(text("Dead"));
                let missing = if version >= 6 {
                    missing
                        .with_error_code(Code::GroupIdNotFound.code())
                        .with_error_message(Some(text(format!("Group {} not found.", id.as_str()))))
                } else {
                    missing
                };
                missing.with_group_id(id)
            }
        }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn delete(state: &State, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let deleted: Vec<_> = request
        .groups_names
        .into_iter()
        .map(|id| (state.groups.delete(&id), id))
        .collect();
    let on_disk = state.groups.on_disk();
    let results = deleted.into_iter().map(|(deleted, id)| {
        let code = deleted.and(on_disk).err().map_or(0, |code| code.code());
        DeletableGroupResult::default().with_group_id(id).with_error_code(code)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

pub(crate) fn delete_offsets(state: &State, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let places: Vec<Place> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.name.to_string(), partition.partition_index))
        })
        .collect();
    let deleted = state.groups.delete_offsets(&request.group_id, &places);
    let results = match deleted.and_then(|results| state.groups.on_disk().map(|()| results)) {
        Ok(results) => results,
        Err(code) => return OffsetDeleteResponse::default().with_error_code(code.code()),
    };
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let code = match state.topics.partition(&topic.name, partition.partition_index) {
                None => Code::UnknownTopicOrPartition.code(),
                Some(_) => 0,
            };
            let refused = results.next().and_then(Result::err).map(|code| code.code());
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(refused.unwrap_or(code))
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
