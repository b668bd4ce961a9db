"""The processes of a soak: each is started, killed and paused by its own pid, and writes to a file of its own."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "city"
# How long a supervisor waits before it starts a process again that has ended.
RESTART_PAUSE_S = 0.5
S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "testtest",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


def free_ports(count=1):
    """The first of so many neighbouring ports that nobody listens on. Below those that the system gives to connections:
    a process that is started again must find its own still free."""
    while True:
        port = random.SystemRandom().randrange(15_000, 30_000)
        with contextlib.ExitStack() as held:
            try:
                for number in range(count):
                    listener = held.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", port + number))
                return port
            except OSError:
                continue


def s3_environment(port):
    return S3_KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def environment(more):
    """That of whoever runs the soak, without settings of smartcity's and without other credentials."""
    ours = ("SMARTCITY_", "KAFKA_", "AWS_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "SMARTCITY_CACHE" or not (name.startswith(ours) or name.endswith("_TOPIC") or name == "RUST_LOG")
    }
    return kept | more


class Process:
    """A child that can be started again after its end. In a session of its own: Ctrl-C reaches it through us alone."""

    all = []

    def __init__(self, name, command, log, variables=None, ready=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.log = Path(log)
        self.variables = variables or {}
        self.ready = ready
        self.child = None
        self.starts = 0
        self.began_at = 0
        Process.all.append(self)

    def start(self):
        self.starts += 1
        with open(self.log, "ab") as log:
            log.write(f"--- start {self.starts} of {self.name}\n".encode())
            log.flush()
            self.began_at = log.tell()
            self.child = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=environment(self.variables), start_new_session=True,
            )

    def told(self):
        """What it has written since its last start."""
        with open(self.log, "rb") as log:
            log.seek(self.began_at)
            return log.read().decode(errors="replace")

    def is_running(self):
        return self.child is not None and self.child.poll() is None

    def wait_until_ready(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while self.ready not in self.told():
            if not self.is_running() or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start: see {self.log}\n{self.told()[-2000:]}")
            time.sleep(0.02)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self, timeout_s=60):
        """SIGTERM, then its exit code; `None` when it had to be killed."""
        if self.child is None:
            return 0
        self.child.terminate()
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    @classmethod
    def end_all(cls):
        for process in cls.all:
            if process.is_running():
                process.child.kill()
        for process in cls.all:
            if process.child is not None:
                process.child.wait()


class Ingest(Process):
    """`smartcity ingest` under a supervisor, which is us: it is started again whenever it has ended."""

    def __init__(self, name, program, work, bootstrap, lake, variables, properties, latency):
        self.http_port = free_ports()
        settings = work / f"{name}.toml"
        lines = ["[kafka.properties]"] + [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in properties.items()]
        settings.write_text("\n".join(lines) + "\n")
        command = [
            program, "ingest", "--config", settings, "--bootstrap-servers", bootstrap, "--lake", lake,
            "--group-id", "soak", "--latency", latency, "--http-listen", f"127.0.0.1:{self.http_port}",
        ]
        super().__init__(name, command, work / f"{name}.log", variables)
        self.ends = []
        self.start_again_at = None

    def supervise(self):
        """Keeps why it has ended by itself, and starts it again a little later."""
        if self.is_running():
            return
        if self.start_again_at is not None:
            if time.monotonic() >= self.start_again_at:
                self.start()
            return
        self.start_again_at = time.monotonic() + RESTART_PAUSE_S
        told = self.told()
        errors = [line for line in told.splitlines() if line.lstrip().startswith(("error:", "caused by:"))]
        self.ends.append({
            "process": self.name,
            "code": self.child.returncode,
            "was_reading": " reading partition=" in told,
            "panicked": "panicked at" in told,
            "error": " ".join(line.strip() for line in errors) or told[-500:],
        })

    def start(self):
        self.start_again_at = None
        super().start()

    def progress(self, timeout_s=0.5):
        """What `/api/progress` tells; `None` while it does not answer."""
        try:
            url = f"http://127.0.0.1:{self.http_port}/api/progress"
            with urllib.request.urlopen(url, timeout=timeout_s) as answer:
                return json.load(answer)
        except (OSError, ValueError):
            return None


def s3_server(work):
    """versitygw over plain files, with the bucket of the lake."""
    port = free_ports()
    (work / "s3" / "buckets" / BUCKET).mkdir(parents=True)
    server = Process(
        "s3", [ROOT / "tests/s3/real-s3", work / "s3", port], work / "s3.log", ready="ready\n",
    )
    server.port = port
    return server


def embedded_broker(program, work):
    port = free_ports()
    command = [program, "broker", "--listen", f"127.0.0.1:{port}", "--data-dir", work / "broker"]
    broker = Process("broker", command, work / "broker.log", ready="kafka broker at")
    broker.port = port
    return broker


def real_kafka(work):
    port = free_ports(2)
    properties = work / "kafka.properties"
    # One that was killed is let back in when its session has ended.
    properties.write_text("broker.session.timeout.ms=5000\nbroker.heartbeat.interval.ms=1000\n")
    command = [ROOT / "tests/kafka/real-kafka", work / "kafka", port, properties]
    broker = Process("kafka", command, work / "kafka.log", ready="ready\n")
    broker.port = port
    return broker


def run(command, variables=None, timeout_s=1800):
    """Runs to the end: exit code, stdout, stderr."""
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env=environment(variables or {}), start_new_session=True, text=True,
    )
    try:
        out, errors = process.communicate(timeout=timeout_s)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process.returncode, out, errors


def resume(process):
    if process.is_running():
        process.signal(signal.SIGCONT)
