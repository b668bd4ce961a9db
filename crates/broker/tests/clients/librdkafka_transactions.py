"""librdkafka's transactions. Arguments as for librdkafka.py; with `copy-member` as the second argument it is one member of
the copy that `copy_exactly_once` kills."""

import os
import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import librdkafka
from librdkafka import BOOTSTRAP, create, eventually, produce, topic_name


def transactional(name, **settings):
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name, "linger.ms": 1, **settings})
    producer.init_transactions(20)
    return producer


def read(topic, isolation, seconds=10):
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"r-{topic}-{time.time()}",
                         "enable.auto.commit": False, "isolation.level": isolation, "enable.partition.eof": True})
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    waiting, values, deadline = set(partitions), [], time.time() + seconds
    while waiting and time.time() < deadline:
        for message in consumer.consume(1000, 0.2):
            if message.error():
                waiting.discard(message.partition())
            else:
                values.append(message.value().decode())
    consumer.close()
    return values


def committed_and_aborted():
    topic = topic_name("txn")
    create(topic, 3)
    producer = transactional(f"t-{topic}")
    for n in range(6):
        producer.begin_transaction()
        for i in range(20):
            producer.produce(topic, f"{n}-{i}", str(i))
        producer.flush(10)
        if n % 3 == 2:
            producer.abort_transaction(20)
        else:
            producer.commit_transaction(20)
    expected = sorted(f"{n}-{i}" for n in (0, 1, 3, 4) for i in range(20))
    eventually(lambda: sorted(read(topic, "read_committed")), lambda values: values == expected)
    assert len(read(topic, "read_uncommitted")) == 120


def an_open_transaction_holds_readers_back():
    topic = topic_name("open")
    create(topic, 1)
    producer = transactional(f"t-{topic}")
    producer.begin_transaction()
    producer.produce(topic, "in")
    producer.flush(10)
    produce(topic, [(None, b"after")])
    assert read(topic, "read_committed", 3) == []
    assert read(topic, "read_uncommitted") == ["in", "after"]
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "w", "isolation.level": "read_committed"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 0)
    producer.commit_transaction(20)
    eventually(lambda: consumer.get_watermark_offsets(TopicPartition(topic, 0), 10), lambda marks: marks == (0, 3))
    consumer.close()
    eventually(lambda: read(topic, "read_committed"), lambda values: values == ["in", "after"])


def a_second_instance_fences_the_first():
    topic = topic_name("fence")
    create(topic, 1)
    first = transactional(f"t-{topic}")
    first.begin_transaction()
    first.produce(topic, "zombie")
    first.flush(10)
    second = transactional(f"t-{topic}")
    second.begin_transaction()
    second.produce(topic, "alive")
    second.commit_transaction(20)
    try:
        first.produce(topic, "late")
        first.commit_transaction(20)
        raise AssertionError("the fenced producer committed")
    except KafkaException as error:
        assert error.args[0].fatal() or error.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED), error
    eventually(lambda: read(topic, "read_committed"), lambda values: values == ["alive"])


def a_transaction_times_out():
    topic = topic_name("timeout")
    create(topic, 1)
    producer = transactional(f"t-{topic}", **{"transaction.timeout.ms": 1500})
    producer.begin_transaction()
    producer.produce(topic, "lost")
    producer.flush(10)
    time.sleep(3)
    produce(topic, [(None, b"after")])
    eventually(lambda: read(topic, "read_committed"), lambda values: values == ["after"])
    try:
        producer.commit_transaction(20)
        raise AssertionError("a transaction that timed out was committed")
    except KafkaException:
        pass


def offsets_in_transactions():
    source, sink = topic_name("source"), topic_name("sink")
    create(source, 2)
    create(sink, 2)
    produce(source, [(str(i).encode(), str(i).encode()) for i in range(100)])
    group = f"g-{source}"
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False})
    consumer.subscribe([source])
    producer = transactional(f"t-{source}")
    messages = []
    while len(messages) < 100:
        messages += [m for m in consumer.consume(100, 0.5) if not m.error()]
    positions = consumer.position(consumer.assignment())
    for end in ("abort", "commit"):
        producer.begin_transaction()
        for message in messages:
            producer.produce(sink, message.value(), message.key())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 20)
        if end == "abort":
            producer.abort_transaction(20)
            eventually(lambda: [p.offset for p in consumer.committed(positions, 10)], lambda found: max(found) < 0)
        else:
            producer.commit_transaction(20)
    eventually(lambda: sum(p.offset for p in consumer.committed(positions, 10)), lambda total: total == 100)
    consumer.close()
    eventually(lambda: len(read(sink, "read_committed")), lambda count: count == 100)


def copy_member(source, sink, name):
    """One member of a group that copies a topic exactly once, until it is killed or its parent is gone."""
    group = f"g-{source}"
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000, "isolation.level": "read_committed"})
    producer = transactional(name, **{"transaction.timeout.ms": 10000})
    consumer.subscribe([source])
    parent = os.getppid()
    while os.getppid() == parent:
        messages = [m for m in consumer.consume(50, 0.2) if not m.error()]
        if not messages:
            continue
        producer.begin_transaction()
        try:
            for message in messages:
                producer.produce(sink, message.value(), message.key())
            positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 20)
            producer.commit_transaction(20)
        except KafkaException as error:
            if error.args[0].fatal():
                return
            producer.abort_transaction(20)
            for p in consumer.committed(consumer.assignment(), 10):
                consumer.seek(TopicPartition(p.topic, p.partition, max(p.offset, 0)))


def copy_exactly_once(kills=4, count=4000):
    """Members come and are killed; the copy equals the source."""
    source, sink = topic_name("copy-source"), topic_name("copy-sink")
    create(source, 4)
    create(sink, 4)
    produce(source, [(str(i).encode(), str(i).encode()) for i in range(count)])

    def start(name):
        return subprocess.Popen([sys.executable, __file__, BOOTSTRAP, "copy-member", source, sink, f"{sink}-{name}"])

    members = [start("a"), start("b")]
    try:
        for kill in range(kills):
            time.sleep(1.5)
            # SIGKILL: its transaction stays open, its membership lasts until the session time-out. The next one has
            # the same transactional id every other time, so that what is open is fenced rather than timed out.
            first = members.pop(0)
            first.kill()
            first.wait()
            members.append(start("ab"[kill % 2] if kill % 4 < 2 else f"c{kill}"))
        deadline = time.time() + 90
        while time.time() < deadline and len(read(sink, "read_committed")) < count:
            time.sleep(0.5)
    finally:
        for member in members:
            member.kill()
            member.wait()
    values = read(sink, "read_committed", 20)
    assert sorted(map(int, values)) == list(range(count)), (len(values), len(set(values)))


TESTS = [committed_and_aborted, an_open_transaction_holds_readers_back, a_second_instance_fences_the_first,
         a_transaction_times_out, offsets_in_transactions, copy_exactly_once]

if __name__ == "__main__":
    if sys.argv[2:3] == ["copy-member"]:
        copy_member(*sys.argv[3:])
    else:
        librdkafka.run(TESTS)
