# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud SQL: what is refused, and what becomes of an instance."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud
from cryptography import x509

from .conftest import PROJECT, REGION, Google

NETWORK = f"projects/{PROJECT}/global/networks/default"
Json = dict[str, t.Any]
MONTH_OF_LOGS = {"enabled": True, "pointInTimeRecoveryEnabled": True, "transactionLogRetentionDays": 35, "backupRetentionSettings": {"retainedBackups": 35}}


def body(version: str = "POSTGRES_17", **settings: t.Any) -> Json:
    addresses = {"ipv4Enabled": False, "privateNetwork": NETWORK}
    return {"name": "db", "region": REGION, "databaseVersion": version,
            "settings": {"tier": "db-custom-2-7680", "edition": "ENTERPRISE", "ipConfiguration": addresses, **settings}}  # fmt: skip


@pytest.fixture
def sql(cloud: LocalCloud, google: Google) -> t.Any:
    cloud.make_network(peered=True)
    return google("sqladmin.v1")


@pytest.fixture
def instance(sql: t.Any, google: Google) -> Json:
    google.sql(sql.instances().insert(project=PROJECT, body=body()))
    return t.cast("Json", sql.instances().get(project=PROJECT, instance="db").execute())


def patch(sql: t.Any, **settings: t.Any) -> t.Any:
    return sql.instances().patch(project=PROJECT, instance="db", body={"settings": settings})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        # Without an edition PostgreSQL 16 and newer are of Enterprise Plus, which has no custom machine types.
        ({"edition": None}, r"Invalid Tier \(db-custom-2-7680\) for \(ENTERPRISE_PLUS\) Edition"),
        ({"edition": "ENTERPRISE_PLUS"}, r"Invalid Tier \(db-custom-2-7680\) for \(ENTERPRISE_PLUS\) Edition"),
        ({"tier": "db-perf-optimized-N-2"}, r"Invalid Tier \(db-perf-optimized-N-2\) for \(ENTERPRISE\) Edition"),
        ({"tier": None}, "Missing parameter: tier"),
        ({"tier": "db-n1-standard-1"}, "Invalid Tier"),
        ({"tier": "db-custom-3-7680"}, "1 or an even number"),
        ({"tier": "db-custom-98-98304"}, "1 or an even number"),
        ({"tier": "db-custom-2-7681"}, "multiple of 256 MB"),
        ({"tier": "db-custom-1-3584"}, "at least 3840 MB"),
        ({"tier": "db-custom-2-16384"}, "6.5 GB for each vCPU"),
        ({"tier": "db-custom-16-7680"}, "0.9 to 6.5 GB"),
        ({"dataDiskSizeGb": "9"}, "from 10 GB to 65536 GB"),
        ({"dataDiskSizeGb": "50", "storageAutoResizeLimit": "40"}, "must not be below"),
        ({"backupConfiguration": {"enabled": True, "transactionLogRetentionDays": 8}}, "from 1 to 7 for the edition ENTERPRISE"),
        ({"backupConfiguration": {"enabled": True, "transactionLogRetentionDays": 0}}, "from 1 to 7"),
        ({"backupConfiguration": {"pointInTimeRecoveryEnabled": True}}, "automated backups are disabled"),
        ({"backupConfiguration": {"enabled": True, "startTime": "25:00"}}, "Invalid backup start time"),
        ({"backupConfiguration": {"enabled": True, "backupRetentionSettings": {"retainedBackups": 366}}}, "from 1 to 365"),
        (
            {"backupConfiguration": {"enabled": True, "pointInTimeRecoveryEnabled": True, "backupRetentionSettings": {"retainedBackups": 3}}},
            "must not be below the days",
        ),
        ({"availabilityType": "REGIONAL"}, "must be enabled for a regional instance"),
        ({"databaseFlags": [{"name": "max_conections", "value": "100"}]}, "Invalid flag name: max_conections"),
        ({"databaseFlags": [{"name": "max_connections", "value": "5"}]}, "Invalid flag value for max_connections: 5"),
        ({"databaseFlags": [{"name": "max_connections", "value": "many"}]}, "Invalid flag value"),
        ({"databaseFlags": [{"name": "log_connections", "value": "yes"}]}, "Invalid flag value"),
        ({"databaseFlags": [{"name": "log_connections", "value": "on"}] * 2}, "more than once"),
        ({"maintenanceWindow": {"day": 8, "hour": 3}}, "the.*day must be from 1 to 7|day must be from 1 to 7"),
        ({"maintenanceWindow": {"day": 7, "hour": 24}}, "hour from 0 to 23"),
        ({"denyMaintenancePeriods": [{"startDate": "2027-01-01", "endDate": "2027-06-01", "time": "00:00:00"}]}, "1 to 90 days"),
        ({"denyMaintenancePeriods": [{"startDate": "2027-01-01", "endDate": "2027-01-05"}] * 2}, "Only one deny maintenance period"),
        ({"userLabels": {"Team": "data"}}, "Invalid user label"),
        ({"ipConfiguration": {"ipv4Enabled": False}}, "At least one of Public IP or Private IP"),
        ({"ipConfiguration": {"ipv4Enabled": False, "privateNetwork": f"projects/{PROJECT}/global/networks/none"}}, "NETWORK_NOT_FOUND"),
        ({"ipConfiguration": {"ipv4Enabled": False, "privateNetwork": NETWORK, "allocatedIpRange": "other"}}, "allocated IP range other is not one"),
    ],
)
def test_settings_that_are_refused(sql: t.Any, google: Google, change: Json, text: str) -> None:
    wanted = body(**{name: value for name, value in change.items() if value is not None})
    for name in [name for name, value in change.items() if value is None]:
        del wanted["settings"][name]
    google.refused(sql.instances().insert(project=PROJECT, body=wanted), 400, text)
    assert "items" not in sql.instances().list(project=PROJECT).execute()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "Db"}, "Invalid instance name"),
        ({"name": "d" * 98}, "Invalid instance name"),
        ({"databaseVersion": "MYSQL_8_0"}, "PostgreSQL only"),
        ({"databaseVersion": "POSTGRES_9_6", "settings": {"tier": "db-perf-optimized-N-2", "edition": "ENTERPRISE_PLUS"}}, "not supported by the edition"),
    ],
)
def test_instances_that_are_refused(sql: t.Any, google: Google, change: Json, text: str) -> None:
    google.refused(sql.instances().insert(project=PROJECT, body={**body(), **change}), 400, text)


@pytest.mark.parametrize(
    ("version", "settings"),
    [
        ("POSTGRES_17", {"tier": "db-perf-optimized-N-2", "edition": "ENTERPRISE_PLUS", "backupConfiguration": MONTH_OF_LOGS}),
        ("POSTGRES_15", {"tier": "db-f1-micro"}),
        ("POSTGRES_16", {"tier": "db-custom-1-3840", "databaseFlags": [{"name": "random_page_cost", "value": "1.1"}]}),
        ("POSTGRES_17", {"availabilityType": "REGIONAL", "backupConfiguration": {"enabled": True, "pointInTimeRecoveryEnabled": True}}),
        ("POSTGRES_17", {"denyMaintenancePeriods": [{"startDate": "2027-12-15", "endDate": "2028-01-05", "time": "00:00:00"}]}),
    ],
)  # fmt: skip
def test_settings_that_are_taken(sql: t.Any, google: Google, version: str, settings: Json) -> None:
    assert "error" not in google.sql(sql.instances().insert(project=PROJECT, body=body(version, **settings)))


def test_the_edition_follows_the_version(sql: t.Any, google: Google) -> None:
    old = body("POSTGRES_15")
    del old["settings"]["edition"]
    google.sql(sql.instances().insert(project=PROJECT, body=old))
    assert sql.instances().get(project=PROJECT, instance="db").execute()["settings"]["edition"] == "ENTERPRISE"


def test_backups_of_each_edition(sql: t.Any, google: Google) -> None:
    google.sql(sql.instances().insert(project=PROJECT, body=body()))
    google.sql(sql.instances().insert(project=PROJECT, body={**body(tier="db-perf-optimized-N-2", edition="ENTERPRISE_PLUS"), "name": "plus"}))
    found = [sql.instances().get(project=PROJECT, instance=name).execute()["settings"]["backupConfiguration"] for name in ("db", "plus")]
    assert [one["pointInTimeRecoveryEnabled"] for one in found] == [False, True]
    assert [one["backupRetentionSettings"]["retainedBackups"] for one in found] == [7, 15]


def test_a_private_instance_needs_the_peering(cloud: LocalCloud, google: Google) -> None:
    cloud.make_network(peered=False)
    insert = google("sqladmin.v1").instances().insert(project=PROJECT, body=body())
    google.refused(insert, 400, "example-project:db:NETWORK_NOT_PEERED")
    cloud.enabled.pop("servicenetworking")
    google.refused(insert, 400, "SERVICE_NETWORKING_NOT_ENABLED")


def test_what_an_instance_says_of_itself(sql: t.Any, google: Google) -> None:
    operation = sql.instances().insert(project=PROJECT, body=body()).execute()
    assert (operation["status"], operation["operationType"], operation["targetId"]) == ("PENDING", "CREATE", "db")
    pending = sql.instances().get(project=PROJECT, instance="db").execute()
    assert pending["state"] == "PENDING_CREATE"
    assert "ipAddresses" not in pending
    instance = sql.instances().get(project=PROJECT, instance="db").execute()
    assert instance["state"] == "RUNNABLE"
    assert instance["ipAddresses"] == [{"type": "PRIVATE", "ipAddress": "10.64.0.3"}]
    assert instance["connectionName"] == f"{PROJECT}:{REGION}:db"
    assert instance["settings"]["dataDiskSizeGb"] == "10"
    assert instance["settings"]["settingsVersion"] == "1"
    certificate = x509.load_pem_x509_certificate(instance["serverCaCert"]["cert"].encode())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert sql.instances().listServerCas(project=PROJECT, instance="db").execute()["certs"] == [instance["serverCaCert"]]


def test_the_next_instance_has_the_next_address(sql: t.Any, google: Google, instance: Json) -> None:
    google.sql(sql.instances().insert(project=PROJECT, body={**body(), "name": "second"}))
    assert sql.instances().get(project=PROJECT, instance="second").execute()["ipAddresses"][0]["ipAddress"] == "10.64.0.4"


def test_one_operation_at_a_time(cloud: LocalCloud, sql: t.Any, google: Google, instance: Json) -> None:
    cloud.operation_polls = 5
    patch(sql, tier="db-custom-4-15360").execute()
    error = google.refused(patch(sql, tier="db-custom-4-15360"), 409, "another operation was already in progress")
    assert error["errors"][0]["reason"] == "operationInProgress"
    google.refused(sql.databases().insert(project=PROJECT, instance="db", body={"name": "x"}), 409)


def test_a_patch_merges_messages_and_replaces_lists(sql: t.Any, google: Google, instance: Json) -> None:
    google.sql(patch(sql, databaseFlags=[{"name": "log_connections", "value": "on"}, {"name": "max_connections", "value": "200"}]))
    google.sql(patch(sql, databaseFlags=[{"name": "max_connections", "value": "300"}], backupConfiguration={"enabled": True}))
    settings = sql.instances().get(project=PROJECT, instance="db").execute()["settings"]
    assert settings["databaseFlags"] == [{"name": "max_connections", "value": "300"}]
    assert (settings["backupConfiguration"]["enabled"], settings["backupConfiguration"]["startTime"]) == (True, "20:00")
    assert settings["tier"] == "db-custom-2-7680"
    assert settings["settingsVersion"] == "3"


def test_an_update_replaces_the_settings(sql: t.Any, google: Google, instance: Json) -> None:
    google.sql(patch(sql, userLabels={"a": "b"}))
    wanted = copy.deepcopy(body()["settings"])
    google.sql(sql.instances().update(project=PROJECT, instance="db", body={"settings": wanted}))
    assert "userLabels" not in sql.instances().get(project=PROJECT, instance="db").execute()["settings"]
    google.refused(sql.instances().update(project=PROJECT, instance="db", body={}), 400, "Missing parameter: settings")


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"settings": {"dataDiskSizeGb": "10"}}, 400, "cannot be decreased: it is 20 GB and 10 GB"),
        ({"settings": {"dataDiskType": "PD_HDD"}}, 400, "disk type"),
        ({"settings": {"ipConfiguration": {"privateNetwork": None, "ipv4Enabled": True}}}, 400, "cannot be changed or removed"),
        ({"settings": {"settingsVersion": "7"}}, 412, "settingsVersion is out of date"),
        ({"settings": {"edition": "ENTERPRISE_PLUS"}}, 400, "Invalid Tier"),
        ({"region": "us-east1"}, 400, "The region of an instance cannot be changed"),
        ({"databaseVersion": "POSTGRES_16"}, 400, "cannot be changed from POSTGRES_17 to POSTGRES_16"),
    ],
)
@pytest.mark.usefixtures("instance")
def test_changes_that_are_refused(sql: t.Any, google: Google, change: Json, code: int, text: str) -> None:
    google.sql(patch(sql, dataDiskSizeGb="20"))
    google.refused(sql.instances().patch(project=PROJECT, instance="db", body=change), code, text)


def test_if_match(sql: t.Any, google: Google, instance: Json) -> None:
    request = patch(sql, tier="db-custom-4-15360")
    request.headers["If-Match"] = "other"
    google.refused(request, 412, "Precondition")
    request.headers["If-Match"] = instance["etag"]
    google.sql(request)


def test_deletion(cloud: LocalCloud, sql: t.Any, google: Google, instance: Json) -> None:
    delete = sql.instances().delete(project=PROJECT, instance="db")
    google.sql(patch(sql, deletionProtectionEnabled=True))
    google.refused(delete, 400, "The instance is protected")
    google.sql(patch(sql, deletionProtectionEnabled=False))
    google.sql(delete)
    error = google.refused(sql.instances().get(project=PROJECT, instance="db"), 404, "does not exist")
    assert error["errors"][0]["reason"] == "instanceDoesNotExist"
    insert = sql.instances().insert(project=PROJECT, body=body())
    cloud.reserved_name_seconds = 60
    google.refused(insert, 409, "until one week from the deletion date")
    cloud.reserved_name_seconds = 0
    google.sql(insert)
    google.refused(insert, 409, "already exists")


def test_databases(sql: t.Any, google: Google, instance: Json) -> None:
    databases = sql.databases()
    google.sql(databases.insert(project=PROJECT, instance="db", body={"name": "prefect-db"}))
    assert databases.get(project=PROJECT, instance="db", database="prefect-db").execute()["charset"] == "UTF8"
    assert [one["name"] for one in databases.list(project=PROJECT, instance="db").execute()["items"]] == ["postgres", "prefect-db"]
    google.refused(databases.insert(project=PROJECT, instance="db", body={"name": "prefect-db"}), 400, 'pq: database "prefect-db" already exists')
    google.refused(databases.insert(project=PROJECT, instance="db", body={}), 400, "name")
    google.refused(databases.insert(project=PROJECT, instance="db", body={"name": "x", "charset": "EBCDIC"}), 400, "not a valid encoding")
    google.refused(databases.patch(project=PROJECT, instance="db", database="prefect-db", body={"charset": "LATIN1"}), 400, "cannot be changed")
    google.refused(databases.delete(project=PROJECT, instance="db", database="postgres"), 400, "system database")
    google.sql(databases.delete(project=PROJECT, instance="db", database="prefect-db"))
    google.refused(databases.get(project=PROJECT, instance="db", database="prefect-db"), 404)


def test_users(cloud: LocalCloud, sql: t.Any, google: Google, instance: Json) -> None:
    users = sql.users()
    google.sql(users.insert(project=PROJECT, instance="db", body={"name": "prefect", "password": "a made-up one"}))
    found = users.list(project=PROJECT, instance="db").execute()["items"]
    assert [(user["name"], user["host"]) for user in found] == [("postgres", ""), ("prefect", "")]
    assert "password" not in str(found)
    google.refused(users.insert(project=PROJECT, instance="db", body={"name": "prefect", "password": "x"}), 400, 'role "prefect" already exists')
    google.refused(users.insert(project=PROJECT, instance="db", body={"name": "cloudsqladmin"}), 400, "reserved")
    google.refused(users.insert(project=PROJECT, instance="db", body={}), 400, "name")
    google.sql(users.update(project=PROJECT, instance="db", name="prefect", body={"password": "another"}))
    assert cloud.state.resources[f"sql/projects/{PROJECT}/instances/db/users/prefect"]["_password"] == "another"
    google.sql(users.update(project=PROJECT, instance="db", name="prefect", body={}, databaseRoles=["reader"]))
    assert users.get(project=PROJECT, instance="db", name="prefect").execute()["databaseRoles"] == ["reader"]
    google.refused(users.update(project=PROJECT, instance="db", name="nobody", body={}), 404)
    google.sql(users.delete(project=PROJECT, instance="db", name="prefect"))
    google.refused(users.get(project=PROJECT, instance="db", name="prefect"), 404)


def test_users_that_sign_in_by_iam(sql: t.Any, google: Google, instance: Json) -> None:
    def insert(name: str, kind: str = "CLOUD_IAM_SERVICE_ACCOUNT", **fields: t.Any) -> t.Any:
        return sql.users().insert(project=PROJECT, instance="db", body={"name": name, "type": kind, **fields})

    google.refused(insert("server@example-project.iam"), 400, "cloudsql.iam_authentication")
    google.sql(patch(sql, databaseFlags=[{"name": "cloudsql.iam_authentication", "value": "on"}]))
    google.refused(insert("server@example-project.iam.gserviceaccount.com"), 400, "Leave .gserviceaccount.com out")
    google.refused(insert("Somebody@example.com", "CLOUD_IAM_USER"), 400, "lowercase")
    google.refused(insert("server@example-project.iam", password="x"), 400, "password cannot be set")
    google.sql(insert("server@example-project.iam"))
    google.refused(sql.users().update(project=PROJECT, instance="db", name="server@example-project.iam", body={"password": "x"}), 400, "IAM user")


@pytest.mark.parametrize(("password", "text"), [("aB3!", "at least 12"), ("abcdefghijklmnop", "uppercase"), ("prefect-A1-bcdefgh", "contains the user's name")])
def test_the_password_policy(sql: t.Any, google: Google, instance: Json, password: str, text: str) -> None:
    policy = {"enablePasswordPolicy": True, "minLength": 12, "complexity": "COMPLEXITY_DEFAULT", "disallowUsernameSubstring": True}
    google.sql(patch(sql, passwordValidationPolicy=policy))
    insert = sql.users().insert(project=PROJECT, instance="db", body={"name": "prefect", "password": password})
    google.refused(insert, 400, text)
    google.sql(sql.users().insert(project=PROJECT, instance="db", body={"name": "prefect", "password": "Long-3nough!!"}))


def test_nothing_is_made_in_an_instance_that_does_not_run(cloud: LocalCloud, sql: t.Any, google: Google) -> None:
    cloud.operation_seconds = 60
    sql.instances().insert(project=PROJECT, body=body()).execute()
    google.refused(sql.databases().list(project=PROJECT, instance="db"), 400, "instance is not running")
    google.refused(sql.users().list(project=PROJECT, instance="none"), 404, "does not exist")


def test_operations_flags_and_tiers(sql: t.Any, google: Google, instance: Json) -> None:
    operations = sql.operations().list(project=PROJECT, instance="db").execute()["items"]
    assert [operation["operationType"] for operation in operations] == ["CREATE"]
    google.refused(sql.operations().get(project=PROJECT, operation="none"), 404)
    assert any(flag["name"] == "max_connections" for flag in sql.flags().list(databaseVersion="POSTGRES_17").execute()["items"])
    assert sql.tiers().list(project=PROJECT).execute()["items"]
    google.sql(sql.instances().restart(project=PROJECT, instance="db"))


def test_public_addresses_and_encryption(sql: t.Any, google: Google) -> None:
    addresses = {"ipv4Enabled": True, "sslMode": "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"}
    sql.instances().insert(project=PROJECT, body={**body(ipConfiguration=addresses), "rootPassword": "made up"}).execute()
    sql.instances().list(project=PROJECT).execute()
    found = sql.instances().list(project=PROJECT).execute()["items"][0]
    assert [one["type"] for one in found["ipAddresses"]] == ["PRIMARY"]
    assert found["settings"]["ipConfiguration"]["requireSsl"] is True
    google.sql(patch(sql, ipConfiguration={"privateNetwork": NETWORK}))
    assert [one["type"] for one in sql.instances().get(project=PROJECT, instance="db").execute()["ipAddresses"]] == ["PRIMARY", "PRIVATE"]


def test_a_deny_period_of_every_year(sql: t.Any, google: Google, instance: Json) -> None:
    google.sql(patch(sql, denyMaintenancePeriods=[{"startDate": "12-15", "endDate": "01-05", "time": "00:00:00"}]))
    google.sql(sql.databases().patch(project=PROJECT, instance="db", database="postgres", body={"charset": "UTF8"}))
    google.refused(patch(sql, edition="EDITION_UNSPECIFIED"), 400, "Invalid edition")


def test_the_older_version_is_the_same_cloud(google: Google, sql: t.Any, instance: Json) -> None:
    assert google("sqladmin.v1beta4").instances().get(project=PROJECT, instance="db").execute() == instance
