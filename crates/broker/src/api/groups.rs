//! FindCoordinator and the classic group protocol's requests.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError as Code;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::groups::{Join, Joined, Synced};
use crate::peer::Peer;
use crate::state::{NODE_ID, State};
use crate::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

use super::text;

/// Kafka's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSION_TIMEOUT_MS: RangeInclusive<i32> = 6_000..=1_800_000;
/// Members' metadata is held for as long as they are in.
const METADATA_BYTES_MAX: usize = 1 << 20;

pub(crate) fn find(state: &State, version: i16, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    const GROUP: i8 = 0;
    const TRANSACTION: i8 = 1;
    // As Kafka: whoever looks for a coordinator makes the topic that it keeps its records in.
    let internal = match request.key_type {
        GROUP => Some(OFFSETS_TOPIC),
        TRANSACTION => Some(TRANSACTIONS_TOPIC),
        _ => None,
    };
    if let Some(topic) = internal {
        state.topics.ensure_internal(topic, &state.ids, state.now_ms());
    }
    let (node, host, port, code) = match request.key_type {
        GROUP | TRANSACTION => (NODE_ID, text(&state.host), i32::from(state.port), 0),
        _ => (-1, StrBytes::default(), -1, Code::InvalidRequest.code()),
    };
    if version >= 4 {
        let found = request.coordinator_keys.into_iter().map(|key| {
            Coordinator::default()
                .with_key(key)
                .with_node_id(BrokerId(node))
                .with_host(host.clone())
                .with_port(port)
                .with_error_code(code)
        });
        return FindCoordinatorResponse::default().with_coordinators(found.collect());
    }
    FindCoordinatorResponse::default()
        .with_node_id(BrokerId(node))
        .with_host(host)
        .with_port(port)
        .with_error_code(code)
}

pub(crate) async fn join(state: &State, peer: &Peer, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
    let refuse = |code: Code| answer_join(version, Joined::refused(code, request.member_id.to_string()));
    if request.group_id.is_empty() {
        return refuse(Code::InvalidGroupId);
    }
    if !SESSION_TIMEOUT_MS.contains(&request.session_timeout_ms) {
        return refuse(Code::InvalidSessionTimeout);
    }
    if request
        .protocols
        .iter()
        .map(|protocol| protocol.metadata.len())
        .sum::<usize>()
        > METADATA_BYTES_MAX
    {
        return refuse(Code::InvalidRequest);
    }
    let kept = request.protocols.iter().map(|protocol| {
        let metadata = state.keep(&protocol.name, &protocol.metadata)?;
        Some((protocol.name.to_string(), metadata))
    });
    let Some(protocols) = kept.collect() else {
        tracing::warn!(group = %*request.group_id, "members' metadata takes all the memory it may");
        return refuse(Code::GroupMaxSizeReached);
    };
    let rebalance_ms = if request.rebalance_timeout_ms > 0 {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let instance_id = request.group_instance_id.as_ref().map(ToString::to_string);
    let new_id = state.ids.member(instance_id.as_deref().unwrap_or(&peer.client_id));
    let join = Join {
        member_id: request.member_id.to_string(),
        instance_id,
        client_id: peer.client_id.clone(),
        client_host: peer.host.clone(),
        session_timeout: Duration::from_millis(request.session_timeout_ms as u64),
        rebalance_timeout: Duration::from_millis(rebalance_ms as u64),
        protocol_type: request.protocol_type.to_string(),
        protocols,
        id_required: version >= 4,
        can_skip_assignment: version >= 9,
    };
    match state.groups.join(&request.group_id, join, new_id, Instant::now()) {
        Ok(joined) => match joined.await {
            Ok(joined) => answer_join(version, joined),
            Err(_) => refuse(Code::CoordinatorNotAvailable),
        },
        Err(code) => refuse(code),
    }
}

fn answer_join(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance_id, metadata)| {
        let member = JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_metadata(metadata);
        if version >= 5 {
            member.with_group_instance_id(instance_id.map(text))
        } else {
            member
        }
    });
    // Before version 7 the protocol's name cannot be null.
    let protocol = match joined.protocol {
        None if version < 7 => Some(String::new()),
        protocol => protocol,
    };
    let answer = JoinGroupResponse::default()
        .with_error_code(joined.error)
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_members(members.collect());
    if version >= 9 {
        answer.with_skip_assignment(joined.skip_assignment)
    } else {
        answer
    }
}

pub(crate) async fn sync(state: &State, _version: i16, request: SyncGroupRequest) -> SyncGroupResponse {
    let refuse = |code: Code| SyncGroupResponse::default().with_error_code(code.code());
    let kept = request.assignments.iter().map(|given| {
        let assignment = state.keep(&given.member_id, &given.assignment)?;
        Some((given.member_id.to_string(), assignment))
    });
    let Some(assignments) = kept.collect() else {
        tracing::warn!(group = %*request.group_id, "assignments take all the memory they may");
        return refuse(Code::GroupMaxSizeReached);
    };
    let synced = state.groups.with(&request.group_id, |group| {
        group.sync(
            &request.member_id,
            request.group_instance_id.as_deref(),
            request.generation_id,
            (request.protocol_type.as_deref(), request.protocol_name.as_deref()),
            assignments,
            Instant::now(),
        )
    });
    let Some(synced) = synced else {
        return refuse(Code::UnknownMemberId);
    };
    match synced.await {
        Ok(Synced {
            error,
            protocol_type,
            protocol,
            assignment,
        }) => SyncGroupResponse::default()
            .with_error_code(error)
            .with_protocol_type(protocol_type.map(text))
            .with_protocol_name(protocol.map(text))
            .with_assignment(assignment),
        Err(_) => refuse(Code::CoordinatorNotAvailable),
    }
}

pub(crate) fn heartbeat(state: &State, request: HeartbeatRequest) -> HeartbeatResponse {
    let instance_id = request.group_instance_id.as_deref();
    let result = state.groups.with(&request.group_id, |group| {
        group.heartbeat(&request.member_id, instance_id, request.generation_id, Instant::now())
    });
    let code = match result {
        Some(Ok(())) => 0,
        Some(Err(code)) => code.code(),
        None => Code::UnknownMemberId.code(),
    };
    HeartbeatResponse::default().with_error_code(code)
}

pub(crate) fn leave(state: &State, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let leave = |member_id: &str, instance_id: Option<&str>| match state.groups.with(&request.group_id, |group| {
        group.leave(member_id, instance_id, Instant::now())
    }) {
        Some(Ok(())) => 0,
        Some(Err(code)) => code.code(),
        None => Code::UnknownMemberId.code(),
    };
    if version < 3 {
        return LeaveGroupResponse::default().with_error_code(leave(&request.member_id, None));
    }
    let members = request.members.iter().map(|member| {
        let code = leave(&member.member_id, member.group_instance_id.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code)
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
