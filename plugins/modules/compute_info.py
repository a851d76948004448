#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: compute_info
short_description: See what there is of a network and its VMs
description:
  - Reads a network, its subnetworks in a region, VMs and service accounts, all by their names, and judges whether the subnetworks can be as wanted.
  - It writes nothing. What does not exist is left out of what it returns.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
options:
  network:
    description: Name of the network.
    type: str
    required: true
  region:
    description: Region of the subnetworks.
    type: str
    required: true
  zone:
    description: Zone of the VMs, in the region.
    type: str
    required: true
  subnetworks:
    description: The subnetworks of the network that are there, or are to be made.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      ip_cidr_range:
        description: Range in CIDR notation. Left out or empty, the subnetwork has to exist.
        type: str
        default: ""
  reserved_ranges:
    description: Ranges in CIDR notation that are kept for something else in the network, by what they are called in RV(faults). No new subnetwork may
      overlap them.
    type: dict
    default: {}
  instances:
    description: Names of VMs.
    type: list
    elements: str
    default: []
  service_accounts:
    description: E-mail addresses of service accounts.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See what is there
  selfhost.prefect.compute_info:
    project: my-project
    network: prefect
    region: europe-west1
    zone: europe-west1-b
    subnetworks:
      - {name: prefect, ip_cidr_range: 10.10.0.0/24}
    instances: [prefect-server]
  register: there
"""

RETURN = r"""
network:
  description: The network as the API gives it; empty where there is none.
  returned: success
  type: dict
  sample: {name: prefect, autoCreateSubnetworks: false}
subnetworks:
  description: Those that exist, by their names.
  returned: success
  type: dict
  sample: {prefect: {name: prefect, ipCidrRange: 10.10.0.0/24}}
instances:
  description: Those that exist, by their names.
  returned: success
  type: dict
  sample: {prefect-server: {name: prefect-server, status: RUNNING}}
addresses:
  description: The internal addresses of these VMs, by their names. One that is still being provisioned may have none yet.
  returned: success
  type: dict
  sample: {prefect-server: 10.10.0.2}
service_accounts:
  description: E-mail addresses of those that exist.
  returned: success
  type: list
  elements: str
  sample: [prefect-server@my-project.iam.gserviceaccount.com]
faults:
  description: What is wrong with the subnetworks as they are wanted, in sentences.
  returned: success
  type: list
  elements: str
  sample: []
"""

import ipaddress
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import GcpClient, GcpError, Json, run_module

Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def subnetwork_faults(wanted: list[Json], network: str, there: list[Json], reserved: dict[str, str]) -> list[str]:
    """Say, in sentences, why the wanted subnetworks of a network cannot be: there are all that the region has."""
    neighbours = {item["name"]: item for item in there if item["network"].endswith(f"/networks/{network}")}
    strangers = {item["name"]: item for item in there if item["name"] not in neighbours}
    taken = {name: ipaddress.ip_network(item["ipCidrRange"]) for name, item in neighbours.items()}
    taken.update({name: reserved_range(name, text) for name, text in reserved.items()})
    faults = []
    for item in wanted:
        name, text = item["name"], item["ip_cidr_range"]
        if name in strangers:
            faults.append(f"the subnetwork {name} is in another network ({strangers[name]['network'].rpartition('/')[2]}): use another name.")
        elif not text:
            if name not in taken:
                faults.append(f"there is no subnetwork {name} in the network {network} and this region: create it, give its range, or correct the region.")
        else:
            fault = range_fault(name, text, taken)
            faults += [fault] if fault else []
    return faults


def reserved_range(name: str, text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise GcpError(f"reserved_ranges: {name}: {text!r} is no range", "write it in CIDR notation, such as 10.20.0.0/20") from None


def range_fault(name: str, text: str, taken: dict[str, Network]) -> str:
    """Say why a subnetwork cannot have this range, and take the range if it can."""
    try:
        block = ipaddress.ip_network(text)
    except ValueError as exc:
        return f"the range {text} of the subnetwork {name} is none ({exc}): write it in CIDR notation, such as 10.10.0.0/24."
    if name in taken:
        if taken[name] != block:
            return f"the subnetwork {name} exists with the range {taken[name]}, not {block}: write that range, or use another name."
        return ""
    other = next((other for other, used in taken.items() if used.version == block.version and used.overlaps(block)), None)
    if other:
        return f"the range {block} of the subnetwork {name} overlaps {taken[other]} of {other}: choose a free one."
    taken[name] = block
    return ""


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    region, zone = params["region"], params["zone"]
    if zone.rpartition("-")[0] != region:
        raise GcpError(f"zone: {zone!r} is not in the region {region}", f"write such as {region}-b, or correct the region")
    network = client.get("compute", f"projects/{client.project}/global/networks/{params['network']}") or {}
    there = client.list("compute", f"projects/{client.project}/regions/{region}/subnetworks", "items")
    names = [item["name"] for item in params["subnetworks"]]
    found = {name: client.get("compute", f"projects/{client.project}/zones/{zone}/instances/{name}") for name in params["instances"]}
    instances = {name: instance for name, instance in found.items() if instance}
    # One that is still being provisioned has none.
    addresses = {name: instance["networkInterfaces"][0].get("networkIP") for name, instance in instances.items()}
    accounts = params["service_accounts"]
    return {
        "changed": False,
        "network": network,
        "subnetworks": {item["name"]: item for item in there if item["name"] in names},
        "instances": instances,
        "addresses": {name: address for name, address in addresses.items() if address},
        "service_accounts": [email for email in accounts if client.get("iam", f"v1/projects/{client.project}/serviceAccounts/{email}")],
        "faults": subnetwork_faults(params["subnetworks"], params["network"], there, params["reserved_ranges"]),
    }


def main() -> None:
    name = {"type": "str", "required": True}
    texts = {"type": "list", "elements": "str", "default": []}
    argument_spec: dict[str, t.Any] = {
        "network": name,
        "region": name,
        "zone": name,
        "subnetworks": {"type": "list", "elements": "dict", "default": [], "options": {"name": name, "ip_cidr_range": {"type": "str", "default": ""}}},
        "reserved_ranges": {"type": "dict", "default": {}},
        "instances": texts,
        "service_accounts": texts,
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
