"""Messages that hold an array, one row for each element, beside the same readings sent one by one.

    bench/elements.py [--messages 1000000] [--flat 5000000] [--keep DIR] [--profile release|debug]

Needs a build of `smartcity` in that profile, Java and Maven, and a Python with tests/python/requirements.txt. A real
Kafka is pinned to one core, `smartcity ingest` to the other. Messages hold 1 to 50 readings, one reading in a hundred is
broken. Afterwards duckdb, which shares no code with us, compares every row and every dead letter with what was sent:
each element must be there once, the broken ones as dead letters, the others as rows with their values. Prints one JSON
line for each measurement, and exits with 1 when anything differs.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from deltalake import DeltaTable

from ingest import measure
from processes import CORES, TARGET, start_kafka, stop

PARTITIONS = 4
STATIONS = 1000
READINGS_MAX = 50
# One for each remainder of a message's number, so that a message's time costs no formatting.
TIMES = [f"2026-11-20T08:{second // 60:02d}:{second % 60:02d}.000Z" for second in range(3600)]

FIELDS = """
[[field]]
name = "station_id"
type = "string"
doc = "The station that sent it; the Kafka key."

[[field]]
name = "timestamp"
type = "timestamp"
doc = "When it was measured."

[[field]]
name = "sensor"
type = "string"
{sensor}
doc = "Which of the station's sensors."

[[field]]
name = "value"
type = "double"
{value}
doc = "What it measured."
"""
NESTED = """
name = "station_data"
description = "Readings of a station's sensors, as many as it has gathered."
key = "station_id"
event_time = "timestamp"
elements = "readings[*]"
""" + FIELDS.format(sensor='from = ["readings[*].sensor"]', value='from = ["readings[*].value"]')
FLAT = """
name = "reading_data"
description = "Readings of a station's sensors, one by one."
key = "station_id"
event_time = "timestamp"
""" + FIELDS.format(sensor="", value="")

# The same three functions of a message's number `i` and an element's position `e`, in Python and in SQL.
COUNT_SQL = f"(1 + (i * 7919) % {READINGS_MAX})"
BROKEN_SQL = "((i * 31 + e * 17) % 100 = 0)"
VALUE_SQL = "(((i * 13 + e * 7) % 1000) / 10.0)"


def count(i):
    return 1 + (i * 7919) % READINGS_MAX


def reading(i, e):
    value = f'"{e}"' if (i * 31 + e * 17) % 100 == 0 else (i * 13 + e * 7) % 1000 / 10
    return f'{{"sensor":"s{e}","value":{value}}}'


def nested(i):
    readings = ",".join([reading(i, e) for e in range(count(i))])
    return f'{{"station_id":"st-{i % STATIONS}","timestamp":"{TIMES[i % 3600]}","readings":[{readings}]}}'


def flat(i):
    value = (i * 13) % 1000 / 10
    return f'{{"station_id":"st-{i % STATIONS}","timestamp":"{TIMES[i % 3600]}","sensor":"s0","value":{value}}}'


def fill(address, topic, messages, text):
    """Message `i` becomes offset `i / PARTITIONS` of partition `i % PARTITIONS`."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": address, "enable.idempotence": True, "compression.type": "lz4",
                         "queue.buffering.max.kbytes": 262144, "linger.ms": 50})
    for i in range(messages):
        while True:
            try:
                producer.produce(topic, text(i), partition=i % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        if i % 1000 == 0:
            producer.poll(0)
    if producer.flush(120):
        sys.exit("Kafka did not take all messages")


def files(lake, table):
    return [path.removeprefix("file://") for path in DeltaTable(str(lake / "data" / table)).file_uris()]


def differences(lake, messages):
    """What an independent reader finds wrong with the table and the dead letters; empty when nothing is."""
    sql = duckdb.connect()
    sql.execute("SET threads TO 2")
    rows, letters = files(lake, "station_data"), files(lake, "dead_letters")
    sql.execute(
        f"""CREATE TABLE rows AS SELECT _offset * {PARTITIONS} + _partition AS i, _element::BIGINT AS e, value,
        sensor = 's' || _element AND station_id = 'st-' || ((_offset * {PARTITIONS} + _partition) % {STATIONS}) AS same
        FROM read_parquet(?, hive_partitioning = false)""", [rows])
    sql.execute(
        f"""CREATE TABLE letters AS SELECT "offset" * {PARTITIONS} + "partition" AS i, element::BIGINT AS e, field,
        error_class FROM read_parquet(?)""", [letters])

    def number(query):
        return sql.execute(query).fetchone()[0]

    expected = number(f"SELECT sum({COUNT_SQL}) FROM range({messages}) AS t(i)")
    broken = number(f"""SELECT count(*) FROM (SELECT i, unnest(range({COUNT_SQL})) AS e FROM range({messages}) AS t(i))
                        WHERE {BROKEN_SQL}""")
    found = {
        "rows": number("SELECT count(*) FROM rows"), "dead_letters": number("SELECT count(*) FROM letters"),
        "elements": expected, "broken": broken,
    }
    outside = f"NOT (i BETWEEN 0 AND {messages - 1} AND e BETWEEN 0 AND {COUNT_SQL} - 1)"
    checks = {
        "elements that are no element": f"SELECT count(*) FROM (FROM rows SELECT i, e UNION ALL FROM letters SELECT i, e) "
                                        f"WHERE i IS NULL OR e IS NULL OR {outside}",
        "elements more than once": "SELECT count(*) - count(DISTINCT (i, e)) FROM "
                                   "(FROM rows SELECT i, e UNION ALL FROM letters SELECT i, e)",
        "broken elements among the rows": f"SELECT count(*) FROM rows WHERE {BROKEN_SQL}",
        "good elements among the dead letters": f"SELECT count(*) FROM letters WHERE NOT {BROKEN_SQL}",
        "rows with other values": f"SELECT count(*) FROM rows WHERE NOT same OR value IS DISTINCT FROM {VALUE_SQL}",
        "dead letters for another reason": "SELECT count(*) FROM letters WHERE field IS DISTINCT FROM 'value'",
    }
    wrong = {name: wrong for name, query in checks.items() if (wrong := number(query))}
    if found["rows"] + found["dead_letters"] != expected:
        wrong["missing elements"] = expected - found["rows"] - found["dead_letters"]
    return found, wrong


def ingest(binary, address, lake, streams, topic):
    command = [binary, "ingest", "--bootstrap-servers", address, "--lake", lake, "--streams", streams, "--only", topic,
               "--workers", 1, "--until-caught-up", "--json"]
    return measure("ingest " + topic, command, CORES[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--flat", type=int, default=5_000_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--profile", default="release")
    arguments = parser.parse_args()
    binary = TARGET.parent / arguments.profile / "smartcity"
    folder = Path(tempfile.mkdtemp(prefix="smartcity-elements-", dir=arguments.keep))
    streams = folder / "streams"
    streams.mkdir()
    (streams / "station_data.toml").write_text(NESTED)
    (streams / "reading_data.toml").write_text(FLAT)
    kafka, address = start_kafka(folder / "kafka", CORES[-1])
    wrong = {}
    try:
        results = {}
        for topic, messages, text in [("reading_data", arguments.flat, flat), ("station_data", arguments.messages, nested)]:
            started = time.monotonic()
            fill(address, topic, messages, text)
            print(json.dumps({"filled": topic, "messages": messages, "seconds": time.monotonic() - started}), flush=True)
            lake = folder / "lake"
            result = ingest(binary, address, lake, streams, topic)
            if topic == "station_data":
                found, wrong = differences(lake, messages)
                result |= found | {"wrong": wrong}
                elements = found["elements"]
            else:
                elements = DeltaTable(str(lake / "data" / topic)).get_add_actions(flatten=True)
                elements = sum(elements.column("num_records").to_pylist())
                if elements != messages:
                    wrong = {"flat rows": elements}
            result["rows_per_core_second"] = elements / result["cpu_seconds"]
            results[topic] = result["rows_per_core_second"]
            print(json.dumps(result), flush=True)
        print(f"{results['station_data']:,.0f} elements per core-second, {results['reading_data']:,.0f} flat records: "
              f"{results['station_data'] / results['reading_data']:.2f} times as fast")
    finally:
        stop(kafka)
        if not arguments.keep:
            shutil.rmtree(folder)
    if wrong:
        sys.exit(f"differences: {wrong}")


if __name__ == "__main__":
    main()
