"""Python's clients with SASL and TLS. What to connect with is JSON in the first argument: bootstrap, security ("sasl",
"tls", "sasl+tls"), ca, certificate, key. The second names the case; the broker knows alice, whose password is wonder.
"""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

ARGS = json.loads(sys.argv[1])
BOOTSTRAP, SASL, TLS = ARGS["bootstrap"], "sasl" in ARGS["security"], "tls" in ARGS["security"]
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
PROTOCOL = {(False, True): "SSL", (True, False): "SASL_PLAINTEXT", (True, True): "SASL_SSL"}[SASL, TLS]


def confluent(mechanism="PLAIN", user="alice", password="wonder", protocol=PROTOCOL, **more):
    settings = {"bootstrap.servers": BOOTSTRAP, "security.protocol": protocol, "socket.timeout.ms": 10000}
    if SASL:
        settings |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
    if TLS:
        settings |= {"ssl.ca.location": ARGS["ca"]}
        if "certificate" in ARGS:
            settings |= {"ssl.certificate.location": ARGS["certificate"], "ssl.key.location": ARGS["key"]}
    return settings | more


def round_trip(settings, count=500):
    topic = f"auth-{uuid.uuid4().hex[:8]}"
    producer = Producer(settings)
    for i in range(count):
        producer.produce(topic, str(i).encode() * 100)
    assert producer.flush(20) == 0
    consumer = Consumer(settings | {"group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got, deadline = [], time.time() + 20
    while len(got) < count and time.time() < deadline:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            got.append(message.value())
    consumer.close()
    assert sorted(got) == sorted(str(i).encode() * 100 for i in range(count)), len(got)


def first_error(settings, seconds=10):
    """What the client says when it cannot connect; None when it can."""
    errors = []
    client = AdminClient(settings | {"error_cb": errors.append, "log_level": 2})
    deadline = time.time() + seconds
    while time.time() < deadline:
        try:
            client.list_topics(timeout=0.5)
            return None
        except KafkaException:
            client.poll(0)
        for error in errors:
            if error.code() != KafkaError._ALL_BROKERS_DOWN:
                return error
    raise AssertionError("neither let in nor refused")


def confluent_is_let_in():
    for mechanism in MECHANISMS if SASL else ("",):
        round_trip(confluent(mechanism))


def kafka_python_is_let_in():
    from kafka import KafkaConsumer, KafkaProducer
    for mechanism in MECHANISMS if SASL else ("",):
        settings = {"bootstrap_servers": BOOTSTRAP, "security_protocol": PROTOCOL}
        if SASL:
            settings |= {"sasl_mechanism": mechanism, "sasl_plain_username": "alice", "sasl_plain_password": "wonder"}
        if TLS:
            settings |= {"ssl_cafile": ARGS["ca"]}
            if "certificate" in ARGS:
                settings |= {"ssl_certfile": ARGS["certificate"], "ssl_keyfile": ARGS["key"]}
        topic = f"auth-{uuid.uuid4().hex[:8]}"
        producer = KafkaProducer(acks="all", **settings)
        for i in range(200):
            producer.send(topic, str(i).encode())
        producer.flush(20)
        producer.close()
        consumer = KafkaConsumer(topic, auto_offset_reset="earliest", consumer_timeout_ms=10000, **settings)
        got = []
        for message in consumer:
            got.append(message.value)
            if len(got) == 200:
                break
        assert len(got) == 200, len(got)
        consumer.close()


def the_wrong_are_refused():
    for mechanism in MECHANISMS:
        for user, password in (("alice", "wrong"), ("nobody", "wonder")):
            error = first_error(confluent(mechanism, user, password))
            assert error is not None and error.code() == KafkaError._AUTHENTICATION, (mechanism, user, error)
            assert password not in error.str()
    assert first_error(confluent()) is None


def a_mechanism_that_is_off_is_refused():
    # The broker of this case takes SCRAM-SHA-512 alone.
    for mechanism in MECHANISMS[:2]:
        error = first_error(confluent(mechanism))
        assert error.code() in (KafkaError._AUTHENTICATION, KafkaError.UNSUPPORTED_SASL_MECHANISM), error
        assert "SCRAM-SHA-512" in error.str(), error
    assert first_error(confluent(MECHANISMS[2])) is None


def sessions_are_renewed():
    # The broker of this case wants proof every two seconds.
    for mechanism in MECHANISMS:
        errors = []
        producer = Producer(confluent(mechanism, error_cb=errors.append))
        topic, failed = f"auth-{uuid.uuid4().hex[:8]}", []
        until = time.time() + 5
        while time.time() < until:
            producer.produce(topic, b"x", on_delivery=lambda error, _: error and failed.append(error))
            producer.poll(0.05)
        assert producer.flush(20) == 0
        assert not failed and not errors, (failed[:3], errors)


def without_a_good_certificate_there_is_no_way():
    def refused(settings):
        error = first_error(settings)
        assert error is not None and error.code() in (KafkaError._SSL, KafkaError._TRANSPORT, KafkaError._RESOLVE), error

    bare = confluent()
    del bare["ssl.certificate.location"], bare["ssl.key.location"]
    refused(bare)
    stranger = confluent()
    stranger |= {"ssl.certificate.location": ARGS["other_certificate"], "ssl.key.location": ARGS["other_key"]}
    refused(stranger)
    assert first_error(confluent()) is None


def plain_text_does_not_pass():
    settings = confluent(protocol="SASL_PLAINTEXT" if SASL else "PLAINTEXT")
    for key in list(settings):
        if key.startswith("ssl."):
            del settings[key]
    try:
        AdminClient(settings).list_topics(timeout=3)
        raise AssertionError("plain text was answered")
    except KafkaException:
        pass
    untrusting = confluent()
    del untrusting["ssl.ca.location"]
    error = first_error(untrusting)
    # Which of the two it says depends on how far the connection was when it was told.
    assert error is not None and error.code() in (KafkaError._SSL, KafkaError._TRANSPORT), error
    assert "certificate verify failed" in error.str(), error


if __name__ == "__main__":
    for case in sys.argv[2:]:
        started = time.time()
        globals()[case]()
        print(f"ok {case} {time.time() - started:.1f}s", flush=True)
