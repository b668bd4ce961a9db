//! One member of a group: what it said when it joined, and the requests of it that wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;
use tokio::sync::oneshot;

use super::messages::{Join, Joined, Synced};
use super::settled::{Hex, SettledMember};

/// Makes the copy of a name's bytes that a group keeps; `None` when there is no room.
pub(crate) type Keep<'a> = dyn Fn(&str, &[u8]) -> Option<Bytes> + 'a;

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// Out when nothing is heard until then.
    pub(super) expires: Instant,
    pub(super) joining: Option<oneshot::Sender<Joined>>,
    pub(super) syncing: Option<oneshot::Sender<Synced>>,
}

impl Member {
    pub(super) fn new(join: Join, id: String, joining: oneshot::Sender<Joined>, now: Instant) -> Self {
        Self {
            id,
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            protocols: join.protocols,
            assignment: Bytes::new(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            expires: now + join.session_timeout,
            joining: Some(joining),
            syncing: None,
        }
    }

    pub(super) fn rejoin(&mut self, join: Join, joining: oneshot::Sender<Joined>, now: Instant) {
        self.protocols = join.protocols;
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.joining = Some(joining);
        self.touch(now);
    }

    /// As it was when its group last came to rest; its session begins now. `None` when there is no room for what it holds.
    pub(super) fn restored(kept: SettledMember, now: Instant, keep: &Keep<'_>) -> Option<Self> {
        let session_timeout = Duration::from_millis(kept.session_timeout_ms);
        let protocols = kept.protocols.into_iter().map(|(name, Hex(metadata))| {
            let metadata = keep(&name, &metadata)?;
            Some((name, metadata))
        });
        Some(Self {
            id: kept.id,
            instance_id: kept.instance_id,
            client_id: kept.client_id,
            client_host: kept.client_host,
            protocols: protocols.collect::<Option<_>>()?,
            assignment: keep("", &kept.assignment.0)?,
            session_timeout,
            rebalance_timeout: Duration::from_millis(kept.rebalance_timeout_ms),
            expires: now + session_timeout,
            joining: None,
            syncing: None,
        })
    }

    /// What to restore it from.
    pub(super) fn settled(&self) -> SettledMember {
        let protocols = self.protocols.iter();
        SettledMember {
            id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            session_timeout_ms: self.session_timeout.as_millis() as u64,
            rebalance_timeout_ms: self.rebalance_timeout.as_millis() as u64,
            protocols: protocols
                .map(|(name, metadata)| (name.clone(), Hex(metadata.clone())))
                .collect(),
            assignment: Hex(self.assignment.clone()),
        }
    }

    /// What it said for a protocol, where it supports it.
    pub(super) fn metadata(&self, protocol: &str) -> Option<Bytes> {
        let supported = self.protocols.iter().find(|(name, _)| name == protocol);
        supported.map(|(_, metadata)| metadata.clone())
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.expires = now + self.session_timeout;
    }
}

/// Where the member is that a request names. One with an instance id is known by that, and fenced when another one has
/// taken its place (KIP-345).
pub(super) fn position(members: &[Member], member_id: &str, instance_id: Option<&str>) -> Result<usize, Code> {
    if let Some(instance) = instance_id {
        return match position_of_instance(members, instance) {
            Some(at) if members[at].id == member_id => Ok(at),
            Some(_) => Err(Code::FencedInstanceId),
            None => Err(Code::UnknownMemberId),
        };
    }
    let at = members.iter().position(|member| member.id == member_id);
    at.ok_or(Code::UnknownMemberId)
}

pub(super) fn position_of_instance(members: &[Member], instance_id: &str) -> Option<usize> {
    members
        .iter()
        .position(|member| member.instance_id.as_deref() == Some(instance_id))
}

/// How long a rebalance waits: as long as its slowest member asked for.
pub(super) fn rebalance_timeout(members: &[Member]) -> Duration {
    let timeouts = members.iter().map(|member| member.rebalance_timeout);
    timeouts.max().unwrap_or_default()
}
