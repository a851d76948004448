# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service Networking: private services access, the peering between a network and Google's services."""

from __future__ import annotations

import re
import typing as t

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json
from ._common import begin_lro

TYPE = "google.cloud.servicenetworking.v1.Connection"
PEERING = "servicenetworking-googleapis-com"
SERVICE = "services/servicenetworking.googleapis.com"


def network_of(cloud: LocalCloud, reference: str) -> str:
    """The network's short name. Cloud SQL, "Configure private services access": it is named by the project's number."""
    found = re.fullmatch(r"projects/([^/]+)/global/networks/([^/]+)", reference)
    if not found or not found[1].isdigit():
        text = f"Invalid network {reference}: it has to be projects/{{project number}}/global/networks/{{network}}, with the project's number."
        raise GoogleError(400, text)
    cloud.project_id(found[1])
    if f"compute/projects/{cloud.project}/global/networks/{found[2]}" not in cloud.state.resources:
        raise GoogleError(404, f"Network {reference} not found.")
    return found[2]


def check_ranges(cloud: LocalCloud, network: str, ranges: t.Sequence[str]) -> None:
    # "Configure private services access": allocated ranges of this network, internal, for peering.
    if not ranges:
        raise GoogleError(400, "reserved_peering_ranges must have at least one range.")
    for name in ranges:
        block = cloud.state.resources.get(f"compute/projects/{cloud.project}/global/addresses/{name}")
        if not block or block.get("purpose") != "VPC_PEERING" or not block.get("network", "").endswith(f"/networks/{network}"):
            text = f"Allocated range {name} was not found in network {network}: it has to be a global internal address with purpose VPC_PEERING."
            raise GoogleError(400, text, status="FAILED_PRECONDITION")


def connection_name(network: str) -> str:
    return f"servicenetworking/{network}/connections/{PEERING}"


def begin(cloud: LocalCloud, call: Call, network: str, changes: list[tuple[str, Json]], response: dict[str, Json]) -> dict[str, Json]:
    public_name = f"operations/pssn.p24-{cloud.project_number}-{cloud.state.uid()}"
    return begin_lro(cloud, call, connection_name(network), TYPE, response, changes=changes, public_name=public_name)


def fail(cloud: LocalCloud, call: Call, network: str, text: str) -> dict[str, Json]:
    """What the producer finds out late is the end of an operation: with FAILED_PRECONDITION, which is number 9."""
    public_name = f"operations/pssn.p24-{cloud.project_number}-{cloud.state.uid()}"
    return begin_lro(cloud, call, connection_name(network), TYPE, {}, error={"code": 9, "message": text}, public_name=public_name)


@handles("servicenetworking.services.connections.list")
def list_connections(cloud: LocalCloud, call: Call) -> Json:
    network = network_of(cloud, call.get("network"))
    cloud.look(connection_name(network))
    found = cloud.state.read(connection_name(network))
    return {"connections": [found]} if found else {}


@handles("servicenetworking.services.connections.create")
def create_connection(cloud: LocalCloud, call: Call) -> Json:
    network, ranges = network_of(cloud, call.body.get("network", "")), call.body.get("reservedPeeringRanges", [])
    check_ranges(cloud, network, ranges)
    check_idle(cloud, network)
    existing = cloud.state.resources.get(connection_name(network))
    # "Modify allocated ranges": an existing connection is changed by patch, with force.
    if existing and set(existing["reservedPeeringRanges"]) - set(ranges):
        return fail(cloud, call, network, "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection.")
    connection = connect(cloud, network, ranges)
    return begin(cloud, call, network, [(connection_name(network), connection)], connection)


def connect(cloud: LocalCloud, network: str, ranges: t.Sequence[str]) -> dict[str, Json]:
    return {
        "network": f"projects/{cloud.project_number}/global/networks/{network}",
        "peering": PEERING,
        "reservedPeeringRanges": list(ranges),
        "service": SERVICE,
    }


def check_idle(cloud: LocalCloud, network: str) -> None:
    if cloud.busy(connection_name(network)):
        raise GoogleError(409, "There is another operation in progress on the connection. Try again later.", status="ABORTED")


@handles("servicenetworking.services.connections.patch")
def patch_connection(cloud: LocalCloud, call: Call) -> Json:
    network, ranges = network_of(cloud, call.body.get("network", "")), call.body.get("reservedPeeringRanges", [])
    existing = cloud.state.resources.get(connection_name(network))
    if not existing:
        raise GoogleError(400, f"There is no peering ({PEERING}) for the network.", status="FAILED_PRECONDITION")
    check_ranges(cloud, network, ranges)
    check_idle(cloud, network)
    if set(existing["reservedPeeringRanges"]) - set(ranges) and not call.flag("force"):
        raise GoogleError(400, "Removing allocated ranges needs force.", status="FAILED_PRECONDITION")
    connection = connect(cloud, network, ranges)
    return begin(cloud, call, network, [(connection_name(network), connection)], connection)


@handles("servicenetworking.services.connections.deleteConnection")
def delete_connection(cloud: LocalCloud, call: Call) -> Json:
    network = network_of(cloud, call.body.get("consumerNetwork", ""))
    if connection_name(network) not in cloud.state.resources:
        raise GoogleError(404, f"Connection {PEERING} of the network {network} not found.")
    check_idle(cloud, network)
    # "Delete a private connection": while a service has something in it the producer holds it.
    used = f"projects/{cloud.project}/global/networks/{network}"
    instances = cloud.state.below(f"sql/projects/{cloud.project}/instances/").values()
    if any(instance["settings"]["ipConfiguration"].get("privateNetwork") == used for instance in instances):
        text = "Failed to delete connection; Producer services (e.g. CloudSQL, Cloud Memstore, etc.) are still using this connection."
        return fail(cloud, call, network, text)
    return begin(cloud, call, network, [(connection_name(network), None)], {})
