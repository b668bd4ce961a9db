"""Reads whole tables with other people's readers and sums up every column, as JSON: by reader, table and column."""

import json
import os
import sys

import deltalake
import duckdb
import polars
import pyarrow
import pyarrow.compute as pc
import pyarrow.dataset

PRIME = 1_000_003


def summary(column):
    """Nulls, extremes and a sum; doubles as text, bytes as hex, instants in microseconds and days since the epoch."""
    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        return summary(column.cast(kind.value_type))
    nulls = column.null_count
    least = greatest = None
    is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or kind == pyarrow.string_view()
    is_bytes = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind) or kind == pyarrow.binary_view()
    if is_text or is_bytes:
        # Python's order of texts is that of their code points, as UTF-8's is.
        plain = [value for value in column.to_pylist() if value is not None]
        if plain:
            least, greatest = min(plain), max(plain)
            if is_bytes:
                least, greatest = least.hex().upper(), greatest.hex().upper()
        return {"nulls": nulls, "least": least, "greatest": greatest, "sum": sum(map(len, plain))}
    values = column.drop_null()
    if pyarrow.types.is_timestamp(kind):
        values = values.cast(pyarrow.timestamp("us", kind.tz)).cast(pyarrow.int64())
    elif pyarrow.types.is_date(kind):
        values = values.cast(pyarrow.date32()).cast(pyarrow.int32()).cast(pyarrow.int64())
    if pyarrow.types.is_integer(values.type):
        numbers = values.cast(pyarrow.int64()).to_pylist()
        # SQL's remainder has the sign of the number.
        total = sum(number % PRIME if number >= 0 else -(-number % PRIME) for number in numbers)
        if numbers:
            least, greatest = min(numbers), max(numbers)
    elif pyarrow.types.is_floating(kind):
        numbers = values.to_pylist()
        total = sum(int(number * 8) for number in numbers if abs(number) <= 1e6)
        if numbers:
            least, greatest = repr(min(numbers)), repr(max(numbers))
    elif pyarrow.types.is_boolean(kind):
        flags = values.to_pylist()
        total = sum(flags)
        if flags:
            least, greatest = int(min(flags)), int(max(flags))
    else:
        raise TypeError(f"a column of {kind}")
    return {"nulls": nulls, "least": least, "greatest": greatest, "sum": total}


def summaries(table):
    found = {"": table.num_rows}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = pyarrow.concat_arrays(column.chunks)
        if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
            found[name] = {"nulls": column.null_count}
            elements = column.flatten()
            for field in elements.type:
                found[f"{name}[].{field.name}"] = summary(pc.struct_field(elements, field.name))
        else:
            found[name] = summary(column)
    return found


def by_deltalake(path):
    query = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(path)).execute("select * from t")
    return pyarrow.table(query.read_all())


def by_polars(path):
    return polars.scan_delta(path).collect().to_arrow()


def files(path):
    return [file.removeprefix("file://") for file in deltalake.DeltaTable(path).file_uris()]


def by_duckdb(path):
    """Over the files that the log names: duckdb's own Delta extension would have to be downloaded."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    return connection.execute("select * from read_parquet(?, hive_partitioning = true)", [files(path)]).to_arrow_table()


def by_pyarrow(path):
    days = pyarrow.schema([("event_date", pyarrow.date32())])
    is_partitioned = bool(deltalake.DeltaTable(path).metadata().partition_columns)
    partitioning = pyarrow.dataset.partitioning(days, flavor="hive") if is_partitioned else None
    return pyarrow.dataset.dataset(files(path), partitioning=partitioning, partition_base_dir=path).to_table()


readers = {"deltalake": by_deltalake, "polars": by_polars, "duckdb": by_duckdb, "pyarrow": by_pyarrow}
print(
    json.dumps(
        {
            reader: {os.path.basename(path): summaries(read(path)) for path in sys.argv[1:]}
            for reader, read in readers.items()
        }
    )
)
# Some readers' own threads abort the interpreter while it ends.
sys.stdout.flush()
os._exit(0)
