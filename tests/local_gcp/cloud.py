# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local cloud itself: settings, operations, and one request after the other."""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import json
import threading
import traceback
import typing as t
from pathlib import Path
from time import time

from . import discovery, identity
from .errors import GoogleError, bad_request, error_info
from .server import Server
from .state import Json, State, now

Handler = t.Callable[["LocalCloud", "Call"], Json]
HANDLERS: dict[str, Handler] = {}
# What they read is asked for by POST; everything else that is no GET writes.
READING_VERBS = {"getIamPolicy", "testIamPermissions", "wait", "getAncestry", "validate"}
# gcloud's names for the APIs (CLOUDSDK_API_ENDPOINT_OVERRIDES_*).
GCLOUD_NAMES = {
    "sqladmin": "SQL",
    "compute": "COMPUTE",
    "run": "RUN",
    "secretmanager": "SECRETMANAGER",
    "servicenetworking": "SERVICENETWORKING",
    "serviceusage": "SERVICEUSAGE",
    "cloudresourcemanager": "CLOUDRESOURCEMANAGER",
    "iam": "IAM",
    "artifactregistry": "ARTIFACTREGISTRY",
    "cloudbuild": "CLOUDBUILD",
    "vpcaccess": "VPCACCESS",
}
# Service Usage, "Enabled services", as far as this cloud has them: these are on before anybody has enabled one.
ALWAYS_ENABLED = {"serviceusage"}
# The project of gcloud itself, which people's requests count as where they name no other.
GCLOUD_PROJECT = "764086051850"


def handles(*method_ids: str) -> t.Callable[[Handler], Handler]:
    """The function answers these methods, by their id in the discovery document."""

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(method_ids, function))
        return function

    return register


@dataclasses.dataclass
class Call:
    """One request, checked and taken apart."""

    method: discovery.Method
    path: str
    params: dict[str, str]
    query: dict[str, list[str]]
    body: dict[str, Json]
    headers: t.Mapping[str, str]
    caller: str

    def get(self, name: str, default: str = "") -> str:
        """A parameter, of the path or of the query."""
        return self.params.get(name) or self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        return self.get(name).lower() == "true"


@dataclasses.dataclass
class Fault:
    """An answer in place of the real one, to the next so many calls of a method: {"code": 503}, {"code": 403, "message": ...}."""

    method: str
    code: int
    message: str = "The service is currently unavailable."
    reason: str = ""
    times: int = 1
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class LocalCloud:
    """A Google Cloud on this machine: `with LocalCloud() as cloud:` and then cloud.url.

    project, project_number: the one project there is.
    operation_polls: how often an operation is looked at before it is done; operation_seconds: how long it takes at least.
    state_file: where to keep everything, so that it survives a restart.
    apis: the APIs that are enabled, all where None.
    machines: what makes containers of instances, databases and services; nothing where None.
    """

    def __init__(
        self,
        project: str = "example-project",
        project_number: str = "123456789012",
        *,
        port: int = 0,
        folder: Path | None = None,
        operation_polls: int = 1,
        operation_seconds: float = 0,
        apis: t.Iterable[str] | None = None,
        machines: t.Any = None,
    ) -> None:
        from . import services  # noqa: F401  # they register their handlers

        self.project = project
        self.project_number = project_number
        self.operation_polls = operation_polls
        self.operation_seconds = operation_seconds
        self.machines = machines
        self.handlers = dict(HANDLERS)
        self.lock = threading.RLock()
        self.state = State(folder / "state.json" if folder else None)
        owner = {"bindings": [{"role": "roles/owner", "members": [f"user:{identity.OWNER}"]}]}
        self.policies: dict[str, Json] = self.state.resources.setdefault("policies", {f"projects/{project}": owner})
        if "enabled" not in self.state.resources:
            enabled = set(GCLOUD_NAMES) if apis is None else {name.removesuffix(".googleapis.com") for name in apis}
            self.state.resources["enabled"] = dict.fromkeys(sorted(enabled | ALWAYS_ENABLED), True)
        self.default_service_account = f"{project_number}-compute@developer.gserviceaccount.com"

        # What tests turn on and look at.
        self.requests: list[dict[str, Json]] = []
        self.faults: list[Fault] = []
        self.mistakes: list[str] = []  # answers of this cloud that break Google's schemas
        self.grants: dict[str, list[str]] = {}
        self.quotas: dict[str, int] = {}
        self.tokens: dict[str, str] = {}
        self.revoked_tokens: set[str] = set()
        self.unknown_accounts: set[str] = set()
        self.verified_domains: set[str] = set()
        self.reserved_name_seconds = 0.0
        self.failing_operations: list[tuple[str, Json]] = []
        self.spreading_calls = 0
        self.spreading: dict[str, int] = {}

        self.server = Server(self, port, folder)
        self.port = self.server.port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LocalCloud:  # noqa: PYI034  # Self came with Python 3.11
        self.server.start()
        self._resume()
        if self.machines:
            self.machines.resume(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.server.stop()

    @property
    def enabled(self) -> dict[str, bool]:
        return self.state.resources["enabled"]

    @property
    def ca_file(self) -> str:
        return str(self.server.authority.file)

    @property
    def stale_reads(self) -> int:
        return self.state.stale_reads

    @stale_reads.setter
    def stale_reads(self, reads: int) -> None:
        """Eventual consistency: after a change, so many reads still show what was before."""
        self.state.stale_reads = reads

    def endpoint_environment(self) -> dict[str, str]:
        """gcloud's variables, for clients that take an endpoint."""
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": self.endpoint(service) for service, name in GCLOUD_NAMES.items()}

    def endpoint(self, service: str) -> str:
        """Each API has a path of its own, since some share theirs. Compute's endpoint goes down to the version, as with gcloud."""
        return f"{self.url}/{service}.googleapis.com/{'compute/v1/' if service == 'compute' else ''}"

    def proxy_environment(self) -> dict[str, str]:
        """For clients that know only Google's own addresses."""
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "HTTPLIB2_CA_CERTS")
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), self.url),
            **dict.fromkeys(names, self.ca_file),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "GCE_METADATA_HOST": f"127.0.0.1:{self.port}",
            "GCE_METADATA_IP": f"127.0.0.1:{self.port}",
        }

    def ask(self, http: str, target: str, body: Json = None) -> Json:
        """One request as the owner, without a socket; it is in no log. For what a test needs to be there."""
        api, _slash, path = target.partition("/")
        headers = {"Authorization": "Bearer owner", "X-Goog-User-Project": self.project}
        status, _headers, answer = self.answer(http, f"{api}.googleapis.com", f"/{path}", headers, b"" if body is None else json.dumps(body).encode())
        self.requests.pop()
        self.settle()
        if status != 200:
            raise GoogleError(status, answer["error"]["message"])
        return answer

    def make_network(self, name: str = "default", region: str = "us-central1", block: str = "10.10.0.0/20", *, peered: bool = False) -> None:
        """A network with one subnet of the same name; with peered also private services access, in the range NAME-services."""
        base = f"compute/compute/v1/projects/{self.project}"
        link = f"projects/{self.project}/global/networks/{name}"
        self.ask("POST", f"{base}/global/networks", {"name": name, "autoCreateSubnetworks": False})
        self.ask("POST", f"{base}/regions/{region}/subnetworks", {"name": name, "network": link, "ipCidrRange": block})
        if not peered:
            return
        services = f"{name}-services"
        address = {"name": services, "addressType": "INTERNAL", "purpose": "VPC_PEERING", "prefixLength": 20, "network": link}
        self.ask("POST", f"{base}/global/addresses", address)
        connection = {"network": f"projects/{self.project_number}/global/networks/{name}", "reservedPeeringRanges": [services]}
        self.ask("POST", "servicenetworking/v1/services/servicenetworking.googleapis.com/connections", connection)

    def writes(self) -> list[str]:
        """The requests that changed something, or tried to."""
        return [f"{request['method']} {request['path']}" for request in self.requests if request["writes"]]

    def fail(self, method: str, code: int, message: str = "The service is currently unavailable.", **options: t.Any) -> None:
        """Answer the next call of a method (its id, with * for any part) with an error; times=N for more than one."""
        self.faults.append(Fault(method, code, message, **options))

    def fail_operation(self, method: str, code: int, message: str, *, times: int = 1) -> None:
        """Let the operation that a method begins next end with an error, whose code is one of google.rpc.Code."""
        self.failing_operations += [(method, {"code": code, "message": message})] * times

    def enable(self, apis: t.Iterable[str]) -> None:
        """As Service Usage does it: at once, but the API itself may take some calls to know."""
        self.enabled.update(dict.fromkeys(apis, True))
        self.spreading.update(dict.fromkeys(apis, self.spreading_calls))

    def answer(self, http: str, host: str, target: str, headers: t.Mapping[str, str], content: bytes) -> tuple[int, dict[str, str], Json]:
        """Answer one request: status, headers, JSON."""
        with self.lock:
            record: dict[str, Json] = {"method": http, "path": target.partition("?")[0], "query": target.partition("?")[2], "id": None, "writes": http != "GET"}
            self.requests.append(record)
            with_errors = "/sql/" in target or "/compute/" in target or host.startswith("sqladmin")
            try:
                status, extra, body = 200, {}, self._answer(record, host, target, headers, content)
            except GoogleError as error:
                with_errors = with_errors or str(record["id"]).startswith("sql.")
                status, extra, body = error.code, error.headers, error.body(with_errors=with_errors)
            except Exception as error:  # noqa: BLE001  # a fault of this cloud is told, and every test sees it
                self.mistakes.append(traceback.format_exc())
                status, extra, body = 500, {}, GoogleError(500, f"The local cloud has a fault of its own: {error!r}").body(with_errors=with_errors)
            record["status"] = status
            if record["writes"]:
                self.state.save()
            self.server.log(record)
            return status, extra, body

    def _answer(self, record: dict[str, Json], host: str, target: str, headers: t.Mapping[str, str], content: bytes) -> Json:
        path, query = self.server.split(target)
        found = discovery.find(host, record["method"], path)
        if not found:
            raise GoogleError(404, f"The requested URL {path} was not found on this server.")
        method, params = found
        api = method.api
        # A dry run writes nothing.
        dry = query.get("validateOnly") == ["true"] or query.get("dryRun") == ["all"]
        record.update(id=method.id, writes=record["writes"] and method.id.rpartition(".")[2] not in READING_VERBS and not dry)
        self._fail_on_purpose(method.id)
        email = identity.caller(self, headers)
        body = read_json(content)
        record["body"] = body
        problems = api.query_problems(method, query) + api.body_problems(method, body)
        if problems:
            details = [bad_request((problem.field, problem.text) for problem in problems)]
            raise GoogleError(400, "\n".join(problem.text for problem in problems), reason="badRequest", details=details)
        # By Compute's and Cloud SQL's patches null takes away; everywhere else it is nothing.
        if not (method.http == "PATCH" and api.service in ("compute", "sqladmin")):
            body = without_nulls(body)
        self._check_quota_project(api, headers, email)
        call = Call(method, path, params, query, copy.deepcopy(body or {}), headers, email)
        self._check_enabled(api)
        self._check_permission(call)
        if method.id not in self.handlers:
            raise GoogleError(501, f"The local cloud has no {method.id}.")
        answer = self.handlers[method.id](self, call)
        mistakes = api.answer_problems(method, answer)
        if mistakes:
            self.mistakes += [f"{method.id}: {problem.text}" for problem in mistakes]
            raise GoogleError(500, f"The local cloud's own answer to {method.id} is none of Google's: {mistakes}")
        return answer

    def _fail_on_purpose(self, method_id: str) -> None:
        for fault in self.faults:
            if fault.times > 0 and fnmatch.fnmatchcase(method_id, fault.method):
                fault.times -= 1
                raise GoogleError(fault.code, fault.message, reason=fault.reason, headers=fault.headers)

    def _fail_operation_on_purpose(self, method_id: str) -> Json:
        for fault in self.failing_operations:
            if fnmatch.fnmatchcase(method_id, fault[0]):
                self.failing_operations.remove(fault)
                return fault[1]
        return None

    def _check_enabled(self, api: discovery.Api) -> None:
        # Service Usage, "Enable and disable services"; the message is what its error SERVICE_DISABLED says.
        left = self.spreading.pop(api.service, 0)
        if api.service in self.enabled and not left:
            return
        if left > 1:
            self.spreading[api.service] = left - 1
        link = f"https://console.developers.google.com/apis/api/{api.host}/overview?project={self.project}"
        text = (
            f"{api.host} API has not been used in project {self.project} before or it is disabled. Enable it by visiting {link} then retry. "
            "If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
        )
        details = [error_info("SERVICE_DISABLED", "googleapis.com", service=api.host, consumer=f"projects/{self.project}")]
        raise GoogleError(403, text, reason="accessNotConfigured", details=details)

    def _check_quota_project(self, api: discovery.Api, headers: t.Mapping[str, str], email: str) -> None:
        """Cloud Quotas, "About the quota project": what a person asks counts as the project's that a header names, else as the resource's."""
        named = headers.get("X-Goog-User-Project")
        if named:
            if not identity.allows(identity.roles_of(self, email, self.project_id(named)), "serviceusage.services.use"):
                text = f"Caller does not have required permission to use project {named}. Grant the caller the roles/serviceusage.serviceUsageConsumer role."
                raise GoogleError(403, text, details=[error_info("USER_PROJECT_DENIED", "googleapis.com", service=api.host, consumer=f"projects/{named}")])
        elif api.service == "servicenetworking" and not email.endswith(".gserviceaccount.com"):
            # Its paths name no project; "Troubleshoot your ADC setup" has the message.
            text = f"Your application is authenticating by using local Application Default Credentials. The {api.host} API requires a quota project, which is"
            details = [error_info("SERVICE_DISABLED", "googleapis.com", service=api.host, consumer=f"projects/{GCLOUD_PROJECT}")]
            raise GoogleError(403, f"{text} not set by default.", details=details)

    def _check_permission(self, call: Call) -> None:
        permission = identity.permission_for(call.method.id)
        if permission is None or identity.allows(identity.roles_of(self, call.caller, self.project), permission):
            return
        resource = call.path.removeprefix("/compute").removeprefix("/sql").split("/", 2)[-1].split(":")[0]
        # A role on the one resource does as well as one on the project.
        if identity.allows(identity.roles_in(self.policies.get(resource.split("/versions/")[0], {}), call.caller), permission):
            return
        raise permission_denied(call.method.id, permission, resource)

    # Projects

    def project_id(self, reference: str) -> str:
        """A project is known by its id and by its number. Somebody else's looks the same as one that does not exist."""
        if reference in (self.project, self.project_number):
            return self.project
        text = f"Permission denied on resource project {reference}."
        raise GoogleError(403, text, details=[error_info("CONSUMER_INVALID", "googleapis.com", consumer=f"projects/{reference}")])

    # Operations

    def start(self, kind: str, target: str, *, changes: t.Sequence[tuple[str, Json]] = (), work: t.Sequence[str] = (), **fields: Json) -> dict[str, Json]:
        """Begin an operation on a resource: the changes are made when it is done, and the work (a job for the machines) has succeeded."""
        name = self.state.uid()
        error = fields.pop("error", None) or self._fail_operation_on_purpose(kind)
        operation: dict[str, Json] = {
            "name": name,
            "kind": kind,
            "target": target,
            "changes": [list(change) for change in changes],
            "work": list(work) if self.machines and not error else [],
            "polls": self.operation_polls,
            "ready": time() + self.operation_seconds,
            "started": now(),
            "done": False,
            "error": error,
            **fields,
        }
        self.state.operations[name] = operation
        self.begin_work(operation)
        return operation

    def busy(self, target: str) -> bool:
        """Whether an operation runs on a resource. To ask is to look at it, so that who only retries also gets on."""
        running = [operation for operation in self.running(target) if not self.poll(operation)]
        return bool(running)

    def running(self, target: str) -> list[dict[str, Json]]:
        return [operation for operation in self.state.operations.values() if operation["target"] == target and not operation["done"]]

    def poll(self, operation: dict[str, Json]) -> bool:
        """Look at an operation: whether it is done."""
        if not operation["done"]:
            operation["polls"] -= 1
            if operation["polls"] < 0 and time() >= operation["ready"] and not operation["work"]:
                self._finish(operation)
            elif operation.get("stages"):
                self.state.put(*operation["stages"].pop(0))
        return bool(operation["done"])

    def settle(self) -> None:
        """Let every operation finish now: for tests that do not care how long it takes."""
        for operation in list(self.state.operations.values()):
            operation.update(polls=0, ready=0)
            self.poll(operation)

    def look(self, target: str) -> None:
        """Reading a resource is looking at its operations."""
        for operation in self.running(target):
            self.poll(operation)

    def _finish(self, operation: dict[str, Json]) -> None:
        operation.update(done=True, ended=now())
        if operation["error"]:
            operation["changes"] = operation.get("changes_on_error", [])
        self._make_changes(operation)
        self.state.save()

    def _make_changes(self, operation: dict[str, Json]) -> None:
        for name, resource in operation.pop("changes"):
            self.state.put(name, resource)
        operation["changes"] = []

    def begin_work(self, operation: dict[str, Json]) -> None:
        if operation["work"]:
            if operation["work"][0].startswith("apply_"):
                # These look at what there is, so it has to be there first.
                self._make_changes(operation)
            threading.Thread(target=self._work, args=(operation,), daemon=True).start()

    def _work(self, operation: dict[str, Json]) -> None:
        job, *arguments = operation["work"]
        try:
            getattr(self.machines, job)(self, operation, *arguments)
        except Exception as error:  # noqa: BLE001  # whatever it is, the operation ends with it
            words = str(error) if isinstance(error, GoogleError) else f"{type(error).__name__}: {error}"
            operation["error"] = {"code": 13, "message": words}
        with self.lock:
            # It is done when it is looked at next, like one without work.
            operation["work"] = []
            self.poll(operation)

    def _resume(self) -> None:
        """After a restart the work that had begun begins anew."""
        with self.lock:
            for operation in self.state.operations.values():
                if not operation["done"]:
                    self.begin_work(operation)


def read_json(content: bytes) -> Json:
    if not content:
        return None
    try:
        body = json.loads(content)
    except ValueError as error:
        raise GoogleError(400, f"Invalid JSON payload received. {error}", reason="parseError") from error
    if not isinstance(body, dict):
        raise GoogleError(400, "Invalid JSON payload received. The body is no object.", reason="parseError")
    return body


def without_nulls(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def permission_denied(method_id: str, permission: str, resource: str) -> GoogleError:
    """Each service words it in its own way."""
    if method_id.startswith("sql."):
        text = f"boss::NOT_AUTHORIZED: Not authorized to access resource. Possibly missing permission {permission} on resource {resource}."
        return GoogleError(403, text, reason="notAuthorized")
    if method_id.startswith("compute."):
        return GoogleError(403, f"Required '{permission}' permission for '{resource}'", reason="forbidden")
    text = f"Permission '{permission}' denied on resource '{resource}' (or it may not exist)."
    details = [error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", permission=permission, resource=resource)]
    return GoogleError(403, text, details=details)
