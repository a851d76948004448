# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules say about databases, said about a real PostgreSQL by the libraries of a real Prefect."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import threading
import typing as t
from urllib.parse import quote

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import asyncpg_url_info, prefect_database, prefect_doctor_info
from ansible_collections.selfhost.prefect.tests.live.conftest import VERSIONS
from ansible_collections.selfhost.prefect.tests.live.postgresql import PostgreSQL, programs
from ansible_collections.selfhost.prefect.tests.live.prefect_server import environment
from ansible_collections.selfhost.prefect.tests.run_module import run_module

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def postgresql() -> t.Iterator[PostgreSQL]:
    folder = programs()
    if folder is None:
        pytest.skip("this machine has no PostgreSQL: apt-get install postgresql")
    server = PostgreSQL(folder)
    yield server
    server.close()


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter of an installed Prefect."""
    return str(environment(request.param) / "bin/python")


@pytest.fixture
def look(postgresql, python):
    """Run asyncpg_url_info with parts of a URL."""

    def call(**given: t.Any) -> dict[str, t.Any]:
        place = given.pop("place", f"127.0.0.1:{postgresql.port}")
        name, query, user = given.pop("name", "prefect"), given.pop("query", ""), given.pop("user", "prefect")
        password = given.pop("password", postgresql.password)
        encoded = quote(password, safe="")
        url = f"postgresql+asyncpg://{user}:{encoded}@{place}/{name}{query}"
        settings = {"sqlalchemy": {"connect_args": {"tls": given.pop("tls", None)}}}
        result = run_module(asyncpg_url_info.main, url=url, connect=True, python=python, settings=settings, timeout=2, **given)
        for secret in (encoded, password):
            assert secret not in result["_output"]
        return result

    return call


def test_without_tls(look):
    result = look(query="?ssl=disable")
    assert (result["tls"], result["owner"], result["may_migrate"], result["migration_problem"]) == (False, "prefect", True, "")
    assert (result["max_connections"], result["usable_connections"]) == (20, 17)
    assert result["connections"] >= 1
    assert 0 < result["latency_ms"] < 1000
    assert result["size"] > 1_000_000
    assert result["server_version"]


def test_with_tls(look, postgresql):
    assert look(tls={"enabled": True, "ca_file": postgresql.authority})["tls"] is True
    # What the client cannot verify is encrypted nevertheless.
    assert look(query="?ssl=require")["tls"] is True


def test_by_a_unix_socket(look, postgresql):
    assert look(place="", query=f"?host={postgresql.folder}&port={postgresql.port}")["owner"] == "prefect"


def test_a_role_that_may_not_migrate(look):
    result = look(user="stranger")
    assert result["may_migrate"] is False
    # PostgreSQL 14 lets everybody make tables in public, but nobody extensions.
    assert result["migration_problem"].endswith((" the owner of the database.", "or create it for them."))


@contextlib.contextmanager
def listening(answer: t.Callable[[socket.socket], object]) -> t.Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    answer(server.accept()[0])

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_faults_are_told_apart(look, postgresql):
    kept: list[socket.socket] = []
    authority = {"enabled": True, "ca_file": postgresql.authority}
    cases: list[tuple[str, dict[str, t.Any]]] = [
        ("password", {"password": "another made-up one"}),
        ("no database", {"name": "missing"}),
        ("access", {"name": "guarded", "query": "?ssl=disable"}),
        ("full", {"user": "limited"}),
        ("refused", {"place": "127.0.0.1:1"}),
        ("name", {"place": "nobody.invalid:5432"}),
        ("tls", {"tls": {"enabled": True}}),
        ("tls", {"tls": authority, "place": f"localhost:{postgresql.port}"}),
        ("certificate file", {"tls": {"enabled": True, "ca_file": "/nowhere/ca.pem"}}),
    ]
    with listening(kept.append) as silent, listening(socket.socket.close) as closing:
        cases += [("timeout", {"place": silent}), ("no postgresql", {"place": closing})]
        assert [look(**arguments).get("fault") for _fault, arguments in cases] == [fault for fault, _arguments in cases]


def test_a_server_without_tls(look, postgresql):
    postgresql.sql("alter system set ssl = off")
    postgresql.sql("select pg_reload_conf()")
    try:
        assert look(tls={"enabled": True, "ca_file": postgresql.authority})["fault"] == "no tls"
        assert look(query="?ssl=require")["fault"] == "no tls"
        assert look()["tls"] is False
    finally:
        postgresql.sql("alter system reset ssl")
        postgresql.sql("select pg_reload_conf()")


def test_the_schema_is_brought_up_to_date_once(postgresql, python):
    name = f"schema_{VERSIONS.index(python.rsplit('/', 3)[1])}"
    postgresql.sql(f"create database {name} owner prefect")
    url = f"postgresql+asyncpg://prefect:{quote(postgresql.password, safe='')}@127.0.0.1:{postgresql.port}/{name}"

    def migrate(check_mode: bool = False) -> dict[str, t.Any]:
        return run_module(prefect_database.main, check_mode, connection_url=url, python=python, user=ME, _ansible_diff=True)

    predicted, done = migrate(check_mode=True), migrate()
    assert (predicted["changed"], done["changed"]) == (True, True)
    assert predicted["diff"] == done["diff"] == {"before": "revision: none\n", "after": f"revision: {done['revision']}\n"}
    assert migrate()["changed"] is migrate(check_mode=True)["changed"] is False
    seen = run_module(asyncpg_url_info.main, url=url, connect=True, python=python)
    assert (seen["revision"], seen["has_pg_trgm"]) == (done["revision"], True)
    assert seen["events_size"] > 0


def test_the_doctor_looks_at_it(live, postgresql):
    url = f"postgresql+asyncpg://prefect:{quote(postgresql.password, safe='')}@127.0.0.1:{postgresql.port}/prefect"
    database = {"connection_url": url, "python": str(environment(live.version) / "bin/python")}
    for processes, expected in ((1, "ok"), (2, "warning")):
        result = live.run(prefect_doctor_info.main, database={**database, "processes": processes}, direct_url=live.connection["api_url"])
        status = {check["name"]: check["status"] for check in result["checks"]}
        assert result["failed_checks"] == []
        assert (status["database"], status["connections"], status["direct"]) == ("ok", expected, "ok")
        assert (status["clock"], status["work_queues"], status["events"]) == ("ok", "ok", "ok")
    broken = live.run(prefect_doctor_info.main, database={**database, "connection_url": url.replace("/prefect", "/missing")})
    assert broken["failed_checks"] == ["database"]
