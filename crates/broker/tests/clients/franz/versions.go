package main

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// asked are the requests that clients make of a broker, of which the embedded one speaks some versions.
var asked = []int16{0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 26, 28, 32, 33, 35, 37, 42, 44, 47, 60, 61, 65, 66}

func versions(w *wire) map[int16]kmsg.ApiVersionsResponseApiKey {
	spoken := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range ask[*kmsg.ApiVersionsResponse](w, kmsg.NewPtrApiVersionsRequest(), 0).ApiKeys {
		spoken[k.ApiKey] = k
	}
	return spoken
}

var _ = scenario("versions", func(s *script) {
	for version := int16(0); version <= 4; version++ {
		w := dial()
		r := kmsg.NewPtrApiVersionsRequest()
		r.ClientSoftwareName, r.ClientSoftwareVersion = "wire", "1.0"
		answer := ask[*kmsg.ApiVersionsResponse](w, r, version)
		s.say(fmt.Sprint("asked in version ", version), code(answer.ErrorCode), len(answer.ApiKeys) > 30)
	}
	for _, name := range []string{"", "-bad", "bad name", "good-1.2"} {
		w := dial()
		r := kmsg.NewPtrApiVersionsRequest()
		r.ClientSoftwareName, r.ClientSoftwareVersion = name, "1"
		answer := ask[*kmsg.ApiVersionsResponse](w, r, 3)
		s.say(fmt.Sprintf("by a client called %q", name), code(answer.ErrorCode), len(answer.ApiKeys) > 30)
	}
	w := dial()
	r := kmsg.NewPtrApiVersionsRequest()
	r.SetVersion(3)
	frame := formatter.AppendRequest(nil, r, 7)
	binary.BigEndian.PutUint16(frame[6:], 99)
	_, err := w.Write(frame)
	must(err)
	body, err := w.frame()
	must(err)
	answer := kmsg.NewPtrApiVersionsResponse()
	must(answer.ReadFrom(body[4:]))
	said := fmt.Sprint(code(answer.ErrorCode), " of ", len(answer.ApiKeys), ":")
	for _, k := range answer.ApiKeys {
		said += fmt.Sprint(" ", k.ApiKey, " from ", k.MinVersion, " to ", k.MaxVersion)
	}
	s.say("asked in a version to come", said)
	s.say("and the connection goes on", len(versions(w)) > 30)
	spoken := versions(w)
	slices.Sort(asked)
	for _, key := range asked {
		_, ok := spoken[key]
		s.say(kmsg.NameForKey(key), ok)
	}
})

// A request that the broker did not announce ends its connection, with no answer.
var _ = scenario("versions-not-spoken", func(s *script) {
	spoken := versions(dial())
	raw := func(key, version int16) string {
		w := dial()
		frame := binary.BigEndian.AppendUint32(nil, 8+2+5)
		frame = binary.BigEndian.AppendUint16(frame, uint16(key))
		frame = binary.BigEndian.AppendUint16(frame, uint16(version))
		frame = binary.BigEndian.AppendUint32(frame, 1)
		frame = append(frame, 0xff, 0xff, 0, 0, 0, 0, 0)
		_, err := w.Write(frame)
		must(err)
		return w.isClosed()
	}
	for _, key := range asked {
		k := spoken[key]
		if key != 18 {
			s.say(fmt.Sprint(kmsg.NameForKey(key), " too new"), raw(key, k.MaxVersion+1))
		}
		if k.MinVersion > 0 {
			s.say(fmt.Sprint(kmsg.NameForKey(key), " too old"), raw(key, k.MinVersion-1))
		}
	}
	for _, key := range []int16{4, 5, 6, 7, 999, -1} {
		s.say(fmt.Sprint("key ", key), raw(key, 0))
	}
	w := dial()
	_, err := w.Write([]byte{0, 0, 0, 0})
	must(err)
	s.say("an empty frame", w.isClosed())
	w = dial()
	_, err = w.Write([]byte{0xff, 0xff, 0xff, 0xff, 0})
	must(err)
	s.say("a negative frame", w.isClosed())
	w = dial()
	_, err = w.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	must(err)
	s.say("another protocol", w.isClosed())
})

// Every version that is announced is answered in that version's own shape, as `receive` checks.
var _ = check("versions-all", func() {
	topic := made("versions", 1)
	for key, k := range versions(dial()) {
		if !slices.Contains(asked, key) {
			continue
		}
		for version := k.MinVersion; version <= min(k.MaxVersion, kmsg.RequestForKey(key).MaxVersion()); version++ {
			r := kmsg.RequestForKey(key)
			if key == 0 && version < 3 {
				// Announced for old librdkafka's sake, and not spoken.
				continue
			}
			name := topic
			switch r := r.(type) {
			case *kmsg.ProduceRequest:
				*r = *produceRequest(topic, 0, -1, nil, one("x").bytes())
				r.Topics[0].TopicID = topicID(dial(), topic)
			case *kmsg.FetchRequest:
				*r = *fetchRequest(topic, 0)
				r.Topics[0].TopicID = topicID(dial(), topic)
			case *kmsg.MetadataRequest:
				r.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
			case *kmsg.FindCoordinatorRequest:
				r.CoordinatorKey, r.CoordinatorKeys = "x", []string{"x"}
			case *kmsg.ApiVersionsRequest:
				r.ClientSoftwareName, r.ClientSoftwareVersion = "x", "1"
			case *kmsg.AddPartitionsToTxnRequest:
				// Kafka never answers one without transactions.
				r.TransactionalID = "x"
				r.Transactions = []kmsg.AddPartitionsToTxnRequestTransaction{{TransactionalID: "x"}}
			}
			func() {
				defer func() {
					if p := recover(); p != nil {
						panic(fmt.Sprint(kmsg.NameForKey(key), " version ", version, ": ", p))
					}
				}()
				w := dial()
				defer w.Close()
				w.send(r, version)
				w.receive(r)
			}()
		}
	}
})
