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
author: selfhost.prefect contributors
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
    description: The system user to migrate as, who has to own the file of a SQLite database.
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

import ast
import glob
import json
import os
import pwd
import sqlite3
import subprocess
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import DRIVER, AsyncpgUrlError, build_url, parse_url

SQLITE = "sqlite+aiosqlite:///"
# Prefect's own floor: https://docs.prefect.io/v3/advanced/self-hosted
OLDEST_POSTGRESQL = (14, 9)

# Run by the interpreter of the installed Prefect: connects as Prefect does, prints what it sees as JSON.
PROBE = r"""
import asyncio, json, socket, ssl, sys
import asyncpg

async def probe(dsn, tls, search_path):
    arguments = {}
    if tls.get("enabled"):
        context = ssl.create_default_context(cafile=tls.get("ca_file"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.get("cert_file") and tls.get("key_file"):
            context.load_cert_chain(tls["cert_file"], tls["key_file"])
        context.check_hostname = tls.get("check_hostname", True)
        arguments["ssl"] = context
    if search_path:
        arguments["server_settings"] = {"search_path": search_path}
    connection = await asyncpg.connect(dsn, timeout=10, **arguments)
    try:
        has_table = await connection.fetchval("select to_regclass('alembic_version') is not null")
        return {
            "server_version": await connection.fetchval("show server_version"),
            "version_num": int(await connection.fetchval("show server_version_num")),
            "max_connections": int(await connection.fetchval("show max_connections")),
            "tls": connection._transport.get_extra_info("ssl_object") is not None,
            "revision": await connection.fetchval("select version_num from alembic_version") if has_table else None,
        }
    finally:
        await connection.close(timeout=5)

def fault(error):
    if isinstance(error, socket.gaierror):
        return "name"
    if isinstance(error, ssl.SSLError) or "SSL" in str(error) and isinstance(error, ConnectionError):
        return "tls"
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return "timeout"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "no database"
    if isinstance(error, asyncpg.InvalidPasswordError):
        return "password"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return "access"
    return "refused" if isinstance(error, OSError) else "other"

wish = json.load(sys.stdin)
try:
    answer = asyncio.run(probe(wish["dsn"], wish["tls"], wish["search_path"]))
except Exception as error:
    answer = {"fault": fault(error), "detail": str(error) or type(error).__name__}
json.dump(answer, sys.stdout)
"""

# What the user sees, by what the probe found: what is wrong, and what to do about it.
FAULTS = {
    "name": "its host name is not resolved ({detail}). Write a name or an address that this host can resolve.",
    "tls": "TLS fails ({detail}). Give the authority that signed the server's certificate in prefect_server_database_tls_ca_file; where the certificate"
    " does not carry the host's name, as Cloud SQL's does not, set prefect_server_database_tls_check_hostname to false.",
    "timeout": "it does not answer within 10 s. See whether a firewall stands between, and whether host and port are right.",
    "refused": "nothing answers there ({detail}). See whether PostgreSQL runs and listens on that address and port.",
    "no database": "it has no such database ({detail}). Create it, owned by the user, or correct the name.",
    "password": "it refuses the password ({detail}). Correct prefect_server_database_password, or the one in prefect_server_database_url.",
    "access": "it lets this user not in ({detail}). See its pg_hba.conf; where that demands TLS, set prefect_server_database_tls_ca_file.",
    "other": "{detail}",
}


class Database:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.python: str = module.params["python"]
        self.url: str = module.params["connection_url"]
        self.settings: dict[str, Any] = module.params["settings"]
        self.is_sqlite = self.url.startswith(SQLITE)
        self.parts = {} if self.is_sqlite else parse_url(self.url)
        # The URL is kept out of every answer by no_log; its password alone must be, too.
        if self.parts.get("password"):
            module.no_log_values.add(self.parts["password"])

    @property
    def account(self) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(self.module.params["user"])
        except KeyError:
            self.module.fail_json(msg=f"user is '{self.module.params['user']}', which this host does not have: name one that it has.")
            raise

    @property
    def shown(self) -> str:
        return self.url if self.is_sqlite else build_url({**self.parts, "password": ""})

    def look(self) -> dict[str, Any]:
        """What is there now; the connection is proven by it."""
        seen = {"server_version": "", "max_connections": 0, "tls": False, "revision": None}
        if self.is_sqlite:
            return {**seen, "revision": self.sqlite_revision(self.url[len(SQLITE) :])}
        connect_args = self.settings.get("sqlalchemy", {}).get("connect_args", {})
        wish = {"dsn": self.dsn(), "tls": connect_args.get("tls", {}), "search_path": connect_args.get("search_path")}
        code, output, error = self.module.run_command([self.python, "-c", PROBE], data=json.dumps(wish), cwd="/")
        if code:
            self.module.fail_json(msg=f"{self.python} could not look at the database: {error.strip().splitlines()[-1:]}")
        answer = json.loads(output)
        if "fault" in answer:
            self.module.fail_json(msg=f"The database {self.shown} cannot be used: {FAULTS[answer['fault']].format(detail=answer['detail'])}")
        if answer["version_num"] < OLDEST_POSTGRESQL[0] * 10000 + OLDEST_POSTGRESQL[1]:
            self.module.fail_json(
                msg=f"The database {self.shown} is PostgreSQL {answer['server_version']}, and Prefect needs {'.'.join(map(str, OLDEST_POSTGRESQL))} or newer:"
                " upgrade it, or name another."
            )
        return {**seen, **{key: answer[key] for key in seen}}

    def dsn(self) -> str:
        # asyncpg itself knows no dialect, and nothing of what SQLAlchemy keeps for itself.
        query = {key: value for key, value in self.parts["query"].items() if key != "prepared_statement_cache_size"}
        return build_url({**self.parts, "query": query}).replace(DRIVER, "postgresql", 1)

    @staticmethod
    def sqlite_revision(path: str) -> str | None:
        if not os.path.exists(path):
            return None
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            row = connection.execute("select version_num from alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
        finally:
            connection.close()
        return row[0] if row else None

    def revisions(self) -> tuple[str, set[str]]:
        """The newest revision that this Prefect has, and all of them. Read from its files, since importing them takes seconds."""
        package = os.path.join(os.path.dirname(os.path.dirname(self.python)), "lib", "python3*", "site-packages", "prefect")
        dialect = "sqlite" if self.is_sqlite else "postgresql"
        known, revised = set(), set()
        for file in glob.glob(os.path.join(package, "server", "database", "_migrations", "versions", dialect, "*.py")):
            with open(file, encoding="utf-8") as stream:
                values = assignments(stream.read())
            if "revision" in values:
                known.add(values["revision"])
                below = values.get("down_revision") or ()
                revised.update((below,) if isinstance(below, str) else below)
        heads = known - revised
        if len(heads) != 1:
            self.module.fail_json(msg=f"{package} has {len(heads)} newest revisions of the schema where there should be one: is Prefect installed whole?")
        return heads.pop(), known

    def migrate(self) -> None:
        account = self.account
        with tempfile.TemporaryDirectory() as home:
            os.chown(home, account.pw_uid, account.pw_gid)
            process = subprocess.run(
                [self.python, "-m", "prefect", "server", "database", "upgrade", "--yes"],
                cwd=home,
                env={
                    "PATH": "/usr/bin:/bin",
                    "PREFECT_HOME": home,
                    "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.url,
                    **variables(self.settings, "PREFECT_SERVER_DATABASE_"),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[],
                umask=0o077,
            )
        if process.returncode:
            last_words = "\n".join(process.stdout.strip().splitlines()[-15:]).replace(self.url, self.shown)
            self.module.fail_json(
                msg=f"The schema of {self.shown} could not be brought up to date. Migrations run in transactions of their own, so repeat it once the cause"
                f" is mended. Prefect says:\n{last_words}"
            )


def assignments(source: str) -> dict[str, Any]:
    """The constants that a Python file assigns to names."""
    found = {}
    for statement in ast.parse(source).body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
        if isinstance(target, ast.Name) and isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            try:
                found[target.id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return found


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
    if not module.params["migrate"]:
        return {"changed": False, **seen, "revision": seen["revision"] or ""}
    newest, known = database.revisions()
    if seen["revision"] and seen["revision"] not in known:
        module.fail_json(
            msg=f"The schema of {database.shown} has revision {seen['revision']}, which this Prefect does not know: a newer Prefect has used it."
            " Set prefect_version to that one, or restore the backup that was made before."
        )
    changed = seen["revision"] != newest
    if changed and not module.check_mode:
        database.migrate()
        newest = database.look()["revision"] or ""
    return {
        "changed": changed,
        **seen,
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
    except AsyncpgUrlError as error:
        module.fail_json(msg=f"connection_url cannot be used: {error}.")
    except sqlite3.Error as error:
        module.fail_json(msg=f"The SQLite database cannot be read: {error}.")


if __name__ == "__main__":
    main()
