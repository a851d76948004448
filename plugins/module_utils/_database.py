# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""Looks at Prefect's database with the libraries of the installed Prefect, as its user, and tells apart what can be wrong."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import tempfile
from typing import Any, TypedDict
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import build_url, parse_url

SQLITE = "sqlite+aiosqlite:///"
# Prefect's own floor: https://docs.prefect.io/v3/advanced/self-hosted
OLDEST_POSTGRESQL = (14, 9)
# Prefect's defaults, and what a server opens beside its pool: to listen, and to delete old events.
POOL_SIZE, MAX_OVERFLOW, BESIDE_THE_POOL = 5, 10, 2

# Run by the interpreter of the installed Prefect and as its user: connects as Prefect does, prints what it sees as JSON.
PROBE = r"""
import asyncio, json, os, socket, sqlite3, ssl, sys, time

SEEN = "select " + ", ".join([
    "current_setting('server_version') as server_version",
    "current_setting('server_version_num')::int as version_num",
    "current_setting('max_connections')::int as max_connections",
    "current_setting('superuser_reserved_connections')::int as reserved_connections",
    "(select coalesce(sum(numbackends), 0)::int from pg_stat_database) as connections",
    "coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as tls",
    "pg_is_in_recovery() as replica",
    "coalesce(current_schema(), '') as schema",
    "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as may_create",
    "has_database_privilege(current_database(), 'CREATE') as may_extend",
    "(select pg_get_userbyid(datdba)::text from pg_database where datname = current_database()) as owner",
    "exists (select from pg_extension where extname = 'pg_trgm') as has_pg_trgm",
    "exists (select from pg_available_extensions where name = 'pg_trgm') as offers_pg_trgm",
    "pg_database_size(current_database()) as size",
    "coalesce(pg_total_relation_size(to_regclass('events')) + pg_total_relation_size(to_regclass('event_resources')), 0)::bigint as events_size",
    "to_regclass('alembic_version') is not null as has_revision",
])

class Fault(Exception):
    pass

def tls_context(tls):
    try:
        context = ssl.create_default_context(cafile=tls.get("ca_file"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.get("cert_file") and tls.get("key_file"):
            context.load_cert_chain(tls["cert_file"], tls["key_file"])
    except OSError as error:
        raise Fault("certificate file", str(error))
    context.check_hostname = tls.get("check_hostname", True)
    return context

async def postgresql(arguments, tls, search_path, timeout):
    import asyncpg
    if tls.get("enabled"):
        arguments["ssl"] = tls_context(tls)
    if search_path:
        arguments["server_settings"] = {"search_path": search_path}
    try:
        connection = await asyncpg.connect(timeout=timeout, command_timeout=timeout, **arguments)
        try:
            started = time.monotonic()
            await connection.fetchval("select 1")
            latency = round((time.monotonic() - started) * 1000, 2)
            seen = {"latency_ms": latency, **await connection.fetchrow(SEEN)}
            seen["revision"] = await connection.fetchval("select version_num from alembic_version") if seen.pop("has_revision") else None
            return seen
        finally:
            await connection.close(timeout=5)
    except asyncpg.InvalidCatalogNameError as error:
        raise Fault("no database", str(error))
    except asyncpg.InvalidPasswordError as error:
        raise Fault("password", str(error))
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise Fault("access", str(error))
    except asyncpg.TooManyConnectionsError as error:
        raise Fault("full", str(error))
    except ConnectionRefusedError:
        raise
    except (asyncpg.ConnectionDoesNotExistError, ConnectionError) as error:
        # One without TLS would have been asked again without it, where that will do.
        wants_tls = arguments.get("ssl") not in (None, "allow", "prefer")
        raise Fault("no tls" if wants_tls and "SSL" in str(error) else "no postgresql", str(error))

def sqlite(path):
    if not os.path.exists(path):
        return {"revision": None}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        has_revision = connection.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone()
        row = connection.execute("select version_num from alembic_version").fetchone() if has_revision else None
        return {"revision": row[0] if row else None}
    finally:
        connection.close()

def fault(error):
    if isinstance(error, Fault):
        return error.args
    detail = str(error) or type(error).__name__
    if isinstance(error, socket.gaierror):
        return "name", detail
    if isinstance(error, ssl.SSLError):
        return "tls", detail
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout", detail
    if isinstance(error, OSError):
        return "refused", detail
    return ("sqlite" if isinstance(error, sqlite3.Error) else "other"), detail

wish = json.load(sys.stdin)
deadline = time.monotonic() + wish.pop("patience")
while True:
    try:
        answer = sqlite(wish["sqlite"]) if "sqlite" in wish else asyncio.run(postgresql(**wish))
    except Exception as error:
        answer = dict(zip(("fault", "detail"), fault(error)))
    if "fault" not in answer or "sqlite" in wish or time.monotonic() >= deadline:
        break
    time.sleep(0.5)
json.dump(answer, sys.stdout)
"""

# What the user sees, by what the probe found: what is wrong, and what to do about it.
FAULTS = {
    "name": "its host name is not resolved ({detail}). Correct {address}: write a name or an address that this host can resolve.",
    "tls": "TLS fails ({detail}). Give the authority that signed the server's certificate in {ca_file}; where the certificate"
    " does not carry the host's name, as Cloud SQL's does not, set {check_hostname} to false.",
    "no tls": "it offers no TLS ({detail}). Turn TLS on there, or leave {ca_file} empty.",
    "certificate file": "its certificate authority cannot be read ({detail}). In {ca_file}, name a PEM file of this host that the user {user} may read.",
    "timeout": "it does not answer within {timeout} s. See whether a firewall stands between, or correct {address}.",
    "refused": "nothing answers there ({detail}). See whether PostgreSQL runs and listens there, or correct {address}.",
    "no database": "it has no such database ({detail}). Create it, owned by the user, or correct {name}.",
    "password": "it refuses the password ({detail}). Correct {password}.",
    "access": "it lets this user not in ({detail}). See its pg_hba.conf; where that demands TLS, set {ca_file}.",
    "full": "it takes no more connections ({detail}). Raise its max_connections, or lower pool_size and max_overflow of what uses it.",
    "no postgresql": "what listens there is no PostgreSQL, or breaks every connection off ({detail}). Correct {address}.",
    "sqlite": "{detail}. Restore a backup of it, or move it away to begin with an empty one.",
    "other": "{detail}",
}


class Names(TypedDict):
    """What the user calls that which a remedy tells them to write."""

    address: str
    ca_file: str
    check_hostname: str
    name: str
    password: str


NAMES: Names = {
    "address": "the host and the port in the URL",
    "ca_file": "ca_file of the settings' sqlalchemy.connect_args.tls",
    "check_hostname": "its check_hostname",
    "name": "the name in the URL",
    "password": "the one in the URL",
}


class DatabaseError(Exception):
    """Says what is wrong, and what to do about it.

    kind: which of FAULTS it is, or too old, replica; other for what is not the database's.
    """

    def __init__(self, problem: str, remedy: str = "", kind: str = "other") -> None:
        super().__init__(f"{problem}. {remedy}" if remedy else problem)
        self.problem, self.remedy, self.kind = problem, remedy, kind


class Database:
    """A database of Prefect's, reached by the interpreter of an installed Prefect."""

    def __init__(self, url: str, *, settings: dict[str, Any], python: str, user: str = "", timeout: int = 10, names: Names | None = None) -> None:
        self.url, self.settings, self.python, self.timeout, self.names = url, settings, python, timeout, names or NAMES
        self.user = user or pwd.getpwuid(os.geteuid()).pw_name
        self.is_sqlite = url.startswith(SQLITE)
        self.parts = {} if self.is_sqlite else parse_url(url)
        self.shown = url if self.is_sqlite else build_url({**self.parts, "password": ""})

    def hide(self, module: AnsibleModule) -> None:
        """The URL is kept out of every answer by no_log; its password alone must be, too, and nothing where there is none."""
        if self.parts.get("password"):
            module.no_log_values.update((self.parts["password"], quote(self.parts["password"], safe="")))
        else:
            module.no_log_values.discard(self.url)

    def fault(self, problem: str, remedy: str, kind: str = "other") -> DatabaseError:
        return DatabaseError(f"The database {self.shown} cannot be used: {problem}", remedy, kind)

    def look(self, patience: float = 0) -> dict[str, Any]:
        """What is there now; the connection is proven by it. A PostgreSQL that does not let one in may do so within `patience` seconds."""
        process = self.run_as_user([self.python, "-c", PROBE], text=json.dumps({**self.wish(), "patience": patience}))
        if process.returncode:
            raise DatabaseError(f"{self.python} could not look at the database: {''.join(process.stderr.strip().splitlines()[-1:])}")
        seen: dict[str, Any] = json.loads(process.stdout)
        if "fault" in seen:
            words = {"detail": seen["detail"], "user": self.user, "timeout": self.timeout, **self.names}
            problem, dummy, remedy = FAULTS[seen["fault"]].partition(". ")
            raise self.fault(problem.format(**words), remedy.format(**words), seen["fault"])
        if self.is_sqlite:
            return {"server_version": "", "max_connections": 0, "tls": False, **seen}
        if seen["version_num"] < OLDEST_POSTGRESQL[0] * 10000 + OLDEST_POSTGRESQL[1]:
            oldest = ".".join(map(str, OLDEST_POSTGRESQL))
            raise self.fault(
                f"it is PostgreSQL {seen['server_version']}, and Prefect needs {oldest} or newer",
                f"Upgrade it, or name another in {self.names['address']}.",
                "too old",
            )
        if seen["replica"]:
            raise self.fault("it is a replica, which only reads", f"Name the primary in {self.names['address']}.", "replica")
        return seen

    def wish(self) -> dict[str, Any]:
        """What the probe is to do: that what SQLAlchemy makes of the URL and Prefect of the settings."""
        if self.is_sqlite:
            return {"sqlite": self.url[len(SQLITE) :]}
        arguments = {key: value for key, value in self.parts.items() if key != "query" and value} | self.parts["query"]
        arguments["database"] = arguments.pop("name")
        arguments["host"] = arguments["host"].split(",")
        if "port" in arguments:
            arguments["port"] = [int(port) for port in str(arguments["port"]).split(",")]
        tls = table(self.settings, "sqlalchemy", "connect_args", "tls")
        search_path = table(self.settings, "sqlalchemy", "connect_args").get("search_path")
        return {"arguments": arguments, "tls": tls, "search_path": search_path, "timeout": self.timeout}

    def run_as_user(
        self, command: list[str], environment: dict[str, str] | None = None, text: str = "", stderr: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        try:
            account = pwd.getpwnam(self.user)
        except KeyError as error:
            raise DatabaseError(f"user is '{self.user}', which this host does not have: name one that it has.") from error
        become: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with tempfile.TemporaryDirectory() as home:
            os.chown(home, account.pw_uid, account.pw_gid)
            # Nothing of Ansible's environment, no .env, no prefect.toml and no profile has a say.
            environment = {"PATH": "/usr/bin:/bin", "HOME": home, "PREFECT_HOME": home, "DO_NOT_TRACK": "1", **(environment or {})}
            # AnsibleModule.run_command() cannot become another user.
            return subprocess.run(  # pylint: disable=ansible-bad-function
                command,
                input=text,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                check=False,
                cwd=home,
                env=environment,
                umask=0o077,
                **become,
            )


def migration_problem(seen: dict[str, Any]) -> str:
    """Why the user of a PostgreSQL that was looked at may not bring Prefect's schema up to date, and what to do; nothing when they may."""
    if not seen["may_create"]:
        schema = f"the schema {seen['schema']}" if seen["schema"] else "its search_path, of whose schemas there is none"
        return f"its user may not create tables in {schema}. Make the user the owner of the database."
    if seen["has_pg_trgm"]:
        return ""
    if not seen["offers_pg_trgm"]:
        return "it does not offer the extension pg_trgm, which Prefect needs. Install it there, as a package such as postgresql-contrib."
    if not seen["may_extend"]:
        return "its user may not create the extension pg_trgm, which Prefect needs. Make the user the owner of the database, or create it for them."
    return ""


def planned_connections(settings: dict[str, Any], processes: int) -> int:
    """How many connections so many processes of Prefect's server open at most."""
    pool = {"pool_size": POOL_SIZE, "max_overflow": MAX_OVERFLOW}
    pool.update({key: value for key, value in table(settings, "sqlalchemy").items() if key in pool and value is not None})
    try:
        return processes * (sum(map(int, pool.values())) + BESIDE_THE_POOL)
    except (TypeError, ValueError):
        raise DatabaseError("settings: sqlalchemy.pool_size and sqlalchemy.max_overflow are not both numbers: write such as 5 and 10.") from None


def table(settings: dict[str, Any], *path: str) -> dict[str, Any]:
    """One table of the settings; an empty one where there is none."""
    found: Any = settings
    for depth, key in enumerate(path, 1):
        found = found.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise DatabaseError(f"settings: {'.'.join(path[:depth])} is no dictionary: write its keys and values.")
    return found
