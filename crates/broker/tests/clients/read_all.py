"""Reads a whole topic and prints `partition offset value` for each record. Arguments: bootstrap address, topic,
isolation level."""

import sys

from confluent_kafka import Consumer, TopicPartition

bootstrap, topic, isolation = sys.argv[1:4]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "read-all", "enable.auto.commit": False,
                     "isolation.level": isolation, "enable.partition.eof": True})
partitions = consumer.list_topics(topic, 10).topics[topic].partitions
consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
open_partitions = set(partitions)
while open_partitions:
    for message in consumer.consume(5000, 1):
        if message.error():
            open_partitions.discard(message.partition())
        else:
            print(message.partition(), message.offset(), message.value().decode())
consumer.close()
