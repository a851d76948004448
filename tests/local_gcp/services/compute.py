# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compute Engine: networks, addresses, firewalls, routers, machines, and what a load balancer is made of.

One handler for each verb serves all the kinds of resources; a kind's own rules are in KINDS.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ..cloud import HANDLERS, Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, etag, merged, now
from ._common import check_if_match, check_quota, page, public
from .iam import check_exists

BASE = "https://www.googleapis.com/compute/v1/"
# Compute Engine, "Naming resources".
NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
# "Regions and zones".
REGION = re.compile(r"(africa|asia|australia|europe|me|northamerica|southamerica|us)-[a-z]+\d{1,2}")
ZONE = re.compile(REGION.pattern + r"-[a-f]")
# "Machine families resource and comparison guide", as far as anybody would take one for this.
MACHINE_TYPE = re.compile(
    r"e2-(micro|small|medium|(standard|highmem|highcpu)-\d+|custom(-\w+)*-\d+-\d+)|[a-z]\d[a-z]?-(standard|highmem|highcpu)-\d+|f1-micro|g1-small"
)
IMAGE_FAMILIES = {"debian-cloud": {"debian-12": 10, "debian-13": 10}, "ubuntu-os-cloud": {"ubuntu-2204-lts": 10, "ubuntu-2404-lts-amd64": 10}}

Rules = t.Callable[[LocalCloud, Call, dict[str, Json]], None]


@dataclasses.dataclass
class Kind:
    """One kind of resource: its `kind`, and what is checked and added when one is made or changed."""

    name: str
    rules: Rules = lambda _cloud, _call, _resource: None
    immutable: tuple[str, ...] = ()
    work: str = ""


# Names


def resource_name(cloud: LocalCloud, path: str) -> str:
    """compute/projects/P/... of a path or a link."""
    found = re.search(r"projects/([^/]+)/(.+)", path)
    if not found:
        raise invalid(f"Invalid value: '{path}'. The URL is malformed.")
    return f"compute/projects/{cloud.project_id(found[1])}/{found[2]}"


def link(name: str) -> str:
    return BASE + name.removeprefix("compute/")


def not_found(name: str) -> GoogleError:
    return GoogleError(404, f"The resource '{name.removeprefix('compute/')}' was not found", reason="notFound")


def invalid(text: str, reason: str = "invalid") -> GoogleError:
    return GoogleError(400, text, reason=reason)


def referred(cloud: LocalCloud, field: str, reference: str) -> str:
    """The name of a resource that another one names, which has to be there."""
    name = resource_name(cloud, reference)
    if name not in cloud.state.resources:
        raise invalid(f"Invalid value for field 'resource.{field}': '{reference}'. The referenced {field} resource cannot be found.")
    return name


def scope(cloud: LocalCloud, call: Call) -> dict[str, str]:
    """The link to the zone or the region, which has to be one."""
    found: dict[str, str] = {}
    for field, pattern in (("zone", ZONE), ("region", REGION)):
        if field in call.params:
            if not pattern.fullmatch(call.params[field]):
                raise GoogleError(400, f"Invalid value for field '{field}': '{call.params[field]}'. Unknown {field}.", reason="invalid")
            found[field] = f"{BASE}projects/{cloud.project}/{field}s/{call.params[field]}"
    return found


# Operations


def operation_json(cloud: LocalCloud, operation: dict[str, Json]) -> dict[str, Json]:
    where = operation["where"] or {}
    place = next((value.split("/projects/")[1].split("/", 1)[1] for value in where.values()), "global")
    answer = {
        "kind": "compute#operation",
        "id": operation["id"],
        "name": operation["public_name"],
        "operationType": operation["kind"],
        "targetLink": link(operation["target"]),
        "targetId": operation["target_id"],
        "status": "DONE" if operation["done"] else "RUNNING",
        "progress": 100 if operation["done"] else 0,
        "user": operation["user"],
        "insertTime": operation["started"],
        "startTime": operation["started"],
        "selfLink": f"{BASE}projects/{cloud.project}/{place}/operations/{operation['public_name']}",
        **where,
    }
    if operation["done"]:
        answer["endTime"] = operation["ended"]
    if operation["error"]:
        answer["error"] = {"errors": [{"code": "INTERNAL_ERROR", "message": operation["error"]["message"]}]}
        answer.update(httpErrorStatusCode=500, httpErrorMessage="INTERNAL SERVER ERROR")
    return answer


def begin(cloud: LocalCloud, call: Call, kind: str, target: str, resource: dict[str, Json], **options: t.Any) -> dict[str, Json]:
    if cloud.running(target) and cloud.busy(target):
        raise invalid(f"The resource '{target.removeprefix('compute/')}' is not ready", "resourceNotReady")
    operation = cloud.start(kind, target, service="compute", user=call.caller, where=scope(cloud, call), target_id=resource["id"], **options)
    operation.update(id=cloud.state.number(), public_name=f"operation-{operation['name']}")
    return operation_json(cloud, operation)


@handles(*(f"compute.{scope}Operations.{verb}" for scope in ("global", "region", "zone") for verb in ("get", "wait")))
def get_operation(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("project"))
    for operation in cloud.state.operations.values():
        if operation.get("service") == "compute" and call.get("operation") in (operation["public_name"], operation["id"]):
            cloud.poll(operation)
            return operation_json(cloud, operation)
    raise not_found(resource_name(cloud, call.path))


# Any kind of resource


def kind_of(call: Call) -> Kind:
    return KINDS[call.method.id.split(".")[1]]


def existing(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    name = resource_name(cloud, "/".join(call.path.split("/")[: path_length(call)]))
    scope(cloud, call)
    cloud.look(name)
    found = cloud.state.read(name)
    if not found:
        raise not_found(name)
    return name, found


def path_length(call: Call) -> int:
    """How much of the path names the resource: after it a verb may follow."""
    *_rest, last = [value for name, value in call.params.items() if name not in ("project", "zone", "region")]
    return call.path.split("/").index(last, 4) + 1


def get(cloud: LocalCloud, call: Call) -> Json:
    return public(existing(cloud, call)[1])


def listing(cloud: LocalCloud, call: Call) -> Json:
    prefix = resource_name(cloud, call.path)
    scope(cloud, call)
    kind, base = kind_of(call), prefix.removeprefix("compute/")
    found = filtered(call.get("filter"), map(public, cloud.state.below(f"{prefix}/").values()))
    return page(call, found, "items", kind=f"compute#{kind.name}List", id=base, selfLink=BASE + base)


def aggregated(cloud: LocalCloud, call: Call) -> Json:
    """Of all zones and regions; those without one say so by a warning, of which one stands for all."""
    kind, collection = kind_of(call), call.path.rpartition("/")[2]
    project = cloud.project_id(call.get("project"))
    items: dict[str, Json] = {}
    for name in sorted(cloud.state.resources):
        found = re.fullmatch(rf"compute/projects/{project}/(global|(?:zones|regions)/[^/]+)/{collection}/[^/]+", name)
        resource = cloud.state.read(name) if found else None
        if found and resource and filtered(call.get("filter"), [resource]):
            items.setdefault(found[1], {collection: []})[collection].append(public(resource))
    if not items:
        text = "There are no results for scope 'zones/us-central1-a' on this page."
        items["zones/us-central1-a"] = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": text, "data": [{"key": "scope", "value": "zones/us-central1-a"}]}}
    base = f"projects/{project}/aggregated/{collection}"
    return {"kind": f"compute#{kind.name}AggregatedList", "id": base, "items": items, "selfLink": BASE + base}


def filtered(expression: str, resources: t.Iterable[dict[str, Json]]) -> list[dict[str, Json]]:
    """API reference, `filter`: field = value, !=, eq, ne with a regular expression, AND between them, in parentheses or not."""
    terms = [term for term in re.split(r"\)\s*(?:AND\s*)?\(|\s+AND\s+", expression.strip().removeprefix("(").removesuffix(")")) if term.strip()]
    return [resource for resource in resources if all(term_holds(term, resource) for term in terms)]


def term_holds(term: str, resource: dict[str, Json]) -> bool:
    found = re.fullmatch(r"\s*([\w.-]+)\s*(!=|=|:|\beq\b|\bne\b)\s*\"?(.*?)\"?\s*", term)
    if not found:
        raise invalid(f"Invalid value for field 'filter': '{term}'. Invalid list filter expression.")
    value: Json = resource
    for part in found[1].split("."):
        value = value.get(part) if isinstance(value, dict) else None
    text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
    if found[2] == ":":
        return value is not None and (found[3] == "*" or found[3] in text)
    equal = bool(re.fullmatch(found[3], text)) if found[2] in ("eq", "ne") else text == found[3]
    return equal != (found[2] in ("!=", "ne"))


def insert(cloud: LocalCloud, call: Call) -> Json:
    kind, body = kind_of(call), call.body
    where = scope(cloud, call)
    collection = resource_name(cloud, call.path)
    name = body.get("name", "")
    if not NAME.fullmatch(name):
        pattern = "'(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)'"
        raise invalid(f"Invalid value for field 'resource.name': '{name}'. Must be a match of regex {pattern}")
    target = f"{collection}/{name}"
    if target in cloud.state.resources or cloud.running(target):
        raise GoogleError(409, f"The resource '{target.removeprefix('compute/')}' already exists", reason="alreadyExists")
    check_quota(cloud, f"compute.{call.method.id.split('.')[1]}", len(cloud.state.below(f"{collection}/")))
    resource = {**body, "kind": f"compute#{kind.name}", "id": cloud.state.number(), "creationTimestamp": now(), "selfLink": link(target), **where}
    kind.rules(cloud, call, resource)
    stamp(call, resource)
    return begin(cloud, call, "insert", target, resource, changes=[(target, resource)], work=(kind.work, target) if kind.work else ())


def stamp(call: Call, resource: dict[str, Json]) -> None:
    """Fingerprints, where the kind has them."""
    shape = call.method.api.shapes[call.method.request or ""]
    if "fingerprint" in shape.properties:
        resource["fingerprint"] = etag({**resource, "fingerprint": ""})[:11] + "="
    if "labelFingerprint" in shape.properties:
        resource["labelFingerprint"] = fingerprint(resource.get("labels"))


def fingerprint(content: Json) -> str:
    return etag(content or {})[:11] + "="


def patch(cloud: LocalCloud, call: Call) -> Json:
    target, resource = existing(cloud, call)
    kind = kind_of(call)
    check_if_match(call, {"etag": resource.get("fingerprint")})
    check_fingerprint(resource.get("fingerprint"), call.body.get("fingerprint"))
    output_only = ("kind", "id", "creationTimestamp", "selfLink", "zone", "region")
    if call.method.id.endswith("patch"):
        changed = merged(resource, call.body)
    else:
        # PUT replaces: what it leaves out is gone.
        changed = {**call.body, **{name: resource[name] for name in (*output_only, *kind.immutable) if name in resource}}
    for field in ("name", *kind.immutable):
        if field in call.body and tail(call.body[field]) != tail(resource.get(field)):
            raise invalid(f"Invalid value for field 'resource.{field}': '{call.body[field]}'. It cannot be changed.")
        changed[field] = resource.get(field, changed.get(field))
    changed = {name: value for name, value in changed.items() if value is not None}
    kind.rules(cloud, call, changed)
    stamp(call, changed)
    return begin(cloud, call, call.method.id.rpartition(".")[2], target, resource, changes=[(target, changed)], work=(kind.work, target) if kind.work else ())


def tail(value: Json) -> Json:
    return value.rpartition("/")[2] if isinstance(value, str) else value


def check_fingerprint(current: str | None, given: str | None) -> None:
    # Compute Engine, "Updating resources", optimistic locking.
    if given is not None and current is not None and given != current:
        raise GoogleError(412, "Invalid fingerprint: the resource has changed since it was read.", reason="conditionNotMet")


def delete(cloud: LocalCloud, call: Call) -> Json:
    target, resource = existing(cloud, call)
    if resource.get("deletionProtection"):
        # "Prevent accidental VM deletion".
        text = f"Invalid resource usage: 'Resource cannot be deleted if it's protected against deletion: {target.removeprefix('compute/')}'."
        raise invalid(text, "resourceInUseByAnotherResource")
    for user in users_of(cloud, target):
        text = f"The {kind_of(call).name} resource '{target.removeprefix('compute/')}' is already being used by '{user}'"
        raise invalid(text, "resourceInUseByAnotherResource")
    work = {"apply_firewall": "apply_firewall", "apply_network": "apply_network"}.get(kind_of(call).work, "")
    return begin(cloud, call, "delete", target, resource, changes=[(target, None)], work=(work, target) if work else ())


def users_of(cloud: LocalCloud, target: str) -> t.Iterator[str]:
    """Who names this resource, wherever in it: in Compute, by a peering, from Cloud Run."""
    wanted = target.removeprefix("compute/")
    for name, resource in cloud.state.resources.items():
        if name != target and name.startswith("compute/") and mentions(resource, wanted):
            yield name.removeprefix("compute/")
        if name.startswith("run/") and mentions(resource.get("template", {}), wanted):
            yield name.removeprefix("run/")
        if name.startswith("servicenetworking/") and "/networks/" in wanted and tail(resource["network"]) == tail(wanted):
            yield name.removeprefix("servicenetworking/")


def mentions(value: Json, wanted: str) -> bool:
    if isinstance(value, dict):
        return any(mentions(one, wanted) for name, one in value.items() if name != "selfLink")
    if isinstance(value, list):
        return any(mentions(one, wanted) for one in value)
    return isinstance(value, str) and value.endswith(wanted)


# The rules of each kind


def network_rules(_cloud: LocalCloud, _call: Call, network: dict[str, Json]) -> None:
    # "VPC networks", subnet creation mode.
    network.setdefault("autoCreateSubnetworks", True)
    network.setdefault("routingConfig", {}).setdefault("routingMode", "REGIONAL")
    network.setdefault("networkFirewallPolicyEnforcementOrder", "AFTER_CLASSIC_FIREWALL")


def block_of(field: str, text: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(text)
    except ValueError as error:
        raise invalid(f"Invalid value for field 'resource.{field}': '{text}'. Must be a valid IPv4 address range: {error}") from error


def taken_blocks(cloud: LocalCloud, network: str, but: str) -> t.Iterator[tuple[str, ipaddress.IPv4Network]]:
    """The subnets of a network and the ranges reserved in it."""
    for name, resource in cloud.state.planned():
        if name.startswith("compute/") and name != but and tail(resource.get("network")) == tail(network):
            if "/subnetworks/" in name:
                yield f"subnetwork '{resource['name']}'", ipaddress.IPv4Network(resource["ipCidrRange"])
            elif "/global/addresses/" in name and resource.get("purpose") == "VPC_PEERING":
                yield f"reserved range '{resource['name']}'", ipaddress.IPv4Network(f"{resource['address']}/{resource['prefixLength']}")


def subnetwork_rules(cloud: LocalCloud, _call: Call, subnet: dict[str, Json]) -> None:
    name = referred(cloud, "network", subnet.get("network", ""))
    # "Subnets", IPv4 subnet ranges: /29 is the smallest, and none overlaps another or a reserved range.
    block = block_of("ipCidrRange", subnet.get("ipCidrRange", ""))
    if not 4 <= block.prefixlen <= 29:
        raise invalid(f"Invalid value for field 'resource.ipCidrRange': '{block}'. The prefix length must be from 4 to 29.")
    for what, other in taken_blocks(cloud, name, resource_name(cloud, subnet["selfLink"])):
        if block.overlaps(other):
            raise invalid(f"Invalid IPCidrRange: {block} conflicts with existing {what} ({other}).")
    subnet.update(network=link(name), gatewayAddress=str(block[1]))
    for field, value in (
        ("purpose", "PRIVATE"),
        ("stackType", "IPV4_ONLY"),
        ("privateIpGoogleAccess", False),
        ("privateIpv6GoogleAccess", "DISABLE_GOOGLE_ACCESS"),
    ):
        subnet.setdefault(field, value)


def address_rules(cloud: LocalCloud, call: Call, address: dict[str, Json]) -> None:
    address.setdefault("addressType", "EXTERNAL")
    address["status"] = "RESERVED"
    if address["addressType"] == "EXTERNAL":
        address.setdefault("networkTier", "PREMIUM")
        address.setdefault("address", f"198.51.100.{2 + cloud.state.serial % 250}")  # RFC 5737
    elif address.get("purpose") == "VPC_PEERING":
        peering_range_rules(cloud, call, address)
    else:
        address.setdefault("purpose", "GCE_ENDPOINT")
        subnet = referred(cloud, "subnetwork", address.get("subnetwork", ""))
        address.update(subnetwork=link(subnet), address=free_address(cloud, subnet, address.get("address")))


def peering_range_rules(cloud: LocalCloud, _call: Call, address: dict[str, Json]) -> None:
    network = referred(cloud, "network", address.get("network", ""))
    # "Configure private services access": a range of the network, with a length; /24 is the smallest that the services take.
    length = address.get("prefixLength")
    if length is None or not 8 <= int(length) <= 29:
        raise invalid(f"Invalid value for field 'resource.prefixLength': '{length or 0}'. It must be from 8 to 29 for the purpose VPC_PEERING.")
    taken = [other for _what, other in taken_blocks(cloud, network, "")]
    if address.get("address"):
        block = block_of("address", f"{address['address']}/{length}")
        if any(block.overlaps(other) for other in taken):
            raise invalid(f"Invalid value for field 'resource.address': '{address['address']}'. The range {block} overlaps a subnet or another reserved range.")
    else:
        blocks = ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=int(length))
        block = next(block for block in blocks if block.network_address.packed[1] >= 64 and not any(block.overlaps(other) for other in taken))
    address.update(network=link(network), address=str(block.network_address), prefixLength=int(length))


def free_address(cloud: LocalCloud, subnet: str, wanted: str | None = None) -> str:
    """ "Subnets", unusable addresses: the first two and the last two of a range are Google's."""
    block = ipaddress.IPv4Network(cloud.state.resources[subnet]["ipCidrRange"])
    used = set()
    for name, resource in cloud.state.planned():
        if name.startswith("compute/"):
            used.add(resource.get("address"))
            used |= {interface.get("networkIP") for interface in resource.get("networkInterfaces", []) if isinstance(interface, dict)}
    usable = [str(block[number]) for number in range(2, min(block.num_addresses - 2, 4096))]
    if wanted and wanted not in usable:
        raise invalid(f"Invalid value for field 'networkIP': '{wanted}'. It is not a usable address of the range {block}.")
    if wanted and wanted in used:
        raise GoogleError(400, f"IP '{wanted}' is already being used by another resource.", reason="ipInUseByAnotherResource")
    free = [wanted] if wanted else [address for address in usable if address not in used]
    if not free:
        raise GoogleError(403, f"IP space of '{subnet.removeprefix('compute/')}' is exhausted.", reason="ipSpaceExhausted")
    return str(free[0])


def firewall_rules(cloud: LocalCloud, _call: Call, rule: dict[str, Json]) -> None:
    network = referred(cloud, "network", rule.get("network") or f"projects/{cloud.project}/global/networks/default")
    # "VPC firewall rules".
    rule.setdefault("direction", "INGRESS")
    rule.setdefault("priority", 1000)
    rule.setdefault("disabled", False)
    rule.setdefault("logConfig", {"enable": False})
    if bool(rule.get("allowed")) == bool(rule.get("denied")):
        raise invalid("Invalid value for field 'resource': exactly one of allowed and denied must be there.")
    if not 0 <= rule["priority"] <= 65535:
        raise invalid(f"Invalid value for field 'resource.priority': '{rule['priority']}'. It must be from 0 to 65535.")
    ingress = rule["direction"] == "INGRESS"
    for field in ("destinationRanges",) if ingress else ("sourceTags", "sourceServiceAccounts"):
        if rule.get(field) and not ingress:
            raise invalid(f"Invalid value for field 'resource.{field}': it is only for the direction INGRESS.")
    if ingress and not (rule.get("sourceRanges") or rule.get("sourceTags") or rule.get("sourceServiceAccounts")):
        rule["sourceRanges"] = ["0.0.0.0/0"]
    if not ingress:
        rule.setdefault("destinationRanges", ["0.0.0.0/0"])
    for field in ("sourceRanges", "destinationRanges"):
        for text in rule.get(field, []):
            block_of(field, text)
    for entry in rule.get("allowed") or rule.get("denied") or []:
        check_ports(entry)
    rule["network"] = link(network)


def check_ports(entry: dict[str, Json]) -> None:
    protocol = entry.get("IPProtocol", "")
    if protocol not in ("tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip", "all") and not protocol.isdigit():
        raise invalid(f"Invalid value for field 'resource.allowed[0].IPProtocol': '{protocol}'.")
    if entry.get("ports") and protocol not in ("tcp", "udp", "sctp"):
        raise invalid(f"Invalid value for field 'resource.allowed[0].ports': the protocol {protocol} has no ports.")
    for port in entry.get("ports", []):
        first, _dash, last = port.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and 0 <= int(first) <= int(last or first) <= 65535):
            raise invalid(f"Invalid value for field 'resource.allowed[0].ports[0]': '{port}'. A port or a range of ports.")


def router_rules(cloud: LocalCloud, _call: Call, router: dict[str, Json]) -> None:
    router["network"] = link(referred(cloud, "network", router.get("network", "")))
    names = [nat.get("name", "") for nat in router.get("nats", [])]
    for nat in router.get("nats", []):
        # "Cloud NAT", "Set up and manage network address translation".
        if not NAME.fullmatch(nat.get("name", "")) or names.count(nat["name"]) > 1:
            raise invalid(f"Invalid value for field 'resource.nats[0].name': '{nat.get('name', '')}'. It must be a name, each once.")
        if nat.get("sourceSubnetworkIpRangesToNat") not in ("ALL_SUBNETWORKS_ALL_IP_RANGES", "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES", "LIST_OF_SUBNETWORKS"):
            raise invalid("Invalid value for field 'resource.nats[0].sourceSubnetworkIpRangesToNat': it must be there.")
        manual = nat.get("natIpAllocateOption") == "MANUAL_ONLY"
        if manual != bool(nat.get("natIps")):
            raise invalid("Invalid value for field 'resource.nats[0].natIps': MANUAL_ONLY takes addresses, AUTO_ONLY none.")
        nat.setdefault("type", "PUBLIC")
        nat.setdefault("enableEndpointIndependentMapping", False)
        nat.setdefault("endpointTypes", ["ENDPOINT_TYPE_VM"])


def instance_rules(cloud: LocalCloud, call: Call, instance: dict[str, Json]) -> None:
    zone = call.get("zone")
    machine = tail(instance.get("machineType", ""))
    if not MACHINE_TYPE.fullmatch(machine):
        raise invalid(f"Invalid value for field 'resource.machineType': '{instance.get('machineType', '')}'. The referenced machineType cannot be found.")
    if f"/{zone}/" not in f"/{instance['machineType']}":
        raise invalid(
            f"Invalid value for field 'resource.machineType': '{instance['machineType']}'. It must be of the form zones/{zone}/machineTypes/{machine}."
        )
    instance["machineType"] = f"{BASE}projects/{cloud.project}/zones/{zone}/machineTypes/{machine}"
    instance_disks(cloud, instance, zone)
    if not instance.get("networkInterfaces"):
        raise invalid("Invalid value for field 'resource.networkInterfaces': ''. At least one network interface is required.")
    for number, interface in enumerate(instance["networkInterfaces"]):
        interface_rules(cloud, interface, number, zone.rpartition("-")[0])
    for account in instance.get("serviceAccounts", []):
        check_exists(cloud, account.get("email", ""))
    metadata = instance.setdefault("metadata", {})
    metadata.update(kind="compute#metadata", fingerprint=fingerprint(metadata.get("items")))
    tags = instance.setdefault("tags", {})
    tags["fingerprint"] = fingerprint(tags.get("items"))
    instance.setdefault("deletionProtection", False)
    instance.setdefault("canIpForward", False)
    instance.setdefault("scheduling", {"onHostMaintenance": "MIGRATE", "automaticRestart": True, "preemptible": False, "provisioningModel": "STANDARD"})
    instance.setdefault("shieldedInstanceConfig", {"enableSecureBoot": False, "enableVtpm": True, "enableIntegrityMonitoring": True})
    instance.update(status="RUNNING", cpuPlatform="Intel Broadwell", startRestricted=False, lastStartTimestamp=now())


def instance_disks(cloud: LocalCloud, instance: dict[str, Json], zone: str) -> None:
    disks = instance.get("disks", [])
    if [disk.get("boot", False) for disk in disks].count(True) != 1:
        raise invalid("Invalid value for field 'resource.disks': exactly one disk must be the boot disk.")
    for number, disk in enumerate(disks):
        made = disk.pop("initializeParams", {})
        name = made.get("diskName") or (instance["name"] if disk.get("boot") else f"{instance['name']}-{number}")
        size = int(made.get("diskSizeGb") or disk.get("diskSizeGb") or 10)
        smallest = image_size(made["sourceImage"]) if made.get("sourceImage") else 1
        # "Create a VM": a boot disk holds its image.
        if size < smallest:
            raise invalid(f"Requested disk size cannot be smaller than the image size ({smallest} GB)")
        disk.setdefault("source", f"{BASE}projects/{cloud.project}/zones/{zone}/disks/{name}")
        disk.update(kind="compute#attachedDisk", index=number, deviceName=disk.get("deviceName", f"persistent-disk-{number}"), diskSizeGb=str(size))
        for field, value in (("type", "PERSISTENT"), ("mode", "READ_WRITE"), ("interface", "SCSI"), ("autoDelete", False), ("boot", False)):
            disk.setdefault(field, value)
        if made.get("sourceImage"):
            instance["_image"] = made["sourceImage"]


def image_size(source: str) -> int:
    found = re.search(r"projects/([^/]+)/global/images/(?:family/)?([\w-]+)$", source)
    for family, size in IMAGE_FAMILIES.get(found[1] if found else "", {}).items():
        if found and found[2].startswith(family):
            return size
    raise invalid(f"Invalid value for field 'resource.disks[0].initializeParams.sourceImage': '{source}'. The referenced image resource cannot be found.")


def interface_rules(cloud: LocalCloud, interface: dict[str, Json], number: int, region: str) -> None:
    if not interface.get("subnetwork"):
        network = referred(cloud, "network", interface.get("network") or f"projects/{cloud.project}/global/networks/default")
        subnets = cloud.state.below(f"compute/projects/{cloud.project}/regions/{region}/subnetworks/")
        found = [name for name, subnet in subnets.items() if tail(subnet["network"]) == tail(network)]
        if len(found) != 1:
            raise invalid("Invalid value for field 'resource.networkInterfaces[0]': Subnetwork should be specified for custom subnetmode network")
        interface["subnetwork"] = link(found[0])
    subnet = referred(cloud, "subnetwork", interface["subnetwork"])
    if f"/regions/{region}/" not in subnet:
        raise invalid(
            f"Invalid value for field 'resource.networkInterfaces[0].subnetwork': '{interface['subnetwork']}'. It is in another region than the instance."
        )
    address = free_address(cloud, subnet, interface.get("networkIP"))
    interface.update(kind="compute#networkInterface", name=f"nic{number}", network=cloud.state.resources[subnet]["network"], subnetwork=link(subnet))
    interface.update(networkIP=address, stackType=interface.get("stackType", "IPV4_ONLY"))
    for config in interface.get("accessConfigs", []):
        config.update(
            kind="compute#accessConfig", name=config.get("name", "External NAT"), type="ONE_TO_ONE_NAT", networkTier=config.get("networkTier", "PREMIUM")
        )
        config.setdefault("natIP", f"198.51.100.{2 + cloud.state.serial % 250}")
    interface["fingerprint"] = fingerprint(interface)


def reference_rules(**fields: str) -> Rules:
    """A kind that only names others, which have to be there."""

    def rules(cloud: LocalCloud, _call: Call, resource: dict[str, Json]) -> None:
        for field, kind in fields.items():
            if not resource.get(field):
                raise invalid(f"Invalid value for field 'resource.{field}': ''. A {kind} is required.")
            references = resource[field] if isinstance(resource[field], list) else [resource[field]]
            links = [link(referred(cloud, field, reference)) for reference in references]
            resource[field] = links if isinstance(resource[field], list) else links[0]

    return rules


def backend_service_rules(cloud: LocalCloud, _call: Call, service: dict[str, Json]) -> None:
    for backend in service.get("backends", []):
        referred(cloud, "backends[0].group", backend.get("group", ""))
    service.setdefault("loadBalancingScheme", "EXTERNAL")
    service.setdefault("protocol", "HTTP")
    # "Serverless network endpoint groups": a serverless back end has no time-out of its own.
    groups = [resource_name(cloud, backend["group"]) for backend in service.get("backends", [])]
    if any(cloud.state.resources[group].get("networkEndpointType") == "SERVERLESS" for group in groups) and "timeoutSec" in service:
        raise invalid("Invalid value for field 'resource.timeoutSec': it is not supported for serverless network endpoint groups.")


def endpoint_group_rules(_cloud: LocalCloud, _call: Call, group: dict[str, Json]) -> None:
    group.setdefault("networkEndpointType", "GCE_VM_IP_PORT")
    if group["networkEndpointType"] == "SERVERLESS" and len([1 for kind in ("cloudRun", "cloudFunction", "appEngine") if group.get(kind)]) != 1:
        raise invalid("Invalid value for field 'resource.networkEndpointType': a serverless group names one of cloudRun, appEngine, cloudFunction.")
    group["size"] = 0


def certificate_rules(_cloud: LocalCloud, _call: Call, certificate: dict[str, Json]) -> None:
    managed = certificate.get("managed", {})
    if certificate.get("type") == "MANAGED":
        if not managed.get("domains"):
            raise invalid("Invalid value for field 'resource.managed.domains': ''. A managed certificate names its domains.")
        certificate["managed"] = {**managed, "status": "PROVISIONING", "domainStatus": dict.fromkeys(managed["domains"], "PROVISIONING")}


def forwarding_rules(cloud: LocalCloud, call: Call, rule: dict[str, Json]) -> None:
    reference_rules(target="target")(cloud, call, rule)
    rule.setdefault("loadBalancingScheme", "EXTERNAL")
    rule.setdefault("IPProtocol", "TCP")
    if not rule.get("IPAddress"):
        rule["IPAddress"] = f"198.51.100.{2 + cloud.state.serial % 250}"
    elif "/" in rule["IPAddress"]:
        rule["IPAddress"] = cloud.state.resources[referred(cloud, "IPAddress", rule["IPAddress"])]["address"]


def disk_rules(cloud: LocalCloud, call: Call, disk: dict[str, Json]) -> None:
    size = image_size(disk["sourceImage"]) if disk.get("sourceImage") else 1
    disk.update(sizeGb=str(disk.get("sizeGb") or max(size, 10)), status="READY")
    disk.setdefault("type", f"{BASE}projects/{cloud.project}/zones/{call.get('zone')}/diskTypes/pd-standard")


KINDS = {
    "networks": Kind("network", network_rules, ("autoCreateSubnetworks",)),
    "subnetworks": Kind("subnetwork", subnetwork_rules, ("network", "ipCidrRange"), "apply_network"),
    "globalAddresses": Kind("address", address_rules, ("address", "network", "prefixLength")),
    "addresses": Kind("address", address_rules, ("address", "subnetwork")),
    "firewalls": Kind("firewall", firewall_rules, ("network", "direction"), "apply_firewall"),
    "routers": Kind("router", router_rules, ("network",), "apply_network"),
    "disks": Kind("disk", disk_rules),
    "instances": Kind("instance", instance_rules, ("machineType", "networkInterfaces", "disks"), "instance_up"),
    "regionNetworkEndpointGroups": Kind("networkEndpointGroup", endpoint_group_rules),
    "backendServices": Kind("backendService", backend_service_rules),
    "urlMaps": Kind("urlMap", reference_rules(defaultService="backend service")),
    "sslCertificates": Kind("sslCertificate", certificate_rules),
    "targetHttpsProxies": Kind("targetHttpsProxy", reference_rules(urlMap="URL map", sslCertificates="certificate")),
    "targetHttpProxies": Kind("targetHttpProxy", reference_rules(urlMap="URL map")),
    "globalForwardingRules": Kind("forwardingRule", forwarding_rules),
}
VERBS = {"get": get, "list": listing, "aggregatedList": aggregated, "insert": insert, "patch": patch, "update": patch, "delete": delete}
HANDLERS.update({f"compute.{kind}.{verb}": handler for kind in KINDS for verb, handler in VERBS.items()})
# A machine is changed by methods of its own, below.
del HANDLERS["compute.instances.update"], HANDLERS["compute.instances.patch"]


# Machines


@handles("compute.instances.insert")
def insert_instance(cloud: LocalCloud, call: Call) -> Json:
    answer = insert(cloud, call)
    target = resource_name(cloud, answer["targetLink"])
    operation = cloud.running(target)[-1]
    machine = dict(operation["changes"])[target]
    # "Compute Engine instance lifecycle": it is there before it runs, first without what it is to be given.
    interfaces = [{name: value for name, value in one.items() if name != "networkIP"} for one in machine["networkInterfaces"]]
    provisioning = {**machine, "status": "PROVISIONING", "networkInterfaces": interfaces}
    cloud.state.put(target, provisioning)
    # Whoever looks sees the one, and then the other.
    operation.update(stages=[[target, provisioning], [target, {**machine, "status": "STAGING"}]], changes_on_error=[[target, None]])
    return answer


@handles("compute.instances.delete")
def delete_instance(cloud: LocalCloud, call: Call) -> Json:
    target, instance = existing(cloud, call)
    answer = delete(cloud, call)
    operation = cloud.running(target)[-1]
    cloud.state.put(target, {**instance, "status": "STOPPING"})
    if cloud.machines:
        operation["work"] = ["instance_down", target]
        cloud.begin_work(operation)
    return answer


def change(cloud: LocalCloud, call: Call, make: t.Callable[[dict[str, Json]], dict[str, Json]], work: str = "") -> Json:
    target, instance = existing(cloud, call)
    changed = {**instance, **make(instance)}
    changed["fingerprint"] = fingerprint({**changed, "fingerprint": ""})
    kind = call.method.id.rpartition(".")[2]
    return begin(cloud, call, kind, target, instance, changes=[(target, changed)], work=(work, target) if work else ())


@handles("compute.instances.start")
def start(cloud: LocalCloud, call: Call) -> Json:
    return change(cloud, call, lambda _instance: {"status": "RUNNING", "lastStartTimestamp": now()}, "instance_up")


@handles("compute.instances.stop")
def stop(cloud: LocalCloud, call: Call) -> Json:
    return change(cloud, call, lambda _instance: {"status": "TERMINATED", "lastStopTimestamp": now()}, "instance_stop")


@handles("compute.instances.reset")
def reset(cloud: LocalCloud, call: Call) -> Json:
    return change(cloud, call, lambda _instance: {}, "instance_reset")


@handles("compute.instances.setLabels")
def set_instance_labels(cloud: LocalCloud, call: Call) -> Json:
    def make(instance: dict[str, Json]) -> dict[str, Json]:
        check_fingerprint(instance.get("labelFingerprint"), call.body.get("labelFingerprint", ""))
        labels = call.body.get("labels", {})
        return {"labels": labels, "labelFingerprint": fingerprint(labels)}

    return change(cloud, call, make)


@handles("compute.instances.setMetadata")
def set_instance_metadata(cloud: LocalCloud, call: Call) -> Json:
    def make(instance: dict[str, Json]) -> dict[str, Json]:
        check_fingerprint(instance["metadata"]["fingerprint"], call.body.get("fingerprint", ""))
        items = call.body.get("items", [])
        return {"metadata": {"kind": "compute#metadata", "items": items, "fingerprint": fingerprint(items)}}

    return change(cloud, call, make)


@handles("compute.instances.setTags")
def set_instance_tags(cloud: LocalCloud, call: Call) -> Json:
    def make(instance: dict[str, Json]) -> dict[str, Json]:
        check_fingerprint(instance["tags"]["fingerprint"], call.body.get("fingerprint", ""))
        items = call.body.get("items", [])
        return {"tags": {"items": items, "fingerprint": fingerprint(items)}}

    return change(cloud, call, make, "apply_firewall")


@handles("compute.instances.setDeletionProtection")
def set_deletion_protection(cloud: LocalCloud, call: Call) -> Json:
    return change(cloud, call, lambda _instance: {"deletionProtection": call.get("deletionProtection", "true").lower() == "true"})


@handles("compute.instances.setMachineType")
def set_machine_type(cloud: LocalCloud, call: Call) -> Json:
    def make(instance: dict[str, Json]) -> dict[str, Json]:
        # "Edit the machine type of a compute instance": while it is stopped.
        if instance["status"] != "TERMINATED":
            raise invalid(f"The resource '{instance['selfLink'].removeprefix(BASE)}' must be stopped to change its machine type.", "resourceNotReady")
        machine = tail(call.body.get("machineType", ""))
        if not MACHINE_TYPE.fullmatch(machine):
            raise invalid(f"Invalid value for field 'machineType': '{machine}'. The referenced machineType cannot be found.")
        return {"machineType": f"{instance['zone']}/machineTypes/{machine}"}

    return change(cloud, call, make)


@handles("compute.instances.setServiceAccount")
def set_service_account(cloud: LocalCloud, call: Call) -> Json:
    def make(instance: dict[str, Json]) -> dict[str, Json]:
        if instance["status"] != "TERMINATED":
            raise invalid("The instance must be stopped before the service account can be changed.", "resourceNotReady")
        check_exists(cloud, call.body.get("email", ""))
        return {"serviceAccounts": [call.body]}

    return change(cloud, call, make)


@handles("compute.subnetworks.expandIpCidrRange")
def expand_range(cloud: LocalCloud, call: Call) -> Json:
    target, subnet = existing(cloud, call)
    block = block_of("ipCidrRange", call.body.get("ipCidrRange", ""))
    old = ipaddress.IPv4Network(subnet["ipCidrRange"])
    # "Subnets", "Expand a primary IPv4 range": the new range contains the old one.
    if block == old or not old.subnet_of(block):
        raise invalid(f"Invalid value for field 'resource.ipCidrRange': '{block}'. It must contain the old range {old}.")
    changed = {**subnet, "ipCidrRange": str(block)}
    subnetwork_rules(cloud, call, changed)
    return begin(cloud, call, "expandIpCidrRange", target, subnet, changes=[(target, changed)], work=("apply_network", target))


@handles("compute.networks.updatePeering", "compute.networks.removePeering")
def change_peering(cloud: LocalCloud, call: Call) -> Json:
    target, network = existing(cloud, call)
    connection = f"servicenetworking/{network['name']}/connections/servicenetworking-googleapis-com"
    if connection not in cloud.state.resources:
        raise invalid(f"There is no peering {call.body.get('name')} on the network.")
    gone = [(connection, None)] if call.method.id.endswith("removePeering") else []
    return begin(cloud, call, "updatePeering", target, network, changes=gone)


# What is there from the start


@handles("compute.projects.get")
def get_project(cloud: LocalCloud, call: Call) -> Json:
    project = cloud.project_id(call.get("project"))
    return {
        "kind": "compute#project",
        "id": cloud.project_number,
        "name": project,
        "selfLink": f"{BASE}projects/{project}",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
    }


@handles("compute.regions.get", "compute.zones.get")
def get_place(cloud: LocalCloud, call: Call) -> Json:
    kind = call.method.id.split(".")[1].removesuffix("s")
    where = scope(cloud, call)
    place: dict[str, Json] = {"kind": f"compute#{kind}", "id": "1000", "name": call.params[kind], "status": "UP", "selfLink": where[kind]}
    if kind == "zone":
        place["region"] = f"{BASE}projects/{cloud.project}/regions/{call.params[kind].rpartition('-')[0]}"
    return place


@handles("compute.machineTypes.get")
def get_machine_type(cloud: LocalCloud, call: Call) -> Json:
    scope(cloud, call)
    name = call.get("machineType")
    if not MACHINE_TYPE.fullmatch(name):
        raise not_found(resource_name(cloud, call.path))
    return {"kind": "compute#machineType", "id": "1000", "name": name, "zone": call.get("zone"), "selfLink": link(resource_name(cloud, call.path))}


@handles("compute.images.getFromFamily", "compute.images.get")
def get_image(_cloud: LocalCloud, call: Call) -> Json:
    family = call.get("family") or call.get("image")
    size = IMAGE_FAMILIES.get(call.get("project"), {}).get(family)
    if size is None:
        raise GoogleError(404, f"The resource 'projects/{call.get('project')}/global/images/{family}' was not found", reason="notFound")
    name = f"{family}-v20260101"
    return {
        "kind": "compute#image", "id": "1000", "name": name, "family": family, "status": "READY", "diskSizeGb": str(size),
        "selfLink": f"{BASE}projects/{call.get('project')}/global/images/{name}",
    }  # fmt: skip
