#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloud_run_service
short_description: Manage a service of Cloud Run
description:
  - Creates, changes or deletes a service of one container, and waits until its new revision is ready. Traffic moves to it only then.
  - The container is as the task says. Other settings that are not given stay as they are.
  - A service that is not ready, because its last revision failed, gets a new one, if only from the same template. If that fails too, so does the module.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._gcp
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: Google validates the request (C(validateOnly)), unless it refers to what does not exist yet. That is a warning then.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: Name of the service.
    type: str
    required: true
  region:
    description: Region.
    type: str
    required: true
  state:
    description: V(absent) deletes the service.
    type: str
    choices: [present, absent]
    default: present
  image:
    description: Image of the container. Needed unless O(state=absent).
    type: str
  command:
    description: The container's entry point. Left out, the image's.
    type: list
    elements: str
    default: []
  args:
    description: Its arguments. Left out, the image's.
    type: list
    elements: str
    default: []
  port:
    description: Port that the container listens on, on all addresses.
    type: int
    default: 8080
  env:
    description: Environment variables, readable by all who may see the service.
    type: dict
    default: {}
  secret_env:
    description: Environment variables whose values come from Secret Manager.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the variable.
        type: str
        required: true
      secret:
        description: Name of the secret, or C(projects/PROJECT/secrets/NAME).
        type: str
        required: true
      version:
        description: Version. With V(latest), each new instance takes the latest, and a new version makes no new revision.
        type: str
        required: true
  secret_volumes:
    description: Secrets as files. The mounted folder holds nothing else.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the volume.
        type: str
        required: true
      mount_path:
        description: Folder in the container.
        type: str
        required: true
      secret:
        description: Name of the secret, or C(projects/PROJECT/secrets/NAME).
        type: str
        required: true
      items:
        description: The files.
        type: list
        elements: dict
        required: true
        suboptions:
          path:
            description: Name of the file.
            type: str
            required: true
          version:
            description: Version of the secret.
            type: str
            required: true
  cpu:
    description: CPUs of an instance.
    type: str
    default: "1"
  memory:
    description: Memory of an instance.
    type: str
    default: 512Mi
  cpu_idle:
    description: Whether an instance has its CPUs only while it has a request or an open WebSocket.
    type: bool
    default: true
  startup_cpu_boost:
    description: Whether an instance has more CPU while it starts.
    type: bool
    default: true
  startup_probe:
    description: What tells that an instance has started. Left out, Google's own, which is that the port is open.
    type: dict
    suboptions: &probe
      path:
        description: Path to ask for by HTTP. Left out, the port has to be open, which is for the startup probe alone.
        type: str
      initial_delay_seconds:
        description: Seconds before the first probe.
        type: int
        default: 0
      period_seconds:
        description: Seconds from probe to probe.
        type: int
        default: 10
      timeout_seconds:
        description: Seconds that an answer may take. Not more than C(period_seconds).
        type: int
        default: 1
      failure_threshold:
        description: Failures in a row that count.
        type: int
        default: 3
  liveness_probe:
    description: What tells that an instance still works; one that does not is replaced. Left out, there is none.
    type: dict
    suboptions: *probe
  min_instance_count:
    description: Instances that are always there.
    type: int
  max_instance_count:
    description: Most instances.
    type: int
  max_instance_request_concurrency:
    description: Most requests of an instance at a time, 1 to 1000. An open WebSocket is one.
    type: int
  request_timeout:
    description: Seconds that a request may take, 1 to 3600. An open WebSocket is cut then.
    type: int
  execution_environment:
    description: Kind of the sandbox.
    type: str
    choices: [EXECUTION_ENVIRONMENT_GEN1, EXECUTION_ENVIRONMENT_GEN2]
  service_account:
    description: E-mail address of the service account that the container acts as.
    type: str
  network:
    description: VPC network for Direct VPC egress, by its name or as C(projects/PROJECT/global/networks/NAME).
    type: str
  subnetwork:
    description: Subnetwork in O(region) for Direct VPC egress, /26 or larger, by its name or as C(projects/PROJECT/regions/REGION/subnetworks/NAME).
    type: str
  network_tags:
    description: Network tags for Direct VPC egress.
    type: list
    elements: str
    default: []
  connector:
    description: Serverless VPC Access connector, in place of Direct VPC egress, as C(projects/PROJECT/locations/REGION/connectors/NAME).
    type: str
  egress:
    description: What goes into the VPC network.
    type: str
    choices: [ALL_TRAFFIC, PRIVATE_RANGES_ONLY]
    default: PRIVATE_RANGES_ONLY
  ingress:
    description: Who reaches the service. With V(INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER), the VPC and Google's load balancers.
    type: str
    choices: [INGRESS_TRAFFIC_ALL, INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER]
  invoker_iam_disabled:
    description: Whether everybody whom O(ingress) lets in may call the service. This is Google's recommended way to make one public.
    type: bool
  invokers:
    description: Who else may call it, as IAM members. They get C(roles/run.invoker). Others who have it keep it.
    type: list
    elements: str
    default: []
  default_uri_disabled:
    description: Whether the C(run.app) address is closed, which leaves domain mappings and load balancers.
    type: bool
  traffic_revision:
    description: Revision that gets all the traffic, such as V(prefect-proxy-00004-abc). Empty means the latest that is ready.
    type: str
    default: ""
  description:
    description: What the service is for.
    type: str
  labels:
    description: Labels. Others that the service has stay.
    type: dict
"""

EXAMPLES = r"""
- name: Run nginx in front of Prefect
  selfhost.prefect.cloud_run_service:
    project: my-project
    region: europe-west1
    name: prefect-proxy
    image: nginx:1.28-alpine
    secret_volumes:
      - name: nginx
        mount_path: /etc/nginx
        secret: prefect-nginx
        items:
          - {path: nginx.conf, version: "3"}
    startup_probe: {path: /api/health, timeout_seconds: 5, failure_threshold: 18}
    liveness_probe: {path: /nginx-health, period_seconds: 30, timeout_seconds: 5}
    min_instance_count: 1
    max_instance_count: 3
    max_instance_request_concurrency: 1000
    request_timeout: 3600
    service_account: prefect-proxy@my-project.iam.gserviceaccount.com
    network: default
    subnetwork: prefect-run
    ingress: INGRESS_TRAFFIC_ALL
    invoker_iam_disabled: true

- name: Go back to an earlier revision
  selfhost.prefect.cloud_run_service:
    project: my-project
    region: europe-west1
    name: prefect-proxy
    image: nginx:1.28-alpine
    traffic_revision: prefect-proxy-00004-abc
"""

RETURN = r"""
service:
  description: The service as the API gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Its resource name.
      type: str
    uri:
      description: Its main address.
      type: str
    urls:
      description: All its addresses.
      type: list
      elements: str
    latestReadyRevision:
      description: Resource name of the latest revision that is ready.
      type: str
    trafficStatuses:
      description: Which revision gets how much of the traffic.
      type: list
      elements: dict
    template:
      description: What new revisions are made from.
      type: dict
  sample:
    name: projects/my-project/locations/europe-west1/services/prefect-proxy
    uri: https://prefect-proxy-abc123-ew.a.run.app
    latestReadyRevision: projects/my-project/locations/europe-west1/services/prefect-proxy/revisions/prefect-proxy-00005-xyz
uri:
  description: The main address; empty in check mode before there is one.
  returned: success
  type: str
  sample: https://prefect-proxy-abc123-ew.a.run.app
revision:
  description: Name of the latest revision that is ready.
  returned: success
  type: str
  sample: prefect-proxy-00005-xyz
"""

import ipaddress
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import (
    FORBIDDEN,
    GcpClient,
    GcpError,
    Json,
    Resource,
    converge,
    converge_members,
    given,
    overlaid,
    run_module,
)

INVOKER = "roles/run.invoker"
# Direct VPC egress takes its addresses in blocks of 16, and needs at least this.
LONGEST_PREFIX = 26
# Seconds that Cloud Run waits for a container to start.
LONGEST_START = 240
FAILED = "CONDITION_FAILED"


def probe(params: Json | None, port: int) -> Json | None:
    if params is None:
        return None
    return {
        **({"httpGet": {"path": params["path"], "port": port}} if params["path"] else {"tcpSocket": {"port": port}}),
        "initialDelaySeconds": params["initial_delay_seconds"],
        "periodSeconds": params["period_seconds"],
        "timeoutSeconds": params["timeout_seconds"],
        "failureThreshold": params["failure_threshold"],
    }


def container(params: Json) -> Json:
    """Describe the container in full: what a list or None leaves out is not to be there."""
    plain = [{"name": name, "value": str(value)} for name, value in params["env"].items()]
    secret = [{"name": item["name"], "valueSource": {"secretKeyRef": {"secret": item["secret"], "version": item["version"]}}} for item in params["secret_env"]]
    return {
        "image": params["image"],
        "command": params["command"],
        "args": params["args"],
        "ports": [{"name": "http1", "containerPort": params["port"]}],
        "env": sorted(plain + secret, key=lambda item: str(item["name"])),
        "resources": {
            "limits": {"cpu": params["cpu"], "memory": params["memory"]},
            "cpuIdle": params["cpu_idle"],
            "startupCpuBoost": params["startup_cpu_boost"],
        },
        "volumeMounts": [{"name": item["name"], "mountPath": item["mount_path"]} for item in params["secret_volumes"]],
        **given({"startupProbe": probe(params["startup_probe"], params["port"])}),
        "livenessProbe": probe(params["liveness_probe"], params["port"]),
    }


def vpc_access(params: Json) -> Json | None:
    if params["connector"]:
        return {"connector": params["connector"], "egress": params["egress"]}
    if not params["network"] and not params["subnetwork"]:
        return None
    interface = given({"network": params["network"], "subnetwork": params["subnetwork"]})
    return {"networkInterfaces": [{**interface, "tags": params["network_tags"]}], "egress": params["egress"]}


def wanted_service(params: Json) -> Json:
    """Give what the task asks for, in the API's words."""
    template = given(
        {
            "serviceAccount": params["service_account"],
            "executionEnvironment": params["execution_environment"],
            "maxInstanceRequestConcurrency": params["max_instance_request_concurrency"],
            "timeout": f"{params['request_timeout']}s" if params["request_timeout"] else None,
        }
    )
    template["volumes"] = [{"name": item["name"], "secret": {"secret": item["secret"], "items": item["items"]}} for item in params["secret_volumes"]]
    template["containers"] = [container(params)]
    template["vpcAccess"] = vpc_access(params)
    to_revision = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": params["traffic_revision"], "percent": 100}
    to_latest = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}
    labels = params["labels"]
    wanted = given(
        {
            "description": params["description"],
            "labels": None if labels is None else {name: str(value) for name, value in labels.items()},
            "ingress": params["ingress"],
            "invokerIamDisabled": params["invoker_iam_disabled"],
            "defaultUriDisabled": params["default_uri_disabled"],
            "scaling": given({"minInstanceCount": params["min_instance_count"], "maxInstanceCount": params["max_instance_count"]}) or None,
            "traffic": [to_revision if params["traffic_revision"] else to_latest],
        }
    )
    return {**wanted, "template": template}


class Service(Resource):
    """A service; each change of its template makes a revision."""

    api = "run"
    unordered: t.ClassVar[dict[str, str]] = {"env": "name", "volumes": "name", "volumeMounts": "mountPath", "tags": ""}

    def __init__(self, client: GcpClient, params: Json) -> None:
        self.params = params
        self.region = params["region"]
        self.collection = f"v2/projects/{client.project}/locations/{self.region}/services"
        wanted = wanted_service(params) if params["state"] == "present" else None
        super().__init__(client, params["name"], f"{self.collection}/{params['name']}", wanted)
        self.failed = False

    def is_settled(self, current: Json) -> bool:
        return not current.get("reconciling")

    def compare(self, current: Json) -> Json:
        """A service whose last revision failed stays so whatever has passed since, until it gets another one."""
        before = super().compare(current)
        self.failed = not self.absent and current.get("terminalCondition", {}).get("state") == FAILED
        if self.failed:
            self.wanted = {**self.wanted, "terminalCondition": {"state": "CONDITION_SUCCEEDED"}}
            before["terminalCondition"] = {"state": FAILED}
        return before

    def changes(self) -> Json:
        """Give what of wanted has to be written. The condition follows from the template."""
        changes = super().changes()
        if self.failed:
            del changes["terminalCondition"]
            changes["template"] = self.wanted["template"]
        return changes

    def how(self) -> Json:
        """Say what of the service is written, and that there has to be a new revision even of the same template."""
        return {"updateMask": ",".join(self.changes()), **({"forceNewRevision": "true"} if self.failed else {})}

    def look(self, api: str, path: str) -> Json | None:
        """Read something that the service refers to; who may not see it may still be allowed to use it."""
        try:
            return self.client.get(api, path)
        except GcpError as exc:
            if exc.reasons & FORBIDDEN:
                return {}
            raise

    def missing(self) -> list[str]:
        if self.absent:
            return []
        found = [self.missing_subnetwork(), *(self.missing_version(secret, version) for secret, version in self.versions())]
        account = self.params["service_account"]
        if account and self.look("iam", f"v1/projects/{self.client.project}/serviceAccounts/{account}") is None:
            found.append(f"service_account: {account} does not exist: create it first.")
        return [problem for problem in found if problem]

    def missing_subnetwork(self) -> str | None:
        name = self.params["subnetwork"]
        if not name:
            return None
        match = re.search(r"projects/[^/]+/regions/([^/]+)/subnetworks/[^/]+$", name)
        if match and match[1] != self.region:
            raise GcpError(f"subnetwork: {name} is in another region than the service, {self.region}", f"give one in {self.region}")
        path = match[0] if match else f"projects/{self.client.project}/regions/{self.region}/subnetworks/{name}"
        subnetwork = self.look("compute", path)
        if subnetwork is None:
            return f"subnetwork: {name} does not exist in the region {self.region}: create it first, or correct the region."
        size = ipaddress.ip_network(subnetwork.get("ipCidrRange", "0.0.0.0/0"))
        if size.prefixlen > LONGEST_PREFIX:
            raise GcpError(f"subnetwork: {name} is {size}, which is too small for Direct VPC egress", f"use one of /{LONGEST_PREFIX} or larger")
        return None

    def versions(self) -> list[tuple[str, str]]:
        """Name the versions of secrets that the service reads."""
        mounted = [(volume["secret"], item["version"]) for volume in self.params["secret_volumes"] for item in volume["items"]]
        return sorted({*mounted, *((item["secret"], item["version"]) for item in self.params["secret_env"])})

    def missing_version(self, secret: str, version: str) -> str | None:
        path = secret if secret.startswith("projects/") else f"projects/{self.client.project}/secrets/{secret}"
        found = self.look("secretmanager", f"v1/{path}/versions/{version}")
        if found is None:
            return f"the secret {secret} has no version {version}: add it first, or correct its name."
        if found.get("state", "ENABLED") != "ENABLED":
            return f"the version {version} of the secret {secret} is {found['state']}: enable it, or use another one."
        return None

    def body(self) -> Json:
        """Give what is written, on top of what is there; a revision's name cannot be used twice."""
        current = self.current or {}
        parts = {name: overlaid(current.get(name), value) for name, value in self.changes().items()}
        parts.get("template", {}).pop("revision", None)
        return t.cast(Json, given(parts))

    def rehearse(self) -> None:
        if self.absent:
            return
        try:
            if self.current is None:
                self.client.request(self.api, "POST", self.collection, body=self.body(), query={"serviceId": self.name, "validateOnly": "true"})
            else:
                self.client.request(self.api, "PATCH", self.path, body=self.body(), query={**self.how(), "validateOnly": "true"})
        except GcpError as exc:
            # A dry run by somebody who may only look.
            if not exc.reasons & FORBIDDEN:
                raise
            self.client.tell(str(exc))

    def create(self) -> None:
        self.client.write(self.api, "POST", self.collection, self.body(), serviceId=self.name)

    def update(self) -> None:
        self.client.write(self.api, "PATCH", self.path, self.body(), **self.how())

    def finish(self, current: Json) -> None:
        condition = current.get("terminalCondition", {})
        if condition.get("state") == FAILED:
            words = str(condition.get("message", "Google does not say why")).rstrip(".")
            raise GcpError(f"the service {self.name!r} is not ready ({words})", "look at its logs; an earlier revision keeps its traffic")


def check_params(params: Json) -> None:
    """Refuse what Cloud Run would refuse, before anything is asked."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", params["name"]):
        raise GcpError(f"name: {params['name']!r} is no name of a service", "write up to 49 lower-case letters, digits and hyphens, with a letter first")
    ranges = {"port": (1, 65535), "max_instance_request_concurrency": (1, 1000), "request_timeout": (1, 3600)}
    for option, (least, most) in ranges.items():
        value = params[option]
        if value is not None and not least <= value <= most:
            raise GcpError(f"{option} is {value}", f"write {least} to {most}")
    least, most = params["min_instance_count"] or 0, params["max_instance_count"]
    if most is not None and least > most:
        raise GcpError(f"min_instance_count is {least}, which is more than max_instance_count, {most}", "correct one of them")
    for option in ("startup_probe", "liveness_probe"):
        values = params[option]
        if values and values["timeout_seconds"] > values["period_seconds"]:
            raise GcpError(
                f"{option}: timeout_seconds is {values['timeout_seconds']}, which is longer than period_seconds, {values['period_seconds']}",
                "correct one of them",
            )
    startup, liveness = params["startup_probe"], params["liveness_probe"]
    if startup and startup["period_seconds"] * startup["failure_threshold"] > LONGEST_START:
        seconds = startup["period_seconds"] * startup["failure_threshold"]
        raise GcpError(f"startup_probe: period_seconds times failure_threshold is {seconds} seconds", f"write no more than {LONGEST_START}")
    if liveness and not liveness["path"]:
        raise GcpError("liveness_probe: path is missing", "write a path that answers as long as the container works")
    twice = sorted({item["name"] for item in params["secret_env"]} & set(params["env"]))
    if twice:
        raise GcpError(f"env and secret_env both name {', '.join(twice)}", "remove one of them")


def run(module: AnsibleModule, client: GcpClient) -> Json:
    params = module.params
    check_params(params)
    service = Service(client, params)
    result = converge(service)
    if params["invokers"] and not service.absent:
        members = converge_members(client, service.api, service.path, [INVOKER], members=params["invokers"], state="present")
        result["changed"] |= members["changed"]
        for side in ("before", "after"):
            result["diff"][side].update(members["diff"][side])
    found = result.pop("resource")
    return {
        "service": found,
        "uri": found.get("uri", ""),
        "revision": found.get("latestReadyRevision", "").rpartition("/")[2],
        **result,
    }


def main() -> None:
    text = {"type": "str"}
    name = {"type": "str", "required": True}
    number = {"type": "int"}
    texts = {"type": "list", "elements": "str", "default": []}
    probe_spec = {
        "type": "dict",
        "options": {
            "path": text,
            "initial_delay_seconds": {"type": "int", "default": 0},
            "period_seconds": {"type": "int", "default": 10},
            "timeout_seconds": {"type": "int", "default": 1},
            "failure_threshold": {"type": "int", "default": 3},
        },
    }
    argument_spec: dict[str, t.Any] = {
        "name": name,
        "region": name,
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "image": text,
        "command": texts,
        "args": texts,
        "port": {"type": "int", "default": 8080},
        "env": {"type": "dict", "default": {}},
        "secret_env": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": {"name": name, "secret": {"type": "str", "required": True, "no_log": False}, "version": name},
        },
        "secret_volumes": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "no_log": False,
            "options": {
                "name": name,
                "mount_path": name,
                "secret": {"type": "str", "required": True, "no_log": False},
                "items": {"type": "list", "elements": "dict", "required": True, "options": {"path": name, "version": name}},
            },
        },
        "cpu": {"type": "str", "default": "1"},
        "memory": {"type": "str", "default": "512Mi"},
        "cpu_idle": {"type": "bool", "default": True},
        "startup_cpu_boost": {"type": "bool", "default": True},
        "startup_probe": probe_spec,
        "liveness_probe": probe_spec,
        "min_instance_count": number,
        "max_instance_count": number,
        "max_instance_request_concurrency": number,
        "request_timeout": number,
        "execution_environment": {"type": "str", "choices": ["EXECUTION_ENVIRONMENT_GEN1", "EXECUTION_ENVIRONMENT_GEN2"]},
        "service_account": text,
        "network": text,
        "subnetwork": text,
        "network_tags": texts,
        "connector": text,
        "egress": {"type": "str", "choices": ["ALL_TRAFFIC", "PRIVATE_RANGES_ONLY"], "default": "PRIVATE_RANGES_ONLY"},
        "ingress": {"type": "str", "choices": ["INGRESS_TRAFFIC_ALL", "INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"]},
        "invoker_iam_disabled": {"type": "bool"},
        "invokers": texts,
        "default_uri_disabled": {"type": "bool"},
        "traffic_revision": {"type": "str", "default": ""},
        "description": text,
        "labels": {"type": "dict"},
    }
    run_module(
        run,
        argument_spec,
        required_if=[("state", "present", ["image"])],
        mutually_exclusive=[("connector", "network"), ("connector", "subnetwork")],
    )


if __name__ == "__main__":
    main()
