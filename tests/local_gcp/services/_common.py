# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several services do in the same way."""

from __future__ import annotations

import typing as t

from .. import identity
from ..cloud import Call, LocalCloud
from ..errors import GoogleError, error_info
from ..state import Json, etag

# AIP-158: how many there are on a page when nobody says.
PAGE = 500


def public(resource: dict[str, Json]) -> dict[str, Json]:
    """A resource as its API shows it: names with an underscore are this cloud's own notes."""
    return {name: value for name, value in resource.items() if not name.startswith("_")}


def page(call: Call, resources: t.Iterable[Json], field: str, **rest: Json) -> dict[str, Json]:
    """A list, cut into pages. An empty one has no field at all, as in Google's own JSON."""
    everything = list(resources)
    size = int(call.get("pageSize") or call.get("maxResults") or 0) or PAGE
    token = call.get("pageToken")
    if token and not token.isdigit():
        raise GoogleError(400, "Invalid page token.")
    start = int(token or 0)
    answer = {**rest, field: everything[start : start + size]} if everything else dict(rest)
    if start + size < len(everything):
        answer["nextPageToken"] = str(start + size)
    return answer


def location(cloud: LocalCloud, call: Call) -> str:
    return f"projects/{cloud.project_id(call.get('projectsId'))}/locations/{call.get('locationsId')}"


def begin_lro(cloud: LocalCloud, call: Call, target: str, type_name: str, response: dict[str, Json], **options: t.Any) -> dict[str, Json]:
    """Begin an operation that ends with a response, by default one that is named below the location."""
    operation = cloud.start(call.method.id, target, type=type_name, response=response, **options)
    if "public_name" not in operation:
        operation["public_name"] = f"{location(cloud, call)}/operations/{operation['name']}"
    return lro(operation)


def lro(operation: dict[str, Json]) -> dict[str, Json]:
    """A google.longrunning.Operation (AIP-151)."""
    answer: dict[str, Json] = {"name": operation["public_name"]}
    if operation.get("metadata"):
        answer["metadata"] = operation["metadata"]
    if not operation["done"]:
        return answer
    answer["done"] = True
    if operation["error"]:
        answer["error"] = operation["error"]
    else:
        response = operation.get("response")
        answer["response"] = {"@type": f"type.googleapis.com/{operation['type']}", **public(response or {})}
    return answer


def check_quota(cloud: LocalCloud, kind: str, have: int) -> None:
    """Cloud Quotas, "View and manage quotas": an allocation quota refuses the one that is too many."""
    limit = cloud.quotas.get(kind)
    if limit is not None and have >= limit:
        details = [error_info("QUOTA_EXCEEDED", "googleapis.com", quota_limit=kind, quota_limit_value=str(limit))]
        raise GoogleError(403, f"Quota '{kind}' exceeded. Limit: {limit}.0", reason="quotaExceeded", status="RESOURCE_EXHAUSTED", details=details)


def check_if_match(call: Call, resource: dict[str, Json]) -> None:
    """RFC 9110, 13.1.1: a precondition on the version that the caller has read."""
    wanted = call.headers.get("If-Match")
    if wanted and wanted not in ("*", resource.get("etag")):
        raise GoogleError(412, "Precondition check failed: the resource has changed.", reason="conditionNotMet")


def get_policy(cloud: LocalCloud, resource: str) -> dict[str, Json]:
    policy = cloud.policies.get(resource, {})
    return {"version": 1, **policy, "etag": etag_of_policy(policy)}


def set_policy(cloud: LocalCloud, call: Call, resource: str) -> dict[str, Json]:
    """Google Cloud IAM, "Policy": the whole is replaced; with an etag only if nobody else has changed it meanwhile."""
    policy = dict(call.body.get("policy") or {})
    given = policy.pop("etag", None)
    if given and given != etag_of_policy(cloud.policies.get(resource, {})):
        text = "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff."
        raise GoogleError(409, text, status="ABORTED", reason="aborted")
    for binding in policy.get("bindings", []):
        check_binding(cloud, binding)
    policy["bindings"] = [binding for binding in policy.get("bindings", []) if binding.get("members")]
    cloud.policies[resource] = policy
    return get_policy(cloud, resource)


def check_binding(cloud: LocalCloud, binding: dict[str, Json]) -> None:
    role = binding.get("role", "")
    if not role.startswith(("roles/", "projects/", "organizations/")):
        raise GoogleError(400, f"Role {role} is not supported for this resource.")
    for member in binding.get("members", []):
        kind, _colon, name = member.partition(":")
        if member not in ("allUsers", "allAuthenticatedUsers") and (kind not in ("user", "group", "domain", "serviceAccount") or not name):
            raise GoogleError(400, f"Invalid member {member}: the type of the member is missing or unknown.")
        # A new account is not known everywhere at once, so this is a reader like any other.
        own = name.endswith(f"@{cloud.project}.iam.gserviceaccount.com")
        if own and not cloud.state.read(f"iam/projects/{cloud.project}/serviceAccounts/{name}"):
            raise GoogleError(400, f"Service account {name} does not exist.")


def test_permissions(cloud: LocalCloud, call: Call, resource: str) -> dict[str, Json]:
    roles = identity.roles_of(cloud, call.caller, cloud.project)
    if resource != f"projects/{cloud.project}":
        roles = roles + identity.roles_in(cloud.policies.get(resource, {}), call.caller)
    held = [permission for permission in call.body.get("permissions", []) if identity.allows(roles, permission)]
    return {"permissions": held} if held else {}


def etag_of_policy(policy: dict[str, Json]) -> str:
    """Bytes, so in base64."""
    return etag(policy)[:12] if policy.get("bindings") else "ACAB"
