#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_nat
short_description: Manage Cloud NAT
description:
  - Gives VMs without an external address a way out, by a NAT on a Cloud Router. The router is created where it is missing.
  - Other NATs of the router stay.
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
    description: Name of the NAT.
    type: str
    required: true
  router:
    description: Name of the Cloud Router.
    type: str
    required: true
  region:
    description: Region.
    type: str
    required: true
  network:
    description: Name of the router's network, or C(projects/PROJECT/global/networks/NAME). Needed unless O(state=absent).
    type: str
  subnetworks:
    description: Names of the subnetworks to serve. Left out, all of the region.
    type: list
    elements: str
    default: []
  nat_ips:
    description: Names of reserved external addresses of the region to go out by. Left out, Google takes any.
    type: list
    elements: str
    default: []
  min_ports_per_vm:
    description: Connections to one destination that a VM can have at a time, at least.
    type: int
  log_filter:
    description: What is logged.
    type: str
    choices: [NONE, ALL, ERRORS_ONLY, TRANSLATIONS_ONLY]
    default: ERRORS_ONLY
  state:
    description: V(absent) deletes the NAT, and the router too if nothing else is on it.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Let the VMs download packages
  selfhost.prefect.cloud_nat:
    project: my-project
    region: europe-west1
    network: default
    router: prefect
    name: prefect
"""

RETURN = r"""
nat:
  description: The NAT as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
    natIpAllocateOption:
      description: V(AUTO_ONLY) or V(MANUAL_ONLY).
      type: str
    sourceSubnetworkIpRangesToNat:
      description: Which subnetworks are served.
      type: str
  sample:
    name: prefect
    natIpAllocateOption: AUTO_ONLY
    sourceSubnetworkIpRangesToNat: ALL_SUBNETWORKS_ALL_IP_RANGES
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, given, overlaid, run_module


def wanted_nat(params: Json, project: str) -> Json:
    """Give what the task asks for, in the API's words."""
    place = f"projects/{project}/regions/{params['region']}"
    log_filter = params["log_filter"]
    subnetworks = [{"name": f"{place}/subnetworks/{name}", "sourceIpRangesToNat": ["ALL_IP_RANGES"]} for name in params["subnetworks"]]
    return given(
        {
            "natIpAllocateOption": "MANUAL_ONLY" if params["nat_ips"] else "AUTO_ONLY",
            "natIps": [f"{place}/addresses/{name}" for name in params["nat_ips"]],
            "sourceSubnetworkIpRangesToNat": "LIST_OF_SUBNETWORKS" if subnetworks else "ALL_SUBNETWORKS_ALL_IP_RANGES",
            "subnetworks": subnetworks,
            "minPortsPerVm": params["min_ports_per_vm"],
            "logConfig": {"enable": False} if log_filter == "NONE" else {"enable": True, "filter": log_filter},
        }
    )


class Nat(Resource):
    """A NAT, which is an item of its router's list."""

    api = "compute"
    unordered: t.ClassVar[dict[str, str]] = {"natIps": "", "subnetworks": "name"}

    def __init__(self, client: GcpClient, params: Json) -> None:
        network = params["network"] or ""
        self.network = network if "/" in network else f"projects/{client.project}/global/networks/{network}"
        self.router_name = params["router"]
        self.collection = f"projects/{client.project}/regions/{params['region']}/routers"
        self.router: Json | None = None
        wanted = wanted_nat(params, client.project) if params["state"] == "present" else None
        super().__init__(client, params["name"], f"{self.collection}/{params['router']}", wanted)

    def read(self) -> Json | None:
        self.router = self.client.get(self.api, self.path)
        return next((nat for nat in (self.router or {}).get("nats", ()) if nat["name"] == self.name), None)

    def check(self) -> None:
        there = str((self.router or {}).get("network", self.network))
        if not self.absent and not there.endswith(self.network):
            raise GcpError(f"the router {self.router_name!r} is in another network, {there}", "name another router, or correct network")

    def others(self) -> list[Json]:
        return [nat for nat in (self.router or {}).get("nats", ()) if nat["name"] != self.name]

    def create(self) -> None:
        nats = [*self.others(), {"name": self.name, **self.wanted}]
        if self.router is None:
            self.client.write(self.api, "POST", self.collection, {"name": self.router_name, "network": self.network, "nats": nats})
        else:
            self.client.write(self.api, "PATCH", self.path, {"nats": nats})

    def update(self) -> None:
        self.client.write(self.api, "PATCH", self.path, {"nats": [*self.others(), overlaid(self.current, self.wanted)]})

    def delete(self) -> None:
        router = self.router or {}
        if self.others() or router.get("interfaces") or router.get("bgpPeers"):
            self.client.write(self.api, "PATCH", self.path, {"nats": self.others()})
        else:
            self.client.write(self.api, "DELETE", self.path)


def run(module: AnsibleModule, client: GcpClient) -> Json:
    result = converge(Nat(client, module.params))
    return {"nat": result.pop("resource"), **result}


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "router": {"type": "str", "required": True},
        "region": {"type": "str", "required": True},
        "network": {"type": "str"},
        "subnetworks": {"type": "list", "elements": "str", "default": []},
        "nat_ips": {"type": "list", "elements": "str", "default": []},
        "min_ports_per_vm": {"type": "int"},
        "log_filter": {"type": "str", "choices": ["NONE", "ALL", "ERRORS_ONLY", "TRANSLATIONS_ONLY"], "default": "ERRORS_ONLY"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec, required_if=[("state", "present", ["network"])])


if __name__ == "__main__":
    main()
