# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Serverless VPC Access: connectors."""

from __future__ import annotations

import ipaddress
import re

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json
from ._common import begin_lro, location, page

CONNECTORS = "vpcaccess.projects.locations.connectors"
TYPE = "google.cloud.vpcaccess.v1.Connector"


def existing(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    name = f"{location(cloud, call)}/connectors/{call.get('connectorsId')}"
    cloud.look(f"vpcaccess/{name}")
    found = cloud.state.read(f"vpcaccess/{name}")
    if not found:
        raise GoogleError(404, f"Resource '{name}' was not found")
    return name, found


@handles(f"{CONNECTORS}.list")
def list_connectors(cloud: LocalCloud, call: Call) -> Json:
    return page(call, cloud.state.below(f"vpcaccess/{location(cloud, call)}/connectors/").values(), "connectors")


@handles(f"{CONNECTORS}.get")
def get_connector(cloud: LocalCloud, call: Call) -> Json:
    return existing(cloud, call)[1]


@handles(f"{CONNECTORS}.create")
def create_connector(cloud: LocalCloud, call: Call) -> Json:
    connector_id, body = call.get("connectorId"), call.body
    name = f"{location(cloud, call)}/connectors/{connector_id}"
    # "Configure Serverless VPC Access": the name has at most 25 characters, the range is a /28 of its own, there are 2 to 10 machines.
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,23}[a-z0-9])?", connector_id):
        raise GoogleError(400, f"Connector ID must follow the pattern ^[a-z][-a-z0-9]{{0,23}}[a-z0-9]$: {connector_id}.")
    if f"vpcaccess/{name}" in cloud.state.resources:
        raise GoogleError(409, f"Requested entity already exists: {name}.", status="ALREADY_EXISTS")
    check_place(cloud, call, body)
    lowest, highest = body.get("minInstances", 2), body.get("maxInstances", 10)
    if not 2 <= lowest < highest <= 10:
        raise GoogleError(400, f"The number of instances must be from 2 to 10, and the maximum above the minimum: {lowest}, {highest}.")
    connector = {"machineType": "e2-micro", **body, "name": name, "minInstances": lowest, "maxInstances": highest, "state": "CREATING"}
    cloud.state.put(f"vpcaccess/{name}", connector)
    ready = {**connector, "state": "READY"}
    return begin_lro(cloud, call, f"vpcaccess/{name}", TYPE, ready, changes=[(f"vpcaccess/{name}", ready)])


def check_place(cloud: LocalCloud, call: Call, body: dict[str, Json]) -> None:
    subnet = (body.get("subnet") or {}).get("name")
    if bool(subnet) == bool(body.get("ipCidrRange")):
        raise GoogleError(400, "Exactly one of a subnet, and a network with an IP range, must be there.")
    path = f"compute/projects/{cloud.project}"
    if subnet:
        found = cloud.state.resources.get(f"{path}/regions/{call.get('locationsId')}/subnetworks/{subnet}")
        block = found["ipCidrRange"] if found else ""
    else:
        found = cloud.state.resources.get(f"{path}/global/networks/{body.get('network', 'default')}")
        block = body["ipCidrRange"]
    if not found:
        raise GoogleError(400, f"The network or subnet of the connector does not exist: {subnet or body.get('network', 'default')}.")
    if ipaddress.ip_network(block).prefixlen != 28:
        raise GoogleError(400, f"The IP range of a connector must be a /28: {block}.")


@handles(f"{CONNECTORS}.delete")
def delete_connector(cloud: LocalCloud, call: Call) -> Json:
    name, _connector = existing(cloud, call)
    return begin_lro(cloud, call, f"vpcaccess/{name}", "google.protobuf.Empty", {}, changes=[(f"vpcaccess/{name}", None)])
