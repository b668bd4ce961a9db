package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// member asks in the name of one member of a group.
type member struct {
	*wire
	group, id  string
	instance   *string
	generation int32
	protocols  []string
	kind       string
	session    int32
	rebalance  int32
}

func newMember(group string) *member {
	return &member{wire: dial(), group: group, protocols: []string{"range"}, kind: "consumer", session: 10_000, rebalance: 10_000}
}

// subscription is what a consumer sends as its metadata, for one topic.
func subscription(topic string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = []string{topic}
	return m.AppendTo(nil)
}

func (m *member) joinRequest() *kmsg.JoinGroupRequest {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.MemberID, r.InstanceID = m.group, m.id, m.instance
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = m.session, m.rebalance
	r.ProtocolType = m.kind
	for _, name := range m.protocols {
		r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: subscription("t-" + m.group)})
	}
	return r
}

// joined takes note of what a join was answered and says it without ids.
func (m *member) joined(r *kmsg.JoinGroupResponse) string {
	if r.MemberID != "" {
		m.id = r.MemberID
	}
	if r.ErrorCode == 0 {
		m.generation = r.Generation
	}
	return fmt.Sprint(code(r.ErrorCode), " generation ", r.Generation, " type ", text(r.ProtocolType), " protocol ", text(r.Protocol),
		" leads ", r.LeaderID != "" && r.LeaderID == r.MemberID, " skips ", r.SkipAssignment, " id ", r.MemberID != "", " members ", len(r.Members))
}

func text(s *string) string {
	if s == nil {
		return "null"
	}
	return fmt.Sprintf("%q", *s)
}

func (m *member) join(version int16) string {
	return m.joined(ask[*kmsg.JoinGroupResponse](m.wire, m.joinRequest(), version))
}

// joinWithID joins as a client of today does: once for an id, once with it.
func (m *member) joinWithID(version int16) string {
	if m.id == "" && m.instance == nil {
		m.join(version)
	}
	return m.join(version)
}

func (m *member) syncRequest(assigned ...*member) *kmsg.SyncGroupRequest {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = m.group, m.id, m.instance, m.generation
	r.ProtocolType, r.Protocol = p(m.kind), p(m.protocols[0])
	for _, other := range assigned {
		r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: other.id, MemberAssignment: []byte("part of it")})
	}
	return r
}

func synced(r *kmsg.SyncGroupResponse) string {
	return fmt.Sprint(code(r.ErrorCode), " type ", text(r.ProtocolType), " protocol ", text(r.Protocol), " ", fmt.Sprintf("%q", r.MemberAssignment))
}

func (m *member) sync(version int16, assigned ...*member) string {
	return synced(ask[*kmsg.SyncGroupResponse](m.wire, m.syncRequest(assigned...), version))
}

func (m *member) heartbeat() string {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = m.group, m.id, m.instance, m.generation
	return code(ask[*kmsg.HeartbeatResponse](m.wire, r, 4).ErrorCode)
}

func (m *member) commitRequest(topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.MemberID, r.InstanceID, r.Generation = m.group, m.id, m.instance, m.generation
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{
		{Partition: partition, Offset: offset, LeaderEpoch: -1, Metadata: p("about it")}}}}
	return r
}

func (m *member) commit(topic string, partition int32, offset int64, version int16) string {
	return code(ask[*kmsg.OffsetCommitResponse](m.wire, m.commitRequest(topic, partition, offset), version).Topics[0].Partitions[0].ErrorCode)
}

func (m *member) leave() string {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group = m.group
	r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: m.id, InstanceID: m.instance}}
	answer := ask[*kmsg.LeaveGroupResponse](m.wire, r, 5)
	said := code(answer.ErrorCode)
	for _, member := range answer.Members {
		said += " member " + code(member.ErrorCode)
	}
	return said
}

func describe(w *wire, group string) string {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = []string{group}
	g := ask[*kmsg.DescribeGroupsResponse](w, r, 6).Groups[0]
	var members []string
	for _, m := range g.Members {
		instance := ""
		if m.InstanceID != nil {
			instance = " instance " + *m.InstanceID
		}
		members = append(members, fmt.Sprintf("(%s host %s metadata %t assignment %q%s)", m.ClientID, m.ClientHost, len(m.ProtocolMetadata) > 0, m.MemberAssignment, instance))
	}
	slices.Sort(members)
	return fmt.Sprint(code(g.ErrorCode), " ", g.State, " ", g.ProtocolType, "/", g.Protocol, " ", strings.Join(members, " "))
}

// described waits until the group is known: Kafka shows only what its log has taken.
func described(w *wire, group string) string {
	return eventually(func() string { return describe(w, group) }, func(said string) bool { return strings.HasPrefix(said, "ok") })
}

// fetchOffsets tells what a group has committed for partitions 0 and 1 of a topic.
func fetchOffsets(w *wire, group, topic string, version int16, stable bool) string {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.RequireStable = stable
	r.Group = group
	r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0, 1}}}
	r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, MemberEpoch: -1, Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{0, 1}}}}}
	answer := ask[*kmsg.OffsetFetchResponse](w, r, version)
	said := ""
	if version >= 8 {
		g := answer.Groups[0]
		said = code(g.ErrorCode)
		for _, t := range g.Topics {
			for _, f := range t.Partitions {
				said += fmt.Sprint(" ", f.Partition, "=", f.Offset, " ", text(f.Metadata), " ", code(f.ErrorCode))
			}
		}
		return said
	}
	said = code(answer.ErrorCode)
	for _, t := range answer.Topics {
		for _, f := range t.Partitions {
			said += fmt.Sprint(" ", f.Partition, "=", f.Offset, " ", text(f.Metadata), " ", code(f.ErrorCode))
		}
	}
	return said
}

var _ = scenario("group-joining", func(s *script) {
	m := newMember(topicName("joining"))
	s.say("described before it is", describe(m.wire, m.group))
	s.say("heartbeat in no group", m.heartbeat())
	s.say("sync in no group", m.sync(5))
	s.say("leave no group", m.leave())
	m.id = "unknown"
	s.say("join no group with an id", m.join(9))
	m.id = ""
	for _, version := range []int16{0, 3, 4, 9} {
		m := newMember(topicName(fmt.Sprint("joining-", version)))
		s.say(fmt.Sprint("first join, version ", version), m.join(version))
		s.say("described", described(m.wire, m.group))
		if version >= 4 {
			s.say("heartbeat before the second join", m.heartbeat())
			s.say("second join", m.join(version))
		}
		s.say("described while it syncs", described(m.wire, m.group))
		s.say("sync by the leader", m.sync(min(version, 5), m))
		s.say("described when stable", describe(m.wire, m.group))
		s.say("sync again", m.sync(min(version, 5), m))
		s.say("heartbeat", m.heartbeat())
		s.say("the same again, by the leader", m.join(version))
		s.say("leave", m.leave())
		s.say("leave again", m.leave())
		s.say("heartbeat when gone", m.heartbeat())
		s.say("described when empty", describe(m.wire, m.group))
		s.say("join with the old id", m.join(version))
	}
})

var _ = scenario("group-refused-joins", func(s *script) {
	m := newMember("")
	s.say("no group id", m.join(9))
	m = newMember(topicName("refused"))
	for _, session := range []int32{-1, 0, 1, 5999, 1_800_001} {
		m.session = session
		s.say(fmt.Sprint("session time-out ", session), m.join(3))
	}
	m.session = 6000
	m.protocols = nil
	s.say("no protocols", m.join(3))
	m.protocols, m.kind = []string{"range"}, ""
	s.say("no protocol type", m.join(3))
	m.kind = "consumer"
	s.say("first", m.join(3))
	other := newMember(m.group)
	other.protocols = []string{"another"}
	s.say("no common protocol", other.join(3))
	other.protocols, other.kind = []string{"range"}, "connect"
	s.say("another type", other.join(3))
	other.kind, other.id = "consumer", "unknown"
	s.say("an unknown id", other.join(3))
	s.say("an unknown id, a new version", other.join(9))
})

var _ = scenario("group-generations", func(s *script) {
	topic := made("generations", 1)
	a, b := newMember(topicName("generations")), newMember(topicName("generations"))
	s.say("a joins", a.joinWithID(9))
	s.say("a syncs", a.sync(5, a))
	b.join(9)
	s.say("a's heartbeat while b has an id only", a.heartbeat())
	joining := b.joinRequest()
	b.send(joining, 9)
	s.say("a's heartbeat when b joins", eventually(a.heartbeat, func(c string) bool { return c != "ok" }))
	s.say("a commits while it is to join", a.commit(topic, 0, 5, 8))
	s.say("a syncs in the old generation", a.sync(5))
	s.say("described while they join", describe(a.wire, a.group))
	s.say("a joins again", a.join(9))
	s.say("b joined", b.joined(b.receive(joining).(*kmsg.JoinGroupResponse)))
	s.say("a commits before it syncs", a.commit(topic, 0, 5, 8))
	syncing := b.syncRequest()
	b.send(syncing, 5)
	s.say("a syncs", a.sync(5, a, b))
	s.say("b synced", synced(b.receive(syncing).(*kmsg.SyncGroupResponse)))
	s.say("a commits", a.commit(topic, 0, 5, 8))
	s.say("a commits in a partition that is not", a.commit(topic, 7, 5, 8))
	s.say("a commits in a topic that is not", a.commit(topicName("nowhere"), 0, 5, 8))
	for _, version := range []int16{2, 8, 9} {
		a.generation--
		s.say(fmt.Sprint("a commits in an old generation, version ", version), a.commit(topic, 0, 6, version))
		a.generation++
	}
	a.generation++
	s.say("a's heartbeat in a generation to come", a.heartbeat())
	s.say("a syncs in a generation to come", a.sync(5))
	a.generation--
	stranger := newMember(a.group)
	stranger.id, stranger.generation = "stranger", a.generation
	s.say("a stranger's heartbeat", stranger.heartbeat())
	s.say("a stranger syncs", stranger.sync(5))
	s.say("a stranger commits", stranger.commit(topic, 0, 6, 8))
	s.say("a stranger leaves", stranger.leave())
	stranger.id, stranger.generation = "", -1
	s.say("someone outside commits", stranger.commit(topic, 0, 6, 8))
	wrong := a.syncRequest()
	wrong.Protocol = p("roundrobin")
	s.say("a syncs with another protocol", synced(ask[*kmsg.SyncGroupResponse](a.wire, wrong, 5)))
	s.say("offsets", fetchOffsets(a.wire, a.group, topic, 8, false))
	s.say("b leaves", b.leave())
	s.say("a's heartbeat", a.heartbeat())
	s.say("a joins once more", a.join(9))
	s.say("a leaves", a.leave())
	s.say("someone outside commits when it is empty", stranger.commit(topic, 0, 7, 8))
	s.say("a commits when it is empty", a.commit(topic, 0, 8, 8))
	stranger.group = topicName("generations-simple")
	s.say("someone commits for a group that is not", stranger.commit(topic, 0, 9, 8))
	s.say("described", describe(a.wire, stranger.group))
	stranger.group, stranger.generation, stranger.id = topicName("generations-none"), 3, "x"
	for _, version := range []int16{2, 8, 9} {
		s.say(fmt.Sprint("a member commits for a group that is not, version ", version), stranger.commit(topic, 0, 9, version))
	}
})

var _ = scenario("group-offsets", func(s *script) {
	topic := made("offsets", 2)
	m := newMember(topicName("offsets"))
	m.generation = -1
	for _, version := range []int16{1, 5, 7, 8, 9} {
		s.say(fmt.Sprint("fetched before, version ", version), fetchOffsets(m.wire, m.group, topic, version, false))
	}
	for _, version := range []int16{2, 5, 6, 8, 9} {
		s.say(fmt.Sprint("committed, version ", version), m.commit(topic, 0, int64(version), version))
		s.say("fetched", fetchOffsets(m.wire, m.group, topic, 8, false))
	}
	for _, metadata := range []*string{nil, p(""), p("ü"), p(strings.Repeat("x", 4096)), p(strings.Repeat("x", 4097))} {
		r := m.commitRequest(topic, 1, 7)
		r.Topics[0].Partitions[0].Metadata = metadata
		s.say(fmt.Sprint("metadata ", len(text(metadata))), code(ask[*kmsg.OffsetCommitResponse](m.wire, r, 8).Topics[0].Partitions[0].ErrorCode))
		fetched := fetchOffsets(m.wire, m.group, topic, 8, false)
		s.say("fetched", len(fetched), fetched[:min(len(fetched), 60)])
	}
	s.say("a negative offset", m.commit(topic, 0, -5, 8))
	s.say("fetched", len(fetchOffsets(m.wire, m.group, topic, 8, false)))
	s.say("no group", func() string { e := newMember(""); e.generation = -1; return e.commit(topic, 0, 1, 8) }())
	for _, version := range []int16{2, 7, 8, 9} {
		r := kmsg.NewPtrOffsetFetchRequest()
		r.Group, r.Topics = m.group, nil
		r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: m.group, MemberEpoch: -1}}
		answer := ask[*kmsg.OffsetFetchResponse](m.wire, r, version)
		if version >= 8 {
			s.say(fmt.Sprint("all, version ", version), len(answer.Groups[0].Topics), len(answer.Groups[0].Topics[0].Partitions))
		} else {
			s.say(fmt.Sprint("all, version ", version), len(answer.Topics), len(answer.Topics[0].Partitions))
		}
	}
	remove := func(group, topic string, partitions ...int32) string {
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = group
		t := kmsg.OffsetDeleteRequestTopic{Topic: topic}
		for _, partition := range partitions {
			t.Partitions = append(t.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: partition})
		}
		r.Topics = []kmsg.OffsetDeleteRequestTopic{t}
		answer := ask[*kmsg.OffsetDeleteResponse](m.wire, r, 0)
		said := code(answer.ErrorCode)
		for _, t := range answer.Topics {
			for _, p := range t.Partitions {
				said += " " + code(p.ErrorCode)
			}
		}
		return said
	}
	s.say("delete of a group that is not", remove(topicName("nothing"), topic, 0))
	s.say("delete", remove(m.group, topic, 0))
	s.say("delete what is not committed", remove(m.group, topic, 0))
	s.say("delete in a partition that is not", remove(m.group, topic, 9))
	s.say("delete in a topic that is not", remove(m.group, topicName("nowhere"), 0))
	s.say("fetched", len(fetchOffsets(m.wire, m.group, topic, 8, false)))
	reader := newMember(topicName("offsets-read"))
	reader.generation = -1
	reader.commit(topic, 0, 5, 8)
	reader.commit(made("t-"+"unread", 1), 0, 5, 8)
	join := reader.joinRequest()
	join.Protocols[0].Metadata = subscription(topic)
	reader.joined(ask[*kmsg.JoinGroupResponse](reader.wire, join, 3))
	reader.sync(3, reader)
	s.say("delete of a topic that is read", remove(reader.group, topic, 0))
	s.say("delete of a topic that is not read", remove(reader.group, topicName("t-unread"), 0))
	destroy := func(groups ...string) string {
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Groups = groups
		var said []string
		for _, g := range ask[*kmsg.DeleteGroupsResponse](m.wire, r, 2).Groups {
			said = append(said, fmt.Sprintf("%q %s", strings.TrimSuffix(g.Group, "-"+run), code(g.ErrorCode)))
		}
		slices.Sort(said)
		return strings.Join(said, ", ")
	}
	s.say("delete groups", destroy(m.group, reader.group, topicName("nothing"), ""))
	s.say("described", describe(m.wire, m.group))
	s.say("fetched", fetchOffsets(m.wire, m.group, topic, 8, false))
})

var _ = scenario("group-static", func(s *script) {
	topic := made("static", 1)
	group := topicName("static")
	a, b := newMember(group), newMember(group)
	a.instance, b.instance = p("one"), p("two")
	s.say("a joins", a.join(9))
	s.say("a syncs", a.sync(5, a))
	joining := b.joinRequest()
	b.send(joining, 9)
	s.say("a's heartbeat", eventually(a.heartbeat, func(c string) bool { return c != "ok" }))
	s.say("a joins again", a.join(9))
	s.say("b joined", b.joined(b.receive(joining).(*kmsg.JoinGroupResponse)))
	syncing := b.syncRequest()
	b.send(syncing, 5)
	s.say("a syncs", a.sync(5, a, b))
	s.say("b synced", synced(b.receive(syncing).(*kmsg.SyncGroupResponse)))
	again := newMember(group)
	again.instance = b.instance
	s.say("b comes again", again.join(9))
	s.say("the new b syncs", again.sync(5))
	s.say("the old b's heartbeat", b.heartbeat())
	s.say("the old b commits", b.commit(topic, 0, 1, 8))
	s.say("the old b syncs", b.sync(5))
	s.say("the old b joins", func() string { c := *b; return c.join(9) }())
	s.say("the old b leaves", b.leave())
	s.say("the new b commits", again.commit(topic, 0, 1, 8))
	s.say("a's heartbeat, no one has to join", a.heartbeat())
	leader := newMember(group)
	leader.instance = a.instance
	s.say("the leader comes again, an old client", leader.join(5))
	s.say("it syncs", leader.sync(3))
	a = newMember(group)
	a.instance = leader.instance
	s.say("the leader comes again, a new client", a.join(9))
	s.say("it syncs", a.sync(5))
	unknown := newMember(group)
	unknown.instance, unknown.id = p("three"), "someone"
	s.say("an unknown instance with an id joins", unknown.join(9))
	s.say("an unknown instance's heartbeat", unknown.heartbeat())
	dynamic := newMember(group)
	dynamic.id, dynamic.generation = a.id, a.generation
	s.say("a's heartbeat without its instance id", dynamic.heartbeat())
	s.say("described", describe(a.wire, group))
	other := newMember(group)
	other.instance = p("two")
	other.protocols = []string{"range", "roundrobin"}
	joining = other.joinRequest()
	other.send(joining, 9)
	s.say("b comes with other protocols of which the same is chosen", other.joined(other.receive(joining).(*kmsg.JoinGroupResponse)))
	s.say("a's heartbeat", a.heartbeat())
	admin := newMember(group)
	admin.instance = p("two")
	s.say("an administrator removes b", admin.leave())
	s.say("b's heartbeat", other.heartbeat())
	s.say("an administrator removes no one", admin.leave())
})

var _ = scenario("group-dead-members", func(s *script) {
	group := topicName("dead")
	a, b := newMember(group), newMember(group)
	a.session, b.session = 30_000, 6_000
	a.joinWithID(9)
	joining := b.joinRequest()
	b.join(9)
	joining.MemberID = b.id
	b.send(joining, 9)
	eventually(a.heartbeat, func(c string) bool { return c != "ok" })
	a.join(9)
	b.joined(b.receive(joining).(*kmsg.JoinGroupResponse))
	syncing := b.syncRequest()
	b.send(syncing, 5)
	s.say("a syncs", a.sync(5, a, b))
	b.receive(syncing)
	started := time.Now()
	for a.heartbeat() == "ok" && time.Since(started) < 15*time.Second {
		time.Sleep(50 * time.Millisecond)
	}
	after := time.Since(started)
	s.say("a hears of it", between(after, 5500, 9000))
	s.say("a joins", a.join(9))
	s.say("b's heartbeat", b.heartbeat())
	s.say("b joins", b.join(9))
})

var _ = scenario("group-slow-members", func(s *script) {
	// a keeps its heartbeats but does not join again: it is out when the rebalance time-out is over.
	group := topicName("slow")
	a, b := newMember(group), newMember(group)
	a.session, b.session, a.rebalance, b.rebalance = 10_000, 10_000, 1500, 1500
	a.joinWithID(9)
	a.sync(5, a)
	b.join(9)
	joining := b.joinRequest()
	started := time.Now()
	b.send(joining, 9)
	s.say("a's heartbeat", eventually(a.heartbeat, func(c string) bool { return c != "ok" }))
	s.say("b joined", b.joined(b.receive(joining).(*kmsg.JoinGroupResponse)))
	took := time.Since(started)
	s.say("which took the rebalance time-out", between(took, 1000, 4000))
	s.say("a's heartbeat", a.heartbeat())
	s.say("b syncs", b.sync(5, b))
	// A leader that joins and never syncs is out, too.
	c := newMember(group)
	c.rebalance = 1500
	c.join(9)
	joining = c.joinRequest()
	c.send(joining, 9)
	eventually(b.heartbeat, func(c string) bool { return c != "ok" })
	s.say("b joins", b.join(9))
	s.say("c joined", c.joined(c.receive(joining).(*kmsg.JoinGroupResponse)))
	syncing := c.syncRequest()
	c.send(syncing, 5)
	s.say("c synced", synced(c.receive(syncing).(*kmsg.SyncGroupResponse)))
})

var _ = scenario("group-protocol-choice", func(s *script) {
	group := topicName("choice")
	a, b := newMember(group), newMember(group)
	a.protocols = []string{"roundrobin", "range", "sticky"}
	b.protocols = []string{"sticky", "range", "other"}
	a.joinWithID(9)
	b.join(9)
	joining := b.joinRequest()
	b.send(joining, 9)
	eventually(a.heartbeat, func(c string) bool { return c != "ok" })
	s.say("a joins", a.join(9) != "")
	r := b.receive(joining).(*kmsg.JoinGroupResponse)
	s.say("a common one is chosen", r.Protocol != nil && slices.Contains([]string{"range", "sticky"}, *r.Protocol))
})

var _ = scenario("group-lists", func(s *script) {
	topic := made("lists", 1)
	m := newMember(topicName("lists-stable"))
	m.join(3)
	m.sync(3, m)
	empty := newMember(topicName("lists-empty"))
	empty.generation = -1
	empty.commit(topic, 0, 1, 8)
	list := func(version int16, states, types []string) string {
		r := kmsg.NewPtrListGroupsRequest()
		r.StatesFilter, r.TypesFilter = states, types
		var found []string
		answer := ask[*kmsg.ListGroupsResponse](m.wire, r, version)
		for _, g := range answer.Groups {
			if strings.HasSuffix(g.Group, run) && strings.HasPrefix(g.Group, "lists-") {
				found = append(found, fmt.Sprintf("%s %q %q %q", strings.TrimSuffix(g.Group, "-"+run), g.ProtocolType, g.GroupState, g.GroupType))
			}
		}
		slices.Sort(found)
		return code(answer.ErrorCode) + " " + strings.Join(found, ", ")
	}
	for _, version := range []int16{0, 3, 4, 5} {
		s.say(fmt.Sprint("version ", version), list(version, nil, nil))
	}
	s.say("stable", list(5, []string{"Stable"}, nil))
	s.say("empty, in small letters", list(5, []string{"empty"}, nil))
	s.say("no such state", list(5, []string{"Wrong"}, nil))
	s.say("classic", list(5, nil, []string{"classic"}))
	s.say("of the new protocol", list(5, nil, []string{"consumer"}))
})
