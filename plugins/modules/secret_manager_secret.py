#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_manager_secret
short_description: Keep a secret in Secret Manager
description:
  - Creates a secret, adds a version when its value differs, grants reading it, or deletes it.
  - The value is given, or made once at random and then left as it is.
  - Neither the diff nor a message shows a value. The diff tells one from another by a fingerprint.
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
  name:
    description: Name of the secret.
    type: str
    required: true
  value:
    description: What the latest version has to hold, up to 64 KiB. Left out, the value stays as it is.
    type: str
  generate:
    description:
      - Whether a value is made where there is none. It is not changed afterwards.
      - While the latest version is disabled, nothing is made in its place.
    type: bool
    default: false
  length:
    description: Number of characters, letters and digits, of a value that is made.
    type: int
    default: 40
  prefix:
    description: What a value that is made begins with, such as V(prefect:) for an auth string.
    type: str
    default: ""
  keep_versions:
    description:
      - How many versions are kept. Older ones are destroyed, for good. Left out, all of them stay.
      - Where something is still to take up a version that is added, let that be done first, and destroy old ones by a task of their own without O(value).
    type: int
  replica_locations:
    description: Regions that the secret is kept in. Left out, Google chooses. Fixed once the secret exists.
    type: list
    elements: str
  labels:
    description: Labels. Others that the secret has stay.
    type: dict
  accessors:
    description:
      - Who may read the value, as IAM members, for example V(serviceAccount:prefect-proxy@my-project.iam.gserviceaccount.com).
      - They get C(roles/secretmanager.secretAccessor). Others who have it keep it.
    type: list
    elements: str
    default: []
  return_value:
    description: Whether to return RV(value). The task then needs C(no_log), as do those that use it.
    type: bool
    default: false
  state:
    description: V(absent) deletes the secret with all its versions, for good.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Have a password, made once
  selfhost.prefect.secret_manager_secret:
    project: my-project
    name: prefect-database-password
    generate: true
    accessors:
      - serviceAccount:prefect-server@my-project.iam.gserviceaccount.com
    return_value: true
  register: password
  no_log: true

- name: Keep nginx's configuration, and learn the version to mount
  selfhost.prefect.secret_manager_secret:
    project: my-project
    name: prefect-nginx
    value: "{{ lookup('ansible.builtin.template', 'prefect.conf.j2') }}"
    keep_versions: 5
  register: nginx
"""

RETURN = r"""
secret:
  description: The secret as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Its resource name.
      type: str
    replication:
      description: Where it is kept.
      type: dict
    labels:
      description: Labels.
      type: dict
  sample:
    name: projects/123456789012/secrets/prefect-database-password
    replication: {automatic: {}}
version:
  description: Number of the latest version; empty where there is none, and of one that check mode would add.
  returned: success
  type: str
  sample: "3"
value:
  description: The value. It is a secret.
  returned: when O(return_value) is true, and there is one that is kept
  type: str
"""

import base64
import re
import secrets
import string
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import (
    GcpClient,
    GcpError,
    Json,
    Resource,
    converge,
    converge_members,
    run_module,
)
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint

ACCESSOR = "roles/secretmanager.secretAccessor"
LARGEST = 64 * 1024
SHORTEST = 16
# Stands for a value that nobody has seen, in a diff.
MADE = "made at random"


class Secret(Resource):
    """A secret without its versions, which are objects of their own."""

    api = "secretmanager"
    unordered: t.ClassVar[dict[str, str]] = {"replicas": "location"}

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.collection = f"v1/projects/{client.project}/secrets"
        self.generate = params["generate"]
        wanted: Json = {}
        if params["replica_locations"]:
            wanted["replication"] = {"userManaged": {"replicas": [{"location": location} for location in params["replica_locations"]]}}
        if params["labels"] is not None:
            wanted["labels"] = {name: str(value) for name, value in params["labels"].items()}
        super().__init__(client, params["name"], f"{self.collection}/{params['name']}", wanted if params["state"] == "present" else None)

    def check(self) -> None:
        if self.current and "replication" in self.changes():
            raise GcpError(f"replica_locations: the secret {self.name!r} is kept elsewhere, which cannot be changed", "correct the task, or use another name")

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, {"replication": {"automatic": {}}, **self.wanted}, secretId=self.name)

    def update(self) -> None:
        labels = {**(self.current or {}).get("labels", {}), **self.wanted["labels"]}
        self.client.write(self.api, "PATCH", self.path, {"labels": labels}, updateMask="labels")

    def latest(self) -> tuple[str, str | None]:
        """Give the number and the value of the latest version; no value where there is none to be had."""
        try:
            version = self.client.get(self.api, f"{self.path}/versions/latest:access")
        except GcpError as exc:
            found = (self.client.get(self.api, f"{self.path}/versions/latest") if "FAILED_PRECONDITION" in exc.reasons else None) or {}
            if found.get("state") not in ("DISABLED", "DESTROYED"):
                raise
            # What is disabled may come back, and is in use until then: another value would lock out who has it.
            if found["state"] == "DISABLED" and self.generate:
                number = found["name"].rpartition("/")[2]
                problem = f"the latest version of the secret {self.name!r}, {number}, is disabled"
                raise GcpError(problem, "enable it again, or destroy it to have a new value made") from exc
            version = None
        if version is None:
            return "", None
        return version["name"].rpartition("/")[2], base64.b64decode(version["payload"].get("data", "")).decode(errors="replace")

    def add_version(self, value: str) -> str:
        data = base64.b64encode(value.encode()).decode()
        version = self.client.write(self.api, "POST", f"{self.path}:addVersion", {"payload": {"data": data}})
        return str(version["name"].rpartition("/")[2])

    def destroy_old_versions(self, keep: int) -> list[str]:
        """Destroy all versions but the newest; in check mode, tell which these would be."""
        versions = self.client.list(self.api, f"{self.path}/versions", "versions")
        numbers = sorted((int(item["name"].rpartition("/")[2]) for item in versions if item.get("state") != "DESTROYED"), reverse=True)
        old = numbers[keep:]
        for number in () if self.client.check_mode else old:
            self.client.write(self.api, "POST", f"{self.path}/versions/{number}:destroy", {})
        return [str(number) for number in sorted(old)]


def check_params(params: Json) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", params["name"]):
        raise GcpError(f"name: {params['name']!r} is no name of a secret", "write letters, digits, hyphens and underscores")
    if len((params["value"] or "").encode()) > LARGEST:
        raise GcpError("value is larger than the 64 KiB that a secret holds", "shorten it")
    if params["value"] == "":
        raise GcpError("value is empty", "write a value, or leave it out")
    if params["length"] < SHORTEST:
        raise GcpError(f"length is {params['length']}, which is too short", f"write {SHORTEST} or more")
    if params["keep_versions"] is not None and params["keep_versions"] < 1:
        raise GcpError(f"keep_versions is {params['keep_versions']}", "write 1 or more")
    for member in params["accessors"]:
        if not re.match(r"(user|serviceAccount|group|domain|principal|principalSet):.", member):
            raise GcpError(f"accessors: {member!r} is no IAM member for a secret", "write such as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com")


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    check_params(params)
    secret = Secret(client, params)
    result = converge(secret)
    result["secret"] = result.pop("resource")
    if secret.absent:
        return {"version": "", **result}

    # A secret that has just been made has neither versions nor readers.
    number, before = secret.latest() if secret.current else ("", None)
    value, shown = params["value"] or before, fingerprint(params["value"] or before or "")
    if value is None and params["generate"]:
        value, shown = params["prefix"] + "".join(secrets.choice(string.ascii_letters + string.digits) for dummy in range(params["length"])), MADE
    if value:
        module.no_log_values.add(value)
    adding = value is not None and value != before
    if adding:
        number = "" if module.check_mode else secret.add_version(t.cast(str, value))
    result["changed"] |= adding
    result["diff"]["before"]["value"] = fingerprint(before or "")
    result["diff"]["after"]["value"] = shown

    if params["keep_versions"]:
        # One that check mode does not add counts, too.
        old = secret.destroy_old_versions(params["keep_versions"] - int(adding and module.check_mode))
        result["changed"] |= bool(old)
        result["diff"]["before"]["versions_to_destroy"] = old
        result["diff"]["after"]["versions_to_destroy"] = []
    if params["accessors"]:
        members = converge_members(client, secret.api, secret.path, [ACCESSOR], members=params["accessors"], state="present")
        result["changed"] |= members["changed"]
        for side in ("before", "after"):
            result["diff"][side].update(members["diff"][side])

    result["version"] = number
    # One that a dry run has made is kept nowhere.
    if value and params["return_value"] and not (module.check_mode and shown == MADE):
        # It was asked for; it would come back as asterisks.
        module.no_log_values.discard(value)
        result["value"] = value
    return result


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "value": {"type": "str", "no_log": True},
        "generate": {"type": "bool", "default": False},
        "length": {"type": "int", "default": 40},
        "prefix": {"type": "str", "default": ""},
        "keep_versions": {"type": "int"},
        "replica_locations": {"type": "list", "elements": "str"},
        "labels": {"type": "dict"},
        "accessors": {"type": "list", "elements": "str", "default": []},
        "return_value": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec, mutually_exclusive=[("value", "generate")])


if __name__ == "__main__":
    main()
