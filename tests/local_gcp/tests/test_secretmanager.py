# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secret Manager."""

from __future__ import annotations

import base64
import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud
from ansible_collections.selfhost.prefect.tests.local_gcp.services.secretmanager import crc32c

from .conftest import NUMBER, PROJECT, Google

PARENT = f"projects/{PROJECT}"
NAME = f"{PARENT}/secrets/database"
AUTOMATIC = {"replication": {"automatic": {}}}


def payload(data: bytes, **fields: t.Any) -> dict[str, t.Any]:
    return {"payload": {"data": base64.b64encode(data).decode(), **fields}}


@pytest.fixture
def secrets(google: Google) -> t.Any:
    return google("secretmanager.v1").projects().secrets()


@pytest.fixture
def secret(secrets: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", secrets.create(parent=PARENT, secretId="database", body=AUTOMATIC).execute())


def test_a_secret_is_named_by_the_projects_number(secrets: t.Any, secret: dict[str, t.Any]) -> None:
    assert secret["name"] == f"projects/{NUMBER}/secrets/database"
    assert secrets.get(name=secret["name"]).execute() == secret
    assert secrets.list(parent=PARENT).execute() == {"secrets": [secret], "totalSize": 1}


def test_what_is_refused(secrets: t.Any, google: Google, secret: dict[str, t.Any]) -> None:
    google.refused(secrets.create(parent=PARENT, secretId="database", body=AUTOMATIC), 409, "already exists")
    google.refused(secrets.create(parent=PARENT, secretId="a.b", body=AUTOMATIC), 400, "expected format")
    google.refused(secrets.create(parent=PARENT, secretId="other", body={}), 400, "replication must be provided")
    google.refused(secrets.get(name=f"{PARENT}/secrets/none"), 404, rf"Secret \[projects/{NUMBER}/secrets/none\] not found")
    google.refused(secrets.patch(name=NAME, body={"labels": {"a": "b"}}), 400, "update_mask")
    google.refused(secrets.patch(name=NAME, body=AUTOMATIC, updateMask="replication"), 400, "immutable")
    google.refused(secrets.patch(name=NAME, body={"etag": '"old"'}, updateMask="labels"), 400, "does not match the current etag")
    google.refused(secrets.delete(name=NAME, etag='"old"'), 400, "does not match")
    google.refused(secrets.versions().get(name=f"{NAME}/versions/latest"), 404, "not found")


def test_a_mask_says_what_changes(secrets: t.Any, secret: dict[str, t.Any]) -> None:
    secrets.patch(name=NAME, body={"labels": {"a": "b"}, "annotations": {"c": "d"}}, updateMask="labels").execute()
    changed = secrets.patch(name=NAME, body={"ttl": "3600s"}, updateMask="version_aliases").execute()
    assert (changed["labels"], "annotations" in changed, "ttl" in changed) == ({"a": "b"}, False, False)
    assert "labels" not in secrets.patch(name=NAME, body={}, updateMask="labels").execute()


def test_versions(secrets: t.Any, google: Google, secret: dict[str, t.Any]) -> None:
    versions = secrets.versions()
    checked = str(crc32c(b"one"))
    assert secrets.addVersion(parent=NAME, body=payload(b"one", dataCrc32c=checked)).execute()["clientSpecifiedPayloadChecksum"]
    second = secrets.addVersion(parent=NAME, body=payload(b"two")).execute()
    assert second["name"] == f"projects/{NUMBER}/secrets/database/versions/2"
    accessed = versions.access(name=f"{NAME}/versions/latest").execute()
    assert (base64.b64decode(accessed["payload"]["data"]), accessed["name"]) == (b"two", second["name"])
    assert accessed["payload"]["dataCrc32c"] == str(crc32c(b"two"))
    versions.disable(name=f"{NAME}/versions/2", body={}).execute()
    google.refused(versions.access(name=f"{NAME}/versions/latest"), 400, "is in DISABLED state")
    enabled = versions.list(parent=NAME, filter="state:ENABLED").execute()
    assert [version["name"][-1] for version in enabled["versions"]] == ["1"]
    versions.enable(name=f"{NAME}/versions/2", body={}).execute()
    versions.destroy(name=f"{NAME}/versions/2", body={}).execute()
    google.refused(versions.enable(name=f"{NAME}/versions/2", body={}), 400, "DESTROYED")
    assert [version["name"][-1] for version in versions.list(parent=NAME).execute()["versions"]] == ["2", "1"]
    google.refused(versions.list(parent=NAME, filter="create_time>1"), 400, "filters")


def test_payloads_that_are_refused(secrets: t.Any, google: Google, secret: dict[str, t.Any]) -> None:
    google.refused(secrets.addVersion(parent=NAME, body={}), 400, "cannot be empty")
    google.refused(secrets.addVersion(parent=NAME, body=payload(b"x" * 65537)), 400, "the maximum is 65536")
    google.refused(secrets.addVersion(parent=NAME, body=payload(b"x", dataCrc32c="1")), 400, "checksum")
    google.refused(secrets.addVersion(parent=NAME, body={"payload": {"data": "no base64!"}}), 400, "TYPE_BYTES")
    secrets.addVersion(parent=NAME, body=payload(b"x" * 65536)).execute()


def test_crc32c() -> None:
    # RFC 3720, B.4.
    assert crc32c(b"\0" * 32) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_deleting_takes_the_versions_along(secrets: t.Any, google: Google, secret: dict[str, t.Any]) -> None:
    secrets.addVersion(parent=NAME, body=payload(b"one")).execute()
    secrets.delete(name=NAME, etag=secrets.get(name=NAME).execute()["etag"]).execute()
    secrets.create(parent=PARENT, secretId="database", body=AUTOMATIC).execute()
    assert "versions" not in secrets.versions().list(parent=NAME).execute()


def test_a_binding_on_the_secret_alone(cloud: LocalCloud, google: Google, secrets: t.Any, secret: dict[str, t.Any]) -> None:
    secrets.addVersion(parent=NAME, body=payload(b"one")).execute()
    cloud.tokens["reader"] = "reader@example.com"
    access = google("secretmanager.v1", token="reader").projects().secrets().versions().access(name=f"{NAME}/versions/1")
    google.refused(access, 403, "secretmanager.versions.access")
    policy = secrets.getIamPolicy(resource=NAME).execute()
    binding = {"role": "roles/secretmanager.secretAccessor", "members": ["user:reader@example.com"]}
    changed = secrets.setIamPolicy(resource=NAME, body={"policy": {**policy, "bindings": [binding]}}).execute()
    assert changed["bindings"] == [binding]
    access.execute()
    google.refused(secrets.setIamPolicy(resource=NAME, body={"policy": policy}), 409, "concurrent policy changes")
    held = secrets.testIamPermissions(resource=NAME, body={"permissions": ["secretmanager.secrets.get"]}).execute()
    assert held == {"permissions": ["secretmanager.secrets.get"]}


@pytest.mark.parametrize(
    ("role", "member", "text"),
    [
        ("secretAccessor", "user:a@example.com", "not supported"),
        ("roles/viewer", "a@example.com", "type of the member"),
        ("roles/viewer", "serviceAccount:none@example-project.iam.gserviceaccount.com", "does not exist"),
    ],
)
@pytest.mark.usefixtures("secret")
def test_bindings_that_are_refused(secrets: t.Any, google: Google, role: str, member: str, text: str) -> None:
    google.refused(secrets.setIamPolicy(resource=NAME, body={"policy": {"bindings": [{"role": role, "members": [member]}]}}), 400, text)
