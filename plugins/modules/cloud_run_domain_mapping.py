#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_domain_mapping
short_description: Manage a domain of a Cloud Run service
description:
  - Maps a domain to a service of Cloud Run, with a certificate that Google renews, and tells which DNS records that takes.
  - Google offers this in some regions only, as a preview, and recommends a load balancer for production.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: Google validates the request (C(dryRun)).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: The domain, such as V(prefect.example.com). It has to be verified as the account's at Google.
    type: str
    required: true
  region:
    description: Region of the service.
    type: str
    required: true
  service:
    description: Name of the service. Needed unless O(state=absent). It cannot be changed later.
    type: str
  certificate_mode:
    description: Whether Google gets a certificate.
    type: str
    choices: [AUTOMATIC, NONE]
    default: AUTOMATIC
  force_override:
    description: Whether to take the domain away from another mapping.
    type: bool
    default: false
  state:
    description: V(absent) deletes the mapping.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Map the domain
  selfhost.prefect.cloud_run_domain_mapping:
    project: my-project
    region: europe-west1
    name: prefect.example.com
    service: prefect-proxy
  register: mapping

- name: Say what DNS has to answer
  ansible.builtin.debug:
    var: mapping.resource_records
"""

RETURN = r"""
domain_mapping:
  description: The mapping as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    metadata:
      description: Its name among others.
      type: dict
    spec:
      description: What was asked for.
      type: dict
    status:
      description: Its conditions and DNS records.
      type: dict
  sample:
    metadata: {name: prefect.example.com}
    spec: {routeName: prefect-proxy, certificateMode: AUTOMATIC}
resource_records:
  description: DNS records that the domain needs. Empty as long as Google has not named them.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name below the registered domain; empty for that domain itself.
      type: str
    type:
      description: V(A), V(AAAA) or V(CNAME).
      type: str
    rrdata:
      description: Content.
      type: str
  sample: [{name: prefect, type: CNAME, rrdata: ghs.googlehosted.com.}]
ready:
  description: Whether the domain is served, with its certificate. That needs the DNS records, and takes up to a day.
  returned: success
  type: bool
  sample: false
message:
  description: What Google says about a mapping that is not ready.
  returned: success
  type: str
  sample: Waiting for certificate provisioning. You must configure your DNS records for certificate issuance to begin.
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, run_module


class DomainMapping(Resource):
    """A mapping; the API knows no change of one."""

    api = "run"

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.place = f"projects/{client.project}/locations/{params['region']}"
        self.collection = f"v1/{self.place}/domainmappings"
        self.force_override = params["force_override"]
        wanted = {"spec": {"routeName": params["service"], "certificateMode": params["certificate_mode"]}}
        super().__init__(client, params["name"], f"{self.collection}/{params['name']}", wanted if params["state"] == "present" else None)

    def check(self) -> None:
        if self.absent:
            return
        if self.current:
            there = ", ".join(f"{name} {self.before['spec'].get(name)}" for name in self.wanted["spec"])
            raise GcpError(f"the mapping of {self.name} exists with {there}, which cannot be changed", "correct the task, or delete it first (state: absent)")
        verified = [domain.get("id", "") for domain in self.client.list(self.api, f"v1/{self.place}/authorizeddomains", "domains")]
        if not any(f".{self.name}".endswith(f".{domain}") for domain in verified):
            raise GcpError(
                f"the domain {self.name} is not verified as this account's",
                f"run `gcloud domains verify {self.name}` as an owner of it, and add this account as an owner there",
            )

    def body(self) -> Json:
        return {
            "apiVersion": "domains.cloudrun.com/v1",
            "kind": "DomainMapping",
            "metadata": {"name": self.name, "namespace": self.client.project},
            "spec": {**self.wanted["spec"], "forceOverride": self.force_override},
        }

    def rehearse(self) -> None:
        if self.absent:
            return
        # Google looks at the service as well, which the same run may have yet to make.
        if self.client.get(self.api, f"v2/{self.place}/services/{self.wanted['spec']['routeName']}") is not None:
            self.post(dryRun="all")

    def create(self) -> None:
        self.post()

    def post(self, **query: str) -> None:
        self.client.request(self.api, "POST", self.collection, body=self.body(), query=query)


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", params["name"]):
        raise GcpError(f"name: {params['name']!r} is no domain", "write it in lower case, without https://")
    result = converge(DomainMapping(client, params))
    mapping = result.pop("resource")
    status = mapping.get("status", {})
    condition: Json = next((item for item in status.get("conditions", ()) if item.get("type") == "Ready"), {})
    return {
        "domain_mapping": mapping,
        "resource_records": [{"name": "", **record} for record in status.get("resourceRecords", ())],
        "ready": condition.get("status") == "True",
        "message": condition.get("message", ""),
        **result,
    }


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "region": {"type": "str", "required": True},
        "service": {"type": "str"},
        "certificate_mode": {"type": "str", "choices": ["AUTOMATIC", "NONE"], "default": "AUTOMATIC"},
        "force_override": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec, required_if=[("state", "present", ["service"])])


if __name__ == "__main__":
    main()
