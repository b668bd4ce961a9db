//! The protocol of a group's assignment: which one its members can agree on.

use super::member::Member;
use super::messages::Join;

/// Whether who joins has a protocol in common with all the others.
pub(super) fn is_compatible(members: &[Member], protocol_type: Option<&str>, join: &Join) -> bool {
    let is_other =
        |m: &&Member| m.id != join.member_id && (m.instance_id.is_none() || m.instance_id != join.instance_id);
    let others = || members.iter().filter(is_other);
    let same_type = others().next().is_none() || protocol_type == Some(&join.protocol_type);
    let common = |name: &str| others().all(|member| member.supports(name));
    same_type && join.protocols.iter().any(|(name, _)| common(name))
}

/// Each member votes for its first protocol that all support; the most votes win, the first of equals.
pub(super) fn choose(members: &[Member]) -> Option<&str> {
    let supported = |name: &str| members.iter().all(|member| member.supports(name));
    let mut votes: Vec<(&str, usize)> = Vec::new();
    for member in members {
        let Some((name, _)) = member.protocols.iter().find(|(name, _)| supported(name)) else {
            continue;
        };
        match votes.iter_mut().find(|(candidate, _)| candidate == name) {
            Some((_, count)) => *count += 1,
            None => votes.push((name, 1)),
        }
    }
    let most = votes.iter().map(|&(_, count)| count).max()?;
    let mut winners = votes.into_iter().filter(|&(_, count)| count == most);
    winners.next().map(|(name, _)| name)
}
