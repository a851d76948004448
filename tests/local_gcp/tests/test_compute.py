# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compute Engine: networks, addresses, firewalls, routers, machines, and what a load balancer is made of."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

from .conftest import PROJECT, REGION, Google

ZONE = f"{REGION}-b"
NETWORK = f"projects/{PROJECT}/global/networks/default"
SUBNET = f"projects/{PROJECT}/regions/{REGION}/subnetworks/default"
IMAGE = "projects/debian-cloud/global/images/family/debian-12"
Json = dict[str, t.Any]


@pytest.fixture
def compute(cloud: LocalCloud, google: Google) -> t.Any:
    cloud.make_network(region=REGION, block="10.10.0.0/24")
    return google("compute.v1")


def machine(**fields: t.Any) -> Json:
    disk = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": IMAGE, "diskSizeGb": "10"}}
    return {"name": "server", "machineType": f"zones/{ZONE}/machineTypes/e2-medium", "disks": [disk], "networkInterfaces": [{"subnetwork": SUBNET}], **fields}


def insert(compute: t.Any, **fields: t.Any) -> t.Any:
    return compute.instances().insert(project=PROJECT, zone=ZONE, body=machine(**fields))


def get(compute: t.Any) -> Json:
    return t.cast("Json", compute.instances().get(project=PROJECT, zone=ZONE, instance="server").execute())


def test_a_network_and_its_operation(google: Google, cloud: LocalCloud) -> None:
    networks = google("compute.v1").networks()
    operation = networks.insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}).execute()
    assert (operation["status"], operation["operationType"]) == ("RUNNING", "insert")
    error = google.refused(networks.get(project=PROJECT, network="other"), 404, f"The resource 'projects/{PROJECT}/global/networks/other' was not found")
    assert error["errors"][0]["reason"] == "notFound"
    google.refused(networks.insert(project=PROJECT, body={"name": "n"}), 409, "already exists")
    cloud.settle()
    assert networks.get(project=PROJECT, network="n").execute()["id"] == operation["targetId"]
    google.refused(networks.insert(project=PROJECT, body={"name": "n"}), 409, "already exists")
    google.refused(networks.insert(project=PROJECT, body={"name": "N_1"}), 400, "Must be a match of regex")
    google.refused(networks.patch(project=PROJECT, network="n", body={"autoCreateSubnetworks": True}), 400, "cannot be changed")
    google.compute(networks.patch(project=PROJECT, network="n", body={"routingConfig": {"routingMode": "GLOBAL"}}))
    google.compute(networks.delete(project=PROJECT, network="n"))
    google.refused(networks.get(project=PROJECT, network="n"), 404)
    google.refused(google("compute.v1").globalOperations().get(project=PROJECT, operation="none"), 404)


def test_what_is_used_is_not_deleted(compute: t.Any, google: Google) -> None:
    error = google.refused(compute.networks().delete(project=PROJECT, network="default"), 400, "is already being used by .*subnetworks/default")
    assert error["errors"][0]["reason"] == "resourceInUseByAnotherResource"
    google.compute(insert(compute))
    google.refused(compute.subnetworks().delete(project=PROJECT, region=REGION, subnetwork="default"), 400, "already being used by .*instances/server")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"ipCidrRange": "10.10.0.128/25"}, r"conflicts with existing subnetwork 'default' \(10.10.0.0/24\)"),
        ({"ipCidrRange": "10.64.8.0/24"}, "conflicts with existing reserved range 'services'"),
        ({"ipCidrRange": "10.20.0.0/30"}, "from 4 to 29"),
        ({"ipCidrRange": "10.20.0.1/24"}, "Must be a valid IPv4 address range"),
        ({"ipCidrRange": "10.20.0.0/24", "network": "projects/example-project/global/networks/none"}, "cannot be found"),
        ({"ipCidrRange": "10.20.0.0/24", "network": "default"}, "malformed"),
    ],
)
def test_subnets_that_are_refused(compute: t.Any, google: Google, fields: Json, text: str) -> None:
    reserved = {"name": "services", "addressType": "INTERNAL", "purpose": "VPC_PEERING", "prefixLength": 20, "address": "10.64.0.0", "network": NETWORK}
    google.compute(compute.globalAddresses().insert(project=PROJECT, body=reserved))
    google.refused(compute.subnetworks().insert(project=PROJECT, region=REGION, body={"name": "s", "network": NETWORK, **fields}), 400, text)


def test_a_subnet_grows_and_never_shrinks(compute: t.Any, google: Google) -> None:
    def expand(block: str) -> t.Any:
        return compute.subnetworks().expandIpCidrRange(project=PROJECT, region=REGION, subnetwork="default", body={"ipCidrRange": block})

    google.refused(expand("10.10.0.0/25"), 400, "must contain the old range")
    google.compute(expand("10.10.0.0/20"))
    assert compute.subnetworks().get(project=PROJECT, region=REGION, subnetwork="default").execute()["ipCidrRange"] == "10.10.0.0/20"


def test_a_place_that_is_none(compute: t.Any, google: Google) -> None:
    google.refused(compute.subnetworks().list(project=PROJECT, region="europe"), 400, "Unknown region")
    google.refused(compute.instances().list(project=PROJECT, zone=REGION), 400, "Unknown zone")
    assert compute.regions().get(project=PROJECT, region=REGION).execute()["status"] == "UP"
    assert compute.zones().get(project=PROJECT, zone=ZONE).execute()["region"].endswith(REGION)
    assert compute.projects().get(project=PROJECT).execute()["name"] == PROJECT


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"purpose": "VPC_PEERING", "network": NETWORK}, "prefixLength"),
        ({"purpose": "VPC_PEERING", "prefixLength": 20}, "malformed"),
        ({"purpose": "VPC_PEERING", "network": NETWORK, "prefixLength": 20, "address": "10.10.0.0"}, "overlaps a subnet"),
        ({"purpose": "VPC_PEERING", "network": NETWORK, "prefixLength": 20, "address": "10.20.0.1"}, "valid IPv4 address range"),
    ],
)
def test_ranges_that_are_refused(compute: t.Any, google: Google, fields: Json, text: str) -> None:
    google.refused(compute.globalAddresses().insert(project=PROJECT, body={"name": "a", "addressType": "INTERNAL", **fields}), 400, text)


def test_addresses(compute: t.Any, google: Google) -> None:
    google.compute(compute.globalAddresses().insert(project=PROJECT, body={"name": "outside"}))
    assert compute.globalAddresses().get(project=PROJECT, address="outside").execute()["addressType"] == "EXTERNAL"
    inside = {"name": "inside", "addressType": "INTERNAL", "subnetwork": SUBNET, "address": "10.10.0.9"}
    google.compute(compute.addresses().insert(project=PROJECT, region=REGION, body=inside))
    google.refused(compute.addresses().insert(project=PROJECT, region=REGION, body={**inside, "name": "again"}), 400, "already being used")
    google.refused(
        compute.addresses().insert(project=PROJECT, region=REGION, body={**inside, "name": "again", "address": "10.10.0.1"}), 400, "not a usable address"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "exactly one of allowed and denied"),
        ({"allowed": [{"IPProtocol": "tcp"}], "denied": [{"IPProtocol": "tcp"}]}, "exactly one of"),
        ({"allowed": [{"IPProtocol": "tpc"}]}, "IPProtocol"),
        ({"allowed": [{"IPProtocol": "icmp", "ports": ["1"]}]}, "has no ports"),
        ({"allowed": [{"IPProtocol": "tcp", "ports": ["4200-4100"]}]}, "A port or a range"),
        ({"allowed": [{"IPProtocol": "tcp"}], "sourceRanges": ["10.0.0.1/8"]}, "valid IPv4 address range"),
        ({"allowed": [{"IPProtocol": "tcp"}], "priority": 70000}, "from 0 to 65535"),
        ({"allowed": [{"IPProtocol": "tcp"}], "direction": "EGRESS", "sourceTags": ["x"]}, "only for the direction INGRESS"),
    ],
)
def test_firewall_rules_that_are_refused(compute: t.Any, google: Google, fields: Json, text: str) -> None:
    google.refused(compute.firewalls().insert(project=PROJECT, body={"name": "f", "network": NETWORK, **fields}), 400, text)


def test_a_firewall_rule(compute: t.Any, google: Google) -> None:
    rule = {
        "name": "f",
        "network": NETWORK,
        "allowed": [{"IPProtocol": "tcp", "ports": ["4200", "22-23"]}],
        "sourceRanges": ["10.10.0.0/26"],
        "targetTags": ["a"],
    }
    google.compute(compute.firewalls().insert(project=PROJECT, body=rule))
    google.compute(compute.firewalls().patch(project=PROJECT, firewall="f", body={"sourceRanges": ["10.20.0.0/26"]}))
    found = compute.firewalls().get(project=PROJECT, firewall="f").execute()
    assert (found["sourceRanges"], found["targetTags"], found["priority"], found["direction"]) == (["10.20.0.0/26"], ["a"], 1000, "INGRESS")
    google.compute(compute.firewalls().update(project=PROJECT, firewall="f", body={name: value for name, value in rule.items() if name != "targetTags"}))
    assert "targetTags" not in compute.firewalls().get(project=PROJECT, firewall="f").execute()
    google.compute(compute.firewalls().insert(project=PROJECT, body={**rule, "name": "out", "direction": "EGRESS", "sourceRanges": []}))


@pytest.mark.parametrize(
    ("nat", "text"),
    [
        ({}, "it must be a name|must be a name"),
        ({"name": "nat"}, "sourceSubnetworkIpRangesToNat"),
        ({"name": "nat", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES", "natIpAllocateOption": "MANUAL_ONLY"}, "natIps"),
    ],
)
def test_nat(compute: t.Any, google: Google, nat: Json, text: str) -> None:
    router = {"name": "router", "network": NETWORK}
    google.compute(compute.routers().insert(project=PROJECT, region=REGION, body=router))
    google.refused(compute.routers().patch(project=PROJECT, region=REGION, router="router", body={"nats": [nat]}), 400, text)
    good = {"name": "nat", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES", "natIpAllocateOption": "AUTO_ONLY"}
    google.compute(compute.routers().patch(project=PROJECT, region=REGION, router="router", body={"nats": [good]}))
    assert compute.routers().get(project=PROJECT, region=REGION, router="router").execute()["nats"][0]["name"] == "nat"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"machineType": f"zones/{ZONE}/machineTypes/e2-huge"}, "machineType cannot be found"),
        ({"machineType": "zones/us-east1-b/machineTypes/e2-medium"}, "It must be of the form"),
        ({"disks": []}, "exactly one disk must be the boot disk"),
        ({"disks": [{"boot": True, "initializeParams": {"sourceImage": IMAGE, "diskSizeGb": "5"}}]}, "cannot be smaller than the image size"),
        (
            {"disks": [{"boot": True, "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-7"}}]},
            "image resource cannot be found",
        ),
        ({"networkInterfaces": []}, "At least one network interface"),
        ({"networkInterfaces": [{"subnetwork": SUBNET.replace("default", "none")}]}, "cannot be found"),
        ({"networkInterfaces": [{"network": NETWORK.replace("default", "other")}]}, "Subnetwork should be specified"),
        ({"networkInterfaces": [{"subnetwork": SUBNET.replace("default", "far").replace(REGION, "us-east1")}]}, "in another region"),
        ({"networkInterfaces": [{"subnetwork": SUBNET, "networkIP": "10.99.0.2"}]}, "not a usable address"),
        ({"serviceAccounts": [{"email": "none@example-project.iam.gserviceaccount.com"}]}, "does not exist"),
    ],
)
def test_machines_that_are_refused(compute: t.Any, google: Google, fields: Json, text: str) -> None:
    google.cloud.make_network("other", "us-east1")
    google.cloud.ask(
        "POST", f"compute/compute/v1/projects/{PROJECT}/regions/us-east1/subnetworks", {"name": "far", "network": NETWORK, "ipCidrRange": "10.50.0.0/24"}
    )
    google.refused(insert(compute, **fields), 400, text)


def test_a_machine(compute: t.Any, google: Google) -> None:
    google.compute(
        insert(compute, labels={"prefect-role": "server"}, tags={"items": ["prefect"]}, metadata={"items": [{"key": "enable-oslogin", "value": "TRUE"}]})
    )
    found = get(compute)
    assert (found["status"], found["networkInterfaces"][0]["networkIP"], found["labels"]) == ("RUNNING", "10.10.0.2", {"prefect-role": "server"})
    assert "accessConfigs" not in found["networkInterfaces"][0]
    google.compute(insert(compute, name="second", networkInterfaces=[{"network": NETWORK, "accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}]))
    second = compute.instances().get(project=PROJECT, zone=ZONE, instance="second").execute()
    assert (second["networkInterfaces"][0]["networkIP"], bool(second["networkInterfaces"][0]["accessConfigs"][0]["natIP"])) == ("10.10.0.3", True)


def test_a_machine_that_is_being_made(compute: t.Any, google: Google, cloud: LocalCloud) -> None:
    cloud.operation_seconds = 60
    insert(compute).execute()
    found = [get(compute) for _try in range(3)]
    assert [one["status"] for one in found] == ["PROVISIONING", "STAGING", "STAGING"]
    assert [one["networkInterfaces"][0].get("networkIP") for one in found] == [None, "10.10.0.2", "10.10.0.2"]
    assert compute.instances().list(project=PROJECT, zone=ZONE, filter="status = RUNNING").execute().get("items", []) == []
    google.refused(insert(compute), 409, "already exists")
    cloud.settle()
    assert get(compute)["status"] == "RUNNING"


def test_no_address_is_given_twice(compute: t.Any, cloud: LocalCloud) -> None:
    for name in ("one", "two"):
        insert(compute, name=name).execute()
    cloud.settle()
    items = compute.instances().list(project=PROJECT, zone=ZONE).execute()["items"]
    assert [one["networkInterfaces"][0]["networkIP"] for one in items] == ["10.10.0.2", "10.10.0.3"]


def test_a_subnet_that_is_full(compute: t.Any, google: Google) -> None:
    small = {"name": "small", "network": NETWORK, "ipCidrRange": "10.60.0.0/29"}
    google.compute(compute.subnetworks().insert(project=PROJECT, region=REGION, body=small))
    place = [{"subnetwork": SUBNET.replace("default", "small")}]
    for number in range(4):
        google.compute(insert(compute, name=f"m{number}", networkInterfaces=place))
    google.refused(insert(compute, networkInterfaces=place), 403, "is exhausted")


def test_disks(compute: t.Any, google: Google) -> None:
    google.compute(compute.disks().insert(project=PROJECT, zone=ZONE, body={"name": "data", "sizeGb": "20", "sourceImage": IMAGE}))
    assert compute.disks().get(project=PROJECT, zone=ZONE, disk="data").execute()["sizeGb"] == "20"


def test_what_changes_of_a_machine(compute: t.Any, google: Google) -> None:
    google.compute(insert(compute))
    instances, name = compute.instances(), {"project": PROJECT, "zone": ZONE, "instance": "server"}
    google.refused(instances.setLabels(**name, body={"labels": {"a": "b"}, "labelFingerprint": "AAAAAAAAAAA="}), 412, "Invalid fingerprint")
    google.compute(instances.setLabels(**name, body={"labels": {"a": "b"}, "labelFingerprint": get(compute)["labelFingerprint"]}))
    google.compute(instances.setTags(**name, body={"items": ["t"], "fingerprint": get(compute)["tags"]["fingerprint"]}))
    google.compute(instances.setMetadata(**name, body={"items": [{"key": "k", "value": "v"}], "fingerprint": get(compute)["metadata"]["fingerprint"]}))
    machine_type = {"machineType": f"zones/{ZONE}/machineTypes/e2-small"}
    google.refused(instances.setMachineType(**name, body=machine_type), 400, "must be stopped")
    google.refused(instances.setServiceAccount(**name, body={"email": "x@example.com"}), 400, "must be stopped")
    google.compute(instances.stop(**name))
    google.refused(instances.setMachineType(**name, body={"machineType": "zones/x/machineTypes/huge"}), 400, "cannot be found")
    google.compute(instances.setMachineType(**name, body=machine_type))
    google.compute(instances.setServiceAccount(**name, body={"email": "x@example.com"}))
    google.compute(instances.start(**name))
    google.compute(instances.reset(**name))
    found = get(compute)
    assert (found["labels"], found["tags"]["items"], found["machineType"].rpartition("/")[2], found["status"]) == ({"a": "b"}, ["t"], "e2-small", "RUNNING")


def test_a_machine_that_is_protected(compute: t.Any, google: Google) -> None:
    name = {"project": PROJECT, "zone": ZONE, "instance": "server"}
    google.compute(insert(compute, deletionProtection=True))
    google.refused(compute.instances().delete(**name), 400, "protected against deletion")
    google.compute(compute.instances().setDeletionProtection(project=PROJECT, zone=ZONE, resource="server", deletionProtection=False))
    compute.instances().delete(**name).execute()
    assert get(compute)["status"] == "STOPPING"
    google.refused(compute.instances().get(**name), 404)


def test_one_operation_at_a_time(compute: t.Any, google: Google, cloud: LocalCloud) -> None:
    google.compute(insert(compute))
    cloud.operation_seconds = 60
    stop = compute.instances().stop(project=PROJECT, zone=ZONE, instance="server")
    stop.execute()
    assert google.refused(stop, 400, "is not ready")["errors"][0]["reason"] == "resourceNotReady"


def test_lists_and_filters(compute: t.Any, google: Google) -> None:
    google.compute(insert(compute, labels={"role": "server"}))
    google.compute(insert(compute, name="worker-0", labels={"role": "worker"}))

    def names(expression: str) -> list[str]:
        return [one["name"] for one in compute.instances().list(project=PROJECT, zone=ZONE, filter=expression).execute().get("items", [])]

    assert names("") == ["server", "worker-0"]
    assert names("labels.role = worker") == ["worker-0"]
    assert names("(labels.role = server) (status = RUNNING)") == ["server"]
    assert names("(labels.role:*) AND (name != server)") == ["worker-0"]
    assert names('name eq "worker-.*"') == ["worker-0"]
    assert names("name ne worker-.*") == ["server"]
    assert names("labels.team:*") == []
    assert names("deletionProtection = false") == ["server", "worker-0"]
    google.refused(compute.instances().list(project=PROJECT, zone=ZONE, filter="what?"), 400, "Invalid list filter expression")
    items = compute.instances().aggregatedList(project=PROJECT, filter="labels.role = worker").execute()["items"]
    assert [one["name"] for one in items[f"zones/{ZONE}"]["instances"]] == ["worker-0"]
    nothing = compute.instances().aggregatedList(project=PROJECT, filter="name = none").execute()["items"]
    assert next(iter(nothing.values()))["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_images_and_machine_types(compute: t.Any, google: Google) -> None:
    assert compute.images().getFromFamily(project="debian-cloud", family="debian-12").execute()["status"] == "READY"
    google.refused(compute.images().getFromFamily(project="debian-cloud", family="debian-1"), 404)
    assert compute.machineTypes().get(project=PROJECT, zone=ZONE, machineType="e2-medium").execute()["name"] == "e2-medium"
    google.refused(compute.machineTypes().get(project=PROJECT, zone=ZONE, machineType="none"), 404)


def test_a_load_balancer(compute: t.Any, google: Google) -> None:
    base = f"projects/{PROJECT}/global"
    group = {"name": "neg", "networkEndpointType": "SERVERLESS"}
    google.refused(compute.regionNetworkEndpointGroups().insert(project=PROJECT, region=REGION, body=group), 400, "names one of cloudRun")
    google.compute(compute.regionNetworkEndpointGroups().insert(project=PROJECT, region=REGION, body={**group, "cloudRun": {"service": "proxy"}}))
    backend = {
        "name": "backend",
        "loadBalancingScheme": "EXTERNAL_MANAGED",
        "backends": [{"group": f"projects/{PROJECT}/regions/{REGION}/networkEndpointGroups/neg"}],
    }
    google.refused(compute.backendServices().insert(project=PROJECT, body={**backend, "timeoutSec": 3600}), 400, "not supported for serverless")
    google.compute(compute.backendServices().insert(project=PROJECT, body=backend))
    google.refused(compute.urlMaps().insert(project=PROJECT, body={"name": "map"}), 400, "A backend service is required")
    google.compute(compute.urlMaps().insert(project=PROJECT, body={"name": "map", "defaultService": f"{base}/backendServices/backend"}))
    google.refused(compute.sslCertificates().insert(project=PROJECT, body={"name": "tls", "type": "MANAGED"}), 400, "names its domains")
    google.compute(compute.sslCertificates().insert(project=PROJECT, body={"name": "tls", "type": "MANAGED", "managed": {"domains": ["prefect.example.com"]}}))
    proxy = {"name": "https", "urlMap": f"{base}/urlMaps/map", "sslCertificates": [f"{base}/sslCertificates/tls"]}
    google.compute(compute.targetHttpsProxies().insert(project=PROJECT, body=proxy))
    google.compute(compute.globalAddresses().insert(project=PROJECT, body={"name": "outside"}))
    rule = {"name": "rule", "target": f"{base}/targetHttpsProxies/https", "portRange": "443", "IPAddress": f"{base}/addresses/outside"}
    google.compute(compute.globalForwardingRules().insert(project=PROJECT, body=rule))
    google.compute(compute.globalForwardingRules().insert(project=PROJECT, body={**rule, "name": "second", "IPAddress": None}))
    google.refused(compute.urlMaps().delete(project=PROJECT, urlMap="map"), 400, "targetHttpsProxies/https")
