"""The embedded broker beside a real Apache Kafka: the same client, the same machine, 250-byte records, one run.

    bench/broker.py [--records 5000000] [--rounds 5] [--latency-seconds 15] [--restarts 3] [--durability fsync|os] [--keep DIR]
                    [--json]

Needs a release build (cargo build --release -p broker --example broker), Java and Maven, and a Python with
tests/python/requirements.txt. Both brokers run all the time and take turns, so that both see the same neighbours on the
machine; each has `--records` at the end, made in `--rounds`. CPU seconds are user and system time of the broker's
process, from before the first record to behind the last; what a JVM takes to start stands on its own line, and its
first round, in which it compiles, is told apart. Latency is from the call to produce to the return of poll in one
client process, at 5,000 records a second, linger.ms=0 and acks=all on both. Medians of the rounds.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from processes import ROOT, TARGET, cpu_seconds, free_port, memory_mb, stop

PARTITIONS = 4
RECORD_BYTES = 250
LATENCY_RATE = 5_000
#: ApiVersions, version 0, without a client id.
FIRST_QUESTION = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class Broker:
    """One of the two, with its data in a folder; started and ended several times."""

    def __init__(self, name, folder, durability):
        self.name, self.folder, self.port, self.process = name, folder, free_port(), None
        self.durability = durability
        folder.mkdir()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Seconds from the start of the process to the first answer."""
        if self.name == "smartcity":
            command = [TARGET / "examples/broker", self.address, self.folder, "--durability", self.durability]
        else:
            command = [ROOT / "tests/kafka/real-kafka", self.folder, str(self.port)]
        started = time.monotonic()
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() - started > 120:
                sys.exit(f"{self.name} did not start")
            time.sleep(0.001)
        return time.monotonic() - started

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                connection.sendall(FIRST_QUESTION)
                return len(connection.recv(4)) == 4
        except OSError:
            return False

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            # The example ends as a person ends it.
            stop(self.process, signal.SIGINT if how == signal.SIGTERM and self.name == "smartcity" else how)

    def cpu(self):
        return cpu_seconds(self.process.pid)


def client(broker, **settings):
    return {"bootstrap.servers": broker.address, **settings}


def create(broker, topic):
    admin = AdminClient(client(broker))
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def produce(broker, topic, records):
    failed = []
    producer = Producer(client(broker, **{
        "acks": "all", "linger.ms": 5, "queue.buffering.max.messages": 200_000, "enable.idempotence": True,
        "on_delivery": lambda error, _: failed.append(error) if error else None,
    }))
    value = os.urandom(RECORD_BYTES // 2).hex().encode()
    for number in range(records):
        while True:
            try:
                producer.produce(topic, value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 10_000 == 0:
            producer.poll(0)
    left = producer.flush(120)
    if left or failed:
        sys.exit(f"{broker.name}: {left} records left, failed: {failed[:1]}")


def consume(broker, topic, starts, records):
    consumer = Consumer(client(broker, **{"group.id": "bench", "enable.auto.commit": False}))
    consumer.assign([TopicPartition(topic, number, start) for number, start in enumerate(starts)])
    seen = 0
    while seen < records:
        messages = consumer.consume(10_000, 30)
        if not messages:
            sys.exit(f"{broker.name}: only {seen} of {records} records came")
        for message in messages:
            if message.error():
                sys.exit(f"{broker.name}: {message.error()}")
        seen += len(messages)
    consumer.close()


def throughput(broker, topic, starts, records):
    before = broker.cpu()
    produce(broker, topic, records)
    between = broker.cpu()
    consume(broker, topic, starts, records)
    after = broker.cpu()
    millions = records / 1e6
    return {
        "broker": broker.name,
        "produce_cpu_seconds_per_million": (between - before) / millions,
        "consume_cpu_seconds_per_million": (after - between) / millions,
        "cpu_seconds_per_million": (after - before) / millions,
    }


def latency(broker, topic, seconds):
    """Milliseconds from produce to poll, sorted, and the broker's CPU seconds meanwhile."""
    create(broker, topic)
    total, latencies = LATENCY_RATE * seconds, []
    consumer = Consumer(client(broker, **{
        "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 500, "fetch.min.bytes": 1,
    }))
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    producer = Producer(client(broker, **{"acks": "all", "linger.ms": 0}))
    padding = b"x" * (RECORD_BYTES - 8)

    def read():
        deadline = time.monotonic() + seconds + 30
        while len(latencies) < total and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is not None and not message.error():
                sent, = struct.unpack(">q", message.value()[:8])
                latencies.append((time.monotonic_ns() - sent) / 1e6)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(1)
    before, began = broker.cpu(), time.monotonic()
    for number in range(total):
        due = began + number / LATENCY_RATE
        while time.monotonic() < due:
            producer.poll(0)
            time.sleep(0.0005)
        producer.produce(topic, struct.pack(">q", time.monotonic_ns()) + padding, partition=number % PARTITIONS)
    producer.flush(30)
    reader.join()
    cpu = broker.cpu() - before
    consumer.close()
    if len(latencies) != total:
        sys.exit(f"{broker.name}: {len(latencies)} of {total} records came back")
    # The first second opens connections and, in a JVM, compiles.
    settled = sorted(latencies[LATENCY_RATE:])
    at = lambda quantile: settled[int(quantile * (len(settled) - 1))]
    return {"broker": broker.name, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999), "cpu_seconds": cpu}


def restarts(broker):
    """Seconds to the first answer with all the records there: after a clean end and after a kill."""
    broker.stop()
    clean = broker.start()
    resident, _ = memory_mb(broker.process.pid)
    # Something must have been written since, or a kill is a clean end.
    produce(broker, "records", PARTITIONS)
    broker.stop(signal.SIGKILL)
    return {"broker": broker.name, "start_clean_s": clean, "start_killed_s": broker.start(), "restarted_mb": resident}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-seconds", type=int, default=15)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the table")
    parser.add_argument("--only", choices=["smartcity", "kafka"])
    parser.add_argument("--durability", choices=["fsync", "os"], default="os",
                        help="of the embedded broker; Kafka's own is os")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smartcity-bench-", dir=arguments.keep))
    names = [arguments.only] if arguments.only else ["smartcity", "kafka"]
    brokers = [Broker(name, folder / name, arguments.durability) for name in names]
    results = {name: {} for name in names}

    def note(kind, result):
        results[result.pop("broker")].setdefault(kind, []).append(result)
        print(json.dumps({"kind": kind, **result}), file=sys.stderr, flush=True)

    try:
        for broker in brokers:
            # The first start makes the data folder (Kafka: formats it); the second is what is measured.
            broker.start()
            broker.stop()
            seconds = broker.start()
            note("start", {"broker": broker.name, "first_answer_s": seconds, "cpu_seconds": broker.cpu()})
            create(broker, "records")
        records = arguments.records // arguments.rounds
        for number in range(arguments.rounds):
            for broker in brokers if number % 2 == 0 else reversed(brokers):
                starts = [number * (records // PARTITIONS)] * PARTITIONS
                note("throughput", throughput(broker, "records", starts, records))
        for number in range(3):
            for broker in brokers if number % 2 == 0 else reversed(brokers):
                note("latency", latency(broker, f"latency-{number}", arguments.latency_seconds))
        for broker in brokers:
            resident, peak = memory_mb(broker.process.pid)
            note("memory", {"broker": broker.name, "resident_mb": resident, "peak_mb": peak})
        for _ in range(arguments.restarts):
            for broker in brokers:
                note("restart", restarts(broker))
    finally:
        for broker in brokers:
            broker.stop()
        if not arguments.keep:
            shutil.rmtree(folder)
    report(results, arguments)


def report(results, arguments):
    def median(name, kind, key, skip=0):
        rounds = results[name][kind]
        return statistics.median(round[key] for round in (rounds[skip:] or rounds))

    lines = [
        ("start: first answer, ms", lambda n: 1000 * median(n, "start", "first_answer_s")),
        ("start: CPU s", lambda n: median(n, "start", "cpu_seconds")),
        ("CPU s per million, first round", lambda n: results[n]["throughput"][0]["cpu_seconds_per_million"]),
        ("CPU s per million, later rounds", lambda n: median(n, "throughput", "cpu_seconds_per_million", 1)),
        ("  of it produce", lambda n: median(n, "throughput", "produce_cpu_seconds_per_million", 1)),
        ("  of it consume", lambda n: median(n, "throughput", "consume_cpu_seconds_per_million", 1)),
        (f"latency p50 at {LATENCY_RATE}/s, ms", lambda n: median(n, "latency", "p50_ms")),
        (f"latency p99 at {LATENCY_RATE}/s, ms", lambda n: median(n, "latency", "p99_ms")),
        (f"latency p99.9 at {LATENCY_RATE}/s, ms", lambda n: median(n, "latency", "p999_ms")),
        ("resident MB, all records there", lambda n: median(n, "memory", "resident_mb")),
        ("peak MB", lambda n: median(n, "memory", "peak_mb")),
        ("resident MB after a restart", lambda n: median(n, "restart", "restarted_mb")),
        ("restart after a clean end, ms", lambda n: 1000 * median(n, "restart", "start_clean_s")),
        ("restart after a kill, ms", lambda n: 1000 * median(n, "restart", "start_killed_s")),
    ]
    table = {label.strip(): {name: value(name) for name in results} for label, value in lines}
    if arguments.json:
        print(json.dumps({"records": arguments.records, "rounds": arguments.rounds, "medians": table, "all": results}))
        return
    print(f"\n{arguments.records} records of {RECORD_BYTES} bytes in {arguments.rounds} rounds, medians")
    print(f"{'':<36}" + "".join(f"{name:>12}" for name in results) + f"{'ratio':>9}")
    for label, _ in lines:
        values = list(table[label.strip()].values())
        ratio = f"{values[0] / values[1]:>9.2f}" if len(values) == 2 and values[1] else ""
        print(f"{label:<36}" + "".join(f"{value:>12.2f}" for value in values) + ratio)


if __name__ == "__main__":
    main()
