"""Sends messages in the original's shapes to Kafka, one in a hundred of them broken, and prints what was sent.

    feed.py BOOTSTRAP_SERVERS MESSAGES_PER_TOPIC SEED

Prints JSON: {"topics": {topic: {"good": n, "ids_sum": text, "bad": [[partition, offset, kind, value as hex or null]]}}}.
"""

import json
import random
import sys
import uuid
from datetime import datetime, timedelta

from confluent_kafka import Producer

TOPICS = ["vehicle_data", "gps_data", "traffic_data", "weather_data", "emergency_data"]


def message(topic, rng, number):
    time = (datetime(2026, 1, 1) + timedelta(seconds=number)).isoformat()
    base = {
        "id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "device_id": f"Vehicle-{number % 50}",
        "timestamp": time,
    }
    location = [rng.uniform(51.4, 52.6), rng.uniform(-1.9, 0.1)]
    if topic == "vehicle_data":
        return base | {
            "location": location, "speed": rng.uniform(10, 40), "direction": "North-East", "make": "BMW",
            "model": "C500", "year": 2024, "fuelType": "Hybrid",
        }
    if topic == "gps_data":
        return base | {"speed": rng.uniform(0, 40), "direction": "North-East", "vehicle_type": "private"}
    if topic == "traffic_data":
        return base | {"camera_id": "Nikon-Camera123", "location": location, "snapshot": "Base64EncodedString"}
    if topic == "weather_data":
        return base | {
            "location": location, "temperature": rng.uniform(-5, 26), "weatherCondition": rng.choice(["Sunny", "Rainy"]),
            "precipitation": rng.uniform(0, 25), "windSpeed": rng.uniform(0, 100), "humidity": rng.randint(0, 100),
            "airQualityIndex": rng.uniform(0, 500),
        }
    return base | {
        "incident_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)), "type": "Accident", "location": location,
        "status": rng.choice(["Active", "Resolved"]), "description": "Description of the incident",
    }


def broken(good, rng):
    """Each kind of broken message that we know of: the kind's name and its bytes."""
    text = json.dumps(good).encode()
    out_of_range = {"location": [91.0, 0.0]} if "location" in good else {"speed": -1.0}
    return [
        ("not_json", b"Vehicle-Adam0731 says hello"),
        ("cut_off", text[: rng.randrange(1, len(text))]),
        ("wrong_type", json.dumps(good | {"timestamp": 17}).encode()),
        ("wrong_type", json.dumps(good | {"device_id": ["x"]}).encode()),
        ("missing_id", json.dumps({name: value for name, value in good.items() if name != "id"}).encode()),
        ("latitude_91", json.dumps(good | out_of_range).encode()),
        ("empty", b""),
        ("null_value", None),
        ("junk", rng.randbytes(1_000_000 - 1000)),
        ("invalid_utf8", text.replace(b"Vehicle-", b"Vehicle\xff")),
        ("deep", b'{"id":' + b"[" * 10_000 + b"]" * 10_000 + b"}"),
    ]


def main(bootstrap_servers, count, seed):
    rng = random.Random(int(seed))
    sent = {topic: {"good": 0, "bad": []} for topic in TOPICS}
    failed = []

    def delivered(topic, kind, value):
        def on_delivery(error, record):
            if error:
                failed.append(str(error))
            elif kind is None:
                sent[topic]["good"] += 1
            else:
                raw = None if value is None else value.hex()
                sent[topic]["bad"].append([record.partition(), record.offset(), kind, raw])
        return on_delivery

    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20, "message.max.bytes": 2_000_000})
    for number in range(int(count)):
        for topic in TOPICS:
            good = message(topic, rng, number)
            kind, value = None, json.dumps(good).encode()
            if number % 100 == 37:
                kinds = broken(good, rng)
                kind, value = kinds[(number // 100) % len(kinds)]
            while True:
                try:
                    producer.produce(topic, value, good["device_id"], on_delivery=delivered(topic, kind, value),
                                     headers=[("trace", b"\x00\x01")] if kind else None)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    producer.flush()
    if failed:
        sys.exit(f"{len(failed)} messages were not delivered: {failed[0]}")
    print(json.dumps({"topics": sent}))


if __name__ == "__main__":
    main(*sys.argv[1:])
