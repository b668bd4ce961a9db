package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func produceRequest(topic string, partition int32, acks int16, transactionalID *string, records []byte) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis, r.TransactionID = acks, 10_000, transactionalID
	r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: records}}}}
	return r
}

func produced(w *wire, r *kmsg.ProduceRequest, version int16) kmsg.ProduceResponseTopicPartition {
	return ask[*kmsg.ProduceResponse](w, r, version).Topics[0].Partitions[0]
}

func (w *wire) produce(topic string, partition int32, records []byte) string {
	answer := produced(w, produceRequest(topic, partition, -1, nil, records), 9)
	if answer.ErrorCode != 0 {
		return fmt.Sprint(code(answer.ErrorCode), " at ", answer.BaseOffset, " errors ", len(answer.ErrorRecords))
	}
	return fmt.Sprint("ok at ", answer.BaseOffset, " start ", answer.LogStartOffset, " appended ", answer.LogAppendTime > 0)
}

func newProducerID(w *wire) (int64, int16) {
	r := kmsg.NewPtrInitProducerIDRequest()
	r.TransactionTimeoutMillis = 60_000
	answer := ask[*kmsg.InitProducerIDResponse](w, r, 4)
	return answer.ProducerID, answer.ProducerEpoch
}

var _ = scenario("produce-refused", func(s *script) {
	w := dial()
	topic := made("refused", 1)
	made("refused-small", 1, "max.message.bytes", "500")
	made("refused-times", 1, "message.timestamp.before.max.ms", "1000", "message.timestamp.after.max.ms", "1000")
	made("refused-append", 1, "message.timestamp.type", "LogAppendTime")
	s.say("one record", w.produce(topic, 0, one("x").bytes()))
	s.say("a topic that is not", w.produce(topicName("nowhere"), 0, one("x").bytes()))
	s.say("a bad topic name", w.produce("bad name!", 0, one("x").bytes()))
	s.say("a partition that is not", w.produce(topic, 4, one("x").bytes()))
	s.say("a negative partition", w.produce(topic, -1, one("x").bytes()))
	for _, acks := range []int16{-2, 2, 1} {
		s.say(fmt.Sprint("acks ", acks), code(produced(w, produceRequest(topic, 0, acks, nil, one("x").bytes()), 9).ErrorCode))
	}
	s.say("no records", w.produce(topic, 0, []byte{}))
	bad := one("x")
	bad.badCRC = true
	s.say("a wrong CRC", w.produce(topic, 0, bad.bytes()))
	s.say("two batches", w.produce(topic, 0, append(one("x").bytes(), one("y").bytes()...)))
	cut := one("a longer value than some").bytes()
	s.say("cut off", w.produce(topic, 0, cut[:len(cut)-3]))
	bad = one("x")
	bad.count = 2
	s.say("a record too few", w.produce(topic, 0, bad.bytes()))
	bad = one("x")
	bad.control, bad.idempotent, bad.transactional = true, true, true
	bad.producer, bad.epoch = newProducerID(w)
	s.say("a control batch", w.produce(topic, 0, bad.bytes()))
	for _, magic := range []int8{1, 3} {
		bad = one("x")
		bad.magic = magic
		s.say(fmt.Sprint("magic ", magic), w.produce(topic, 0, bad.bytes()))
	}
	large := one(string(make([]byte, 600)))
	s.say("too large", w.produce(topicName("refused-small"), 0, large.bytes()))
	hour := int64(3_600_000)
	for _, later := range []int64{-40 * 24 * hour, -2000, 0, hour - 10_000, hour + 10_000} {
		b := one("x")
		b.records[0].at = time.Now().UnixMilli() + later
		s.say(fmt.Sprint("a record of ", later, " ms from now"), w.produce(topic, 0, b.bytes()))
		s.say("where 1 s to either side is taken", w.produce(topicName("refused-times"), 0, b.bytes()))
		answer := produced(w, produceRequest(topicName("refused-append"), 0, -1, nil, b.bytes()), 9)
		s.say("where the broker's time is taken", code(answer.ErrorCode), answer.LogAppendTime > 0)
	}
	end := listOffset(w, topic, -1, 0)
	s.say("end", end)
	w.send(produceRequest(topic, 0, 0, nil, one("x").bytes()), 9)
	s.say("end after a record that asks for no answer", eventually(func() string { return listOffset(w, topic, -1, 0) },
		func(said string) bool { return said != end }))
})

var _ = scenario("produce-by-topic-id", func(s *script) {
	w := dial()
	topic := made("by-id", 1)
	r := produceRequest("", 0, -1, nil, one("x").bytes())
	r.Topics[0].TopicID = topicID(w, topic)
	s.say("known", code(produced(w, r, 13).ErrorCode))
	r.Topics[0].TopicID = [16]byte{1, 2, 3}
	s.say("unknown", code(produced(w, r, 13).ErrorCode))
	for _, version := range []int16{3, 5, 7, 8, 9, 12} {
		s.say(fmt.Sprint("by name, version ", version), produced(w, produceRequest(topic, 0, -1, nil, one("x").bytes()), version).BaseOffset)
	}
})

var _ = scenario("produce-sequences", func(s *script) {
	w := dial()
	topic := made("sequences", 2)
	b := one("x")
	b.idempotent = true
	b.producer, b.epoch = newProducerID(w)
	at := func(partition, sequence int32) string {
		b.sequence = sequence
		return w.produce(topic, partition, b.bytes())
	}
	s.say("first", at(0, 0))
	s.say("again", at(0, 0))
	s.say("a gap", at(0, 2))
	for i := range int32(6) {
		s.say(fmt.Sprint("sequence ", i+1), at(0, i+1))
	}
	s.say("the fifth last again", at(0, 2))
	s.say("older than that", at(0, 0))
	s.say("a partition that has not seen it, from the middle", at(1, 5))
	s.say("and on", at(1, 6))
	s.say("and back", at(1, 4))
	b.epoch++
	s.say("a new epoch from the middle", at(0, 7))
	s.say("a new epoch from 0", at(0, 0))
	b.epoch--
	s.say("the old epoch", at(0, 7))
	b.epoch++
	b.records = append(b.records, b.records[0], b.records[0])
	s.say("three at once", at(0, 1))
	s.say("three at once again", at(0, 1))
	s.say("two of them", func() string { b.records = b.records[:2]; return at(0, 1) }())
	s.say("the next", at(0, 4))
	b.epoch = -1
	s.say("without an epoch", at(0, 0))
	b.producer, b.epoch = 1<<40, 0
	b.records = b.records[:1]
	s.say("an id no one has given", at(0, 0))
	b.sequence = -1
	s.say("without a sequence", w.produce(topic, 0, b.bytes()))
	b.producer++
	s.say("the last sequence", at(0, 2147483647))
	s.say("and around", at(0, 0))
	b.producer++
	b.records = append(b.records, b.records[0], b.records[0])
	s.say("around within a batch", at(0, 2147483646))
	s.say("the next", at(0, 1))
})
