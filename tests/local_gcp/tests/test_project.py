# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project: its APIs, its policy, its service accounts, and its networks' connection to Google's services."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

from .conftest import NUMBER, PROJECT, Google

NETWORK = f"projects/{NUMBER}/global/networks/default"
PARENT = "services/servicenetworking.googleapis.com"
CONNECTION = f"{PARENT}/connections/servicenetworking-googleapis-com"


def wait(google: Google, name: str, operation: dict[str, t.Any]) -> dict[str, t.Any]:
    while not operation.get("done"):
        operation = google(name).operations().get(name=operation["name"]).execute()
    return operation


def test_enabling_apis(google: Google, cloud: LocalCloud) -> None:
    services = google("serviceusage.v1").services()
    name = f"projects/{PROJECT}/services/sqladmin.googleapis.com"
    cloud.enabled.clear()
    google.refused(services.get(name=name), 403, "serviceusage.googleapis.com API has not been used")
    cloud.enabled["serviceusage"] = True
    assert services.get(name=name).execute()["state"] == "DISABLED"
    answer = wait(google, "serviceusage.v1", services.enable(name=name, body={}).execute())
    assert answer["response"]["service"]["state"] == "ENABLED"
    wait(google, "serviceusage.v1", services.batchEnable(parent=f"projects/{PROJECT}", body={"serviceIds": ["run.googleapis.com"]}).execute())
    enabled = services.list(parent=f"projects/{PROJECT}", filter="state:ENABLED").execute()["services"]
    assert [one["config"]["name"] for one in enabled] == ["run.googleapis.com", "serviceusage.googleapis.com", "sqladmin.googleapis.com"]
    assert len(services.batchGet(parent=f"projects/{PROJECT}", names=[name]).execute()["services"]) == 1
    wait(google, "serviceusage.v1", services.disable(name=name, body={}).execute())
    assert services.get(name=name).execute()["state"] == "DISABLED"
    google.refused(services.enable(name=name.replace("sqladmin", "sqlamdin"), body={}), 404, "Not found or permission denied")
    google.refused(services.batchEnable(parent=f"projects/{PROJECT}", body={}), 400, "from 1 to 20")


def test_the_project_has_an_id_and_a_number(google: Google) -> None:
    for reference in (PROJECT, NUMBER):
        assert google("cloudresourcemanager.v1").projects().get(projectId=reference).execute()["projectNumber"] == NUMBER
        assert google("cloudresourcemanager.v3").projects().get(name=f"projects/{reference}").execute()["name"] == f"projects/{NUMBER}"
    google.refused(google("cloudresourcemanager.v3").projects().get(name="projects/My Project"), 403, "or it may not exist")


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_the_policy_of_the_project(google: Google, cloud: LocalCloud, version: str) -> None:
    projects = google(f"cloudresourcemanager.{version}").projects()
    resource = PROJECT if version == "v1" else f"projects/{PROJECT}"
    policy = projects.getIamPolicy(resource=resource, body={}).execute()
    policy["bindings"].append({"role": "roles/cloudsql.client", "members": ["user:a@example.com"]})
    changed = projects.setIamPolicy(resource=resource, body={"policy": policy}).execute()
    assert changed["bindings"] == policy["bindings"]
    google.refused(projects.setIamPolicy(resource=resource, body={"policy": policy}), 409, "concurrent policy changes")
    google.refused(projects.setIamPolicy(resource=resource, body={"policy": {"bindings": []}}), 400, "roles/owner")
    asking = projects.testIamPermissions(resource=resource, body={"permissions": ["a.b.c", "run.services.get"]})
    assert asking.execute() == {"permissions": ["a.b.c", "run.services.get"]}
    # The policy has the caller as an owner, and grants are all that counts.
    cloud.grants["owner@example.com"] = ["roles/run.viewer"]
    assert asking.execute() == {"permissions": ["run.services.get"]}


def test_service_accounts(google: Google, cloud: LocalCloud) -> None:
    accounts = google("iam.v1").projects().serviceAccounts()
    create = accounts.create(name=f"projects/{PROJECT}", body={"accountId": "prefect-server", "serviceAccount": {"displayName": "Prefect"}})
    made = create.execute()
    assert made["email"] == f"prefect-server@{PROJECT}.iam.gserviceaccount.com"
    google.refused(create, 409, "already exists")
    google.refused(accounts.create(name=f"projects/{PROJECT}", body={"accountId": "five5"}), 400, "6 to 30")
    assert accounts.get(name=made["name"]).execute() == accounts.get(name=f"projects/-/serviceAccounts/{made['uniqueId']}").execute() == made
    assert accounts.list(name=f"projects/{PROJECT}").execute()["accounts"] == [made]
    change = {"serviceAccount": {"displayName": "Server"}, "updateMask": "displayName"}
    assert accounts.patch(name=made["name"], body=change).execute()["displayName"] == "Server"
    google.refused(accounts.patch(name=made["name"], body={"serviceAccount": {}, "updateMask": "email"}), 400, "display_name and description")
    binding = {"role": "roles/iam.serviceAccountUser", "members": ["user:a@example.com"]}
    accounts.setIamPolicy(resource=made["name"], body={"policy": {"bindings": [binding]}}).execute()
    assert accounts.getIamPolicy(resource=made["name"]).execute()["bindings"] == [binding]
    accounts.delete(name=made["name"]).execute()
    google.refused(accounts.get(name=made["name"]), 404, "Unknown service account")


def test_a_new_account_is_not_known_at_once(google: Google, cloud: LocalCloud) -> None:
    projects = google("cloudresourcemanager.v3").projects()
    cloud.stale_reads = 1
    google("iam.v1").projects().serviceAccounts().create(name=f"projects/{PROJECT}", body={"accountId": "prefect-server"}).execute()
    policy = projects.getIamPolicy(resource=f"projects/{PROJECT}", body={}).execute()
    member = f"serviceAccount:prefect-server@{PROJECT}.iam.gserviceaccount.com"
    policy["bindings"].append({"role": "roles/cloudsql.client", "members": [member]})
    change = projects.setIamPolicy(resource=f"projects/{PROJECT}", body={"policy": policy})
    google.refused(change, 400, "does not exist")
    change.execute()


@pytest.fixture
def connections(cloud: LocalCloud, google: Google) -> t.Any:
    cloud.make_network()
    link = f"projects/{PROJECT}/global/networks/default"
    for name in ("one", "two"):
        address = {"name": name, "addressType": "INTERNAL", "purpose": "VPC_PEERING", "prefixLength": 24, "network": link}
        cloud.ask("POST", f"compute/compute/v1/projects/{PROJECT}/global/addresses", address)
    return google("servicenetworking.v1").services().connections()


def test_private_services_access(connections: t.Any, google: Google) -> None:
    def body(*ranges: str, network: str = NETWORK) -> dict[str, t.Any]:
        return {"network": network, "reservedPeeringRanges": list(ranges)}

    named = f"projects/{PROJECT}/global/networks/default"
    google.refused(connections.create(parent=PARENT, body=body("one", network=named)), 400, "with the project's number")
    google.refused(connections.list(parent=PARENT, network=named), 400, "with the project's number")
    google.refused(connections.list(parent=PARENT, network=NETWORK.replace("default", "none")), 404)
    google.refused(connections.create(parent=PARENT, body=body()), 400, "at least one range")
    google.refused(connections.create(parent=PARENT, body=body("none")), 400, "Allocated range none was not found")
    google.refused(connections.patch(name=CONNECTION, body=body("one")), 400, "There is no peering")
    assert connections.list(parent=PARENT, network=NETWORK).execute() == {}

    operation = connections.create(parent=PARENT, body=body("one")).execute()
    google.refused(connections.create(parent=PARENT, body=body("one")), 409, "another operation in progress")
    made = wait(google, "servicenetworking.v1", operation)["response"]
    assert connections.list(parent=PARENT, network=NETWORK).execute()["connections"] == [{name: value for name, value in made.items() if name != "@type"}]
    failed = wait(google, "servicenetworking.v1", connections.create(parent=PARENT, body=body("two")).execute())
    assert failed["error"] == {"code": 9, "message": "Cannot modify allocated ranges in CreateConnection. Please use UpdateConnection."}
    assert connections.list(parent=PARENT, network=NETWORK).execute()["connections"][0]["reservedPeeringRanges"] == ["one"]
    google.refused(connections.patch(name=CONNECTION, body=body("two")), 400, "needs force")
    wait(google, "servicenetworking.v1", connections.patch(name=CONNECTION, body=body("one", "two")).execute())
    wait(google, "servicenetworking.v1", connections.patch(name=CONNECTION, body=body("two"), force=True).execute())
    assert connections.list(parent=PARENT, network=NETWORK).execute()["connections"][0]["reservedPeeringRanges"] == ["two"]
    google.refused(google("servicenetworking.v1").operations().get(name="operations/none"), 404)


def test_a_connection_that_is_in_use(connections: t.Any, google: Google, cloud: LocalCloud) -> None:
    delete = connections.deleteConnection(name=CONNECTION, body={"consumerNetwork": NETWORK})
    google.refused(delete, 404)
    wait(google, "servicenetworking.v1", connections.create(parent=PARENT, body={"network": NETWORK, "reservedPeeringRanges": ["one"]}).execute())
    addresses = {"ipv4Enabled": False, "privateNetwork": f"projects/{PROJECT}/global/networks/default"}
    settings = {"tier": "db-custom-2-7680", "edition": "ENTERPRISE", "ipConfiguration": addresses}
    instance = {"name": "db", "databaseVersion": "POSTGRES_17", "settings": settings}
    cloud.ask("POST", f"sqladmin/v1/projects/{PROJECT}/instances", instance)
    failed = wait(google, "servicenetworking.v1", delete.execute())
    assert "Producer services (e.g. CloudSQL, Cloud Memstore, etc.) are still using this connection" in failed["error"]["message"]
    cloud.ask("DELETE", f"sqladmin/v1/projects/{PROJECT}/instances/db")
    wait(google, "servicenetworking.v1", delete.execute())
    assert connections.list(parent=PARENT, network=NETWORK).execute() == {}


def test_a_network_is_held_by_its_peering(connections: t.Any, google: Google, cloud: LocalCloud) -> None:
    wait(google, "servicenetworking.v1", connections.create(parent=PARENT, body={"network": NETWORK, "reservedPeeringRanges": ["one"]}).execute())
    networks = google("compute.v1").networks()
    google.refused(
        networks.removePeering(project=PROJECT, network="default", body={"name": "servicenetworking-googleapis-com", "none": 1}), 400, "Unknown name"
    )
    google.compute(networks.removePeering(project=PROJECT, network="default", body={"name": "servicenetworking-googleapis-com"}))
    assert connections.list(parent=PARENT, network=NETWORK).execute() == {}
    google.refused(networks.removePeering(project=PROJECT, network="default", body={"name": "servicenetworking-googleapis-com"}), 400, "no peering")
