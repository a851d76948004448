#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: project_permissions_info
short_description: Tell which permissions are missing in a Google Cloud project
description:
  - Asks which of the named permissions the credentials in use have on the project, so that a play can refuse before it changes anything.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes.info
options:
  permissions:
    description: The permissions, such as V(cloudsql.instances.create), up to 100.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Ask whether instances can be created
  selfhost.prefect.project_permissions_info:
    project: my-project
    permissions: [cloudsql.instances.create]
  register: permissions

- name: Refuse to go on without
  ansible.builtin.assert:
    that: permissions.missing | length == 0
"""

RETURN = r"""
missing:
  description: Those that the credentials do not have. Empty, with a warning, while the Cloud Resource Manager API is not enabled.
  returned: success
  type: list
  elements: str
  sample: [cloudsql.instances.create]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import API_DISABLED, GcpClient, GcpError, Json, run_module


def run(module: AnsibleModule, client: GcpClient) -> Json:
    wanted = module.params["permissions"]
    try:
        answer = client.request("cloudresourcemanager", "POST", f"v3/projects/{client.project}:testIamPermissions", body={"permissions": wanted})
    except GcpError as exc:
        if not exc.reasons & API_DISABLED:
            raise
        client.tell(f"{exc} Until then, nobody can tell which permissions are missing.")
        answer = {"permissions": wanted}
    return {"changed": False, "missing": sorted(set(wanted) - set(answer.get("permissions", ())))}


def main() -> None:
    argument_spec: dict[str, t.Any] = {"permissions": {"type": "list", "elements": "str", "required": True}}
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
