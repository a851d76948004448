# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud Run: services of v2, and v1's domain mappings."""

from __future__ import annotations

import re
import typing as t

from .. import identity
from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError, bad_request
from ..state import Json, etag, masked, merged, now
from ._common import begin_lro, check_quota, get_policy, location, page, public, set_policy, test_permissions
from .iam import check_exists
from .secretmanager import version_of

SERVICES = "run.projects.locations.services"
TYPE = "google.cloud.run.v2.Service"
# "Container runtime contract" and "Configure ... for services": how much of each there can be.
LONGEST_TIMEOUT = 3600
HIGHEST_CONCURRENCY = 1000
CPUS = {"0.08", "0.5", "1", "2", "4", "6", "8", "1000m", "2000m", "4000m", "6000m", "8000m"}
UNITS = {"Mi": 1, "Gi": 1024, "M": 1000**2 / 1024**2, "G": 1000**3 / 1024**2}
LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def service_name(cloud: LocalCloud, call: Call) -> str:
    return f"{location(cloud, call)}/services/{call.get('servicesId')}"


def existing(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    name = service_name(cloud, call)
    cloud.look(f"run/{name}")
    found = cloud.state.read(f"run/{name}")
    if not found:
        raise GoogleError(
            404, f"Resource '{call.get('servicesId')}' of kind 'SERVICE' in region '{call.get('locationsId')}' in project '{cloud.project}' does not exist."
        )
    return name, found


def violation(field: str, text: str) -> GoogleError:
    return GoogleError(400, f"Violation in {field}: {text}", details=[bad_request([(field, text)])])


# The rules


def check_service(cloud: LocalCloud, location: str, service: dict[str, Json]) -> None:
    template = service.get("template") or {}
    if not template.get("containers"):
        raise violation("CreateServiceRequest.service.template.containers", "at least one container is required.")
    check_containers(template)
    check_limits(service, template)
    if template.get("serviceAccount"):
        check_exists(cloud, template["serviceAccount"])
    check_network(cloud, location, template)
    check_secrets(cloud, template)
    check_traffic(cloud, service)


def check_containers(template: dict[str, Json]) -> None:
    containers, volumes = template["containers"], [volume.get("name") for volume in template.get("volumes", [])]
    # "Deploying multiple containers": exactly one has the port.
    if len(containers) > 1 and len([1 for container in containers if container.get("ports")]) != 1:
        raise violation("service.template.containers", "Revision template should contain exactly one container with an exposed port.")
    for container in containers:
        if not container.get("image"):
            raise violation("service.template.containers[0].image", "an image is required.")
        for port in container.get("ports", []):
            # "Container runtime contract", "Configure HTTP/2": one port, and its name chooses the protocol.
            if port.get("name", "http1") not in ("http1", "h2c") or not 1 <= port.get("containerPort", 8080) <= 65535:
                raise violation("service.template.containers[0].ports", f"the port must be named http1 or h2c and be from 1 to 65535: {port}.")
        if len(container.get("ports", [])) > 1:
            raise violation("service.template.containers[0].ports", "only one port is allowed.")
        for mount in container.get("volumeMounts", []):
            if mount.get("name") not in volumes or not str(mount.get("mountPath", "")).startswith("/"):
                raise violation("service.template.containers[0].volume_mounts", f"it must name a volume and an absolute path: {mount}.")
        for variable in container.get("env", []):
            if not variable.get("name") or variable["name"] == "PORT":
                raise violation(
                    "service.template.containers[0].env",
                    "The following reserved env names were provided: PORT. These values are automatically set by the system.",
                )
        check_resources(container)
        for field in ("startupProbe", "livenessProbe"):
            check_probe(field, container.get(field) or {})


def check_resources(container: dict[str, Json]) -> None:
    limits = container.get("resources", {}).get("limits", {})
    cpu, memory = limits.get("cpu", "1"), limits.get("memory", "512Mi")
    # "Configure CPU limits for services".
    if cpu not in CPUS:
        raise violation(
            "service.template.containers[0].resources.limits.cpu", f"Invalid value specified for cpu. {cpu} is none of 1, 2, 4, 6, 8 or less than 1."
        )
    # "Configure memory limits for services": so much memory needs so much CPU.
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(Mi|Gi|M|G)", memory)
    if not found or not 128 <= float(found[1]) * UNITS[found[2]] <= 32768:
        raise violation(
            "service.template.containers[0].resources.limits.memory", f"Invalid value specified for memory: {memory}. It must be from 128Mi to 32Gi."
        )
    megabytes, cpus = float(found[1]) * UNITS[found[2]], float(cpu.rstrip("m")) / (1000 if cpu.endswith("m") else 1)
    needed = next(cpus for limit, cpus in ((512, 0), (1024, 0.5), (4096, 1), (8192, 2), (16384, 4), (24576, 6), (32768, 8)) if megabytes <= limit)
    if cpus < needed:
        raise violation(
            "service.template.containers[0].resources.limits", f"Invalid value specified for cpu. For {memory} of memory at least {needed} is needed."
        )


def check_probe(field: str, probe: dict[str, Json]) -> None:
    if not probe:
        return
    where = f"service.template.containers[0].{field}"
    # "Configure container health checks for services".
    kinds = [kind for kind in ("httpGet", "tcpSocket", "grpc") if probe.get(kind) is not None]
    if len(kinds) != 1 or (field == "livenessProbe" and kinds == ["tcpSocket"]):
        raise violation(where, "exactly one of http_get, grpc and, for startup, tcp_socket must be there.")
    highest = 240 if field == "startupProbe" else 3600
    period, timeout, failures = probe.get("periodSeconds", 10), probe.get("timeoutSeconds", 1), probe.get("failureThreshold", 3)
    if not 1 <= period <= highest or not 1 <= timeout <= highest or failures < 1:
        raise violation(where, f"period_seconds and timeout_seconds must be from 1 to {highest}, failure_threshold at least 1.")
    if timeout > period:
        raise violation(where, f"timeout_seconds ({timeout}) must not be above period_seconds ({period}).")
    if field == "startupProbe" and period * failures > 240:
        raise violation(where, f"failure_threshold * period_seconds must not be above 240 seconds: it is {period * failures}.")


def check_limits(service: dict[str, Json], template: dict[str, Json]) -> None:
    # "Set request timeout for services".
    timeout = float(template.get("timeout", "300s").rstrip("s"))
    if not 1 <= timeout <= LONGEST_TIMEOUT:
        raise violation("service.template.timeout", f"the timeout must be from 1 to {LONGEST_TIMEOUT} seconds.")
    # "Set maximum concurrent requests per instance".
    concurrency = template.get("maxInstanceRequestConcurrency", 80)
    if not 0 <= concurrency <= HIGHEST_CONCURRENCY:
        raise violation("service.template.max_instance_request_concurrency", f"Must be from 1 to {HIGHEST_CONCURRENCY}: {concurrency}.")
    for scaling in (service.get("scaling", {}), template.get("scaling", {})):
        if 0 < scaling.get("maxInstanceCount", 0) < scaling.get("minInstanceCount", 0):
            raise violation("service.scaling", "min_instance_count must not be above max_instance_count.")
    for name, value in {**service.get("labels", {}), **template.get("labels", {})}.items():
        # API reference, Service.labels: some name spaces are Google's.
        if re.match(r"(run|cloud|serving|autoscaling)\.(googleapis\.com|knative\.dev)/", name):
            raise violation("service.labels", f"the label {name} is in a reserved name space.")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise violation("service.labels", f"invalid label {name}={value}.")


def check_network(cloud: LocalCloud, location: str, template: dict[str, Json]) -> None:
    access = template.get("vpcAccess") or {}
    if access.get("connector") and access.get("networkInterfaces"):
        raise violation("service.template.vpc_access", "a connector and network interfaces exclude each other.")
    if access.get("connector") and cloud.state.resources.get(f"vpcaccess/{cloud_name(cloud, access['connector'])}", {}).get("state") != "READY":
        raise violation("service.template.vpc_access.connector", f"VPC connector {access['connector']} does not exist, or it is not ready to serve traffic.")
    for interface in access.get("networkInterfaces", []):
        subnet = interface.get("subnetwork", "")
        name = f"compute/{subnet}" if subnet.startswith("projects/") else f"compute/projects/{cloud.project}/regions/{location}/subnetworks/{subnet}"
        found = cloud.state.resources.get(name)
        if subnet and not found:
            raise violation("service.template.vpc_access.network_interfaces", f"the subnetwork {subnet} does not exist in {location}.")
        # "Direct VPC egress with a VPC network": /26 or larger.
        if found and int(found["ipCidrRange"].rpartition("/")[2]) > 26:
            raise violation(
                "service.template.vpc_access.network_interfaces", f"the subnetwork {subnet} has the range {found['ipCidrRange']}: it must be /26 or larger."
            )
        if found and interface.get("network") and interface["network"].rpartition("/")[2] != found["network"].rpartition("/")[2]:
            raise violation("service.template.vpc_access.network_interfaces", f"the subnetwork {subnet} is not one of the network {interface['network']}.")


def secret_references(template: dict[str, Json]) -> t.Iterator[tuple[str, str]]:
    """The secrets and versions that a template names, for files and for the environment."""
    for volume in template.get("volumes", []):
        source = volume.get("secret") or {}
        for item in source.get("items", []) or ([{"version": "latest"}] if source else []):
            yield source.get("secret", ""), item.get("version", "latest")
    for container in template.get("containers", []):
        for variable in container.get("env", []):
            source = (variable.get("valueSource") or {}).get("secretKeyRef")
            if source:
                yield source.get("secret", ""), source.get("version", "latest")


def secret_of(cloud: LocalCloud, reference: str) -> str:
    """By its name alone where it is of the same project."""
    return f"projects/{cloud.project}/secrets/{reference.rpartition('/')[2]}"


def check_secrets(cloud: LocalCloud, template: dict[str, Json]) -> None:
    # "Configure secrets for services": the service's identity must be able to read each when it is deployed.
    account = template.get("serviceAccount") or cloud.default_service_account
    for reference, version in secret_references(template):
        name = secret_of(cloud, reference)
        where = f"projects/{cloud.project_number}/secrets/{reference.rpartition('/')[2]}/versions/{version}"
        roles = identity.roles_in(cloud.policies.get(name, {}), account) + identity.roles_in(cloud.policies[f"projects/{cloud.project}"], account)
        try:
            found = version_of(cloud, name, version) if f"secret/{name}" in cloud.state.resources else None
        except GoogleError:
            found = None
        if not found:
            raise violation("service.template.revision", f"Secret {where} was not found")
        if found["state"] != "ENABLED":
            raise violation("service.template.revision", f"Secret {where} is in {found['state']} state.")
        if not identity.allows(roles, "secretmanager.versions.access"):
            text = f"Permission denied on secret: {where} for Revision service account {account}. The service account used must be granted the "
            raise violation(
                "service.template.revision",
                f"{text}'Secret Manager Secret Accessor' role (roles/secretmanager.secretAccessor) at the secret, project or higher level.",
            )


def check_traffic(cloud: LocalCloud, service: dict[str, Json]) -> None:
    traffic = service.get("traffic", [])
    # "Rollbacks, gradual rollouts, and traffic migration": all of it goes somewhere.
    if traffic and sum(target.get("percent", 0) for target in traffic) != 100:
        raise violation("service.traffic", "the percents of all traffic targets must add up to 100.")
    for target in traffic:
        if target.get("type") == REVISION and f"run/{service.get('name')}/revisions/{target.get('revision')}" not in cloud.state.resources:
            raise violation("service.traffic", f"Revision named '{target.get('revision')}' does not exist.")
        if target.get("type") == LATEST and target.get("revision"):
            raise violation("service.traffic", "a target for the latest revision names none.")


# Services


def completed(cloud: LocalCloud, name: str, service: dict[str, Json]) -> dict[str, Json]:
    """With what Cloud Run adds to a service when it is made or changed."""
    template = merged(
        {
            "timeout": "300s",
            "maxInstanceRequestConcurrency": 80,
            "serviceAccount": cloud.default_service_account,
        },
        service["template"],
    )
    for container in template["containers"]:
        if container.get("ports") or len(template["containers"]) == 1:
            container["ports"] = [{"name": "http1", "containerPort": 8080, **port} for port in container.get("ports") or [{}]]
            default_probe = {"timeoutSeconds": 240, "periodSeconds": 240, "failureThreshold": 1, "tcpSocket": {"port": container["ports"][0]["containerPort"]}}
            container.setdefault("startupProbe", default_probe)
        resources = container.setdefault("resources", {})
        resources["limits"] = {"cpu": "1000m", "memory": "512Mi", **resources.get("limits", {})}
        resources.setdefault("cpuIdle", True)
    defaults = {"ingress": "INGRESS_TRAFFIC_ALL", "launchStage": "GA", "traffic": [{"type": LATEST, "percent": 100}]}
    return {**defaults, **service, "name": name, "template": template}


def url_of(cloud: LocalCloud, name: str) -> str:
    """ "Cloud Run URLs", the deterministic one."""
    _projects, _project, _locations, location, _services, service = name.split("/")
    return f"https://{service}-{cloud.project_number}.{location}.run.app"


def condition(state: str, message: str = "") -> dict[str, Json]:
    return {"type": "Ready", "state": state, "lastTransitionTime": now(), **({"message": message} if message else {})}


def roll_out(cloud: LocalCloud, call: Call, old: dict[str, Json] | None, service: dict[str, Json]) -> dict[str, Json]:
    """Make the new revision, then move the traffic; on failure what served before goes on serving."""
    name = service["name"]
    generation = int(old["generation"]) + 1 if old else 1
    revision = template_revision(cloud, name, old, service, forced=call.flag("forceNewRevision"))
    latest = f"{name}/revisions/{revision}"
    running = {
        **service,
        "uid": old["uid"] if old else cloud.state.uid(),
        "creator": old["creator"] if old else call.caller,
        "createTime": old["createTime"] if old else now(),
        "updateTime": now(),
        "lastModifier": call.caller,
        "generation": str(generation),
        "observedGeneration": str(generation - 1) if old else "0",
        "latestCreatedRevision": latest,
        "reconciling": True,
        "terminalCondition": condition("CONDITION_RECONCILING"),
        "urls": [url_of(cloud, name)],
    }
    if old and old.get("latestReadyRevision"):
        running["latestReadyRevision"] = old["latestReadyRevision"]
        running["trafficStatuses"] = old.get("trafficStatuses", [])
    running["etag"] = f'"{etag(running)}"'
    ready = {
        **running,
        "observedGeneration": str(generation),
        "latestReadyRevision": latest,
        "reconciling": False,
        "terminalCondition": condition("CONDITION_SUCCEEDED"),
        "uri": url_of(cloud, name),
        "trafficStatuses": [statuses_of(cloud, target, name) for target in service["traffic"]],
    }
    failed = {
        **running,
        "reconciling": False,
        "observedGeneration": str(generation),
        "terminalCondition": condition("CONDITION_FAILED", f"Revision '{revision}' is not ready and cannot serve traffic."),
    }
    if call.flag("validateOnly"):
        return finished(cloud, call, ready)
    path = f"run/{name}"
    # "Manage revisions": they are immutable, so one that has failed serves nothing later on either.
    has_failed = old and old["latestCreatedRevision"] == latest and old["terminalCondition"]["state"] == "CONDITION_FAILED"
    serves = any(target.get("type") == LATEST for target in service["traffic"])
    error = {"code": 9, "message": failed["terminalCondition"]["message"]} if has_failed and serves else None
    revision_json = {
        "name": latest,
        "uid": cloud.state.uid(),
        "generation": "1",
        "createTime": now(),
        "service": service["name"].rpartition("/")[2],
        **{
            field: value
            for field, value in service["template"].items()
            if field
            in (
                "containers",
                "volumes",
                "serviceAccount",
                "timeout",
                "maxInstanceRequestConcurrency",
                "vpcAccess",
                "executionEnvironment",
                "labels",
                "annotations",
                "scaling",
            )
        },
    }
    revision_json["etag"] = f'"{etag(revision_json)}"'
    cloud.state.put(path, running)
    cloud.state.resources.setdefault(f"run/{latest}", revision_json)
    return begin(cloud, call, path, ready, changes=[(path, ready)], changes_on_error=[(path, failed)], work=("service_up", path, latest), error=error)


def template_revision(cloud: LocalCloud, name: str, old: dict[str, Json] | None, service: dict[str, Json], *, forced: bool) -> str:
    """The name of the revision: the old one's while the template is the same ("Managing revisions")."""
    wanted = service["template"].get("revision")
    if old and not forced and not wanted and old["template"] == service["template"]:
        return str(old["latestCreatedRevision"].rpartition("/")[2])
    short = name.rpartition("/")[2]
    if wanted:
        if not wanted.startswith(f"{short}-") or f"run/{name}/revisions/{wanted}" in cloud.state.resources:
            raise violation("service.template.revision", f"Revision named '{wanted}' exists already, or does not begin with the service's name.")
        return str(wanted)
    number = len(cloud.state.below(f"run/{name}/revisions/")) + 1
    return f"{short}-{number:05d}-{etag([name, number, service['template']])[:3]}"


def statuses_of(cloud: LocalCloud, target: dict[str, Json], name: str) -> dict[str, Json]:
    tagged = {"uri": url_of(cloud, name).replace("https://", f"https://{target['tag']}---")} if target.get("tag") else {}
    return {**target, **tagged}


def begin(cloud: LocalCloud, call: Call, path: str, response: dict[str, Json], **options: t.Any) -> dict[str, Json]:
    metadata = {"@type": f"type.googleapis.com/{TYPE}", **public(cloud.state.resources.get(path, response))}
    return begin_lro(cloud, call, path, TYPE, response, metadata=metadata, **options)


def finished(cloud: LocalCloud, call: Call, response: dict[str, Json]) -> dict[str, Json]:
    """The answer of a dry run: what would be."""
    return {
        "name": f"{location(cloud, call)}/operations/{cloud.state.uid()}",
        "done": True,
        "response": {"@type": f"type.googleapis.com/{TYPE}", **public(response)},
    }


def check_etag(given: str | None, service: dict[str, Json]) -> None:
    if given and given != service["etag"]:
        raise GoogleError(
            409,
            f"Conflict for resource '{service['name'].rpartition('/')[2]}': version '{given}' was specified but current version is '{service['etag']}'.",
            status="ABORTED",
        )


def check_idle(cloud: LocalCloud, path: str) -> None:
    if cloud.busy(path):
        raise GoogleError(409, f"Conflict for resource '{path.rpartition('/')[2]}': another operation is in progress.", status="ABORTED")


@handles(f"{SERVICES}.list")
def list_services(cloud: LocalCloud, call: Call) -> Json:
    place = "" if call.get("locationsId") == "-" else f"/locations/{call.get('locationsId')}/"
    pattern = re.compile(rf"run/projects/{cloud.project_id(call.get('projectsId'))}/locations/[^/]+/services/[^/]+")
    names = [name for name in sorted(cloud.state.resources) if pattern.fullmatch(name) and place in name]
    found = [service for name in names if (service := cloud.state.read(name))]
    return page(call, map(public, found), "services")


@handles(f"{SERVICES}.get")
def get_service(cloud: LocalCloud, call: Call) -> Json:
    return public(existing(cloud, call)[1])


@handles(f"{SERVICES}.create")
def create_service(cloud: LocalCloud, call: Call) -> Json:
    service_id = call.get("serviceId")
    # API reference, services.create: a letter first, no hyphen last, fewer than 50 characters.
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?", service_id):
        raise violation(
            "CreateServiceRequest.service_id",
            f"Service id {service_id} must use only lowercase letters, digits and hyphens, begin with a letter, and be shorter than 50.",
        )
    name = f"{location(cloud, call)}/services/{service_id}"
    if f"run/{name}" in cloud.state.resources:
        raise GoogleError(409, f"Resource '{service_id}' already exists.", status="ALREADY_EXISTS")
    check_quota(cloud, "run.services", len(cloud.state.below(f"run/{location(cloud, call)}/services/")))
    service = {**call.body, "name": name}
    check_service(cloud, call.get("locationsId"), service)
    return roll_out(cloud, call, None, completed(cloud, name, service))


@handles(f"{SERVICES}.patch")
def patch_service(cloud: LocalCloud, call: Call) -> Json:
    name = service_name(cloud, call)
    if f"run/{name}" not in cloud.state.resources and call.flag("allowMissing"):
        service = {**call.body, "name": name}
        check_service(cloud, call.get("locationsId"), service)
        return roll_out(cloud, call, None, completed(cloud, name, service))
    _name, old = existing(cloud, call)
    if call.body.get("name") and cloud_name(cloud, call.body["name"]) != name:
        raise violation("UpdateServiceRequest.service.name", f"it must be {name}.")
    check_etag(call.body.get("etag"), old)
    check_idle(cloud, f"run/{name}")
    old = cloud.state.resources[f"run/{name}"]
    mask = call.get("updateMask")
    given = {field: value for field, value in call.body.items() if field not in ("name", "etag")}
    # API reference, services.patch: without a mask the whole service is replaced.
    service = masked(old, given, mask) if mask and mask != "*" else given
    service = {**{field: value for field, value in service.items() if field not in OUTPUT}, "name": name}
    if "template" in service:
        service["template"] = {field: value for field, value in service["template"].items() if field != "revision" or field in given.get("template", {})}
    check_service(cloud, call.get("locationsId"), service)
    return roll_out(cloud, call, old, completed(cloud, name, service))


OUTPUT = {
    "uid", "generation", "createTime", "updateTime", "creator", "lastModifier", "observedGeneration", "terminalCondition", "conditions", "etag", "uri", "urls",
    "latestReadyRevision", "latestCreatedRevision", "trafficStatuses", "reconciling",
}  # fmt: skip


def cloud_name(cloud: LocalCloud, name: str) -> str:
    return name.replace(f"projects/{cloud.project_number}/", f"projects/{cloud.project}/", 1)


@handles(f"{SERVICES}.delete")
def delete_service(cloud: LocalCloud, call: Call) -> Json:
    name, service = existing(cloud, call)
    check_etag(call.get("etag"), service)
    path = f"run/{name}"
    check_idle(cloud, path)
    gone = {**service, "deleteTime": now(), "expireTime": now(30 * 86400)}
    if call.flag("validateOnly"):
        return finished(cloud, call, gone)
    below = [one for one in cloud.state.resources if one.startswith(f"{path}/")]
    cloud.policies.pop(name, None)
    return begin(cloud, call, path, gone, changes=[(one, None) for one in (*below, path)], work=("service_down", path))


@handles(f"{SERVICES}.getIamPolicy")
def get_service_policy(cloud: LocalCloud, call: Call) -> Json:
    return get_policy(cloud, existing(cloud, call)[0])


@handles(f"{SERVICES}.setIamPolicy")
def set_service_policy(cloud: LocalCloud, call: Call) -> Json:
    return set_policy(cloud, call, existing(cloud, call)[0])


@handles(f"{SERVICES}.testIamPermissions")
def test_service_permissions(cloud: LocalCloud, call: Call) -> Json:
    return test_permissions(cloud, call, existing(cloud, call)[0])


@handles(f"{SERVICES}.revisions.list")
def list_revisions(cloud: LocalCloud, call: Call) -> Json:
    found = cloud.state.below(f"run/{existing(cloud, call)[0]}/revisions/").values()
    return page(call, map(public, reversed(list(found))), "revisions")


@handles(f"{SERVICES}.revisions.get")
def get_revision(cloud: LocalCloud, call: Call) -> Json:
    found = cloud.state.read(f"run/{existing(cloud, call)[0]}/revisions/{call.get('revisionsId')}")
    if not found:
        raise GoogleError(404, f"Resource '{call.get('revisionsId')}' of kind 'REVISION' does not exist.")
    return public(found)


# Domain mappings


def mapping_path(cloud: LocalCloud, call: Call, domain: str) -> str:
    return f"mapping/{cloud.project_id(call.get('projectsId') or call.get('namespacesId'))}/{domain}"


@handles("run.projects.locations.domainmappings.list", "run.namespaces.domainmappings.list")
def list_mappings(cloud: LocalCloud, call: Call) -> Json:
    found = cloud.state.below(mapping_path(cloud, call, ""))
    return {"apiVersion": "domains.cloudrun.com/v1", "kind": "DomainMappingList", "items": list(found.values())}


@handles("run.projects.locations.domainmappings.get", "run.namespaces.domainmappings.get")
def get_mapping(cloud: LocalCloud, call: Call) -> Json:
    domain = call.get("domainmappingsId")
    found = cloud.state.read(mapping_path(cloud, call, domain))
    if not found:
        raise GoogleError(404, f"Resource '{domain}' of kind 'DOMAINMAPPING' in project '{cloud.project}' does not exist.")
    return found


@handles("run.projects.locations.domainmappings.create", "run.namespaces.domainmappings.create")
def create_mapping(cloud: LocalCloud, call: Call) -> Json:
    body = call.body
    domain = (body.get("metadata") or {}).get("name", "")
    path = mapping_path(cloud, call, domain)
    if body.get("apiVersion") != "domains.cloudrun.com/v1" or body.get("kind") != "DomainMapping" or "." not in domain:
        raise GoogleError(400, "apiVersion must be domains.cloudrun.com/v1, kind DomainMapping, and metadata.name a domain.")
    if path in cloud.state.resources:
        raise GoogleError(409, f"Resource '{domain}' already exists.", status="ALREADY_EXISTS")
    # "Mapping custom domains": the caller has verified the domain.
    if not any(domain == verified or domain.endswith(f".{verified}") for verified in cloud.verified_domains):
        text = f"Caller is not authorized to administer the domain '{domain}'. If you own '{domain}', you can obtain authorization"
        raise GoogleError(403, f"{text} by verifying ownership of the domain.")
    route = (body.get("spec") or {}).get("routeName", "")
    names = [name for name in cloud.state.resources if re.fullmatch(rf"run/projects/[^/]+/locations/[^/]+/services/{re.escape(route)}", name)]
    if not names:
        raise GoogleError(400, f"Violation in DomainMapping.spec.routeName: the service {route} does not exist.")
    record = {"name": domain.partition(".")[0], "type": "CNAME", "rrdata": "ghs.googlehosted.com."}
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in ("Ready", "CertificateProvisioned", "DomainRoutable")]
    mapping = {
        **body,
        "metadata": {
            **body["metadata"],
            "namespace": cloud.project_number,
            "uid": cloud.state.uid(),
            "generation": 1,
            "resourceVersion": "AAA",
            "creationTimestamp": now(),
        },
        "status": {"observedGeneration": 1, "mappedRouteName": route, "url": f"https://{domain}", "resourceRecords": [record], "conditions": conditions},
    }
    if call.get("dryRun") != "all":
        cloud.state.put(path, mapping)
    return mapping


@handles("run.projects.locations.domainmappings.delete", "run.namespaces.domainmappings.delete")
def delete_mapping(cloud: LocalCloud, call: Call) -> Json:
    get_mapping(cloud, call)
    if call.get("dryRun") != "all":
        cloud.state.put(mapping_path(cloud, call, call.get("domainmappingsId")), None)
    return {"status": "Success"}


@handles("run.projects.locations.authorizeddomains.list", "run.projects.authorizeddomains.list", "run.namespaces.authorizeddomains.list")
def list_authorized_domains(cloud: LocalCloud, call: Call) -> Json:
    return page(call, ({"id": domain} for domain in sorted(cloud.verified_domains)), "domains")
