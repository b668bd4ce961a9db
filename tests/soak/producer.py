"""A producer of all five topics that never stops, one message in a hundred broken, and a ledger of what was acknowledged."""

import json
import random
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict
from pathlib import Path

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
from feed import TOPICS, broken, message  # noqa: E402

PARTITIONS = 4
BROKEN = 0.01
UNDECLARED = 0.02
# Of the largest of the broken ones, which feed.py makes to test the limits; here many are wanted.
BROKEN_BYTES_MAX = 20_000


def create_topics(bootstrap, timeout_s=90):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    deadline = time.monotonic() + timeout_s
    waiting = set(TOPICS)
    while waiting:
        made = admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in sorted(waiting)], request_timeout=10)
        for topic, future in made.items():
            try:
                future.result()
                waiting.discard(topic)
            except KafkaException as error:
                if error.args[0].name() == "TOPIC_ALREADY_EXISTS":
                    waiting.discard(topic)
                elif time.monotonic() > deadline:
                    raise
        if waiting:
            time.sleep(0.5)


class Feed:
    """Sends from a thread of its own, as the group's seed draws it, until `stop`."""

    def __init__(self, bootstrap, seed, per_second):
        self.per_second = per_second
        self.acknowledged = 0
        self.failed = Counter()
        # By topic and partition: offset -> CRC-32 of the value.
        self.ledger = defaultdict(dict)
        self._rng = random.Random(f"{seed}/feed")
        self._kinds = Counter()
        # Nothing is given up as long as the soak lasts; with idempotence nothing is sent twice.
        self._producer = Producer({
            "bootstrap.servers": bootstrap, "linger.ms": 20, "enable.idempotence": True,
            "message.timeout.ms": 0, "message.max.bytes": 2_000_000, "reconnect.backoff.max.ms": 1000,
            "log_level": 0,
        })
        self._ending = threading.Event()
        self._paused = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self.error = None
        self._thread.start()

    def pause(self, paused):
        """Sends nothing until told to go on; what was sent is acknowledged first."""
        if paused:
            self._paused.set()
            time.sleep(2 * len(TOPICS) / self.per_second)
            self._producer.flush(60)
        else:
            self._paused.clear()

    def stop(self, timeout_s=120):
        """Waits until everything is acknowledged; how many are not."""
        self._ending.set()
        self._thread.join(30)
        return self._producer.flush(timeout_s)

    def _run(self):
        try:
            self._send()
        except Exception as error:  # noqa: BLE001: whatever it is, the soak has to tell it
            self.error = repr(error)

    def _send(self):
        number, due = 0, time.monotonic()
        while not self._ending.is_set():
            if not self._paused.is_set():
                for topic in TOPICS:
                    self._send_one(topic, number)
                number += 1
            self._producer.poll(0)
            due = max(due + len(TOPICS) / self.per_second, time.monotonic() - 1)
            self._ending.wait(max(0, due - time.monotonic()))

    def _send_one(self, topic, number):
        good = message(topic, self._rng, number)
        if self._rng.random() < UNDECLARED:
            good |= {"firmware": {"version": number, "name": "Ünterwegs \"7\""}}
        headers, value = None, json.dumps(good).encode()
        if self._rng.random() < BROKEN:
            kinds = broken(good, self._rng)
            kind, value = kinds[self._kinds[topic] % len(kinds)]
            self._kinds[topic] += 1
            value = value if kind == "deep" or value is None else value[:BROKEN_BYTES_MAX]
            headers = [("broken", kind.encode())]
        while True:
            try:
                self._producer.produce(topic, value, good["device_id"], headers=headers, on_delivery=self._delivered)
                return
            except BufferError:
                if self._ending.is_set():
                    return
                self._producer.poll(0.1)

    def _delivered(self, error, record):
        if error is not None:
            self.failed[str(error)] += 1
            return
        self.acknowledged += 1
        self.ledger[record.topic(), record.partition()][record.offset()] = zlib.crc32(record.value() or b"")

    def write_ledger(self, path):
        ledger = [[topic, partition, sorted(offsets.items())] for (topic, partition), offsets in self.ledger.items()]
        path.write_text(json.dumps(ledger))
