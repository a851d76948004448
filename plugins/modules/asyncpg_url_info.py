#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: asyncpg_url_info
short_description: Validate the URL of a PostgreSQL database, and try it
version_added: 0.1.0
description:
  - Takes a URL for SQLAlchemy's asyncpg dialect apart, C(postgresql+asyncpg://user:password@host:port/name), and refuses what SQLAlchemy or
    asyncpg would refuse or misread.
  - On demand it opens a connection with the libraries of an installed Prefect, and tells what Prefect would meet there. Why a connection
    cannot be had is told apart, see RV(fault).
  - The password is in no answer and in no message.
author: selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
options:
  url:
    description: The URL, percent-encoded. P(selfhost.prefect.asyncpg_url#filter) makes one from its parts.
    type: str
    required: true
  connect:
    description: Whether to open a connection. Needs O(python).
    type: bool
    default: false
  python:
    description: Interpreter of the environment that Prefect is installed in, on the host that the module runs on.
    type: path
    default: /opt/prefect/current/bin/python
  user:
    description: The system user to connect as, such as the server's. Left out, it is the one that the module runs as.
    type: str
  settings:
    description:
      - The settings of the database as in C(prefect.toml)'s table C([server.database]). Those of C(sqlalchemy.connect_args), TLS among them,
        count for the connection, and C(sqlalchemy.pool_size) and C(sqlalchemy.max_overflow) for RV(planned_connections).
    type: dict
    default: {}
  processes:
    description: How many processes of Prefect's server are to use the database, for RV(planned_connections).
    type: int
    default: 1
  timeout:
    description: Seconds for the connection, and for each query.
    type: int
    default: 10
seealso:
  - module: selfhost.prefect.prefect_database
"""

EXAMPLES = r"""
- name: Take a URL apart
  selfhost.prefect.asyncpg_url_info:
    url: "{{ prefect_server_database_url }}"
  register: database

- name: Try the database, over TLS, as the server would
  selfhost.prefect.asyncpg_url_info:
    url: "{{ prefect_server_database_url }}"
    connect: true
    user: prefect
    settings:
      sqlalchemy:
        connect_args:
          tls:
            enabled: true
            ca_file: /etc/ssl/certs/database-ca.pem
    processes: 2
  register: database
  become: true

- name: See that there are connections enough
  ansible.builtin.assert:
    that: database.planned_connections <= database.usable_connections
    fail_msg: Raise max_connections of PostgreSQL, or lower pool_size and max_overflow.
"""

RETURN = r"""
url:
  description: The URL with its password masked.
  returned: success
  type: str
  sample: postgresql+asyncpg://prefect:***@db.example.com:5432/prefect
parts:
  description: The parts of the URL, decoded.
  returned: success
  type: dict
  contains:
    driver:
      description: SQLAlchemy's name of the dialect and the driver.
      type: str
    user:
      description: Name of the role, empty when the URL has none.
      type: str
    password:
      description: C(***), or empty when the URL has none.
      type: str
    host:
      description: Name or address, an IPv6 one without brackets; empty when C(query) has it.
      type: str
    port:
      description: Port, V(null) when the URL has none.
      type: int
    name:
      description: Name of the database.
      type: str
    query:
      description: The arguments for asyncpg, such as C(ssl), or C(host) for the folder of a Unix socket.
      type: dict
  sample:
    driver: postgresql+asyncpg
    user: prefect
    password: "***"
    host: db.example.com
    port: 5432
    name: prefect
    query: {}
planned_connections:
  description: How many connections O(processes) of Prefect's server open at most.
  returned: success
  type: int
  sample: 17
server_version:
  description: Version of PostgreSQL.
  returned: when O(connect) is true
  type: str
  sample: "17.4"
tls:
  description: Whether the connection was encrypted.
  returned: when O(connect) is true
  type: bool
latency_ms:
  description: Milliseconds for a query that does nothing, on a connection that is open.
  returned: when O(connect) is true
  type: float
  sample: 0.42
owner:
  description: The role that owns the database.
  returned: when O(connect) is true
  type: str
  sample: prefect
may_migrate:
  description: Whether Prefect can make and change its tables there.
  returned: when O(connect) is true
  type: bool
migration_problem:
  description: Why it cannot, and what to do about it; empty when it can.
  returned: when O(connect) is true
  type: str
  sample: its user may not create tables in the schema public. Make the user the owner of the database.
has_pg_trgm:
  description: Whether the extension C(pg_trgm) is there. Otherwise the first migration creates it.
  returned: when O(connect) is true
  type: bool
max_connections:
  description: How many connections PostgreSQL takes.
  returned: when O(connect) is true
  type: int
  sample: 100
usable_connections:
  description: How many of them are not reserved for superusers.
  returned: when O(connect) is true
  type: int
  sample: 97
connections:
  description: How many connections are open, in all databases.
  returned: when O(connect) is true
  type: int
  sample: 12
revision:
  description: Revision of Prefect's schema, empty where there is none.
  returned: when O(connect) is true
  type: str
  sample: d4a7e1c93f52
size:
  description: Size of the database in bytes.
  returned: when O(connect) is true
  type: int
  sample: 52428800
events_size:
  description: Size of the tables in it that hold Prefect's events, with their indexes.
  returned: when O(connect) is true
  type: int
  sample: 31457280
fault:
  description:
    - What is wrong, for a playbook to decide on. C(url) is a URL that is refused; the others are of the connection, C(name) is not resolved,
      C(refused), C(timeout), C(no postgresql), C(tls), C(no tls), C(certificate file), C(password), C(access) by C(pg_hba.conf),
      C(no database), C(full), C(too old), C(replica), and C(other).
  returned: failure
  type: str
  sample: password
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import DRIVER, AsyncpgUrlError, mask_url, parse_url
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database, DatabaseError, migration_problem, planned_connections

SEEN = ("server_version", "tls", "latency_ms", "owner", "has_pg_trgm", "max_connections", "connections", "size", "events_size")


def run(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    for option in ("processes", "timeout"):
        if params[option] < 1:
            raise DatabaseError(f"{option} is {params[option]}: write 1 or more.")
    # Refuses SQLite's too, which Database takes.
    parts = parse_url(params["url"])
    database = Database(params["url"], **{key: params[key] for key in ("settings", "python", "user", "timeout")})
    database.hide(module)
    result = {
        "url": mask_url(database.url),
        "parts": {"driver": DRIVER, **parts, "password": "***" if parts["password"] else ""},
        "planned_connections": planned_connections(database.settings, params["processes"]),
    }
    if params["connect"]:
        seen = database.look()
        problem = migration_problem(seen)
        result.update({key: seen[key] for key in SEEN})
        result.update(revision=seen["revision"] or "", usable_connections=seen["max_connections"] - seen["reserved_connections"])
        result.update(may_migrate=not problem, migration_problem=problem)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True, "no_log": True},
            "connect": {"type": "bool", "default": False},
            "python": {"type": "path", "default": "/opt/prefect/current/bin/python"},
            "user": {"type": "str"},
            "settings": {"type": "dict", "default": {}},
            "processes": {"type": "int", "default": 1},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(module))
    except AsyncpgUrlError as error:
        module.fail_json(msg=f"url cannot be used: {error}.", fault="url")
    except DatabaseError as error:
        module.fail_json(msg=str(error), fault=error.kind)
    except OSError as error:
        module.fail_json(msg=f"The database could not be looked at: {error}", fault="other")


if __name__ == "__main__":
    main()
