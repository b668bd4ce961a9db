"""Ingest beside hand-made loops and beside its own parts, one run: a real Kafka, one topic of four partitions.

    bench/ingest.py [--records 5000000] [--rounds 2] [--keep DIR]

Needs a release build (cargo build --release -p bench --examples; --binary measures `smartcity ingest` instead, which
takes a release build of everything), Java and Maven, and a Python with
tests/python/requirements.txt. The broker is pinned to one core, what is measured to another. Rows per core-second are
rows divided by user and system CPU seconds of the measured process, the broker left out; memory is its peak resident
size. Each table is counted afterwards. Prints one JSON line per measurement and a table at the end.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import CORES, ROOT, TARGET, check_quiet, start_kafka, stop


def measure(name, command, core):
    """Runs a command pinned to a core: CPU seconds, wall seconds and peak memory of the process."""
    started = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{name} failed with {child.returncode}")
    cpu, wall = usage.ru_utime + usage.ru_stime, time.monotonic() - started
    check_quiet(name, cpu, wall)
    return {
        "name": name,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "peak_memory_mb": usage.ru_maxrss / 1024,
        "output": output.decode().strip(),
    }


def count(table):
    from deltalake import DeltaTable

    delta = DeltaTable(str(table))
    files = delta.get_add_actions(flatten=True)
    rows = sum(files.column("num_records").to_pylist())
    return rows, sum(files.column("size_bytes").to_pylist()) / rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--binary", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smartcity-bench-", dir=arguments.keep))
    kafka, address = start_kafka(folder / "kafka", CORES[-1])
    records, topic = arguments.records, "vehicle_data"
    results = {}
    try:
        filled = measure("fill", [TARGET / "examples/fill", address, topic, 4, records], CORES[0])
        print(json.dumps(filled), flush=True)
        for number in range(arguments.rounds):
            for name in ["smartcity", "loop_arrow", "loop_orjson"]:
                place = folder / f"{name}-{number}"
                if name == "smartcity":
                    table = place / "data" / "vehicle_data"
                    command = [TARGET / "examples/land", address, topic, place] if not arguments.binary else [
                        TARGET / "smartcity", "ingest", "--bootstrap-servers", address, "--lake", place, "--only", topic,
                        "--workers", 1, "--until-caught-up", "--json",
                    ]
                else:
                    table = place
                    script = ROOT / f"bench/peers/{name}.py"
                    # A group of its own per round, so that each reads from the start.
                    command = [sys.executable, script, address, topic, records, place, f"{name}-{number}"]
                result = measure(name, command, CORES[0])
                rows, bytes_per_row = count(table)
                if rows != records:
                    sys.exit(f"{name}: {rows} rows of {records}")
                result |= {"rows_per_core_second": rows / result["cpu_seconds"], "bytes_per_row": bytes_per_row}
                results.setdefault(name, []).append(result)
                print(json.dumps(result), flush=True)
                shutil.rmtree(place)
        parts = measure("parts", [TARGET / "examples/parts", address, topic, records], CORES[0])
        parts = json.loads(parts["output"])
        print(json.dumps(parts))
    finally:
        stop(kafka)
        if not arguments.keep:
            shutil.rmtree(folder)

    print(f"\n{records} records, {arguments.rounds} rounds, medians")
    print(f"{'system':<14} {'rows/core-s':>12} {'peak MB':>8} {'bytes/row':>10}")
    for name, rounds in results.items():
        median = {key: statistics.median(round[key] for round in rounds)
                  for key in ["rows_per_core_second", "peak_memory_mb", "bytes_per_row"]}
        print(f"{name:<14} {median['rows_per_core_second']:>12,.0f} {median['peak_memory_mb']:>8.0f} "
              f"{median['bytes_per_row']:>10.1f}")
    for part in ["read", "decode", "encode"]:
        print(f"{part + ' alone':<14} {parts[part]:>12,.0f}")
    limit = 1 / sum(1 / parts[part] for part in ["read", "decode", "encode"])
    print(f"{'sum of parts':<14} {limit:>12,.0f}")
    best = max(statistics.median(r["rows_per_core_second"] for r in results[name]) for name in results if name != "smartcity")
    ours = statistics.median(r["rows_per_core_second"] for r in results["smartcity"])
    print(f"\n{ours / best:.2f} times the faster loop, {ours / limit:.2f} of the parts alone")


if __name__ == "__main__":
    main()
