package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func client(options ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(address)}, options...)...)
	must(err)
	return c
}

func within(seconds int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
}

// read reads a topic from its start to the end it has when asked.
func read(topic string, isolation kgo.IsolationLevel) (records []*kgo.Record) {
	// Control records are kept so that the end is seen where a transaction's marker is the last.
	c := client(kgo.FetchIsolationLevel(isolation), kgo.KeepControlRecords())
	defer c.Close()
	ctx, cancel := within(30)
	defer cancel()
	admin := kadm.NewClient(c)
	list := admin.ListEndOffsets
	if isolation == kgo.ReadCommitted() {
		list = admin.ListCommittedOffsets
	}
	ends, err := list(ctx, topic)
	must(err)
	starts, err := admin.ListStartOffsets(ctx, topic)
	must(err)
	left := map[int32]int64{}
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		if end.Offset > start.Offset {
			from[end.Partition] = kgo.NewOffset().At(start.Offset)
			left[end.Partition] = end.Offset
		}
	})
	c.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		// Records of an aborted transaction may be the last ones: then nothing more comes.
		poll, stop := context.WithTimeout(ctx, 1500*time.Millisecond)
		fetches := c.PollFetches(poll)
		stop()
		if fetches.Empty() || poll.Err() != nil && fetches.NumRecords() == 0 {
			return
		}
		for _, fault := range fetches.Errors() {
			must(fault.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
	return
}

var _ = check("client-codecs-headers-nulls", func() {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for name, codec := range codecs {
		topic := made("franz-"+name, 2)
		c := client(kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(20*time.Millisecond))
		ctx, cancel := within(30)
		var sent []*kgo.Record
		for i := range 2000 {
			r := &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%10), Value: bytes.Repeat([]byte{byte(i)}, i%300), Timestamp: time.UnixMilli(int64(1_700_000_000_000 + i))}
			switch i % 7 {
			case 1:
				r.Value = nil
			case 2:
				r.Key = nil
			case 3:
				r.Headers = []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}}}
			}
			sent = append(sent, r)
		}
		results := c.ProduceSync(ctx, sent...)
		must(results.FirstErr())
		cancel()
		c.Close()
		got := read(topic, kgo.ReadUncommitted())
		place := func(r *kgo.Record) string { return fmt.Sprintf("%d %08d", r.Partition, r.Offset) }
		sort := func(a, b *kgo.Record) int { return strings.Compare(place(a), place(b)) }
		slices.SortFunc(sent, sort)
		slices.SortFunc(got, sort)
		if len(got) != len(sent) {
			panic(fmt.Sprint(name, ": ", len(got), " of ", len(sent)))
		}
		for i, s := range sent {
			g := got[i]
			same := bytes.Equal(s.Key, g.Key) && (s.Key == nil) == (g.Key == nil) && bytes.Equal(s.Value, g.Value) && (s.Value == nil) == (g.Value == nil) &&
				place(s) == place(g) && s.Timestamp.Equal(g.Timestamp) && len(s.Headers) == len(g.Headers)
			for j := range s.Headers {
				same = same && s.Headers[j].Key == g.Headers[j].Key && bytes.Equal(s.Headers[j].Value, g.Headers[j].Value) && (s.Headers[j].Value == nil) == (g.Headers[j].Value == nil)
			}
			if !same {
				panic(fmt.Sprintf("%s: sent %v, got %v", name, s, g))
			}
		}
		// To the record, also inside a compressed batch, and reading from there.
		ctx, cancel = within(30)
		c = client()
		for _, i := range []int64{0, 1, 777, 1999} {
			at, err := kadm.NewClient(c).ListOffsetsAfterMilli(ctx, 1_700_000_000_000+i, topic)
			must(err)
			at.Each(func(o kadm.ListedOffset) {
				must(o.Err)
				want := int64(-1)
				for _, r := range sent {
					if r.Partition == o.Partition && r.Timestamp.UnixMilli() >= 1_700_000_000_000+i && (want < 0 || r.Offset < want) {
						want = r.Offset
					}
				}
				// kadm answers the end where there is no such record.
				if want >= 0 && o.Offset != want {
					panic(fmt.Sprint(name, ": time ", i, " of partition ", o.Partition, " is at ", o.Offset, ", not ", want))
				}
				if want >= 0 {
					reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {o.Partition: kgo.NewOffset().At(want)}}))
					first := reader.PollRecords(ctx, 1)
					reader.Close()
					if records := first.Records(); len(records) == 0 || records[0].Offset != want {
						panic(fmt.Sprint(name, ": reading from ", want, " gave ", records, " ", first.Errors()))
					}
				}
			})
		}
		cancel()
		c.Close()
	}
})

// Members come and go under each strategy; what they commit and what they read covers every record once.
var _ = check("client-rebalances", func() {
	for name, balancer := range map[string]kgo.GroupBalancer{"eager": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer()} {
		topic := made("franz-"+name, 6)
		c := client(kgo.DefaultProduceTopic(topic))
		var (
			mu   sync.Mutex
			seen = map[string]int{}
			stop = make(chan struct{})
			wait sync.WaitGroup
		)
		join := func(leave <-chan struct{}) {
			defer wait.Done()
			m := client(kgo.ConsumeTopics(topic), kgo.ConsumerGroup(topic), kgo.Balancers(balancer), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200*time.Millisecond), kgo.SessionTimeout(10*time.Second))
			defer m.Close()
			for {
				select {
				case <-stop:
					return
				case <-leave:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
				records := m.PollRecords(ctx, 100).Records()
				cancel()
				if len(records) > 0 {
					ctx, cancel := within(30)
					err := m.CommitRecords(ctx, records...)
					cancel()
					must(err)
					mu.Lock()
					for _, r := range records {
						seen[string(r.Value)]++
					}
					mu.Unlock()
				}
				m.AllowRebalance()
			}
		}
		leave := make(chan struct{})
		wait.Add(2)
		go join(nil)
		go join(leave)
		ctx, cancel := within(60)
		const count = 3000
		for i := range count {
			must(c.ProduceSync(ctx, &kgo.Record{Key: fmt.Appendf(nil, "%d", i), Value: fmt.Appendf(nil, "%d", i)}).FirstErr())
			switch i {
			case count / 3:
				wait.Add(1)
				go join(nil)
			case 2 * count / 3:
				close(leave)
			}
		}
		got := eventually(func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }, func(n int) bool { return n == count })
		close(stop)
		wait.Wait()
		if got != count {
			panic(fmt.Sprint(name, ": ", got, " of ", count, " records were read"))
		}
		for value, times := range seen {
			if times != 1 {
				panic(fmt.Sprint(name, ": ", value, " was read ", times, " times though each was committed"))
			}
		}
		lag, err := kadm.NewClient(c).Lag(ctx, topic)
		must(err)
		lag.Each(func(l kadm.DescribedGroupLag) {
			must(l.Error())
			if l.Lag.Total() != 0 {
				panic(fmt.Sprint(name, ": a lag of ", l.Lag.Total()))
			}
		})
		cancel()
		c.Close()
	}
})
