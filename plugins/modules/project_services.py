#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: project_services
short_description: Enable APIs of a Google Cloud project
description:
  - Enables those of the named APIs that are not, all in one request. None is ever disabled.
  - Then it waits for up to two minutes until those that the modules of this collection use answer, since Google does not know everywhere at once
    that an API is enabled.
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
  services:
    description: The APIs, such as V(sqladmin.googleapis.com), up to 20.
    type: list
    elements: str
    required: true
notes:
  - It takes C(roles/serviceusage.serviceUsageAdmin), and C(roles/serviceusage.serviceUsageViewer) where all are enabled.
"""

EXAMPLES = r"""
- name: Have the APIs that Cloud SQL needs
  selfhost.prefect.project_services:
    project: my-project
    services:
      - sqladmin.googleapis.com
      - servicenetworking.googleapis.com
"""

RETURN = r"""
enabled:
  description: The APIs that were enabled by this task; that would be, in check mode.
  returned: success
  type: list
  elements: str
  sample: [servicenetworking.googleapis.com]
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import API_DISABLED, GcpClient, GcpError, Json, run_module

# What one request may name.
MOST = 20
# A read of each API that the modules use. Whatever it answers, it knows by then that it is enabled.
READS = {
    "cloudresourcemanager.googleapis.com": ("cloudresourcemanager", "v3/projects/{project}"),
    "compute.googleapis.com": ("compute", "projects/{project}"),
    "iam.googleapis.com": ("iam", "v1/projects/{project}/serviceAccounts?pageSize=1"),
    "run.googleapis.com": ("run", "v2/projects/{project}/locations/us-central1/services?pageSize=1"),
    "secretmanager.googleapis.com": ("secretmanager", "v1/projects/{project}/secrets?pageSize=1"),
    "servicenetworking.googleapis.com": ("servicenetworking", "v1/services/servicenetworking.googleapis.com/connections"),
    "sqladmin.googleapis.com": ("sql", "v1/projects/{project}/instances?maxResults=1"),
}


def wait_until_known(client: GcpClient, service: str) -> None:
    """Go on once the API itself knows that it is enabled, also for modules that would not wait."""
    api, path = READS[service]
    try:
        client.insist(lambda: client.request(api, "GET", path.format(project=client.project)), lambda exc: bool(exc.reasons & API_DISABLED))
    except GcpError as exc:
        if exc.status is None or exc.reasons & API_DISABLED:
            raise


def run(module: AnsibleModule, client: GcpClient) -> Json:
    services = sorted(set(module.params["services"]))
    if not 1 <= len(services) <= MOST:
        raise GcpError(f"services has {len(services)} items", f"write 1 to {MOST}")
    for service in services:
        if not re.fullmatch(r"[a-z0-9-]+\.googleapis\.com", service):
            raise GcpError(f"services: {service!r} is no API", "write such as sqladmin.googleapis.com")
    parent = f"projects/{client.project}"
    found = client.request("serviceusage", "GET", f"v1/{parent}/services:batchGet", query={"names": [f"{parent}/services/{name}" for name in services]})
    states = {item["name"].rpartition("/")[2]: item.get("state", "DISABLED") for item in found.get("services", ())}
    missing = [name for name in services if states.get(name) != "ENABLED"]
    if missing and not module.check_mode:
        client.write("serviceusage", "POST", f"v1/{parent}/services:batchEnable", {"serviceIds": missing})
        for service in filter(READS.get, missing):
            wait_until_known(client, service)
    before = {name: states.get(name, "DISABLED") for name in services}
    return {"changed": bool(missing), "enabled": missing, "diff": {"before": before, "after": dict.fromkeys(services, "ENABLED")}}


def main() -> None:
    argument_spec: dict[str, t.Any] = {"services": {"type": "list", "elements": "str", "required": True}}
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
