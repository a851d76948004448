# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import struct
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.selfhost.prefect.plugins.module_utils._connection import explain_connection_error
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec

SECRET = "admin:not-a-real:password"  # with a colon in it, which Prefect allows
PROXY_PAGE = "<html><head><title>502 Bad Gateway</title></head></html>"


def error_of(function: t.Callable[..., t.Any], *args: t.Any, **kwargs: t.Any) -> PrefectError:
    with pytest.raises(PrefectError) as caught:
        function(*args, **kwargs)
    assert SECRET not in str(caught.value)
    assert SECRET.partition(":")[2] not in str(caught.value)
    return caught.value


@pytest.fixture
def client(fake_api) -> PrefectClient:
    return PrefectClient(fake_api.url, SECRET, timeout=5)


def test_the_options_and_a_client_of_them(fake_api):
    fake_api.routes["GET /api/version"] = (200, "0.8.4")
    result = ArgumentSpecValidator(prefect_argument_spec()).validate({"api_url": fake_api.url + "/", "auth_string": SECRET, "ca_path": ""})
    assert not result.error_messages
    assert "auth_string" in prefect_argument_spec()
    assert prefect_argument_spec()["auth_string"]["no_log"] is True
    client = PrefectClient.from_params(result.validated_parameters)
    assert client.timeout == 30
    with pytest.raises(PrefectError, match="not with Prefect's JSON"):
        client.get("version")


def test_what_goes_out(fake_api, client, monkeypatch, tmp_path):
    # A netrc with an entry for this host does not replace the auth string.
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fake_api.routes.update({f"{method} /api/things/a%20b": (200, {"id": 1}) for method in ("GET", "POST", "PUT", "PATCH", "DELETE")})
    path = f"things/{client.quote('a b')}"
    assert client.get(path) == {"id": 1}
    assert client.post(path) == {"id": 1}
    assert client.put(path, {"x": 1}) == {"id": 1}
    assert client.patch(path, {"y": None}) == {"id": 1}
    assert client.delete("/" + path) == {"id": 1}
    assert [(request["method"], request["body"]) for request in fake_api.requests] == [
        ("GET", None),
        ("POST", {}),
        ("PUT", {"x": 1}),
        ("PATCH", {"y": None}),
        ("DELETE", None),
    ]
    for request in fake_api.requests:
        assert base64.b64decode(request["headers"]["Authorization"].removeprefix("Basic ")).decode() == SECRET
        # Prefect takes "prefect/3..." for a client of that version, and answers it differently.
        assert not request["headers"]["User-Agent"].startswith("prefect/")


def test_without_an_auth_string_there_is_no_header(fake_api):
    fake_api.routes["GET /api/version"] = (200, b'"0.8.4"')
    for nothing in (None, ""):
        assert PrefectClient(fake_api.url, nothing).get("version") == "0.8.4"
    assert all("Authorization" not in request["headers"] for request in fake_api.requests)


def test_an_empty_answer_is_none(fake_api, client):
    fake_api.routes["PATCH /api/x"] = (204, "")
    assert client.patch("x", {}) is None


def test_missing_objects(fake_api, client):
    fake_api.routes["GET /api/work_pools/x"] = fake_api.routes["DELETE /api/work_pools/x"] = (404, {"detail": 'Work pool "x" not found.'})
    assert client.get("work_pools/x", missing_ok=True) is None
    assert client.delete("work_pools/x") is None
    error = error_of(client.get, "work_pools/x")
    assert (error.kind, error.status, error.detail) == ("http", 404, 'Work pool "x" not found.')
    assert str(error) == f'GET {fake_api.url}/work_pools/x: HTTP 404: Work pool "x" not found.'


def test_a_wrong_api_url_is_no_missing_object(fake_api, client):
    error = error_of(client.get, "work_pools/x", missing_ok=True)
    assert "let api_url end in /api" in error.remedy
    fake_api.routes["GET /api/work_pools/x"] = (404, "<html><title>404</title>")
    error = error_of(client.get, "work_pools/x", missing_ok=True)
    assert error.problem.endswith("answered HTTP 404 with a web page (404) of fake, not with Prefect's JSON")
    fake_api.routes["GET /api/work_pools/x"] = (200, "<!doctype html><html><title>Prefect Server</title>")
    error = error_of(client.get, "work_pools/x", missing_ok=True)
    assert (error.kind, error.status) == ("not_json", 200)
    assert "a web page (Prefect Server) of fake" in error.problem
    assert "ends in /api" in error.remedy


def test_401(fake_api, client):
    fake_api.routes["GET /api/version"] = (401, {"exception_message": "Unauthorized"})
    error = error_of(client.get, "version")
    assert "Prefect refused the auth string" in str(error)
    assert "as auth_string" in error.remedy
    assert "Prefect asks for an auth string" in str(error_of(PrefectClient(fake_api.url).get, "version"))
    fake_api.routes["GET /api/version"] = (401, "<html><title>401 Authorization Required</title>", {"WWW-Authenticate": "Basic"})
    assert "a proxy in front asks for a password of its own" in error_of(client.get, "version").remedy


def test_403_and_409_and_500_quote_prefect(fake_api, client):
    for status, body in (
        (403, {"detail": "Work pools starting with 'Prefect' are reserved for internal use."}),
        (409, {"detail": "A work pool with this name already exists."}),
        (500, {"exception_message": "Internal Server Error"}),
    ):
        fake_api.routes["POST /api/work_pools/"] = (status, body)
        error = error_of(client.post, "work_pools/", {"name": "x"})
        assert (error.status, error.detail) == (status, next(iter(body.values())))
        assert str(error) == f"POST {fake_api.url}/work_pools/: HTTP {status}: {error.detail.rstrip('.')}."


def test_422_names_the_fields_and_no_value(fake_api, client):
    fake_api.routes["POST /api/variables/"] = (
        422,
        {
            "exception_message": "Invalid request received.",
            "exception_detail": [
                {"type": "missing", "loc": ["body", "name"], "msg": "Field required", "input": {"value": SECRET}},
                {"type": "int", "loc": ["body", "tags", 0], "msg": "Input should be a valid string", "input": SECRET},
            ],
            "request_body": {"value": SECRET},
        },
    )
    assert error_of(client.post, "variables/").detail == "name: Field required; tags.0: Input should be a valid string"
    fake_api.routes["POST /api/variables/"] = (422, {"detail": [{"loc": ["query", "limit"], "msg": "too large"}, "odd"]})
    assert error_of(client.post, "variables/").detail == "query.limit: too large"
    fake_api.routes["POST /api/variables/"] = (422, {"detail": []})
    assert error_of(client.post, "variables/").detail == "invalid request"


def test_odd_error_bodies(fake_api, client):
    for body, text in ((["x"], "with something else of fake"), ({"x": 1}, "with something else of fake"), (b"", "with nothing of fake")):
        fake_api.routes["GET /api/x"] = (400, body)
        error = error_of(client.get, "x")
        assert error.problem.endswith(f"answered HTTP 400 {text}, not with Prefect's JSON")
        assert error.remedy == "correct api_url, or the proxy in front of it"


def test_an_error_whose_body_breaks_off(raw_server):
    server = raw_server(lambda sock: (sock.recv(65536), sock.sendall(b"HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{")))
    error = error_of(PrefectClient(f"http://127.0.0.1:{server.port}/api", timeout=2).get, "x")
    assert (error.status, error.detail) == (409, None)


def test_a_redirect_is_reported_and_not_followed(fake_api, client):
    fake_api.routes["POST /api/work_pools/filter"] = (301, "", {"Location": "https://prefect.example.com/api/work_pools/filter"})
    error = error_of(client.post, "work_pools/filter")
    assert error.kind == "redirect"
    assert "redirects (HTTP 301) to https://prefect.example.com/api/work_pools/filter" in error.problem
    assert "set api_url" in error.remedy
    fake_api.routes["POST /api/work_pools/filter"] = (302, "")
    assert "to nowhere" in error_of(client.post, "work_pools/filter").problem
    assert len(fake_api.requests) == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_failures_are_tried_again(fake_api, client, naps, status):
    fake_api.routes["GET /api/x"] = [(status, PROXY_PAGE), (status, PROXY_PAGE), (200, [1])]
    assert client.get("x") == [1]
    assert naps == [0.5, 1.0]


def test_not_for_ever(fake_api, naps):
    fake_api.routes["GET /api/x"] = (502, PROXY_PAGE)
    error = error_of(PrefectClient(fake_api.url, timeout=60).get, "x")
    assert "answered HTTP 502 with a web page (502 Bad Gateway) of fake" in error.problem
    assert "the proxy in front does not reach the server" in error.remedy
    assert naps == [0.5, 1.0, 2.0, 4.0]
    assert len(fake_api.requests) == 5


def test_no_longer_than_the_timeout(fake_api, naps):
    fake_api.routes["GET /api/x"] = (504, "")
    assert "does not answer the proxy" in error_of(PrefectClient(fake_api.url, timeout=3).get, "x").remedy
    assert naps == [0.5, 1.0]


def test_a_create_that_may_have_arrived_is_sent_once(fake_api, client, naps):
    fake_api.routes["POST /api/work_pools/"] = (502, PROXY_PAGE)
    error_of(client.post, "work_pools/", {"name": "x"})
    assert len(fake_api.requests) == 1
    # What the server has refused to look at may be sent again, as may a query, or what its sender calls repeatable.
    fake_api.routes["POST /api/work_pools/"] = [(503, {"exception_message": "Service Unavailable"}), (201, {})]
    assert client.post("work_pools/", {"name": "x"}) == {}
    fake_api.routes["POST /api/work_pools/filter"] = [(502, PROXY_PAGE), (200, [])]
    assert client.post("work_pools/filter") == []
    fake_api.routes["POST /api/flows/"] = [(502, PROXY_PAGE), (200, {"id": 1})]
    assert client.post("flows/", {"name": "x"}, repeatable=True) == {"id": 1}
    assert naps == [0.5, 0.5, 0.5]


def test_csrf_tokens_are_fetched_when_asked_for(fake_api, client):
    valid = ["one"]

    def guarded(request):
        token = request["headers"].get("Prefect-Csrf-Token")
        if not token or not request["headers"].get("Prefect-Csrf-Client"):
            return 403, {"detail": "Missing CSRF token."}
        return (200, []) if token == valid[0] else (403, {"detail": "Invalid CSRF token or client identifier."})

    fake_api.routes["POST /api/x/filter"] = guarded
    fake_api.routes["GET /api/csrf-token"] = lambda _request: (200, {"token": valid[0]})
    assert client.post("x/filter") == []
    assert client.post("x/filter") == []
    assert fake_api.asked() == ["POST /api/x/filter", "GET /api/csrf-token", "POST /api/x/filter", "POST /api/x/filter"]
    # An expired token is renewed, for the same client identifier.
    valid[0] = "two"
    assert client.post("x/filter") == []
    assert len({request["query"] for request in fake_api.requests if request["query"]}) == 1
    # A server that refuses a fresh token too is not asked for ever.
    fake_api.routes["POST /api/x/filter"] = (403, {"detail": "Invalid CSRF token or client identifier."})
    assert error_of(client.post, "x/filter").status == 403


@pytest.mark.parametrize(
    ("count", "most", "offsets"),
    [(0, None, (0,)), (1, None, (0, 1)), (4, None, (0, 2, 4)), (5, None, (0, 2, 4)), (5, 5, (0, 2, 4)), (2, 2, (0,)), (2, 3, (0, 2))],
)
def test_filter_reads_all_pages(fake_api, client, count, most, offsets):
    everything = list(range(count))

    def page(request):
        offset = request["body"]["offset"]
        return 200, everything[offset : offset + 2]

    fake_api.routes["POST /api/things/filter"] = page
    assert client.filter("things/filter", {"sort": "ID_DESC"}, most=most) == everything
    assert [request["body"] for request in fake_api.requests] == [{"sort": "ID_DESC", "offset": offset} for offset in offsets]


def test_nothing_listens(naps):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    # A refused connection has reached nobody: even a create is tried again.
    error = error_of(PrefectClient(f"http://127.0.0.1:{port}/api", SECRET).post, "work_pools/", {})
    assert error.kind == "refused"
    assert f"nothing listens on http://127.0.0.1:{port}" in error.problem
    assert naps == [0.5, 1.0, 2.0, 4.0]


def test_no_answer_in_time(raw_server):
    done = []
    server = raw_server(lambda sock: (sock.recv(65536), done.append(1), sock.recv(1)))
    error = error_of(PrefectClient(f"http://127.0.0.1:{server.port}/api", timeout=0.2).get, "x")
    assert error.kind == "timeout"
    assert "did not answer in time" in error.problem
    assert len(done) == 1


@pytest.mark.parametrize(
    "serve",
    [
        lambda sock: sock.recv(65536),
        lambda sock: (sock.recv(65536), sock.sendall(b"SSH-2.0\r\n")),
        lambda sock: (sock.recv(65536), sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[")),
        lambda sock: (sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)), sock.recv(65536), sock.close()),
    ],
    ids=["closed", "not http", "cut", "reset"],
)
def test_a_broken_connection(raw_server, naps, serve):
    server = raw_server(serve)
    client = PrefectClient(f"http://127.0.0.1:{server.port}/api")
    error = error_of(client.get, "x")
    assert error.kind == "connection"
    assert "broke the connection off" in error.problem
    assert len(naps) == 4
    assert error_of(client.post, "x", {}).kind == "connection"
    assert len(naps) == 4


def test_tls(raw_server, certificate, naps):
    def serve(sock):
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")

    server = raw_server(serve, certificate.context)
    url = f"https://127.0.0.1:{server.port}/api"
    assert PrefectClient(url, SECRET, certificate.path).get("health") is True
    error = error_of(PrefectClient(url, SECRET).get, "health")
    assert error.kind == "tls"
    assert "is not trusted (self-signed certificate)" in error.problem.replace("self signed", "self-signed")
    assert "as ca_path" in error.remedy
    assert "mismatch" in error_of(PrefectClient(url.replace("127.0.0.1", "localhost"), SECRET, certificate.path).get, "health").problem
    assert naps == []


def test_https_to_a_port_without_tls(fake_api, naps):
    error = error_of(PrefectClient(fake_api.url.replace("http", "https"), SECRET).get, "health")
    assert error.kind == "tls"
    assert "does not speak TLS" in error.problem
    assert naps == []


def test_ca_path(tmp_path: Path):
    missing = error_of(PrefectClient, "https://127.0.0.1/api", SECRET, str(tmp_path / "none.pem"))
    assert (missing.kind, missing.remedy) == ("tls", "give the path of a PEM bundle that exists there")
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    assert "cannot be read" in error_of(PrefectClient, "https://127.0.0.1/api", SECRET, str(empty)).problem
    # It is not looked at where no TLS is spoken.
    PrefectClient("http://127.0.0.1/api", SECRET, str(empty))


@pytest.mark.parametrize("url", ["", "127.0.0.1:4200/api", "ftp://host/api", "http:///api", "http://host:port/api", "http://[::1/api"])
def test_no_url(url):
    error = error_of(PrefectClient, url, SECRET)
    assert (error.kind, str(error)) == ("url", "api_url is no URL of an API: write it like https://prefect.example.com/api.")


def test_a_url_with_credentials_is_refused_and_not_shown():
    error = error_of(PrefectClient, f"https://{SECRET}@prefect.example.com/api")
    assert "give user:password as auth_string instead" in str(error)


def test_what_a_url_is_made_of(certificate):
    client = PrefectClient("https://prefect.example.com/base/api/", ca_path=certificate.path)
    assert (client.host, client.port, client.base_path, client.netloc) == ("prefect.example.com", 443, "/base/api", "prefect.example.com")
    assert PrefectClient("http://[::1]:4200/api").port == 4200


@pytest.mark.parametrize(
    ("exception", "kind", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "dns", "cannot be resolved (Name or service not known)"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), "tls", "does not speak TLS as it should"),
        (TimeoutError(), "timeout", "did not answer in time"),
        (http.client.IncompleteRead(b""), "connection", "broke the connection off (IncompleteRead"),
        (ConnectionResetError(), "connection", "(ConnectionResetError)"),
        (OSError(113, "No route to host"), "connection", "cannot be reached (No route to host)"),
    ],
)
def test_connection_errors_are_told_apart(exception, kind, words):
    problem, remedy, found = explain_connection_error(exception, "http://host")
    assert found == kind
    assert words in problem
    assert "http://host" in problem
    assert remedy
    assert str(PrefectError("It broke", "", "x")) == "It broke."


def fault(*place: t.Any, kind: str = "missing", msg: str = "Field required", **more: t.Any) -> dict[str, t.Any]:
    return {"loc": ["body", *place], "type": kind, "msg": msg, **more}


@pytest.mark.parametrize(
    ("faults", "detail"),
    [
        # The kind that is meant is the one that differs least.
        (
            [
                fault("s", 0, "function-after[check(), IntervalSchedule]", "interval"),
                fault("s", 0, "function-after[check(), IntervalSchedule]", "cron", kind="extra_forbidden"),
                fault("s", 0, "CronSchedule", "cron", kind="value_error", msg="bad cron"),
                fault("name"),
            ],
            "name: Field required; s.0.cron: bad cron",
        ),
        # Or the one whose type fits.
        (
            [
                fault("a", "DoNothing", "type", kind="literal_error", msg="no"),
                fault("a", "Run", "Inner", "x", msg="first"),
                fault("a", "Run", "y", msg="second"),
            ],
            "a.y: second; a.x: first",
        ),
        # Or none, and then the types are told.
        (
            [
                fault("a", 1, "DoNothing", "type", kind="literal_error", msg="no", ctx={"expected": "'do-nothing'"}),
                fault("a", 1, "Run", "type", kind="literal_error", msg="no", ctx={"expected": "'run'"}),
                fault("a", 1, "Run", "id"),
            ],
            "a.1.type: Input should be 'do-nothing' or 'run'",
        ),
    ],
)
def test_a_value_of_several_kinds(fake_api, faults, detail):
    fake_api.routes["GET /api/x"] = (422, {"exception_detail": faults})
    with pytest.raises(PrefectError) as raised:
        PrefectClient(fake_api.url).get("x")
    assert raised.value.detail == detail
