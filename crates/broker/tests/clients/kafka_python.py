"""kafka-python, which has its own implementation of the protocol. Arguments: bootstrap address, then names of tests, or
none for all."""

import sys
import threading
import time
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

BOOTSTRAP = sys.argv[1]
RUN = uuid.uuid4().hex[:8]


def create(name, partitions):
    topic = f"{name}-{RUN}"
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    admin.create_topics([NewTopic(topic, partitions, 1)])
    admin.close()
    probe = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    eventually(lambda: probe.partitions_for_topic(topic) or set(), lambda found: len(found) == partitions)
    probe.close()
    return topic


def eventually(ask, right, seconds=15):
    deadline = time.time() + seconds
    while True:
        answer = ask()
        if right(answer):
            return answer
        assert time.time() < deadline, f"waited for too long, the last answer is {answer}"
        time.sleep(0.05)


def every_codec_with_headers_and_nulls():
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        topic = create(f"py-{codec}", 2)
        producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", linger_ms=10, compression_type=codec)
        sent = []
        for i in range(1000):
            value = None if i % 7 == 0 else f"value {i}".encode() * (1 + i % 20)
            key = None if value and i % 5 == 0 else f"k{i % 30}".encode()
            headers = [("a", b"1"), ("a", b"2")] if i % 3 == 0 else []
            sent.append((producer.send(topic, value, key, headers, timestamp_ms=1_600_000_000_000 + i), value, key, headers, i))
        producer.flush(30)
        producer.close()
        expected = sorted((f.get(10).partition, f.get(10).offset, key, value, headers, 1_600_000_000_000 + i)
                          for f, value, key, headers, i in sent)
        consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", consumer_timeout_ms=15000)
        places = [TopicPartition(topic, p) for p in (0, 1)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        got = []
        for m in consumer:
            got.append((m.partition, m.offset, m.key, m.value, list(m.headers), m.timestamp))
            if len(got) == 1000:
                break
        assert sorted(got, key=lambda m: m[:2]) == sorted(expected, key=lambda m: m[:2]), codec
        for i in (0, 1, 500, 999):
            time_ms = 1_600_000_000_000 + i
            for place, found in consumer.offsets_for_times({place: time_ms for place in places}).items():
                want = min((m[1] for m in expected if m[0] == place.partition and m[5] >= time_ms), default=None)
                assert (found and found.offset) == want, (codec, i, place, found, want)
        # From the middle of a batch.
        consumer.assign([places[0]])
        consumer.seek(places[0], 7)
        assert next(consumer).offset == 7
        consumer.close()


def groups_share_and_commit():
    topic = create("py-group", 4)
    group = f"py-group-{RUN}"
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all")
    seen, lock, stop, leave = {}, threading.Lock(), threading.Event(), threading.Event()

    def member(until):
        consumer = KafkaConsumer(topic, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest",
                                 enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=300)
        while not stop.is_set() and not until.is_set():
            # Long enough for a whole rebalance: kafka-python 3.0.12 may forget a join that a poll's time-out interrupts
            # (one begun for changed metadata is not awaited again), and then stays without partitions. So it does with
            # Apache Kafka.
            for place, records in consumer.poll(5_000).items():
                consumer.commit({place: OffsetAndMetadata(records[-1].offset + 1, "from python", -1)})
                with lock:
                    for record in records:
                        seen[record.value] = seen.get(record.value, 0) + 1
        consumer.close()

    threads = [threading.Thread(target=member, args=(until,), daemon=True) for until in (stop, leave)]
    for thread in threads:
        thread.start()
    for i in range(1000):
        producer.send(topic, str(i).encode(), str(i).encode())
        if i == 500:
            producer.flush(10)
            time.sleep(2)
            leave.set()
    producer.flush(10)
    eventually(lambda: len(seen), lambda count: count == 1000, 30)
    stop.set()
    for thread in threads:
        thread.join(20)
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    offsets = admin.list_group_offsets(group)[group]
    total = sum(o.offset for o in offsets.values())
    assert total == 1000 and all(o.metadata == "from python" for o in offsets.values() if o.offset > 0), offsets
    admin.close()
    producer.close()


def administration():
    topic = create("py-admin", 1)
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    try:
        admin.create_topics([NewTopic(topic, 1, 1)])
        raise AssertionError("made twice")
    except TopicAlreadyExistsError:
        pass
    assert topic in admin.list_topics()
    [described] = admin.describe_topics([topic])
    assert len(described["partitions"]) == 1, described
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
    for _ in range(5):
        producer.send(topic, b"v", partition=0)
    producer.flush(10)
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    place = TopicPartition(topic, 0)
    assert consumer.end_offsets([place])[place] == 5 and consumer.beginning_offsets([place])[place] == 0
    consumer.close()
    producer.close()
    admin.delete_topics([topic])
    eventually(admin.list_topics, lambda topics: topic not in topics)
    admin.close()


def transactions():
    topic = create("py-txn", 1)
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=f"py-{RUN}")
    producer.init_transactions()
    for n, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        for i in range(10):
            producer.send(topic, f"{n}-{i}".encode(), partition=0)
        end()
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, isolation_level="read_committed", consumer_timeout_ms=10000)
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek_to_beginning()
    got = []
    for message in consumer:
        got.append(message.value.decode())
        if len(got) == 20:
            break
    assert got == [f"{n}-{i}" for n in (0, 2) for i in range(10)], got
    consumer.close()


TESTS = [every_codec_with_headers_and_nulls, groups_share_and_commit, administration, transactions]

if __name__ == "__main__":
    chosen = sys.argv[2:]
    for test in TESTS:
        if not chosen or test.__name__ in chosen:
            started = time.time()
            test()
            print(f"ok {test.__name__} {time.time() - started:.1f}s", flush=True)
