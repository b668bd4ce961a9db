"""librdkafka administers. Arguments as for librdkafka.py."""

import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions,
                                   NewTopic, OffsetSpec, ResourceType)

import librdkafka
from librdkafka import BOOTSTRAP, consume, create, eventually, produce, topic_name


ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def admin():
    # One for all: a client that goes out of scope takes its futures with it.
    return ADMIN


def refused(future, name):
    try:
        future.result(10)
    except KafkaException as error:
        assert error.args[0].name() == name, error
        return
    raise AssertionError(f"{name} was expected")


def topics_come_grow_and_go():
    topic = topic_name("life")
    create(topic, 2)
    refused(admin().create_topics([NewTopic(topic, 1, 1)])[topic], "TOPIC_ALREADY_EXISTS")
    produce(topic, [(None, b"x")] * 10)
    admin().create_partitions([NewPartitions(topic, 5)])[topic].result(10)
    eventually(lambda: len(admin().list_topics(topic, 10).topics[topic].partitions), lambda count: count == 5)
    refused(admin().create_partitions([NewPartitions(topic, 3)])[topic], "INVALID_PARTITIONS")
    admin().delete_topics([topic])[topic].result(10)
    eventually(lambda: admin().list_topics(timeout=10).topics, lambda topics: topic not in topics)
    refused(admin().delete_topics([topic])[topic], "UNKNOWN_TOPIC_OR_PART")
    create(topic, 1)
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "x"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 0)
    consumer.close()


def settings_of_topics():
    topic = topic_name("settings")
    create(topic, 1, {"retention.ms": "12345"})
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def value(name):
        return admin().describe_configs([resource])[resource].result(10)[name]

    eventually(lambda: value("retention.ms"), lambda found: found.value == "12345" and not found.is_default)
    assert value("cleanup.policy").value == "delete" and value("cleanup.policy").is_default
    change = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)])
    admin().incremental_alter_configs([change])[change].result(10)
    eventually(lambda: value("message.timestamp.type").value, lambda kind: kind == "LogAppendTime")
    assert value("retention.ms").is_default
    wrong = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
        ConfigEntry("segment.bytes", "lots", incremental_operation=AlterConfigOpType.SET)])
    refused(admin().incremental_alter_configs([wrong])[wrong], "INVALID_CONFIG")
    before = int(time.time() * 1000)
    produce(topic, [(None, b"x")])
    [message] = consume([topic], 1, f"g-{topic}")
    kind, timestamp = message.timestamp()
    assert kind == 2 and before - 5000 <= timestamp <= before + 60000, (kind, timestamp, before)
    broker = ConfigResource(ResourceType.BROKER, "1")
    assert "num.partitions" in admin().describe_configs([broker])[broker].result(10)


def records_are_deleted():
    topic = topic_name("delete")
    create(topic, 1)
    produce(topic, [(None, str(i).encode()) for i in range(100)])
    results = admin().delete_records([TopicPartition(topic, 0, 40)])
    assert [future.result(10).low_watermark for future in results.values()] == [40]
    messages = consume([topic], 60, f"g-{topic}")
    assert [m.offset() for m in messages] == list(range(40, 100))
    spec = {TopicPartition(topic, 0): OffsetSpec.earliest()}
    assert [future.result(10).offset for future in admin().list_offsets(spec).values()] == [40]
    spec = {TopicPartition(topic, 0): OffsetSpec.latest()}
    assert [future.result(10).offset for future in admin().list_offsets(spec).values()] == [100]


def groups_are_seen():
    topic, group = topic_name("seen"), topic_name("seen-group")
    create(topic, 2)
    produce(topic, [(str(i).encode(), b"x") for i in range(50)])
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "client.id": "watcher"})
    consumer.subscribe([topic])
    librdkafka.wait(lambda: len(consumer.assignment()) == 2, consumer)
    listed = {g.group_id: g for g in admin().list_consumer_groups().result(10).valid}
    assert listed[group].state.name == "STABLE", listed[group].state
    described = admin().describe_consumer_groups([group])[group].result(10)
    [member] = described.members
    assert member.client_id == "watcher" and len(member.assignment.topic_partitions) == 2
    refused(admin().delete_consumer_groups([group])[group], "NON_EMPTY_GROUP")
    consumer.commit(offsets=[TopicPartition(topic, 0, 7), TopicPartition(topic, 1, 8)], asynchronous=False)
    consumer.close()
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])
    admin().alter_consumer_group_offsets([wanted])[group].result(10)
    offsets = admin().list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(10)
    found = sorted((p.partition, p.offset) for p in offsets.topic_partitions)
    assert found == [(0, 3), (1, 8)], found
    admin().delete_consumer_groups([group])[group].result(10)
    assert group not in {g.group_id for g in admin().list_consumer_groups().result(10).valid}
    cluster = admin().describe_cluster().result(10)
    assert len(cluster.nodes) == 1 and cluster.cluster_id


def static_members():
    topic, group = topic_name("static"), topic_name("static-group")
    create(topic, 2)
    settings = {"bootstrap.servers": BOOTSTRAP, "group.id": group, "group.instance.id": "one"}
    for _ in range(2):
        consumer = Consumer(settings)
        consumer.subscribe([topic])
        librdkafka.wait(lambda: len(consumer.assignment()) == 2, consumer)
        consumer.close()


TESTS = [topics_come_grow_and_go, settings_of_topics, records_are_deleted, groups_are_seen,
         static_members]

if __name__ == "__main__":
    librdkafka.run(TESTS)
