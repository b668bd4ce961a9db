"""The fastest hand-made loop that we know of: confluent-kafka, then pyarrow.json over the joined bytes, deltalake.

It keeps no offsets in the rows, and one bad record fails the whole batch.

    loop_arrow.py BOOTSTRAP_SERVERS TOPIC RECORDS TABLE_PATH GROUP
"""

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from confluent_kafka import Consumer
from deltalake import write_deltalake

BATCH = 500_000


def main(bootstrap_servers, topic, records, path, group):
    pa.set_cpu_count(1)
    consumer = Consumer({
        "bootstrap.servers": bootstrap_servers, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "queued.min.messages": 1_000_000, "queued.max.messages.kbytes": 65536,
        "fetch.message.max.bytes": 4_194_304,
    })
    consumer.subscribe([topic])
    left = int(records)
    while left > 0:
        values = []
        while len(values) < min(BATCH, left):
            for message in consumer.consume(10_000, timeout=1.0):
                if not message.error():
                    values.append(message.value())
        left -= len(values)
        read = pj.ReadOptions(block_size=16 << 20, use_threads=False)
        table = pj.read_json(pa.BufferReader(b"\n".join(values)), read_options=read)
        time = pc.cast(table.column("timestamp"), pa.timestamp("us", tz="UTC"))
        location = table.column("location")
        table = table.set_column(table.column_names.index("timestamp"), "timestamp", time)
        table = table.append_column("latitude", pc.list_element(location, 0))
        table = table.append_column("longitude", pc.list_element(location, 1))
        table = table.append_column("event_date", pc.cast(time, pa.date32())).drop_columns(["location"])
        write_deltalake(path, table, mode="append", partition_by=["event_date"])
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
