#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudsql_instance
short_description: Manage a Cloud SQL for PostgreSQL instance
description:
  - Creates, changes or deletes a Cloud SQL for PostgreSQL instance, and waits until that is done. A new instance takes 5 to 15 minutes.
  - What is not given stays as it is. What Google fills in by itself is no difference.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: A change that restarts the instance is a warning in check mode, and refused without O(allow_restart) otherwise.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the instance.
      - That of a deleted one can be used again at once, as Google says in "Delete instances". If it is kept for some time after all, nothing tells so
        before the instance is to be created.
    type: str
    required: true
  state:
    description:
      - V(absent) deletes the instance with its data.
      - An instance that is protected against deletion is only deleted with O(deletion_protection_enabled=false), which lifts that first.
    type: str
    choices: [present, absent]
    default: present
  region:
    description: Region, such as V(europe-west1). Needed to create the instance, and fixed afterwards.
    type: str
  database_version:
    description:
      - Major version of PostgreSQL. Needed to create the instance. An existing one is not upgraded by this module.
    type: str
    choices: [POSTGRES_14, POSTGRES_15, POSTGRES_16, POSTGRES_17, POSTGRES_18]
  edition:
    description:
      - Edition. A new instance gets V(ENTERPRISE), whatever its version; Google's own default is V(ENTERPRISE_PLUS) from PostgreSQL 16 on.
    type: str
    choices: [ENTERPRISE, ENTERPRISE_PLUS]
  tier:
    description:
      - Machine type. Needed to create the instance.
      - V(ENTERPRISE) has C(db-custom-CPUS-MEGABYTES), C(db-f1-micro) and C(db-g1-small), V(ENTERPRISE_PLUS) has C(db-perf-optimized-N-CPUS).
    type: str
  availability_type:
    description: V(REGIONAL) has a standby in a second zone.
    type: str
    choices: [ZONAL, REGIONAL]
  data_disk_type:
    description: Kind of the disk. Fixed once the instance exists.
    type: str
    choices: [PD_SSD, PD_HDD, HYPERDISK_BALANCED]
  data_disk_size_gb:
    description:
      - Size of the disk, 10 or more. It never shrinks.
      - With O(storage_auto_resize), this is the size to start with, and a disk that has grown is as wanted.
    type: int
  storage_auto_resize:
    description: Whether the disk grows when it is almost full. On for a new instance.
    type: bool
  storage_auto_resize_limit:
    description: Size in GB that the disk does not grow beyond by itself; V(0) is none.
    type: int
  ipv4_enabled:
    description: Whether the instance has a public address. Off for a new instance.
    type: bool
  authorized_networks:
    description: Networks in CIDR notation that may connect to the public address. The list replaces the one there.
    type: list
    elements: str
  private_network:
    description:
      - Network to have a private address in, as C(projects/PROJECT/global/networks/NAME).
      - It needs private services access, see M(selfhost.prefect.service_networking_connection). It cannot be taken away again.
    type: str
  allocated_ip_range:
    description: Name of the reserved range that the private address comes from. Left out, any that the connection has.
    type: str
  ssl_mode:
    description: What connections are let in. V(ENCRYPTED_ONLY) for a new instance.
    type: str
    choices: [ALLOW_UNENCRYPTED_AND_ENCRYPTED, ENCRYPTED_ONLY, TRUSTED_CLIENT_CERTIFICATE_REQUIRED]
  backup_configuration:
    description: Automatic backups.
    type: dict
    suboptions:
      enabled:
        description: Whether there are any.
        type: bool
      start_time:
        description: When, as C(HH:MM) in UTC.
        type: str
      location:
        description: Region or multi-region that keeps them.
        type: str
      retained_backups:
        description: How many are kept, from 1 to 365.
        type: int
      point_in_time_recovery_enabled:
        description: Whether the instance can be recovered to any moment. Needs C(enabled). Turning it on restarts the instance.
        type: bool
      transaction_log_retention_days:
        description: How many days back that goes, up to 7 with the edition V(ENTERPRISE), up to 35 with V(ENTERPRISE_PLUS).
        type: int
  maintenance_window:
    description: When Google may restart the instance for updates.
    type: dict
    suboptions:
      day:
        description: Day of the week, from 1 (Monday) to 7.
        type: int
        required: true
      hour:
        description: Hour of the day, 0 to 23, in UTC.
        type: int
        required: true
      update_track:
        description: V(canary) is early, V(stable) is later, V(week5) is later still.
        type: str
        choices: [canary, stable, week5]
        default: stable
  deny_maintenance_periods:
    description: A period without maintenance, of at most 90 days. The list replaces the one there, and holds one at most.
    type: list
    elements: dict
    suboptions:
      start_date:
        description: First day, as C(YYYY-MM-DD), or C(MM-DD) for every year.
        type: str
        required: true
      end_date:
        description: Last day.
        type: str
        required: true
      time:
        description: Time of both, as C(HH:MM:SS) in UTC.
        type: str
        default: "00:00:00"
  insights_config:
    description: Query Insights.
    type: dict
    suboptions:
      query_insights_enabled:
        description: Whether it is on.
        type: bool
      query_plans_per_minute:
        description: How many plans are recorded a minute.
        type: int
      query_string_length:
        description: How many bytes of a query are recorded, 256 to 4500. A change restarts the instance.
        type: int
      record_application_tags:
        description: Whether tags in a query's comment are recorded.
        type: bool
      record_client_address:
        description: Whether the client's address is recorded.
        type: bool
  database_flags:
    description:
      - PostgreSQL's settings as Google names them, for example C({max_connections{:} "200"}). They replace the ones there; V({}) resets them all.
      - Names, values and whether one of them restarts the instance are checked with Google.
    type: dict
  password_validation_policy:
    description: What passwords of users must be like.
    type: dict
    suboptions:
      enable_password_policy:
        description: Whether there is a policy.
        type: bool
        required: true
      min_length:
        description: Fewest characters.
        type: int
      complexity:
        description: V(COMPLEXITY_DEFAULT) wants lower and upper case, a digit and another character.
        type: str
        choices: [COMPLEXITY_DEFAULT, COMPLEXITY_UNSPECIFIED]
      reuse_interval:
        description: How many old passwords cannot be used again.
        type: int
      disallow_username_substring:
        description: Whether the user's name may not be part of it.
        type: bool
      password_change_interval:
        description: How long a password stays at least, such as C(3600s).
        type: str
  user_labels:
    description: Labels. Others that the instance has stay.
    type: dict
  deletion_protection_enabled:
    description: Whether Google refuses to delete the instance, whoever asks. On for a new instance.
    type: bool
  retain_backups_on_delete:
    description: Whether its backups outlive the instance. On for a new instance.
    type: bool
  allow_restart:
    description: Whether a change may be made that restarts the instance, which breaks all connections for about a minute.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Have an instance with a private address
  selfhost.prefect.cloudsql_instance:
    project: my-project
    name: prefect
    region: europe-west1
    database_version: POSTGRES_17
    tier: db-custom-2-7680
    data_disk_size_gb: 10
    private_network: projects/my-project/global/networks/default
    allocated_ip_range: prefect-services
    backup_configuration:
      enabled: true
      start_time: "02:00"
      point_in_time_recovery_enabled: true
      transaction_log_retention_days: 7

- name: Give it more memory, now
  selfhost.prefect.cloudsql_instance:
    project: my-project
    name: prefect
    tier: db-custom-4-15360
    allow_restart: true

- name: Lift the protection, and delete it
  selfhost.prefect.cloudsql_instance:
    project: my-project
    name: prefect
    state: absent
    deletion_protection_enabled: false
"""

RETURN = r"""
instance:
  description: The instance as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name.
      type: str
    connectionName:
      description: Name that connectors and the Cloud SQL Auth Proxy use.
      type: str
    databaseVersion:
      description: Major version.
      type: str
    region:
      description: Region.
      type: str
    state:
      description: C(RUNNABLE) when it runs.
      type: str
    ipAddresses:
      description: Addresses, each with its C(type) and C(ipAddress).
      type: list
      elements: dict
    serverCaCert:
      description: The authority that signed the server's certificate; C(cert) is its PEM.
      type: dict
    settings:
      description: Settings.
      type: dict
  sample:
    name: prefect
    connectionName: my-project:europe-west1:prefect
    databaseVersion: POSTGRES_17
    region: europe-west1
    state: RUNNABLE
    ipAddresses: [{type: PRIVATE, ipAddress: 10.20.0.3}]
    settings: {tier: db-custom-2-7680, edition: ENTERPRISE}
private_ip_address:
  description: The private address; empty where there is none.
  returned: success
  type: str
  sample: 10.20.0.3
public_ip_address:
  description: The public address; empty where there is none.
  returned: success
  type: str
  sample: ""
server_ca_cert:
  description: PEM of the authority to verify the server by. Its certificate carries no host name.
  returned: success
  type: str
  sample: "-----BEGIN CERTIFICATE-----..."
restarting_changes:
  description: What of the change restarts the instance.
  returned: success
  type: list
  elements: str
  sample: ["settings.tier"]
"""

import ipaddress
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.dict_transformations import snake_dict_to_camel_dict
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import (
    GcpClient,
    GcpError,
    Json,
    Resource,
    converge,
    differing,
    given,
    overlaid,
    run_module,
)

# Options that are Google's settings of the same name.
SETTINGS = (
    "edition",
    "tier",
    "availability_type",
    "data_disk_type",
    "data_disk_size_gb",
    "storage_auto_resize",
    "storage_auto_resize_limit",
    "maintenance_window",
    "deny_maintenance_periods",
    "insights_config",
    "password_validation_policy",
    "deletion_protection_enabled",
    "retain_backups_on_delete",
)
FIXED = ("region", "databaseVersion")
RESTARTING_SETTINGS = ("edition", "tier", "availabilityType")
LOG_RETENTION_DAYS = {"ENTERPRISE": 7, "ENTERPRISE_PLUS": 35}


def wanted_instance(params: Json) -> Json:
    """Give what the task asks for, in the API's words."""
    settings = snake_dict_to_camel_dict({name: params[name] for name in SETTINGS})
    networks = params["authorized_networks"]
    settings["ipConfiguration"] = {
        "ipv4Enabled": params["ipv4_enabled"],
        "privateNetwork": params["private_network"],
        "allocatedIpRange": params["allocated_ip_range"],
        "sslMode": params["ssl_mode"],
        "authorizedNetworks": None if networks is None else [{"value": network} for network in networks],
    }
    backups = dict(params["backup_configuration"] or {})
    retained = backups.pop("retained_backups", None)
    settings["backupConfiguration"] = snake_dict_to_camel_dict(backups)
    if retained is not None:
        settings["backupConfiguration"]["backupRetentionSettings"] = {"retentionUnit": "COUNT", "retainedBackups": retained}
    flags = params["database_flags"]
    settings["databaseFlags"] = None if flags is None else [{"name": name, "value": flag_value(value)} for name, value in sorted(flags.items())]
    labels = params["user_labels"]
    settings["userLabels"] = None if labels is None else {name: str(value) for name, value in labels.items()}
    settings = {name: value for name, value in given(settings).items() if value != {} or name == "userLabels"}
    wanted: Json = given({"region": params["region"], "databaseVersion": params["database_version"]})
    return {**wanted, **({"settings": settings} if settings else {})}


def flag_value(value: t.Any) -> str:
    """Write a flag as Google does; YAML has read on and off as booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def tier_problem(tier: str, edition: str) -> str | None:
    """Say why no instance of the edition can have the tier: (problem, remedy)."""
    custom = re.fullmatch(r"db-custom-(\d+)-(\d+)", tier)
    if edition == "ENTERPRISE_PLUS" and (custom or tier in ("db-f1-micro", "db-g1-small")):
        return "the edition ENTERPRISE_PLUS does not have it: write such as db-perf-optimized-N-2, or choose the edition ENTERPRISE"
    if edition == "ENTERPRISE" and tier.startswith("db-perf-optimized-"):
        return "the edition ENTERPRISE does not have it: write such as db-custom-2-7680, or choose the edition ENTERPRISE_PLUS"
    if not tier.startswith("db-"):
        return "it is no machine type of Cloud SQL: write such as db-custom-2-7680"
    if custom:
        cpus, memory = int(custom[1]), int(custom[2])
        if cpus > 96 or (cpus != 1 and cpus % 2) or cpus == 0:
            return f"{cpus} CPUs cannot be had: write 1, or an even number up to 96"
        least, most = max(3840, -(-cpus * 922 // 256) * 256), int(cpus * 6656)
        if memory % 256 or not least <= memory <= most:
            return f"{memory} MB cannot be had with {cpus} CPUs: write a multiple of 256 from {least} to {most}"
    return None


class Instance(Resource):
    """An instance; all that a person sets is below its `settings`."""

    api = "sql"
    unordered: t.ClassVar[dict[str, str]] = {"databaseFlags": "name", "authorizedNetworks": "value"}
    defaults: t.ClassVar[Json] = {
        "settings": {
            "edition": "ENTERPRISE",
            "storageAutoResize": True,
            "ipConfiguration": {"ipv4Enabled": False, "sslMode": "ENCRYPTED_ONLY"},
            "deletionProtectionEnabled": True,
            "retainBackupsOnDelete": True,
        }
    }

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.allow_restart = params["allow_restart"]
        self.lift_protection = params["deletion_protection_enabled"] is False
        self.restarting: list[str] = []
        self.collection = f"v1/projects/{client.project}/instances"
        wanted = wanted_instance(params) if params["state"] == "present" else None
        super().__init__(client, params["name"], f"{self.collection}/{client.quote(params['name'])}", wanted)

    def is_settled(self, current: Json) -> bool:
        return current.get("state") not in ("PENDING_CREATE", "PENDING_DELETE", "MAINTENANCE", "REPAIRING")

    def compare(self, current: Json) -> Json:
        before = super().compare(current)
        settings, there = self.wanted.get("settings", {}), current.get("settings", {})
        size = settings.get("dataDiskSizeGb", 0)
        # The disk has grown by itself.
        if settings.get("storageAutoResize", there.get("storageAutoResize")) and int(there.get("dataDiskSizeGb") or 0) > size > 0:
            before["settings"]["dataDiskSizeGb"] = size
        return before

    def setting(self, name: str) -> t.Any:
        """Give a setting as it is going to be."""
        there = (self.current or {}).get("settings", {}).get(name)
        return overlaid(there, self.wanted["settings"][name]) if name in self.wanted.get("settings", {}) else there

    def is_protected(self) -> bool:
        return bool((self.current or {}).get("settings", {}).get("deletionProtectionEnabled"))

    def changed_settings(self) -> Json:
        return differing(self.wanted.get("settings", {}), self.before.get("settings", {}))

    def check(self) -> None:
        if self.absent:
            if self.is_protected() and not self.lift_protection:
                raise GcpError(f"the instance {self.name!r} is protected against deletion", "add deletion_protection_enabled: false if it really shall go")
            return
        if self.current is None:
            self.check_new()
        else:
            self.check_change()
        self.check_settings()
        self.check_addresses()
        self.check_flags()
        if self.restarting and not self.allow_restart:
            words = f"{', '.join(self.restarting)}: this change restarts the instance {self.name!r}, which breaks all connections for about a minute"
            if not self.client.check_mode:
                raise GcpError(words, "run again with allow_restart: true when that suits")
            self.client.tell(f"{words}: it will be refused without allow_restart: true.")

    def check_new(self) -> None:
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,96}[a-z0-9])?", self.name):
            raise GcpError(f"name: {self.name!r} is no name of an instance", "write lower-case letters, digits and hyphens, with a letter first")
        options = {"region": self.wanted.get("region"), "database_version": self.wanted.get("databaseVersion"), "tier": self.setting("tier")}
        for option in [option for option, value in options.items() if not value]:
            raise GcpError(f"{option} is missing, and the instance {self.name!r} does not exist yet", "give what to create it with")

    def check_change(self) -> None:
        """Refuse what Google cannot change, and note what restarts the instance."""
        for field, value in differing({name: self.wanted[name] for name in FIXED if name in self.wanted}, self.before).items():
            remedy = "upgrade it in Google's console first" if field == "databaseVersion" else "move the data to a new instance"
            raise GcpError(f"the instance {self.name!r} has the {field} {self.before.get(field)}, not {value}", f"correct the task, or {remedy}")
        changed, before = self.changed_settings(), self.before.get("settings", {})
        if "dataDiskType" in changed:
            raise GcpError(f"data_disk_type: the disk is a {before.get('dataDiskType')}, and stays one", "correct the task")
        if int(before.get("dataDiskSizeGb") or 0) > int(changed.get("dataDiskSizeGb", before.get("dataDiskSizeGb") or 0)):
            raise GcpError(
                f"data_disk_size_gb: the disk has {before['dataDiskSizeGb']} GB, and cannot shrink to {changed['dataDiskSizeGb']}",
                f"write {before['dataDiskSizeGb']} or more",
            )
        self.restarting = [f"settings.{name}" for name in RESTARTING_SETTINGS if name in changed]
        for name, field in (("ipConfiguration", "privateNetwork"), ("insightsConfig", "queryStringLength")):
            if field in differing(changed.get(name, {}), before.get(name, {})):
                self.restarting.append(f"settings.{name}.{field}")
        # "Restore an instance overview": "Enabling PITR requires restarting the database." Nothing is said of turning it off.
        name, field = "backupConfiguration", "pointInTimeRecoveryEnabled"
        if differing(changed.get(name, {}), before.get(name, {})).get(field):
            self.restarting.append(f"settings.{name}.{field}")

    def check_settings(self) -> None:
        edition = self.setting("edition") or "ENTERPRISE"
        tier = self.setting("tier")
        problem = tier_problem(tier, edition) if tier else None
        if problem:
            raise GcpError(f"tier: {tier!r}: {problem}")
        size, limit = int(self.setting("dataDiskSizeGb") or 10), int(self.setting("storageAutoResizeLimit") or 0)
        if size < 10:
            raise GcpError(f"data_disk_size_gb is {size}, which is too little", "write 10 or more")
        if limit and limit < size:
            raise GcpError(f"storage_auto_resize_limit is {limit}, which is less than the {size} GB that the disk has", "write more, or 0 for no limit")
        backups = self.setting("backupConfiguration") or {}
        days, most = backups.get("transactionLogRetentionDays") or 1, LOG_RETENTION_DAYS.get(edition, 35)
        if not 1 <= days <= most:
            raise GcpError(f"transaction_log_retention_days is {days}, and the edition {edition} goes back {most} days at most", f"write 1 to {most}")
        if backups.get("pointInTimeRecoveryEnabled") and backups.get("enabled") is False:
            raise GcpError("point_in_time_recovery_enabled is true, and backups are not enabled, which it needs", "write enabled: true")
        if self.setting("availabilityType") == "REGIONAL" and not (backups.get("enabled") and backups.get("pointInTimeRecoveryEnabled")):
            raise GcpError("availability_type is REGIONAL, which needs backups and point-in-time recovery", "enable both in backup_configuration")
        window = self.setting("maintenanceWindow") or {}
        if window and not (1 <= window["day"] <= 7 and 0 <= window["hour"] <= 23):
            raise GcpError("maintenance_window is no time of the week", "write a day from 1 (Monday) to 7, and an hour from 0 to 23")
        if len(self.setting("denyMaintenancePeriods") or ()) > 1:
            raise GcpError("deny_maintenance_periods has more than one period, which Google does not take", "write one")

    def check_addresses(self) -> None:
        addresses = self.setting("ipConfiguration") or {}
        if not addresses.get("ipv4Enabled") and not addresses.get("privateNetwork"):
            raise GcpError("the instance would have no address", "give private_network, or ipv4_enabled: true")
        if addresses.get("privateNetwork") and not re.search(r"projects/[^/]+/global/networks/[^/]+$", addresses["privateNetwork"]):
            raise GcpError(f"private_network is {addresses['privateNetwork']!r}, which names no project", "write projects/PROJECT/global/networks/NAME")
        for network in addresses.get("authorizedNetworks") or ():
            try:
                ipaddress.ip_network(network["value"], strict=False)
            except ValueError:
                raise GcpError(f"authorized_networks: {network['value']!r} is no network", "write such as 192.0.2.0/24") from None

    def check_flags(self) -> None:
        """Ask Google which flags the version has, and which of them restart the instance."""
        flags = self.changed_settings().get("databaseFlags")
        if flags is None:
            return
        version = self.wanted.get("databaseVersion") or (self.current or {}).get("databaseVersion")
        known = {flag["name"]: flag for flag in self.client.list(self.api, "v1/flags", "items", databaseVersion=version)}
        for flag in flags if known else ():
            problem = flag_problem(known.get(flag["name"]), flag["value"])
            if problem:
                raise GcpError(f"database_flags: {flag['name']} = {flag['value']!r}: {problem}")
        if self.current is None:
            return
        wanted = {flag["name"]: flag["value"] for flag in flags}
        before = {flag["name"]: flag.get("value") for flag in self.before["settings"].get("databaseFlags", ())}
        changed = [name for name in sorted({*wanted, *before}) if wanted.get(name) != before.get(name)]
        self.restarting += [f"settings.databaseFlags.{name}" for name in changed if known.get(name, {}).get("requiresRestart")]

    def create(self) -> None:
        try:
            self.client.write(self.api, "POST", self.collection, {"name": self.name, **self.wanted})
        except GcpError as exc:
            if exc.status == 409:
                raise GcpError(
                    f"the name {self.name!r} cannot be used: an instance has it, or had it until lately ({exc})",
                    "choose another name, or wait until Google lets go of this one",
                ) from exc
            raise

    def update(self) -> None:
        self.client.write(self.api, "PATCH", self.path, {"settings": self.changed_settings()})

    def delete(self) -> None:
        if self.is_protected():
            self.client.write(self.api, "PATCH", self.path, {"settings": {"deletionProtectionEnabled": False}})
        super().delete()

    def finish(self, current: Json) -> None:
        if current.get("state") in ("FAILED", "SUSPENDED"):
            reasons = ", ".join(current.get("suspensionReason", ())) or "Google does not say why"
            raise GcpError(
                f"the instance {self.name!r} is {current['state']} ({reasons})", "look at its operations in Google's console, and delete a failed one"
            )


def flag_problem(flag: Json | None, value: str) -> str | None:
    """Say why a flag cannot have a value."""
    if flag is None:
        return "Cloud SQL has no such flag for this version: look at `gcloud sql flags list`"
    allowed = flag.get("allowedStringValues") or []
    if allowed and value not in allowed:
        return f"write one of {', '.join(allowed)}"
    if flag.get("type") == "BOOLEAN" and value not in ("on", "off"):
        return "write on or off"
    if flag.get("type") == "INTEGER":
        if not re.fullmatch(r"-?\d+", value):
            return "write a whole number"
        least, most = (int(flag[key]) if key in flag else None for key in ("minValue", "maxValue"))
        if (least is not None and int(value) < least) or (most is not None and int(value) > most):
            return f"write a number from {least} to {most}"
    return None


def run(module: AnsibleModule, client: GcpClient) -> Json:
    resource = Instance(client, module.params)
    result = converge(resource)
    instance = result.pop("resource")
    addresses = {item["type"]: item["ipAddress"] for item in instance.get("ipAddresses", ())}
    return {
        "instance": instance,
        "private_ip_address": addresses.get("PRIVATE", ""),
        "public_ip_address": addresses.get("PRIMARY", ""),
        "server_ca_cert": (instance.get("serverCaCert") or {}).get("cert", ""),
        "restarting_changes": resource.restarting,
        **result,
    }


def main() -> None:
    flag = {"type": "bool"}
    text = {"type": "str"}
    number = {"type": "int"}
    argument_spec: dict[str, t.Any] = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "region": text,
        "database_version": {"type": "str", "choices": ["POSTGRES_14", "POSTGRES_15", "POSTGRES_16", "POSTGRES_17", "POSTGRES_18"]},
        "edition": {"type": "str", "choices": ["ENTERPRISE", "ENTERPRISE_PLUS"]},
        "tier": text,
        "availability_type": {"type": "str", "choices": ["ZONAL", "REGIONAL"]},
        "data_disk_type": {"type": "str", "choices": ["PD_SSD", "PD_HDD", "HYPERDISK_BALANCED"]},
        "data_disk_size_gb": number,
        "storage_auto_resize": flag,
        "storage_auto_resize_limit": number,
        "ipv4_enabled": flag,
        "authorized_networks": {"type": "list", "elements": "str"},
        "private_network": text,
        "allocated_ip_range": text,
        "ssl_mode": {"type": "str", "choices": ["ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"]},
        "backup_configuration": {
            "type": "dict",
            "options": {
                "enabled": flag,
                "start_time": text,
                "location": text,
                "retained_backups": number,
                "point_in_time_recovery_enabled": flag,
                "transaction_log_retention_days": number,
            },
        },
        "maintenance_window": {
            "type": "dict",
            "options": {
                "day": {"type": "int", "required": True},
                "hour": {"type": "int", "required": True},
                "update_track": {"type": "str", "choices": ["canary", "stable", "week5"], "default": "stable"},
            },
        },
        "deny_maintenance_periods": {
            "type": "list",
            "elements": "dict",
            "options": {
                "start_date": {"type": "str", "required": True},
                "end_date": {"type": "str", "required": True},
                "time": {"type": "str", "default": "00:00:00"},
            },
        },
        "insights_config": {
            "type": "dict",
            "options": {
                "query_insights_enabled": flag,
                "query_plans_per_minute": number,
                "query_string_length": number,
                "record_application_tags": flag,
                "record_client_address": flag,
            },
        },
        "database_flags": {"type": "dict"},
        "password_validation_policy": {
            "type": "dict",
            "no_log": False,
            "options": {
                "enable_password_policy": {"type": "bool", "required": True, "no_log": False},
                "min_length": number,
                "complexity": {"type": "str", "choices": ["COMPLEXITY_DEFAULT", "COMPLEXITY_UNSPECIFIED"]},
                "reuse_interval": number,
                "disallow_username_substring": flag,
                "password_change_interval": {"type": "str", "no_log": False},
            },
        },
        "user_labels": {"type": "dict"},
        "deletion_protection_enabled": flag,
        "retain_backups_on_delete": flag,
        "allow_restart": {"type": "bool", "default": False},
    }
    run_module(run, argument_spec)


if __name__ == "__main__":
    main()
