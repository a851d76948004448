# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""A small WebSocket client (RFC 6455) on the standard library: enough to prove that a proxy lets Prefect's WebSockets through."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
import time
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._connection import USER_AGENT, explain_connection_error
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError

ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
# What is read here are greetings: a frame longer than these is not Prefect's.
MAX_HEAD = 64 * 1024
MAX_MESSAGE = 1024 * 1024

UPGRADE_REMEDY = "let the proxy pass Upgrade, Connection and Sec-WebSocket-Protocol on, by HTTP/1.1, for all of the API, and ask for no password of its own"


class WebSocketError(PrefectError):
    """A WebSocket that did not open, or broke.

    kind: handshake (an answer other than 101, in status), closed (by the server, with code), protocol, and those of a connection error.
    """

    def __init__(self, problem: str, remedy: str, kind: str, status: int | None = None, code: int | None = None) -> None:
        super().__init__(problem, remedy, kind, status)
        self.code = code


class WebSocket:
    """One connection to a path of the API that client talks to; timeout is that of the whole conversation."""

    def __init__(self, client: PrefectClient, path: str, timeout: float = 10, subprotocol: str = "prefect") -> None:
        self.address = client.address
        # What the server took of the subprotocol; "" before Prefect's WebSockets asked for authentication.
        self.subprotocol = ""
        self._deadline = time.monotonic() + timeout
        self._buffer = b""
        self._sock: socket.socket | None = None
        try:
            self._sock = socket.create_connection((client.host, client.port), timeout=timeout)
            if client.tls:
                self._sock = client.context.wrap_socket(self._sock, server_hostname=client.host)
            self._handshake(client, f"{client.base_path}/{path.lstrip('/')}", subprotocol)
        except OSError as exc:
            self._drop()
            raise self._connection_error(exc) from exc
        except WebSocketError:
            self._drop()
            raise

    def send(self, message: t.Any) -> None:
        """Send JSON as one text frame."""
        self._send_frame(TEXT, json.dumps(message).encode())

    def receive(self) -> t.Any:
        """Wait for the next text message and give its JSON; answer pings meanwhile."""
        message = b""
        while True:
            final, opcode, payload = self._read_frame()
            if opcode == PING:
                self._send_frame(PONG, payload)
            elif opcode == CLOSE:
                raise self._closed(payload)
            elif opcode in (CONTINUATION, TEXT):
                message += payload
                if len(message) > MAX_MESSAGE:
                    raise self._protocol_error("sent a message that is far too long")
                if final:
                    break
            elif opcode != PONG:
                raise self._protocol_error(f"sent a frame of an unexpected kind ({opcode})")
        try:
            return json.loads(message)
        except ValueError:
            raise self._protocol_error("sent a message that is not JSON") from None

    def close(self) -> None:
        """Say goodbye (code 1000) and wait shortly for the answer; never fails."""
        self._deadline = min(self._deadline, time.monotonic() + 2)
        with contextlib.suppress(WebSocketError):
            self._send_frame(CLOSE, struct.pack("!H", 1000))
            while self._read_frame()[1] != CLOSE:
                pass
        self._drop()

    def _drop(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _closed(self, payload: bytes) -> WebSocketError:
        code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
        reason = payload[2:].decode(errors="replace")
        with contextlib.suppress(WebSocketError):
            self._send_frame(CLOSE, payload[:2])
        self._drop()
        remedy = "give the server's own auth string, user:password, as auth_string" if code == 1008 else ""
        return WebSocketError(f"the server closed the WebSocket with code {code}" + (f" ({reason})" if reason else ""), remedy, "closed", code=code)

    def _protocol_error(self, what: str) -> WebSocketError:
        self._drop()
        return WebSocketError(f"{self.address} {what}", UPGRADE_REMEDY, "protocol")

    def _connection_error(self, exc: OSError) -> WebSocketError:
        return WebSocketError(*explain_connection_error(exc, self.address))

    def _handshake(self, client: PrefectClient, target: str, subprotocol: str) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = (
            f"GET {target} HTTP/1.1",
            f"Host: {client.netloc}",
            f"User-Agent: {USER_AGENT}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode()}",
            f"Sec-WebSocket-Protocol: {subprotocol}",
        )
        self._write("\r\n".join((*lines, "", "")).encode())
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > MAX_HEAD:
                raise self._protocol_error("answered the handshake with something that is not HTTP")
            self._fill()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *rest = head.decode("latin-1").split("\r\n")
        version, _space, status = first[:12].partition(" ")
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise self._protocol_error("answered the handshake with something that is not HTTP")
        if status != "101":
            raise WebSocketError(f"the handshake was answered with HTTP {status} and not with 101", UPGRADE_REMEDY, "handshake", status=int(status))
        headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in rest)}
        accept = base64.b64encode(hashlib.sha1(key + ACCEPT_GUID, usedforsecurity=False).digest()).decode()
        if not hmac.compare_digest(headers.get("sec-websocket-accept", ""), accept):
            raise self._protocol_error("answered the handshake, but is no WebSocket server")
        self.subprotocol = headers.get("sec-websocket-protocol", "")
        if self.subprotocol not in ("", subprotocol):
            raise self._protocol_error(f"chose the subprotocol {self.subprotocol}, which nobody offered")

    def _socket(self) -> socket.socket:
        if self._sock is None:
            raise WebSocketError("the WebSocket is closed", "", "closed")
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock

    def _write(self, data: bytes) -> None:
        try:
            self._socket().sendall(data)
        except OSError as exc:
            raise self._connection_error(exc) from exc

    def _fill(self) -> None:
        try:
            data = self._socket().recv(65536)
            if not data:
                raise ConnectionResetError("no closing frame")
        except OSError as exc:
            raise self._connection_error(exc) from exc
        self._buffer += data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._fill()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        elif len(payload) < 65536:
            length = struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(payload))
        # A client masks all that it sends.
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self._write(struct.pack("!B", 0x80 | opcode) + length + mask + masked)

    def _read_frame(self) -> tuple[bool, int, bytes]:
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        if first & 0x70 or second & 0x80 or length > MAX_MESSAGE:
            raise self._protocol_error("sent a frame that breaks the WebSocket protocol")
        return bool(first & 0x80), first & 0x0F, self._take(length)


def open_prefect_socket(client: PrefectClient, path: str, timeout: float = 10) -> WebSocket:
    """Open one of Prefect's WebSockets and authenticate as its clients do, by the first message.

    A server that takes no subprotocol is too old to ask for authentication on this path.
    """
    ws = WebSocket(client, path, timeout)
    if ws.subprotocol:
        try:
            ws.send({"type": "auth", "token": client.auth_string})
            answer = ws.receive()
            if not isinstance(answer, dict) or answer.get("type") != "auth_success":
                raise WebSocketError("the server answered the auth message with something else than auth_success", UPGRADE_REMEDY, "protocol")
        except WebSocketError:
            ws.close()
            raise
    return ws
