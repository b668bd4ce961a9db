//! What members ask of a group and are answered.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;

#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Empty for a member that has no id yet.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// KIP-394: a new member first gets its id and joins again with it.
    pub(crate) id_required: bool,
    /// KIP-814: the leader can be told to skip the assignment.
    pub(crate) can_skip_assignment: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) error: i16,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    /// For the leader: id, instance id, metadata of every member.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    pub(crate) fn refused(code: Code, member_id: String) -> Self {
        Self {
            error: code.code(),
            generation: -1,
            member_id,
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Synced {
    pub(crate) error: i16,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Synced {
    pub(super) fn refused(code: Code) -> Self {
        Self {
            error: code.code(),
            ..Self::default()
        }
    }
}
