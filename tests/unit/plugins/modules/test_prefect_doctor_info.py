# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import socket
import time
import types
import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import WebSocketError
from ansible_collections.selfhost.prefect.plugins.modules import prefect_doctor_info

SECRET = "admin:not-a-real-password"
BASIC = "Basic " + base64.b64encode(SECRET.encode()).decode()
UNAUTHORIZED = (401, {"exception_message": "Unauthorized"})
SETTINGS = {
    "events": {"retention_period": "P7D"},
    "services": {"db_vacuum": {"event_retention_overrides": {"prefect.flow-run.heartbeat": "P1DT12H"}}},
    "database": {"sqlalchemy": {"pool_size": 10, "max_overflow": 20}},
}
SEEN = {
    "server_version": "17.4",
    "tls": True,
    "latency_ms": 0.42,
    "size": 52428800,
    "events_size": 31457280,
    "max_connections": 100,
    "reserved_connections": 3,
    "schema": "public",
    "may_create": True,
    "has_pg_trgm": True,
}
DATABASE = {"connection_url": "postgresql+asyncpg://prefect:made-up-p%40ss@db.example.com/prefect"}
CLOSED = (*[f"websocket {path}" for path in ("events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled")],)


class Installation:
    """A healthy installation, which each test breaks in one place."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.auth = True
        self.version = "3.8.8"
        self.workers: list[list[dict[str, str]]] = [[{"name": "w1", "status": "ONLINE"}, {"name": "w2", "status": "ONLINE"}]]
        self.sockets: dict[str, WebSocketError] = {}
        self.token_checked = True
        self.opened: list[str] = []
        self.queues: list[dict[str, t.Any]] = []
        self.deployments: dict[str, int] = {}
        self.events_days_ago: list[float] = [0.1, 1, 7.9]
        api.routes.update(
            {
                "GET /api/health": (200, True),
                "GET /api/ready": (200, {"message": "OK"}),
                "GET /api/version": lambda request: (200, '"0.8.4"') if not self.auth or request["headers"].get("Authorization") == BASIC else UNAUTHORIZED,
                "GET /api/admin/version": lambda _request: (200, f'"{self.version}"'),
                "GET /ui-settings": (200, {"api_url": "/api"}),
                "GET /api/work_pools/etl": (200, {"name": "etl"}),
                "GET /api/work_pools/none": (404, {"detail": 'Work pool "none" not found.'}),
                "POST /api/work_pools/etl/workers/filter": self.read_workers,
                "POST /api/flow_runs/count": (200, 0),
                "POST /api/work_queues/filter": lambda request: (200, [] if request["body"]["offset"] else self.queues),
                "POST /api/deployments/count": lambda request: (200, sum(map(self.deployments.get, request["body"]["work_pool_queues"]["id"]["any_"]))),
                "GET /api/admin/settings": (200, {"server": SETTINGS}),
                "POST /api/events/filter": self.count_events,
            }
        )

    def read_workers(self, request: t.Any) -> tuple[int, t.Any]:
        if request["body"]["offset"]:
            return 200, []
        return 200, self.workers.pop(0) if len(self.workers) > 1 else self.workers[0]

    def count_events(self, request: t.Any) -> tuple[int, t.Any]:
        assert request["body"]["limit"] == 1
        occurred = {side: dt.datetime.fromisoformat(text.replace("Z", "+00:00")) for side, text in request["body"]["filter"]["occurred"].items()}
        now = dt.datetime.now(dt.timezone.utc)
        moments = [now - dt.timedelta(days=days) for days in self.events_days_ago]
        return 200, {"total": sum(occurred["since"] <= moment <= occurred["until"] for moment in moments), "events": []}

    def open_socket(self, client: t.Any, path: str, _timeout: float) -> t.Any:
        self.opened.append(path)
        if path in self.sockets:
            raise self.sockets[path]
        if self.auth and self.token_checked and client.auth_string != SECRET:
            raise WebSocketError("closed with code 1008", "", "closed", code=1008)
        return types.SimpleNamespace(close=lambda: None)


@pytest.fixture
def installation(fake_api, monkeypatch) -> Installation:
    made = Installation(fake_api)
    monkeypatch.setattr(prefect_doctor_info, "open_prefect_socket", made.open_socket)
    return made


@pytest.fixture
def examine(fake_api, run_module) -> t.Callable[..., dict[str, t.Any]]:
    """Run the module and give its result, with the checks by name under "by_name"."""

    def call(**arguments: t.Any) -> dict[str, t.Any]:
        result = run_module(prefect_doctor_info.main, **{"api_url": fake_api.url, "auth_string": SECRET, **arguments})
        result["by_name"] = {check["name"]: check for check in result.get("checks", ())}
        assert "not-a-real-password" not in str(result.get("checks"))
        return result

    return call


def status(result: dict[str, t.Any]) -> dict[str, str]:
    return {name: check["status"] for name, check in result["by_name"].items()}


def test_all_is_well(installation, examine):
    result = examine(version="3.8.8", pools={"etl": ["w1", "w2"]})
    assert result["changed"] is False
    assert result["failed_checks"] == []
    assert result["server_version"] == "3.8.8"
    assert result["workers"] == [{"name": "w1", "pool": "etl", "status": "ONLINE"}, {"name": "w2", "pool": "etl", "status": "ONLINE"}]
    assert status(result) == {
        "dns": "ok",
        "tcp": "ok",
        "tls": "skipped",
        "health": "ok",
        "ready": "ok",
        "auth_accepted": "ok",
        "auth_required": "ok",
        "auth_refused": "ok",
        "clock": "ok",
        "version": "ok",
        "ui": "ok",
        **dict.fromkeys(CLOSED, "ok"),
        "websocket work_pools/etl/workers/connect": "ok",
        "websocket_auth": "ok",
        "workers etl": "ok",
        "late_runs": "ok",
        "work_queues": "ok",
        "events": "ok",
    }
    assert all(check["remedy"] == "" for check in result["checks"])
    assert result["by_name"]["workers etl"]["detail"] == "w1, w2 online"
    assert result["by_name"]["events"]["detail"] == "3 events, kept for 7 days"


def test_check_mode_reads_the_same(installation, examine):
    assert examine()["checks"] == examine(check_mode=True)["checks"]


@pytest.mark.parametrize(
    ("url", "name", "words"),
    [
        ("http://prefect.invalid/api", "dns", "cannot be resolved"),
        ("http://127.0.0.1:1/api", "tcp", "nothing listens"),
    ],
)
def test_no_connection(examine, monkeypatch, url, name, words):
    if name == "dns":

        def fail(*_args: object, **_kwargs: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
    result = examine(api_url=url)
    assert result["failed_checks"] == [name]
    assert words in result["by_name"][name]["detail"]
    assert result["by_name"][name]["remedy"]
    assert result["checks"][-1] == {"name": "the rest", "status": "skipped", "detail": "not asked before that works", "remedy": ""}


def test_the_certificate(raw_server, certificate, examine):
    port = raw_server(lambda sock: sock.recv(1), certificate.context).port
    for wanted, expected, remedy in ((14, "warning", "renew it"), (5, "ok", "")):
        check = examine(api_url=f"https://127.0.0.1:{port}/api", ca_path=certificate.path, tls_days_left=wanted, timeout=2)["by_name"]["tls"]
        assert check == {"name": "tls", "status": expected, "detail": "the certificate is trusted, for 10 days more", "remedy": remedy}


def test_an_unknown_certificate(raw_server, certificate, examine):
    port = raw_server(lambda sock: sock.recv(1), certificate.context).port
    result = examine(api_url=f"https://127.0.0.1:{port}/api")
    assert result["failed_checks"] == ["tls"]
    assert "ca_path" in result["by_name"]["tls"]["remedy"]


@pytest.mark.parametrize("name", ["health", "ready"])
def test_not_healthy(installation, fake_api, examine, naps, name):
    fake_api.routes[f"GET /api/{name}"] = (503, {"message": "Database is not available"})
    result = examine()
    assert result["failed_checks"] == [name]
    assert result["checks"][-1]["name"] == "the rest"


def test_a_wrong_auth_string(installation, examine):
    result = examine(auth_string="admin:wrong")
    assert result["failed_checks"] == ["auth_accepted"]
    assert "Prefect refused the auth string" in result["by_name"]["auth_accepted"]["detail"]
    assert "admin:wrong" not in str(result["checks"])
    result = examine(auth_string=None)
    assert result["failed_checks"] == ["auth_accepted"]
    assert "Prefect asks for an auth string" in result["by_name"]["auth_accepted"]["detail"]


def test_an_open_api(installation, examine):
    installation.auth = False
    result = examine()
    assert result["failed_checks"] == ["auth_required", "auth_refused"]
    assert result["by_name"]["auth_required"]["remedy"] == "set server.api.auth_string"
    # Who gives none knows it; that it is open is still worth a word.
    result = examine(auth_string=None)
    assert result["failed_checks"] == []
    assert status(result)["auth_required"] == status(result)["auth_refused"] == "warning"
    assert "websocket_auth" not in result["by_name"]


def test_a_stranger_gets_another_answer(installation, fake_api, examine):
    good = fake_api.routes["GET /api/version"]
    fake_api.routes["GET /api/version"] = lambda request: good(request) if request["headers"].get("Authorization") == BASIC else (500, {"detail": "Oops"})
    assert examine()["failed_checks"] == ["auth_required", "auth_refused"]


@pytest.mark.parametrize(
    ("wanted", "expected", "remedy"),
    [
        ("3.8.8", "ok", ""),
        ("", "ok", ""),
        ("3.10.0", "failed", "upgrade the server: it may not be older than its clients"),
        ("3.7.8", "warning", "upgrade the clients"),
    ],
)
def test_the_version(installation, examine, wanted, expected, remedy):
    check = examine(version=wanted)["by_name"]["version"]
    assert (check["status"], check["remedy"]) == (expected, remedy)


def test_a_version_that_is_not_told(installation, fake_api, examine):
    fake_api.routes["GET /api/admin/version"] = (403, "<html><title>403 Forbidden</title>")
    result = examine(version="3.8.8")
    assert result["failed_checks"] == ["version"]
    assert "proxy" in result["by_name"]["version"]["remedy"]
    assert result["server_version"] == ""
    # The other checks go on, and no WebSocket is taken for missing.
    assert all(status(result)[name] == "ok" for name in CLOSED)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {"api_url": "http://127.0.0.1:4200/api"}), "failed"),
        ((200, {"api_url": "http://localhost:4200/api"}), "failed"),
        ((200, {"api_url": "https://prefect.example.com/api"}), "ok"),
        ((200, {"api_url": None}), "skipped"),
        ((404, {"detail": "UI is off"}), "skipped"),
        ((404, "<html>"), "failed"),
    ],
)
def test_the_address_that_the_ui_uses(installation, fake_api, examine, answer, expected):
    fake_api.routes["GET /ui-settings"] = answer
    assert status(examine())["ui"] == expected
    # A person on this very machine does reach that address.
    fake_api.routes["GET /ui-settings"] = (200, {"api_url": fake_api.url})
    assert status(examine())["ui"] == "ok"


def test_a_ui_that_is_off(installation, fake_api, examine):
    fake_api.routes["GET /ui-settings"] = (200, {"api_url": "http://127.0.0.1:4200/api"})
    fake_api.routes["GET /api/admin/settings"] = (200, {"server": {**SETTINGS, "ui": {"enabled": False}}})
    assert status(examine())["ui"] == "skipped"


def test_an_api_elsewhere_has_no_known_ui(installation, fake_api, examine):
    fake_api.routes.update({route.replace("/api/", "/prefect/"): answer for route, answer in list(fake_api.routes.items())})
    assert status(examine(api_url=fake_api.url.replace("/api", "/prefect")))["ui"] == "skipped"


def test_websockets_that_do_not_open(installation, examine):
    installation.sockets["logs/out"] = WebSocketError("the handshake was answered with HTTP 401 and not with 101", "let the proxy", "handshake", status=401)
    result = examine()
    assert result["failed_checks"] == ["websocket logs/out"]
    assert result["by_name"]["websocket logs/out"]["remedy"] == "let the proxy"
    assert "websocket_auth" not in result["by_name"]
    assert installation.opened == ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled", "work_pools/default/workers/connect"]


def test_old_versions_have_fewer_websockets(installation, examine):
    installation.version = "3.1.10"
    installation.token_checked = False
    result = examine(pools={"etl": []})
    assert result["by_name"]["websocket logs/out"]["detail"] == "Prefect has it since 3.4.7"
    assert status(result)["websocket work_pools/etl/workers/connect"] == "skipped"
    assert status(result)["websocket_auth"] == "warning"
    assert installation.opened == ["events/in", "events/out", "task_runs/subscriptions/scheduled", "events/out"]


def test_workers(installation, examine, naps):
    installation.workers = [[{"name": "w1", "status": "OFFLINE"}, {"name": "other", "status": "ONLINE"}]]
    check = examine(pools={"etl": ["w1", "w2"]})["by_name"]["workers etl"]
    assert (check["status"], check["detail"]) == ("failed", "w1 is OFFLINE, w2 is unknown to the server")
    assert status(examine(pools={"etl": []}))["workers etl"] == "ok"
    installation.workers = [[]]
    result = examine(pools={"etl": [], "none": ["w1"]})
    assert result["failed_checks"] == ["workers etl", "workers none"]
    assert result["by_name"]["workers etl"]["detail"] == "no worker is online"
    assert result["by_name"]["workers none"]["detail"] == "the work pool does not exist"
    # They are given the time that the task grants, and no more.
    naps.clear()
    installation.workers = [[], [{"name": "w1", "status": "OFFLINE"}], [{"name": "w1", "status": "ONLINE"}]]
    assert status(examine(pools={"etl": ["w1"]}, wait_timeout=60))["workers etl"] == "ok"
    assert naps == [1, 1]
    installation.workers = [[]]
    assert status(examine(pools={"etl": ["w1"]}, wait_timeout=3))["workers etl"] == "failed"
    assert len(naps) == 2 + 4


def test_late_runs(installation, fake_api, examine):
    fake_api.routes["POST /api/flow_runs/count"] = (200, 3)
    check = examine()["by_name"]["late_runs"]
    assert (check["status"], check["detail"]) == ("warning", "3 flow runs late")
    fake_api.routes["POST /api/flow_runs/count"] = (500, {"exception_message": "Internal Server Error"})
    assert examine()["failed_checks"] == ["late_runs"]


def test_work_queues_without_workers(installation, examine):
    queue = {"id": "1", "name": "high", "work_pool_name": "etl", "status": "NOT_READY", "is_paused": False}
    installation.queues = [queue, {**queue, "id": "2", "name": "default"}, {**queue, "id": "3", "is_paused": True}, {**queue, "id": "4", "status": "READY"}]
    installation.deployments = {"1": 0, "2": 0}
    assert status(examine())["work_queues"] == "ok"
    installation.deployments = {"1": 3, "2": 0}
    check = examine()["by_name"]["work_queues"]
    assert (check["status"], check["detail"]) == ("warning", "no worker takes from etl/high (3 deployments)")
    assert check["remedy"] == "start a worker that takes from them, or move their deployments"


@pytest.mark.parametrize(
    ("days_ago", "overrides", "expected", "detail"),
    [
        ([0.1, 8.1], None, "warning", "1 of 2 events older than the 7 days that they are kept for"),
        ([0.1, 8.1], {"a": "P30D", "b": "PT36H"}, "ok", "2 events, kept for 30 days"),
        ([0.1, 31.1], {"a": "P30D"}, "warning", "1 of 2 events older than the 30 days that they are kept for"),
        ([], {}, "ok", "0 events, kept for 7 days"),
    ],
)
def test_the_age_of_events(installation, fake_api, examine, *, days_ago, overrides, expected, detail):
    settings = {**SETTINGS, "services": {"db_vacuum": {"event_retention_overrides": overrides}}}
    fake_api.routes["GET /api/admin/settings"] = (200, {"server": settings})
    installation.events_days_ago = days_ago
    check = examine()["by_name"]["events"]
    assert (check["status"], check["detail"]) == (expected, detail)
    assert bool(check["remedy"]) is (expected == "warning")


@pytest.mark.parametrize("answer", [(403, "<html>"), (200, []), (200, {"server": {"events": {"retention_period": "for ever"}}})])
def test_settings_that_are_not_told(installation, fake_api, examine, answer):
    fake_api.routes["GET /api/admin/settings"] = answer
    result = examine()
    assert (status(result)["events"], result["failed_checks"]) == ("skipped", [])


def test_events_that_cannot_be_counted(installation, fake_api, examine):
    fake_api.routes["POST /api/events/filter"] = (500, {"exception_message": "Internal Server Error"})
    result = examine()
    assert (status(result)["events"], result["failed_checks"]) == ("warning", [])


@pytest.mark.parametrize(
    ("seconds", "expected", "detail"),
    [
        (0, "ok", "the server's clock is this host's"),
        (-60, "warning", "the server's clock is 60 s behind this host's"),
        (3600, "warning", "the server's clock is 3600 s ahead of this host's"),
    ],
)
@pytest.mark.usefixtures("installation")
def test_the_clock(fake_api, examine, monkeypatch, *, seconds, expected, detail):
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: now)
    fake_api.date = email.utils.formatdate(now + seconds, usegmt=True)
    check = examine()["by_name"]["clock"]
    assert (check["status"], bool(check["remedy"])) == (expected, expected == "warning")
    assert check["detail"] == detail


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_clock_that_is_not_told(installation, fake_api, examine, date):
    fake_api.date = date
    assert status(examine())["clock"] == "skipped"


def test_the_same_past_the_proxy(installation, fake_api, examine):
    check = examine(direct_url=fake_api.url, version="3.8.8")["by_name"]["direct"]
    assert (check["status"], check["detail"]) == ("ok", f"{fake_api.url} answers the same")


def test_a_fault_of_the_proxy(installation, fake_api, examine, monkeypatch):
    broken = WebSocketError("the handshake was answered with HTTP 401 and not with 101", "let the proxy", "handshake", status=401)

    def open_socket(client: t.Any, path: str, timeout: float) -> t.Any:
        if path == "logs/out" and client.host == "localhost":
            raise broken
        return installation.open_socket(client, path, timeout)

    monkeypatch.setattr(prefect_doctor_info, "open_prefect_socket", open_socket)
    result = examine(api_url=fake_api.url.replace("127.0.0.1", "localhost"), direct_url=fake_api.url)
    assert result["failed_checks"] == ["websocket logs/out", "direct"]
    assert result["by_name"]["direct"]["detail"] == f"websocket logs/out: that works at {fake_api.url}, so the fault is in between"


def test_a_proxy_that_is_down(installation, fake_api, examine):
    result = examine(api_url="http://127.0.0.1:1/api", direct_url=fake_api.url)
    assert result["failed_checks"] == ["tcp", "direct"]
    assert result["by_name"]["direct"]["detail"].startswith("tcp: that works at ")


def test_a_fault_of_the_server_itself(installation, fake_api, examine):
    installation.sockets["logs/out"] = WebSocketError("closed", "", "closed")
    result = examine(direct_url=fake_api.url)
    assert result["by_name"]["direct"]["detail"] == f"{fake_api.url} has a fault of its own: websocket logs/out"


def test_a_server_that_is_not_reached_past_the_proxy(installation, examine):
    result = examine(direct_url="http://127.0.0.1:1/api")
    check = result["by_name"]["direct"]
    assert (check["status"], result["failed_checks"]) == ("warning", [])
    assert check["detail"].startswith("http://127.0.0.1:1/api: nothing listens on")


def test_a_proxy_that_leads_elsewhere(installation, fake_api, examine):
    versions = iter(["3.8.8", "3.7.8"])
    fake_api.routes["GET /api/admin/version"] = lambda _request: (200, f'"{next(versions)}"')
    check = examine(direct_url=fake_api.url)["by_name"]["direct"]
    assert (check["status"], check["detail"]) == ("failed", f"{fake_api.url} has Prefect 3.7.8, and api_url 3.8.8")


def test_a_direct_url_that_is_none(installation, examine):
    assert examine(direct_url="nonsense")["failed_checks"] == ["direct"]


@pytest.fixture
def seen(monkeypatch):
    """What a look at the database shows."""
    found: dict[str, t.Any] = dict(SEEN)
    monkeypatch.setattr(Database, "look", lambda _self: found)
    return found


def test_the_database(installation, examine, seen):
    result = examine(database=DATABASE)
    assert result["by_name"]["database"] == {
        "name": "database",
        "status": "ok",
        "detail": "PostgreSQL 17.4 with TLS answers in 0.42 ms; it has 52.4 MB, events are 31.5 MB of it",
        "remedy": "",
    }
    assert result["by_name"]["connections"]["detail"] == "the server needs up to 32 connections in 1 process, and PostgreSQL takes 97"
    assert "made-up" not in result["_output"]


def test_too_few_connections(installation, fake_api, examine, seen):
    seen["max_connections"] = 25
    check = examine(database={**DATABASE, "processes": 2})["by_name"]["connections"]
    assert (check["status"], check["detail"]) == ("warning", "the server needs up to 64 connections in 2 processes, and PostgreSQL takes 22")
    # As old versions name them, and as nobody knows them.
    for settings, planned in (({"database": {"sqlalchemy_pool_size": 1, "sqlalchemy_max_overflow": None}}, 13), ({}, 17)):
        fake_api.routes["GET /api/admin/settings"] = (200, {"server": settings})
        check = examine(database=DATABASE)["by_name"]["connections"]
        assert check["detail"] == f"the server needs up to {planned} connections in 1 process, and PostgreSQL takes 22"


def test_a_database_that_may_not_be_migrated(installation, examine, seen):
    seen.update(may_create=False, tls=False)
    check = examine(database=DATABASE)["by_name"]["database"]
    assert (check["status"], check["detail"]) == ("warning", "its user may not create tables in the schema public")
    assert check["remedy"] == "Make the user the owner of the database."


def test_a_database_that_is_sqlite(installation, examine, seen):
    seen["server_version"] = ""
    assert examine(database={"connection_url": "sqlite+aiosqlite:////tmp/prefect.db"})["by_name"]["database"]["detail"] == "SQLite can be read"


def test_a_database_that_cannot_be_used(installation, examine):
    check = examine(database={**DATABASE, "user": "nobody-of-that-name"})["by_name"]["database"]
    assert check["detail"] == "user is 'nobody-of-that-name', which this host does not have: name one that it has."
    check = examine(database={**DATABASE, "python": "/missing/python"})["by_name"]["database"]
    assert check["detail"] == "it could not be looked at ([Errno 2] No such file or directory: '/missing/python')"
    assert check["status"] == "failed"


def test_the_database_is_looked_at_even_when_the_api_is_away(examine, seen):
    result = examine(api_url="http://127.0.0.1:1/api", database=DATABASE)
    assert [check["name"] for check in result["checks"]] == ["dns", "tcp", "the rest", "database", "connections"]


def test_bad_options(examine):
    assert examine(pools={"etl": "w1"})["msg"] == "pools: etl has 'w1': write a list of the names of its workers, or [] for any."
    assert examine(api_url="nonsense")["msg"].startswith("api_url is no URL")
    message = examine(database={"connection_url": "postgresql+asyncpg://u:made-up@db"})["msg"]
    assert message.startswith("database.connection_url cannot be used: it names no database")
