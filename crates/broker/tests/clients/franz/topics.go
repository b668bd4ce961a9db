package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// made makes a topic with these settings and waits until it can be used.
func made(name string, partitions int32, settings ...string) string {
	w := dial()
	defer w.Close()
	topic := topicName(name)
	r := createRequest(topic, partitions, 1, settings...)
	answer := ask[*kmsg.CreateTopicsResponse](w, r, 7).Topics[0]
	if answer.ErrorCode != 0 && code(answer.ErrorCode) != "TOPIC_ALREADY_EXISTS" {
		panic(topic + ": " + code(answer.ErrorCode) + " " + text(answer.ErrorMessage))
	}
	eventually(func() bool {
		for partition := range partitions {
			if !strings.HasPrefix(listOffsetAt(w, topic, partition, -1, 0, -1, 7), "ok") {
				return false
			}
		}
		return true
	}, func(ready bool) bool { return ready })
	return topic
}

func createRequest(topic string, partitions int32, replication int16, settings ...string) *kmsg.CreateTopicsRequest {
	r := kmsg.NewPtrCreateTopicsRequest()
	r.TimeoutMillis = 10_000
	t := kmsg.CreateTopicsRequestTopic{Topic: topic, NumPartitions: partitions, ReplicationFactor: replication}
	for i := 0; i < len(settings); i += 2 {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: settings[i], Value: p(settings[i+1])})
	}
	r.Topics = []kmsg.CreateTopicsRequestTopic{t}
	return r
}

func metadata(w *wire, version int16, topics ...string) *kmsg.MetadataResponse {
	r := kmsg.NewPtrMetadataRequest()
	for _, topic := range topics {
		r.Topics = append(r.Topics, kmsg.MetadataRequestTopic{Topic: &topic})
	}
	return ask[*kmsg.MetadataResponse](w, r, version)
}

func topicID(w *wire, topic string) [16]byte {
	return metadata(w, 12, topic).Topics[0].TopicID
}

var _ = scenario("metadata", func(s *script) {
	w := dial()
	topic := made("metadata", 3)
	shown := func(answer *kmsg.MetadataResponse) string {
		said := fmt.Sprint("brokers ", len(answer.Brokers), " controller ", answer.ControllerID > 0, " cluster ", answer.ClusterID != nil, " may ", answer.AuthorizedOperations)
		for _, t := range answer.Topics {
			name := "null"
			if t.Topic != nil {
				name = strings.TrimSuffix(*t.Topic, "-"+run)
			}
			said += fmt.Sprint("; ", code(t.ErrorCode), " ", name, " id ", t.TopicID != [16]byte{}, " internal ", t.IsInternal, " may ", t.AuthorizedOperations)
			slices.SortFunc(t.Partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return int(a.Partition - b.Partition) })
			for _, f := range t.Partitions {
				said += fmt.Sprint(" ", f.Partition, " ", code(f.ErrorCode), " epoch ", f.LeaderEpoch, " ", len(f.Replicas), len(f.ISR), len(f.OfflineReplicas))
			}
		}
		return said
	}
	for version := range int16(14) {
		s.say(fmt.Sprint("version ", version), shown(metadata(w, version, topic)))
	}
	none := kmsg.NewPtrMetadataRequest()
	none.Topics = []kmsg.MetadataRequestTopic{}
	s.say("no topics", shown(ask[*kmsg.MetadataResponse](w, none, 12)))
	s.say("all topics", len(metadata(w, 12).Topics) > 0)
	s.say("unknown", shown(metadata(w, 12, topicName("nowhere"))))
	s.say("bad names", shown(metadata(w, 12, "bad name!", "", ".", strings.Repeat("x", 250))))
	may := kmsg.NewPtrMetadataRequest()
	may.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	may.IncludeTopicAuthorizedOperations, may.IncludeClusterAuthorizedOperations = true, true
	s.say("with what may be done", shown(ask[*kmsg.MetadataResponse](w, may, 9)))
	for _, id := range [][16]byte{topicID(w, topic), {7, 7}} {
		r := kmsg.NewPtrMetadataRequest()
		r.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}}
		r.AllowAutoTopicCreation = true
		s.say("by id", shown(ask[*kmsg.MetadataResponse](w, r, 12)))
	}
	r := kmsg.NewPtrMetadataRequest()
	r.Topics = []kmsg.MetadataRequestTopic{{Topic: p(topicName("auto"))}}
	r.AllowAutoTopicCreation = true
	s.say("made by asking", eventually(func() int { return len(ask[*kmsg.MetadataResponse](w, r, 12).Topics[0].Partitions) }, func(n int) bool { return n == 4 }))

	cluster := kmsg.NewPtrDescribeClusterRequest()
	cluster.EndpointType = 1
	for _, may := range []bool{false, true} {
		cluster.IncludeClusterAuthorizedOperations = may
		answer := ask[*kmsg.DescribeClusterResponse](w, cluster, 1)
		s.say("cluster", code(answer.ErrorCode), len(answer.Brokers), answer.ControllerID == answer.Brokers[0].NodeID, answer.ClusterID != "", answer.ClusterAuthorizedOperations)
	}
	groups := kmsg.NewPtrDescribeGroupsRequest()
	m := newMember(topicName("metadata-may"))
	m.generation = -1
	m.commit(topic, 0, 1, 8)
	groups.Groups, groups.IncludeAuthorizedOperations = []string{m.group}, true
	s.say("group", ask[*kmsg.DescribeGroupsResponse](w, groups, 5).Groups[0].AuthorizedOperations)
})

var _ = scenario("coordinators", func(s *script) {
	w := dial()
	for version := range int16(6) {
		for _, kind := range []int8{0, 1, 2, 9} {
			if version == 0 && kind != 0 {
				continue
			}
			for _, key := range []string{"some", ""} {
				r := kmsg.NewPtrFindCoordinatorRequest()
				r.CoordinatorType, r.CoordinatorKey, r.CoordinatorKeys = kind, key, []string{key}
				ask := func() string {
					w.send(r, version)
					body, err := w.frame()
					if err != nil {
						w = dial()
						return "closed"
					}
					answer := kmsg.NewPtrFindCoordinatorResponse()
					answer.SetVersion(version)
					skip := 4
					if version >= 3 {
						skip = 5
					}
					must(answer.ReadFrom(body[skip:]))
					if version >= 4 {
						c := answer.Coordinators[0]
						return fmt.Sprint(code(c.ErrorCode), " ", c.Key, " node ", c.NodeID >= 0, " port ", c.Port > 0)
					}
					return fmt.Sprint(code(answer.ErrorCode), " node ", answer.NodeID >= 0, " port ", answer.Port > 0)
				}
				s.say(fmt.Sprintf("version %d kind %d key %q", version, kind, key), eventually(ask, func(said string) bool { return !strings.HasPrefix(said, "COORDINATOR_") }))
			}
		}
	}
})

var _ = scenario("topics-made", func(s *script) {
	w := dial()
	topic := made("made", 2)
	create := func(r *kmsg.CreateTopicsRequest, version int16) string {
		said := ""
		answer := ask[*kmsg.CreateTopicsResponse](w, r, version)
		slices.SortFunc(answer.Topics, func(a, b kmsg.CreateTopicsResponseTopic) int { return strings.Compare(a.Topic, b.Topic) })
		for _, t := range answer.Topics {
			said += fmt.Sprint(code(t.ErrorCode), " partitions ", t.NumPartitions, " replication ", t.ReplicationFactor, " id ", t.TopicID != [16]byte{}, " settings ", len(t.Configs) > 0, " message ", t.ErrorMessage != nil, "; ")
		}
		return said
	}
	s.say("there already", create(createRequest(topic, 1, 1), 7))
	for i, name := range []string{"", ".", "..", "bad name!", strings.Repeat("x", 250), "a/b", "é"} {
		s.say(fmt.Sprint("bad name ", i), create(createRequest(name, 1, 1), 7))
	}
	made("collides.with", 1)
	s.say("differs in . and _ only", create(createRequest(topicName("collides_with"), 1, 1), 7))
	for _, partitions := range []int32{0, -2} {
		s.say(fmt.Sprint("partitions ", partitions), create(createRequest(topicName("p"), partitions, 1), 7))
	}
	for _, replication := range []int16{0, -2, 2} {
		s.say(fmt.Sprint("replication ", replication), create(createRequest(topicName("p"), 1, replication), 7))
	}
	for _, setting := range [][]string{{"retention.ms", "abc"}, {"no.such.setting", "1"}, {"retention.ms", "-2"}, {"segment.bytes", "1"}, {"cleanup.policy", "wrong"},
		{"message.timestamp.type", "Wrong"}, {"max.message.bytes", "-1"}, {"compression.type", "wrong"}, {"min.insync.replicas", "0"}, {"flush.messages", "x"}, {"preallocate", "x"}} {
		s.say(fmt.Sprint("with ", setting), create(createRequest(topicName("p"), 1, 1, setting...), 7))
	}
	r := createRequest(topicName("made-defaults"), -1, -1)
	s.say("defaults", create(r, 7))
	r = createRequest(topicName("made-checked"), 3, 1)
	r.ValidateOnly = true
	s.say("only checked", create(r, 7))
	s.say("only checked, there already", create(func() *kmsg.CreateTopicsRequest { r := createRequest(topic, 1, 1); r.ValidateOnly = true; return r }(), 7))
	s.say("is not there", len(metadata(w, 12, topicName("made-checked")).Topics[0].Partitions))
	r = createRequest(topicName("twice"), 1, 1)
	r.Topics = append(r.Topics, r.Topics[0])
	s.say("twice in a request", create(r, 7))
	assigned := func(partitions int32, replication int16, assignment ...kmsg.CreateTopicsRequestTopicReplicaAssignment) *kmsg.CreateTopicsRequest {
		r := createRequest(topicName("assigned"), partitions, replication)
		r.Topics[0].ReplicaAssignment = assignment
		r.ValidateOnly = true
		return r
	}
	a := func(partition int32, replicas ...int32) kmsg.CreateTopicsRequestTopicReplicaAssignment {
		return kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: partition, Replicas: replicas}
	}
	node := metadata(w, 12, topic).Brokers[0].NodeID
	s.say("assigned", create(assigned(-1, -1, a(0, node), a(1, node)), 7))
	s.say("assigned with a count", create(assigned(1, -1, a(0, node)), 7))
	s.say("assigned to no broker", create(assigned(-1, -1, a(0, 99)), 7))
	s.say("assigned to none", create(assigned(-1, -1, a(0)), 7))
	s.say("assigned with a gap", create(assigned(-1, -1, a(0, node), a(2, node)), 7))
	s.say("assigned twice", create(assigned(-1, -1, a(0, node, node)), 7))
	for version := int16(2); version <= 7; version++ {
		s.say(fmt.Sprint("version ", version), create(createRequest(topicName(fmt.Sprint("made-", version)), 1, 1), version))
	}

	grow := func(topic string, count int32, only bool, assignment ...[]int32) string {
		r := kmsg.NewPtrCreatePartitionsRequest()
		r.TimeoutMillis, r.ValidateOnly = 10_000, only
		t := kmsg.CreatePartitionsRequestTopic{Topic: topic, Count: count}
		for _, replicas := range assignment {
			t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: replicas})
		}
		r.Topics = []kmsg.CreatePartitionsRequestTopic{t}
		return code(ask[*kmsg.CreatePartitionsResponse](w, r, 3).Topics[0].ErrorCode)
	}
	s.say("grow, only checked", grow(topic, 5, true))
	s.say("grow", grow(topic, 3, false))
	s.say("has so many", eventually(func() int { return len(metadata(w, 12, topic).Topics[0].Partitions) }, func(n int) bool { return n == 3 }))
	s.say("grow to the same", grow(topic, 3, false))
	s.say("shrink", grow(topic, 1, false))
	s.say("grow to nothing", grow(topic, 0, false))
	s.say("grow what is not", grow(topicName("nowhere"), 5, false))
	s.say("grow with too few places", grow(topic, 5, true, []int32{node}))
	s.say("grow to a broker that is not", grow(topic, 4, true, []int32{99}))
	s.say("grow with its place", grow(topic, 4, true, []int32{node}))

	drop := func(version int16, names ...string) string {
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis, r.TopicNames = 10_000, names
		for _, name := range names {
			r.Topics = append(r.Topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
		}
		said := ""
		for _, t := range ask[*kmsg.DeleteTopicsResponse](w, r, version).Topics {
			said += fmt.Sprint(code(t.ErrorCode), " id ", t.TopicID != [16]byte{}, " message ", t.ErrorMessage != nil, "; ")
		}
		return said
	}
	s.say("delete what is not", drop(6, topicName("nowhere")))
	s.say("delete a bad name", drop(6, "bad name!"))
	for version := int16(1); version <= 6; version++ {
		s.say(fmt.Sprint("delete, version ", version), drop(version, topicName(fmt.Sprint("made-", version+1))))
	}
	byID := kmsg.NewPtrDeleteTopicsRequest()
	byID.TimeoutMillis = 10_000
	byID.Topics = []kmsg.DeleteTopicsRequestTopic{{TopicID: topicID(w, topicName("made-defaults"))}, {TopicID: [16]byte{5}}}
	answer := ask[*kmsg.DeleteTopicsResponse](w, byID, 6)
	slices.SortFunc(answer.Topics, func(a, b kmsg.DeleteTopicsResponseTopic) int { return int(a.ErrorCode - b.ErrorCode) })
	for _, t := range answer.Topics {
		s.say("delete by id", code(t.ErrorCode), t.Topic != nil)
	}
	before := topicID(w, topic)
	s.say("delete", drop(6, topic))
	s.say("is gone", eventually(func() string { return code(metadata(w, 12, topic).Topics[0].ErrorCode) }, func(said string) bool { return said != "ok" }))
	s.say("made again", eventually(func() string {
		return code(ask[*kmsg.CreateTopicsResponse](w, createRequest(topic, 1, 1), 7).Topics[0].ErrorCode)
	}, func(said string) bool { return said == "ok" }))
	s.say("is another", topicID(w, topic) != before)
})

var _ = scenario("settings", func(s *script) {
	w := dial()
	topic := made("settings", 1, "retention.ms", "5000", "flush.messages", "7")
	describe := func(kind kmsg.ConfigResourceType, name string, names ...string) string {
		r := kmsg.NewPtrDescribeConfigsRequest()
		r.IncludeSynonyms = true
		r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: names}}
		answer := ask[*kmsg.DescribeConfigsResponse](w, r, 4).Resources[0]
		var lines []string
		for _, c := range answer.Configs {
			lines = append(lines, fmt.Sprint(c.Name, "=", text(c.Value), " source ", int(c.Source), " read only ", c.ReadOnly, " sensitive ", c.IsSensitive, " type ", int(c.ConfigType)))
		}
		slices.Sort(lines)
		return code(answer.ErrorCode) + " " + strings.Join(lines, "; ")
	}
	named := []string{"retention.ms", "flush.messages", "cleanup.policy", "segment.ms", "message.timestamp.type", "retention.bytes", "max.message.bytes", "compression.type", "file.delete.delay.ms", "message.timestamp.after.max.ms"}
	s.say("described", describe(2, topic, named...))
	s.say("some that are not", describe(2, topic, "no.such.setting"))
	s.say("a topic that is not", describe(2, topicName("nowhere")))
	s.say("a bad name", describe(2, "bad name!"))
	s.say("no such broker", describe(4, "77"))
	s.say("a bad broker", describe(4, "x"))
	s.say("no such kind", describe(33, "x"))
	const set, remove, add, subtract = 0, 1, 2, 3
	alter := func(kind kmsg.ConfigResourceType, name string, only bool, changes ...any) string {
		r := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r.ValidateOnly = only
		resource := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: name}
		for i := 0; i < len(changes); i += 3 {
			value, _ := changes[i+2].(string)
			c := kmsg.IncrementalAlterConfigsRequestResourceConfig{Op: kmsg.IncrementalAlterConfigOp(changes[i].(int)), Name: changes[i+1].(string), Value: &value}
			if changes[i+2] == nil {
				c.Value = nil
			}
			resource.Configs = append(resource.Configs, c)
		}
		r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{resource}
		return code(ask[*kmsg.IncrementalAlterConfigsResponse](w, r, 1).Resources[0].ErrorCode)
	}
	settled := func(name, value string) string {
		return eventually(func() string { return describe(2, topic, name) }, func(said string) bool { return strings.Contains(said, value) })
	}
	s.say("only checked", alter(2, topic, true, set, "retention.ms", "1"))
	s.say("set", alter(2, topic, false, set, "retention.ms", "6000", set, "segment.ms", "1000"))
	s.say("described", settled("retention.ms", "6000"))
	s.say("removed", alter(2, topic, false, remove, "retention.ms", nil))
	s.say("described", settled("retention.ms", "604800000"))
	s.say("removed what is not set", alter(2, topic, false, remove, "retention.bytes", nil))
	s.say("set to null", alter(2, topic, false, set, "retention.ms", nil))
	s.say("a bad value", alter(2, topic, false, set, "retention.ms", "soon"))
	s.say("no such setting", alter(2, topic, false, set, "no.such.setting", "1"))
	s.say("removed no such setting", alter(2, topic, false, remove, "no.such.setting", nil))
	s.say("twice", alter(2, topic, false, set, "retention.ms", "1", remove, "retention.ms", nil))
	s.say("added to a list", alter(2, topic, false, add, "cleanup.policy", "delete"))
	s.say("described", settled("cleanup.policy", "source 1"))
	s.say("added to a number", alter(2, topic, false, add, "retention.ms", "5"))
	s.say("taken from a number", alter(2, topic, false, subtract, "retention.ms", "5"))
	s.say("a topic that is not", alter(2, topicName("nowhere"), false, set, "retention.ms", "5"))
	s.say("a bad name", alter(2, "bad name!", false, set, "retention.ms", "5"))
	s.say("no such kind", alter(33, "x", false, set, "retention.ms", "5"))
	r := kmsg.NewPtrAlterConfigsRequest()
	r.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: 2, ResourceName: topic, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "retention.bytes", Value: p("12345")}}}}
	s.say("replaced", code(ask[*kmsg.AlterConfigsResponse](w, r, 2).Resources[0].ErrorCode))
	settled("retention.bytes", "12345")
	s.say("described", describe(2, topic, named...))
	r.Resources[0].Configs[0].Value = nil
	s.say("replaced by null", code(ask[*kmsg.AlterConfigsResponse](w, r, 2).Resources[0].ErrorCode))
	r.Resources[0].Configs = nil
	s.say("replaced by nothing", code(ask[*kmsg.AlterConfigsResponse](w, r, 2).Resources[0].ErrorCode))
	settled("retention.bytes", "\"-1\"")
	s.say("described", describe(2, topic, named...))

	dirs := kmsg.NewPtrDescribeLogDirsRequest()
	dirs.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: topic, Partitions: []int32{0, 8}}, {Topic: topicName("nowhere"), Partitions: []int32{0}}}
	for version := int16(1); version <= 4; version++ {
		dir := ask[*kmsg.DescribeLogDirsResponse](w, dirs, version).Dirs[0]
		said := code(dir.ErrorCode)
		for _, t := range dir.Topics {
			for _, f := range t.Partitions {
				said += fmt.Sprint(" ", f.Partition, " lag ", f.OffsetLag, " future ", f.IsFuture)
			}
		}
		s.say(fmt.Sprint("log folders, version ", version), said)
	}
})
