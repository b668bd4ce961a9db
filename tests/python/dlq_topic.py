"""Prints what a dead-letter topic holds as JSON lines: key, value and headers of each record, read by librdkafka.

    dlq_topic.py BOOTSTRAP_SERVERS TOPIC
"""

import json
import sys

from confluent_kafka import Consumer, TopicPartition


def main(bootstrap_servers, topic):
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "dlq", "enable.auto.commit": False})
    partitions = [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions]
    left = sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)
    consumer.assign(partitions)
    while left:
        record = consumer.poll(30)
        if record is None or record.error():
            sys.exit(f"{left} records did not come: {record and record.error()}")
        left -= 1
        value = record.value()
        headers = record.headers()
        print(json.dumps({
            "key": record.key().decode(),
            "value": None if value is None else value.hex(),
            "headers": {name: text.decode() for name, text in headers},
        }))
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
