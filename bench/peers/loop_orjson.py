"""A hand-made ingest loop as a careful Python programmer writes it: confluent-kafka, orjson, pyarrow, deltalake.

    loop_orjson.py BOOTSTRAP_SERVERS TOPIC RECORDS TABLE_PATH GROUP
"""

import sys
from datetime import datetime, timezone

import orjson
import pyarrow as pa
from confluent_kafka import Consumer
from deltalake import write_deltalake

BATCH = 500_000


def main(bootstrap_servers, topic, records, path, group):
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "queued.min.messages": 1_000_000, "queued.max.messages.kbytes": 65536,
        "fetch.message.max.bytes": 4_194_304,
    })
    consumer.subscribe([topic])
    left = int(records)
    while left > 0:
        columns = {name: [] for name in [
            "id", "device_id", "timestamp", "latitude", "longitude", "speed", "direction", "make", "model", "year",
            "fuel_type", "_partition", "_offset"]}
        appends = {name: column.append for name, column in columns.items()}
        taken = 0
        while taken < min(BATCH, left):
            for message in consumer.consume(10_000, timeout=1.0):
                if message.error():
                    continue
                value = orjson.loads(message.value())
                for name in ["id", "device_id", "speed", "direction", "make", "model", "year", "fuel_type"]:
                    appends[name](value[name])
                appends["timestamp"](datetime.fromisoformat(value["timestamp"]).replace(tzinfo=timezone.utc))
                appends["latitude"](value["location"][0])
                appends["longitude"](value["location"][1])
                appends["_partition"](message.partition())
                appends["_offset"](message.offset())
                taken += 1
        left -= taken
        table = pa.table(columns)
        date = table.column("timestamp").cast(pa.date32())
        write_deltalake(path, table.append_column("event_date", date), mode="append", partition_by=["event_date"])
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
