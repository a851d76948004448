#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudsql_database
short_description: Manage a database of a Cloud SQL instance
description:
  - Creates or deletes a database of a Cloud SQL for PostgreSQL instance.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  instance:
    description: Name of the instance.
    type: str
    required: true
  name:
    description: Name of the database.
    type: str
    required: true
  charset:
    description: Character set of a new database, such as V(UTF8). It cannot be changed later.
    type: str
  collation:
    description: Collation of a new database, such as V(en_US.UTF8). It cannot be changed later.
    type: str
  state:
    description: V(absent) deletes the database with all that is in it.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Have Prefect's database
  selfhost.prefect.cloudsql_database:
    project: my-project
    instance: prefect
    name: prefect-db
"""

RETURN = r"""
database:
  description: The database as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
    instance:
      description: Name of the instance.
      type: str
    charset:
      description: Character set.
      type: str
    collation:
      description: Collation.
      type: str
  sample:
    name: prefect-db
    instance: prefect
    charset: UTF8
    collation: en_US.UTF8
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, given, run_module


class Database(Resource):
    """A database; its operations are those of its instance."""

    api = "sql"

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.collection = f"v1/projects/{client.project}/instances/{client.quote(params['instance'])}/databases"
        wanted = given({"charset": params["charset"], "collation": params["collation"]}) if params["state"] == "present" else None
        super().__init__(client, params["name"], f"{self.collection}/{client.quote(params['name'])}", wanted)

    def check(self) -> None:
        """PostgreSQL fixes both when it makes the database."""
        for field, value in self.changes().items() if self.current else ():
            raise GcpError(
                f"{field}: the database {self.name!r} has {self.before.get(field)!r}, which cannot be changed to {value!r}",
                f"write {self.before.get(field)!r}, or move the data to a new database",
            )

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, {"name": self.name, **self.wanted})


def run(module: AnsibleModule, client: GcpClient) -> Json:
    result = converge(Database(client, module.params))
    return {"database": result.pop("resource"), **result}


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "instance": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "charset": {"type": "str"},
        "collation": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
