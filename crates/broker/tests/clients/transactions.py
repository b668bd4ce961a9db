"""Transactions through librdkafka against any broker: bootstrap address as the first argument, test names after it."""

import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import smoke
from smoke import BOOTSTRAP, create, produce, topic_name


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
    assert sorted(read(topic, "read_committed")) == expected
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
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 3)
    consumer.close()
    assert read(topic, "read_committed") == ["in", "after"]


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
    assert read(topic, "read_committed") == ["alive"]


def a_transaction_times_out():
    topic = topic_name("timeout")
    create(topic, 1)
    producer = transactional(f"t-{topic}", **{"transaction.timeout.ms": 1500})
    producer.begin_transaction()
    producer.produce(topic, "lost")
    producer.flush(10)
    time.sleep(3)
    produce(topic, [(None, b"after")])
    assert read(topic, "read_committed") == ["after"]
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
            assert all(p.offset < 0 for p in consumer.committed(positions, 10))
        else:
            producer.commit_transaction(20)
    assert sum(p.offset for p in consumer.committed(positions, 10)) == 100
    consumer.close()
    assert len(read(sink, "read_committed")) == 100


def copy_exactly_once(rounds=3, count=3000):
    """Members come, go and are dropped without goodbye; the copy equals the source."""
    source, sink = topic_name("copy-source"), topic_name("copy-sink")
    create(source, 4)
    create(sink, 4)
    produce(source, [(str(i).encode(), str(i).encode()) for i in range(count)])
    group, stop, done = f"g-{source}", threading.Event(), threading.Event()

    def member(number, crash_after):
        consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                             "enable.auto.commit": False, "session.timeout.ms": 6000,
                             "isolation.level": "read_committed"})
        producer = transactional(f"{group}-{number}")
        consumer.subscribe([source])
        copied = 0
        while not stop.is_set():
            messages = [m for m in consumer.consume(50, 0.2) if not m.error()]
            if not messages:
                continue
            producer.begin_transaction()
            try:
                for message in messages:
                    producer.produce(sink, message.value(), message.key())
                positions = [p for p in consumer.position(consumer.assignment()) if p.offset >= 0]
                producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 20)
                copied += len(messages)
                if crash_after and copied > crash_after:
                    producer.flush(5)
                    break
                producer.commit_transaction(20)
            except KafkaException as error:
                if error.args[0].fatal():
                    break
                producer.abort_transaction(20)
                committed = consumer.committed(consumer.assignment(), 10)
                for p in committed:
                    consumer.seek(TopicPartition(p.topic, p.partition, max(p.offset, 0)))
        consumer.close()

    threads = []
    for number in range(rounds):
        for crash in (300, 0):
            thread = threading.Thread(target=member, args=(number, crash), daemon=True)
            thread.start()
            threads.append(thread)
            time.sleep(1.0)
    deadline = time.time() + 60
    while time.time() < deadline and len(read(sink, "read_committed")) < count:
        time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(20)
    values = read(sink, "read_committed", 20)
    assert sorted(map(int, values)) == list(range(count)), (len(values), len(set(values)))


TESTS = [committed_and_aborted, an_open_transaction_holds_readers_back, a_second_instance_fences_the_first,
         a_transaction_times_out, offsets_in_transactions, copy_exactly_once]

if __name__ == "__main__":
    smoke.run(TESTS)
