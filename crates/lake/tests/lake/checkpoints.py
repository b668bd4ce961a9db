"""Either reads a table with other people's readers, or writes one with a checkpoint; prints JSON."""

import datetime
import json
import os
import sys

import deltalake
import duckdb
import polars
import pyarrow


def read(path):
    table = deltalake.DeltaTable(path)
    query = "select count(*) n, sum(_offset) s from t"
    by_deltalake = polars.DataFrame(deltalake.QueryBuilder().register("t", table).execute(query).read_all()).row(0)
    frame = polars.scan_delta(path).collect()
    files = [file.removeprefix("file://") for file in table.file_uris()]
    by_duckdb = duckdb.connect().execute("select count(*), sum(_offset) from read_parquet(?)", [files]).fetchone()
    return {
        "version": table.version(),
        "deltalake": [int(value) for value in by_deltalake],
        "polars": [frame.height, int(frame["_offset"].sum())],
        "duckdb": [int(value) for value in by_duckdb],
        "columns": sorted(frame.columns),
        "txn": table.transaction_version("ingest/vehicle_data/0"),
    }


def write(path):
    schema = pyarrow.schema([("day", pyarrow.date32()), ("name", pyarrow.string()), ("n", pyarrow.int64())])
    for batch in range(12):
        day = datetime.date(2026, 1, 1 + batch % 3)
        rows = {"day": [day] * 3, "name": ["ä b", None, "c/d"], "n": [batch, None, batch * 2]}
        table = pyarrow.table(rows, schema=schema)
        deltalake.write_deltalake(path, table, mode="append", partition_by=["day", "name"])
    table = deltalake.DeltaTable(path)
    table.delete("n = 4")
    table.create_checkpoint()
    deltalake.write_deltalake(path, pyarrow.table({"day": [day], "name": ["e"], "n": [99]}, schema=schema), mode="append")
    table = deltalake.DeltaTable(path)
    actions = polars.DataFrame(table.get_add_actions(flatten=True))
    return {
        "version": table.version(),
        "files": sorted(actions["path"].to_list()),
        "bytes": int(actions["size_bytes"].sum()),
        "rows": int(actions["num_records"].sum()),
        "days": sorted(str(day) for day in actions["partition.day"].unique()),
    }


print(json.dumps({"read": read, "write": write}[sys.argv[1]](sys.argv[2])))
# Some readers' own threads abort the interpreter while it ends.
sys.stdout.flush()
os._exit(0)
