# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import json
import queue
import struct
import time
import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import WebSocket, WebSocketError, open_prefect_socket

SECRET = "admin:not-a-real-password"
SUCCESS = {"type": "auth_success"}


class Peer:
    """The server's end of a WebSocket, written from the RFC and not from the client's code."""

    def __init__(self, sock: t.Any) -> None:
        self.sock = sock
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += sock.recv(1)

    def header(self, name: str) -> str:
        for line in self.head.decode().split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ":"):
                return line.partition(":")[2].strip()
        raise KeyError(name)

    def accept(self, *extra: str, accept: str = "", protocol: str = "prefect") -> None:
        digest = hashlib.sha1(self.header("Sec-WebSocket-Key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: WebSocket", "Connection: upgrade", *extra]
        lines.append("Sec-WebSocket-Accept: " + (accept or base64.b64encode(digest).decode()))
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())

    def frame(self, opcode: int, payload: bytes, final: bool = True, flags: int = 0, length: bytes = b"") -> None:
        first = (0x80 if final else 0) | flags | opcode
        self.sock.sendall(bytes([first]) + (length or bytes([len(payload)])) + payload)

    def text(self, message: t.Any) -> None:
        payload = json.dumps(message).encode()
        if len(payload) < 126:
            self.frame(1, payload)
        elif len(payload) < 65536:
            self.frame(1, payload, length=b"\x7e" + struct.pack("!H", len(payload)))
        else:
            self.frame(1, payload, length=b"\x7f" + struct.pack("!Q", len(payload)))

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.sock.recv(count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def read(self) -> tuple[int, bytes]:
        first, second = self.take(2)
        assert first & 0x80
        assert second & 0x80, "a client has to mask"
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.take(8))
        mask, payload = self.take(4), self.take(length)
        return first & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@pytest.fixture
def serve(raw_server) -> t.Callable[..., PrefectClient]:
    """Serve connections with a function of a Peer, and give the client to connect with."""

    def start(conversation: t.Callable[[Peer], None], certificate: t.Any = None, auth_string: str | None = SECRET) -> PrefectClient:
        server = raw_server(lambda sock: conversation(Peer(sock)), certificate and certificate.context)
        scheme = "https" if certificate else "http"
        return PrefectClient(f"{scheme}://127.0.0.1:{server.port}/base/api", auth_string, certificate and certificate.path)

    return start


def error_of(client: PrefectClient, timeout: float = 3) -> WebSocketError:
    with pytest.raises(WebSocketError) as caught:
        open_prefect_socket(client, "events/in", timeout)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("tls", [False, True])
def test_open_authenticate_and_close(serve, certificate, tls):
    seen: dict[str, t.Any] = {}

    def conversation(peer):
        seen["head"] = peer.head.decode()
        peer.accept()
        seen["auth"] = peer.read()
        peer.text(SUCCESS)
        seen["close"] = peer.read()
        peer.text({"type": "event", "sent": "before the goodbye arrived"})
        peer.frame(8, seen["close"][1])
        seen["done"] = True

    client = serve(conversation, certificate if tls else None)
    ws = open_prefect_socket(client, "/events/in")
    assert ws.subprotocol == "prefect"
    ws.close()
    for dummy in range(100):
        if "done" in seen:
            break
        time.sleep(0.01)
    assert seen["head"].startswith("GET /base/api/events/in HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{client.port}\r\n" in seen["head"]
    assert "\r\nSec-WebSocket-Version: 13\r\n" in seen["head"]
    # The secret goes out in the first message, as Prefect's clients send it, and not in a header.
    assert "Authorization" not in seen["head"]
    assert (seen["auth"][0], json.loads(seen["auth"][1])) == (1, {"type": "auth", "token": SECRET})
    assert seen["close"] == (8, struct.pack("!H", 1000))
    # A second goodbye is said to nobody.
    ws.close()
    with pytest.raises(WebSocketError, match="is closed"):
        ws.send({})


def test_a_server_that_takes_no_subprotocol_is_not_sent_the_secret(serve):
    seen = []

    def conversation(peer):
        peer.accept(protocol="")
        seen.append(peer.read())

    ws = open_prefect_socket(serve(conversation), "events/in")
    assert ws.subprotocol == ""
    ws.close()
    assert seen == [(8, struct.pack("!H", 1000))]


@pytest.mark.parametrize(("status", "reason"), [(200, "OK"), (401, "Unauthorized"), (403, "Forbidden"), (426, "Upgrade Required"), (502, "Bad Gateway")])
def test_a_proxy_that_does_not_upgrade(serve, status, reason):
    error = error_of(serve(lambda peer: peer.sock.sendall(f"HTTP/1.1 {status} {reason}\r\nServer: nginx\r\n\r\n".encode())))
    assert (error.kind, error.status) == ("handshake", status)
    assert error.problem == f"the handshake was answered with HTTP {status} and not with 101"
    assert "let the proxy pass Upgrade" in error.remedy


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 ok\r\n\r\n", b"HTTP/2 101 x\r\n\r\n", b"x" * 200_000])
def test_an_answer_that_is_no_http(serve, answer):
    error = error_of(serve(lambda peer: (peer.sock.sendall(answer), peer.sock.recv(1))))
    assert error.kind == "protocol"
    assert "something that is not HTTP" in error.problem


def test_an_answer_that_is_no_websocket(serve):
    assert "is no WebSocket server" in error_of(serve(lambda peer: peer.accept(accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA="))).problem
    assert "chose the subprotocol chat" in error_of(serve(lambda peer: peer.accept(protocol="chat"))).problem


def test_a_refused_token(serve):
    seen: queue.Queue[tuple[int, bytes]] = queue.Queue()

    def conversation(peer):
        peer.accept()
        peer.read()
        peer.frame(8, struct.pack("!H", 1008) + b"Invalid token")
        seen.put(peer.read())

    error = error_of(serve(conversation))
    assert (error.kind, error.code) == ("closed", 1008)
    assert error.problem == "the server closed the WebSocket with code 1008 (Invalid token)"
    assert "auth string" in error.remedy
    # Its closing frame is answered by ours.
    assert seen.get(timeout=5) == (8, struct.pack("!H", 1008))


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (struct.pack("!H", 1012), 1012)])
def test_closed_for_another_reason(serve, payload, code):
    error = error_of(serve(lambda peer: (peer.accept(), peer.frame(8, payload), peer.read())))
    assert (error.code, error.problem, error.remedy) == (code, f"the server closed the WebSocket with code {code}", "")


def test_pings_fragments_and_long_messages(serve):
    seen = []

    def conversation(peer):
        peer.accept()
        peer.read()
        peer.frame(9, b"hello")
        seen.append(peer.read())
        peer.frame(10, b"unasked")
        data = json.dumps(SUCCESS).encode()
        peer.frame(1, data[:5], final=False)
        peer.frame(9, b"between")
        seen.append(peer.read())
        peer.frame(0, data[5:])
        for size in (10, 1000, 100_000):
            message = json.loads(peer.read()[1])
            assert len(message) == size
            peer.text(message)
        peer.take(1)

    ws = open_prefect_socket(serve(conversation), "events/out")
    for size in (10, 1000, 100_000):
        ws.send("x" * size)
        assert ws.receive() == "x" * size
    ws.close()
    assert seen == [(10, b"hello"), (10, b"between")]


@pytest.mark.parametrize(
    ("send", "words"),
    [
        (lambda peer: peer.text({"type": "auth_failure"}), "something else than auth_success"),
        (lambda peer: peer.text([1]), "something else than auth_success"),
        (lambda peer: peer.frame(1, b"not json"), "not JSON"),
        (lambda peer: peer.frame(2, b"binary"), "an unexpected kind (2)"),
        (lambda peer: peer.frame(1, b"x", flags=0x40), "breaks the WebSocket protocol"),
        (lambda peer: peer.frame(1, b"maskx", length=b"\x81"), "breaks the WebSocket protocol"),
        (lambda peer: peer.frame(1, b"", length=b"\x7f" + struct.pack("!Q", 2**40)), "breaks the WebSocket protocol"),
        (lambda peer: [peer.frame(0, b"x" * 65535, final=False, length=b"\x7e\xff\xff") for dummy in range(17)], "far too long"),
    ],
)
def test_answers_that_are_not_prefects(serve, send, words):
    def conversation(peer):
        peer.accept()
        peer.read()
        send(peer)
        peer.sock.recv(1)

    error = error_of(serve(conversation))
    assert error.kind == "protocol"
    assert words in error.problem


def test_a_connection_that_breaks(serve):
    assert error_of(serve(lambda peer: None)).kind == "connection"
    error = error_of(serve(lambda peer: (peer.accept(), peer.read())))
    assert error.kind == "connection"
    assert "broke the connection off (no closing frame)" in error.problem


@pytest.mark.parametrize("conversation", [lambda peer: peer.sock.recv(1), lambda peer: (peer.accept(), peer.read(), peer.sock.recv(1))])
def test_silence(serve, conversation):
    started = time.monotonic()
    error = error_of(serve(conversation), timeout=0.2)
    assert error.kind == "timeout"
    assert time.monotonic() - started < 2


def test_no_time_left(serve):
    ws = WebSocket(serve(lambda peer: (peer.accept(), peer.sock.recv(1))), "events/in", timeout=0.2)
    time.sleep(0.25)
    with pytest.raises(WebSocketError, match="did not answer in time"):
        ws.send({})
    ws.close()


def test_nobody_there_and_an_unknown_certificate(serve, certificate):
    client = serve(lambda peer: None)
    client.port = 1
    assert error_of(client).kind == "refused"
    client = serve(lambda peer: None, certificate)
    untrusting = PrefectClient(client.api_url, SECRET)
    error = error_of(untrusting)
    assert error.kind == "tls"
    assert "ca_path" in error.remedy
