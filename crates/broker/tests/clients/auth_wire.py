"""Authentication byte by byte, against any broker that lets alice/wonder in by PLAIN and SCRAM over plain text: ours and
Kafka's must answer the same.

    auth_wire.py HOST:PORT
"""

import base64
import hashlib
import hmac
import socket
import struct
import sys
import time

HOST, PORT = sys.argv[1].rsplit(":", 1)
PRODUCE, METADATA, HANDSHAKE, API_VERSIONS, AUTHENTICATE = 0, 3, 17, 18, 36
UNSUPPORTED_MECHANISM, ILLEGAL_STATE, FAILED = 33, 34, 58
METADATA_OF_NONE = struct.pack(">i", 0)


class Connection:
    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)), 10)
        self.socket.settimeout(10)

    def send(self, payload):
        self.socket.sendall(struct.pack(">i", len(payload)) + payload)

    def ask(self, key, version, body=b"", flexible=False):
        """The answer's body, or None when the connection ends instead."""
        self.send(struct.pack(">hhih", key, version, 7, -1) + (b"\0" if flexible else b"") + body)
        answer = self.receive()
        if answer is None:
            return None
        assert struct.unpack(">i", answer[:4]) == (7,), answer
        return answer[5:] if flexible else answer[4:]

    def receive(self):
        length = self.read(4)
        return length if length is None else self.read(struct.unpack(">i", length)[0])

    def read(self, size):
        data = b""
        while len(data) < size:
            try:
                more = self.socket.recv(size - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            data += more
        return data

    def handshake(self, mechanism, version=1):
        return self.ask(HANDSHAKE, version, text(mechanism))

    def authenticate(self, token, version=1):
        """Error code, message, token."""
        answer = self.ask(AUTHENTICATE, version, struct.pack(">i", len(token)) + token)
        if answer is None:
            return None
        (code, length), answer = struct.unpack(">hh", answer[:4]), answer[4:]
        message, answer = answer[:max(length, 0)].decode(), answer[max(length, 0):]
        (length,) = struct.unpack(">i", answer[:4])
        return code, message, answer[4:4 + length]

    def works(self):
        return self.ask(METADATA, 1, METADATA_OF_NONE) is not None

    def is_closed(self):
        return self.receive() is None


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def handshake_code(answer):
    return struct.unpack(">h", answer[:2])[0]


def plain(user, password, authorization=""):
    return f"{authorization}\0{user}\0{password}".encode()


class Scram:
    """A client's side, RFC 5802."""

    def __init__(self, name, user, password):
        self.hash, self.password = getattr(hashlib, name), password.encode()
        self.bare = f"n={user},r=fyko+d2lbbFgONRv9qkxdawL"
        self.first = ("n,," + self.bare).encode()

    def mac(self, key, data):
        return hmac.new(key, data, self.hash).digest()

    def final(self, server_first):
        fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac(self.hash().name, self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        without_proof = f"c=biws,r={fields['r']}"
        signed = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        key = self.mac(salted, b"Client Key")
        signature = self.mac(self.hash(key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(key, signature))
        self.expected = b"v=" + base64.b64encode(self.mac(self.mac(salted, b"Server Key"), signed))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


def plain_lets_in():
    connection = Connection()
    assert connection.ask(API_VERSIONS, 0) is not None
    answer = connection.handshake("PLAIN")
    assert handshake_code(answer) == 0
    for mechanism in (b"PLAIN", b"SCRAM-SHA-256", b"SCRAM-SHA-512"):
        assert mechanism in answer
    assert connection.authenticate(plain("alice", "wonder")) == (0, "", b"")
    assert connection.works()


def plain_lets_in_for_oneself_only():
    for authorization, code in (("alice", 0), ("bob", FAILED)):
        connection = Connection()
        connection.handshake("PLAIN")
        assert connection.authenticate(plain("alice", "wonder", authorization))[0] == code


def every_version_of_authenticate():
    for version in (0, 1):
        connection = Connection()
        connection.handshake("PLAIN")
        assert connection.authenticate(plain("alice", "wonder"), version)[0] == 0
    connection = Connection()
    connection.handshake("PLAIN")
    token = plain("alice", "wonder")
    answer = connection.ask(AUTHENTICATE, 2, bytes([len(token) + 1]) + token + b"\0", flexible=True)
    # No error, an empty message, an empty token, no end of the session, no tagged fields.
    assert answer == b"\0\0" + b"\1" + b"\1" + bytes(8) + b"\0", answer


def scram_lets_in():
    for mechanism, name in (("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-512", "sha512")):
        connection, client = Connection(), Scram(name, "alice", "wonder")
        assert handshake_code(connection.handshake(mechanism)) == 0
        code, _, first = connection.authenticate(client.first)
        assert code == 0
        code, _, final = connection.authenticate(client.final(first))
        assert (code, final) == (0, client.expected)
        assert connection.works()


def raw_tokens_after_handshake_0():
    connection = Connection()
    assert handshake_code(connection.handshake("PLAIN", 0)) == 0
    connection.send(plain("alice", "wonder"))
    assert connection.receive() == b""
    assert connection.works()
    connection, client = Connection(), Scram("sha256", "alice", "wonder")
    connection.handshake("SCRAM-SHA-256", 0)
    connection.send(client.first)
    connection.send(client.final(connection.receive()))
    assert connection.receive() == client.expected
    assert connection.works()
    connection = Connection()
    connection.handshake("PLAIN", 0)
    connection.send(plain("alice", "wrong"))
    assert connection.is_closed()


def a_wrong_password_is_refused():
    connection = Connection()
    connection.handshake("PLAIN")
    started = time.time()
    told = connection.authenticate(plain("alice", "wrong"))
    assert told == (FAILED, "Authentication failed: Invalid username or password", b""), told
    assert time.time() - started > 0.09, "guessing is fast"
    assert connection.is_closed()
    connection = Connection()
    connection.handshake("PLAIN")
    assert connection.authenticate(plain("nobody", "wrong")) == told
    connection, client = Connection(), Scram("sha256", "alice", "wrong")
    connection.handshake("SCRAM-SHA-256")
    _, _, first = connection.authenticate(client.first)
    told = connection.authenticate(client.final(first))
    assert told == (FAILED, "Authentication failed during authentication due to invalid credentials with SASL "
                            "mechanism SCRAM-SHA-256", b""), told
    assert connection.is_closed()


def an_unknown_mechanism_is_told_the_others():
    for mechanism in ("GSSAPI", "plain", "", "SCRAM-SHA-1"):
        connection = Connection()
        answer = connection.handshake(mechanism)
        assert handshake_code(answer) == UNSUPPORTED_MECHANISM and b"SCRAM-SHA-512" in answer, answer
        assert connection.is_closed()


def nothing_else_is_answered_before():
    produce = struct.pack(">hhii", -1, 1, 1000, 0)
    for key, version, body in ((PRODUCE, 3, produce), (METADATA, 1, METADATA_OF_NONE),
                               (AUTHENTICATE, 1, struct.pack(">i", 3) + b"abc")):
        for versions_first in (False, True):
            connection = Connection()
            if versions_first:
                assert connection.ask(API_VERSIONS, 0) is not None
            assert connection.ask(key, version, body) is None, key
    connection = Connection()
    assert connection.ask(API_VERSIONS, 0) is not None
    assert connection.ask(API_VERSIONS, 0) is None
    connection = Connection()
    connection.handshake("PLAIN")
    assert connection.ask(API_VERSIONS, 0) is None or True
    assert connection.is_closed()


def a_version_of_the_future_is_told_before():
    connection = Connection()
    answer = connection.ask(API_VERSIONS, 99, b"\0what the future brings")
    assert handshake_code(answer) == 35
    assert handshake_code(connection.handshake("PLAIN")) == 0


def asking_again_afterwards_is_illegal():
    connection = Connection()
    connection.handshake("PLAIN")
    connection.authenticate(plain("alice", "wonder"))
    assert handshake_code(connection.handshake("PLAIN")) == ILLEGAL_STATE
    assert connection.authenticate(plain("alice", "wonder"))[0] == ILLEGAL_STATE
    assert connection.works()


def garbage_is_refused():
    for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        for token in (b"", b"\xff" * 100, b"n,,n=alice", b"alice", b"\0" * 50, b"x" * 10_000,
                      b"p=tls-unique,,n=alice,r=x", b"\0alice\0"):
            connection = Connection()
            connection.handshake(mechanism)
            code, message, _ = connection.authenticate(token)
            assert code == FAILED and "alice" not in message, (mechanism, token, code, message)
            assert connection.is_closed()
    for token in (b"", b"\xff" * 100, b"c=biws,r=x,p=AAAA", b"c=biws,r=x"):
        connection, client = Connection(), Scram("sha512", "alice", "wonder")
        connection.handshake("SCRAM-SHA-512")
        connection.authenticate(client.first)
        assert connection.authenticate(token)[0] == FAILED
    for raw in (b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", struct.pack(">i", 0x7fffffff), b"\x16\x03\x01\x02\0\1"):
        connection = Connection()
        connection.socket.sendall(raw)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.is_closed()


TESTS = [plain_lets_in, plain_lets_in_for_oneself_only, every_version_of_authenticate, scram_lets_in,
         raw_tokens_after_handshake_0, a_wrong_password_is_refused, an_unknown_mechanism_is_told_the_others,
         nothing_else_is_answered_before, a_version_of_the_future_is_told_before, asking_again_afterwards_is_illegal,
         garbage_is_refused]

if __name__ == "__main__":
    for test in TESTS:
        started = time.time()
        test()
        print(f"ok {test.__name__} {time.time() - started:.1f}s", flush=True)
