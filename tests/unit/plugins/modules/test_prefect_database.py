# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pwd
import re
import sqlite3
import sys
import time
from urllib.parse import quote

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_database import main

PASSWORD = "made-up p@ss:w/rd%"
URL = f"postgresql+asyncpg://prefect:{quote(PASSWORD, safe='')}@db.example.com:5432/prefect"
SHOWN = "postgresql+asyncpg://prefect@db.example.com:5432/prefect"
USER = pwd.getpwuid(os.geteuid()).pw_name
ADDRESS = "prefect_server_database_host and prefect_server_database_port, or prefect_server_database_url"
OLD = "aaaaaaaaaaaa"
HEAD = "bbbbbbbbbbbb"
ROW = {
    "server_version": "17.4",
    "version_num": 170004,
    "max_connections": 100,
    "tls": True,
    "replica": False,
    "schema": "public",
    "may_create": True,
    "may_extend": True,
    "has_pg_trgm": True,
    "offers_pg_trgm": True,
    "has_revision": True,
}

# What stands in the fake environment for Prefect's library to reach PostgreSQL: it does what `world` says.
ASYNCPG = """
import json, os, socket, ssl, sys

class PostgresError(Exception): pass
class InvalidAuthorizationSpecificationError(PostgresError): pass
class InvalidPasswordError(InvalidAuthorizationSpecificationError): pass
class InvalidCatalogNameError(PostgresError): pass
class TooManyConnectionsError(PostgresError): pass
class ConnectionDoesNotExistError(PostgresError): pass

here = os.path.dirname(__file__)

class Connection:
    def __init__(self, world):
        self.world = world

    async def fetchrow(self, query):
        return self.world["row"]

    async def fetchval(self, query):
        return 1 if query == "select 1" else self.world["revision"]

    async def close(self, timeout):
        pass

async def connect(**arguments):
    world = json.load(open(here + "/world"))
    context = arguments.pop("ssl", None)
    if isinstance(context, ssl.SSLContext):
        arguments["ssl"] = [context.check_hostname, context.verify_mode.name, context.minimum_version.name]
    elif context:
        arguments["ssl"] = context
    json.dump(arguments, open(here + "/connected", "w"))
    if "error" in world and world.get("tries") != 0:
        if "tries" in world:
            world["tries"] -= 1
            json.dump(world, open(here + "/world", "w"))
        raise eval(world["error"])
    return Connection(world)
"""

# And for Prefect's command.
PREFECT = """
import json, os, sqlite3, sys

here = os.path.dirname(os.path.dirname(__file__))
world = json.load(open(here + "/world"))
json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(), "umask": os.umask(0)}, open(here + "/migrated", "w"))
if "fails" in world:
    print(world["fails"])
    sys.exit(1)
url = os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
if url.startswith("sqlite"):
    with sqlite3.connect(url.partition(":///")[2]) as connection:
        connection.execute("create table if not exists alembic_version (version_num text)")
        connection.execute("delete from alembic_version")
        connection.execute("insert into alembic_version values (?)", (world["head"],))
else:
    world["row"]["has_revision"], world["revision"] = True, world["head"]
    json.dump(world, open(here + "/world", "w"))
"""


class World:
    """An environment with a Prefect in it, and a database that answers as it is told."""

    def __init__(self, folder):
        self.site = folder / "venv/lib/python3.11/site-packages"
        self.python = folder / "venv/bin/python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={self.site} exec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        prefect = self.python.with_name("prefect")
        prefect.write_text(f'#!/bin/sh\nexec {self.python} -m prefect "$@"\n')
        prefect.chmod(0o755)
        for dialect in ("sqlite", "postgresql"):
            versions = self.site / f"prefect/server/database/_migrations/versions/{dialect}"
            versions.mkdir(parents=True)
            (versions / "one.py").write_text(f'"""revision = "zzz"."""\nrevision = "{OLD}"\ndown_revision = None\n')
            (versions / "two.py").write_text(f'"""Two."""\n\nrevision: str = "{HEAD}"\ndown_revision: str | None = "{OLD}"\nbranch_labels = None\n')
        (self.site / "asyncpg.py").write_text(ASYNCPG)
        (self.site / "prefect/__main__.py").write_text(PREFECT)
        self.answers()

    def answers(self, revision=HEAD, row=(), **more):
        world = {"revision": revision, "row": {**ROW, "has_revision": revision is not None, **dict(row)}, "head": HEAD, **more}
        (self.site / "world").write_text(json.dumps(world))

    def noted(self, name):
        path = self.site / name
        return json.loads(path.read_text()) if path.exists() else None


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def run(run_module, world):
    def call(**arguments):
        result = run_module(main, **{"python": str(world.python), "connection_url": URL, "user": USER, **arguments})
        for secret in (PASSWORD, quote(PASSWORD, safe="")):
            assert secret not in result["_output"].replace(json.dumps(result.get("invocation")), "")
        return result

    return call


def test_nothing_to_do(run, world):
    result = run()
    assert {key: result[key] for key in ("changed", "server_version", "tls", "max_connections", "revision")} == {
        "changed": False,
        "server_version": "17.4",
        "tls": True,
        "max_connections": 100,
        "revision": HEAD,
    }
    assert world.noted("migrated") is None


def test_connects_as_prefect_does(run, world):
    run()
    assert world.noted("connected") == {
        "timeout": 10,
        "command_timeout": 10,
        "host": ["db.example.com"],
        "port": [5432],
        "user": "prefect",
        "password": PASSWORD,
        "database": "prefect",
    }


def test_connects_as_prefect_does_with_tls(run, world, certificate):
    tls = {
        "enabled": True,
        "ca_file": certificate.path,
        "check_hostname": False,
        "cert_file": certificate.path,
        "key_file": certificate.path.replace("crt", "key"),
    }
    run(settings={"sqlalchemy": {"connect_args": {"tls": tls, "search_path": "prefect"}}})
    connected = world.noted("connected")
    assert connected["ssl"] == [False, "CERT_REQUIRED", "TLSv1_2"]
    assert connected["server_settings"] == {"search_path": "prefect"}


def test_connects_as_prefect_does_with_several_hosts(run, world):
    run(connection_url="postgresql+asyncpg://prefect@/prefect?host=one,two&port=5432,5433&ssl=require")
    connected = world.noted("connected")
    assert [connected[key] for key in ("host", "port", "ssl", "user", "database")] == [["one", "two"], [5432, 5433], "require", "prefect", "prefect"]


def test_connects_as_prefect_does_with_a_socket(run, world):
    run(connection_url="postgresql+asyncpg:///prefect?host=/var/run/postgresql")
    assert world.noted("connected") == {"timeout": 10, "command_timeout": 10, "host": ["/var/run/postgresql"], "database": "prefect"}


REFUSED = "ConnectionRefusedError(111, 'Connect call failed')"


def test_waits_for_a_database_that_is_just_starting(run, world):
    world.answers(error=REFUSED, tries=2)
    assert run(wait_timeout=60)["revision"] == HEAD
    world.answers(error=REFUSED, tries=2)
    assert "nothing answers there" in run()["msg"]


def test_does_not_wait_for_ever(run, world):
    world.answers(error=REFUSED)
    began = time.monotonic()
    assert "nothing answers there" in run(wait_timeout=1)["msg"]
    assert time.monotonic() - began >= 1


def test_does_not_wait_for_what_stays_as_it_is(run, world, tmp_path):
    world.answers(row={"replica": True})
    assert "it is a replica" in run(wait_timeout=600)["msg"]
    (tmp_path / "broken.db").write_text("no database at all" * 100)
    assert "is not a database" in run(wait_timeout=600, connection_url=f"sqlite+aiosqlite:///{tmp_path}/broken.db")["msg"]


@pytest.mark.parametrize("revision", [None, OLD])
def test_migrates(run, world, revision):
    world.answers(revision)
    result = run(settings={"connection_url": "masked", "timeout": 5, "echo": True, "sqlalchemy": {"connect_args": {"tls": {"enabled": False}, "list": [1]}}})
    assert (result["changed"], result["revision"]) == (True, HEAD)
    assert result["diff"] == {"before": f"revision: {revision or 'none'}\n", "after": f"revision: {HEAD}\n"}
    migrated = world.noted("migrated")
    assert migrated["arguments"] == ["server", "database", "upgrade", "--yes"]
    assert migrated["umask"] == 0o077
    home = migrated["folder"]
    assert not os.path.exists(home)
    inherited = ("PYTHONPATH", "PWD", "LC_CTYPE", "_", "OLDPWD", "SHLVL")
    assert {name: value for name, value in migrated["environment"].items() if name not in inherited} == {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "PREFECT_HOME": home,
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": URL,
        "PREFECT_SERVER_DATABASE_TIMEOUT": "5",
        "PREFECT_SERVER_DATABASE_ECHO": "true",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_TLS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_SQLALCHEMY_CONNECT_ARGS_LIST": "[1]",
    }
    assert run()["changed"] is False


def test_check_mode_looks_and_migrates_nothing(run, world):
    world.answers(OLD)
    result = run(check_mode=True)
    assert (result["changed"], result["revision"], world.noted("migrated")) == (True, HEAD, None)


def test_check_mode_needs_no_prefect(run):
    result = run(check_mode=True, python="/missing/python")
    assert {key: result[key] for key in ("changed", "server_version", "tls", "max_connections", "revision")} == {
        "changed": True,
        "server_version": "",
        "tls": False,
        "max_connections": 0,
        "revision": "",
    }
    assert run(check_mode=True, python="/missing/python", migrate=False)["changed"] is False


def test_check_mode_needs_no_user(run, world):
    result = run(check_mode=True, user="nobody-of-that-name")
    assert (result["changed"], result["revision"], world.noted("connected")) == (True, "", None)


def test_may_only_look(run, world):
    world.answers(None)
    result = run(migrate=False)
    assert (result["changed"], result["revision"], world.noted("migrated")) == (False, "", None)
    assert "diff" not in result


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (
            "socket.gaierror(-2, 'Name or service not known')",
            f"its host name is not resolved ([Errno -2] Name or service not known). Correct {ADDRESS}: write a name or an address that this host can",
        ),
        (
            "ssl.SSLCertVerificationError('self-signed certificate')",
            "TLS fails (('self-signed certificate',)). Give the authority that signed the server's certificate in prefect_server_database_tls_ca_file;",
        ),
        ("TimeoutError()", f"it does not answer within 10 s. See whether a firewall stands between, or correct {ADDRESS}."),
        (
            "ConnectionRefusedError(111, 'Connect call failed')",
            f"nothing answers there ([Errno 111] Connect call failed). See whether PostgreSQL runs and listens there, or correct {ADDRESS}.",
        ),
        (
            "InvalidCatalogNameError('database \"prefect\" does not exist')",
            'it has no such database (database "prefect" does not exist). Create it, owned by the user, or correct prefect_server_database_name, or',
        ),
        (
            "InvalidPasswordError('password authentication failed for user \"prefect\"')",
            'it refuses the password (password authentication failed for user "prefect"). Correct prefect_server_database_password,',
        ),
        (
            "InvalidAuthorizationSpecificationError('no pg_hba.conf entry, no encryption')",
            "it lets this user not in (no pg_hba.conf entry, no encryption). See its pg_hba.conf;",
        ),
        (
            "TooManyConnectionsError('sorry, too many clients already')",
            "it takes no more connections (sorry, too many clients already). Raise its max_connections, or lower pool_size and max_overflow",
        ),
        (
            "ConnectionDoesNotExistError('connection was closed')",
            f"what listens there is no PostgreSQL, or breaks every connection off (connection was closed). Correct {ADDRESS}.",
        ),
        (
            "ConnectionResetError(104, 'Connection reset by peer')",
            f"what listens there is no PostgreSQL, or breaks every connection off ([Errno 104] Connection reset by peer). Correct {ADDRESS}.",
        ),
        (
            "ConnectionError('PostgreSQL server at \"db\" rejected SSL upgrade')",
            'what listens there is no PostgreSQL, or breaks every connection off (PostgreSQL server at "db" rejected SSL upgrade). Correct prefect_server_',
        ),
        ("PostgresError('the database system is starting up')", "the database system is starting up"),
        ("PostgresError()", "PostgresError"),
    ],
)
def test_tells_what_is_wrong(run, world, error, fault):
    world.answers(OLD, error=error)
    assert run()["msg"].startswith(f"The database {SHOWN} cannot be used: {fault}")
    assert world.noted("migrated") is None


def test_tells_that_there_is_no_tls(run, world):
    world.answers(OLD, error="ConnectionError('PostgreSQL server at \"db\" rejected SSL upgrade')")
    assert run(connection_url=f"{URL}?ssl=require")["msg"] == (
        f'The database {SHOWN}?ssl=require cannot be used: it offers no TLS (PostgreSQL server at "db" rejected SSL upgrade).'
        " Turn TLS on there, or leave prefect_server_database_tls_ca_file empty."
    )


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (
            {"server_version": "13.4", "version_num": 130004},
            f"it is PostgreSQL 13.4, and Prefect needs 14.9 or newer. Upgrade it, or name another in {ADDRESS}.",
        ),
        (
            {"server_version": "14.8", "version_num": 140008},
            f"it is PostgreSQL 14.8, and Prefect needs 14.9 or newer. Upgrade it, or name another in {ADDRESS}.",
        ),
        ({"replica": True}, f"it is a replica, which only reads. Name the primary in {ADDRESS}."),
        ({"may_create": False}, "its user may not create tables in the schema public. Make the user the owner of the database."),
        (
            {"may_create": False, "schema": ""},
            "its user may not create tables in its search_path, of whose schemas there is none. Make the user the owner of the database.",
        ),
        (
            {"has_pg_trgm": False, "offers_pg_trgm": False},
            "it does not offer the extension pg_trgm, which Prefect needs. Install it there, as a package such as postgresql-contrib.",
        ),
        (
            {"has_pg_trgm": False, "may_extend": False},
            "its user may not create the extension pg_trgm, which Prefect needs. Make the user the owner of the database, or create it for them.",
        ),
    ],
)
def test_tells_what_is_wrong_with_the_server(run, world, row, fault):
    world.answers(OLD, row)
    assert run()["msg"] == f"The database {SHOWN} cannot be used: {fault}"
    assert world.noted("migrated") is None


def test_the_oldest_postgresql_will_do(run, world):
    world.answers(HEAD, {"server_version": "14.9", "version_num": 140009, "may_create": False})
    assert run()["changed"] is False


def test_the_extension_may_be_made_by_the_migration(run, world):
    world.answers(OLD, {"has_pg_trgm": False})
    assert run()["changed"] is True


def test_tells_that_a_newer_prefect_was_here(run, world):
    world.answers("cccccccccccc")
    assert run()["msg"] == (
        f"The database {SHOWN} cannot be used: its schema has revision cccccccccccc, which this Prefect does not know: a newer Prefect has used it."
        " Set prefect_version to that one, or restore the backup that was made before."
    )


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_tells_that_an_authority_cannot_be_read(run, tmp_path, content):
    authority = tmp_path / "ca.pem"
    if content:
        authority.write_text(content)
    message = run(settings={"sqlalchemy": {"connect_args": {"tls": {"enabled": True, "ca_file": str(authority)}}}})["msg"]
    assert re.fullmatch(
        rf"The database {re.escape(SHOWN)} cannot be used: its certificate authority cannot be read \(.+\)."
        rf" In prefect_server_database_tls_ca_file, name a PEM file of this host that the user {USER} may read.",
        message,
    ), message


def test_shows_the_last_words_of_a_migration_that_failed(run, world):
    world.answers(OLD, fails="\n".join(map(str, range(30))) + f"\ncannot migrate {URL} with {PASSWORD}")
    message = run()["msg"]
    assert message.startswith(
        f"The schema of {SHOWN} could not be brought up to date. Migrations run in transactions of their own, so repeat it once the cause is mended."
        " Prefect says:\n16\n17\n"
    )
    assert message.endswith("\n29\ncannot migrate ******** with ********")


def test_tells_that_the_probe_broke(run, world):
    (world.site / "asyncpg.py").write_text("import sys\nsys.exit('No module named asyncpg')")
    assert run()["msg"] == f"{world.python} could not look at the database: No module named asyncpg"


def test_tells_that_there_is_no_interpreter(run):
    assert run(python="/missing/python")["msg"] == "The database could not be looked at: [Errno 2] No such file or directory: '/missing/python'"


def test_tells_that_there_is_no_such_user(run):
    assert run(user="nobody-of-that-name")["msg"] == "user is 'nobody-of-that-name', which this host does not have: name one that it has."


def test_tells_that_prefect_is_not_whole(run, world):
    (world.site / "prefect/server/database/_migrations/versions/postgresql/two.py").unlink()
    (world.site / "prefect/server/database/_migrations/versions/postgresql/one.py").unlink()
    assert run()["msg"].endswith("site-packages/prefect has 0 newest revisions of the schema where there should be one: is Prefect installed whole?")


def test_refuses_a_url_that_prefect_would_refuse(run):
    assert run(connection_url="postgresql+asyncpg://u:p@db")["msg"] == (
        "connection_url cannot be used: it names no database: write …/name at its end, such as …:5432/prefect."
    )


def test_is_not_always_root(run, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert run()["changed"] is False


@pytest.fixture
def sqlite(tmp_path):
    return tmp_path / "prefect.db"


def test_sqlite(run, world, sqlite):
    url = f"sqlite+aiosqlite:///{sqlite}"
    result = run(connection_url=url)
    assert (result["changed"], result["revision"], result["server_version"], result["tls"], result["max_connections"]) == (True, HEAD, "", False, 0)
    assert run(connection_url=url)["changed"] is False
    with sqlite3.connect(sqlite) as connection:
        connection.execute(f"update alembic_version set version_num = '{OLD}'")
    result = run(connection_url=url)
    assert (result["changed"], result["diff"]["before"], result["diff"]["after"]) == (True, f"revision: {OLD}\n", f"revision: {HEAD}\n")


@pytest.mark.parametrize("statement", ["create table other (x)", "create table alembic_version (version_num text)"])
def test_sqlite_without_a_revision(run, sqlite, statement):
    with sqlite3.connect(sqlite) as connection:
        connection.execute(statement)
    assert run(connection_url=f"sqlite+aiosqlite:///{sqlite}", migrate=False)["revision"] == ""


def test_sqlite_that_is_none(run, world, sqlite):
    sqlite.write_text("something else " * 100)
    assert run(connection_url=f"sqlite+aiosqlite:///{sqlite}")["msg"] == (
        f"The database sqlite+aiosqlite:///{sqlite} cannot be used: file is not a database. Restore a backup of it, or move it away to begin with an empty one."
    )
    assert world.noted("migrated") is None
