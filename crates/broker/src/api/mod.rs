//! The answers, one file per family of requests.

pub(crate) mod admin;
pub(crate) mod fetch;
pub(crate) mod group_admin;
pub(crate) mod group_offsets;
pub(crate) mod groups;
pub(crate) mod metadata;
pub(crate) mod offsets;
pub(crate) mod produce;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod versions;

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use std::sync::Arc;

use crate::state::State;
use crate::topics::Topic;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// The topic that a request names, by id where its version does so.
fn topic(state: &State, name: &str, id: Uuid, by_id: bool) -> Result<Arc<Topic>, ResponseError> {
    if by_id {
        state.topics.topic_by_id(id).ok_or(ResponseError::UnknownTopicId)
    } else {
        state.topics.topic(name).ok_or(ResponseError::UnknownTopicOrPartition)
    }
}

/// What may be done without an authorizer: everything that Kafka knows to do with each kind of resource, a bit each
/// (KIP-430).
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// The operations when they were asked for, and otherwise the number that says that they were not.
fn operations(asked_for: bool, operations: i32) -> i32 {
    if asked_for { operations } else { i32::MIN }
}

/// One node has had one leader from the start: a client that knows a later one is wrong (KIP-320).
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > 0 {
        Err(ResponseError::UnknownLeaderEpoch)
    } else {
        Ok(())
    }
}
