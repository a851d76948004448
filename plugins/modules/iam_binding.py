#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iam_binding
short_description: Grant roles in Google Cloud
description:
  - Grants roles on a project, a service account, a secret or a Cloud Run service to members, or takes them from them.
  - Bindings with a condition stay as they are.
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
  resource:
    description:
      - What the roles are granted on, C(projects/PROJECT/serviceAccounts/EMAIL), C(projects/PROJECT/secrets/NAME) or
        C(projects/PROJECT/locations/REGION/services/NAME). Left out, the project.
    type: str
  roles:
    description: The roles, each C(roles/NAME), C(projects/PROJECT/roles/NAME) or C(organizations/NUMBER/roles/NAME).
    type: list
    elements: str
    required: true
  members:
    description: IAM members, such as V(serviceAccount:prefect-server@my-project.iam.gserviceaccount.com).
    type: list
    elements: str
    required: true
  state:
    description:
      - V(present) grants the roles to the members, V(absent) takes them from them. Others who have them keep them.
      - V(exclusive) leaves them to these members alone.
    type: str
    choices: [present, absent, exclusive]
    default: present
"""

EXAMPLES = r"""
- name: Let the VM write logs and metrics
  selfhost.prefect.iam_binding:
    project: my-project
    roles: [roles/logging.logWriter, roles/monitoring.metricWriter]
    members:
      - serviceAccount:prefect-server@my-project.iam.gserviceaccount.com
"""

RETURN = r"""
members:
  description: Who has each of the roles on the resource without a condition.
  returned: success
  type: dict
  sample: {"roles/logging.logWriter": ["serviceAccount:prefect-server@my-project.iam.gserviceaccount.com"]}
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, converge_members, run_module

# What a resource looks like, and the API and its version that keep its policy.
KINDS = {
    r"projects/[^/]+": ("cloudresourcemanager", "v3"),
    r"projects/[^/]+/serviceAccounts/[^/]+": ("iam", "v1"),
    r"projects/[^/]+/secrets/[^/]+": ("secretmanager", "v1"),
    r"projects/[^/]+/locations/[^/]+/services/[^/]+": ("run", "v2"),
}
MEMBER = r"allUsers|allAuthenticatedUsers|(user|serviceAccount|group|domain|principal|principalSet|projectOwner|projectEditor|projectViewer|deleted):.+"


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    resource = params["resource"] or f"projects/{client.project}"
    kind = next((value for pattern, value in KINDS.items() if re.fullmatch(pattern, resource)), None)
    if kind is None:
        raise GcpError(f"resource: {resource!r} is none that this module knows", "write such as projects/PROJECT/secrets/NAME")
    for role in params["roles"]:
        if not re.fullmatch(r"((projects|organizations)/[^/]+/)?roles/[\w.]+", role):
            raise GcpError(f"roles: {role!r} is no role", "write such as roles/logging.logWriter")
    for member in params["members"]:
        if not re.fullmatch(MEMBER, member):
            raise GcpError(f"members: {member!r} is no IAM member", "write such as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com")
    api, version = kind
    result = converge_members(client, api, f"{version}/{resource}", params["roles"], members=params["members"], state=params["state"])
    return {"members": result["diff"]["after"], **result}


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "resource": {"type": "str"},
        "roles": {"type": "list", "elements": "str", "required": True},
        "members": {"type": "list", "elements": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent", "exclusive"], "default": "present"},
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
