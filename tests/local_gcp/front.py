# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Google's front end, before a service of Cloud Run: it ends TLS, lets in who may call, and shares the requests among the revisions."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import random
import socket
import threading
import typing as t

if t.TYPE_CHECKING:
    from .server import RequestHandler

# RFC 9110, 7.6.1: they belong to one connection.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
# "Set request timeout for services": no request, and so no WebSocket, lasts longer.
LONGEST = 3600


@dataclasses.dataclass
class Backend:
    """The containers of a service: address, port and share."""

    service: str
    shares: list[tuple[tuple[str, int], int]]

    def choose(self) -> tuple[str, int]:
        return random.choices([address for address, _share in self.shares], [share for _address, share in self.shares])[0]


def forward(handler: RequestHandler, host: str) -> None:
    """Hand a request on, as HTTP/1."""
    backend = handler.owner.backends.get(host)
    if not backend:
        refuse(handler, 404, "Page not found: there is no service at this address.")
    elif not is_public(handler, backend):
        refuse(handler, 403, f"Your client does not have permission to get URL {handler.path} from this server.")
    elif "upgrade" in handler.headers.get("Connection", "").lower():
        tunnel(handler, backend.choose(), host)
    else:
        relay(handler, backend.choose(), host)


def refuse(handler: RequestHandler, status: int, text: str) -> None:
    handler.close_connection = True
    data = f"<html><title>{status}</title><h1>Error: {text}</h1></html>\n".encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "text/html; charset=UTF-8")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)


def is_public(handler: RequestHandler, backend: Backend) -> bool:
    """ "Allowing public (unauthenticated) access": the check is off, or everybody has the role."""
    service = handler.cloud.state.resources.get(backend.service, {})
    policy = handler.cloud.policies.get(backend.service.removeprefix("run/"), {})
    bindings = [binding for binding in policy.get("bindings", []) if binding["role"] == "roles/run.invoker"]
    return bool(service.get("invokerIamDisabled")) or any("allUsers" in binding["members"] for binding in bindings)


def headers_for(handler: RequestHandler, host: str) -> dict[str, str]:
    found = {name: value for name, value in handler.headers.items() if name.lower() not in (*HOP_BY_HOP, "host")}
    return {"Host": host, **found, "X-Forwarded-For": str(handler.client_address[0]), "X-Forwarded-Proto": "https"}


def relay(handler: RequestHandler, address: tuple[str, int], host: str) -> None:
    content = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    connection = http.client.HTTPConnection(*address, timeout=LONGEST)
    try:
        connection.request(handler.command, handler.path, content or None, headers_for(handler, host))
        response = connection.getresponse()
        handler.send_response_only(response.status, response.reason)
        chunked = response.getheader("Content-Length") is None and handler.command != "HEAD" and response.status not in (204, 304)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                handler.send_header(name, value)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while data := response.read1(65536):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if chunked else data)
        if chunked:
            handler.wfile.write(b"0\r\n\r\n")
    except OSError:
        refuse(handler, 503, "Service Unavailable")
    finally:
        connection.close()


def tunnel(handler: RequestHandler, address: tuple[str, int], host: str) -> None:
    """A WebSocket: after its head, bytes in both directions."""
    handler.close_connection = True
    try:
        upstream = socket.create_connection(address, timeout=10)
    except OSError:
        refuse(handler, 503, "Service Unavailable")
        return
    headers = {**headers_for(handler, host), "Connection": "Upgrade", "Upgrade": handler.headers.get("Upgrade", "")}
    lines = [f"{handler.command} {handler.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    with upstream:
        upstream.settimeout(LONGEST)
        upstream.sendall("\r\n".join(lines).encode("latin-1"))
        threading.Thread(target=pour, args=(handler.connection, upstream), daemon=True).start()
        pour(upstream, handler.connection)


def pour(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
