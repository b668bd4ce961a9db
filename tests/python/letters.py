"""Prints the rows of each table's (partition, offset) and the dead letters of a lake as JSON, read by deltalake.

    letters.py LAKE TABLE...
"""

import json
import os
import sys

from deltalake import DeltaTable


def main(lake, *tables):
    rows = {}
    for table in tables:
        found = DeltaTable(f"{lake}/data/{table}").to_pyarrow_table(columns=["id", "_partition", "_offset"])
        rows[table] = [list(row.values()) for row in found.to_pylist()]
    letters = DeltaTable(f"{lake}/data/dead_letters").to_pyarrow_table().to_pylist()
    for letter in letters:
        letter["value"] = None if letter["value"] is None else letter["value"].hex()
        letter["key"] = None if letter["key"] is None else letter["key"].decode()
        letter["headers"] = [[header["key"], header["value"].hex()] for header in letter["headers"] or []]
        del letter["kafka_timestamp"], letter["ingested_at"]
    print(json.dumps({"rows": rows, "letters": letters}))


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Some readers' own threads abort the interpreter while it ends.
    sys.stdout.flush()
    os._exit(0)
