# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""IAM: service accounts."""

from __future__ import annotations

import re

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, etag
from ._common import check_quota, get_policy, page, public, set_policy

ACCOUNTS = "iam.projects.serviceAccounts"


def find(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    """By its address or its unique id; the project may be a hyphen."""
    if call.get("projectsId") != "-":
        cloud.project_id(call.get("projectsId"))
    wanted = call.get("serviceAccountsId")
    for name, account in cloud.state.below(f"iam/projects/{cloud.project}/serviceAccounts/").items():
        if wanted in (account["email"], account["uniqueId"]):
            return name, account
    raise GoogleError(404, f"Unknown service account {wanted}")


@handles(f"{ACCOUNTS}.list")
def list_accounts(cloud: LocalCloud, call: Call) -> Json:
    found = cloud.state.below(f"iam/projects/{cloud.project_id(call.get('projectsId'))}/serviceAccounts/")
    return page(call, map(public, found.values()), "accounts")


@handles(f"{ACCOUNTS}.get")
def get_account(cloud: LocalCloud, call: Call) -> Json:
    return find(cloud, call)[1]


@handles(f"{ACCOUNTS}.create")
def create_account(cloud: LocalCloud, call: Call) -> Json:
    project = cloud.project_id(call.get("projectsId"))
    account_id = call.body.get("accountId", "")
    # IAM, "Create service accounts": 6 to 30 characters.
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account_id):
        raise GoogleError(400, f"Invalid service account ID ({account_id}): 6 to 30 lowercase letters, digits and hyphens, a letter first.")
    email = f"{account_id}@{project}.iam.gserviceaccount.com"
    name = f"iam/projects/{project}/serviceAccounts/{email}"
    if name in cloud.state.resources:
        raise GoogleError(409, f"Service account {account_id} already exists within project projects/{project}.", status="ALREADY_EXISTS")
    check_quota(cloud, "iam.serviceAccounts", len(cloud.state.below(name.rpartition("/")[0] + "/")))
    unique = cloud.state.number()
    account = {
        **call.body.get("serviceAccount", {}),
        "name": f"projects/{project}/serviceAccounts/{email}",
        "projectId": project,
        "uniqueId": unique,
        "email": email,
        "oauth2ClientId": unique,
    }
    account["etag"] = etag(account)
    cloud.state.put(name, account)
    return account


@handles(f"{ACCOUNTS}.patch")
def patch_account(cloud: LocalCloud, call: Call) -> Json:
    name, account = find(cloud, call)
    given = call.body.get("serviceAccount", {})
    fields = [field.strip() for field in call.body.get("updateMask", "").split(",")]
    # API reference, serviceAccounts.patch: these two, and the mask is there.
    if not set(fields) <= {"displayName", "display_name", "description"}:
        raise GoogleError(400, "Only the fields display_name and description can be updated, and update_mask has to name them.")
    changed = {**account, **{field: given[field] for field in ("displayName", "description") if field in given}}
    cloud.state.put(name, changed)
    return changed


@handles(f"{ACCOUNTS}.delete")
def delete_account(cloud: LocalCloud, call: Call) -> Json:
    name, account = find(cloud, call)
    cloud.state.put(name, None)
    cloud.policies.pop(account["name"], None)
    return {}


@handles(f"{ACCOUNTS}.getIamPolicy")
def get_account_policy(cloud: LocalCloud, call: Call) -> Json:
    return get_policy(cloud, find(cloud, call)[1]["name"])


@handles(f"{ACCOUNTS}.setIamPolicy")
def set_account_policy(cloud: LocalCloud, call: Call) -> Json:
    return set_policy(cloud, call, find(cloud, call)[1]["name"])


def check_exists(cloud: LocalCloud, email: str) -> None:
    """For who gives an account to a machine or a service."""
    own = email.endswith(f"@{cloud.project}.iam.gserviceaccount.com")
    if (own and not cloud.state.read(f"iam/projects/{cloud.project}/serviceAccounts/{email}")) or "@" not in email:
        raise GoogleError(400, f"Service account {email} does not exist.", reason="invalid")
