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

/// One node has had one leader from the start: a client that knows a later one is wrong (KIP-320).
fn check_leader_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > 0 {
        Err(ResponseError::UnknownLeaderEpoch)
    } else {
        Ok(())
    }
}
