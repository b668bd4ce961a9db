"""Opens tables of a lake in three independent readers and prints what each sees, as JSON.

    readers.py LAKE TABLE...

For each table and reader: rows, a sum of all offsets, and of each double column how many values are not null and their
sum as a hexadecimal float, summed in offset order so that equal rows give equal bits.
"""

import json
import math
import os
import sys

import duckdb
import polars
from deltalake import DeltaTable


def summary(table):
    """A pyarrow table to counts and sums."""
    import pyarrow as pa

    order = [("_partition", "ascending"), ("_offset", "ascending")]
    if "_partition" not in table.column_names:
        order = [("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")]
    table = table.sort_by(order)
    offset = order[-1][0]
    sums = {"rows": table.num_rows, "offsets": sum(table.column(offset).to_pylist())}
    for field in table.schema:
        if pa.types.is_float64(field.type):
            values = table.column(field.name).drop_null().to_pylist()
            sums[field.name] = [len(values), math.fsum(values).hex()]
    return sums


def read_deltalake(path):
    return DeltaTable(path).to_pyarrow_table()


def read_polars(path):
    return polars.scan_delta(path).collect().to_arrow()


def read_duckdb(path):
    files = DeltaTable(path).file_uris()
    found = duckdb.sql(f"select * from read_parquet({files!r}, hive_partitioning = true)").arrow()
    return found.read_all() if hasattr(found, "read_all") else found


def main(lake, *tables):
    readers = {"deltalake": read_deltalake, "polars": read_polars, "duckdb": read_duckdb}
    seen = {
        table: {name: summary(read(f"{lake}/data/{table}")) for name, read in readers.items()} for table in tables
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
    # Some readers' own threads abort the interpreter while it ends.
    sys.stdout.flush()
    os._exit(0)
