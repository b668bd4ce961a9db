//! One consumer group: the classic rebalance protocol as a state machine.
//!
//! It does no input or output and reads no clock: requests and ticks come with the time, answers go to the waiting
//! requests through their channels. Names follow Kafka's: a member joins, the leader assigns, all sync.

use std::collections::HashMap;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;
use tokio::sync::oneshot;

use super::member::{self, Keep, Member};
use super::messages::{Join, Joined, Synced};
use super::protocols;
use super::settled::Settled;

/// Together with the ids given out by KIP-394 that wait for their owners.
const MEMBERS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) state: GroupState,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    leader: Option<String>,
    /// In the order of joining, which makes the leader's choice plain.
    members: Vec<Member>,
    /// Ids given out by KIP-394 whose owners have not joined with them yet, and until when they may.
    pending: HashMap<String, Instant>,
    /// When the present phase of a rebalance ends without those who are missing.
    deadline: Option<Instant>,
    /// Counts what the journal should know of: generations, and who is in.
    revision: u64,
}

impl Group {
    pub(crate) fn new(generation: i32, protocol_type: Option<String>) -> Self {
        Self {
            state: GroupState::Empty,
            generation,
            protocol_type,
            protocol: None,
            leader: None,
            members: Vec::new(),
            pending: HashMap::new(),
            deadline: None,
            revision: 0,
        }
    }

    /// The group as it was when it last came to rest; its members have a session from now on. `None` when there is no
    /// room for what they hold.
    pub(crate) fn restored(
        generation: i32,
        protocol_type: Option<String>,
        settled: Settled,
        now: Instant,
        keep: &Keep<'_>,
    ) -> Option<Self> {
        let members = settled
            .members
            .into_iter()
            .map(|kept| Member::restored(kept, now, keep));
        Some(Self {
            state: GroupState::Stable,
            protocol: settled.protocol,
            leader: settled.leader,
            members: members.collect::<Option<_>>()?,
            ..Self::new(generation, protocol_type)
        })
    }

    /// What to restore it from; `None` while it is not at rest, or empty.
    pub(crate) fn settled(&self) -> Option<Settled> {
        (self.state == GroupState::Stable).then(|| Settled {
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(Member::settled).collect(),
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// About what its members take, each `member_bytes` and its ids; metadata and assignments apart.
    pub(crate) fn held_bytes(&self, member_bytes: usize) -> usize {
        let members = self.members.iter().map(|member| {
            let instance = member.instance_id.as_ref().map_or(0, String::len);
            member_bytes + member.id.len() + member.client_id.len() + instance
        });
        let pending = self.pending.keys().map(|id| member_bytes + id.len());
        members.chain(pending).sum()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn join(&mut self, join: Join, new_id: String, now: Instant) -> oneshot::Receiver<Joined> {
        let (sender, receiver) = oneshot::channel();
        if let Err((code, member_id)) = self.admit(join, new_id, sender, now) {
            // `admit` has dropped the sender: answer on a channel of its own.
            let (sender, refused) = oneshot::channel();
            let _ = sender.send(Joined::refused(code, member_id));
            return refused;
        }
        self.complete_join_if_all_here(now);
        receiver
    }

    fn admit(
        &mut self,
        join: Join,
        new_id: String,
        sender: oneshot::Sender<Joined>,
        now: Instant,
    ) -> Result<(), (Code, String)> {
        let refuse = |code: Code| Err((code, join.member_id.clone()));
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return refuse(Code::InconsistentGroupProtocol);
        }
        if !self.members.is_empty() && !protocols::is_compatible(&self.members, self.protocol_type.as_deref(), &join) {
            return refuse(Code::InconsistentGroupProtocol);
        }
        if self.members.len() + self.pending.len() >= MEMBERS_MAX && join.member_id.is_empty() {
            return refuse(Code::GroupMaxSizeReached);
        }
        if join.member_id.is_empty() {
            let known = join
                .instance_id
                .as_ref()
                .and_then(|instance| member::position_of_instance(&self.members, instance));
            return match known {
                Some(at) => {
                    self.replace_static(at, join, new_id, sender, now);
                    Ok(())
                }
                None if join.instance_id.is_none() && join.id_required => {
                    self.pending.insert(new_id.clone(), now + join.session_timeout);
                    Err((Code::MemberIdRequired, new_id))
                }
                None => {
                    self.add(join, new_id, sender, now);
                    Ok(())
                }
            };
        }
        if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add(join, id, sender, now);
            return Ok(());
        }
        let at = match member::position(&self.members, &join.member_id, join.instance_id.as_deref()) {
            Ok(at) => at,
            Err(code) => return refuse(code),
        };
        let same_protocols = self.members[at].protocols == join.protocols;
        let is_leader = self.leader.as_deref() == Some(join.member_id.as_str());
        match self.state {
            GroupState::PreparingRebalance => self.rejoin(at, join, sender, now),
            // Its answer got lost: give it again.
            GroupState::CompletingRebalance if same_protocols => {
                let joined = self.joined_answer(at, false);
                self.members[at].touch(now);
                let _ = sender.send(joined);
            }
            GroupState::Stable if same_protocols && !is_leader => {
                let joined = self.joined_answer(at, false);
                self.members[at].touch(now);
                let _ = sender.send(joined);
            }
            _ => {
                self.rejoin(at, join, sender, now);
                self.prepare_rebalance(now);
            }
        }
        Ok(())
    }

    fn add(&mut self, join: Join, id: String, sender: oneshot::Sender<Joined>, now: Instant) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.members.push(Member::new(join, id, sender, now));
        if self.state != GroupState::PreparingRebalance {
            self.prepare_rebalance(now);
        }
    }

    fn rejoin(&mut self, at: usize, join: Join, sender: oneshot::Sender<Joined>, now: Instant) {
        self.members[at].rejoin(join, sender, now);
    }

    /// KIP-345: a restarted static member takes its place back under a new id; the old id is fenced.
    fn replace_static(&mut self, at: usize, join: Join, id: String, sender: oneshot::Sender<Joined>, now: Instant) {
        let can_skip_assignment = join.can_skip_assignment;
        let member = &mut self.members[at];
        let old_id = std::mem::replace(&mut member.id, id.clone());
        if let Some(old) = member.joining.take() {
            let _ = old.send(Joined::refused(Code::FencedInstanceId, old_id.clone()));
        }
        if let Some(old) = member.syncing.take() {
            let _ = old.send(Synced::refused(Code::FencedInstanceId));
        }
        if self.leader.as_ref() == Some(&old_id) {
            self.leader = Some(id);
        }
        self.rejoin(at, join, sender, now);
        match self.state {
            // The others need not hear of it, unless its protocols change the one that all use.
            GroupState::Stable if protocols::choose(&self.members) == self.protocol.as_deref() => {
                self.revision += 1;
                let is_leader = self.leader.as_ref() == Some(&self.members[at].id);
                let mut joined = self.joined_answer(at, is_leader && can_skip_assignment);
                if is_leader && !can_skip_assignment {
                    // An old client's leader would assign again; shown another leader it just syncs.
                    joined.leader = old_id;
                    joined.members.clear();
                }
                if let Some(sender) = self.members[at].joining.take() {
                    let _ = sender.send(joined);
                }
            }
            GroupState::PreparingRebalance => {}
            _ => self.prepare_rebalance(now),
        }
    }

    pub(crate) fn sync(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        protocol: (Option<&str>, Option<&str>),
        assignments: Vec<(String, Bytes)>,
        now: Instant,
    ) -> oneshot::Receiver<Synced> {
        let (sender, receiver) = oneshot::channel();
        let refuse = |sender: oneshot::Sender<Synced>, code: Code| {
            let _ = sender.send(Synced::refused(code));
        };
        let differs = |given: Option<&str>, ours: &Option<String>| given.is_some_and(|g| ours.as_deref() != Some(g));
        let at = match member::position(&self.members, member_id, instance_id) {
            Ok(at) => at,
            Err(code) => {
                refuse(sender, code);
                return receiver;
            }
        };
        if generation != self.generation {
            refuse(sender, Code::IllegalGeneration);
            return receiver;
        }
        if differs(protocol.0, &self.protocol_type) || differs(protocol.1, &self.protocol) {
            refuse(sender, Code::InconsistentGroupProtocol);
            return receiver;
        }
        self.members[at].touch(now);
        match self.state {
            GroupState::Empty => refuse(sender, Code::UnknownMemberId),
            GroupState::PreparingRebalance => refuse(sender, Code::RebalanceInProgress),
            GroupState::Stable => {
                let _ = sender.send(self.synced_answer(at));
            }
            GroupState::CompletingRebalance => {
                self.members[at].syncing = Some(sender);
                if self.leader.as_deref() == Some(member_id) {
                    let mut assignments: HashMap<_, _> = assignments.into_iter().collect();
                    for member in &mut self.members {
                        member.assignment = assignments.remove(&member.id).unwrap_or_default();
                    }
                    self.state = GroupState::Stable;
                    self.deadline = None;
                    self.revision += 1;
                    for at in 0..self.members.len() {
                        if let Some(syncing) = self.members[at].syncing.take() {
                            let _ = syncing.send(self.synced_answer(at));
                            self.members[at].touch(now);
                        }
                    }
                }
            }
        }
        receiver
    }

    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Instant,
    ) -> Result<(), Code> {
        if self.pending.contains_key(member_id) {
            return Err(Code::UnknownMemberId);
        }
        let at = member::position(&self.members, member_id, instance_id)?;
        if generation != self.generation {
            return Err(Code::IllegalGeneration);
        }
        self.members[at].touch(now);
        match self.state {
            GroupState::PreparingRebalance => Err(Code::RebalanceInProgress),
            GroupState::Empty => Err(Code::UnknownMemberId),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }

    pub(crate) fn leave(&mut self, member_id: &str, instance_id: Option<&str>, now: Instant) -> Result<(), Code> {
        if self.pending.remove(member_id).is_some() {
            self.complete_join_if_all_here(now);
            return Ok(());
        }
        // An administrator removes a static member by its instance id alone.
        let at = match (member_id.is_empty(), instance_id) {
            (true, Some(instance)) => {
                member::position_of_instance(&self.members, instance).ok_or(Code::UnknownMemberId)?
            }
            _ => member::position(&self.members, member_id, instance_id)?,
        };
        self.remove(at, now);
        Ok(())
    }

    /// Whether this member may commit offsets now. `generation` is negative for one outside the group's management.
    pub(crate) fn check_commit(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        transactional: bool,
        now: Instant,
    ) -> Result<(), Code> {
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return if transactional {
                Ok(())
            } else {
                Err(Code::UnknownMemberId)
            };
        }
        let at = member::position(&self.members, member_id, instance_id)?;
        if generation != self.generation {
            return Err(Code::IllegalGeneration);
        }
        self.members[at].touch(now);
        if self.state == GroupState::CompletingRebalance {
            Err(Code::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// Lets time pass: members not heard of are out, a rebalance goes on without those who did not come.
    pub(crate) fn tick(&mut self, now: Instant) {
        let before = self.pending.len();
        self.pending.retain(|_, expires| *expires > now);
        let mut changed = self.pending.len() != before;
        while let Some(at) = self
            .members
            .iter()
            .position(|m| m.joining.is_none() && m.syncing.is_none() && m.expires <= now)
        {
            tracing::info!(member = %self.members[at].id, "group member not heard of within its session time-out");
            self.remove(at, now);
            changed = true;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            match self.state {
                GroupState::PreparingRebalance => {
                    self.members
                        .retain(|member| member.joining.is_some() || member.instance_id.is_some());
                    self.pending.clear();
                    self.complete_join(now);
                }
                GroupState::CompletingRebalance => {
                    // The leader or others never synced.
                    let missing = |m: &Member| m.syncing.is_none() && m.instance_id.is_none();
                    self.members.retain(|member| !missing(member));
                    self.prepare_rebalance(now);
                    changed = true;
                }
                _ => self.deadline = None,
            }
        }
        if changed {
            self.complete_join_if_all_here(now);
        }
    }

    /// Tells every waiting request that the coordinator goes away.
    pub(crate) fn dissolve(&mut self) {
        self.members.clear();
        self.pending.clear();
    }

    fn remove(&mut self, at: usize, now: Instant) {
        let member = self.members.remove(at);
        if let Some(joining) = member.joining {
            let _ = joining.send(Joined::refused(Code::UnknownMemberId, member.id.clone()));
        }
        if let Some(syncing) = member.syncing {
            let _ = syncing.send(Synced::refused(Code::UnknownMemberId));
        }
        if self.leader.as_ref() == Some(&member.id) {
            self.leader = None;
        }
        if matches!(self.state, GroupState::Stable | GroupState::CompletingRebalance) {
            self.prepare_rebalance(now);
        }
        self.complete_join_if_all_here(now);
    }

    fn prepare_rebalance(&mut self, now: Instant) {
        for member in &mut self.members {
            if self.state == GroupState::CompletingRebalance {
                member.assignment = Bytes::new();
            }
            if let Some(syncing) = member.syncing.take() {
                let _ = syncing.send(Synced {
                    error: Code::RebalanceInProgress.code(),
                    ..Synced::default()
                });
            }
        }
        self.state = GroupState::PreparingRebalance;
        self.deadline = Some(now + member::rebalance_timeout(&self.members));
    }

    fn complete_join_if_all_here(&mut self, now: Instant) {
        let all_here = self.members.iter().all(|member| member.joining.is_some());
        if self.state == GroupState::PreparingRebalance && all_here && self.pending.is_empty() {
            self.complete_join(now);
        }
    }

    fn complete_join(&mut self, now: Instant) {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.revision += 1;
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            self.leader = None;
            self.deadline = None;
            return;
        }
        self.protocol = protocols::choose(&self.members).map(str::to_owned);
        let leader_is_here = self
            .leader
            .as_ref()
            .is_some_and(|leader| self.members.iter().any(|m| m.id == *leader && m.joining.is_some()));
        if !leader_is_here {
            let next = self
                .members
                .iter()
                .find(|member| member.joining.is_some())
                .or(self.members.first());
            self.leader = next.map(|member| member.id.clone());
        }
        self.state = GroupState::CompletingRebalance;
        self.deadline = Some(now + member::rebalance_timeout(&self.members));
        for at in 0..self.members.len() {
            if let Some(joining) = self.members[at].joining.take() {
                let _ = joining.send(self.joined_answer(at, false));
                self.members[at].touch(now);
            }
        }
    }

    fn joined_answer(&self, at: usize, skip_assignment: bool) -> Joined {
        let member = &self.members[at];
        let is_leader = self.leader.as_ref() == Some(&member.id);
        let members = if is_leader {
            self.members
                .iter()
                .map(|m| (m.id.clone(), m.instance_id.clone(), self.metadata_of(m)))
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            error: 0,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment,
            member_id: member.id.clone(),
            members,
        }
    }

    fn synced_answer(&self, at: usize) -> Synced {
        Synced {
            error: 0,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members[at].assignment.clone(),
        }
    }

    /// The member's metadata for the protocol that was chosen.
    pub(crate) fn metadata_of(&self, member: &Member) -> Bytes {
        let chosen = self.protocol.as_deref();
        chosen.and_then(|name| member.metadata(name)).unwrap_or_default()
    }
}
