#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_load_balancer
short_description: Manage a load balancer in front of a Cloud Run service
description:
  - Puts a global external application load balancer in front of a service of Cloud Run, for a domain of one's own with a certificate that Google
    gets and renews. That is a reserved address, a serverless network endpoint group, a backend service, a URL map, a managed certificate, an
    HTTPS proxy and a forwarding rule, which all have one name.
  - The certificate is issued once DNS leads the domain to RV(address), which takes up to an hour.
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
    description: Name of all the parts. The certificate has a fingerprint of the domain after it.
    type: str
    required: true
  region:
    description: Region of the service.
    type: str
    required: true
  service:
    description: Name of the service. Needed unless O(state=absent).
    type: str
  domain:
    description: The domain, such as V(prefect.example.com).
    type: str
    required: true
  state:
    description: V(absent) deletes all the parts, and with them the address.
    type: str
    choices: [present, absent]
    default: present
notes:
  - In the project, it takes C(roles/compute.loadBalancerAdmin).
  - There is nothing at port 80.
"""

EXAMPLES = r"""
- name: Serve Prefect at a domain
  selfhost.prefect.cloud_run_load_balancer:
    project: my-project
    region: europe-west1
    name: prefect-proxy
    service: prefect-proxy
    domain: prefect.example.com
  register: balancer

- name: Say what DNS has to answer
  ansible.builtin.debug:
    msg: prefect.example.com needs an A record with {{ balancer.address }}
"""

RETURN = r"""
address:
  description: The address that DNS has to lead the domain to; empty where there is none yet or any more.
  returned: success
  type: str
  sample: 198.51.100.7
certificate_status:
  description: What has become of the certificate, V(ACTIVE) when it is served; empty where there is none.
  returned: success
  type: str
  sample: PROVISIONING
"""

import hashlib
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, run_module

# The other parts are fixed once they exist.
CHANGEABLE = ("backendServices", "urlMaps", "targetHttpsProxies")


class Part(Resource):
    """One of the parts of a load balancer."""

    api = "compute"

    def __init__(self, client: GcpClient, collection: str, name: str, wanted: Json | None) -> None:
        self.collection = f"projects/{client.project}/{collection}"
        super().__init__(client, name, f"{self.collection}/{name}", wanted)

    def check(self) -> None:
        kind = self.collection.rpartition("/")[2]
        if self.current and not self.absent and kind not in CHANGEABLE:
            fields = ", ".join(self.changes())
            raise GcpError(f"{kind}: {self.name!r} exists with other {fields}, which cannot be changed", "use another name, or delete it first")

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, {"name": self.name, **self.wanted})

    def update(self) -> None:
        # Compute Engine patches these only for those who know what is there.
        fingerprint = (self.current or {}).get("fingerprint")
        self.client.write(self.api, "PATCH", self.path, {**self.changes(), **({"fingerprint": fingerprint} if fingerprint else {})})


def parts_of(params: Json, project: str) -> list[tuple[str, str, Json]]:
    """Give each part's collection, name and content, in the order in which they need each other."""
    name, place = params["name"], f"projects/{project}"
    endpoints = f"regions/{params['region']}/networkEndpointGroups"
    certificate = f"{name}-{hashlib.sha256(params['domain'].encode()).hexdigest()[:8]}"
    return [
        ("global/addresses", name, {"addressType": "EXTERNAL"}),
        (endpoints, name, {"networkEndpointType": "SERVERLESS", "cloudRun": {"service": params["service"]}}),
        ("global/backendServices", name, {"loadBalancingScheme": "EXTERNAL_MANAGED", "backends": [{"group": f"{place}/{endpoints}/{name}"}]}),
        ("global/urlMaps", name, {"defaultService": f"{place}/global/backendServices/{name}"}),
        ("global/sslCertificates", certificate, {"type": "MANAGED", "managed": {"domains": [params["domain"]]}}),
        (
            "global/targetHttpsProxies",
            name,
            {"urlMap": f"{place}/global/urlMaps/{name}", "sslCertificates": [f"{place}/global/sslCertificates/{certificate}"]},
        ),
        (
            "global/forwardingRules",
            name,
            {"loadBalancingScheme": "EXTERNAL_MANAGED", "portRange": "443-443", "target": f"{place}/global/targetHttpsProxies/{name}"},
        ),
    ]


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,52}[a-z0-9])?", params["name"]):
        raise GcpError(f"name: {params['name']!r} cannot be one", "write up to 54 lower-case letters, digits and hyphens, with a letter first")
    if not re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", params["domain"]):
        raise GcpError(f"domain: {params['domain']!r} is no domain", "write it in lower case, without https://")
    absent = params["state"] == "absent"
    found: dict[str, Json] = {}
    result: Json = {"changed": False, "diff": {"before": {}, "after": {}}}
    parts = parts_of(params, client.project)
    for collection, name, wanted in reversed(parts) if absent else parts:
        kind = collection.rpartition("/")[2]
        if kind == "forwardingRules" and "address" in found.get("addresses", {}):
            # Known by now, unless this is a dry run.
            wanted["IPAddress"] = found["addresses"]["address"]
        done = converge(Part(client, collection, name, None if absent else wanted))
        found[kind] = done["resource"]
        result["changed"] |= done["changed"]
        for side in ("before", "after"):
            result["diff"][side][kind] = done["diff"][side]
    return {
        "address": found["addresses"].get("address", ""),
        "certificate_status": found["sslCertificates"].get("managed", {}).get("status", ""),
        **result,
    }


def main() -> None:
    name = {"type": "str", "required": True}
    argument_spec: dict[str, t.Any] = {
        "name": name,
        "region": name,
        "service": {"type": "str"},
        "domain": name,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec, required_if=[("state", "present", ["service"])])


if __name__ == "__main__":
    main()
