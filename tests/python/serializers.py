"""Prints how Python's serializers write the types that a declaration has: a line `case<TAB>type<TAB>JSON value` each."""

import datetime
import decimal
import enum
import json
import math
import uuid

import orjson

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901)
ZONED = MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def show(case, of_type, value):
    print(f"{case}\t{of_type}\t{value}")


class Color(enum.IntEnum):
    RED = 3


for name, dumps in [("json", json.dumps), ("orjson", lambda value: orjson.dumps(value).decode())]:
    show(f"{name} int", "long", dumps(9007199254740993))
    show(f"{name} float that is whole", "integer", dumps(2024.0))
    show(f"{name} large float", "long", dumps(1e16))
    show(f"{name} float", "double", dumps(0.1 + 0.2))
    show(f"{name} small float", "double", dumps(1e-7))
    show(f"{name} bool", "boolean", dumps(True))
    show(f"{name} None", "string", dumps(None))
    show(f"{name} str", "string", dumps("naïve \U0001f697 \u2028 \" \\ \n"))
    show(f"{name} list", "array<double>", dumps([1, 2.5, None]))
    show(f"{name} dict", "map<string, long>", dumps({"a": 1}))
    show(f"{name} IntEnum", "integer", dumps(Color.RED))
show("json datetime.isoformat", "timestamp", json.dumps(MOMENT.isoformat()))
show("json datetime str", "timestamp", json.dumps(str(ZONED)))
show("json date.isoformat", "date", json.dumps(MOMENT.date().isoformat()))
show("json time.isoformat", "time", json.dumps(MOMENT.time().isoformat()))
show("json str of Decimal", "decimal(10,2)", json.dumps(str(decimal.Decimal("12.50"))))
show("json NaN", "double", json.dumps(math.nan))
show("orjson NaN", "double", orjson.dumps(math.nan).decode())
show("orjson datetime", "timestamp", orjson.dumps(MOMENT).decode())
show("orjson datetime with a zone", "timestamp", orjson.dumps(ZONED).decode())
show("orjson date", "date", orjson.dumps(MOMENT.date()).decode())
show("orjson time", "time", orjson.dumps(MOMENT.time()).decode())
show("orjson UUID", "string", orjson.dumps(uuid.UUID(int=5)).decode())
