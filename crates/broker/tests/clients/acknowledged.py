"""Produces until the broker goes away; prints every acknowledged record as `partition offset value`, then what
was still unknown. Arguments: bootstrap address, topic, `idempotent` or `plain`, first number."""

import sys
import time

from confluent_kafka import Producer

bootstrap, topic, kind, first = sys.argv[1:5]
out = sys.stdout


def delivered(error, message):
    if error is None:
        out.write(f"{message.partition()} {message.offset()} {message.value().decode()}\n")


producer = Producer({
    "bootstrap.servers": bootstrap, "enable.idempotence": kind == "idempotent", "acks": "all", "linger.ms": 1,
    "message.timeout.ms": 60000, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "retry.backoff.ms": 10,
})
number = int(first)
deadline = time.time() + float(sys.argv[5])
while time.time() < deadline:
    # Few enough in flight that every kill meets records of its own.
    if len(producer) < 2000:
        producer.produce(topic, str(number), str(number % 97), on_delivery=delivered)
        number += 1
    producer.poll(0 if len(producer) < 2000 else 0.002)
producer.flush(60)
print(f"sent {first} {number}")
