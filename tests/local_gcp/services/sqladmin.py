# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud SQL Admin API, for PostgreSQL."""

from __future__ import annotations

import copy
import datetime as dt
import ipaddress
import re
import typing as t
from time import time

from ..certificates import Authority, pem
from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, etag, merged, now
from ._common import check_if_match, check_quota, page, public

# Cloud SQL for PostgreSQL, "Instance settings": limits of a name, which counts with the project's.
NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
LONGEST_NAME = 98
CUSTOM_TIER = re.compile(r"db-custom-(\d+)-(\d+)")
# Cloud SQL for PostgreSQL, "Introduction to Cloud SQL editions".
PLUS_TIER = re.compile(r"db-perf-optimized-N-(2|4|8|16|32|48|64|80|96|128)|db-c4a-highmem-(1|2|4|8|16|32|48|64|72)")
SHARED_TIERS = {"db-f1-micro", "db-g1-small"}
# Cloud SQL for PostgreSQL, "Configure database flags": name, type, lowest, highest, needs a restart.
FLAGS = {
    "autovacuum_naptime": ("INTEGER", 1, 2147483, False),
    "cloudsql.enable_pg_cron": ("BOOLEAN", None, None, True),
    "cloudsql.enable_pgaudit": ("BOOLEAN", None, None, True),
    "cloudsql.iam_authentication": ("BOOLEAN", None, None, False),
    "default_statistics_target": ("INTEGER", 1, 10000, False),
    "effective_cache_size": ("INTEGER", 1, 2147483647, False),
    "idle_in_transaction_session_timeout": ("INTEGER", 0, 2147483647, False),
    "log_checkpoints": ("BOOLEAN", None, None, False),
    "log_connections": ("BOOLEAN", None, None, False),
    "log_disconnections": ("BOOLEAN", None, None, False),
    "log_lock_waits": ("BOOLEAN", None, None, False),
    "log_min_duration_statement": ("INTEGER", -1, 2147483647, False),
    "log_temp_files": ("INTEGER", 0, 2147483647, False),
    "maintenance_work_mem": ("INTEGER", 1024, 2147483647, False),
    "max_connections": ("INTEGER", 14, 262143, True),
    "max_wal_size": ("INTEGER", 2, 2147483647, False),
    "random_page_cost": ("FLOAT", 0, 1.7976931348623157e308, False),
    "shared_buffers": ("INTEGER", 16, 2147483647, True),
    "statement_timeout": ("INTEGER", 0, 2147483647, False),
    "work_mem": ("INTEGER", 64, 2147483647, False),
}
IAM_TYPES = {"CLOUD_IAM_USER", "CLOUD_IAM_SERVICE_ACCOUNT", "CLOUD_IAM_GROUP"}
# Cloud SQL for PostgreSQL, "About PostgreSQL users and roles": Google's own, in every instance.
OWN_ROLES = {"cloudsqladmin", "cloudsqlagent", "cloudsqlimportexport", "cloudsqlreplica", "cloudsqlsuperuser", "cloudsqliamuser", "cloudsqliamserviceaccount"}


# Names and parts


def instance_name(cloud: LocalCloud, call: Call) -> str:
    return f"sql/projects/{cloud.project_id(call.get('project'))}/instances/{call.get('instance')}"


def existing(cloud: LocalCloud, call: Call) -> dict[str, Json]:
    name = instance_name(cloud, call)
    cloud.look(name)
    found = cloud.state.read(name)
    if not found:
        raise GoogleError(404, "The Cloud SQL instance does not exist.", reason="instanceDoesNotExist")
    return found


def version_number(version: str) -> int:
    return int(version.removeprefix("POSTGRES_").partition("_")[0])


def refuse(text: str, reason: str = "invalid") -> t.NoReturn:
    raise GoogleError(400, f"Invalid request: {text}", reason=reason)


def check_idle(cloud: LocalCloud, target: str) -> None:
    # Cloud SQL, "Troubleshoot": one operation at a time on an instance.
    if cloud.busy(target):
        text = "Operation failed because another operation was already in progress. Try your request after the current operation is complete."
        raise GoogleError(409, text, reason="operationInProgress")


def operation_json(cloud: LocalCloud, operation: dict[str, Json], status: str = "") -> dict[str, Json]:
    link = f"https://sqladmin.googleapis.com/v1/projects/{cloud.project}"
    answer = {
        "kind": "sql#operation",
        "name": operation["name"],
        "status": status or ("DONE" if operation["done"] else "RUNNING"),
        "operationType": operation["kind"],
        "user": operation["user"],
        "insertTime": operation["started"],
        "startTime": operation["started"],
        "targetId": operation["target"].rpartition("/")[2],
        "targetProject": cloud.project,
        "targetLink": f"{link}/instances/{operation['target'].rpartition('/')[2]}",
        "selfLink": f"{link}/operations/{operation['name']}",
    }
    if operation["done"]:
        answer["endTime"] = operation["ended"]
    if operation["error"]:
        error = {"kind": "sql#operationError", "code": "INTERNAL_ERROR", "message": operation["error"]["message"]}
        answer["error"] = {"kind": "sql#operationErrors", "errors": [error]}
    return answer


def begin(cloud: LocalCloud, call: Call, kind: str, target: str, **options: t.Any) -> dict[str, Json]:
    return operation_json(cloud, cloud.start(kind, target, user=call.caller, service="sql", **options), "PENDING")


# The rules of an instance


def default_settings(version: str, settings: dict[str, Json]) -> dict[str, Json]:
    """Cloud SQL for PostgreSQL, "Instance settings", and the defaults that the API reference gives."""
    # "Introduction to Cloud SQL editions": from PostgreSQL 16 on the default is Enterprise Plus.
    edition = settings.get("edition") or ("ENTERPRISE_PLUS" if version_number(version) >= 16 else "ENTERPRISE")
    plus = edition == "ENTERPRISE_PLUS"
    # "About Cloud SQL backups"; "Use point-in-time recovery (PITR)": on Enterprise Plus it is on from the start.
    backups = {
        "kind": "sql#backupConfiguration",
        "enabled": plus,
        "pointInTimeRecoveryEnabled": plus,
        "startTime": "20:00",
        "backupRetentionSettings": {"retentionUnit": "COUNT", "retainedBackups": 15 if plus else 7},
        "transactionLogRetentionDays": 14 if plus else 7,
    }
    addresses = {
        "ipv4Enabled": True,
        "authorizedNetworks": [],
        "requireSsl": False,
        "sslMode": "ALLOW_UNENCRYPTED_AND_ENCRYPTED",
        "serverCaMode": "GOOGLE_MANAGED_INTERNAL_CA",
    }
    defaults: dict[str, Json] = {
        "kind": "sql#settings",
        "edition": edition,
        "availabilityType": "ZONAL",
        "activationPolicy": "ALWAYS",
        "pricingPlan": "PER_USE",
        "replicationType": "SYNCHRONOUS",
        "connectorEnforcement": "NOT_REQUIRED",
        "dataDiskType": "PD_SSD",
        "dataDiskSizeGb": "10",
        "storageAutoResize": True,
        "storageAutoResizeLimit": "0",
        "deletionProtectionEnabled": False,
        "backupConfiguration": backups,
        "ipConfiguration": addresses,
        "authorizedGaeApplications": [],
    }
    return normal(merged(defaults, settings))


def normal(settings: dict[str, Json]) -> dict[str, Json]:
    """64-bit numbers are strings in answers, whatever they were when they came."""
    result = copy.deepcopy(settings)
    for name in ("dataDiskSizeGb", "storageAutoResizeLimit", "settingsVersion", "dataDiskProvisionedIops", "dataDiskProvisionedThroughput"):
        if name in result:
            result[name] = str(result[name])
    addresses = result.get("ipConfiguration", {})
    if "privateNetwork" in addresses:
        addresses["privateNetwork"] = re.sub(r"^.*(?=projects/)", "", addresses["privateNetwork"])
    # "Configure SSL/TLS certificates": the old field follows the new one.
    if addresses.get("sslMode") in ("ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"):
        addresses["requireSsl"] = addresses["sslMode"] == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    for flag in result.get("databaseFlags", []):
        flag.setdefault("value", "on")
    return result


def check_settings(cloud: LocalCloud, name: str, version: str, settings: dict[str, Json]) -> None:
    check_tier(version, settings)
    check_disk(settings)
    check_backups(settings)
    check_network(cloud, name, settings["ipConfiguration"])
    check_flags(settings.get("databaseFlags", []))
    check_maintenance(settings)
    check_labels(settings.get("userLabels", {}))


def check_tier(version: str, settings: dict[str, Json]) -> None:
    tier, edition = settings.get("tier", ""), settings["edition"]
    if not tier:
        refuse("Missing parameter: tier.", "required")
    if edition not in ("ENTERPRISE", "ENTERPRISE_PLUS"):
        refuse(f"Invalid edition: {edition}.")
    if edition == "ENTERPRISE_PLUS":
        # "Introduction to Cloud SQL editions": PostgreSQL 12 or newer, and machines of its own.
        if version_number(version) < 12:
            refuse(f"The database version {version} is not supported by the edition ENTERPRISE_PLUS.")
        if not PLUS_TIER.fullmatch(tier):
            refuse(f"Invalid Tier ({tier}) for (ENTERPRISE_PLUS) Edition. Use a predefined Tier like db-perf-optimized-N-* instead.")
    elif PLUS_TIER.fullmatch(tier):
        refuse(f"Invalid Tier ({tier}) for (ENTERPRISE) Edition. Use a custom Tier like db-custom-* instead.")
    elif tier not in SHARED_TIERS:
        check_custom_tier(tier)


def check_custom_tier(tier: str) -> None:
    # "Create instances", custom machine types: one vCPU or an even number up to 96; 0.9 to 6.5 GB for each, in steps of 256 MB, 3.75 GB at least.
    found = CUSTOM_TIER.fullmatch(tier)
    if not found:
        refuse(f"Invalid Tier ({tier}).")
    cpus, memory = int(found[1]), int(found[2])
    if not (cpus == 1 or (cpus % 2 == 0 and 2 <= cpus <= 96)):
        refuse(f"Invalid Tier ({tier}): the number of vCPUs must be 1 or an even number from 2 to 96.")
    if memory % 256 or memory < 3840 or not 0.9 * 1024 * cpus <= memory <= 6.5 * 1024 * cpus:
        refuse(f"Invalid Tier ({tier}): memory must be a multiple of 256 MB, at least 3840 MB, and 0.9 to 6.5 GB for each vCPU.")


def check_disk(settings: dict[str, Json]) -> None:
    # "Instance settings", storage capacity.
    size, limit = int(settings["dataDiskSizeGb"]), int(settings["storageAutoResizeLimit"])
    if not 10 <= size <= 65536:
        refuse(f"The data disk size must be from 10 GB to 65536 GB: {size}.")
    if limit and limit < size:
        refuse(f"The storage auto resize limit ({limit}) must not be below the data disk size ({size}).")


def check_backups(settings: dict[str, Json]) -> None:
    backups = settings["backupConfiguration"]
    highest = 35 if settings["edition"] == "ENTERPRISE_PLUS" else 7
    days = backups.get("transactionLogRetentionDays", 7)
    # "Use point-in-time recovery (PITR)": 1 to 7 days on Enterprise, 1 to 35 on Enterprise Plus.
    if not 1 <= int(days) <= highest:
        refuse(f"The number of days of retained transaction logs must be from 1 to {highest} for the edition {settings['edition']}: {days}.")
    if backups.get("pointInTimeRecoveryEnabled") and not backups.get("enabled"):
        refuse("Point-in-time recovery cannot be enabled when automated backups are disabled.")
    # "About high availability": a regional instance needs both.
    if settings["availabilityType"] == "REGIONAL" and not (backups.get("enabled") and backups.get("pointInTimeRecoveryEnabled")):
        refuse("Automated backups and point-in-time recovery must be enabled for a regional instance.")
    retained = backups.get("backupRetentionSettings", {}).get("retainedBackups", 7)
    if not 1 <= int(retained) <= 365:
        refuse(f"The number of retained backups must be from 1 to 365: {retained}.")
    # "About Cloud SQL backups": logs are kept no longer than there is a backup to which they belong.
    if backups.get("pointInTimeRecoveryEnabled") and int(days) > int(retained):
        refuse(f"The number of retained backups ({retained}) must not be below the days of retained transaction logs ({days}).")
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", backups.get("startTime", "")):
        refuse(f"Invalid backup start time: {backups.get('startTime')}. It is HH:MM, in UTC.")


def check_network(cloud: LocalCloud, name: str, addresses: dict[str, Json]) -> None:
    network = addresses.get("privateNetwork")
    if not network and not addresses["ipv4Enabled"] and not addresses.get("pscConfig", {}).get("pscEnabled"):
        refuse("At least one of Public IP or Private IP or PSC connectivity must be enabled for the instance.")
    if not network:
        return
    # "Configure private IP": the network needs private services access first.
    found = re.fullmatch(r"projects/([^/]+)/global/networks/([^/]+)", network)
    instance = f"{cloud.project}:{name}"
    if not found or f"compute/projects/{cloud.project_id(found[1])}/global/networks/{found[2]}" not in cloud.state.resources:
        refuse(f"Incorrect Service Networking config for instance: {instance}:NETWORK_NOT_FOUND.")
    if "servicenetworking" not in cloud.enabled:
        refuse(f"Incorrect Service Networking config for instance: {instance}:SERVICE_NETWORKING_NOT_ENABLED.")
    connection = peering(cloud, found[2])
    if not connection:
        refuse(f"Incorrect Service Networking config for instance: {instance}:NETWORK_NOT_PEERED.")
    wanted = addresses.get("allocatedIpRange")
    if wanted and wanted not in connection["reservedPeeringRanges"]:
        refuse(f"The allocated IP range {wanted} is not one of the connection's: {', '.join(connection['reservedPeeringRanges'])}.")


def peering(cloud: LocalCloud, network: str) -> dict[str, Json] | None:
    return cloud.state.resources.get(f"servicenetworking/{network}/connections/servicenetworking-googleapis-com")


def check_flags(flags: list[dict[str, Json]]) -> None:
    # "Configure database flags": known names, values in their range, each once.
    names = [flag.get("name", "") for flag in flags]
    for flag in flags:
        name, value = flag.get("name", ""), flag.get("value", "on")
        if name not in FLAGS:
            refuse(f"Invalid flag name: {name}.", "invalidFlagName")
        if names.count(name) > 1:
            refuse(f"The flag {name} is given more than once.", "invalidFlagName")
        kind, lowest, highest, _restart = FLAGS[name]
        if not flag_fits(kind, lowest, highest, value):
            refuse(f"Invalid flag value for {name}: {value}.", "invalidFlagValue")


def flag_fits(kind: str, lowest: float | None, highest: float | None, value: str) -> bool:
    if kind == "BOOLEAN":
        return value in ("on", "off")
    try:
        number = float(value) if kind == "FLOAT" else int(value)
    except ValueError:
        return False
    return t.cast("float", lowest) <= number <= t.cast("float", highest)


def check_maintenance(settings: dict[str, Json]) -> None:
    # "Find and set maintenance windows": the day is 1 (Monday) to 7, the hour in UTC.
    window = settings.get("maintenanceWindow")
    if window and not (1 <= window.get("day", 1) <= 7 and 0 <= window.get("hour", 0) <= 23):
        refuse("The maintenance window's day must be from 1 to 7 and its hour from 0 to 23.")
    periods = settings.get("denyMaintenancePeriods", [])
    # "Overview of maintenance on instances", deny periods: one, of 1 to 90 days.
    if len(periods) > 1:
        refuse("Only one deny maintenance period is allowed.")
    for period in periods:
        try:
            start, end = (dt.date.fromisoformat(period.get(name, "")) for name in ("startDate", "endDate"))
        except ValueError:
            continue  # without a year it recurs
        if not 1 <= (end - start).days + 1 <= 90:
            refuse("A deny maintenance period must be from 1 to 90 days long.")


def check_labels(labels: dict[str, str]) -> None:
    # Resource Manager, "Requirements for labels".
    for name, value in labels.items():
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            refuse(f"Invalid user label: {name}={value}.")


# Instances


@handles("sql.instances.list")
def list_instances(cloud: LocalCloud, call: Call) -> Json:
    prefix = f"sql/projects/{cloud.project_id(call.get('project'))}/instances/"
    for name in [name for name in cloud.state.resources if name.startswith(prefix)]:
        cloud.look(name)
    return page(call, map(public, cloud.state.below(prefix).values()), "items", kind="sql#instancesList")


@handles("sql.instances.get")
def get_instance(cloud: LocalCloud, call: Call) -> Json:
    return public(existing(cloud, call))


@handles("sql.instances.insert")
def insert_instance(cloud: LocalCloud, call: Call) -> Json:
    body = call.body
    name, version = body.get("name", ""), body.get("databaseVersion", "")
    target = f"sql/projects/{cloud.project_id(call.get('project'))}/instances/{name}"
    if not NAME.fullmatch(name) or len(f"{cloud.project}:{name}") > LONGEST_NAME:
        refuse(f"Invalid instance name ({name}). It begins with a letter, has only lowercase letters, numbers and hyphens, and at most 98 with the project's.")
    if not version.startswith("POSTGRES_"):
        refuse("The local cloud has PostgreSQL only: databaseVersion must be one of its versions.")
    check_name_is_free(cloud, target)
    check_quota(cloud, "sqladmin.instances", len(cloud.state.below(target.rpartition("/")[0] + "/")))
    settings = default_settings(version, body.get("settings", {}))
    check_settings(cloud, name, version, settings)
    region = body.get("region") or "us-central1"
    settings.setdefault("locationPreference", {"kind": "sql#locationPreference", "zone": f"{region}-a"})
    resource = {
        "kind": "sql#instance",
        "name": name,
        "project": cloud.project,
        "region": region,
        "state": "PENDING_CREATE",
        "databaseVersion": version,
        "settings": {**settings, "settingsVersion": "1"},
        "instanceType": "CLOUD_SQL_INSTANCE",
        "backendType": "SECOND_GEN",
        "sqlNetworkArchitecture": "NEW_NETWORK_ARCHITECTURE",
        "connectionName": f"{cloud.project}:{region}:{name}",
        "gceZone": settings["locationPreference"].get("zone", f"{region}-a"),
        "selfLink": f"https://sqladmin.googleapis.com/v1/projects/{cloud.project}/instances/{name}",
        "createTime": now(),
    }
    resource["etag"] = etag(resource)
    ready = {
        **resource,
        "state": "RUNNABLE",
        "ipAddresses": addresses_of(cloud, settings["ipConfiguration"]),
        "serverCaCert": server_ca(cloud, name),
        "serviceAccountEmailAddress": f"p{cloud.project_number}-{etag(name)[:6]}@gcp-sa-cloud-sql.iam.gserviceaccount.com",
        "databaseInstalledVersion": version,
        "maintenanceVersion": f"{version}.R20260101.00_00",
    }
    cloud.state.put(target, resource)
    below = [
        (f"{target}/users/postgres", user_json(cloud, name, "postgres", "BUILT_IN")),
        (f"{target}/databases/postgres", database_json(cloud, name, "postgres")),
    ]
    if body.get("rootPassword"):
        below[0][1]["_password"] = body["rootPassword"]
    failed = [(target, {**resource, "state": "FAILED"})]
    return begin(cloud, call, "CREATE", target, changes=[(target, ready), *below], changes_on_error=failed, work=("database_up", target))


def check_name_is_free(cloud: LocalCloud, target: str) -> None:
    if target in cloud.state.resources:
        raise GoogleError(409, "The Cloud SQL instance already exists.", reason="instanceAlreadyExists")
    # "Delete instances" says by now that the name can be used again at once; the API has kept it for a week, in these words.
    deleted = cloud.state.resources.setdefault("sql-deleted", {}).get(target)
    if deleted and time() - deleted < cloud.reserved_name_seconds:
        text = (
            "The Cloud SQL instance already exists. When you delete an instance, you can't reuse the name of the deleted instance "
            "until one week from the deletion date."
        )
        raise GoogleError(409, text, reason="instanceAlreadyExists")


def addresses_of(cloud: LocalCloud, configuration: dict[str, Json]) -> list[dict[str, Json]]:
    addresses = []
    if configuration["ipv4Enabled"]:
        # RFC 5737: addresses for documentation.
        addresses.append({"type": "PRIMARY", "ipAddress": f"203.0.113.{2 + cloud.state.serial % 250}"})
        cloud.state.serial += 1
    if configuration.get("privateNetwork"):
        addresses.append({"type": "PRIVATE", "ipAddress": private_address(cloud, configuration)})
    return addresses


def private_address(cloud: LocalCloud, configuration: dict[str, Json]) -> str:
    """The next free one of the range, from .3 on: the first ones are the producer's own."""
    network = configuration["privateNetwork"].rpartition("/")[2]
    connection = t.cast("dict[str, Json]", peering(cloud, network))
    name = configuration.get("allocatedIpRange") or connection["reservedPeeringRanges"][0]
    block = cloud.state.resources[f"compute/projects/{cloud.project}/global/addresses/{name}"]
    taken = {address["ipAddress"] for name, one in cloud.state.planned() if name.startswith("sql/") for address in one.get("ipAddresses", [])}
    hosts = ipaddress.ip_network(f"{block['address']}/{block['prefixLength']}").hosts()
    return next(str(host) for number, host in enumerate(hosts, 1) if number >= 3 and str(host) not in taken)


def authority(cloud: LocalCloud, name: str) -> Authority:
    """The instance's own, as with serverCaMode GOOGLE_MANAGED_INTERNAL_CA."""
    folder = cloud.server.folder / "sql" / name
    folder.mkdir(parents=True, exist_ok=True)
    return Authority(folder, "Google Cloud SQL Server CA")


def server_ca(cloud: LocalCloud, name: str) -> dict[str, Json]:
    certificate = authority(cloud, name).certificate
    return {
        "kind": "sql#sslCert",
        "instance": name,
        "cert": pem(certificate).decode(),
        "commonName": "C=US,O=Google\\, Inc,CN=Google Cloud SQL Server CA",
        "certSerialNumber": "0",
        "createTime": certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expirationTime": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sha1Fingerprint": etag(pem(certificate).decode()),
    }


@handles("sql.instances.patch", "sql.instances.update")
def patch_instance(cloud: LocalCloud, call: Call) -> Json:
    instance = existing(cloud, call)
    target, body = instance_name(cloud, call), call.body
    check_idle(cloud, target)
    instance = cloud.state.resources[target]
    check_if_match(call, instance)
    check_immutable(instance, body)
    old, given = instance["settings"], body.get("settings", {})
    # "Edit instances": settingsVersion says which settings the caller has read.
    if "settingsVersion" in given and str(given["settingsVersion"]) != old["settingsVersion"]:
        raise GoogleError(412, "Condition does not match: the settingsVersion is out of date.", reason="staleData")
    if call.method.id.endswith("update"):
        # PUT gives all the settings, so what it leaves out goes back to its default.
        if not body.get("settings"):
            refuse("Missing parameter: settings.", "required")
        settings = default_settings(instance["databaseVersion"], given)
    else:
        settings = normal(merged(old, given))
    version = body.get("databaseVersion") or instance["databaseVersion"]
    check_settings(cloud, instance["name"], version, settings)
    check_change(old, settings)
    settings["settingsVersion"] = str(int(old["settingsVersion"]) + 1)
    changed = {**instance, "settings": settings, "databaseVersion": version, "databaseInstalledVersion": version}
    old_addresses, new_addresses = old["ipConfiguration"], settings["ipConfiguration"]
    if any(old_addresses.get(name) != new_addresses.get(name) for name in ("ipv4Enabled", "privateNetwork", "allocatedIpRange")):
        changed["ipAddresses"] = addresses_of(cloud, new_addresses)
    changed["etag"] = etag(changed)
    work = ("database_change", target)
    return begin(cloud, call, "UPDATE", target, changes=[(target, changed)], work=work)


def check_immutable(instance: dict[str, Json], body: dict[str, Json]) -> None:
    # "Edit instances": the region stays; a version only goes up ("Upgrade the database major version in-place").
    for name in ("region", "name", "project"):
        if (body.get(name) or instance[name]) != instance[name]:
            refuse(f"The {name} of an instance cannot be changed.")
    version = body.get("databaseVersion") or instance["databaseVersion"]
    if not version.startswith("POSTGRES_") or version_number(version) < version_number(instance["databaseVersion"]):
        refuse(f"The database version cannot be changed from {instance['databaseVersion']} to {version}.")


def check_change(old: dict[str, Json], new: dict[str, Json]) -> None:
    # "Instance settings": storage can be increased and never decreased.
    if int(new["dataDiskSizeGb"]) < int(old["dataDiskSizeGb"]):
        refuse(f"Disk size cannot be decreased: it is {old['dataDiskSizeGb']} GB and {new['dataDiskSizeGb']} GB was asked for.")
    if new["dataDiskType"] != old["dataDiskType"]:
        refuse("The data disk type of an instance cannot be changed.")
    before, after = old["ipConfiguration"].get("privateNetwork"), new["ipConfiguration"].get("privateNetwork")
    # "Configure private IP": it cannot be taken away, nor moved to another network.
    if before and before != after:
        refuse("The private network of an instance cannot be changed or removed after it is set.")


@handles("sql.instances.delete")
def delete_instance(cloud: LocalCloud, call: Call) -> Json:
    instance = existing(cloud, call)
    target = instance_name(cloud, call)
    # "Prevent deletion of an instance".
    if instance["settings"]["deletionProtectionEnabled"]:
        text = (
            "The instance is protected. Please disable the deletion protection and try again. "
            "To disable deletion protection, update the instance settings with deletionProtectionEnabled set to false."
        )
        raise GoogleError(400, text, reason="invalidRequest")
    check_idle(cloud, target)
    cloud.state.resources.setdefault("sql-deleted", {})[target] = time()
    cloud.state.put(target, {**instance, "state": "PENDING_DELETE"})
    below = [name for name in cloud.state.resources if name.startswith(f"{target}/")]
    return begin(cloud, call, "DELETE", target, changes=[(name, None) for name in (*below, target)], work=("database_down", target))


@handles("sql.instances.restart")
def restart_instance(cloud: LocalCloud, call: Call) -> Json:
    existing(cloud, call)
    target = instance_name(cloud, call)
    check_idle(cloud, target)
    return begin(cloud, call, "RESTART", target, work=("database_change", target))


@handles("sql.instances.listServerCas")
def list_server_cas(cloud: LocalCloud, call: Call) -> Json:
    certificate = existing(cloud, call).get("serverCaCert")
    certificates = {"certs": [certificate], "activeVersion": certificate["sha1Fingerprint"]} if certificate else {}
    return {"kind": "sql#instancesListServerCas", **certificates}


@handles("sql.flags.list")
def list_flags(_cloud: LocalCloud, call: Call) -> Json:
    items = []
    for name, (kind, lowest, highest, restart) in FLAGS.items():
        flag = {
            "kind": "sql#flag",
            "name": name,
            "type": kind,
            "appliesTo": ["POSTGRES_14", "POSTGRES_15", "POSTGRES_16", "POSTGRES_17"],
            "requiresRestart": restart,
        }
        if kind == "INTEGER":
            flag.update(minValue=str(lowest), maxValue=str(highest))
        items.append(flag)
    return {"kind": "sql#flagsList", "items": items}


@handles("sql.tiers.list")
def list_tiers(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("project"))
    items = [{"kind": "sql#tier", "tier": tier, "RAM": ram, "DiskQuota": "3294239334400", "region": ["us-central1"]} for tier, ram in
             (("db-f1-micro", "643825664"), ("db-g1-small", "1825361100"), ("db-perf-optimized-N-2", "17179869184"))]  # fmt: skip
    return {"kind": "sql#tiersList", "items": items}


@handles("sql.operations.get")
def get_operation(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("project"))
    operation = cloud.state.operations.get(call.get("operation"))
    if not operation or operation.get("service") != "sql":
        raise GoogleError(404, "The Cloud SQL operation does not exist.", reason="operationDoesNotExist")
    cloud.poll(operation)
    return operation_json(cloud, operation)


@handles("sql.operations.list")
def list_operations(cloud: LocalCloud, call: Call) -> Json:
    target = f"sql/projects/{cloud.project_id(call.get('project'))}/instances/{call.get('instance')}"
    found = [one for one in cloud.state.operations.values() if one.get("service") == "sql" and (not call.get("instance") or one["target"] == target)]
    return page(call, [operation_json(cloud, one) for one in reversed(found)], "items", kind="sql#operationsList")


# Databases


def running(cloud: LocalCloud, call: Call) -> dict[str, Json]:
    instance = existing(cloud, call)
    if instance["state"] != "RUNNABLE":
        refuse("Invalid request since instance is not running.")
    return instance


def database_json(cloud: LocalCloud, instance: str, name: str, **fields: Json) -> dict[str, Json]:
    database = {
        "kind": "sql#database",
        "name": name,
        "instance": instance,
        "project": cloud.project,
        "charset": "UTF8",
        "collation": "en_US.UTF8",
        "selfLink": f"https://sqladmin.googleapis.com/v1/projects/{cloud.project}/instances/{instance}/databases/{name}",
        **fields,
    }
    return {**database, "etag": etag(database)}


def existing_database(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    running(cloud, call)
    name = f"{instance_name(cloud, call)}/databases/{call.get('database')}"
    found = cloud.state.read(name)
    if not found:
        raise GoogleError(404, f"Not Found: the database {call.get('database')} does not exist.", reason="databaseDoesNotExist")
    return name, found


@handles("sql.databases.list")
def list_databases(cloud: LocalCloud, call: Call) -> Json:
    running(cloud, call)
    found = cloud.state.below(f"{instance_name(cloud, call)}/databases/")
    return page(call, map(public, found.values()), "items", kind="sql#databasesList")


@handles("sql.databases.get")
def get_database(cloud: LocalCloud, call: Call) -> Json:
    return public(existing_database(cloud, call)[1])


@handles("sql.databases.insert")
def insert_database(cloud: LocalCloud, call: Call) -> Json:
    running(cloud, call)
    target, body = instance_name(cloud, call), call.body
    check_idle(cloud, target)
    name, charset = body.get("name", ""), body.get("charset") or "UTF8"
    if not name or len(name.encode()) > 63:
        refuse("Missing or too long parameter: name.", "required")
    # "Create and manage databases": PostgreSQL's own refusal comes through.
    if f"{target}/databases/{name}" in cloud.state.resources or name in ("template0", "template1", "cloudsqladmin"):
        refuse(f'failed to create database {name}. Detail: pq: database "{name}" already exists')
    if charset.upper() not in ("UTF8", "UTF-8", "SQL_ASCII", "LATIN1"):
        refuse(f'failed to create database {name}. Detail: pq: "{charset}" is not a valid encoding name')
    database = database_json(cloud, call.get("instance"), name, charset=charset, collation=body.get("collation") or "en_US.UTF8")
    path = f"{target}/databases/{name}"
    return begin(cloud, call, "CREATE_DATABASE", target, changes=[(path, database)], work=("create_database", target, name))


@handles("sql.databases.patch", "sql.databases.update")
def patch_database(cloud: LocalCloud, call: Call) -> Json:
    _name, database = existing_database(cloud, call)
    for field in ("charset", "collation", "name"):
        if call.body.get(field, database[field]) != database[field]:
            refuse(f"The {field} of a PostgreSQL database cannot be changed.")
    target = instance_name(cloud, call)
    check_idle(cloud, target)
    return begin(cloud, call, "UPDATE_DATABASE", target)


@handles("sql.databases.delete")
def delete_database(cloud: LocalCloud, call: Call) -> Json:
    name, _database = existing_database(cloud, call)
    target = instance_name(cloud, call)
    check_idle(cloud, target)
    if call.get("database") == "postgres":
        refuse("failed to delete database postgres. Detail: it is a system database.")
    return begin(cloud, call, "DELETE_DATABASE", target, changes=[(name, None)], work=("drop_database", target, call.get("database")))


# Users


def user_json(cloud: LocalCloud, instance: str, name: str, type_: str, **fields: Json) -> dict[str, Json]:
    user: dict[str, Json] = {"kind": "sql#user", "name": name, "instance": instance, "project": cloud.project, "host": "", **fields}
    if type_ != "BUILT_IN":
        user["type"] = type_
    return {**user, "etag": etag({**user, "_password": ""})}


def existing_user(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    running(cloud, call)
    name = f"{instance_name(cloud, call)}/users/{call.get('name')}"
    found = cloud.state.read(name)
    if not found:
        raise GoogleError(404, f"Not Found: the user {call.get('name')} does not exist.", reason="userDoesNotExist")
    return name, found


@handles("sql.users.list")
def list_users(cloud: LocalCloud, call: Call) -> Json:
    running(cloud, call)
    found = cloud.state.below(f"{instance_name(cloud, call)}/users/")
    return page(call, map(public, found.values()), "items", kind="sql#usersList")


@handles("sql.users.get")
def get_user(cloud: LocalCloud, call: Call) -> Json:
    return public(existing_user(cloud, call)[1])


@handles("sql.users.insert")
def insert_user(cloud: LocalCloud, call: Call) -> Json:
    instance = running(cloud, call)
    target, body = instance_name(cloud, call), call.body
    check_idle(cloud, target)
    name, kind = body.get("name", ""), body.get("type") or "BUILT_IN"
    if not name or len(name.encode()) > 63:
        refuse("Missing or too long parameter: name.", "required")
    if name in OWN_ROLES:
        refuse(f"The user name {name} is reserved.")
    if f"{target}/users/{name}" in cloud.state.resources:
        refuse(f'failed to create user {name}. Detail: pq: role "{name}" already exists')
    if kind in IAM_TYPES:
        check_iam_user(instance, name, kind, body)
    else:
        check_password(instance, name, body.get("password"))
    # "About PostgreSQL users and roles": one made by the API is a member of cloudsqlsuperuser; one that signs in by IAM is not.
    user = user_json(cloud, call.get("instance"), name, kind, **({"databaseRoles": body["databaseRoles"]} if body.get("databaseRoles") else {}))
    user["_password"] = body.get("password", "")
    return begin(cloud, call, "CREATE_USER", target, changes=[(f"{target}/users/{name}", user)], work=("database_user", target, name, user["_password"], kind))


def check_iam_user(instance: dict[str, Json], name: str, kind: str, body: dict[str, Json]) -> None:
    # "Manage users with IAM database authentication": the flag comes first, and a service account loses its .gserviceaccount.com.
    flags = {flag["name"]: flag.get("value") for flag in instance["settings"].get("databaseFlags", [])}
    if flags.get("cloudsql.iam_authentication") != "on":
        refuse("Cloud SQL IAM database authentication is not enabled on the instance: set the flag cloudsql.iam_authentication to on.")
    if kind == "CLOUD_IAM_SERVICE_ACCOUNT" and not re.fullmatch(r"[^@]+@[^@]+\.iam", name):
        refuse(f"Invalid name of a service account user: {name}. Leave .gserviceaccount.com out.")
    if kind == "CLOUD_IAM_USER" and ("@" not in name or name != name.lower()):
        refuse(f"Invalid name of an IAM user: {name}. It is an email address in lowercase.")
    if body.get("password"):
        refuse("A password cannot be set for an IAM user.")


def check_password(instance: dict[str, Json], name: str, password: str | None) -> None:
    # "Use Cloud SQL built-in database authentication", instance password policies.
    policy = instance["settings"].get("passwordValidationPolicy", {})
    if not policy.get("enablePasswordPolicy") or password is None:
        return
    if len(password) < int(policy.get("minLength", 0)):
        refuse(f"The password does not meet the password policy: it needs at least {policy['minLength']} characters.")
    kinds = (r"[a-z]", r"[A-Z]", r"\d", r"[^a-zA-Z\d]")
    if policy.get("complexity") == "COMPLEXITY_DEFAULT" and not all(re.search(kind, password) for kind in kinds):
        refuse("The password does not meet the password policy: it needs lowercase, uppercase, numeric and other characters.")
    if policy.get("disallowUsernameSubstring") and name in password:
        refuse("The password does not meet the password policy: it contains the user's name.")


@handles("sql.users.update")
def update_user(cloud: LocalCloud, call: Call) -> Json:
    path, user = existing_user(cloud, call)
    target = instance_name(cloud, call)
    check_idle(cloud, target)
    name, kind, password = user["name"], user.get("type", "BUILT_IN"), call.body.get("password")
    changed = dict(user)
    if password:
        if kind in IAM_TYPES:
            refuse("A password cannot be set for an IAM user.")
        check_password(existing(cloud, call), name, password)
        changed["_password"] = password
    roles = call.query.get("databaseRoles")
    if roles:
        kept = [] if call.flag("revokeExistingRoles") else user.get("databaseRoles", [])
        changed["databaseRoles"] = sorted({*kept, *roles})
    work = ("database_user", target, name, changed.get("_password", ""), kind)
    return begin(cloud, call, "UPDATE_USER", target, changes=[(path, changed)], work=work)


@handles("sql.users.delete")
def delete_user(cloud: LocalCloud, call: Call) -> Json:
    path, _user = existing_user(cloud, call)
    target = instance_name(cloud, call)
    check_idle(cloud, target)
    return begin(cloud, call, "DELETE_USER", target, changes=[(path, None)], work=("drop_user", target, call.get("name")))
