package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// copyMember is one member of a group that copies a topic exactly once, until it is killed or its parent is gone.
// Arguments: address, source, sink, its name.
func copyMember(arguments []string) {
	address = arguments[0]
	source, sink, name := arguments[1], arguments[2], arguments[3]
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(address), kgo.ConsumerGroup(source), kgo.ConsumeTopics(source),
		kgo.TransactionalID(name), kgo.DefaultProduceTopic(sink), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.TransactionTimeout(10*time.Second))
	must(err)
	go func() {
		// The parent keeps standard input open for as long as it lives.
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for {
		fetches := session.PollRecords(context.Background(), 50)
		if len(fetches.Records()) == 0 {
			continue
		}
		must(session.Begin())
		var failed error
		promise := kgo.AbortingFirstErrPromise(session.Client())
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(context.Background(), &kgo.Record{Key: r.Key, Value: r.Value}, promise.Promise())
		})
		failed = promise.Err()
		if _, err := session.End(context.Background(), kgo.TransactionEndTry(failed == nil)); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Consume, transform, produce and commit the offsets in one transaction, with members that join and are killed.
var _ = check("copy-exactly-once", func() {
	source, sink := made("franz-source", 4), made("franz-sink", 4)
	const count = 4000
	c := client(kgo.DefaultProduceTopic(source))
	ctx, cancel := within(60)
	defer cancel()
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{Key: strconv.AppendInt(nil, int64(i%97), 10), Value: strconv.AppendInt(nil, int64(i), 10)})
	}
	must(c.ProduceSync(ctx, records...).FirstErr())
	c.Close()
	program, err := os.Executable()
	must(err)
	start := func(name string) *exec.Cmd {
		m := exec.Command(program, "copy-member", address, source, sink, topicName(name))
		m.Stderr = os.Stderr
		_, err := m.StdinPipe()
		must(err)
		must(m.Start())
		return m
	}
	var (
		wait sync.WaitGroup
		last = []*exec.Cmd{start("a"), start("b")}
	)
	for round := range 4 {
		time.Sleep(1500 * time.Millisecond)
		// SIGKILL: its transaction stays open, its membership lasts until the session time-out.
		must(last[0].Process.Kill())
		_ = last[0].Wait()
		// The same transactional id every other time, so that what was open is fenced rather than timed out.
		name := []string{"a", fmt.Sprint("c", round)}[round%2]
		last = append(last[1:], start(name))
	}
	values := func() []int {
		var values []int
		for _, r := range read(sink, kgo.ReadCommitted()) {
			n, err := strconv.Atoi(string(r.Value))
			must(err)
			values = append(values, n)
		}
		slices.Sort(values)
		return values
	}
	deadline := time.Now().Add(90 * time.Second)
	for len(values()) < count && time.Now().Before(deadline) {
		time.Sleep(500 * time.Millisecond)
	}
	for _, m := range last {
		must(m.Process.Kill())
		_ = m.Wait()
	}
	wait.Wait()
	got := values()
	distinct := len(slices.Compact(slices.Clone(got)))
	if len(got) != count || distinct != count {
		panic(fmt.Sprint(len(got), " records, ", distinct, " distinct, of ", count))
	}
})
