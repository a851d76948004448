#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudsql_user
short_description: Manage a user of a Cloud SQL instance
description:
  - Creates, changes or deletes a user of a Cloud SQL for PostgreSQL instance, with a password or with IAM.
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
    details: The diff tells that a password is set, and not which.
  idempotent:
    support: partial
    details: The API never tells a password, so O(update_password=always) sets it each time.
options:
  instance:
    description: Name of the instance.
    type: str
    required: true
  name:
    description:
      - Name of the user. Names that begin with C(cloudsql) or C(pg_) are Google's and PostgreSQL's own.
      - An IAM user's is the e-mail address, a service account's without its C(.gserviceaccount.com).
    type: str
    required: true
  type:
    description: How the user proves who they are. It cannot be changed later.
    type: str
    choices: [BUILT_IN, CLOUD_IAM_USER, CLOUD_IAM_SERVICE_ACCOUNT, CLOUD_IAM_GROUP]
    default: BUILT_IN
  password:
    description: Password of a user with O(type=BUILT_IN), who cannot be created without one.
    type: str
  update_password:
    description: V(on_create) sets the password of a new user only, V(always) each time.
    type: str
    choices: [on_create, always]
    default: on_create
  state:
    description: V(absent) deletes the user. PostgreSQL refuses while they own anything.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Have a user for Prefect
  selfhost.prefect.cloudsql_user:
    project: my-project
    instance: prefect
    name: prefect
    password: "{{ prefect_database_password }}"

- name: Let a service account log in without a password
  selfhost.prefect.cloudsql_user:
    project: my-project
    instance: prefect
    name: prefect-server@my-project.iam
    type: CLOUD_IAM_SERVICE_ACCOUNT
"""

RETURN = r"""
user:
  description: The user as the API gives it, without a password; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
    type:
      description: How the user proves who they are.
      type: str
    instance:
      description: Name of the instance.
      type: str
  sample:
    name: prefect
    type: BUILT_IN
    instance: prefect
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, given, run_module

# Stands for the password in a diff.
PASSWORD_SET = "(set by this task)"  # noqa: S105 -- it is none


class User(Resource):
    """A user, of whom the API tells everything but the password."""

    api = "sql"

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.password = params["password"]
        self.keep_password = params["update_password"] == "on_create"  # noqa: S105 -- it is none
        wanted = {"type": params["type"], **({"password": PASSWORD_SET} if self.password else {})}
        path = f"v1/projects/{client.project}/instances/{client.quote(params['instance'])}/users"
        super().__init__(client, params["name"], path, wanted if params["state"] == "present" else None)

    def read(self) -> Json | None:
        users = self.client.list(self.api, self.path, "items")
        # The API leaves out what is the default.
        return next(({"type": "BUILT_IN", **user} for user in users if user["name"] == self.name), None)

    def compare(self, current: Json) -> Json:
        return super().compare({**current, "password": PASSWORD_SET} if self.keep_password else current)

    def check(self) -> None:
        """A user needs a password at first, and stays of one type."""
        if self.absent:
            return
        if self.current is None and self.wanted["type"] == "BUILT_IN" and not self.password:
            raise GcpError(f"password: the user {self.name!r} does not exist yet", "give the password to create them with")
        if self.current is not None and self.before["type"] != self.wanted["type"]:
            raise GcpError(
                f"type: the user {self.name!r} is of type {self.before['type']}, which cannot be changed to {self.wanted['type']}",
                f"write {self.before['type']}, or delete the user first (state: absent)",
            )

    def body(self) -> Json:
        """Give the user as the API takes it."""
        return given({"name": self.name, "type": self.wanted["type"], "password": self.password})

    def create(self) -> None:
        self.client.write(self.api, "POST", self.path, self.body())

    def update(self) -> None:
        self.client.write(self.api, "PUT", self.path, self.body(), name=self.name)

    def delete(self) -> None:
        self.client.write(self.api, "DELETE", self.path, name=self.name)


def check_params(params: Json) -> None:
    """Refuse what no instance would take."""
    name, type_ = params["name"], params["type"]
    if re.match(r"cloudsql|pg_", name) and params["state"] == "present":
        raise GcpError(f"name: {name!r} begins as Google's or PostgreSQL's own users do", "choose another name")
    if type_ != "BUILT_IN" and params["password"]:
        raise GcpError(f"password: a user of type {type_} has none", "leave it out")
    if type_ == "CLOUD_IAM_SERVICE_ACCOUNT" and name.endswith(".gserviceaccount.com"):
        short = name[: -len(".gserviceaccount.com")]
        raise GcpError(f"name: PostgreSQL's name of the service account {name} is shorter", f"write {short}")
    if type_ != "BUILT_IN" and "@" not in name:
        raise GcpError(f"name: {name!r} is no e-mail address, which a user of type {type_} is named by", "write the address")


def run(module: AnsibleModule, client: GcpClient) -> Json:
    check_params(module.params)
    result = converge(User(client, module.params))
    user = result.pop("resource")
    user.pop("password", None)
    return {"user": user, **result}


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "instance": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "type": {
            "type": "str",
            "choices": ["BUILT_IN", "CLOUD_IAM_USER", "CLOUD_IAM_SERVICE_ACCOUNT", "CLOUD_IAM_GROUP"],
            "default": "BUILT_IN",
        },
        "password": {"type": "str", "no_log": True},
        "update_password": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
