//! The group's state machine, driven by hand with a clock of its own.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError as Code;
use tokio::sync::oneshot::Receiver;

use super::*;

struct Bench {
    group: Group,
    now: Instant,
    ids: usize,
}

impl Bench {
    fn new() -> Self {
        Self {
            group: Group::new(0, None),
            now: Instant::now(),
            ids: 0,
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.group.tick(self.now);
    }

    fn join(&mut self, request: Join) -> Receiver<Joined> {
        self.ids += 1;
        self.group.join(request, format!("m{}", self.ids), self.now)
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> Receiver<Synced> {
        let assignments = assignments
            .iter()
            .map(|(m, a)| ((*m).to_owned(), Bytes::copy_from_slice(a.as_bytes())))
            .collect();
        self.group
            .sync(member, None, generation, (None, None), assignments, self.now)
    }
}

fn request(member_id: &str) -> Join {
    Join {
        member_id: member_id.to_owned(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout: Duration::from_millis(1000),
        rebalance_timeout: Duration::from_millis(5000),
        protocol_type: "consumer".to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from_static(b"meta"))],
        id_required: false,
        can_skip_assignment: true,
    }
}

fn keep(_: &str, bytes: &[u8]) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(bytes))
}

fn code(code: Code) -> i16 {
    code.code()
}

#[test]
fn an_empty_group_takes_its_first_member_at_once() {
    let mut bench = Bench::new();
    let joined = bench.join(request("")).try_recv().unwrap();
    assert_eq!((joined.error, joined.generation, joined.leader.as_str()), (0, 1, "m1"));
    assert_eq!(joined.members.len(), 1);
    let synced = bench.sync("m1", 1, &[("m1", "all")]).try_recv().unwrap();
    assert_eq!(synced.assignment, "all");
    assert_eq!(bench.group.state, GroupState::Stable);
    assert_eq!(bench.group.heartbeat("m1", None, 1, bench.now), Ok(()));
    assert_eq!(
        bench.group.heartbeat("m1", None, 0, bench.now),
        Err(Code::IllegalGeneration)
    );
    assert_eq!(
        bench.group.heartbeat("m9", None, 1, bench.now),
        Err(Code::UnknownMemberId)
    );
}

fn two_members(bench: &mut Bench) {
    bench.join(request("")).try_recv().unwrap();
    bench.sync("m1", 1, &[("m1", "all")]).try_recv().unwrap();
    let mut second = bench.join(request(""));
    assert!(second.try_recv().is_err(), "it waits for the first member");
    assert_eq!(
        bench.group.heartbeat("m1", None, 1, bench.now),
        Err(Code::RebalanceInProgress)
    );
    let first = bench.join(request("m1")).try_recv().unwrap();
    let second = second.try_recv().unwrap();
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    let mut follower = bench.sync("m2", 2, &[]);
    assert!(follower.try_recv().is_err(), "it waits for the leader");
    bench.sync("m1", 2, &[("m1", "a"), ("m2", "b")]).try_recv().unwrap();
    assert_eq!(follower.try_recv().unwrap().assignment, "b");
}

#[test]
fn a_second_member_makes_a_rebalance() {
    two_members(&mut Bench::new());
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut bench = Bench::new();
    two_members(&mut bench);
    for _ in 0..3 {
        bench.pass(400);
        let _ = bench.group.heartbeat("m1", None, 2, bench.now);
    }
    assert_eq!(bench.group.state, GroupState::PreparingRebalance);
    assert_eq!(bench.join(request("m1")).try_recv().unwrap().generation, 3);
    assert_eq!(bench.group.members().len(), 1);
    assert_eq!(
        bench.group.check_commit("m2", None, 2, false, bench.now),
        Err(Code::UnknownMemberId)
    );
}

#[test]
fn a_rebalance_goes_on_without_those_who_do_not_come() {
    let mut bench = Bench::new();
    two_members(&mut bench);
    let long = Join {
        session_timeout: Duration::from_secs(60),
        ..request("m1")
    };
    let mut waiting = bench.join(long);
    for _ in 0..11 {
        bench.pass(500);
        let _ = bench.group.heartbeat("m2", None, 2, bench.now);
    }
    let joined = waiting.try_recv().unwrap();
    assert_eq!((joined.generation, joined.members.len()), (3, 1));
    assert_eq!(
        bench.group.heartbeat("m2", None, 2, bench.now),
        Err(Code::UnknownMemberId)
    );
}

#[test]
fn leaving_hands_over_at_once_and_the_last_one_leaves_an_empty_group() {
    let mut bench = Bench::new();
    two_members(&mut bench);
    assert_eq!(bench.group.leave("m1", None, bench.now), Ok(()));
    let joined = bench.join(request("m2")).try_recv().unwrap();
    assert_eq!((joined.generation, joined.leader.as_str()), (3, "m2"));
    assert_eq!(bench.group.leave("m2", None, bench.now), Ok(()));
    assert_eq!(bench.group.state, GroupState::Empty);
    assert_eq!(bench.group.leave("m2", None, bench.now), Err(Code::UnknownMemberId));
}

#[test]
fn a_member_without_an_id_gets_one_and_joins_with_it() {
    let mut bench = Bench::new();
    let first = Join {
        id_required: true,
        ..request("")
    };
    let refused = bench.join(first.clone()).try_recv().unwrap();
    assert_eq!(
        (refused.error, refused.member_id.as_str()),
        (code(Code::MemberIdRequired), "m1")
    );
    let joined = bench
        .join(Join {
            member_id: "m1".to_owned(),
            ..first.clone()
        })
        .try_recv()
        .unwrap();
    assert_eq!(joined.error, 0);
    // An id that is never used does not hold the group for ever.
    bench.join(first).try_recv().unwrap();
    bench.sync("m1", 1, &[]).try_recv().unwrap();
    bench.pass(500);
    let _ = bench.group.heartbeat("m1", None, 1, bench.now);
    bench.pass(600);
    assert_eq!(bench.group.members().len(), 1);
    assert_eq!(
        bench
            .join(Join {
                member_id: "m3".to_owned(),
                ..request("")
            })
            .try_recv()
            .unwrap()
            .error,
        code(Code::UnknownMemberId)
    );
}

#[test]
fn a_restarted_static_member_takes_its_place_without_a_rebalance() {
    let mut bench = Bench::new();
    let fixed = |member: &str| Join {
        instance_id: Some("i".to_owned()),
        ..request(member)
    };
    bench.join(fixed("")).try_recv().unwrap();
    bench.group.sync(
        "m1",
        Some("i"),
        1,
        (None, None),
        vec![("m1".to_owned(), Bytes::from_static(b"x"))],
        bench.now,
    );
    let again = bench.join(fixed("")).try_recv().unwrap();
    assert_eq!((again.error, again.generation, again.member_id.as_str()), (0, 1, "m2"));
    assert!(again.skip_assignment);
    assert_eq!(
        bench.group.heartbeat("m1", Some("i"), 1, bench.now),
        Err(Code::FencedInstanceId)
    );
    assert_eq!(bench.group.heartbeat("m2", Some("i"), 1, bench.now), Ok(()));
    let mut synced = bench
        .group
        .sync("m2", Some("i"), 1, (None, None), Vec::new(), bench.now);
    assert_eq!(synced.try_recv().unwrap().assignment, "x");
}

#[test]
fn protocols_that_do_not_fit_are_refused() {
    let mut bench = Bench::new();
    bench.join(request("")).try_recv().unwrap();
    let other = Join {
        protocols: vec![("sticky".to_owned(), Bytes::new())],
        ..request("")
    };
    assert_eq!(
        bench.join(other).try_recv().unwrap().error,
        code(Code::InconsistentGroupProtocol)
    );
    let other = Join {
        protocol_type: "connect".to_owned(),
        ..request("")
    };
    assert_eq!(
        bench.join(other).try_recv().unwrap().error,
        code(Code::InconsistentGroupProtocol)
    );
}

fn committed(offset: i64) -> Committed {
    Committed {
        offset,
        leader_epoch: -1,
        metadata: "m".to_owned(),
        at_ms: 0,
    }
}

fn outsider(group: &str) -> Committer<'_> {
    Committer {
        group,
        member_id: "",
        instance_id: None,
        generation: -1,
    }
}

#[test]
fn offsets_survive_a_restart_and_transactions_hold_theirs_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("groups");
    let now = Instant::now();
    let place = |partition| ("t".to_owned(), partition);
    let offset = |groups: &Groups, partition| {
        let fetched = groups.fetch("g", Some(vec![place(partition)])).remove(0);
        (fetched.committed.map(|c| c.offset), fetched.unstable)
    };
    let config = crate::config::BrokerConfig::new(([127, 0, 0, 1], 0).into(), dir.path());
    {
        let groups = Groups::open(&path, &config, &keep).unwrap();
        groups
            .commit(outsider("g"), None, vec![(place(0), committed(5))], now)
            .unwrap();
        groups
            .commit(
                outsider("g"),
                Some(7),
                vec![(place(0), committed(9)), (place(1), committed(3))],
                now,
            )
            .unwrap();
        groups
            .commit(outsider("g"), Some(8), vec![(place(2), committed(1))], now)
            .unwrap();
    }
    let groups = Groups::open(&path, &config, &keep).unwrap();
    assert_eq!(offset(&groups, 0), (Some(5), true));
    assert_eq!(offset(&groups, 1), (None, true));
    groups.resolve("g", 7, true).unwrap();
    groups.resolve("g", 8, false).unwrap();
    drop(groups);
    let groups = Groups::open(&path, &config, &keep).unwrap();
    assert_eq!(
        (offset(&groups, 0), offset(&groups, 1), offset(&groups, 2)),
        ((Some(9), false), (Some(3), false), (None, false))
    );
    assert_eq!(groups.delete_offsets("g", &[place(0)]), Ok(vec![Ok(())]));
    assert_eq!(groups.delete("g"), Ok(()));
    assert_eq!(groups.delete("g"), Err(Code::GroupIdNotFound));
    assert!(Groups::open(&path, &config, &keep).unwrap().list().is_empty());
}

#[test]
fn members_of_a_group_at_rest_are_in_it_after_a_restart() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("groups.journal");
    let config = crate::config::BrokerConfig::new(([127, 0, 0, 1], 0).into(), dir.path());
    let now = Instant::now();
    let a_static_one = || Join {
        instance_id: Some("one".to_owned()),
        session_timeout: Duration::from_secs(10),
        ..request("")
    };
    {
        let groups = Groups::open(&path, &config, &keep).unwrap();
        let mut joined = groups.join("g", a_static_one(), "m1".to_owned(), now).unwrap();
        assert_eq!(joined.try_recv().unwrap().generation, 1);
        let assigned = vec![("m1".to_owned(), Bytes::from_static(b"\x00all\xff"))];
        let synced = groups.with("g", |group| {
            group.sync("m1", Some("one"), 1, (None, None), assigned, now)
        });
        assert_eq!(synced.unwrap().try_recv().unwrap().error, 0);
        // The last group is not at rest when the broker ends.
        groups.join("busy", request(""), "b1".to_owned(), now).unwrap();
    }
    let groups = Groups::open(&path, &config, &keep).unwrap();
    let heartbeat = |id: &str| groups.with("g", |group| group.heartbeat(id, Some("one"), 1, Instant::now()));
    assert_eq!(heartbeat("m1"), Some(Ok(())));
    // A member that was restarted as well takes its place back, and no one has to join again.
    let mut joined = groups.join("g", a_static_one(), "m2".to_owned(), now).unwrap();
    assert_eq!(joined.try_recv().unwrap().generation, 1);
    let synced = groups.with("g", |group| {
        group.sync("m2", Some("one"), 1, (None, None), Vec::new(), now)
    });
    assert_eq!(synced.unwrap().try_recv().unwrap().assignment, b"\x00all\xff"[..]);
    assert_eq!(heartbeat("m1"), Some(Err(Code::FencedInstanceId)));
    drop(groups);
    let groups = Groups::open(&path, &config, &keep).unwrap();
    let heartbeat = |id: &str| groups.with("g", |group| group.heartbeat(id, Some("one"), 1, Instant::now()));
    assert_eq!(heartbeat("m2"), Some(Ok(())));
    let busy = groups.with("busy", |group| (group.state, group.generation, group.members().len()));
    assert_eq!(busy, Some((GroupState::Empty, 1, 0)));
    // Without room for what they hold, members join again.
    let full = Groups::open(&path, &config, &|_, _| None).unwrap();
    assert_eq!(
        full.with("g", |group| (group.state, group.generation)),
        Some((GroupState::Empty, 1))
    );
    // Who does not come back is out when its session ends.
    groups.tick(Instant::now() + Duration::from_secs(11));
    assert_eq!(groups.with("g", |group| group.state), Some(GroupState::Empty));
}
