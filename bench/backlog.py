"""Records waiting in five topics of a real Kafka, landed by one process: clean, and with one record in a hundred broken.

    bench/backlog.py [--records 10000000] [--rounds 2] [--keep DIR]

Needs a release build (cargo build --release -p smartcity), Java and Maven, and a Python with
tests/python/requirements.txt. The fleet's records; the broken ones are of ten kinds, in equal shares. The broker is pinned
to one core, ingest to another. Memory is sampled ten times a second. Afterwards rows and dead letters are counted: all
records must be there. One JSON line per measurement; at the end the ratio of the speeds.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from processes import CORES, TARGET, check_quiet, memory_mb, start_kafka, stop

STREAMS = ["vehicle_data", "gps_data", "traffic_data", "weather_data", "emergency_data"]
VEHICLES = 20_000
BROKEN = ["null_value", "empty", "invalid_utf8", "not_json", "not_an_object", "too_deep", "missing_field", "wrong_type",
          "bad_timestamp", "out_of_range"]


def topics(kind):
    return {stream.removesuffix("_data").upper() + "_TOPIC": f"{kind}.{stream}" for stream in STREAMS}


def fill(address, kind, records, faults):
    seconds = max(1, round(records / VEHICLES / len(STREAMS)))
    command = [TARGET / "smartcity", "simulate", "--profile", "fleet", "--start", "2026-01-05T08:00:00", "--vehicles", VEHICLES,
               "--duration", f"{seconds}s", "--pace", "max", "--faults", faults, "--bootstrap-servers", address, "--json"]
    printed = subprocess.run([str(part) for part in command], env=os.environ | topics(kind), check=True, capture_output=True)
    return json.loads(printed.stdout)["records"]


def land(address, kind, lake):
    command = [TARGET / "smartcity", "ingest", "--until-caught-up", "--json", "--bootstrap-servers", address, "--lake", lake]
    process = subprocess.Popen(
        [str(part) for part in command], env=os.environ | topics(kind), stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {CORES[0]}),
    )
    started, samples = time.monotonic(), []

    def sample():
        while process.returncode is None:
            try:
                samples.append(memory_mb(process.pid)[0])
            except (FileNotFoundError, KeyError):
                return
            time.sleep(0.1)

    sampler = threading.Thread(target=sample)
    sampler.start()
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    sampler.join()
    if process.returncode != 0:
        sys.exit(f"ingest failed with {process.returncode}")
    streams = json.loads(output)["streams"].values()
    landed = {key: sum(stream[key] for stream in streams) for key in ["rows", "dead_letters"]}
    cpu = usage.ru_utime + usage.ru_stime
    check_quiet(f"ingest of {kind}", cpu, time.monotonic() - started)
    tenth = len(samples) // 10
    return {
        "kind": kind, **landed, "cpu_seconds": round(cpu, 2),
        "records_per_core_second": round(sum(landed.values()) / cpu),
        "peak_memory_mb": round(usage.ru_maxrss / 1024),
        "median_memory_mb": {
            "first tenth": round(statistics.median(samples[: tenth + 1])),
            "last tenth": round(statistics.median(samples[-tenth - 1 :])),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smartcity-bench-", dir=arguments.keep))
    faults = folder / "faults.toml"
    faults.write_text("".join(f"{kind} = {0.01 / len(BROKEN)}\n" for kind in BROKEN))
    kafka, address = start_kafka(folder / "kafka", CORES[-1])
    speeds = {"clean": [], "broken": []}
    try:
        sent = {kind: fill(address, kind, arguments.records, "none" if kind == "clean" else str(faults)) for kind in speeds}
        for number in range(arguments.rounds):
            for kind in speeds:
                lake = folder / "lake"
                result = land(address, kind, lake)
                if result["rows"] + result["dead_letters"] != sent[kind]:
                    sys.exit(f"{sent[kind]} records were sent: {result}")
                speeds[kind].append(result["records_per_core_second"])
                print(json.dumps(result), flush=True)
                shutil.rmtree(lake)
    finally:
        stop(kafka)
        if not arguments.keep:
            shutil.rmtree(folder)
    print(f"broken at {statistics.median(speeds['broken']) / statistics.median(speeds['clean']):.2f} of the clean speed")


if __name__ == "__main__":
    main()
