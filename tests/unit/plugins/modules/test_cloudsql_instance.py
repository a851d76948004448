# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloudsql_instance import flag_problem, main, tier_problem
from hypothesis import given
from hypothesis import strategies as st

COLLECTION = "/v1/projects/my-project/instances"
PATH = f"{COLLECTION}/prefect"
FLAGS = [
    {"name": "max_connections", "type": "INTEGER", "minValue": "14", "maxValue": "262143", "requiresRestart": True},
    {"name": "log_lock_waits", "type": "BOOLEAN"},
    {"name": "log_statement", "type": "STRING", "allowedStringValues": ["none", "ddl"]},
    {"name": "work_mem", "type": "INTEGER"},
]
NEW = {
    "region": "europe-west1",
    "database_version": "POSTGRES_17",
    "tier": "db-custom-2-7680",
    "private_network": "projects/my-project/global/networks/default",
}


@pytest.fixture
def run(google, run_google):
    google.fill = {
        "state": "RUNNABLE",
        "ipAddresses": [{"type": "PRIVATE", "ipAddress": "10.20.0.3"}, {"type": "PRIMARY", "ipAddress": "192.0.2.4"}],
        "serverCaCert": {"cert": "PEM"},
    }
    google.objects["/v1/flags"] = {"items": FLAGS}
    return functools.partial(run_google, main, name="prefect")


@pytest.fixture
def there(google, run):
    """An instance as Google shows it."""
    google.objects[PATH] = {
        "name": "prefect",
        "state": "RUNNABLE",
        "region": "europe-west1",
        "databaseVersion": "POSTGRES_17",
        "settings": {
            "edition": "ENTERPRISE",
            "tier": "db-custom-2-7680",
            "availabilityType": "ZONAL",
            "dataDiskType": "PD_SSD",
            "dataDiskSizeGb": "20",
            "storageAutoResize": True,
            "deletionProtectionEnabled": True,
            "backupConfiguration": {"enabled": False},
            "databaseFlags": [{"name": "max_connections", "value": "100"}],
            "ipConfiguration": {"ipv4Enabled": False, "privateNetwork": NEW["private_network"]},
        },
    }
    return google.objects[PATH]["settings"]


def test_create(google, run):
    asked = {**NEW, "backup_configuration": {"enabled": True, "retained_backups": 8}, "user_labels": {"n": 1}, "database_flags": {"log_lock_waits": True}}
    checked = run(check_mode=True, **asked)
    assert google.written() == []
    done = run(**asked)
    settings = {
        "edition": "ENTERPRISE",
        "tier": "db-custom-2-7680",
        "storageAutoResize": True,
        "deletionProtectionEnabled": True,
        "retainBackupsOnDelete": True,
        "ipConfiguration": {"ipv4Enabled": False, "sslMode": "ENCRYPTED_ONLY", "privateNetwork": NEW["private_network"]},
        "backupConfiguration": {"enabled": True, "backupRetentionSettings": {"retentionUnit": "COUNT", "retainedBackups": 8}},
        "databaseFlags": [{"name": "log_lock_waits", "value": "on"}],
        "userLabels": {"n": "1"},
    }
    body = {"name": "prefect", "region": "europe-west1", "databaseVersion": "POSTGRES_17", "settings": settings}
    assert google.written() == [(f"POST {COLLECTION}", body)]
    assert done["diff"] == checked["diff"] == {"before": {}, "after": body}
    assert (done["private_ip_address"], done["public_ip_address"], done["server_ca_cert"]) == ("10.20.0.3", "192.0.2.4", "PEM")
    assert (checked["private_ip_address"], checked["server_ca_cert"], done["restarting_changes"]) == ("", "", [])
    assert run(**asked)["changed"] is False
    assert google.reads() == [PATH]
    assert run()["changed"] is False


def test_a_disk_grows_by_itself(google, run, there):
    assert run(data_disk_size_gb=10)["changed"] is False
    assert run(data_disk_size_gb=20)["changed"] is False
    assert run(data_disk_size_gb=30, check_mode=True)["diff"]["after"]["settings"] == {"dataDiskSizeGb": 30}
    there["storageAutoResize"] = False
    assert run(data_disk_size_gb=10)["msg"] == "data_disk_size_gb: the disk has 20 GB, and cannot shrink to 10: write 20 or more."
    assert run(data_disk_size_gb=10, storage_auto_resize=True)["diff"]["after"]["settings"] == {"dataDiskSizeGb": 10, "storageAutoResize": True}
    assert google.written() == [(f"PATCH {PATH}", {"settings": {"storageAutoResize": True}})]


@pytest.mark.parametrize(
    ("change", "restarting"),
    [
        ({"tier": "db-custom-4-15360"}, ["settings.tier"]),
        ({"edition": "ENTERPRISE_PLUS", "tier": "db-perf-optimized-N-2"}, ["settings.edition", "settings.tier"]),
        (
            {"availability_type": "REGIONAL", "backup_configuration": {"enabled": True, "point_in_time_recovery_enabled": True}},
            ["settings.availabilityType", "settings.backupConfiguration.pointInTimeRecoveryEnabled"],
        ),
        ({"backup_configuration": {"enabled": True, "point_in_time_recovery_enabled": False}}, []),
        ({"private_network": "projects/my-project/global/networks/other"}, ["settings.ipConfiguration.privateNetwork"]),
        ({"insights_config": {"query_string_length": 2048}}, ["settings.insightsConfig.queryStringLength"]),
        ({"database_flags": {"max_connections": 200, "log_lock_waits": "on"}}, ["settings.databaseFlags.max_connections"]),
        ({"database_flags": {}}, ["settings.databaseFlags.max_connections"]),
        ({"database_flags": {"max_connections": 100, "log_lock_waits": "on"}}, []),
        ({"insights_config": {"query_insights_enabled": True}}, []),
        ({"ipv4_enabled": True, "authorized_networks": ["192.0.2.0/24"]}, []),
    ],
)
def test_what_restarts_the_instance_is_said_first(google, run, there, change, restarting):
    checked = run(check_mode=True, **change)
    assert checked["restarting_changes"] == restarting
    assert [warning.partition(": ")[0] for warning in google.warnings] == ([", ".join(restarting)] if restarting else [])
    if restarting:
        assert run(**change)["msg"] == (
            f"{', '.join(restarting)}: this change restarts the instance 'prefect', which breaks all connections for about a minute: "
            "run again with allow_restart: true when that suits."
        )
        assert google.written() == []
    done = run(allow_restart=True, **change)
    assert done["changed"] is True
    assert (done["diff"], done["restarting_changes"]) == (checked["diff"], restarting)
    assert [request for request, _body in google.written()] == [f"PATCH {PATH}"]


def test_delete(google, run, there):
    for check_mode in (True, False):
        message = "the instance 'prefect' is protected against deletion: add deletion_protection_enabled: false if it really shall go."
        assert run(state="absent", check_mode=check_mode)["msg"] == message
    assert run(state="absent", deletion_protection_enabled=False, check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent", deletion_protection_enabled=False)["instance"] == {}
    assert google.written() == [(f"PATCH {PATH}", {"settings": {"deletionProtectionEnabled": False}}), (f"DELETE {PATH}", None)]
    assert run(state="absent")["changed"] is False


def test_delete_what_is_not_protected(google, run, there):
    there["deletionProtectionEnabled"] = False
    assert run(state="absent")["changed"] is True
    assert google.written() == [(f"DELETE {PATH}", None)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Prefect"}, "name: 'Prefect' is no name of an instance: write lower-case letters, digits and hyphens, with a letter first."),
        ({"region": None}, "region is missing, and the instance 'prefect' does not exist yet: give what to create it with."),
        ({"database_version": None}, "database_version is missing, and the instance 'prefect' does not exist yet: give what to create it with."),
        ({"tier": None}, "tier is missing, and the instance 'prefect' does not exist yet: give what to create it with."),
        (
            {"database_version": "POSTGRES_99"},
            "value of database_version must be one of: POSTGRES_14, POSTGRES_15, POSTGRES_16, POSTGRES_17, POSTGRES_18, got: POSTGRES_99",
        ),
        (
            {"edition": "ENTERPRISE_PLUS"},
            "tier: 'db-custom-2-7680': the edition ENTERPRISE_PLUS does not have it: write such as db-perf-optimized-N-2, or choose the edition ENTERPRISE.",
        ),
        ({"data_disk_size_gb": 5}, "data_disk_size_gb is 5, which is too little: write 10 or more."),
        (
            {"data_disk_size_gb": 30, "storage_auto_resize_limit": 20},
            "storage_auto_resize_limit is 20, which is less than the 30 GB that the disk has: write more, or 0 for no limit.",
        ),
        (
            {"backup_configuration": {"transaction_log_retention_days": 14}},
            "transaction_log_retention_days is 14, and the edition ENTERPRISE goes back 7 days at most: write 1 to 7.",
        ),
        (
            {"edition": "ENTERPRISE_PLUS", "tier": "db-perf-optimized-N-2", "backup_configuration": {"transaction_log_retention_days": 36}},
            "transaction_log_retention_days is 36, and the edition ENTERPRISE_PLUS goes back 35 days at most: write 1 to 35.",
        ),
        (
            {"backup_configuration": {"enabled": False, "point_in_time_recovery_enabled": True}},
            "point_in_time_recovery_enabled is true, and backups are not enabled, which it needs: write enabled: true.",
        ),
        (
            {"availability_type": "REGIONAL"},
            "availability_type is REGIONAL, which needs backups and point-in-time recovery: enable both in backup_configuration.",
        ),
        ({"private_network": None}, "the instance would have no address: give private_network, or ipv4_enabled: true."),
        (
            {"private_network": "default"},
            "private_network is 'default', which names no project: write projects/PROJECT/global/networks/NAME.",
        ),
        (
            {"ipv4_enabled": True, "authorized_networks": ["everywhere"]},
            "authorized_networks: 'everywhere' is no network: write such as 192.0.2.0/24.",
        ),
        (
            {"maintenance_window": {"day": 0, "hour": 3}},
            "maintenance_window is no time of the week: write a day from 1 (Monday) to 7, and an hour from 0 to 23.",
        ),
        (
            {"deny_maintenance_periods": [{"start_date": "12-20", "end_date": "01-05"}, {"start_date": "05-20", "end_date": "06-05"}]},
            "deny_maintenance_periods has more than one period, which Google does not take: write one.",
        ),
        (
            {"database_flags": {"max_connection": "1"}},
            "database_flags: max_connection = '1': Cloud SQL has no such flag for this version: look at `gcloud sql flags list`.",
        ),
    ],
)
def test_refused(google, run, arguments, message):
    asked = {name: value for name, value in {**NEW, **arguments}.items() if value is not None}
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **asked)["msg"] == message
        assert google.written() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region": "us-east1"}, "the instance 'prefect' has the region europe-west1, not us-east1: correct the task, or move the data to a new instance."),
        (
            {"database_version": "POSTGRES_18"},
            "the instance 'prefect' has the databaseVersion POSTGRES_17, not POSTGRES_18: correct the task, or upgrade it in Google's console first.",
        ),
        ({"data_disk_type": "PD_HDD"}, "data_disk_type: the disk is a PD_SSD, and stays one: correct the task."),
        (
            {"edition": "ENTERPRISE_PLUS"},
            "tier: 'db-custom-2-7680': the edition ENTERPRISE_PLUS does not have it: write such as db-perf-optimized-N-2, or choose the edition ENTERPRISE.",
        ),
    ],
)
def test_refused_of_an_instance_that_is_there(google, run, there, change, message):
    for check_mode in (True, False):
        assert run(check_mode=check_mode, allow_restart=True, **change)["msg"] == message
        assert google.written() == []


def test_without_a_list_of_flags(google, run, there):
    google.objects["/v1/flags"] = {}
    done = run(database_flags={"max_connections": 200})
    assert (done["changed"], done["restarting_changes"]) == (True, [])


def test_a_name_that_is_taken(google, run):
    google.fail(f"POST {COLLECTION}", 409, "The Cloud SQL instance already exists.", errors=[{"reason": "instanceAlreadyExists"}])
    message = run(**NEW)["msg"]
    assert message.startswith("the name 'prefect' cannot be used: an instance has it, or had it until lately (POST ")
    assert message.endswith("choose another name, or wait until Google lets go of this one.")
    google.fail(f"POST {COLLECTION}", 400, "Invalid.")
    assert run(**NEW)["msg"].endswith("HTTP 400: Invalid.")


@pytest.mark.parametrize(
    ("state", "why"),
    [({"state": "FAILED"}, "FAILED (Google does not say why)"), ({"state": "SUSPENDED", "suspensionReason": ["BILLING_ISSUE"]}, "SUSPENDED (BILLING_ISSUE)")],
)
def test_an_instance_that_does_not_run(google, run, there, state, why):
    google.objects[PATH].update(state)
    message = f"the instance 'prefect' is {why}: look at its operations in Google's console, and delete a failed one."
    assert run()["msg"] == message
    assert run(check_mode=True)["changed"] is False


def test_an_instance_that_is_being_made(google, run, there, naps):
    found = google.objects[PATH]
    google.api.routes[f"GET {PATH}"] = [(200, {**found, "state": "PENDING_CREATE"}), (200, found)]
    assert run(**NEW)["changed"] is False
    assert naps == [10]


@pytest.mark.parametrize(
    ("tier", "edition", "problem"),
    [
        ("db-custom-1-3840", "ENTERPRISE", None),
        ("db-custom-96-638976", "ENTERPRISE", None),
        ("db-f1-micro", "ENTERPRISE", None),
        ("db-perf-optimized-N-2", "ENTERPRISE_PLUS", None),
        ("db-perf-optimized-N-2", "ENTERPRISE", "the edition ENTERPRISE does not have it"),
        ("db-g1-small", "ENTERPRISE_PLUS", "the edition ENTERPRISE_PLUS does not have it"),
        ("e2-medium", "ENTERPRISE", "it is no machine type of Cloud SQL"),
        ("db-custom-3-7680", "ENTERPRISE", "3 CPUs cannot be had"),
        ("db-custom-98-638976", "ENTERPRISE", "98 CPUs cannot be had"),
        ("db-custom-0-3840", "ENTERPRISE", "0 CPUs cannot be had"),
        ("db-custom-2-7681", "ENTERPRISE", "7681 MB cannot be had with 2 CPUs: write a multiple of 256 from 3840 to 13312"),
        ("db-custom-2-3584", "ENTERPRISE", "3584 MB cannot be had with 2 CPUs"),
        ("db-custom-8-7168", "ENTERPRISE", "7168 MB cannot be had with 8 CPUs: write a multiple of 256 from 7424 to 53248"),
    ],
)
def test_tiers(tier, edition, problem):
    found = tier_problem(tier, edition)
    assert found is None if problem is None else found.startswith(problem)


@given(cpus=st.integers(0, 100), memory=st.integers(0, 3000).map(lambda number: number * 256))
def test_the_remedy_for_a_tier_is_one(cpus, memory):
    problem = tier_problem(f"db-custom-{cpus}-{memory}", "ENTERPRISE")
    if problem and " to " in problem and "MB" in problem:
        least, most = problem.split(" from ")[1].split(" to ")
        assert tier_problem(f"db-custom-{cpus}-{least}", "ENTERPRISE") is None
        assert tier_problem(f"db-custom-{cpus}-{most}", "ENTERPRISE") is None


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("max_connections", "200", None),
        ("max_connections", "many", "write a whole number"),
        ("max_connections", "13", "write a number from 14 to 262143"),
        ("max_connections", "262144", "write a number from 14 to 262143"),
        ("work_mem", "-5", None),
        ("log_lock_waits", "on", None),
        ("log_lock_waits", "true", "write on or off"),
        ("log_statement", "ddl", None),
        ("log_statement", "all", "write one of none, ddl"),
        ("nothing", "1", "Cloud SQL has no such flag for this version: look at `gcloud sql flags list`"),
    ],
)
def test_flags(name, value, problem):
    assert flag_problem(next((flag for flag in FLAGS if flag["name"] == name), None), value) == problem
