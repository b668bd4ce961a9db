package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func fetchRequest(topic string, offset int64) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes, r.SessionEpoch = 200, 1, 1<<20, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	f := kmsg.NewFetchRequestTopicPartition()
	f.FetchOffset, f.PartitionMaxBytes, f.CurrentLeaderEpoch = offset, 1<<20, -1
	t.Partitions = append(t.Partitions, f)
	r.Topics = append(r.Topics, t)
	return r
}

// batches are the base offsets of what a fetch was answered.
func batches(records []byte) (bases []int64) {
	for len(records) >= 61 {
		var b kmsg.RecordBatch
		size := 12 + int(uint32(records[8])<<24|uint32(records[9])<<16|uint32(records[10])<<8|uint32(records[11]))
		if size > len(records) {
			return append(bases, -1)
		}
		must(b.ReadFrom(records[:size]))
		bases = append(bases, b.FirstOffset)
		records = records[size:]
	}
	return
}

func fetched(w *wire, r *kmsg.FetchRequest, version int16) string {
	answer := ask[*kmsg.FetchResponse](w, r, version)
	if answer.ErrorCode != 0 || len(answer.Topics) == 0 {
		return fmt.Sprint(code(answer.ErrorCode), " topics ", len(answer.Topics))
	}
	f := answer.Topics[0].Partitions[0]
	if f.ErrorCode != 0 {
		return fmt.Sprint(code(f.ErrorCode), " high ", f.HighWatermark, " stable ", f.LastStableOffset, " start ", f.LogStartOffset, " bytes ", len(f.RecordBatches))
	}
	said := fmt.Sprint("ok high ", f.HighWatermark, " stable ", f.LastStableOffset, " start ", f.LogStartOffset, " batches ", batches(f.RecordBatches), " null ", f.RecordBatches == nil, " aborted ")
	if f.AbortedTransactions == nil {
		return said + "null"
	}
	for _, aborted := range f.AbortedTransactions {
		said += fmt.Sprint(" from ", aborted.FirstOffset)
	}
	return said
}

var _ = scenario("fetch", func(s *script) {
	w := dial()
	topic := made("fetch", 1)
	for i := range 4 {
		b := one(strings.Repeat("x", 100))
		for range i {
			b.records = append(b.records, b.records[0])
		}
		w.produce(topic, 0, b.bytes())
	}
	for _, offset := range []int64{0, 1, 2, 5, 9, 10, 11, -1} {
		s.say(fmt.Sprint("from ", offset), fetched(w, fetchRequest(topic, offset), 11))
	}
	for _, version := range []int16{4, 5, 7, 9, 12} {
		s.say(fmt.Sprint("version ", version), fetched(w, fetchRequest(topic, 0), version))
	}
	r := fetchRequest(topic, 0)
	r.IsolationLevel = 1
	s.say("read committed", fetched(w, r, 11))
	r = fetchRequest(topic, 3)
	r.MaxBytes = 1
	s.say("a byte at most", fetched(w, r, 11))
	r = fetchRequest(topic, 0)
	r.Topics[0].Partitions[0].PartitionMaxBytes = 600
	s.say("600 bytes at most of the partition, whole batches only", strings.Contains(fetched(w, r, 11), "batches [0 1"))
	r = fetchRequest(topic, 0)
	r.Topics[0].Partitions[0].Partition = 9
	s.say("a partition that is not", fetched(w, r, 11))
	s.say("a topic that is not", fetched(w, fetchRequest(topicName("nowhere"), 0), 11))
	for _, epoch := range []int32{0, 3} {
		r = fetchRequest(topic, 0)
		r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
		s.say(fmt.Sprint("leader epoch ", epoch), fetched(w, r, 11))
	}
	r = fetchRequest("", 0)
	r.Topics[0].TopicID = topicID(w, topic)
	s.say("by id", fetched(w, r, 13))
	s.say("by id, version 17", fetched(w, r, 17))
	r.Topics[0].TopicID = [16]byte{9}
	s.say("an unknown id", fetched(w, r, 13))
	r = fetchRequest(topic, 0)
	r.SessionID, r.SessionEpoch = 12345, 7
	s.say("an unknown session", fetched(w, r, 11))
	r = fetchRequest(topic, 0)
	r.SessionID, r.SessionEpoch = 12345, 0
	s.say("a session to be ended and made anew", fetched(w, r, 11))

	r = fetchRequest(topic, 10)
	r.MaxWaitMillis = 700
	started := time.Now()
	said := fetched(w, r, 11)
	took := time.Since(started)
	s.say("waits for max_wait", said, between(took, 650, 2000))
	r.MaxWaitMillis = 10_000
	w.send(r, 11)
	time.Sleep(100 * time.Millisecond)
	dial().produce(topic, 0, one("y").bytes())
	started = time.Now()
	records := w.receive(r).(*kmsg.FetchResponse).Topics[0].Partitions[0].RecordBatches
	s.say("until there is something", batches(records), between(time.Since(started), 0, 2000))
	s.say("which is as it was sent", bytes.Contains(records, []byte("y")))
})

func listOffset(w *wire, topic string, timestamp int64, isolation int8) string {
	return listOffsetAt(w, topic, 0, timestamp, isolation, -1, 7)
}

func listOffsetAt(w *wire, topic string, partition int32, timestamp int64, isolation int8, epoch int32, version int16) string {
	r := kmsg.NewPtrListOffsetsRequest()
	r.IsolationLevel = isolation
	r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{
		{Partition: partition, Timestamp: timestamp, CurrentLeaderEpoch: epoch}}}}
	f := ask[*kmsg.ListOffsetsResponse](w, r, version).Topics[0].Partitions[0]
	return fmt.Sprint(code(f.ErrorCode), " offset ", f.Offset, " time ", f.Timestamp)
}

var _ = scenario("offsets-by-time", func(s *script) {
	w := dial()
	topic := made("times", 2)
	for _, timestamp := range []int64{-1, -2, -3, -4, -5, 0} {
		s.say(fmt.Sprint("of nothing, time ", timestamp), listOffsetAt(w, topic, 1, timestamp, 0, -1, 9))
	}
	b := batch{}
	for _, at := range []int64{1000, 5000, 3000} {
		b.records = append(b.records, record{value: []byte("x"), at: at})
	}
	w.produce(topic, 0, b.bytes())
	w.produce(topic, 0, batch{records: []record{{value: []byte("y"), at: 2000}}}.bytes())
	w.produce(topic, 0, batch{records: []record{{value: []byte("z"), at: 5000}, {value: []byte("z"), at: 7000}}}.bytes())
	for _, timestamp := range []int64{-1, -2, -3, -4, -5, 0, 1000, 1001, 3000, 5000, 5001, 7000, 7001} {
		s.say(fmt.Sprint("time ", timestamp), listOffsetAt(w, topic, 0, timestamp, 0, -1, 9))
	}
	for _, version := range []int16{1, 2, 3, 4, 5, 6, 7, 8, 9, 10} {
		s.say(fmt.Sprint("version ", version), listOffsetAt(w, topic, 0, 3000, 0, -1, version), listOffsetAt(w, topic, 0, -1, 0, -1, version))
	}
	s.say("max timestamp before it was", listOffsetAt(w, topic, 0, -3, 0, -1, 6))
	s.say("a time that cannot be", listOffsetAt(w, topic, 0, -7, 0, -1, 9))
	s.say("a later leader", listOffsetAt(w, topic, 0, -1, 0, 5, 9))
	s.say("this leader", listOffsetAt(w, topic, 0, -1, 0, 0, 9))
	s.say("a partition that is not", listOffsetAt(w, topic, 5, -1, 0, -1, 9))
	s.say("a topic that is not", listOffsetAt(w, topicName("nowhere"), 0, -1, 0, -1, 9))
	remove := func(partition int32, offset int64) string {
		r := kmsg.NewPtrDeleteRecordsRequest()
		r.TimeoutMillis = 10_000
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: partition, Offset: offset}}}}
		f := ask[*kmsg.DeleteRecordsResponse](w, r, 2).Topics[0].Partitions[0]
		return fmt.Sprint(code(f.ErrorCode), " low ", f.LowWatermark)
	}
	s.say("delete records above the end", remove(0, 9))
	s.say("delete records before a negative offset", remove(0, -5))
	s.say("delete records of a partition that is not", remove(7, 0))
	s.say("delete records to the middle of a batch", remove(0, 5))
	s.say("delete fewer", remove(0, 2))
	for _, timestamp := range []int64{-1, -2, -3, 0, 5000, 7000} {
		s.say(fmt.Sprint("then time ", timestamp), listOffsetAt(w, topic, 0, timestamp, 0, -1, 9))
	}
	s.say("fetch before the start", fetched(w, fetchRequest(topic, 4), 11))
	s.say("fetch at the start", fetched(w, fetchRequest(topic, 5), 11))
	s.say("delete all", remove(0, -1))
	s.say("the start", listOffset(w, topic, -2, 0))

	epoch := func(partition, current, asked int32, version int16) string {
		r := kmsg.NewPtrOffsetForLeaderEpochRequest()
		r.ReplicaID = -2
		r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{
			{Partition: partition, CurrentLeaderEpoch: current, LeaderEpoch: asked}}}}
		f := ask[*kmsg.OffsetForLeaderEpochResponse](w, r, version).Topics[0].Partitions[0]
		return fmt.Sprint(code(f.ErrorCode), " epoch ", f.LeaderEpoch, " end ", f.EndOffset)
	}
	for _, asked := range [][3]int32{{0, -1, 0}, {0, 0, 0}, {0, 5, 0}, {0, -1, 5}, {0, -1, -1}, {9, -1, 0}} {
		s.say(fmt.Sprint("end of an epoch ", asked), epoch(asked[0], asked[1], asked[2], 4), epoch(asked[0], asked[1], asked[2], 2))
	}
})
