# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys
from urllib.parse import quote

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database, DatabaseError
from ansible_collections.selfhost.prefect.plugins.modules.asyncpg_url_info import main

# How each fault of a connection is told is tested with prefect_database, which has it from the same place, and with a real PostgreSQL in tests/live.
PASSWORD = "made-up p@ss:w/rd%"
URL = f"postgresql+asyncpg://prefect:{quote(PASSWORD, safe='')}@db.example.com:5432/prefect"
SEEN = {
    "server_version": "17.4",
    "version_num": 170004,
    "max_connections": 100,
    "reserved_connections": 3,
    "connections": 12,
    "tls": True,
    "latency_ms": 0.42,
    "owner": "prefect",
    "schema": "public",
    "may_create": True,
    "may_extend": True,
    "has_pg_trgm": True,
    "offers_pg_trgm": True,
    "revision": "aaaaaaaaaaaa",
    "size": 52428800,
    "events_size": 31457280,
}


@pytest.fixture
def run(run_module):
    def call(**arguments):
        result = run_module(main, **{"url": URL, **arguments})
        for secret in (PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in result["_output"]
        return result

    return call


@pytest.fixture
def database(monkeypatch):
    """What a look at the database shows."""
    seen = dict(SEEN)
    monkeypatch.setattr(Database, "look", lambda _self: seen)
    return seen


def test_takes_a_url_apart(run):
    result = run()
    assert result["changed"] is False
    assert result["url"] == "postgresql+asyncpg://prefect:***@db.example.com:5432/prefect"
    assert result["parts"] == {
        "driver": "postgresql+asyncpg",
        "user": "prefect",
        "password": "***",
        "host": "db.example.com",
        "port": 5432,
        "name": "prefect",
        "query": {},
    }
    assert "server_version" not in result


def test_takes_a_url_without_a_password_apart(run):
    result = run(url="postgresql+asyncpg://prefect@/prefect?host=/var/run/postgresql")
    assert result["url"] == "postgresql+asyncpg://prefect@/prefect?host=/var/run/postgresql"
    assert (result["parts"]["password"], result["parts"]["query"]) == ("", {"host": "/var/run/postgresql"})


@pytest.mark.parametrize("check_mode", [False, True])
def test_tells_what_is_there(run, database, check_mode):
    result = run(connect=True, check_mode=check_mode)
    expected = {key: SEEN[key] for key in SEEN if key not in ("version_num", "reserved_connections", "schema", "may_create", "may_extend", "offers_pg_trgm")}
    assert {key: result[key] for key in expected} == expected
    assert (result["usable_connections"], result["may_migrate"], result["migration_problem"]) == (97, True, "")


def test_tells_that_there_is_no_schema(run, database):
    database["revision"] = None
    assert run(connect=True)["revision"] == ""


def test_tells_that_the_role_may_not_migrate(run, database):
    database["may_create"] = False
    result = run(connect=True)
    assert result["may_migrate"] is False
    assert result["migration_problem"] == "its user may not create tables in the schema public. Make the user the owner of the database."


@pytest.mark.parametrize(
    ("arguments", "planned"),
    [
        ({}, 17),
        ({"processes": 3}, 51),
        ({"settings": {"sqlalchemy": {"pool_size": 20, "max_overflow": 0}}}, 22),
        ({"settings": {"sqlalchemy": {"pool_size": None, "max_overflow": "3"}}}, 10),
    ],
)
def test_plans_the_connections(run, arguments, planned):
    assert run(**arguments)["planned_connections"] == planned


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        ({"url": "postgresql+asyncpg://u:p@db/d?sslmode=require"}, "url", "url cannot be used: asyncpg knows no sslmode=: write ?ssl=require"),
        ({"url": "sqlite+aiosqlite:////tmp/prefect.db"}, "url", "url cannot be used: its driver is 'sqlite+aiosqlite': Prefect's server speaks"),
        ({"url": "postgresql+asyncpg://u:p-@-w@db/d"}, "url", "url cannot be used: its user or password holds an '@'"),
        ({"processes": 0}, "other", "processes is 0: write 1 or more."),
        ({"settings": {"sqlalchemy": []}}, "other", "settings: sqlalchemy is no dictionary: write its keys and values."),
        (
            {"settings": {"sqlalchemy": {"connect_args": {"tls": True}}}, "connect": True},
            "other",
            "settings: sqlalchemy.connect_args.tls is no dictionary: write its keys and values.",
        ),
        (
            {"settings": {"sqlalchemy": {"pool_size": "many"}}},
            "other",
            "settings: sqlalchemy.pool_size and sqlalchemy.max_overflow are not both numbers: write such as 5 and 10.",
        ),
        ({"timeout": 0}, "other", "timeout is 0: write 1 or more."),
        (
            {"connect": True, "user": "nobody-of-that-name"},
            "other",
            "user is 'nobody-of-that-name', which this host does not have: name one that it has.",
        ),
        (
            {"connect": True, "python": "/missing/python"},
            "other",
            "The database could not be looked at: [Errno 2] No such file or directory: '/missing/python'",
        ),
    ],
)
def test_refuses(run, arguments, fault, message):
    result = run(**arguments)
    assert result["msg"].startswith(message)
    assert result["fault"] == fault


def test_tells_faults_apart(run, monkeypatch):
    def fail(_self):
        raise DatabaseError("It refuses the password", "Correct it.", "password")

    monkeypatch.setattr(Database, "look", fail)
    result = run(connect=True)
    assert (result["msg"], result["fault"]) == ("It refuses the password. Correct it.", "password")


def test_asks_the_interpreter_of_prefect(run, tmp_path):
    python = tmp_path / "python"
    answer = json.dumps({"fault": "timeout", "detail": ""})
    python.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(json.load(sys.stdin), open({str(tmp_path / 'wish')!r}, 'w'))\nprint({answer!r})\n")
    python.chmod(0o755)
    result = run(connect=True, python=str(python), timeout=3, settings={"sqlalchemy": {"connect_args": {"search_path": "other"}}})
    assert result["msg"] == (
        "The database postgresql+asyncpg://prefect@db.example.com:5432/prefect cannot be used: it does not answer within 3 s."
        " See whether a firewall stands between, or correct the host and the port in the URL."
    )
    wish = json.loads((tmp_path / "wish").read_text())
    assert (wish["timeout"], wish["search_path"], wish["arguments"]["password"]) == (3, "other", PASSWORD)
