#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_database
short_description: Check Prefect's database, and bring its schema up to date
version_added: 0.1.0
description:
  - Opens a connection with the libraries of the installed Prefect and tells apart what can be wrong with it, from a name that is not
    resolved to a wrong password, a certificate that is not trusted, and a PostgreSQL that is too old.
  - Then compares the revision of the schema with the newest that this Prefect has, and migrates when they differ. That is also what
    C(changed) stands for, since Prefect's own command says the same whether it did anything or not.
author: selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  python:
    description:
      - Interpreter of the environment that Prefect is installed in.
      - In check mode it may be missing, as on a host that nothing was installed on so far; the module then only says that it would migrate.
    type: path
    required: true
  connection_url:
    description: The database, C(postgresql+asyncpg://user:password@host:port/name) or C(sqlite+aiosqlite:////path).
    type: str
    required: true
  settings:
    description: The settings of the database as in C(prefect.toml)'s table C([server.database]). Of use here are the TLS settings and the timeouts.
    type: dict
    default: {}
  user:
    description: The system user to connect and to migrate as, that is the server's. The file of a SQLite database has to be theirs.
    type: str
    required: true
  migrate:
    description: Whether to bring the schema up to date. Otherwise the connection is all that is checked.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Bring the schema up to date
  selfhost.prefect.prefect_database:
    python: /opt/prefect/current/bin/python
    connection_url: "{{ prefect_server_database_url }}"
    user: prefect
"""

RETURN = r"""
server_version:
  description: Version of the PostgreSQL server, empty for SQLite and when nothing was asked.
  returned: success
  type: str
  sample: "17.4"
tls:
  description: Whether the connection to PostgreSQL is encrypted.
  returned: success
  type: bool
max_connections:
  description: How many connections PostgreSQL takes in all, V(0) for SQLite.
  returned: success
  type: int
revision:
  description: Revision of the schema after this call, empty where there is none.
  returned: success
  type: str
  sample: d4a7e1c93f52
"""

import glob
import json
import os
import pwd
import re
import subprocess
import tempfile
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import AsyncpgUrlError, build_url, parse_url

SQLITE = "sqlite+aiosqlite:///"
# Prefect's own floor: https://docs.prefect.io/v3/advanced/self-hosted
OLDEST_POSTGRESQL = (14, 9)

# Run by the interpreter of the installed Prefect and as its user: connects as Prefect does, prints what it sees as JSON.
PROBE = r"""
import asyncio, json, os, socket, sqlite3, ssl, sys

SEEN = "select " + ", ".join([
    "current_setting('server_version') as server_version",
    "current_setting('server_version_num')::int as version_num",
    "current_setting('max_connections')::int as max_connections",
    "coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as tls",
    "pg_is_in_recovery() as replica",
    "coalesce(current_schema(), '') as schema",
    "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as may_create",
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

async def postgresql(arguments, tls, search_path):
    import asyncpg
    if tls.get("enabled"):
        arguments["ssl"] = tls_context(tls)
    if search_path:
        arguments["server_settings"] = {"search_path": search_path}
    try:
        connection = await asyncpg.connect(timeout=10, command_timeout=10, **arguments)
        try:
            seen = dict(await connection.fetchrow(SEEN))
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
    if isinstance(error, ConnectionError) and "SSL" in detail:
        return "no tls", detail
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout", detail
    if isinstance(error, OSError):
        return "refused", detail
    return ("sqlite" if isinstance(error, sqlite3.Error) else "other"), detail

wish = json.load(sys.stdin)
try:
    answer = sqlite(wish["sqlite"]) if "sqlite" in wish else asyncio.run(postgresql(**wish))
except Exception as error:
    answer = dict(zip(("fault", "detail"), fault(error)))
json.dump(answer, sys.stdout)
"""

# What the user sees, by what the probe found: what is wrong, and what to do about it.
FAULTS = {
    "name": "its host name is not resolved ({detail}). Write a name or an address that this host can resolve.",
    "tls": "TLS fails ({detail}). Give the authority that signed the server's certificate in prefect_server_database_tls_ca_file; where the certificate"
    " does not carry the host's name, as Cloud SQL's does not, set prefect_server_database_tls_check_hostname to false.",
    "no tls": "it offers no TLS ({detail}). Turn TLS on there, or leave prefect_server_database_tls_ca_file empty.",
    "certificate file": "its certificate authority cannot be read ({detail}). In prefect_server_database_tls_ca_file, name a PEM file of this host that"
    " the user {user} may read.",
    "timeout": "it does not answer within 10 s. See whether a firewall stands between, and whether host and port are right.",
    "refused": "nothing answers there ({detail}). See whether PostgreSQL runs and listens on that address and port.",
    "no database": "it has no such database ({detail}). Create it, owned by the user, or correct the name.",
    "password": "it refuses the password ({detail}). Correct prefect_server_database_password, or the one in prefect_server_database_url.",
    "access": "it lets this user not in ({detail}). See its pg_hba.conf; where that demands TLS, set prefect_server_database_tls_ca_file.",
    "sqlite": "{detail}. Restore a backup of it, or move it away to begin with an empty one.",
    "other": "{detail}",
}


class DatabaseError(Exception):
    """Says what is wrong, and what to do about it."""


class Database:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.python: str = module.params["python"]
        self.url: str = module.params["connection_url"]
        self.settings: dict[str, Any] = module.params["settings"]
        self.is_sqlite = self.url.startswith(SQLITE)
        self.parts = {} if self.is_sqlite else parse_url(self.url)
        if self.is_sqlite:
            module.no_log_values.discard(self.url)
        elif self.parts["password"]:
            # The URL is kept out of every answer by no_log; its password alone must be, too.
            module.no_log_values.update((self.parts["password"], quote(self.parts["password"], safe="")))
        self.shown = self.url if self.is_sqlite else build_url({**self.parts, "password": ""})

    def fault(self, fault: str) -> DatabaseError:
        return DatabaseError(f"The database {self.shown} cannot be used: {fault}")

    def look(self) -> dict[str, Any]:
        """What is there now; the connection is proven by it."""
        process = self.run_as_user([self.python, "-c", PROBE], text=json.dumps(self.wish()))
        if process.returncode:
            raise DatabaseError(f"{self.python} could not look at the database: {''.join(process.stderr.strip().splitlines()[-1:])}")
        seen: dict[str, Any] = json.loads(process.stdout)
        if "fault" in seen:
            raise self.fault(FAULTS[seen["fault"]].format(detail=seen["detail"], user=self.module.params["user"]))
        if self.is_sqlite:
            return {"server_version": "", "max_connections": 0, "tls": False, **seen}
        if seen["version_num"] < OLDEST_POSTGRESQL[0] * 10000 + OLDEST_POSTGRESQL[1]:
            oldest = ".".join(map(str, OLDEST_POSTGRESQL))
            raise self.fault(f"it is PostgreSQL {seen['server_version']}, and Prefect needs {oldest} or newer. Upgrade it, or name another.")
        if seen["replica"]:
            raise self.fault("it is a replica, which only reads. Name the primary.")
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
        connect_args = self.settings.get("sqlalchemy", {}).get("connect_args", {})
        return {"arguments": arguments, "tls": connect_args.get("tls", {}), "search_path": connect_args.get("search_path")}

    def revisions(self) -> tuple[str, set[str]]:
        """The newest revision that this Prefect has, and all of them. Read from its files, since importing them takes seconds."""
        package = os.path.join(os.path.dirname(os.path.dirname(self.python)), "lib", "python3*", "site-packages", "prefect")
        dialect = "sqlite" if self.is_sqlite else "postgresql"
        known: set[str] = set()
        revised: set[str] = set()
        for file in glob.glob(os.path.join(package, "server", "database", "_migrations", "versions", dialect, "*.py")):
            with open(file, encoding="utf-8") as stream:
                for down, value in re.findall(r"^(down_)?revision\b[^=\n]*=(.*)", stream.read(), re.MULTILINE):
                    (revised if down else known).update(re.findall(r"""["']([^"']+)["']""", value))
        heads = known - revised
        if len(heads) != 1:
            raise DatabaseError(f"{package} has {len(heads)} newest revisions of the schema where there should be one: is Prefect installed whole?")
        return heads.pop(), known

    def migrate(self) -> None:
        environment = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.url, **variables(self.settings, "PREFECT_SERVER_DATABASE_")}
        prefect = os.path.join(os.path.dirname(self.python), "prefect")
        process = self.run_as_user([prefect, "server", "database", "upgrade", "--yes"], environment, stderr=subprocess.STDOUT)
        if process.returncode:
            last_words = "\n".join(process.stdout.strip().splitlines()[-15:])
            raise DatabaseError(
                f"The schema of {self.shown} could not be brought up to date. Migrations run in transactions of their own, so repeat it once the cause"
                f" is mended. Prefect says:\n{last_words}"
            )

    def run_as_user(
        self, command: list[str], environment: dict[str, str] | None = None, text: str = "", stderr: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        user = self.module.params["user"]
        try:
            account = pwd.getpwnam(user)
        except KeyError as error:
            raise DatabaseError(f"user is '{user}', which this host does not have: name one that it has.") from error
        become: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with tempfile.TemporaryDirectory() as home:
            os.chown(home, account.pw_uid, account.pw_gid)
            # Nothing of Ansible's environment, no .env, no prefect.toml and no profile has a say.
            environment = {"PATH": "/usr/bin:/bin", "HOME": home, "PREFECT_HOME": home, "DO_NOT_TRACK": "1", **(environment or {})}
            return subprocess.run(
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


def variables(settings: dict[str, Any], prefix: str) -> dict[str, str]:
    """Settings as Prefect's environment variables, which are named after their keys."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found.update(variables(value, f"{prefix}{key.upper()}_"))
        elif key not in ("connection_url", "password"):
            found[prefix + key.upper()] = json.dumps(value) if isinstance(value, (bool, list)) else str(value)
    return found


def run(module: AnsibleModule) -> dict[str, Any]:
    if module.check_mode and not os.path.exists(module.params["python"]):
        return {"changed": module.params["migrate"], "server_version": "", "tls": False, "max_connections": 0, "revision": ""}
    database = Database(module)
    seen = database.look()
    answer = {key: seen[key] for key in ("server_version", "tls", "max_connections")}
    if not module.params["migrate"]:
        return {"changed": False, **answer, "revision": seen["revision"] or ""}
    newest, known = database.revisions()
    if seen["revision"] and seen["revision"] not in known:
        raise database.fault(
            f"its schema has revision {seen['revision']}, which this Prefect does not know: a newer Prefect has used it."
            " Set prefect_version to that one, or restore the backup that was made before."
        )
    changed = seen["revision"] != newest
    if changed and not seen.get("may_create", True):
        schema = f"the schema {seen['schema']}" if seen["schema"] else "its search_path, of whose schemas there is none"
        raise database.fault(f"its user may not create tables in {schema}. Make the user the owner of the database.")
    if changed and not module.check_mode:
        database.migrate()
        newest = database.look()["revision"] or ""
    return {
        "changed": changed,
        **answer,
        "revision": newest,
        "diff": {"before": f"revision: {seen['revision'] or 'none'}\n", "after": f"revision: {newest}\n"},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "connection_url": {"type": "str", "required": True, "no_log": True},
            "settings": {"type": "dict", "default": {}},
            "user": {"type": "str", "required": True},
            "migrate": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    except AsyncpgUrlError as error:
        module.fail_json(msg=f"connection_url cannot be used: {error}.")
    except OSError as error:
        module.fail_json(msg=f"The database could not be looked at: {error}")


if __name__ == "__main__":
    main()
