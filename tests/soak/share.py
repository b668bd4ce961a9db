"""Scenario `share`: three ingest processes share a group; every few seconds one is killed and started again, or paused
for 1 to 60 s and resumed. No partition may then be idle for longer than 10 s.

A fault ends when the process is running again: at its restart, or when it is resumed. With dynamic membership the group
learns of a death only from the end of the session, so a killed one's fault lasts at least as long as its session. With
static membership (KIP-345) its successor is the same member, and the fault ends with the restart.
"""

import json
import math
import random
import signal
import time
from collections import Counter, defaultdict

import idle
import proof
from processes import Ingest, embedded_broker, resume
from producer import PARTITIONS, TOPICS, Feed, create_topics

PROCESSES = 3
SESSION_TIMEOUT_MS = 10_000
LATENCY = "1s"
RECORDS_PER_SECOND = 250
PAUSE_S = (1, 60)
BETWEEN_FAULTS_S = (2, 6)
IDLE_MAX_S = 10
# After the last fault: long enough to see a partition that stays idle.
CALM_S = 15
SETTLE_S = 60
TICK_S = 0.1


def run(options, work, program, report):
    Share(options, work, program, report).run()


class Share:
    def __init__(self, options, work, program, report):
        self.options, self.work, self.program, self.report = options, work, program, report
        self.rng = random.Random(f"{options.seed}/share")
        # By process: [begin, end] of each fault; a partition's owners as (from when, whom).
        self.faults = defaultdict(list)
        self.owners = defaultdict(list)
        self.held = {}
        self.kinds = Counter()
        self.due = []

    def run(self):
        self.broker = embedded_broker(self.program, self.work)
        self.broker.start()
        self.broker.wait_until_ready(60)
        self.bootstrap = f"127.0.0.1:{self.broker.port}"
        self.lake = self.work / "lake"
        create_topics(self.bootstrap)
        self.feed = Feed(self.bootstrap, self.options.seed, RECORDS_PER_SECOND)
        self.ingests = [self.ingest(number) for number in range(PROCESSES)]
        for ingest in self.ingests:
            ingest.start()
        self.wait_for_all_partitions()
        began = time.time()
        until = began + self.options.minutes * 60
        next_fault = began
        while time.time() < until:
            if time.time() >= next_fault:
                self.fault()
                next_fault = time.time() + self.rng.uniform(*BETWEEN_FAULTS_S)
            self.tick()
        for at, end_fault in self.due:
            end_fault()
        self.due = []
        calm = time.time() + CALM_S
        while time.time() < calm:
            self.tick()
        ended = time.time()
        self.settle()
        self.measure(began, ended)
        proof.ends("share", self.ingests, self.report)
        proof.prove("share", self.program, self.work, self.bootstrap, self.lake, {}, self.feed, self.report)
        self.broker.stop()

    def ingest(self, number):
        properties = {"session.timeout.ms": str(SESSION_TIMEOUT_MS)}
        if self.options.membership == "static":
            properties["group.instance.id"] = str(number)
        name = f"ingest-{number}"
        return Ingest(name, self.program, self.work, self.bootstrap, self.lake, {}, properties, LATENCY)

    def wait_for_all_partitions(self):
        deadline = time.monotonic() + 120
        while len(self.commits()) < len(TOPICS) * PARTITIONS:
            if time.monotonic() > deadline:
                raise RuntimeError("not all partitions have landed anything")
            self.tick()

    def tick(self):
        now = time.time()
        for at, end_fault in [due for due in self.due if due[0] <= now]:
            self.due.remove((at, end_fault))
            end_fault()
        for ingest in self.ingests:
            if not self.is_in_fault(ingest):
                ingest.supervise()
        self.look()
        time.sleep(TICK_S)

    def is_in_fault(self, ingest):
        faults = self.faults[ingest.name]
        return bool(faults) and faults[-1][1] == math.inf

    def fault(self):
        well = [ingest for ingest in self.ingests if not self.is_in_fault(ingest)]
        someone_paused = any(ingest.is_running() and self.is_in_fault(ingest) for ingest in self.ingests)
        # One is always left to take over.
        if len(well) < 2:
            return
        ingest = self.rng.choice(well)
        if someone_paused or self.rng.random() < 0.4:
            seconds = self.rng.uniform(0, 1)
            ingest.kill()
            kind, back = "killed", ingest.start
        else:
            seconds = math.exp(self.rng.uniform(*map(math.log, PAUSE_S)))
            ingest.signal(signal.SIGSTOP)
            kind, back = "paused", lambda: resume(ingest)
        self.kinds[kind] += 1
        fault = [time.time(), math.inf]
        self.faults[ingest.name].append(fault)

        def end_fault():
            back()
            fault[1] = time.time()
            if kind == "killed" and self.options.membership == "dynamic":
                fault[1] = max(fault[1], fault[0] + SESSION_TIMEOUT_MS / 1000)

        self.due.append((fault[0] + seconds, end_fault))
        self.report.line(f"{ingest.name} {kind} for {seconds:.1f} s; {self.feed.acknowledged:,} records sent")

    def look(self):
        """Who owns which partition, as the processes tell; of one that cannot tell, what it told last."""
        now = time.time()
        for ingest in self.ingests:
            if not ingest.is_running() or self.is_in_fault(ingest):
                continue
            told = ingest.progress()
            if told is None:
                continue
            held = {
                (topic, int(partition))
                for stream in told
                for topic, offsets in stream["sources"][0]["endOffset"].items()
                for partition in offsets
            }
            before = self.held.get(ingest.name, set())
            self.held[ingest.name] = held
            for at in held - before:
                self.owners[at].append((now, ingest.name))
            for at in before - held:
                # The newest claim counts; without another the partition is nobody's.
                if self.owners[at][-1][1] == ingest.name:
                    self.owners[at].append((now, None))

    def commits(self):
        """By topic and partition, when it moved: from the tables' logs."""
        moved = defaultdict(list)
        for path in self.lake.glob("data/*_data/_delta_log/*.json"):
            for line in path.read_text().splitlines():
                info = json.loads(line).get("commitInfo", {})
                for span in info.get("spans", []):
                    if span["to"] > span["from"]:
                        moved[span["topic"], span["partition"]].append(info["timestamp"] / 1000)
        return moved

    def settle(self):
        unacknowledged = self.feed.stop()
        if unacknowledged or self.feed.error or self.feed.failed:
            self.report.finding(f"the producer: {unacknowledged} left, {self.feed.error}, {dict(self.feed.failed)}")
        began = time.monotonic()
        while (behind := proof.behind(self.ingests, self.feed)) and time.monotonic() < began + SETTLE_S:
            self.tick()
        if behind:
            self.report.finding(f"not caught up {SETTLE_S} s after the last record: {behind}")
        for ingest in self.ingests:
            code = ingest.stop()
            if code != 0:
                self.report.finding(f"{ingest.name} ended with {code} after SIGTERM: see {ingest.log}")

    def measure(self, began, ended):
        commits = self.commits()
        longest, raw = [], 0
        for at, moved in commits.items():
            in_window = [began] + sorted(when for when in moved if began < when < ended) + [ended]
            raw = max(raw, max(after - before for before, after in zip(in_window, in_window[1:])))
            found = idle.stretches(moved, self.owners[at], self.faults, (began, ended))
            longest += [(end - begin, at, begin) for begin, end in found]
        longest.sort(reverse=True)
        shown = [
            {"partition": f"{topic}[{partition}]", "seconds": round(seconds, 1), "at_s": round(begin - began, 1)}
            for seconds, (topic, partition), begin in longest[:10]
        ]
        for seconds, (topic, partition), begin in longest:
            if seconds > IDLE_MAX_S:
                self.report.finding(f"{topic}[{partition}] was idle for {seconds:.1f} s without a fault, "
                                    f"from {begin - began:.1f} s on ({begin:.3f})")
        events = [
            {"process": name, "from": begin, "to": end} for name, faults in self.faults.items() for begin, end in faults
        ]
        (self.work / "faults.json").write_text(json.dumps({
            "began": began, "ended": ended, "faults": events,
            "owners": {f"{topic}[{partition}]": changes for (topic, partition), changes in self.owners.items()},
        }, indent=1))
        self.report.part("share", {
            "membership": self.options.membership, "faults": dict(self.kinds), "partitions": len(commits),
            "longest_idle_without_fault_s": shown, "longest_gap_with_faults_s": round(raw, 1),
        })
        self.report.line(f"longest idle without a fault: {shown[0]['seconds']} s; with faults: {raw:.1f} s")
