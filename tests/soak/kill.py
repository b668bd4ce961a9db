"""Scenario `kill`: two ingest processes land in a lake on S3 behind a proxy full of faults, while one process after the
other (ingest, broker, S3 server) is killed with SIGKILL and started again."""

import random
import time
from collections import Counter

import proof
from processes import BUCKET, Ingest, embedded_broker, real_kafka, s3_environment, s3_server
from producer import Feed, create_topics
from proxy import FaultProxy

LAKE = f"s3://{BUCKET}/lake"
# The S3 client's time-out; stalls last longer.
PATIENCE_S = 2
# A killed member that is not static is gone after its session.
SESSION_TIMEOUT_MS = 6000
# Between two polls; the dynamic member's is short, so that it is expelled in a long outage of the store.
POLL_INTERVAL_MS = 10_000
# How long a killed process stays away. One outage of the store in ten is a long one.
DOWN_S = (0, 1.5)
OUTAGE_S = (12, 20)
OUTAGES = 0.1
LATENCY = "1s"
RECORDS_PER_SECOND = 250
# With `both`: the share of rounds with a real Kafka, whose restart takes ten seconds and more.
REAL_SHARE = 0.1
# How often each is killed, in shares of the rounds.
SHARES = {"embedded": {"ingest": 4, "broker": 3, "s3": 3}, "real": {"broker": 8, "ingest": 1, "s3": 1}}
KAFKA_BACK_S = 90
# The longest wait for something to land between two kills: without, every kill would only meet processes that start.
PROGRESS_S = 15
SETTLE_S = 120


def run(options, work, program, report):
    rounds = {"embedded": options.rounds, "real": options.rounds}
    if options.kafka == "both":
        rounds["real"] = max(1, round(options.rounds * REAL_SHARE))
        rounds["embedded"] = max(1, options.rounds - rounds["real"])
    kinds = ["embedded", "real"] if options.kafka == "both" else [options.kafka]
    for kind in kinds:
        folder = work / kind
        folder.mkdir()
        Stage(kind, rounds[kind], options.seed, folder, program, report).run()


def deck(kind, rounds, rng):
    """Whom to kill, round by round: each as often as its share says, in drawn order."""
    shares = SHARES[kind]
    whole = sum(shares.values())
    due = {name: rounds * share / whole for name, share in shares.items()}
    cards = [name for name, count in due.items() for _ in range(int(count))]
    left = sorted(due, key=lambda name: due[name] % 1, reverse=True)
    cards += left[: rounds - len(cards)]
    rng.shuffle(cards)
    return cards


class Stage:
    """One broker of one kind, one lake, so many rounds, and the proof."""

    def __init__(self, kind, rounds, seed, work, program, report):
        self.kind, self.work, self.program, self.report = kind, work, program, report
        self.rng = random.Random(f"{seed}/{kind}/kill")
        self.seed = f"{seed}/{kind}"
        self.deck = deck(kind, rounds, self.rng)
        self.kills = Counter()
        self.landed = 0
        self.idle_rounds = 0

    def run(self):
        work = self.work
        self.s3 = s3_server(work)
        self.broker = embedded_broker(self.program, work) if self.kind == "embedded" else real_kafka(work)
        for server in (self.s3, self.broker):
            server.start()
        for server in (self.s3, self.broker):
            server.wait_until_ready(180)
        self.bootstrap = f"127.0.0.1:{self.broker.port}"
        create_topics(self.bootstrap)
        self.proxy = FaultProxy(self.s3.port, self.seed, PATIENCE_S, work / "proxy.log")
        self.feed = Feed(self.bootstrap, self.seed, RECORDS_PER_SECOND)
        self.ingests = [
            self.ingest("ingest-static", {"group.instance.id": "one"}),
            self.ingest("ingest-dynamic", {"max.poll.interval.ms": str(POLL_INTERVAL_MS)}),
        ]
        for ingest in self.ingests:
            ingest.start()
        try:
            for number, target in enumerate(self.deck, 1):
                self.round(number, target)
            self.settle()
        finally:
            self.proxy.stop()
        self.prove()

    def ingest(self, name, properties):
        variables = s3_environment(self.proxy.port) | {"AWS_TIMEOUT": f"{PATIENCE_S}s"}
        properties = {"session.timeout.ms": str(SESSION_TIMEOUT_MS)} | properties
        return Ingest(name, self.program, self.work, self.bootstrap, LAKE, variables, properties, LATENCY)

    def wait(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for ingest in self.ingests:
                ingest.supervise()
            time.sleep(min(0.1, max(0, until - time.monotonic())))

    def round(self, number, target):
        """Kills one at a drawn moment after something has landed, and starts it again after a drawn while."""
        until = time.monotonic() + PROGRESS_S
        while (versions := self.versions()) <= self.landed and time.monotonic() < until:
            self.wait(0.2)
        self.idle_rounds += versions <= self.landed
        self.wait(self.rng.uniform(0.5, 4))
        process = self.rng.choice(self.ingests) if target == "ingest" else {"broker": self.broker, "s3": self.s3}[target]
        is_outage = target == "s3" and self.rng.random() < OUTAGES
        down = self.rng.uniform(*(OUTAGE_S if is_outage else DOWN_S))
        if target == "ingest":
            process.supervise()
        process.kill()
        self.kills[process.name] += 1
        killed_at, acknowledged, self.landed = time.monotonic(), self.feed.acknowledged, self.versions()
        if target == "ingest":
            time.sleep(down)
        else:
            self.wait(down)
        process.start()
        if target != "ingest":
            process.wait_until_ready(60)
        if process.name == "kafka":
            # Until it takes records again there is nothing else to break.
            while self.feed.acknowledged == acknowledged and time.monotonic() < killed_at + KAFKA_BACK_S:
                self.wait(0.1)
        took = time.monotonic() - killed_at
        self.report.line(
            f"{self.kind} round {number}/{len(self.deck)}: killed {process.name}, back after {took:.1f} s; "
            f"{self.feed.acknowledged:,} records sent, {self.versions():,} versions, "
            f"{sum(self.proxy.faults.values()):,} faults"
        )

    def versions(self):
        logs = (self.work / "s3/buckets" / BUCKET / "lake/data").glob("*/_delta_log/*.json")
        return sum(1 for _ in logs)

    def settle(self):
        """The faults end: both processes must catch up by themselves."""
        self.proxy.faulty = False
        unacknowledged = self.feed.stop()
        if unacknowledged or self.feed.error:
            self.report.finding(f"{self.kind}: the producer has {unacknowledged} left, error {self.feed.error}")
        for reason, count in self.feed.failed.items():
            self.report.finding(f"{self.kind}: {count} records were not delivered: {reason}")
        began = time.monotonic()
        while (behind := proof.behind(self.ingests, self.feed)) and time.monotonic() < began + SETTLE_S:
            self.wait(0.25)
        settled = time.monotonic() - began
        if behind:
            self.report.finding(f"{self.kind}: not caught up {SETTLE_S} s after the last fault: {behind}")
        self.report.line(f"{self.kind}: caught up {settled:.1f} s after the last fault")
        for ingest in self.ingests:
            code = ingest.stop()
            if code != 0:
                self.report.finding(f"{self.kind}: {ingest.name} ended with {code} after SIGTERM: see {ingest.log}")
        self.settled = settled

    def prove(self):
        self.report.part(self.kind, {
            "rounds": len(self.deck),
            "rounds_without_progress": self.idle_rounds,
            "kills": dict(self.kills),
            "requests": dict(self.proxy.requests),
            "faults": {f"{kind} {fault}": count for (kind, fault), count in sorted(self.proxy.faults.items())},
            "requests_while_s3_was_down": self.proxy.unreachable,
            "settled_s": round(self.settled, 1),
        })
        variables = s3_environment(self.s3.port)
        proof.ends(self.kind, self.ingests, self.report)
        proof.prove(self.kind, self.program, self.work, self.bootstrap, LAKE, variables, self.feed, self.report)
        for server in (self.broker, self.s3):
            server.stop()
