# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP in front of the local cloud: plainly, and as the proxy of clients that know only Google's own addresses."""

from __future__ import annotations

import functools
import json
import ssl
import tempfile
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

from . import identity
from .certificates import Authority
from .errors import GoogleError
from .front import Backend, forward

if t.TYPE_CHECKING:
    from .cloud import LocalCloud

# Where google-auth asks for tokens, over Google's own host or over this one.
TOKEN_PATHS = {"/token", "/oauth2/v4/token", "/o/oauth2/token"}


class Server:
    """The socket, the certificate authority and the log."""

    def __init__(self, cloud: LocalCloud, port: int, folder: Path | None) -> None:
        self.cloud = cloud
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="local-gcp-")
        self.folder = folder or Path(self._temporary.name)  # type: ignore[union-attr]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority = Authority(self.folder)
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._log = (self.folder / "requests.log").open("a") if folder else None
        server = self

        class Handler(RequestHandler):
            cloud = self.cloud
            owner = server

        class Sockets(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                """A client that goes away is no news."""

        class Front(Handler):
            def setup(self) -> None:
                self.request = server.any_context.wrap_socket(self.request, server_side=True)
                super().setup()

        self.listen = functools.partial(Sockets, RequestHandlerClass=Front)
        self.any_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.any_context.sni_callback = lambda connection, name, _context: setattr(connection, "context", self.context(name or "run.app"))
        self.front: Sockets | None = None
        # What answers at Cloud Run's public names.
        self.backends: dict[str, Backend] = {}
        self.sockets = Sockets(("127.0.0.1", port), Handler)
        self.port = self.sockets.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.sockets.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def serve_front(self, address: str) -> None:
        """Listen where Cloud Run's public names lead to, with the certificate of whichever is asked for."""
        with self.cloud.lock:
            if not self.front:
                self.front = self.listen((address, 443))
                threading.Thread(target=self.front.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        for sockets in filter(None, (self.sockets, self.front)):
            sockets.shutdown()
            sockets.server_close()
        if self._log:
            self._log.close()
        if self._temporary:
            self._temporary.cleanup()

    def context(self, host: str) -> ssl.SSLContext:
        with self.cloud.lock:
            if host not in self._contexts:
                self._contexts[host] = self.authority.context(host)
            return self._contexts[host]

    def log(self, record: dict[str, t.Any]) -> None:
        """One line of JSON for each request, without bodies: there are secrets in those."""
        if self._log and not self._log.closed:
            self._log.write(json.dumps({name: value for name, value in record.items() if name != "body"}) + "\n")
            self._log.flush()

    @staticmethod
    def split(target: str) -> tuple[str, dict[str, list[str]]]:
        path, _mark, query = target.partition("?")
        return path, parse_qs(query, keep_blank_values=True)


class RequestHandler(BaseHTTPRequestHandler):
    """One connection."""

    cloud: LocalCloud
    owner: Server
    protocol_version = "HTTP/1.1"
    server_version = "ESF"
    sys_version = ""
    tunnel = ""
    # Headers and body are two packets: without this each answer waits for the other side's delayed acknowledgement.
    disable_nagle_algorithm = True

    def do_CONNECT(self) -> None:  # http.server's name
        """Be the proxy and the host behind it: what the client says goes on over TLS, to this same handler."""
        self.tunnel = self.path.partition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.wfile.flush()
        self.connection = self.request = self.owner.context(self.tunnel).wrap_socket(self.connection, server_side=True)
        self.setup()
        self.close_connection = False

    def serve(self) -> None:
        host, target = self.tunnel or self.headers.get("Host", "").partition(":")[0], self.path
        if host.endswith(".run.app"):
            forward(self, host)
            return
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # An endpoint override has the host as the first part of its path, a plain proxy gets the whole URL.
        if target.startswith("http://"):
            target = "/" + target.split("/", 3)[3]
        first, _slash, rest = target.lstrip("/").partition("/")
        if not self.tunnel and unquote(first).endswith(".googleapis.com"):
            host, target = first, f"/{rest}"
        path = target.partition("?")[0]
        if path in TOKEN_PATHS:
            self._give(lambda: identity.answer_token(self.cloud, content))
        elif path == "/" or path.startswith("/computeMetadata/"):
            self._give(lambda: identity.answer_metadata(self.cloud, path), {"Metadata-Flavor": "Google"})
        elif host.startswith("iamcredentials."):
            self._send(404, {}, GoogleError(404, "Not found.").body(with_errors=False))
        else:
            self._send(*self.cloud.answer(self.command, host, target, {name.title(): value for name, value in self.headers.items()}, content))

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815  # http.server's names

    def _give(self, make: t.Callable[[], t.Any], headers: dict[str, str] | None = None) -> None:
        try:
            self._send(200, headers or {}, make())
        except GoogleError as error:
            self._send(error.code, headers or {}, {"error": error.reason, "error_description": error.message})

    def _send(self, status: int, headers: dict[str, str], body: t.Any) -> None:
        text = isinstance(body, str)
        data = body.encode() if text else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "text/plain" if text else "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_args: object) -> None:
        """The cloud keeps a log of its own."""
