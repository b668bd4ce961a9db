"""librdkafka, by way of confluent-kafka, produces and consumes. Arguments: bootstrap address, then names of tests, or none
for all."""

import sys
import time
import uuid

from confluent_kafka import Consumer, Producer, TopicPartition, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

BOOTSTRAP = sys.argv[1]
RUN = uuid.uuid4().hex[:8]


ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def topic_name(name):
    return f"{name}-{RUN}"


def create(topic, partitions=4, config=None):
    ADMIN.create_topics([NewTopic(topic, partitions, 1, config=config or {})])[topic].result(10)
    for _ in range(50):
        if topic in ADMIN.list_topics(timeout=10).topics:
            return
        time.sleep(0.1)


def produce(topic, values, **settings):
    acknowledged = []

    def delivered(error, message):
        assert error is None, error
        acknowledged.append((message.partition(), message.offset(), message.value()))

    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, **settings})
    for key, value in values:
        while True:
            try:
                producer.produce(topic, value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(30) == 0
    return acknowledged


def consume(topics, count, group, seconds=30, **settings):
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, **settings,
    })
    consumer.subscribe(topics)
    messages, deadline = [], time.time() + seconds
    while len(messages) < count and time.time() < deadline:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            messages.append(message)
    consumer.commit(asynchronous=False)
    consumer.close()
    return messages


def round_trip_every_codec():
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        for idempotent in (False, True):
            topic = topic_name(f"codec-{codec}-{idempotent}")
            create(topic)
            values = [(f"k{i % 50}".encode(), f"value {i} {'x' * (i % 100)}".encode()) for i in range(5000)]
            acknowledged = produce(topic, values, **{"compression.type": codec, "enable.idempotence": idempotent})
            assert len(acknowledged) == 5000
            messages = consume([topic], 5000, f"g-{topic}")
            got = sorted((m.partition(), m.offset(), m.value()) for m in messages)
            assert got == sorted(acknowledged), (codec, len(got))


def headers_nulls_and_tombstones():
    topic = topic_name("headers")
    create(topic, 1)
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    producer.produce(topic, None, b"k", headers=[("a", b"1"), ("a", b"2"), ("n", None), ("é", b"")])
    producer.produce(topic, b"v", None)
    producer.produce(topic, b"", b"")
    assert producer.flush(10) == 0
    first, second, third = consume([topic], 3, f"g-{topic}")
    assert (first.key(), first.value()) == (b"k", None)
    assert first.headers() == [("a", b"1"), ("a", b"2"), ("n", None), ("é", b"")]
    assert (second.key(), second.value(), second.headers()) == (None, b"v", None)
    assert (third.key(), third.value()) == (b"", b"")


def committed_offsets_and_the_middle_of_a_batch():
    topic = topic_name("middle")
    create(topic, 1)
    produce(topic, [(None, str(i).encode()) for i in range(1000)], **{"linger.ms": 500})
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"g-{topic}", "enable.auto.commit": False})
    for start in (0, 1, 499, 999):
        consumer.assign([TopicPartition(topic, 0, start)])
        message = consumer.poll(10)
        assert message is not None and message.offset() == start and message.value() == str(start).encode()
    consumer.commit(offsets=[TopicPartition(topic, 0, 123, metadata="here")], asynchronous=False)
    consumer.close()
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"g-{topic}", "enable.auto.commit": False})
    consumer.subscribe([topic])
    message = None
    while message is None:
        message = consumer.poll(1)
    assert message.offset() == 123, message.offset()
    [committed] = consumer.committed([TopicPartition(topic, 0)], 10)
    assert (committed.offset, committed.metadata) == (123, "here")
    consumer.close()


def offsets_by_timestamp():
    for codec in ("none", "zstd", "gzip", "lz4", "snappy"):
        topic = topic_name(f"times-{codec}")
        create(topic, 1)
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 50, "compression.type": codec})
        for i in range(2000):
            producer.produce(topic, b"x" * 50, timestamp=1_000_000 + 10 * i)
            if i % 300 == 0:
                producer.flush(10)
        assert producer.flush(10) == 0
        consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"g-{topic}"})
        for time_ms, offset in ((0, 0), (1_000_000, 0), (1_000_001, 1), (1_004_990, 499), (1_004_991, 500),
                                (1_019_990, 1999), (1_019_991, -1)):
            [found] = consumer.offsets_for_times([TopicPartition(topic, 0, time_ms)], 10)
            assert found.error is None and found.offset == offset, (codec, time_ms, found.offset, offset)
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 2000)
        consumer.close()


def groups_rebalance():
    topic = topic_name("rebalance")
    create(topic, 4)
    settings = {"bootstrap.servers": BOOTSTRAP, "group.id": f"g-{topic}", "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500, "auto.offset.reset": "earliest"}
    for strategy in ("range", "cooperative-sticky"):
        config = {**settings, "group.id": f"g-{topic}-{strategy}", "partition.assignment.strategy": strategy}
        first, second = Consumer(config), Consumer(config)
        first.subscribe([topic])
        wait(lambda: len(first.assignment()) == 4, first)
        second.subscribe([topic])
        wait(lambda: len(first.assignment()) == 2 and len(second.assignment()) == 2, first, second)
        first.close()
        wait(lambda: len(second.assignment()) == 4, second)
        second.close()


def eventually(ask, right, seconds=15):
    """Asks until the answer is right: a cluster's nodes hear of a change one after another."""
    deadline = time.time() + seconds
    while True:
        answer = ask()
        if right(answer):
            return answer
        assert time.time() < deadline, f"waited for too long, the last answer is {answer}"
        time.sleep(0.05)


def wait(done, *consumers, seconds=30):
    deadline = time.time() + seconds
    while not done():
        assert time.time() < deadline, "waited for too long"
        for consumer in consumers:
            consumer.poll(0.1)


def refused_requests():
    for name, partitions, replication in (("bad name!", 1, 1), (topic_name("r"), 1, 3), (topic_name("p"), 0, 1)):
        try:
            ADMIN.create_topics([NewTopic(name, partitions, replication)])[name].result(10)
            raise AssertionError(f"{name} was created")
        except KafkaException:
            pass
    topic = topic_name("large")
    create(topic, 1, {"max.message.bytes": "1000"})
    errors = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP})
    producer.produce(topic, b"x" * 5000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(10)
    assert errors[0] is not None and errors[0].name() == "MSG_SIZE_TOO_LARGE", errors


TESTS = [round_trip_every_codec, headers_nulls_and_tombstones, committed_offsets_and_the_middle_of_a_batch,
         offsets_by_timestamp, groups_rebalance, refused_requests]


def run(tests):
    """Runs the tests named on the command line, or all."""
    chosen = sys.argv[2:]
    for test in tests:
        if not chosen or test.__name__ in chosen:
            started = time.time()
            test()
            print(f"ok {test.__name__} {time.time() - started:.1f}s", flush=True)


if __name__ == "__main__":
    run(TESTS)
