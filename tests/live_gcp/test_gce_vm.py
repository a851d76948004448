# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from .conftest import PROJECT, Controller

COMPUTE = f"compute/compute/v1/projects/{PROJECT}"
OWNER = {"Authorization": "Bearer owner"}
ROLE = {"name": "Apply", "ansible.builtin.include_role": {"name": "selfhost.prefect.gce_vm"}}
WORKERS = [{"name": "prefect-worker-1"}, {"name": "prefect-worker-2", "machine_type": "e2-standard-2", "disk_size_gb": 20}]


@pytest.fixture
def ask(cloud) -> t.Callable[..., t.Any]:
    return lambda path, http="GET", body=None: cloud.ask(http, f"{COMPUTE}/{path}", body)


def test_from_nothing_and_then_nothing(cloud, controller: Controller, ask) -> None:
    dry = controller.role("gce_vm", "--check", gce_vm_workers=WORKERS)
    assert dry.ok, dry.output
    assert cloud.writes() == []
    for text in ("the network prefect", "the subnetwork prefect-run", "the VM prefect-worker-2", "the service account prefect-worker@"):
        assert f"A run without --check makes {text}" in dry.text

    done = controller.role("gce_vm", gce_vm_workers=WORKERS)
    assert done.ok, done.output
    server = ask("zones/europe-west1-b/instances/prefect-server")
    assert server["machineType"].endswith("/e2-medium")
    assert server["disks"][0]["diskSizeGb"] == "10"
    assert server["labels"] == {"prefect-role": "server"}
    assert server["deletionProtection"] is True
    assert "accessConfigs" not in server["networkInterfaces"][0]
    assert server["shieldedInstanceConfig"] == {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True}
    assert {"key": "enable-oslogin", "value": "TRUE"} in server["metadata"]["items"]
    assert server["serviceAccounts"][0]["email"] == f"prefect-server@{PROJECT}.iam.gserviceaccount.com"
    worker = ask("zones/europe-west1-b/instances/prefect-worker-2")
    assert (worker["machineType"].rpartition("/")[2], worker["disks"][0]["diskSizeGb"]) == ("e2-standard-2", "20")

    rules = {rule["name"]: rule for rule in ask("global/firewalls")["items"]}
    assert set(rules) == {"prefect-server-api", "prefect-server-ssh"}
    assert rules["prefect-server-api"]["allowed"] == [{"IPProtocol": "tcp", "ports": ["4200"]}]
    machines = [ask(f"zones/europe-west1-b/instances/{item['name']}") for item in WORKERS]
    addresses = {f"{machine['networkInterfaces'][0]['networkIP']}/32" for machine in machines}
    assert set(rules["prefect-server-api"]["sourceRanges"]) == addresses | {"10.10.1.0/26"}
    assert rules["prefect-server-api"]["targetServiceAccounts"] == [f"prefect-server@{PROJECT}.iam.gserviceaccount.com"]
    assert rules["prefect-server-ssh"]["sourceRanges"] == ["35.235.240.0/20"]
    assert len(rules["prefect-server-ssh"]["targetServiceAccounts"]) == 2
    router = ask("regions/europe-west1/routers/prefect")
    assert [nat["natIpAllocateOption"] for nat in router["nats"]] == ["AUTO_ONLY"]

    made, asked = len(cloud.writes()), len(cloud.requests)
    again = controller.role("gce_vm", gce_vm_workers=WORKERS)
    assert again.ok, again.output
    assert (again.changed, len(cloud.writes())) == (0, made)
    # The network, the subnetworks, three VMs, two accounts, the router, the policy with both roles, two rules.
    assert len(cloud.requests) - asked == 11


def test_drift_is_shown_and_mended(cloud, controller: Controller, ask) -> None:
    assert controller.role("gce_vm").ok
    ask("global/firewalls/prefect-server-ssh", "PATCH", {"sourceRanges": ["35.235.240.0/20", "0.0.0.0/0"]})
    cloud.settle()
    ask("zones/europe-west1-b/instances/prefect-server/setDeletionProtection?deletionProtection=false", "POST")
    cloud.settle()
    ask("zones/europe-west1-b/instances/prefect-server/stop", "POST")
    cloud.settle()

    made = len(cloud.writes())
    dry = controller.role("gce_vm", "--check")
    assert dry.ok, dry.output
    assert dry.changed, dry.output
    assert "0.0.0.0/0" in dry.text
    assert len(cloud.writes()) == made

    assert controller.role("gce_vm").ok
    cloud.settle()
    assert ask("global/firewalls/prefect-server-ssh")["sourceRanges"] == ["35.235.240.0/20"]
    server = ask("zones/europe-west1-b/instances/prefect-server")
    assert (server["deletionProtection"], server["status"]) == (True, "RUNNING")
    assert controller.role("gce_vm").changed == 0


def test_goes_on_where_a_run_was_interrupted(cloud, controller: Controller, ask) -> None:
    cloud.fail("compute.instances.insert", 503, times=1)
    broken = controller.role("gce_vm")
    assert not broken.ok
    made = cloud.writes()
    assert controller.role("gce_vm").ok
    assert ask("zones/europe-west1-b/instances/prefect-server")["status"] == "RUNNING"
    # What was there was not made again.
    assert not [write for write in cloud.writes()[len(made) :] if "/networks" in write or "/subnetworks" in write or "/routers" in write]


def test_an_account_that_not_all_of_google_knows_yet(cloud, controller: Controller, ask) -> None:
    unknown = f"Service account prefect-server@{PROJECT}.iam.gserviceaccount.com does not exist."
    cloud.fail("compute.instances.insert", 400, unknown)
    done = controller.role("gce_vm")
    assert done.ok, done.output
    assert ask("zones/europe-west1-b/instances/prefect-server")["status"] == "RUNNING"

    # Of one that was there before, it is no matter of time.
    cloud.fail("compute.instances.insert", 400, unknown)
    refused = controller.role("gce_vm", gce_vm_name="prefect-other")
    assert not refused.ok
    assert unknown in refused.text


def test_waits_for_a_vm_that_an_interrupted_run_has_begun(cloud, controller: Controller, ask) -> None:
    assert controller.role("gce_vm").ok
    machine = ask("zones/europe-west1-b/instances/prefect-server")
    ask("zones/europe-west1-b/instances/prefect-server/setDeletionProtection?deletionProtection=false", "POST")
    ask("zones/europe-west1-b/instances/prefect-server", "DELETE")
    # What the run had sent before it was interrupted.
    account = {"email": machine["serviceAccounts"][0]["email"]}
    disk = {"boot": True, "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}}
    network = [{"subnetwork": machine["networkInterfaces"][0]["subnetwork"]}]
    body = {**{name: machine[name] for name in ("name", "machineType", "labels")}, "deletionProtection": True, "serviceAccounts": [account]}
    body.update(disks=[disk], networkInterfaces=network)
    cloud.operation_polls = 2
    cloud.answer("POST", "compute.googleapis.com", f"/compute/v1/projects/{PROJECT}/zones/europe-west1-b/instances", OWNER, json.dumps(body).encode())

    show = {"name": "Show", "ansible.builtin.debug": {"msg": "It has {{ gce_vm_addresses['prefect-server'] }}."}}
    done = controller.tasks([ROLE, show], prefect_gcp_project=PROJECT, prefect_gcp_region="europe-west1")
    assert done.ok, done.output
    assert "FAILED - RETRYING" in done.output
    assert "It has 10.10.0.2." in done.text
    assert ask("zones/europe-west1-b/instances/prefect-server")["status"] == "RUNNING"


REFUSALS = {
    "no project": ({"gce_vm_project": ""}, "gce_vm_project (or prefect_gcp_project) is empty"),
    "a project's name": ({"gce_vm_project": "My Project"}, "which is no ID of a project: write the ID"),
    "no region": ({"gce_vm_region": ""}, "gce_vm_region (or prefect_gcp_region) is ''"),
    "another region's zone": ({"gce_vm_zone": "us-east1-b"}, "gce_vm_zone is us-east1-b, which is not in gce_vm_region, europe-west1"),
    "a VM's bad name": ({"gce_vm_name": "Prefect"}, "names a VM Prefect: write up to 63"),
    "two of a name": ({"gce_vm_workers": [{"name": "prefect-server"}]}, "name two VMs alike"),
    "a bad account": ({"gce_vm_server_service_account": "x"}, "write what stands before the @"),
    "one account": ({"gce_vm_worker_service_account": "prefect-server"}, "write two names"),
    "a bad label": ({"gce_vm_labels": {"Team": "data"}}, "gce_vm_labels: Team cannot be a label"),
    "a small disk": ({"gce_vm_disk_size_gb": 5}, "gce_vm_disk_size_gb is 5"),
    "a small subnetwork for Cloud Run": ({"gce_vm_run_subnetwork_range": "10.10.1.0/28"}, "too small for Cloud Run"),
    "one subnetwork": ({"gce_vm_run_subnetwork": "prefect"}, "are both prefect: write two names"),
    "two ports": ({"gce_vm_api_port": 8080, "prefect_server_api_port": 4200}, "gce_vm_api_port is 8080, and prefect_server_api_port 4200: write the port"),
    "everybody": ({"gce_vm_ssh_source_ranges": ["0.0.0.0/0"]}, "holds 0.0.0.0/0, which is everybody"),
    "overlapping ranges": ({"gce_vm_run_subnetwork_range": "10.10.0.64/26"}, "the subnetwork prefect-run overlaps 10.10.0.0/24 of prefect"),
    "no range": ({"gce_vm_subnetwork_range": "10.10.0.1/24"}, "is none (10.10.0.1/24 has host bits set)"),
    "no network": ({"gce_vm_create_network": False}, "there is no network prefect in example-project"),
    "no subnetwork": ({"gce_vm_subnetwork_range": ""}, "there is no subnetwork prefect in the network prefect and this region"),
}


def test_refusals(cloud, controller: Controller) -> None:
    cases = {name: ({"gce_vm_project": PROJECT, **variables}, message) for name, (variables, message) in REFUSALS.items()}
    done = controller.refusals("gce_vm", cases)
    assert done.ok, done.output
    assert f"rescued={len(REFUSALS)}" in done.output
    assert cloud.writes() == []


def test_a_vm_of_another_type(cloud, controller: Controller) -> None:
    assert controller.role("gce_vm").ok
    made = len(cloud.writes())
    refused = controller.role("gce_vm", gce_vm_machine_type="e2-standard-2")
    assert not refused.ok
    assert "prefect-server is e2-medium, and Google changes that only while a VM is stopped" in refused.text
    assert f"--machine-type e2-standard-2 --zone europe-west1-b --project {PROJECT}` between" in refused.text
    assert len(cloud.writes()) == made


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda cloud: cloud.enabled.pop("compute"), "enable the API by `gcloud services enable compute.googleapis.com"),
        (lambda cloud: cloud.grants.update({"owner@example.com": []}), "grant roles/compute.networkAdmin"),
        (
            lambda cloud: cloud.grants.update({"owner@example.com": ["roles/viewer", "roles/compute.networkAdmin"]}),
            "grant them roles/compute.securityAdmin, roles/compute.instanceAdmin.v1",
        ),
        (lambda cloud: cloud.revoked_tokens.add("a-token"), "renew the credentials"),
    ],
    ids=["API", "no role", "some roles", "token"],
)
def test_what_google_refuses(cloud, controller: Controller, breakage, message) -> None:
    breakage(cloud)
    refused = controller.role("gce_vm")
    assert not refused.ok
    assert message in refused.text, refused.output
    assert cloud.writes() == []
