"""The classic run as the real CPython draws it: the oracle for crates/sim.

    classic.py print SEED START        the run, one {"topic":..,"key":..,"value":{..}} line per message
    classic.py runs START SEED...      the runs of many seeds, each after a line {"seed":..,"steps":..}
    classic.py draws SEED...           raw draws of each seed, one line per seed; 0x.. for large ones

The golden file is made by: classic.py print 7 2026-01-01T00:00:00 > golden/classic-7.ndjson
It knows nothing of the Rust code, and follows the tutorial rather than it: the sensors are drawn before the arrival
is looked at.
"""

import json
import random
import sys
import uuid
from datetime import datetime, timedelta

START = {"latitude": 51.5074, "longitude": -0.1278}
END = {"latitude": 52.4862, "longitude": -1.8904}
LATITUDE_INCREMENT = (END["latitude"] - START["latitude"]) / 100
LONGITUDE_INCREMENT = (END["longitude"] - START["longitude"]) / 100
DEVICE_ID = "Vehicle-Adam0731"


def steps(seed, start):
    rng = random.Random(seed)
    ids = random.Random(seed + 2**64)
    position = dict(START)
    time = start

    def next_id():
        return str(uuid.UUID(int=ids.getrandbits(128), version=4))

    while True:
        position["latitude"] += LATITUDE_INCREMENT
        position["longitude"] += LONGITUDE_INCREMENT
        position["latitude"] += rng.uniform(-0.0005, 0.0005)
        position["longitude"] += rng.uniform(-0.0005, 0.0005)
        location = (position["latitude"], position["longitude"])
        time += timedelta(seconds=rng.randint(30, 60))
        timestamp = time.isoformat()

        vehicle = {
            "id": next_id(),
            "device_id": DEVICE_ID,
            "timestamp": timestamp,
            "location": location,
            "speed": rng.uniform(10, 40),
            "direction": "North-East",
            "make": "BMW",
            "model": "C500",
            "year": 2024,
            "fuel_type": "Hybrid",
        }
        gps = {
            "id": next_id(),
            "device_id": DEVICE_ID,
            "timestamp": timestamp,
            "speed": rng.uniform(0, 40),
            "direction": "North-East",
            "vehicle_type": "private",
        }
        traffic = {
            "id": next_id(),
            "device_id": DEVICE_ID,
            "camera_id": "Nikon-Camera123",
            "location": location,
            "timestamp": timestamp,
            "snapshot": "Base64EncodedString",
        }
        weather = {
            "id": next_id(),
            "device_id": DEVICE_ID,
            "location": location,
            "timestamp": timestamp,
            "temperature": rng.uniform(-5, 26),
            "weather_condition": rng.choice(["Sunny", "Cloudy", "Rainy", "Snowy"]),
            "precipitation": rng.uniform(0, 25),
            "wind_speed": rng.uniform(0, 100),
            "humidity": rng.randint(0, 100),
            "airQualityIndex": rng.uniform(0, 500),
        }
        emergency = {
            "id": next_id(),
            "device_id": DEVICE_ID,
            "incident_id": next_id(),
            "type": rng.choice(["Accident", "Fire", "Medical", "Police", "None"]),
            "timestamp": timestamp,
            "location": location,
            "status": rng.choice(["Active", "Resolved"]),
            "description": "Description of the incident",
        }

        if position["latitude"] >= END["latitude"] and position["longitude"] <= END["longitude"]:
            return
        yield {
            "vehicle_data": vehicle,
            "gps_data": gps,
            "traffic_data": traffic,
            "weather_data": weather,
            "emergency_data": emergency,
        }


def compact(value):
    return json.dumps(value, separators=(",", ":"))


def print_run(run):
    for step in run:
        for topic, value in step.items():
            print(compact({"topic": topic, "key": value["device_id"], "value": value}))


def draws(seed):
    """More than one turn of the generator's 624 words, of every kind of draw. Integers and floats as hexadecimal."""
    rng = random.Random(seed)
    drawn = []
    for k in range(1, 129):
        drawn.append(rng.random().hex())
        drawn.append(rng.uniform(-k, k / 3).hex())
        drawn.append(hex(rng.getrandbits(k)))
        drawn.append(hex(rng.randint(-k, k) + k))
        drawn.append(hex(rng.randint(-(2**63), 2**63 - 1) + 2**63))
        drawn.append(hex(rng.choice(range(k))))
    return drawn


def main(command, *arguments):
    if command == "print":
        seed, start = arguments
        print_run(steps(int(seed), datetime.fromisoformat(start)))
    elif command == "runs":
        start, *seeds = arguments
        for seed in map(int, seeds):
            run = list(steps(seed, datetime.fromisoformat(start)))
            print(compact({"seed": seed, "steps": len(run)}))
            print_run(run)
    elif command == "draws":
        for seed in arguments:
            print(compact(draws(int(seed, 0))))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
