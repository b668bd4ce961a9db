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


def cpu_seconds(pid):
    """User and system seconds of a running process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid):
    """Resident memory of a running process: now, and the most it has been."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return sizes["VmRSS"], sizes["VmHWM"]
