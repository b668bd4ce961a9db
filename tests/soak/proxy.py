"""An HTTP proxy in front of an S3 server that answers as object stores do on bad days.

What goes wrong is drawn from a seed, by the kind of request. Beside answers that say no it plays those that leave the
client in the dark: the request is done and the answer lost, or it is done long after the client has given up.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus

HEAD_BYTES_MAX = 64 << 10

# How often a request meets a fault.
RATES = {"commit": 0.20, "put": 0.04, "get": 0.02, "list": 0.03, "delete": 0.03}

# What it then meets, with its weight. `_done` means that the server has done what was asked.
FAULTS = {
    # Conditional PUTs: commits, the probe of the store, versions 0.
    "commit": {
        "timeout_done": 6, "late_done": 3, "reset_done": 2, "500_done": 1, "412_done": 1,
        "500": 1, "503": 2, "409": 2, "412": 1, "reset": 1, "stall": 1,
    },
    "put": {"500": 2, "503": 3, "409": 1, "reset": 2, "stall": 1, "timeout_done": 1, "reset_done": 2, "500_done": 1},
    "get": {"500": 2, "503": 3, "reset": 2, "cut": 2, "stall": 1},
    "list": {"500": 2, "503": 3, "reset": 2, "cut": 2, "stall": 1},
    "delete": {"500": 2, "503": 3, "reset": 2, "reset_done": 2, "stall": 1},
}
CODES = {500: "InternalError", 503: "SlowDown", 409: "ConditionalRequestConflict", 412: "PreconditionFailed"}


@dataclass
class Request:
    method: str
    target: str
    headers: dict
    head: bytes
    body: bytes

    def kind(self):
        path, _, query = self.target.partition("?")
        if self.method == "PUT":
            return "commit" if self.headers.get("if-none-match") == "*" else "put"
        if self.method == "DELETE" or (self.method == "POST" and "delete" in query.split("&")[0]):
            return "delete"
        return "list" if "list-type=" in query or path.count("/") < 2 else "get"


class FaultProxy:
    """Listens on a free port of the loopback, in a thread of its own, until `stop`."""

    def __init__(self, upstream_port, seed, patience_s, log):
        """`patience_s` is the client's time-out: stalls and lost answers last longer than that."""
        self.upstream_port = upstream_port
        self.patience_s = patience_s
        self.faulty = True
        self.requests = Counter()
        self.faults = Counter()
        self.unreachable = 0
        self._rng = random.Random(f"{seed}/proxy")
        self._log = open(log, "a", buffering=1)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the proxy did not start")

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._log.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader, writer):
        try:
            while request := await read_request(reader):
                if not await self._answer(request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(self, request, writer):
        """Whether the client may send its next request over this connection."""
        kind = request.kind()
        self.requests[kind] += 1
        fault = self._draw(kind)
        if fault is not None:
            self.faults[kind, fault] += 1
            self._log.write(f"{time.time():.3f} {fault:<12} {kind:<6} {request.method} {request.target}\n")
            return await self._fail(fault, request, writer)
        answer = await self._forward(request)
        if answer is None:
            reset(writer)
            return False
        writer.write(answer)
        await writer.drain()
        return True

    def _draw(self, kind):
        if not self.faulty or self._rng.random() >= RATES[kind]:
            return None
        faults = FAULTS[kind]
        return self._rng.choices(list(faults), list(faults.values()))[0]

    async def _fail(self, fault, request, writer):
        what, _, done = fault.partition("_")
        answer = None
        if what == "late":
            await asyncio.sleep(self.patience_s + self._rng.uniform(0.2, 2))
            await self._forward(request)
        elif done or what == "cut":
            answer = await self._forward(request)
        if what in ("stall", "timeout"):
            await asyncio.sleep(self.patience_s + self._rng.uniform(0.5, 2))
        if what == "cut" and answer is not None:
            writer.write(answer[: max(1, len(answer) - 1 - self._rng.randrange(min(64, len(answer))))])
            await writer.drain()
            # An orderly end: a reset would take what was sent with it.
            return False
        if not what.isdigit():
            reset(writer)
            return False
        writer.write(refusal(int(what), request.method))
        await writer.drain()
        return True

    async def _forward(self, request):
        """The server's whole answer; `None` when there is none."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port, limit=HEAD_BYTES_MAX)
        except OSError:
            self.unreachable += 1
            return None
        try:
            writer.write(request.head + request.body)
            await writer.drain()
            return await read_answer(reader, request.method)
        except (OSError, asyncio.IncompleteReadError):
            self.unreachable += 1
            return None
        finally:
            writer.close()


def refusal(status, method):
    body = f'<?xml version="1.0"?><Error><Code>{CODES[status]}</Code><Message>drawn</Message></Error>'.encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: application/xml\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    return head.encode() + (b"" if method == "HEAD" else body)


def reset(writer):
    """Ends a connection as a crash does, with RST."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_request(reader):
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, headers = parse_head(head)
    method, target, _ = first.split(" ", 2)
    return Request(method, target, headers, head, await read_body(reader, headers, b""))


async def read_answer(reader, method):
    head = await reader.readuntil(b"\r\n\r\n")
    first, headers = parse_head(head)
    status = int(first.split(" ")[1])
    if method == "HEAD" or status in (204, 304):
        return head
    return head + await read_body(reader, headers, None)


def parse_head(head):
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def read_body(reader, headers, otherwise):
    """The body as it came over the wire; without a length it is `otherwise`, or all there is if that is `None`."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            body += line + await reader.readexactly(size + 2)
            if size == 0:
                return body
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if otherwise is None else otherwise
