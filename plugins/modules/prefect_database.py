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
    description:
      - The system user to connect and to migrate as, that is the server's. The file of a SQLite database has to be theirs.
      - In check mode it may be missing, too.
    type: str
    required: true
  wait_timeout:
    description: How many seconds to wait for a PostgreSQL that does not let one in, as one that is being made or is just starting.
    type: int
    default: 0
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
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import AsyncpgUrlError
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database, DatabaseError, Names, migration_problem

# It is the module of a role, whose variables these are.
NAMES: Names = {
    "address": "prefect_server_database_host and prefect_server_database_port, or prefect_server_database_url",
    "ca_file": "prefect_server_database_tls_ca_file",
    "check_hostname": "prefect_server_database_tls_check_hostname",
    "name": "prefect_server_database_name, or the one in prefect_server_database_url",
    "password": "prefect_server_database_password, or the one in prefect_server_database_url",
}


def revisions(database: Database) -> tuple[str, set[str]]:
    """The newest revision that this Prefect has, and all of them. Read from its files, since importing them takes seconds."""
    package = os.path.join(os.path.dirname(os.path.dirname(database.python)), "lib", "python3*", "site-packages", "prefect")
    dialect = "sqlite" if database.is_sqlite else "postgresql"
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


def migrate(database: Database) -> None:
    environment = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url, **variables(database.settings, "PREFECT_SERVER_DATABASE_")}
    prefect = os.path.join(os.path.dirname(database.python), "prefect")
    process = database.run_as_user([prefect, "server", "database", "upgrade", "--yes"], environment, stderr=subprocess.STDOUT)
    if process.returncode:
        last_words = "\n".join(process.stdout.strip().splitlines()[-15:])
        raise DatabaseError(
            f"The schema of {database.shown} could not be brought up to date. Migrations run in transactions of their own, so repeat it once the cause"
            f" is mended. Prefect says:\n{last_words}"
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


def is_bare(params: dict[str, Any]) -> bool:
    """Whether this host still lacks what a dry run only foretells. It may have Prefect without the user, where a worker has been so far."""
    try:
        pwd.getpwnam(params["user"])
    except KeyError:
        return True
    return not os.path.exists(params["python"])


def run(module: AnsibleModule) -> dict[str, Any]:
    if module.check_mode and is_bare(module.params):
        return {"changed": module.params["migrate"], "server_version": "", "tls": False, "max_connections": 0, "revision": ""}
    options = {key: module.params[key] for key in ("settings", "python", "user")}
    database = Database(module.params["connection_url"], **options, names=NAMES)
    database.hide(module)
    seen = database.look(module.params["wait_timeout"])
    answer = {key: seen[key] for key in ("server_version", "tls", "max_connections")}
    if not module.params["migrate"]:
        return {"changed": False, **answer, "revision": seen["revision"] or ""}
    newest, known = revisions(database)
    if seen["revision"] and seen["revision"] not in known:
        raise database.fault(
            f"its schema has revision {seen['revision']}, which this Prefect does not know: a newer Prefect has used it",
            "Set prefect_version to that one, or restore the backup that was made before.",
        )
    changed = seen["revision"] != newest
    if changed and not database.is_sqlite and (problem := migration_problem(seen)):
        raise database.fault(*problem.split(". ", 1))
    if changed and not module.check_mode:
        migrate(database)
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
            "wait_timeout": {"type": "int", "default": 0},
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
