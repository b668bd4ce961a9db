package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactor asks in the name of a transactional producer, in versions from before KIP-890's second part.
type transactor struct {
	*wire
	name     string
	producer int64
	epoch    int16
	timeout  int32
	sequence int32
}

func newTransactor(name string) *transactor {
	return &transactor{wire: dial(), name: topicName(name), producer: -1, epoch: -1, timeout: 60_000}
}

func (t *transactor) init(version int16) string {
	r := kmsg.NewPtrInitProducerIDRequest()
	r.TransactionalID, r.TransactionTimeoutMillis, r.ProducerID, r.ProducerEpoch = &t.name, t.timeout, t.producer, t.epoch
	answer := eventually(func() *kmsg.InitProducerIDResponse { return ask[*kmsg.InitProducerIDResponse](t.wire, r, version) },
		func(a *kmsg.InitProducerIDResponse) bool {
			return !slices.Contains([]string{"CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR"}, code(a.ErrorCode))
		})
	if answer.ErrorCode != 0 {
		return fmt.Sprint(code(answer.ErrorCode), " ", answer.ProducerID, "/", answer.ProducerEpoch)
	}
	same := t.producer == answer.ProducerID
	t.producer, t.epoch, t.sequence = answer.ProducerID, answer.ProducerEpoch, 0
	return fmt.Sprint("ok same id ", same, " epoch ", t.epoch)
}

func (t *transactor) fresh(version int16) string {
	t.producer, t.epoch = -1, -1
	return t.init(version)
}

func (t *transactor) add(version int16, topic string, partitions ...int32) string {
	r := kmsg.NewPtrAddPartitionsToTxnRequest()
	r.TransactionalID, r.ProducerID, r.ProducerEpoch = t.name, t.producer, t.epoch
	r.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: partitions}}
	return settled(func() string {
		said := ""
		for _, topic := range ask[*kmsg.AddPartitionsToTxnResponse](t.wire, r, version).Topics {
			slices.SortFunc(topic.Partitions, func(a, b kmsg.AddPartitionsToTxnResponseTopicPartition) int { return int(a.Partition - b.Partition) })
			for _, p := range topic.Partitions {
				said += " " + code(p.ErrorCode)
			}
		}
		return strings.TrimSpace(said)
	})
}

// settled asks again while an earlier end is still being written, as clients do.
func settled(ask func() string) string {
	return eventually(ask, func(said string) bool { return !strings.HasPrefix(said, "CONCURRENT_TRANSACTIONS") })
}

func (t *transactor) write(topic string, partition int32) string {
	b := one("x")
	b.idempotent, b.transactional, b.producer, b.epoch, b.sequence = true, true, t.producer, t.epoch, t.sequence
	answer := produced(t.wire, produceRequest(topic, partition, -1, &t.name, b.bytes()), 9)
	if answer.ErrorCode == 0 {
		t.sequence++
	}
	return fmt.Sprint(code(answer.ErrorCode), " ", answer.BaseOffset)
}

func (t *transactor) end(version int16, commit bool) string {
	r := kmsg.NewPtrEndTxnRequest()
	r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Commit = t.name, t.producer, t.epoch, commit
	return settled(func() string { return code(ask[*kmsg.EndTxnResponse](t.wire, r, version).ErrorCode) })
}

func (t *transactor) addGroup(group string) string {
	r := kmsg.NewPtrAddOffsetsToTxnRequest()
	r.TransactionalID, r.ProducerID, r.ProducerEpoch, r.Group = t.name, t.producer, t.epoch, group
	return settled(func() string { return code(ask[*kmsg.AddOffsetsToTxnResponse](t.wire, r, 3).ErrorCode) })
}

func (t *transactor) commitOffset(m *member, topic string, partition int32, offset int64) string {
	r := kmsg.NewPtrTxnOffsetCommitRequest()
	r.TransactionalID, r.ProducerID, r.ProducerEpoch = t.name, t.producer, t.epoch
	r.Group, r.Generation, r.MemberID, r.InstanceID = m.group, m.generation, m.id, m.instance
	r.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Partition: partition, Offset: offset, LeaderEpoch: -1, Metadata: p("in a transaction")}}}}
	return settled(func() string {
		return code(ask[*kmsg.TxnOffsetCommitResponse](t.wire, r, 3).Topics[0].Partitions[0].ErrorCode)
	})
}

func (t *transactor) describe(names ...string) string {
	r := kmsg.NewPtrDescribeTransactionsRequest()
	r.TransactionalIDs = names
	said := ""
	for _, d := range ask[*kmsg.DescribeTransactionsResponse](t.wire, r, 0).TransactionStates {
		said += fmt.Sprint(code(d.ErrorCode), " ", d.State, " time-out ", d.TimeoutMillis, " began ", d.StartTimestamp > 0, " id ", d.ProducerID >= 0, " epoch ", d.ProducerEpoch)
		slices.SortFunc(d.Topics, func(a, b kmsg.DescribeTransactionsResponseTransactionStateTopic) int {
			return strings.Compare(a.Topic, b.Topic)
		})
		for _, topic := range d.Topics {
			slices.Sort(topic.Partitions)
			said += fmt.Sprint(" ", strings.TrimSuffix(topic.Topic, "-"+run), topic.Partitions)
		}
		said += "; "
	}
	return said
}

// complete waits until the end of a transaction stands everywhere.
func (t *transactor) complete() string {
	return eventually(func() string { return t.describe(t.name) }, func(said string) bool { return !strings.Contains(said, "Prepare") })
}

// visible is what a reader of committed records may see: the last stable offset.
func visible(w *wire, topic string, partition int32, want int64) string {
	return eventually(func() string { return listOffsetAt(w, topic, partition, -1, 1, -1, 7) },
		func(said string) bool { return strings.HasPrefix(said, fmt.Sprint("ok offset ", want, " ")) })
}

var _ = scenario("transactions-of-a-producer", func(s *script) {
	topic := made("txn", 3)
	t := newTransactor("txn")
	s.say("described before", t.describe(t.name))
	s.say("init", t.init(4))
	s.say("described", t.describe(t.name))
	s.say("write before a partition is added", t.write(topic, 0))
	s.say("commit nothing", t.end(3, true))
	s.say("abort nothing", t.end(3, false))
	s.say("add", t.add(3, topic, 0, 1))
	s.say("add again", t.add(3, topic, 0))
	s.say("described", t.describe(t.name))
	s.say("write", t.write(topic, 0))
	s.say("write", t.write(topic, 0))
	s.say("write to a partition that was not added", t.write(topic, 2))
	s.say("write without the transactional id", func() string {
		b := one("x")
		b.idempotent, b.transactional, b.producer, b.epoch, b.sequence = true, true, t.producer, t.epoch, t.sequence
		return t.produce(topic, 0, b.bytes())
	}())
	s.say("write what is not of the transaction", func() string {
		b := one("x")
		b.idempotent, b.producer, b.epoch, b.sequence = true, t.producer, t.epoch, t.sequence
		return fmt.Sprint(code(produced(t.wire, produceRequest(topic, 0, -1, &t.name, b.bytes()), 9).ErrorCode))
	}())
	s.say("stable while open", listOffset(t.wire, topic, -1, 1))
	s.say("the end", listOffset(t.wire, topic, -1, 0))
	r := fetchRequest(topic, 0)
	r.IsolationLevel = 1
	s.say("read committed while open", fetched(t.wire, r, 11))
	s.say("read uncommitted while open", fetched(t.wire, fetchRequest(topic, 0), 11))
	written := time.Now().UnixMilli()
	time.Sleep(20 * time.Millisecond)
	s.say("commit", t.end(3, true))
	s.say("described", t.complete())
	s.say("stable", visible(t.wire, topic, 0, 3))
	at := func(timestamp int64) string {
		return strings.Split(listOffset(t.wire, topic, timestamp, 1), " time")[0]
	}
	s.say("by a time behind the records", at(written+10))
	s.say("the latest", at(-3))
	s.say("commit again", t.end(3, true))
	s.say("abort what was committed", t.end(3, false))
	s.say("write after it", t.write(topic, 0))
	s.say("add", t.add(3, topic, 0))
	s.say("write", t.write(topic, 0))
	s.say("abort", t.end(3, false))
	s.say("described", t.complete())
	s.say("stable", visible(t.wire, topic, 0, 5))
	s.say("read committed", fetched(t.wire, r, 11))
	s.say("abort again", t.end(3, false))
	s.say("add what is not", t.add(3, topic, 0, 9))
	s.say("add of a topic that is not", t.add(3, topicName("nowhere"), 0))
	t.epoch++
	s.say("add with an epoch to come", t.add(3, topic, 0), t.add(1, topic, 0))
	s.say("end with an epoch to come", t.end(3, true), t.end(1, true))
	t.epoch--
	t.producer++
	s.say("add with another id", t.add(3, topic, 0))
	s.say("end with another id", t.end(3, true))
	t.producer--
	stranger := newTransactor("txn-stranger")
	stranger.producer, stranger.epoch = t.producer, t.epoch
	s.say("add by a name that is not", stranger.add(3, topic, 0))
	s.say("end by a name that is not", stranger.end(3, true))
	s.say("group by a name that is not", stranger.addGroup("g"))
	s.say("no group", t.addGroup(""))

	list := func(version int16, change func(*kmsg.ListTransactionsRequest)) string {
		r := kmsg.NewPtrListTransactionsRequest()
		r.DurationFilterMillis = -1
		change(r)
		answer := ask[*kmsg.ListTransactionsResponse](t.wire, r, version)
		said := code(answer.ErrorCode) + " " + strings.Join(answer.UnknownStateFilters, ",")
		for _, d := range answer.TransactionStates {
			if d.TransactionalID == t.name {
				said += fmt.Sprint(" ", d.TransactionState, " ", d.ProducerID == t.producer)
			}
		}
		return said
	}
	s.say("listed", list(0, func(*kmsg.ListTransactionsRequest) {}))
	s.say("listed by state", list(1, func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"CompleteAbort"} }))
	s.say("listed by another state", list(1, func(r *kmsg.ListTransactionsRequest) { r.StateFilters = []string{"Ongoing", "Wrong"} }))
	s.say("listed by id", list(1, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{t.producer} }))
	s.say("listed by another id", list(1, func(r *kmsg.ListTransactionsRequest) { r.ProducerIDFilters = []int64{1 << 50} }))
	s.say("listed by duration", list(1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 0 }))
	t.add(3, topic, 0)
	time.Sleep(5 * time.Millisecond)
	s.say("listed by duration, open", list(1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 0 }))
	s.say("listed by a long duration, open", list(1, func(r *kmsg.ListTransactionsRequest) { r.DurationFilterMillis = 100_000 }))
	t.write(topic, 0)
	d := kmsg.NewPtrDescribeProducersRequest()
	d.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0, 2, 7}}}
	for _, f := range ask[*kmsg.DescribeProducersResponse](t.wire, d, 0).Topics[0].Partitions {
		said := code(f.ErrorCode)
		for _, a := range f.ActiveProducers {
			said += fmt.Sprint(" ", a.ProducerID == t.producer, " epoch ", a.ProducerEpoch, " sequence ", a.LastSequence, " time ", a.LastTimestamp > 0, " coordinator ", a.CoordinatorEpoch, " from ", a.CurrentTxnStartOffset)
		}
		s.say(fmt.Sprint("producers of partition ", f.Partition), said)
	}
	t.end(3, true)
})

var _ = scenario("transactions-of-two", func(s *script) {
	topic := made("fence", 1)
	a := newTransactor("fence")
	b := newTransactor("fence")
	s.say("first", a.init(4))
	a.add(3, topic, 0)
	s.say("writes", a.write(topic, 0))
	s.say("second", b.init(4) != "", b.producer == a.producer, b.epoch > a.epoch)
	s.say("what was open is aborted", visible(b.wire, topic, 0, 2))
	s.say("the first writes", a.write(topic, 0))
	s.say("the first adds", a.add(3, topic, 0), a.add(1, topic, 0))
	s.say("the first commits", a.end(3, true), a.end(1, true))
	s.say("the first adds a group", a.addGroup("g"))
	s.say("the first asks for an epoch", a.init(4))
	s.say("the first asks for an epoch, an old client", a.init(3))
	b.add(3, topic, 0)
	s.say("the second writes", b.write(topic, 0))
	before := b.epoch
	s.say("the second asks for an epoch", strings.HasPrefix(b.init(4), "ok same id true"), b.epoch > before)
	s.say("what was open is aborted", visible(b.wire, topic, 0, 4))
	again := *b
	again.epoch = before
	s.say("it asks once more with the old epoch", strings.HasPrefix(again.init(4), "ok same id true"), again.epoch == b.epoch)
	b.add(3, topic, 0)
	s.say("and writes", b.write(topic, 0))
	s.say("and commits", b.end(3, true))
	b.complete()
	s.say("a record of the first's epoch when all is over", a.write(topic, 0))

	t := newTransactor("limits")
	for _, timeout := range []int32{0, -1, 900_001, 900_000} {
		t.timeout = timeout
		s.say(fmt.Sprint("time-out ", timeout), t.fresh(4))
	}
	t.name = ""
	s.say("no name", t.fresh(4))
	t = newTransactor("claims")
	t.producer, t.epoch = 5_000_000, 3
	s.say("a claim to what is not", t.init(4) == "", t.producer != 5_000_000)
	plain := kmsg.NewPtrInitProducerIDRequest()
	plain.TransactionTimeoutMillis = -1
	for version := int16(0); version <= 5; version++ {
		answer := ask[*kmsg.InitProducerIDResponse](t.wire, plain, version)
		s.say(fmt.Sprint("an id without a name, version ", version), code(answer.ErrorCode), answer.ProducerID >= 0, answer.ProducerEpoch)
	}
})

var _ = scenario("transactions-time-out", func(s *script) {
	topic := made("time-out", 1)
	t := newTransactor("time-out")
	t.timeout = 1000
	t.init(4)
	t.add(3, topic, 0)
	s.say("writes", t.write(topic, 0))
	t.produce(topic, 0, one("after").bytes())
	started := time.Now()
	stable := func() string { return listOffset(t.wire, topic, -1, 1) }
	for strings.HasPrefix(stable(), "ok offset 0 ") && time.Since(started) < 40*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	s.say("stable", visible(t.wire, topic, 0, 3))
	s.say("described", t.complete() != "", strings.Contains(t.describe(t.name), "CompleteAbort"))
	s.say("writes", t.write(topic, 0))
	s.say("adds", t.add(3, topic, 0))
	s.say("commits", t.end(3, true))
	s.say("asks for an epoch", t.init(4))
	s.say("begins anew", strings.HasPrefix(t.fresh(4), "ok"))
})

var _ = scenario("transactions-with-offsets", func(s *script) {
	topic := made("txn-offsets", 2)
	m := newMember(topicName("txn-offsets"))
	m.join(3)
	m.sync(3, m)
	t := newTransactor("txn-offsets")
	t.init(4)
	s.say("offsets before the group is added", t.commitOffset(m, topic, 0, 1))
	s.say("group", t.addGroup(m.group))
	s.say("described", t.describe(t.name) != "")
	s.say("offsets", t.commitOffset(m, topic, 0, 5))
	for _, version := range []int16{6, 7, 8, 9} {
		s.say(fmt.Sprint("fetched while open, version ", version), fetchOffsets(m.wire, m.group, topic, version, false), "/", fetchOffsets(m.wire, m.group, topic, version, version >= 7))
	}
	remove := kmsg.NewPtrOffsetDeleteRequest()
	s.say("commit", t.end(3, true))
	t.complete()
	s.say("fetched", eventually(func() string { return fetchOffsets(m.wire, m.group, topic, 8, true) }, func(said string) bool { return !strings.Contains(said, "UNSTABLE") }))
	t.addGroup(m.group)
	t.commitOffset(m, topic, 0, 9)
	s.say("abort", t.end(3, false))
	t.complete()
	s.say("fetched", eventually(func() string { return fetchOffsets(m.wire, m.group, topic, 8, true) }, func(said string) bool { return !strings.Contains(said, "UNSTABLE") }))
	t.addGroup(m.group)
	s.say("a partition that is not", t.commitOffset(m, topic, 9, 9))
	m.generation++
	s.say("a generation to come", t.commitOffset(m, topic, 0, 9))
	m.generation -= 2
	s.say("an old generation", t.commitOffset(m, topic, 0, 9))
	m.generation++
	id := m.id
	m.id = "stranger"
	s.say("a stranger", t.commitOffset(m, topic, 0, 9))
	m.id = ""
	s.say("no member", t.commitOffset(m, topic, 0, 9))
	m.generation = -1
	s.say("no member, no generation", t.commitOffset(m, topic, 0, 9))
	m.id, m.generation = id, 1
	m.instance = p("static")
	s.say("a static member that is not", t.commitOffset(m, topic, 0, 9))
	m.instance = nil
	other := *t
	other.epoch--
	s.say("an old epoch", other.commitOffset(m, topic, 0, 9))
	none := newMember(topicName("txn-offsets-none"))
	t.addGroup(none.group)
	none.generation = 4
	none.id = "x"
	s.say("a member of a group that is not", t.commitOffset(none, topic, 0, 9))
	none.generation, none.id = -1, ""
	s.say("no member of a group that is not", t.commitOffset(none, topic, 0, 3))
	s.say("fetched while open", fetchOffsets(m.wire, none.group, topic, 8, false))
	remove.Group = none.group
	destroy := kmsg.NewPtrDeleteGroupsRequest()
	destroy.Groups = []string{none.group}
	t.end(3, true)
	t.complete()
	s.say("fetched", eventually(func() string { return fetchOffsets(m.wire, none.group, topic, 8, false) }, func(said string) bool { return strings.Contains(said, "0=3") }))
	s.say("deleted", code(ask[*kmsg.DeleteGroupsResponse](m.wire, destroy, 2).Groups[0].ErrorCode))
	m.commit(topic, 1, 4, 8)
	s.say("at last", fetchOffsets(m.wire, m.group, topic, 8, true))
})

var _ = scenario("transactions-interleaved", func(s *script) {
	topic := made("interleaved", 1)
	a, b, c := newTransactor("interleaved-a"), newTransactor("interleaved-b"), newTransactor("interleaved-c")
	for _, t := range []*transactor{a, b, c} {
		t.init(4)
		t.add(3, topic, 0)
	}
	for _, t := range []*transactor{a, b, c, a, b, c} {
		t.write(topic, 0)
	}
	w := dial()
	s.say("all open", listOffset(w, topic, -1, 1))
	b.end(3, false)
	b.complete()
	s.say("the second aborted", visible(w, topic, 0, 0))
	a.end(3, true)
	a.complete()
	s.say("the first committed", visible(w, topic, 0, 2))
	r := fetchRequest(topic, 0)
	r.IsolationLevel = 1
	s.say("read committed", fetched(w, r, 11))
	c.end(3, false)
	c.complete()
	s.say("the third aborted", visible(w, topic, 0, 9))
	s.say("read committed", fetched(w, r, 11))
	r.Topics[0].Partitions[0].FetchOffset = 7
	s.say("read committed from behind the second's end", fetched(w, r, 11))
	s.say("by time, committed", strings.HasPrefix(listOffset(w, topic, 0, 1), "ok offset 0 "))
})
