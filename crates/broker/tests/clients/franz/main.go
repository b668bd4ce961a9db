// Speaks to a broker with franz-go: through its client (client.go, copy.go), and through its message codecs alone,
// request by request (the other files), where what a broker answers is written down and compared with expected.txt,
// which holds what Apache Kafka 4.1 answered.
//
//	franz ADDRESS                  runs all; prints what differs and exits with 1
//	franz ADDRESS --only NAME ...  runs these
//	franz ADDRESS --update FILE    writes the transcript anew; ADDRESS must be a real Kafka
package main

import (
	_ "embed"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

//go:embed expected.txt
var expected string

var (
	address string
	run     = fmt.Sprintf("%x", time.Now().UnixNano()&0xffffffff)
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// script is one scenario over the wire. Its lines are what the broker answered.
type script struct {
	lines []string
}

func (s *script) say(what string, answer ...any) {
	s.lines = append(s.lines, what+": "+strings.TrimSuffix(fmt.Sprintln(answer...), "\n"))
}

type test struct {
	name string
	// One of the two: a scenario whose transcript is compared, or a test that panics when it fails.
	script func(*script)
	check  func()
}

var tests []test

func scenario(name string, run func(*script)) bool {
	tests = append(tests, test{name: name, script: run})
	return true
}

func check(name string, run func()) bool {
	tests = append(tests, test{name: name, check: run})
	return true
}

// together bounds how many tests run at a time; most of their time is spent waiting.
const together = 6

func main() {
	if len(os.Args) > 1 && os.Args[1] == "copy-member" {
		copyMember(os.Args[2:])
		return
	}
	address = os.Args[1]
	var only []string
	update := ""
	if len(os.Args) > 3 && os.Args[2] == "--only" {
		only = os.Args[3:]
	}
	if len(os.Args) > 3 && os.Args[2] == "--update" {
		update = os.Args[3]
	}
	coordinators()
	slices.SortFunc(tests, func(a, b test) int { return strings.Compare(a.name, b.name) })
	before := transcript(expected)
	var (
		mu     sync.Mutex
		failed int
		places = make(chan struct{}, together)
		wait   sync.WaitGroup
		after  = make([]string, len(tests))
	)
	for i, t := range tests {
		if only != nil && !slices.Contains(only, t.name) || update != "" && t.script == nil {
			continue
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			places <- struct{}{}
			defer func() { <-places }()
			started := time.Now()
			lines, fault := t.run()
			text := strings.Join(lines, "\n")
			if t.script != nil && fault == "" && update == "" {
				fault = difference(before[t.name], lines)
			}
			mu.Lock()
			defer mu.Unlock()
			after[i] = "[" + t.name + "]\n" + text + "\n"
			if fault != "" {
				failed++
				fmt.Printf("FAILED %s\n%s\n", t.name, fault)
			} else {
				fmt.Printf("ok %s %.1fs\n", t.name, time.Since(started).Seconds())
			}
		}()
	}
	wait.Wait()
	if update != "" && failed == 0 {
		must(os.WriteFile(update, []byte(strings.Join(slices.DeleteFunc(after, func(s string) bool { return s == "" }), "\n")), 0o644))
	}
	if failed > 0 {
		fmt.Println(failed, "failed")
		os.Exit(1)
	}
}

// coordinators waits until groups and transactions are served: a Kafka that has just been started makes room for them
// when it is first asked, and sends clients away until it has.
func coordinators() {
	w := dial()
	defer w.Close()
	for kind, key := range []string{topicName("first-group"), topicName("first-transaction")} {
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorType, find.CoordinatorKeys = int8(kind), []string{key}
		answer := eventually(
			func() *kmsg.FindCoordinatorResponse { return ask[*kmsg.FindCoordinatorResponse](w, find, 4) },
			func(a *kmsg.FindCoordinatorResponse) bool { return a.Coordinators[0].ErrorCode == 0 })
		must(kerr.ErrorForCode(answer.Coordinators[0].ErrorCode))
	}
	if said := newTransactor("first-transaction").init(4); !strings.HasPrefix(said, "ok") {
		panic("transactions: " + said)
	}
	m := newMember(topicName("first-group"))
	said := eventually(func() string { return m.join(9) }, func(said string) bool { return strings.HasPrefix(said, "MEMBER_ID_REQUIRED") })
	if !strings.HasPrefix(said, "MEMBER_ID_REQUIRED") {
		panic("groups: " + said)
	}
}

func (t test) run() (lines []string, fault string) {
	s := &script{}
	defer func() {
		lines = s.lines
		if p := recover(); p != nil {
			fault = fmt.Sprintf("%v\nafter: %s\n%s", p, strings.Join(s.lines, "\n       "), debug.Stack())
		}
	}()
	if t.script != nil {
		t.script(s)
	} else {
		t.check()
	}
	return
}

// transcript cuts expected.txt into the lines of each scenario.
func transcript(text string) map[string][]string {
	scenarios := map[string][]string{}
	name := ""
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "[") {
			name = strings.Trim(line, "[]")
		} else if line != "" {
			scenarios[name] = append(scenarios[name], line)
		}
	}
	return scenarios
}

func difference(want, got []string) string {
	var out []string
	for i := range max(len(want), len(got)) {
		var w, g string
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			out = append(out, "  Kafka: "+w, "  here:  "+g)
		}
	}
	return strings.Join(out, "\n")
}

func topicName(name string) string { return name + "-" + run }

func p[T any](v T) *T { return &v }

// eventually asks until the answer is right or ten seconds are over, and gives back the last answer.
func eventually[T any](ask func() T, right func(T) bool) T {
	deadline := time.Now().Add(10 * time.Second)
	for {
		answer := ask()
		if right(answer) || time.Now().After(deadline) {
			return answer
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// between is the same text for every duration that is as long as meant.
func between(took time.Duration, least, most int64) string {
	if ms := took.Milliseconds(); ms < least || ms > most {
		return fmt.Sprintf("after %d ms, not %d to %d", ms, least, most)
	}
	return fmt.Sprintf("after %d to %d ms", least, most)
}
