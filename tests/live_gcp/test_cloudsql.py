# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import re
import typing as t

import pytest

from .conftest import PROJECT, Controller

REGION = "europe-west1"
INSTANCE = f"sqladmin/v1/projects/{PROJECT}/instances/prefect"
SECRET = f"secretmanager/v1/projects/{PROJECT}/secrets/prefect-database-password"
SHOW = [
    {"name": "Apply", "ansible.builtin.include_role": {"name": "selfhost.prefect.cloudsql"}},
    {"name": "Show", "ansible.builtin.copy": {"content": "{{ cloudsql_result | to_json }}", "dest": "{{ output }}", "mode": "0600"}, "diff": False},
]


@pytest.fixture
def network(cloud) -> None:
    cloud.make_network("prefect", REGION)


@pytest.mark.usefixtures("network")
def test_from_nothing_and_then_nothing(cloud, controller: Controller) -> None:
    for api in ("sqladmin", "servicenetworking", "secretmanager"):
        cloud.enabled.pop(api)
    dry = controller.role("cloudsql", "--check")
    assert dry.ok, dry.output
    assert cloud.writes() == []
    assert "tier: db-custom-2-7680" in dry.text

    output = controller.home / "result.json"
    done = controller.tasks(SHOW, prefect_gcp_project=PROJECT, prefect_gcp_region=REGION, output=str(output))
    assert done.ok, done.output
    result = json.loads(output.read_text())
    assert {name: result[name] for name in ("port", "database", "user")} == {"port": 5432, "database": "prefect-db", "user": "prefect"}
    assert result["host"].startswith("10.")
    assert result["connection_name"] == f"{PROJECT}:{REGION}:prefect"
    assert result["server_ca_cert"].startswith("-----BEGIN CERTIFICATE-----")
    assert len(result["password"]) == 40
    assert result["password"] not in done.output
    settings = cloud.ask("GET", INSTANCE)["settings"]
    assert (settings["edition"], settings["deletionProtectionEnabled"], settings["ipConfiguration"]["ipv4Enabled"]) == ("ENTERPRISE", True, False)

    made, asked = len(cloud.writes()), len(cloud.requests)
    again = controller.role("cloudsql", "-v")
    assert again.ok, again.output
    assert (again.changed, len(cloud.writes())) == (0, made), again.output
    assert result["password"] not in again.output
    assert [request["id"].partition(".")[2] for request in cloud.requests[asked:]] == [
        "projects.testIamPermissions",
        "projects.get",
        "globalAddresses.get",
        "services.connections.list",
        "instances.get",
        "services.batchGet",
        "projects.secrets.get",
        "projects.secrets.versions.access",
        "databases.get",
        "users.list",
    ]


@pytest.mark.usefixtures("network")
def test_drift_is_shown_and_mended(cloud, controller: Controller) -> None:
    assert controller.role("cloudsql").ok
    cloud.ask("PATCH", INSTANCE, {"settings": {"tier": "db-custom-4-15360", "userLabels": {"app": "other"}}})
    made = len(cloud.writes())
    dry = controller.role("cloudsql", "--check")
    assert dry.ok, dry.output
    assert dry.changed
    assert "db-custom-4-15360" in dry.text
    assert "it will be refused without allow_restart: true" in dry.text
    refused = controller.role("cloudsql")
    assert not refused.ok
    assert "this change restarts the instance 'prefect'" in refused.text
    assert len(cloud.writes()) == made
    mended = controller.role("cloudsql", cloudsql_allow_restart=True)
    assert mended.ok, mended.output
    settings = cloud.ask("GET", INSTANCE)["settings"]
    assert (settings["tier"], settings["userLabels"]) == ("db-custom-2-7680", {"app": "prefect"})
    assert controller.role("cloudsql").changed == 0


@pytest.mark.usefixtures("network")
def test_a_run_that_was_interrupted(cloud, controller: Controller) -> None:
    assert controller.role("cloudsql").ok
    # As if the secret had been made and the run stopped before its value, the database and the user.
    for path in (SECRET, f"{INSTANCE}/databases/prefect-db", f"{INSTANCE}/users?name=prefect"):
        cloud.ask("DELETE", path)
    cloud.ask("POST", f"{SECRET.rpartition('/')[0]}?secretId=prefect-database-password", {"replication": {"automatic": {}}})
    done = controller.role("cloudsql")
    assert done.ok, done.output
    assert done.changed == 3
    # As if somebody had deleted the secret: the user gets the password of the new one.
    cloud.ask("DELETE", SECRET)
    writes = len(cloud.writes())
    assert controller.role("cloudsql").changed == 2
    assert cloud.writes()[writes:][-1].startswith("PUT ")
    assert controller.role("cloudsql").changed == 0


@pytest.mark.usefixtures("network")
def test_a_person_sees_that_it_waits(cloud, controller: Controller) -> None:
    assert controller.role("cloudsql", cloudsql_deletion_protection=False).ok
    instance = cloud.ask("GET", INSTANCE)
    cloud.ask("DELETE", INSTANCE)
    # What an interrupted run had sent.
    body = {name: instance[name] for name in ("name", "region", "databaseVersion")}
    body["settings"] = {name: instance["settings"][name] for name in ("tier", "edition", "ipConfiguration", "backupConfiguration")}
    cloud.operation_seconds = 50
    cloud.answer("POST", "sqladmin.googleapis.com", f"/v1/projects/{PROJECT}/instances", {"Authorization": "Bearer owner"}, json.dumps(body).encode())
    cloud.operation_seconds = 0
    done = controller.role("cloudsql")
    assert done.ok, done.output
    assert re.search(r"FAILED - RETRYING: .* Bring the instance into the wanted state \(", done.text), done.output
    assert (cloud.ask("GET", INSTANCE)["state"], controller.role("cloudsql").changed) == ("RUNNABLE", 0)


@pytest.mark.usefixtures("network")
def test_delete(cloud, controller: Controller) -> None:
    assert controller.role("cloudsql").ok
    gone = {"cloudsql_state": "absent", "cloudsql_deletion_protection": False, "cloudsql_confirm_deletion": "prefect"}
    made = len(cloud.writes())
    dry = controller.role("cloudsql", "--check", **gone)
    assert dry.ok, dry.output
    assert len(cloud.writes()) == made
    done = controller.role("cloudsql", **gone)
    assert done.ok, done.output
    assert "its range prefect-services stay" in done.text
    assert [write.partition(" ")[0] for write in cloud.writes()[made:]] == ["PATCH", "DELETE", "DELETE"]
    assert controller.role("cloudsql", **gone).changed == 0
    cloud.reserved_name_seconds = 60
    assert "choose another name, or wait until Google lets go of this one" in controller.role("cloudsql").text
    cloud.reserved_name_seconds = 0
    again = controller.role("cloudsql")
    assert again.ok, again.output


def test_somebody_elses_network(cloud, controller: Controller) -> None:
    cloud.make_network("prefect", REGION, peered=True)
    done = controller.role("cloudsql", cloudsql_private_services_access=False, cloudsql_range_name="")
    assert done.ok, done.output
    assert not [write for write in cloud.writes() if "connections" in write or "addresses" in write]


REFUSALS: dict[str, tuple[dict[str, t.Any], str]] = {
    "a project's name": ({"cloudsql_project": "My Project"}, "which is no project ID: write the ID, as `gcloud projects list` shows it"),
    "no region": ({"cloudsql_region": ""}, "cloudsql_region (or prefect_gcp_region) is '', which is no region"),
    "no network": ({"cloudsql_network": "My network"}, "cloudsql_network is 'My network', which names no network"),
    "no range": ({"cloudsql_range": "10.20.0.0"}, "cloudsql_range is '10.20.0.0', which is no network in CIDR notation"),
    "no name of a range": ({"cloudsql_range_name": ""}, "cloudsql_range_name is empty"),
    "many connections": ({"cloudsql_connections": 400}, "cloudsql_connections is 400, and db-custom-2-7680 lets in 400, 10 of which"),
    "few connections": ({"cloudsql_database_flags": {"max_connections": 20}}, "cloudsql_connections is 34, and db-custom-2-7680 lets in 20"),
    "a small machine": ({"cloudsql_tier": "db-f1-micro"}, "cloudsql_connections is 34, and db-f1-micro lets in 25"),
    "deletion unconfirmed": ({"cloudsql_state": "absent", "cloudsql_deletion_protection": False}, "write prefect there if this instance and its data"),
    "deletion protected": ({"cloudsql_state": "absent", "cloudsql_confirm_deletion": "prefect"}, "write false there too if the instance really shall go"),
    "another edition's tier": ({"cloudsql_tier": "db-perf-optimized-N-2"}, "the edition ENTERPRISE does not have it"),
    "days of logs": (
        {"cloudsql_backup_configuration": {"enabled": True, "transaction_log_retention_days": 14}},
        "the edition ENTERPRISE goes back 7 days at most",
    ),
    "a small disk": ({"cloudsql_data_disk_size_gb": 5}, "data_disk_size_gb is 5, which is too little"),
    "an overlapping range": ({"cloudsql_range": "10.10.0.0/16"}, "the range 'prefect-services', 10.10.0.0/16, overlaps the subnetwork prefect (10.10.0.0/20)"),
    "an unknown flag": ({"cloudsql_database_flags": {"max_connection": 200}}, "Cloud SQL has no such flag for this version"),
}


@pytest.mark.usefixtures("network")
def test_refusals(cloud, controller: Controller) -> None:
    cases = {name: ({"cloudsql_project": PROJECT, **variables}, message) for name, (variables, message) in REFUSALS.items()}
    done = controller.refusals("cloudsql", cases)
    assert done.ok, done.output
    assert f"rescued={len(REFUSALS)}" in done.output
    assert cloud.writes() == []


OTHER_ROLES = "grant them roles/compute.networkAdmin, roles/secretmanager.admin, roles/serviceusage.serviceUsageAdmin."
ONLY_CLOUD_SQL = {"bindings": [{"role": "roles/cloudsql.admin", "members": ["user:owner@example.com"]}]}


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (
            lambda cloud: cloud.policies.update({f"projects/{PROJECT}": ONLY_CLOUD_SQL}),
            OTHER_ROLES,
        ),
        (lambda cloud: cloud.revoked_tokens.add("a-token"), "renew the credentials"),
    ],
    ids=["role", "token"],
)
@pytest.mark.usefixtures("network")
def test_what_google_refuses(cloud, controller: Controller, breakage, message) -> None:
    breakage(cloud)
    refused = controller.role("cloudsql")
    assert not refused.ok
    assert message in refused.text, refused.output
    assert cloud.writes() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="the file belongs to root")
def test_a_client(controller: Controller) -> None:
    file = controller.home / "etc/cloudsql-ca.pem"
    role = {"name": "selfhost.prefect.cloudsql", "tasks_from": "client"}
    tasks = [{"name": "Apply", "ansible.builtin.include_role": role}]
    variables = {"cloudsql_server_ca": "PEM\n", "cloudsql_server_ca_file": str(file)}
    assert controller.tasks(tasks, "--check", **variables).ok
    assert not file.exists()
    assert controller.tasks(tasks, **variables).ok
    assert file.read_text() == "PEM\n"
    assert controller.tasks(tasks, **variables).changed == 0
