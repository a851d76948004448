# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secret Manager."""

from __future__ import annotations

import base64
import re
import typing as t

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, etag, masked, now
from ._common import check_quota, get_policy, page, public, set_policy, test_permissions

SECRET = "secretmanager.projects.secrets"
# Secret Manager, "Quotas and limits".
LARGEST_PAYLOAD = 65536


def secret_name(cloud: LocalCloud, call: Call) -> str:
    """In this cloud by the project's id; to the outside by its number."""
    return f"projects/{cloud.project_id(call.get('projectsId'))}/secrets/{call.get('secretsId')}"


def outside(cloud: LocalCloud, name: str) -> str:
    return name.replace(f"projects/{cloud.project}/", f"projects/{cloud.project_number}/", 1)


def existing(cloud: LocalCloud, call: Call) -> dict[str, Json]:
    name = secret_name(cloud, call)
    found = cloud.state.read(f"secret/{name}")
    if not found:
        raise GoogleError(404, f"Secret [{outside(cloud, name)}] not found.")
    return found


def check_etag(call: Call, given: str | None, resource: dict[str, Json]) -> None:
    # "Use etags with Secret Manager".
    if given and given != resource["etag"]:
        text = f"The etag provided in the request [{given}] does not match the current etag [{resource['etag']}] of the resource."
        raise GoogleError(400, text, status="FAILED_PRECONDITION")


def store(cloud: LocalCloud, name: str, resource: dict[str, Json]) -> dict[str, Json]:
    resource["etag"] = f'"{etag({key: value for key, value in resource.items() if key != "etag"})}"'
    cloud.state.put(f"secret/{name}", resource)
    return public(resource)


@handles(f"{SECRET}.list")
def list_secrets(cloud: LocalCloud, call: Call) -> Json:
    found = cloud.state.below(f"secret/projects/{cloud.project_id(call.get('projectsId'))}/secrets/")
    return page(call, map(public, found.values()), "secrets", **({"totalSize": len(found)} if found else {}))


@handles(f"{SECRET}.get")
def get_secret(cloud: LocalCloud, call: Call) -> Json:
    return public(existing(cloud, call))


@handles(f"{SECRET}.create")
def create_secret(cloud: LocalCloud, call: Call) -> Json:
    secret_id = call.get("secretId")
    project = cloud.project_id(call.get("projectsId"))
    # API reference, projects.secrets.create: letters, numbers, hyphens and underscores, 255 at most.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,255}", secret_id):
        raise GoogleError(400, f"The provided Secret ID [{secret_id}] does not match the expected format [[a-zA-Z_0-9]+].")
    replication = call.body.get("replication") or {}
    # API reference, Secret: "Optional. Immutable." and yet a regional one apart it has to be there, of one kind.
    if len([kind for kind in ("automatic", "userManaged") if replication.get(kind) is not None]) != 1:
        raise GoogleError(400, "Secret.replication must be provided.")
    name = f"projects/{project}/secrets/{secret_id}"
    if f"secret/{name}" in cloud.state.resources:
        raise GoogleError(409, f"Secret [{outside(cloud, name)}] already exists.", status="ALREADY_EXISTS")
    check_quota(cloud, "secretmanager.secrets", len(cloud.state.below(f"secret/projects/{project}/secrets/")))
    return store(cloud, name, {**call.body, "name": outside(cloud, name), "createTime": now()})


@handles(f"{SECRET}.patch")
def patch_secret(cloud: LocalCloud, call: Call) -> Json:
    secret = existing(cloud, call)
    mask = call.get("updateMask")
    if not mask:
        raise GoogleError(400, "The update_mask field must be set and must name at least one field.")
    check_etag(call, call.body.get("etag"), secret)
    for path in mask.split(","):
        if path.partition(".")[0] in ("name", "replication", "create_time", "createTime"):
            raise GoogleError(400, f"The field [{path}] is immutable.")
    return store(cloud, secret_name(cloud, call), masked(secret, call.body, mask))


@handles(f"{SECRET}.delete")
def delete_secret(cloud: LocalCloud, call: Call) -> Json:
    check_etag(call, call.get("etag"), existing(cloud, call))
    name = secret_name(cloud, call)
    for one in [one for one in cloud.state.resources if one == f"secret/{name}" or one.startswith(f"secret/{name}/")]:
        cloud.state.put(one, None)
    cloud.policies.pop(name, None)
    return {}


@handles(f"{SECRET}.getIamPolicy")
def get_secret_policy(cloud: LocalCloud, call: Call) -> Json:
    existing(cloud, call)
    return get_policy(cloud, secret_name(cloud, call))


@handles(f"{SECRET}.setIamPolicy")
def set_secret_policy(cloud: LocalCloud, call: Call) -> Json:
    existing(cloud, call)
    return set_policy(cloud, call, secret_name(cloud, call))


@handles(f"{SECRET}.testIamPermissions")
def test_secret_permissions(cloud: LocalCloud, call: Call) -> Json:
    return test_permissions(cloud, call, secret_name(cloud, call))


# Versions


def versions(cloud: LocalCloud, name: str) -> list[dict[str, Json]]:
    """The newest first."""
    found = cloud.state.below(f"secret/{name}/versions/").values()
    return sorted(found, key=lambda version: -version["_number"])


def find_version(cloud: LocalCloud, call: Call) -> dict[str, Json]:
    existing(cloud, call)
    return version_of(cloud, secret_name(cloud, call), call.get("versionsId"))


def version_of(cloud: LocalCloud, name: str, wanted: str) -> dict[str, Json]:
    """ "Access a secret version": a number, or `latest`, which is the newest that is enabled, for access the newest at all."""
    for version in versions(cloud, name):
        if wanted in ("latest", str(version["_number"])):
            return version
    raise GoogleError(404, f"Secret Version [{outside(cloud, name)}/versions/{wanted}] not found.")


@handles(f"{SECRET}.addVersion")
def add_version(cloud: LocalCloud, call: Call) -> Json:
    existing(cloud, call)
    name = secret_name(cloud, call)
    payload = call.body.get("payload") or {}
    data = base64.b64decode(payload.get("data", "").replace("-", "+").replace("_", "/"))
    if not data:
        raise GoogleError(400, "Secret Payload cannot be empty.")
    if len(data) > LARGEST_PAYLOAD:
        raise GoogleError(400, f"The secret payload is {len(data)} bytes; the maximum is {LARGEST_PAYLOAD}.")
    checksum = crc32c(data)
    # "Verify data integrity": a wrong checksum is refused.
    if "dataCrc32c" in payload and int(payload["dataCrc32c"]) != checksum:
        raise GoogleError(400, "The checksum of the secret payload does not match dataCrc32c.")
    number = max([version["_number"] for version in versions(cloud, name)], default=0) + 1
    version: dict[str, Json] = {
        "name": f"{outside(cloud, name)}/versions/{number}",
        "createTime": now(),
        "state": "ENABLED",
        "replicationStatus": {"automatic": {}},
        "clientSpecifiedPayloadChecksum": "dataCrc32c" in payload,
        "_number": number,
        "_data": base64.b64encode(data).decode(),
        "_crc": str(checksum),
    }
    return store(cloud, f"{name}/versions/{number}", version)


@handles(f"{SECRET}.versions.list")
def list_versions(cloud: LocalCloud, call: Call) -> Json:
    existing(cloud, call)
    found = versions(cloud, secret_name(cloud, call))
    wanted = re.fullmatch(r"state[:=]\s*\"?(\w+)\"?", call.get("filter"), re.IGNORECASE)
    if call.get("filter") and not wanted:
        raise GoogleError(400, f"The local cloud knows only filters of the form state:ENABLED, not {call.get('filter')}.")
    found = [version for version in found if not wanted or version["state"] == wanted[1].upper()]
    return page(call, map(public, found), "versions", **({"totalSize": len(found)} if found else {}))


@handles(f"{SECRET}.versions.get")
def get_version(cloud: LocalCloud, call: Call) -> Json:
    return public(find_version(cloud, call))


@handles(f"{SECRET}.versions.access")
def access_version(cloud: LocalCloud, call: Call) -> Json:
    version = find_version(cloud, call)
    if version["state"] != "ENABLED":
        raise GoogleError(400, f"Secret Version [{version['name']}] is in {version['state']} state.", status="FAILED_PRECONDITION")
    return {"name": version["name"], "payload": {"data": version["_data"], "dataCrc32c": version["_crc"]}}


@handles(f"{SECRET}.versions.enable", f"{SECRET}.versions.disable", f"{SECRET}.versions.destroy")
def change_version(cloud: LocalCloud, call: Call) -> Json:
    version = find_version(cloud, call)
    check_etag(call, call.body.get("etag"), version)
    verb = call.method.id.rpartition(".")[2]
    if version["state"] == "DESTROYED":
        raise GoogleError(400, f"Secret Version [{version['name']}] is in DESTROYED state.", status="FAILED_PRECONDITION")
    changed = {**version, "state": {"enable": "ENABLED", "disable": "DISABLED", "destroy": "DESTROYED"}[verb]}
    if verb == "destroy":
        # "Destroy a secret version": the content is gone for good.
        changed.update(destroyTime=now(), _data="", _crc="0")
    return store(cloud, f"{secret_name(cloud, call)}/versions/{version['_number']}", changed)


def crc32c(data: bytes) -> int:
    """The Castagnoli polynomial: zlib has another one."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ CASTAGNOLI[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def make_table() -> t.Iterator[int]:
    for number in range(256):
        for _bit in range(8):
            number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)  # noqa: PLW2901
        yield number


CASTAGNOLI = list(make_table())
