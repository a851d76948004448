#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_firewall_rule
short_description: Manage an ingress rule of a VPC network's firewall
description:
  - Lets connections of some addresses into some VMs of a network, and nobody else.
  - The rule is exactly as the task says. A source that somebody has added by hand is a difference, shown in check mode and taken out again.
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
    description: Name of the rule.
    type: str
    required: true
  network:
    description: Name of the network, or C(projects/PROJECT/global/networks/NAME). Needed unless O(state=absent), and fixed once the rule exists.
    type: str
  protocol:
    description: Protocol, such as V(tcp).
    type: str
    default: tcp
  ports:
    description: Ports, or ranges of them such as V(8000-8009). Left out, all.
    type: list
    elements: str
    default: []
  source_ranges:
    description: Networks in CIDR notation that are let in. Needed unless O(state=absent).
    type: list
    elements: str
    default: []
  target_service_accounts:
    description: E-mail addresses of the service accounts whose VMs are reached. Left out, all VMs of the network.
    type: list
    elements: str
    default: []
  priority:
    description: Rules with a lower number count first.
    type: int
    default: 1000
  description:
    description: What the rule is for.
    type: str
    default: ""
  state:
    description: V(absent) deletes the rule.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let IAP forward SSH
  selfhost.prefect.compute_firewall_rule:
    project: my-project
    name: prefect-ssh
    network: prefect
    ports: ["22"]
    source_ranges: [35.235.240.0/20]
    target_service_accounts: [prefect-server@my-project.iam.gserviceaccount.com]
"""

RETURN = r"""
rule:
  description: The rule as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
    network:
      description: The network.
      type: str
    allowed:
      description: Protocols and ports.
      type: list
      elements: dict
    sourceRanges:
      description: Who is let in.
      type: list
      elements: str
  sample:
    name: prefect-ssh
    network: https://www.googleapis.com/compute/v1/projects/my-project/global/networks/prefect
    allowed: [{IPProtocol: tcp, ports: ["22"]}]
    sourceRanges: [35.235.240.0/20]
"""

import ipaddress
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, given, run_module

NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


class FirewallRule(Resource):
    """A rule; a list that is written replaces the one there."""

    api = "compute"
    unordered: t.ClassVar[dict[str, str]] = {"ports": "", "sourceRanges": "", "targetServiceAccounts": ""}

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.collection = f"projects/{client.project}/global/firewalls"
        wanted = None
        if params["state"] == "present":
            network = params["network"]
            wanted = {
                "network": network if "/" in network else f"projects/{client.project}/global/networks/{network}",
                "direction": "INGRESS",
                "priority": params["priority"],
                "description": params["description"],
                "disabled": False,
                "allowed": [given({"IPProtocol": params["protocol"], "ports": params["ports"] or None})],
                "sourceRanges": params["source_ranges"],
                # What else could let somebody in, or keep the rule from somebody.
                "sourceTags": [],
                "sourceServiceAccounts": [],
                "targetTags": [],
                "targetServiceAccounts": params["target_service_accounts"],
            }
        super().__init__(client, params["name"], f"{self.collection}/{params['name']}", wanted)

    def check(self) -> None:
        current = self.current or {}
        for field in ("network", "direction"):
            if field in current and field in self.changes():
                raise GcpError(
                    f"{field}: the rule {self.name!r} exists with {current[field]}, which cannot be changed",
                    "use another name, or delete the rule first (state: absent)",
                )

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, {"name": self.name, **self.wanted})


def check_params(params: Json) -> None:
    if not NAME.fullmatch(params["name"]):
        raise GcpError(f"name: {params['name']!r} is no name of a rule", "write up to 63 lower-case letters, digits and hyphens, with a letter first")
    if params["state"] == "present" and not params["source_ranges"]:
        raise GcpError("source_ranges is empty, which Google takes for everybody", "write who is to be let in, such as 10.0.0.0/24")
    for text in params["source_ranges"]:
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            raise GcpError(f"source_ranges: {text!r} is no network ({exc})", "write it in CIDR notation, such as 10.0.0.0/24") from None
    for port in params["ports"]:
        if not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", port):
            raise GcpError(f"ports: {port!r} is no port", "write such as 4200, or 8000-8009")


def run(module: AnsibleModule, client: GcpClient) -> Json:
    check_params(module.params)
    result = converge(FirewallRule(client, module.params))
    return {"rule": result.pop("resource"), **result}


def main() -> None:
    texts = {"type": "list", "elements": "str", "default": []}
    argument_spec: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "network": {"type": "str"},
        "protocol": {"type": "str", "default": "tcp"},
        "ports": texts,
        "source_ranges": texts,
        "target_service_accounts": texts,
        "priority": {"type": "int", "default": 1000},
        "description": {"type": "str", "default": ""},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec, required_if=[("state", "present", ["network"])])


if __name__ == "__main__":
    main()
