"""What the benchmarks share: free ports, a real Kafka, and what a process has used."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
CORES = sorted(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_kafka(folder, core=None):
    """A real Kafka with its data in `folder`: the process, which has become the JVM, and the address."""
    port = free_port()
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    kafka = subprocess.Popen(
        [ROOT / "tests/kafka/real-kafka", folder, str(port)], stdout=subprocess.PIPE, preexec_fn=pin
    )
    if kafka.stdout.readline() != b"ready\n":
        sys.exit("Kafka did not start")
    return kafka, f"127.0.0.1:{port}"


def stop(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.wait()


# A process that works at full speed waits for the broker now and then, and starts and ends. More than this, and the machine
# was busy with something else: figures of such a run are worth nothing.
WALL_PER_CPU_MAX = 2.0
WALL_SECONDS_FREE = 3.0


def quiet_enough(cpu, wall):
    """Whether a process at full speed had its core to itself, by its CPU and wall seconds.

    >>> quiet_enough(10, 12), quiet_enough(0.1, 3), quiet_enough(10, 23.1), quiet_enough(20, 11)
    (True, True, False, True)
    """
    return wall <= cpu * WALL_PER_CPU_MAX + WALL_SECONDS_FREE


def check_quiet(name, cpu, wall):
    """Ends the benchmark when the machine was too busy for it."""
    if not quiet_enough(cpu, wall):
        sys.exit(f"{name}: {wall:.1f} s of wall time for {cpu:.1f} s of CPU time: the machine is busy, measure again")


def cpu_seconds(pid):
    """User and system seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid):
    """Resident memory of a running process: now, and the most it has been."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return sizes["VmRSS"], sizes["VmHWM"]
