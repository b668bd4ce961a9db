"""Scenario `join`: what a second member of the group must not change. All partitions are read to their ends; a second
process joins and takes half of them; then each partition gets one more record. In the end each of the two is killed once,
at rest."""

import time

import proof
from processes import Ingest, embedded_broker
from producer import Feed, create_topics

SESSION_TIMEOUT_MS = 6000
RECORDS_PER_SECOND = 400
FEED_S = 2
# A rebalance, its second half, and the commit of what follows.
SETTLE_S = 40


def run(options, work, program, report):
    broker = embedded_broker(program, work)
    broker.start()
    broker.wait_until_ready(60)
    bootstrap, lake = f"127.0.0.1:{broker.port}", work / "lake"
    create_topics(bootstrap)
    feed = Feed(bootstrap, options.seed, RECORDS_PER_SECOND)
    properties = {"session.timeout.ms": str(SESSION_TIMEOUT_MS)}
    first, second = [
        Ingest(name, program, work, bootstrap, lake, {}, properties, "200ms") for name in ("ingest-0", "ingest-1")
    ]

    def land(what, ingests):
        """Everything sent so far lands while nothing is sent; then the group changes, and more is sent."""
        feed.pause(True)
        began = time.monotonic()
        while (behind := proof.behind(ingests, feed)) and time.monotonic() < began + SETTLE_S:
            for ingest in ingests:
                ingest.supervise()
            time.sleep(0.1)
        if behind:
            report.finding(f"{what}: not caught up within {SETTLE_S} s: {behind}")
        # The ends of the partitions are read as well.
        time.sleep(1)
        report.line(f"{what}: landed {feed.acknowledged:,} records")

    def send():
        feed.pause(False)
        time.sleep(FEED_S)

    first.start()
    send()
    land("one process", [first])
    second.start()
    wait_for_share(second, report)
    send()
    land("two processes", [first, second])
    first.kill()
    first.start()
    wait_for_share(first, report)
    send()
    land("the first killed and back", [first, second])
    second.kill()
    wait_for_share(first, report, 20)
    send()
    land("the second killed", [first])
    feed.stop()
    first.stop()
    proof.ends("join", [first, second], report)
    proof.prove("join", program, work, bootstrap, lake, {}, feed, report)
    broker.stop()


def wait_for_share(ingest, report, partitions=10):
    """Until the group has given it its share."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        told = ingest.progress() or []
        held = sum(len(offsets) for stream in told for offsets in stream["sources"][0]["endOffset"].values())
        if held == partitions:
            return
        if time.monotonic() > deadline:
            report.finding(f"{ingest.name} holds {held} partitions, not {partitions}, after {SETTLE_S} s")
            return
        time.sleep(0.1)
