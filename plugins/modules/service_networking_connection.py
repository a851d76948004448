#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_networking_connection
short_description: Manage private services access of a network
description:
  - Reserves address ranges in a VPC network and connects it with Google's services, so that an instance of Cloud SQL can have a private address there.
  - Ranges that others have given to the connection stay.
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
  network:
    description: Name of the network, or C(projects/PROJECT/global/networks/NAME) where it is another project's (Shared VPC).
    type: str
    required: true
  service:
    description: The service to connect with.
    type: str
    default: servicenetworking.googleapis.com
  ranges:
    description: Ranges for the service. Those that do not exist are reserved.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the range.
        type: str
        required: true
      address:
        description: Its first address. Left out, Google finds a free range.
        type: str
      prefix_length:
        description: Its size, from V(8) to V(24). Cloud SQL takes a V(24) for each region.
        type: int
        default: 20
  state:
    description: V(absent) ends the connection and gives back O(ranges). Google refuses while a service uses it, and for some time after.
    type: str
    choices: [present, absent]
    default: present
notes:
  - In the project of the network, it takes C(roles/compute.networkAdmin), and C(resourcemanager.projects.get) such as C(roles/browser) holds.
"""

EXAMPLES = r"""
- name: Let Cloud SQL into the network
  selfhost.prefect.service_networking_connection:
    project: my-project
    network: default
    ranges:
      - name: prefect-services
        address: 10.20.0.0
        prefix_length: 20
"""

RETURN = r"""
connection:
  description: The connection as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    network:
      description: The network, with the number of its project.
      type: str
    service:
      description: The service.
      type: str
    peering:
      description: Name of the VPC peering behind it.
      type: str
    reservedPeeringRanges:
      description: Names of its ranges.
      type: list
      elements: str
  sample:
    network: projects/123456789012/global/networks/default
    service: services/servicenetworking.googleapis.com
    peering: servicenetworking-googleapis-com
    reservedPeeringRanges: [prefect-services]
ranges:
  description: The ranges in CIDR notation, by their names. One that check mode would have Google choose is missing.
  returned: success
  type: dict
  sample:
    prefect-services: 10.20.0.0/20
"""

import ipaddress
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, Resource, converge, given, run_module


class Network(t.NamedTuple):
    """A VPC network, whichever way it was written."""

    project: str
    name: str

    @property
    def link(self) -> str:
        """Name it as Compute Engine does."""
        return f"projects/{self.project}/global/networks/{self.name}"


def parse_network(text: str, project: str) -> Network:
    match = re.search(r"projects/([^/]+)/global/networks/([^/]+)$", text)
    if not match and not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", text):
        raise GcpError(f"network is {text!r}, which names no network", "write its name, or projects/PROJECT/global/networks/NAME")
    return Network(match[1], match[2]) if match else Network(project, text)


class Range(Resource):
    """Addresses that Google's services may use."""

    api = "compute"

    def __init__(self, client: GcpClient, network: Network, params: Json, absent: bool) -> None:
        self.network = network
        self.collection = f"projects/{network.project}/global/addresses"
        wanted = {
            **given({"address": params["address"]}),
            "prefixLength": params["prefix_length"],
            "purpose": "VPC_PEERING",
            "addressType": "INTERNAL",
            "network": network.link,
        }
        super().__init__(client, params["name"], f"{self.collection}/{client.quote(params['name'])}", None if absent else wanted)

    def check(self) -> None:
        if self.absent:
            return
        if self.current is not None:
            differences = ", ".join(f"{name} {self.before.get(name)}, not {value}" for name, value in self.changes().items())
            raise GcpError(f"the range {self.name!r} exists with {differences}, and cannot be changed", "correct the task, or use another name")
        if "address" in self.wanted:
            self.check_overlap()

    def check_overlap(self) -> None:
        text = f"{self.wanted['address']}/{self.wanted['prefixLength']}"
        wanted = ipaddress.ip_network(text)
        path = f"projects/{self.network.project}/aggregated/subnetworks"
        regions = (self.client.get(self.api, path) or {}).get("items", {})
        for subnet in (subnet for region in regions.values() for subnet in region.get("subnetworks", ())):
            ranges = [subnet.get("ipCidrRange"), *(part.get("ipCidrRange") for part in subnet.get("secondaryIpRanges", ()))]
            taken = [item for item in filter(None, ranges) if ipaddress.ip_network(item).overlaps(wanted)]
            if taken and subnet["network"].endswith(self.network.link):
                raise GcpError(f"the range {self.name!r}, {text}, overlaps the subnetwork {subnet['name']} ({taken[0]})", "choose other addresses")

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, {"name": self.name, **self.wanted})


class Connection(Resource):
    """A network's connection with one service; there is one at most."""

    api = "servicenetworking"
    unordered: t.ClassVar[dict[str, str]] = {"reservedPeeringRanges": ""}

    def __init__(self, client: GcpClient, network: Network, ranges: list[Range], params: Json) -> None:
        project = client.get("cloudresourcemanager", f"v3/projects/{network.project}")
        if project is None and not client.check_mode:
            raise GcpError(f"the project {network.project!r} does not exist, or the credentials have no right to see it", "correct project or network")
        self.link = network.link
        self.ranges = ranges
        # This API wants the project's number, which a dry run cannot learn before the first one.
        self.has_number = project is not None
        self.network = f"{project['name']}/global/networks/{network.name}" if project else network.link
        self.service = f"services/{params['service']}"
        self.collection = f"v1/{self.service}/connections"
        # Named after its service, with hyphens.
        peering = params["service"].replace(".", "-")
        wanted = {"reservedPeeringRanges": [item["name"] for item in params["ranges"]]}
        super().__init__(client, peering, f"{self.collection}/{peering}", wanted if params["state"] == "present" else None)

    def read(self) -> Json | None:
        # Of a network that is not there yet, Google lists nothing but an error. One that has a range is there.
        if not self.has_number or (not any(item.current for item in self.ranges) and self.client.get("compute", self.link) is None):
            return None
        connections = self.client.list(self.api, self.collection, "connections", network=self.network)
        return next((item for item in connections if item.get("service", self.service) == self.service), None)

    def compare(self, current: Json) -> Json:
        """Others' ranges are none of this task's business."""
        there = current.get("reservedPeeringRanges", [])
        return {name: [item for item in value if item in there] for name, value in self.wanted.items()}

    def create(self) -> None:
        def attempt() -> Json:
            return self.client.write(self.api, "POST", self.collection, {"network": self.network, **self.wanted})

        # The operation fails, and not the request, while Google's own account has not got its role yet.
        self.client.insist(attempt, lambda exc: exc.status is None and "PERMISSION_DENIED" in exc.reasons)

    def update(self) -> None:
        ranges = [*(self.current or {}).get("reservedPeeringRanges", ()), *self.wanted["reservedPeeringRanges"]]
        body = {"network": self.network, "reservedPeeringRanges": list(dict.fromkeys(ranges))}
        self.client.write(self.api, "PATCH", self.path, body, updateMask="reservedPeeringRanges", force="true")

    def delete(self) -> None:
        self.client.write(self.api, "POST", self.path, {"consumerNetwork": self.network})


def check_ranges(ranges: list[Json]) -> None:
    """Refuse what is no range."""
    if not ranges:
        raise GcpError("ranges is empty", "name at least one range")
    for item in ranges:
        if not 8 <= item["prefix_length"] <= 24:
            raise GcpError(f"ranges: the prefix_length of {item['name']!r} is {item['prefix_length']}", "write 8 to 24; 24 is enough for one region")
        if item["address"]:
            text = f"{item['address']}/{item['prefix_length']}"
            try:
                ipaddress.IPv4Network(text)
            except ValueError:
                raise GcpError(f"ranges: {text} is no network", "write the first address of one, such as 10.20.0.0 with a prefix_length of 20") from None


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    check_ranges(params["ranges"])
    network = parse_network(params["network"], client.project)
    ranges = [Range(client, network, item, params["state"] == "absent") for item in params["ranges"]]
    connection = Connection(client, network, ranges, params)
    # A connection needs its ranges, so they come first and go last.
    order: list[Resource] = [*ranges, connection] if params["state"] == "present" else [connection, *ranges]
    results = {resource.name: converge(resource) for resource in order}
    addresses = {item.name: results[item.name]["resource"] for item in ranges}
    return {
        "changed": any(result["changed"] for result in results.values()),
        "connection": results[connection.name]["resource"],
        "ranges": {name: f"{item['address']}/{item['prefixLength']}" for name, item in addresses.items() if "address" in item},
        "diff": {side: {name: result["diff"][side] for name, result in results.items()} for side in ("before", "after")},
    }


def main() -> None:
    argument_spec: dict[str, t.Any] = {
        "network": {"type": "str", "required": True},
        "service": {"type": "str", "default": "servicenetworking.googleapis.com"},
        "ranges": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str"},
                "prefix_length": {"type": "int", "default": 20},
            },
        },
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
