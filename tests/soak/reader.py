"""Compares a lake with its topics record by record, with none of our code: confluent-kafka, deltalake, Python's JSON.

    reader.py BOOTSTRAP LAKE [LEDGER]

LAKE is a folder or s3://..., by the AWS_* variables. Every offset of a topic must be one row of its table, or one dead
letter if its header says `broken`; every value must be what JSON says. LEDGER is what the producer was acknowledged.
Prints JSON: counts, and up to 20 differences with how many there are; exits 1 when there are any.
"""

import json
import os
import re
import sys
import tomllib
import zlib
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from deltalake import DeltaTable

STREAMS = Path(__file__).resolve().parents[2] / "streams"
SHOWN_MAX = 20
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Differences:
    def __init__(self):
        self.counts = Counter()
        self.shown = []

    def add(self, what, place, detail=""):
        self.counts[what] += 1
        if self.counts[what] <= SHOWN_MAX:
            self.shown.append(f"{what}: {place} {detail}"[:600])


def read_topic(bootstrap, topic):
    """Every record of a topic by (partition, offset), and the ends of its partitions."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "independent-reader", "enable.auto.commit": False,
        "isolation.level": "read_committed", "auto.offset.reset": "error",
    })
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = {}
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            if low != 0:
                raise RuntimeError(f"{topic}[{partition}] begins at {low}: the soak must be shorter than retention")
            ends[partition] = high
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
        records, missing = {}, sum(ends.values())
        while missing > 0:
            # It waits for as many as are asked for.
            batch = consumer.consume(min(missing, 10_000), timeout=30)
            if not batch:
                raise RuntimeError(f"{topic}: {missing} records do not come")
            for record in batch:
                if record.error():
                    raise RuntimeError(f"{topic}: {record.error()}")
                if record.offset() < ends[record.partition()]:
                    records[record.partition(), record.offset()] = record
                    missing -= 1
        return records, ends
    finally:
        consumer.close()


class Table:
    """A stream's declaration, read anew: how a message's JSON becomes a row."""

    def __init__(self, path):
        declared = tomllib.loads(path.read_text())
        self.name = declared["name"]
        self.event_time = declared["event_time"]
        self.fields = [
            (field["name"], field["type"], [steps(place) for place in field.get("from", [field["name"]])])
            for field in declared["field"]
        ]

    def row(self, record):
        """What a good record's columns must hold."""
        message = json.loads(record.value())
        row = {}
        for name, kind, places in self.fields:
            found = (take(message, place) for place in places)
            row[name] = typed(next((value for value in found if value is not None), None), kind)
        row["event_date"] = row[self.event_time].date()
        row["_kafka_timestamp"] = EPOCH + timedelta(milliseconds=record.timestamp()[1])
        row["_extra"] = self.undeclared(message)
        row["_topic"] = record.topic()
        row["_element"] = None
        return row

    def undeclared(self, message):
        """Only whole fields of the message's outermost object: nothing else is undeclared in what we send."""
        known = {place[0] for _, _, places in self.fields for place in places}
        rest = {key: value for key, value in message.items() if key not in known}
        return rest or None


def steps(place):
    return [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", place)]


def take(value, place):
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def typed(value, kind):
    if value is None:
        return None
    if kind == "timestamp":
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)
    return float(value) if kind == "double" else value


def rows_of(lake, name):
    return DeltaTable(f"{lake}/data/{name}", storage_options=storage()).to_pyarrow_table().to_pylist()


def storage():
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def compare(table, records, ends, rows, letters, differences):
    """Rows and letters against a topic's records; the counts of both."""
    landed = Counter()
    for row in rows:
        at = (row["_partition"], row["_offset"])
        place = f"{table.name}{list(at)}"
        landed[at] += 1
        record = records.get(at)
        if record is None:
            differences.add("row without a record", place)
        elif is_broken(record):
            differences.add("a broken record is a row", place, record.headers())
        elif landed[at] == 1:
            compare_row(table.row(record), row, place, differences)
    for letter in letters:
        at = (letter["partition"], letter["offset"])
        place = f"{table.name}{list(at)}"
        landed[at] += 1
        record = records.get(at)
        if record is None:
            differences.add("letter without a record", place)
        elif not is_broken(record):
            differences.add("a good record is a dead letter", place, letter["error"])
        elif (letter["key"], letter["value"]) != (record.key(), record.value()):
            differences.add("a letter's bytes differ", place)
    for at in records:
        if landed[at] != 1:
            differences.add("lost" if landed[at] == 0 else "doubled", f"{table.name}{list(at)}", f"{landed[at]} times")
    for partition, end in ends.items():
        for offset in range(end):
            if (partition, offset) not in records:
                differences.add("an offset without a record", f"{table.name}[{partition}, {offset}]")


def compare_row(expected, row, place, differences):
    for column, value in expected.items():
        found = row[column]
        if column == "_extra" and found is not None:
            found = json.loads(found)
        if found != value or type(found) is not type(value):
            differences.add("a value differs", place, f"{column}: {found!r}, sent was {value!r}")
    unknown = [column for column in row if column not in expected and column not in SET_BY_INGEST]
    if unknown:
        differences.add("a column nobody declared", place, unknown)


SET_BY_INGEST = {"_partition", "_offset", "_ingested_at"}


def is_broken(record):
    return any(name == "broken" for name, _ in record.headers() or [])


def compare_ledger(ledger, topics, differences):
    """What the producer was acknowledged is in the log at that offset, and nothing is in the log twice."""
    acknowledged = 0
    for topic, partition, offsets in ledger:
        for offset, crc in offsets:
            acknowledged += 1
            record = topics[topic][0].get((partition, offset))
            if record is None:
                differences.add("acknowledged and not in the topic", f"{topic}[{partition}, {offset}]")
            elif zlib.crc32(record.value() or b"") != crc:
                differences.add("acknowledged and another in the topic", f"{topic}[{partition}, {offset}]")
    return acknowledged


def ids_in_topic_twice(topics, differences):
    for topic, (records, _) in topics.items():
        ids = Counter(json.loads(record.value())["id"] for record in records.values() if not is_broken(record))
        for message_id, count in ids.items():
            if count > 1:
                differences.add("in the topic more than once", topic, f"{message_id}, {count} times")


def main(bootstrap, lake, ledger=None):
    tables = [Table(path) for path in sorted(STREAMS.glob("*.toml"))]
    topics = {table.name: read_topic(bootstrap, table.name) for table in tables}
    differences = Differences()
    letters = rows_of(lake, "dead_letters")
    told = {"tables": {}, "letters": len(letters)}
    for table in tables:
        records, ends = topics[table.name]
        rows = rows_of(lake, table.name)
        of_topic = [letter for letter in letters if letter["topic"] == table.name]
        compare(table, records, ends, rows, of_topic, differences)
        told["tables"][table.name] = {"records": len(records), "rows": len(rows), "letters": len(of_topic)}
    for letter in letters:
        if letter["topic"] not in topics:
            differences.add("a letter of another topic", letter["topic"])
    ids_in_topic_twice(topics, differences)
    if ledger is not None:
        told["acknowledged"] = compare_ledger(json.loads(Path(ledger).read_text()), topics, differences)
    print(json.dumps(told | {"differences": dict(differences.counts), "shown": differences.shown}))
    return 1 if differences.counts else 0


if __name__ == "__main__":
    code = main(*sys.argv[1:])
    sys.stdout.flush()
    # The threads of deltalake's runtime may abort an orderly exit.
    os._exit(code)
