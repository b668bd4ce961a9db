"""The simulator: how fast the fleet's records are made, and how fast they get into a real Kafka.

    bench/sim.py [--vehicles 100000] [--million] [--records 6000000] [--seconds 60] [--keep DIR]

Needs a release build (cargo build --release -p sim --example speed -p smartcity --bin smartcity), Java and Maven. First
records generated and serialised and thrown away, by `crates/sim/examples/speed.rs`; with `--million` also a million
vehicles. Then `smartcity simulate` at full speed into five topics of a real Kafka, with four partitions each, and then at
20,000 records a second. The broker is pinned to one core, `simulate` to another. Records per core-second are records
divided by user and system CPU seconds of the process, its start included. The rate is counted where it matters: at the
broker, by the offsets at the ends of the topics. One JSON line per measurement.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from processes import CORES, TARGET, check_quiet, cpu_seconds, start_kafka, stop

STREAMS = ["vehicle_data", "gps_data", "traffic_data", "weather_data", "emergency_data"]
PARTITIONS = 4
RATE = 20_000


def say(**fields):
    print(json.dumps(fields), flush=True)


def make(vehicles, steps, threads=1):
    command = [TARGET / "examples/speed", vehicles, steps, threads]
    pinned = lambda: os.sched_setaffinity(0, set(CORES[:threads]))
    printed = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True, preexec_fn=pinned)
    say(measurement="generated and serialised", **json.loads(printed.stdout))


class Ends:
    """How many records the five topics of a run hold."""

    def __init__(self, address, prefix):
        self.topics = [f"{prefix}.{stream}" for stream in STREAMS]
        new = [NewTopic(topic, PARTITIONS, 1) for topic in self.topics]
        admin = AdminClient({"bootstrap.servers": address})
        for created in admin.create_topics(new).values():
            created.result()
        self.consumer = Consumer({"bootstrap.servers": address, "group.id": "ends"})

    def count(self):
        places = [TopicPartition(topic, partition) for topic in self.topics for partition in range(PARTITIONS)]
        return sum(self.end(place) for place in places)

    def end(self, place):
        deadline = time.monotonic() + 30
        while True:
            try:
                return self.consumer.get_watermark_offsets(place, timeout=10)[1]
            except KafkaException as error:
                # A topic that has just been made has no leader yet.
                if not error.args[0].retriable() and error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                    raise
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def simulate(address, prefix, *arguments):
    variables = {stream.removesuffix("_data").upper() + "_TOPIC": f"{prefix}.{stream}" for stream in STREAMS}
    command = [TARGET / "smartcity", "simulate", "--profile", "fleet", "--start", "2026-01-05T08:00:00", "--json"]
    command += ["--bootstrap-servers", address, *arguments]
    return subprocess.Popen(
        [str(part) for part in command],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}),
    )


def finish(process):
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"simulate failed with {process.returncode}")
    return json.loads(output), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def full_speed(address, prefix, records, threads):
    vehicles = 20_000
    seconds = max(1, round(records / vehicles / 5))
    ends = Ends(address, prefix)
    process = simulate(
        address, prefix, "--vehicles", vehicles, "--duration", f"{seconds}s", "--pace", "max", "--threads", threads
    )
    summary, cpu, memory = finish(process)
    check_quiet("simulate at full speed", cpu, summary["seconds"])
    if ends.count() != summary["records"]:
        sys.exit(f"{ends.count()} records at the broker, {summary['records']} sent")
    say(
        measurement="to a real Kafka, full speed",
        records=summary["records"],
        cpu_seconds=round(cpu, 2),
        records_per_core_second=round(summary["records"] / cpu),
        records_per_second=round(summary["records"] / summary["seconds"]),
        peak_memory_mb=round(memory),
    )


def held_rate(address, prefix, seconds):
    """What the broker has got each second, and over the whole time."""
    ends = Ends(address, prefix)
    process = simulate(address, prefix, "--vehicles", RATE // 5, "--duration", f"{seconds + 10}s", "--pace", "1x")
    while ends.count() == 0:
        time.sleep(0.05)
    time.sleep(2)
    marks = [(time.monotonic(), ends.count())]
    cpu = cpu_seconds(process.pid)
    for second in range(1, seconds + 1):
        time.sleep(max(0, marks[0][0] + second - time.monotonic()))
        marks.append((time.monotonic(), ends.count()))
    cpu = cpu_seconds(process.pid) - cpu
    finish(process)
    per_second = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(marks, marks[1:])]
    whole = (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])
    say(
        measurement="to a real Kafka, held rate",
        wanted=RATE,
        seconds=seconds,
        records_per_second=round(whole, 1),
        off_percent=round((whole / RATE - 1) * 100, 3),
        slowest_second=round(min(per_second)),
        fastest_second=round(max(per_second)),
        cpu_percent=round(cpu / seconds * 100, 1),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vehicles", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--records", type=int, default=6_000_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    make(arguments.vehicles, 60)
    if arguments.million:
        make(1_000_000, 20)
    folder = Path(tempfile.mkdtemp(prefix="smartcity-bench-", dir=arguments.keep))
    kafka, address = start_kafka(folder / "kafka", CORES[-1])
    try:
        full_speed(address, "one", arguments.records, 1)
        held_rate(address, "held", arguments.seconds)
    finally:
        stop(kafka)
        if not arguments.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
