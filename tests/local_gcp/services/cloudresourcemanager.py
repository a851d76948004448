# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resource Manager: the project and its policy."""

from __future__ import annotations

from .. import identity
from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, etag
from ._common import get_policy, set_policy, test_permissions


def project(cloud: LocalCloud, call: Call) -> str:
    reference = call.get("projectId") or call.get("projectsId") or call.get("resource")
    if reference not in (cloud.project, cloud.project_number):
        # What one may not see and what there is not look the same.
        raise GoogleError(403, f"The caller does not have permission on the project {reference} (or it may not exist).")
    return f"projects/{cloud.project}"


@handles("cloudresourcemanager.projects.get")
def get_project(cloud: LocalCloud, call: Call) -> Json:
    project(cloud, call)
    if call.method.api.version == "v1":
        return {
            "projectId": cloud.project,
            "projectNumber": cloud.project_number,
            "name": cloud.project,
            "lifecycleState": "ACTIVE",
            "createTime": "2026-01-01T00:00:00.000Z",
        }
    return {
        "name": f"projects/{cloud.project_number}",
        "projectId": cloud.project,
        "displayName": cloud.project,
        "state": "ACTIVE",
        "createTime": "2026-01-01T00:00:00.000Z",
        "updateTime": "2026-01-01T00:00:00.000Z",
        "etag": f'W/"{etag(cloud.project)}"',
    }


@handles("cloudresourcemanager.projects.getIamPolicy")
def get_project_policy(cloud: LocalCloud, call: Call) -> Json:
    return get_policy(cloud, project(cloud, call))


@handles("cloudresourcemanager.projects.setIamPolicy")
def set_project_policy(cloud: LocalCloud, call: Call) -> Json:
    # projects.setIamPolicy: who has no owner left has locked himself out.
    bindings = (call.body.get("policy") or {}).get("bindings", [])
    if not any(binding.get("role") == "roles/owner" and f"user:{identity.OWNER}" in binding.get("members", []) for binding in bindings):
        raise GoogleError(400, "The policy must have at least one user with the role roles/owner: change the policy that you have read.")
    return set_policy(cloud, call, project(cloud, call))


@handles("cloudresourcemanager.projects.testIamPermissions")
def test_project_permissions(cloud: LocalCloud, call: Call) -> Json:
    return test_permissions(cloud, call, project(cloud, call))
