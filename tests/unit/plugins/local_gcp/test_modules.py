# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules against the local Google Cloud: what they send is held to Google's API descriptions, and each goes through a life."""

from __future__ import annotations

import functools
import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import (
    cloud_nat,
    cloud_run_domain_mapping,
    cloud_run_service,
    cloudsql_database,
    cloudsql_instance,
    cloudsql_user,
    iam_binding,
    project_permissions_info,
    project_services,
    secret_manager_secret,
    service_networking_connection,
)
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

NETWORK = "projects/example-project/global/networks/default"
ACCOUNT = "prefect-proxy@example-project.iam.gserviceaccount.com"
INSTANCE: dict[str, t.Any] = {
    "name": "prefect",
    "region": "us-central1",
    "database_version": "POSTGRES_17",
    "tier": "db-custom-2-7680",
    "availability_type": "ZONAL",
    "data_disk_type": "PD_SSD",
    "data_disk_size_gb": 10,
    "private_network": NETWORK,
    "allocated_ip_range": "default-services",
    "backup_configuration": {
        "enabled": True,
        "start_time": "02:00",
        "retained_backups": 7,
        "point_in_time_recovery_enabled": True,
        "transaction_log_retention_days": 7,
    },
    "maintenance_window": {"day": 7, "hour": 3},
    "deny_maintenance_periods": [{"start_date": "12-20", "end_date": "01-05"}],
    "insights_config": {"query_insights_enabled": True, "query_string_length": 1024},
    "database_flags": {"max_connections": 200, "log_lock_waits": True},
    "password_validation_policy": {"enable_password_policy": True, "min_length": 12},
    "user_labels": {"app": "prefect"},
}


def writes(cloud):
    """What changed something; a dry run does not."""
    return [f"{request['method']} {request['path']}" for request in cloud.requests if request["writes"] and "dryRun=all" not in request["query"]]


@pytest.fixture
def cloud(naps):
    with LocalCloud() as cloud:
        yield cloud
    assert cloud.mistakes == []


@pytest.fixture
def run(cloud, run_module, monkeypatch):
    for name, value in cloud.endpoint_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", f"{cloud.url}/compute.googleapis.com/compute/v1/")

    def call(module, check_mode=False, **arguments):
        cloud.requests.clear()
        return run_module(module.main, check_mode, project="example-project", auth_kind="accesstoken", access_token="not-a-real-token", **arguments)

    return call


@pytest.fixture
def apply(cloud, run):
    """Run a module until nothing is left to do; check mode has to foretell the first run, and to write nothing."""

    def call(module, reads=None, **arguments):
        foretold = run(module, check_mode=True, **arguments)
        assert "msg" not in foretold, foretold["msg"]
        assert writes(cloud) == []
        done = run(module, **arguments)
        assert "msg" not in done, done["msg"]
        written = writes(cloud)
        assert (done["changed"], done["diff"]) == (foretold["changed"], foretold["diff"])
        again = run(module, **arguments)
        assert again["changed"] is False, again["diff"]
        assert writes(cloud) == []
        if reads is not None:
            assert len(cloud.requests) == reads, cloud.requests
        return {**done, "writes": written}

    return call


@pytest.fixture
def instance(cloud, apply):
    cloud.make_network(peered=True)
    return functools.partial(apply, cloudsql_instance, reads=1, **INSTANCE)


def test_an_instance(cloud, instance, run, apply):
    made = instance()
    assert made["private_ip_address"].startswith("10.")
    assert made["public_ip_address"] == ""
    assert made["server_ca_cert"].startswith("-----BEGIN CERTIFICATE-----")
    settings = made["instance"]["settings"]
    assert (settings["edition"], settings["deletionProtectionEnabled"], settings["ipConfiguration"]["sslMode"]) == ("ENTERPRISE", True, "ENCRYPTED_ONLY")

    # What the task does not say stays.
    changed = apply(cloudsql_instance, name="prefect", maintenance_window={"day": 1, "hour": 4}, user_labels={"team": "data"})
    assert changed["diff"]["before"]["settings"] == {"maintenanceWindow": {"day": 7, "hour": 3, "updateTrack": "stable"}, "userLabels": {}}
    assert changed["instance"]["settings"]["userLabels"] == {"app": "prefect", "team": "data"}

    refused = run(cloudsql_instance, **{**INSTANCE, "tier": "db-custom-4-15360"})
    assert refused["msg"].startswith("settings.tier: this change restarts the instance 'prefect'")
    assert writes(cloud) == []
    flags = {"name": "prefect", "database_flags": {"max_connections": 300}, "allow_restart": True}
    assert apply(cloudsql_instance, **flags)["restarting_changes"] == ["settings.databaseFlags.max_connections"]

    assert "is protected against deletion" in run(cloudsql_instance, name="prefect", state="absent")["msg"]
    apply(cloudsql_instance, name="prefect", state="absent", deletion_protection_enabled=False)
    cloud.reserved_name_seconds = 60
    reserved = run(cloudsql_instance, **INSTANCE)
    assert reserved["msg"].endswith("choose another name, or wait until Google lets go of this one.")


def test_a_disk_that_has_grown(cloud, instance):
    instance()
    cloud.ask("PATCH", "sqladmin/v1/projects/example-project/instances/prefect", {"settings": {"dataDiskSizeGb": "50"}})
    assert instance()["changed"] is False


def test_drift_by_hand(cloud, instance):
    instance()
    cloud.ask("PATCH", "sqladmin/v1/projects/example-project/instances/prefect", {"settings": {"tier": "db-custom-4-15360", "databaseFlags": []}})
    mended = instance(allow_restart=True)
    assert mended["diff"]["before"]["settings"]["tier"] == "db-custom-4-15360"
    assert mended["diff"]["after"]["settings"]["tier"] == "db-custom-2-7680"
    assert mended["restarting_changes"] == ["settings.tier", "settings.databaseFlags.max_connections"]


def test_a_run_that_was_interrupted(cloud, instance):
    body = {"name": "prefect", "region": "us-central1", "databaseVersion": "POSTGRES_17"}
    settings = {"tier": "db-custom-2-7680", "edition": "ENTERPRISE", "ipConfiguration": {"ipv4Enabled": False, "privateNetwork": NETWORK}}
    cloud.operation_polls = 5
    cloud.answer(
        "POST",
        "sqladmin.googleapis.com",
        "/v1/projects/example-project/instances",
        {"Authorization": "Bearer owner"},
        json_bytes({**body, "settings": settings}),
    )
    assert instance(allow_restart=True)["changed"] is True


def json_bytes(value: t.Any) -> bytes:
    import json

    return json.dumps(value).encode()


def test_a_database_and_users(cloud, instance, apply):
    instance(database_flags={"cloudsql.iam_authentication": True})
    at = {"instance": "prefect"}
    apply(cloudsql_database, reads=1, name="prefect-db", charset="UTF8", **at)
    made = apply(cloudsql_user, reads=1, name="prefect", password="made-up-Password-1", **at)
    assert "made-up-Password-1" not in made["_output"]
    apply(cloudsql_user, name="prefect-server@example-project.iam", type="CLOUD_IAM_SERVICE_ACCOUNT", **at)
    for name in ("prefect", "prefect-server@example-project.iam"):
        apply(cloudsql_user, name=name, state="absent", **at)
    apply(cloudsql_database, name="prefect-db", state="absent", **at)


def test_private_services_access(cloud, run, apply):
    cloud.make_network()
    at = {"network": "default"}
    overlap = {"ranges": [{"name": "services", "address": "10.10.0.0", "prefix_length": 16}], **at}
    for check_mode in (True, False):
        assert "overlaps the subnetwork default (10.10.0.0/20)" in run(service_networking_connection, check_mode=check_mode, **overlap)["msg"]
        assert writes(cloud) == []
    made = apply(service_networking_connection, reads=3, ranges=[{"name": "services", "address": "10.20.0.0", "prefix_length": 20}], **at)
    assert made["ranges"] == {"services": "10.20.0.0/20"}
    more = apply(service_networking_connection, ranges=[{"name": "more"}], **at)
    assert more["connection"]["reservedPeeringRanges"] == ["services", "more"]
    apply(service_networking_connection, ranges=[{"name": "services"}, {"name": "more"}], state="absent", **at)


def test_googles_own_account_gets_its_role_late(cloud, run):
    cloud.make_network()
    ranges = [{"name": "services", "address": "10.20.0.0", "prefix_length": 20}]
    cloud.fail_operation("servicenetworking.services.connections.create", 7, "Required 'compute.globalAddresses.list' permission for 'projects/1'", times=20)
    assert "grant roles/servicenetworking.serviceAgent" in run(service_networking_connection, network="default", ranges=ranges)["msg"]
    del cloud.failing_operations[2:]
    assert run(service_networking_connection, network="default", ranges=ranges)["changed"] is True
    assert cloud.failing_operations == []
    assert run(service_networking_connection, network="default", ranges=ranges)["changed"] is False


def test_whose_quota_it_is(cloud, run):
    cloud.make_network()
    cloud.tokens["not-a-real-token"] = "networks@example.com"
    cloud.grants["networks@example.com"] = ["roles/compute.networkAdmin", "resourcemanager.projects.get"]
    arguments = {"network": "default", "ranges": [{"name": "services"}]}
    refused = run(service_networking_connection, **arguments)["msg"]
    assert refused.endswith("grant roles/serviceusage.serviceUsageConsumer in example-project to the account in use.")
    cloud.grants["networks@example.com"] += ["serviceusage.services.use"]
    assert run(service_networking_connection, **arguments)["changed"] is True


def test_a_secret(cloud, apply):
    member = f"serviceAccount:{ACCOUNT}"
    cloud.ask("POST", "iam/v1/projects/example-project/serviceAccounts", {"accountId": "prefect-proxy"})
    made = apply(secret_manager_secret, reads=3, name="password", generate=True, accessors=[member], labels={"app": "prefect"})
    assert made["version"] == "1"
    assert len(made["writes"]) == 3
    apply(secret_manager_secret, name="nginx", value="one", replica_locations=["us-central1", "us-east1"])
    for value in ("two", "three"):
        made = apply(secret_manager_secret, name="nginx", value=value, keep_versions=2, replica_locations=["us-east1", "us-central1"])
    assert made["version"] == "3"
    assert made["writes"][-1].endswith("/versions/1:destroy")
    assert apply(secret_manager_secret, name="password", labels={"team": "data"})["secret"]["labels"] == {"app": "prefect", "team": "data"}
    apply(secret_manager_secret, name="password", state="absent")


def test_a_secret_that_somebody_has_disabled(cloud, run, apply):
    apply(secret_manager_secret, name="password", generate=True)
    version = "secretmanager/v1/projects/example-project/secrets/password/versions/1"
    cloud.ask("POST", f"{version}:disable", {})
    assert run(secret_manager_secret, name="password", generate=True)["msg"].startswith("the latest version of the secret 'password', 1, is disabled")
    assert writes(cloud) == []
    cloud.ask("POST", f"{version}:enable", {})
    assert apply(secret_manager_secret, name="password", generate=True)["changed"] is False
    cloud.ask("POST", f"{version}:destroy", {})
    assert apply(secret_manager_secret, name="password", generate=True)["version"] == "2"


@pytest.fixture
def proxy(cloud, apply):
    cloud.make_network()
    cloud.ask("POST", "iam/v1/projects/example-project/serviceAccounts", {"accountId": "prefect-proxy"})
    apply(secret_manager_secret, name="nginx", value="server {}", accessors=[f"serviceAccount:{ACCOUNT}"])
    return {
        "name": "prefect-proxy",
        "region": "us-central1",
        "image": "nginx:1.28-alpine",
        "env": {"B": 1, "A": "x"},
        "secret_env": [{"name": "AB", "secret": "nginx", "version": "1"}],
        "secret_volumes": [{"name": "nginx", "mount_path": "/etc/nginx/conf.d", "secret": "nginx", "items": [{"path": "default.conf", "version": "1"}]}],
        "startup_probe": {"path": "/api/health", "timeout_seconds": 5, "failure_threshold": 18},
        "liveness_probe": {"path": "/nginx-health", "period_seconds": 30, "timeout_seconds": 5},
        "min_instance_count": 1,
        "max_instance_count": 3,
        "max_instance_request_concurrency": 1000,
        "request_timeout": 3600,
        "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
        "service_account": ACCOUNT,
        "network": "default",
        "subnetwork": "default",
        "network_tags": ["prefect-proxy"],
        "ingress": "INGRESS_TRAFFIC_ALL",
        "invoker_iam_disabled": True,
        "labels": {"app": "prefect"},
    }


def test_a_service_of_cloud_run(cloud, run, apply, proxy):
    made = apply(cloud_run_service, reads=1, **proxy)
    assert made["uri"].endswith(".run.app")
    first = made["revision"]

    # A template without what somebody added by hand, and a new revision for it.
    changed = apply(cloud_run_service, **{**proxy, "env": {}, "liveness_probe": None, "image": "nginx:1.29-alpine"})
    (container,) = changed["service"]["template"]["containers"]
    assert "livenessProbe" not in container
    assert [item["name"] for item in container["env"]] == ["AB"]
    assert changed["service"]["template"]["timeout"] == "3600s"
    assert changed["revision"] != first

    back = apply(cloud_run_service, **{**proxy, "env": {}, "liveness_probe": None, "image": "nginx:1.29-alpine", "traffic_revision": first})
    assert back["diff"]["after"]["traffic"][0]["revision"] == first
    assert len(back["writes"]) == 1

    assert apply(cloud_run_service, **proxy, invokers=["user:a@example.com"])["diff"]["after"]["roles/run.invoker"] == ["user:a@example.com"]

    cloud.verified_domains.add("example.com")
    at = {"region": "us-central1", "name": "prefect.example.com"}
    mapping = apply(cloud_run_domain_mapping, reads=1, service="prefect-proxy", **at)
    assert mapping["ready"] is True
    assert mapping["resource_records"] == [{"name": "prefect", "type": "CNAME", "rrdata": "ghs.googlehosted.com."}]
    apply(cloud_run_domain_mapping, state="absent", **at)
    refused = run(cloud_run_domain_mapping, service="prefect-proxy", region="us-central1", name="prefect.example.org")
    assert refused["msg"].startswith("the domain prefect.example.org is not verified as this account's")
    apply(cloud_run_service, name="prefect-proxy", region="us-central1", state="absent")


def test_a_service_that_failed_for_a_passing_reason(cloud, run, apply, proxy):
    cloud.fail_operation("run.projects.locations.services.*", 9, "Revision 'x' is not ready and cannot serve traffic.", times=2)
    for _time in range(2):
        assert run(cloud_run_service, **proxy)["msg"] == "run: Revision 'x' is not ready and cannot serve traffic."
    mended = apply(cloud_run_service, **proxy)
    assert mended["diff"]["before"]["terminalCondition"] == {"state": "CONDITION_FAILED"}
    assert mended["service"]["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert mended["revision"].startswith("prefect-proxy-00003")


def test_a_service_that_refers_to_nothing(cloud, run, proxy):
    lacking = {**proxy, "subnetwork": "none", "secret_env": [{"name": "A_B", "secret": "nginx", "version": "9"}], "service_account": "no" + ACCOUNT}
    refused = run(cloud_run_service, **lacking)["msg"]
    assert writes(cloud) == []
    assert refused == (
        "subnetwork: none does not exist in the region us-central1: create it first, or correct the region. "
        "the secret nginx has no version 9: add it first, or correct its name. "
        f"service_account: no{ACCOUNT} does not exist: create it first."
    )
    assert run(cloud_run_service, check_mode=True, **lacking)["changed"] is True
    assert writes(cloud) == []


def test_a_way_out(cloud, apply):
    cloud.make_network()
    at = {"region": "us-central1", "router": "prefect", "network": "default"}
    apply(cloud_nat, reads=1, name="prefect", **at)
    apply(cloud_nat, name="other", subnetworks=["default"], **at)
    changed = apply(cloud_nat, name="prefect", min_ports_per_vm=128, log_filter="NONE", **at)
    assert changed["nat"]["minPortsPerVm"] == 128
    assert apply(cloud_nat, name="prefect", state="absent", **at)["writes"][0].startswith("PATCH")
    assert apply(cloud_nat, name="other", state="absent", **at)["writes"][0].startswith("DELETE")


def test_roles(cloud, apply):
    cloud.ask("POST", "iam/v1/projects/example-project/serviceAccounts", {"accountId": "prefect-proxy"})
    member = f"serviceAccount:{ACCOUNT}"
    apply(iam_binding, reads=1, roles=["roles/logging.logWriter", "roles/monitoring.metricWriter"], members=[member])
    on = {"resource": f"projects/example-project/serviceAccounts/{ACCOUNT}", "roles": ["roles/iam.serviceAccountUser"]}
    apply(iam_binding, members=["user:a@example.com", "user:b@example.com"], **on)
    assert apply(iam_binding, members=["user:a@example.com"], state="exclusive", **on)["members"] == {"roles/iam.serviceAccountUser": ["user:a@example.com"]}
    assert apply(iam_binding, members=["user:a@example.com"], state="absent", **on)["members"] == {"roles/iam.serviceAccountUser": []}


def test_a_new_account_is_not_known_at_once(cloud, run):
    cloud.stale_reads = 2
    cloud.ask("POST", "iam/v1/projects/example-project/serviceAccounts", {"accountId": "prefect-proxy"})
    cloud.stale_reads = 0
    granted = run(iam_binding, roles=["roles/logging.logWriter"], members=[f"serviceAccount:{ACCOUNT}"])
    assert granted["changed"] is True
    assert [request["status"] for request in cloud.requests if request["writes"]] == [400, 400, 200]


def test_the_first_day_of_a_project(cloud, run):
    cloud.enabled.clear()
    cloud.enabled["serviceusage"] = True
    cloud.spreading_calls = 2
    roles = {"roles": ["roles/logging.logWriter"], "members": ["user:a@example.com"]}
    services = [f"{name}.googleapis.com" for name in ("cloudresourcemanager", "compute", "iam", "run", "secretmanager", "servicenetworking", "sqladmin")]
    for module, arguments in ((project_services, {"services": services}), (iam_binding, roles)):
        assert run(module, check_mode=True, **arguments)["changed"] is True
        assert writes(cloud) == []
    assert run(project_services, services=services)["enabled"] == services
    assert len([request for request in cloud.requests if request["status"] == 403 and request["method"] == "GET"]) == 2 * len(services)
    assert 501 not in [request["status"] for request in cloud.requests]
    assert run(iam_binding, **roles)["changed"] is True


def test_a_project(cloud, run, apply):
    cloud.enabled.pop("sqladmin")
    services = ["sqladmin.googleapis.com", "run.googleapis.com"]
    assert apply(project_services, reads=1, services=services)["enabled"] == ["sqladmin.googleapis.com"]
    assert "sqladmin" in cloud.enabled
    assert "Not found or permission denied" in run(project_services, services=["nothing.googleapis.com"])["msg"]

    cloud.grants["viewer@example.com"] = ["roles/cloudsql.viewer"]
    cloud.tokens["not-a-real-token"] = "viewer@example.com"
    wanted = ["cloudsql.instances.get", "cloudsql.instances.create"]
    assert run(project_permissions_info, permissions=wanted)["missing"] == ["cloudsql.instances.create"]
    assert "roles/cloudsql.admin" in run(cloudsql_instance, **{**INSTANCE, "private_network": None, "allocated_ip_range": None, "ipv4_enabled": True})["msg"]


def test_a_dry_run_of_an_empty_project(cloud, run, proxy):
    """Nothing is there, and no API is enabled: each module foretells what it would do."""
    at = {"check_mode": True}
    for api in ("sqladmin", "servicenetworking", "compute"):
        cloud.enabled.pop(api)
    tasks: list[tuple[t.Any, dict[str, t.Any]]] = [
        (service_networking_connection, {"network": "new", "ranges": [{"name": "services", "address": "10.20.0.0"}]}),
        (cloudsql_instance, INSTANCE),
        (cloudsql_database, {"instance": "prefect", "name": "prefect-db"}),
        (cloudsql_user, {"instance": "prefect", "name": "prefect", "password": "made-up"}),
        (secret_manager_secret, {"name": "new", "generate": True, "accessors": ["user:a@example.com"], "keep_versions": 3}),
        (cloud_nat, {"name": "nat", "router": "nat", "network": "new", "region": "us-central1"}),
        (cloud_run_service, {**proxy, "invokers": ["user:a@example.com"]}),
    ]
    for module, arguments in tasks:
        result = run(module, **at, **arguments)
        assert result.get("changed") is True, result
        assert writes(cloud) == []
