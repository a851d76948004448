# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real little servers for what talks HTTP, and a way to run a module's main()."""

from __future__ import annotations

import json
import socketserver
import ssl
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

import pytest
from ansible_collections.selfhost.prefect.tests.certificate import make_certificate
from ansible_collections.selfhost.prefect.tests.run_module import run_module
from hypothesis import HealthCheck, settings

# How long an example takes says more of what else the machine does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


class FakeApi:
    """An HTTP server that answers as `routes` says, and remembers what it was asked.

    routes: {"GET /api/x": answer}; an answer is (status, JSON or str or bytes, headers), a list of such to give one after the other,
    or a function of the request that makes one. A query string does not count. What has no route is up to `otherwise`.
    """

    def __init__(self) -> None:
        self.routes: dict[str, t.Any] = {}
        self.otherwise: t.Any = (404, {"detail": "Not Found"})
        self.requests: list[dict[str, t.Any]] = []
        # What the Date header says; None for the truth.
        self.date: str | None = None
        api = self

        class Handler(BaseHTTPRequestHandler):
            server_version = "fake"
            sys_version = ""

            def answer(self) -> None:
                api.answer(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(timestamp) if api.date is None else api.date

            def log_message(self, *_args: object) -> None:
                pass

        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_args: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path, _mark, query = handler.path.partition("?")
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = {"method": handler.command, "path": path, "query": query, "headers": handler.headers, "body": json.loads(body) if body else None}
        self.requests.append(request)
        answer = self.routes.get(f"{handler.command} {path}", self.otherwise)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
        status, content, *headers = answer
        data = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if status != 204:
            handler.wfile.write(data)

    def asked(self) -> list[str]:
        return [f"{request['method']} {request['path']}" for request in self.requests]


class RawServer:
    """A TCP server that gives each connection to a function."""

    def __init__(self, serve: t.Callable[[t.Any], None], context: ssl.SSLContext | None = None) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                serve(context.wrap_socket(self.request, server_side=True) if context else self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_args: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def fake_api() -> t.Iterator[FakeApi]:
    api = FakeApi()
    yield api
    api.server.shutdown()
    api.server.server_close()


@pytest.fixture
def raw_server() -> t.Iterator[t.Callable[..., RawServer]]:
    servers: list[RawServer] = []

    def start(serve: t.Callable[[t.Any], None], context: ssl.SSLContext | None = None) -> RawServer:
        servers.append(RawServer(serve, context))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


class Served(t.NamedTuple):
    """A certificate for 127.0.0.1 and the context of a server that shows it."""

    path: str
    context: ssl.SSLContext


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = make_certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.path, made.key_path)
    return Served(made.path, context)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting: time passes by itself, and each pause is noted."""
    noted: list[float] = []
    clock = [1000.0]

    def sleep(seconds: float) -> None:
        noted.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return noted


class FakeGoogle:
    """Google's APIs, all at one address: objects by their paths, and operations that are done when they are asked for once.

    A test adds routes to `api` for what is particular. `fill` is what Google adds to each new object by itself.
    """

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.objects: dict[str, t.Any] = {}
        self.fill: dict[str, t.Any] = {}
        self.warnings: list[str] = []
        api.otherwise = self.answer

    def written(self) -> list[tuple[str, t.Any]]:
        """What may have changed something: reads by POST are none."""
        return [
            (f"{request['method']} {request['path']}" + (f"?{unquote(request['query'])}" if request["query"] else ""), request["body"])
            for request in self.api.requests
            if request["method"] != "GET" and not request["path"].endswith(":getIamPolicy")
        ]

    def reads(self) -> list[str]:
        return [request["path"] for request in self.api.requests if request["method"] == "GET"]

    def fail(self, route: str, code: int, message: str, status: str = "", **error: t.Any) -> None:
        """Have a request refused in Google's words."""
        self.api.routes[route] = (code, {"error": {"code": code, "message": message, **({"status": status} if status else {}), **error}})

    def answer(self, request: dict[str, t.Any]) -> tuple[int, t.Any]:
        method, path, body, query = request["method"], unquote(request["path"]), request["body"] or {}, parse_qs(request["query"])
        if method == "GET":
            missing = {"error": {"code": 404, "message": f"{path} was not found.", "status": "NOT_FOUND"}}
            return (200, self.objects[path]) if path in self.objects else (404, missing)
        if "validateOnly" in query or "dryRun" in query:
            return 200, {}
        if method == "POST":
            name = body.get("name") or (query.get("serviceId") or query.get("secretId") or [body.get("metadata", {}).get("name", "")])[0]
            self.objects[f"{path}/{name}"] = {"name": name, **self.fill, **body}
        elif method == "DELETE":
            del self.objects[path]
        else:
            there = self.objects[path]
            for key, value in body.items():
                there[key] = {**there.get(key, {}), **value} if isinstance(value, dict) and key != "template" else value
        return 200, self.operation(path)

    def operation(self, path: str) -> dict[str, t.Any]:
        """Start an operation of the API's own kind; the object that stands for it later is done."""
        if path.startswith("/compute/"):
            place = "/".join(path.split("/")[3:7] if "/regions/" in path else path.split("/")[3:6])
            operation = {
                "kind": "compute#operation",
                "name": "op",
                "status": "RUNNING",
                "selfLink": f"https://www.googleapis.com/compute/v1/{place}/operations/op",
            }
            self.objects[f"/compute/v1/{place}/operations/op"] = {**operation, "status": "DONE"}
        elif "/instances" in path:
            operation = {"kind": "sql#operation", "name": "op", "status": "PENDING", "targetProject": "my-project"}
            self.objects["/v1/projects/my-project/operations/op"] = {**operation, "status": "DONE"}
        elif path.startswith(("/v2/", "/v1/services/")):
            operation = {"name": "operations/op"}
            self.objects[f"{path[:3]}/operations/op"] = {**operation, "done": True}
        else:
            operation = {}
        return operation


@pytest.fixture
def google(fake_api: FakeApi, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> FakeGoogle:
    for name in ("CLOUDRESOURCEMANAGER", "IAM", "RUN", "SECRETMANAGER", "SERVICENETWORKING", "SERVICEUSAGE", "SQL"):
        monkeypatch.setenv(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}", f"http://127.0.0.1:{fake_api.port}/")
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", f"http://127.0.0.1:{fake_api.port}/compute/v1/")
    for name in ("GCP_PROJECT", "GCP_AUTH_KIND", "GCP_SERVICE_ACCOUNT_FILE", "GCP_SERVICE_ACCOUNT_CONTENTS", "GCP_ACCESS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    google = FakeGoogle(fake_api)
    # Those of one module in a process would be shown by the next one too.
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, warning: google.warnings.append(warning))
    return google


@pytest.fixture
def run_google(google: FakeGoogle, run_module: t.Callable[..., dict[str, t.Any]]) -> t.Callable[..., dict[str, t.Any]]:
    """Run a module for Google Cloud with credentials."""

    def run(main: t.Callable[[], None], check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        google.api.requests.clear()
        google.warnings.clear()
        return run_module(main, check_mode, **{"project": "my-project", "auth_kind": "accesstoken", "access_token": "not-a-real-token", **arguments})

    return run


@pytest.fixture(name="run_module")
def run_module_fixture() -> t.Callable[..., dict[str, t.Any]]:
    return run_module
