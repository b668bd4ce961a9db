"""Compares the tables of a lake with the classic run as CPython draws it, to the last bit.

    classic_in_lake.py LAKE SEED START

START is the departure in ISO 8601, or `any`: then it is taken from the first row, whose distance from the departure the
seed determines. Prints the number of steps; exits 1 and says where when a row is missing, double or different.
"""

import os
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from deltalake import DeltaTable

sys.path.insert(0, str(Path(__file__).parents[2] / "crates" / "sim" / "tests"))
import classic  # noqa: E402

RENAMED = {"airQualityIndex": "air_quality_index"}


def columns(message):
    """A message as the row it must become."""
    row = {}
    for name, value in message.items():
        if name == "location":
            row["latitude"], row["longitude"] = value
        elif name == "timestamp":
            row[name] = datetime.fromisoformat(value).replace(tzinfo=timezone.utc)
        else:
            row[RENAMED.get(name, name)] = value
    row["event_date"] = row["timestamp"].date()
    return row


def main(lake, seed, start):
    tables = {
        name: DeltaTable(f"{lake}/data/{name}").to_pyarrow_table().to_pylist()
        for name in ["vehicle_data", "gps_data", "traffic_data", "weather_data", "emergency_data"]
    }
    seed = int(seed)
    if start == "any":
        drawn = next(iter(classic.steps(seed, datetime(2000, 1, 1))))
        elapsed = datetime.fromisoformat(drawn["vehicle_data"]["timestamp"]) - datetime(2000, 1, 1)
        departure = min(row["timestamp"] for row in tables["vehicle_data"]).replace(tzinfo=None) - elapsed
    else:
        departure = datetime.fromisoformat(start)
    run = list(classic.steps(seed, departure))
    for name, rows in tables.items():
        by_id = {row["id"]: row for row in rows}
        if len(rows) != len(run) or len(by_id) != len(run):
            sys.exit(f"{name}: {len(rows)} rows, {len(by_id)} ids, {len(run)} steps")
        for number, step in enumerate(run):
            wanted = columns(step[name])
            row = by_id.get(wanted["id"])
            if row is None:
                sys.exit(f"{name}: step {number} is missing")
            for column, value in wanted.items():
                same = row[column] == value and type(row[column]) is type(value)
                if isinstance(value, float):
                    same = row[column].hex() == value.hex()
                if not same:
                    sys.exit(f"{name}: step {number}, {column}: {row[column]!r}, drawn was {value!r}")
            if row["_extra"] is not None:
                sys.exit(f"{name}: step {number} has _extra {row['_extra']}")
    print(len(run))


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Some readers' own threads abort the interpreter while it ends.
    sys.stdout.flush()
    os._exit(0)
