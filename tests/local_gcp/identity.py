# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who asks, and what they may: tokens, roles, and the parts of Google's sign-in that google-auth talks to.

A token that this cloud has not given out belongs to OWNER, so that any string does. A service account has the roles that the project's
policy gives it, and where `grants` names a caller, exactly those.
"""

from __future__ import annotations

import base64
import fnmatch
import json
import typing as t
from urllib.parse import parse_qs

from .errors import GoogleError

if t.TYPE_CHECKING:
    from .cloud import LocalCloud

OWNER = "owner@example.com"
# Google Cloud IAM, "IAM basic and predefined roles reference", as far as the project's roles use them.
ROLES = {
    "roles/owner": ["*"],
    "roles/editor": ["*.create", "*.update", "*.delete", "*.get", "*.list", "*.use", "serviceusage.services.*", "secretmanager.versions.add"],
    "roles/viewer": ["*.get", "*.list"],
    "roles/cloudsql.admin": ["cloudsql.*"],
    "roles/cloudsql.client": ["cloudsql.instances.connect", "cloudsql.instances.get"],
    "roles/cloudsql.instanceUser": ["cloudsql.instances.get", "cloudsql.instances.login"],
    "roles/cloudsql.viewer": ["cloudsql.*.get", "cloudsql.*.list"],
    "roles/compute.admin": ["compute.*"],
    "roles/compute.networkAdmin": ["compute.networks.*", "compute.subnetworks.*", "compute.routers.*", "compute.addresses.*", "compute.globalAddresses.*",
                                   "servicenetworking.*"],
    "roles/compute.viewer": ["compute.*.get", "compute.*.list"],
    "roles/iam.serviceAccountAdmin": ["iam.serviceAccounts.*"],
    "roles/iam.serviceAccountUser": ["iam.serviceAccounts.actAs"],
    "roles/resourcemanager.projectIamAdmin": ["resourcemanager.projects.*"],
    "roles/run.admin": ["run.*"],
    "roles/run.invoker": ["run.routes.invoke"],
    "roles/run.viewer": ["run.*.get", "run.*.list"],
    "roles/secretmanager.admin": ["secretmanager.*"],
    "roles/secretmanager.secretAccessor": ["secretmanager.versions.access"],
    "roles/secretmanager.viewer": ["secretmanager.*.get", "secretmanager.*.list"],
    "roles/servicenetworking.networksAdmin": ["servicenetworking.*"],
    "roles/serviceusage.serviceUsageAdmin": ["serviceusage.services.*"],
}  # fmt: skip
# Where a permission is not named after its method.
PERMISSIONS = {
    "servicenetworking.services.connections.create": "servicenetworking.services.addPeering",
    "servicenetworking.services.connections.patch": "servicenetworking.services.addPeering",
    "servicenetworking.services.connections.deleteConnection": "servicenetworking.services.deleteConnection",
    "servicenetworking.services.connections.list": "servicenetworking.services.get",
    "secretmanager.projects.secrets.addVersion": "secretmanager.versions.add",
    "compute.instances.start": "compute.instances.start",
    "compute.instances.stop": "compute.instances.stop",
}
VERBS = {"insert": "create", "patch": "update", "aggregatedList": "list", "batchGet": "get", "batchEnable": "enable"}
SERVICES = {"sql": "cloudsql", "cloudresourcemanager": "resourcemanager"}


def permission_for(method_id: str) -> str | None:
    """The permission that a method needs; None where everybody may call it."""
    service, *resources, verb = method_id.split(".")
    if verb == "testIamPermissions" or "perations" in resources[-1]:
        return None
    return PERMISSIONS.get(method_id) or f"{SERVICES.get(service, service)}.{resources[-1]}.{VERBS.get(verb, verb)}"


def allows(roles: t.Iterable[str], permission: str) -> bool:
    """A role that this table does not have stands for itself, so that a test can grant one permission by its name."""
    return any(fnmatch.fnmatchcase(permission, pattern) for role in roles for pattern in ROLES.get(role, [role]))


def caller(cloud: LocalCloud, headers: t.Mapping[str, str]) -> str:
    scheme, _space, token = headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not token:
        text = "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential."
        raise GoogleError(401, text, reason="required")
    if token in cloud.revoked_tokens:
        raise GoogleError(401, "Request had invalid authentication credentials. Expected OAuth 2 access token.", reason="authError")
    return cloud.tokens.get(token, OWNER)


def roles_of(cloud: LocalCloud, email: str, project: str) -> list[str]:
    if email in cloud.grants:
        return cloud.grants[email]
    policy = cloud.policies.get(f"projects/{project}", {})
    found = roles_in(policy, email)
    return found or (["roles/owner"] if email in (OWNER, cloud.default_service_account) else [])


def roles_in(policy: dict[str, t.Any], email: str) -> list[str]:
    members = {f"user:{email}", f"serviceAccount:{email}", "allUsers", "allAuthenticatedUsers"}
    return [binding["role"] for binding in policy.get("bindings", []) if members & set(binding.get("members", []))]


def answer_token(cloud: LocalCloud, body: bytes) -> dict[str, t.Any]:
    """Google Identity, "Using OAuth 2.0 for Server to Server Applications": a signed assertion for a token. The signature is not checked."""
    form = parse_qs(body.decode())
    if form.get("grant_type") == ["refresh_token"]:
        return new_token(cloud, OWNER)
    try:
        claims = form["assertion"][0].split(".")[1]
        email = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"]
    except (KeyError, IndexError, ValueError) as error:
        raise GoogleError(400, "Invalid JWT: the assertion cannot be read.", reason="invalid_grant") from error
    if email in cloud.unknown_accounts:
        raise GoogleError(400, "Invalid grant: account not found", reason="invalid_grant")
    return new_token(cloud, email)


def new_token(cloud: LocalCloud, email: str) -> dict[str, t.Any]:
    token = f"local-token-{len(cloud.tokens)}"
    cloud.tokens[token] = email
    return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}


def answer_metadata(cloud: LocalCloud, path: str) -> str | dict[str, t.Any]:
    """Compute Engine, "About VM metadata", as far as google-auth reads it."""
    email = cloud.default_service_account
    about = {"aliases": ["default"], "email": email, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    known: dict[str, t.Callable[[], str | dict[str, t.Any]]] = {
        "": lambda: "computeMetadata/\n",
        "project/project-id": lambda: cloud.project,
        "project/numeric-project-id": lambda: cloud.project_number,
        "universe/universe-domain": lambda: "googleapis.com",
        "instance/service-accounts/default": lambda: about,
        "instance/service-accounts/default/email": lambda: email,
        "instance/service-accounts/default/token": lambda: new_token(cloud, email),
    }
    key = path.removeprefix("/computeMetadata/v1").strip("/").replace(f"/{email}", "/default")
    if key not in known:
        raise GoogleError(404, "the metadata server has no such key")
    return known[key]()
