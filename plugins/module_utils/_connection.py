# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""What all clients have in common: their name, and sentences about connections that fail. It imports little, since each module starts anew."""

from __future__ import annotations

import http.client
import socket
import ssl
import typing as t
from urllib.error import URLError

USER_AGENT = "ansible selfhost.prefect"

# Why no answer came: exception, kind, problem, remedy. The first that fits counts.
CONNECTION_ERRORS: tuple[tuple[t.Any, str, str, str], ...] = (
    (
        ssl.SSLCertVerificationError,
        "tls",
        "the certificate of {address} is not trusted ({reason})",
        "give its authority's PEM bundle as ca_path, or use the host name that it carries",
    ),
    (ssl.SSLError, "tls", "{address} does not speak TLS as it should ({reason})", "address a port without TLS with http://"),
    (socket.gaierror, "dns", "the name in {address} cannot be resolved ({reason})", "correct the name, or the resolver of this host"),
    (ConnectionRefusedError, "refused", "nothing listens on {address}", "start the server, or correct the address"),
    # Two classes before Python 3.10.
    ((TimeoutError, socket.timeout), "timeout", "{address} did not answer in time", "look for a firewall in between, or an overloaded server"),
    ((http.client.HTTPException, ConnectionError), "connection", "{address} broke the connection off ({reason})", "address a port with TLS with https://"),
    (BaseException, "connection", "{address} cannot be reached ({reason})", "correct the address, or the route to it"),
)


def explain_connection_error(exc: BaseException, address: str) -> tuple[str, str, str]:
    """Say why no answer came: (problem, remedy, kind)."""
    if isinstance(exc, URLError) and isinstance(exc.reason, BaseException):
        exc = exc.reason
    words = (*(getattr(exc, name, None) for name in ("verify_message", "reason", "strerror")), str(exc), type(exc).__name__)
    reason = str(next(filter(None, words))).rstrip(".")
    _types, kind, problem, remedy = next(row for row in CONNECTION_ERRORS if isinstance(exc, row[0]))
    return problem.format(address=address, reason=reason), remedy, kind
