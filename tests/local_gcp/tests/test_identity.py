# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way in which google-auth signs in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import google.auth
import pytest
import requests
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
SECRETS = "https://secretmanager.googleapis.com/v1/projects/example-project/secrets"
EMAIL = "deployer@example-project.iam.gserviceaccount.com"


@pytest.fixture
def proxied(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> LocalCloud:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in cloud.proxy_environment().items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(65537, 2048)
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def account(key: str, token_uri: str = "https://oauth2.googleapis.com/token") -> dict[str, str]:
    return {
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": "1",
        "private_key": key,
        "client_email": EMAIL,
        "token_uri": token_uri,
    }


def test_a_service_account_has_the_roles_of_the_policy(proxied: LocalCloud, key: str) -> None:
    credentials = service_account.Credentials.from_service_account_info(account(key), scopes=SCOPES)
    session = AuthorizedSession(credentials)
    assert session.get(SECRETS, timeout=10).status_code == 403
    proxied.policies["projects/example-project"]["bindings"].append({"role": "roles/secretmanager.viewer", "members": [f"serviceAccount:{EMAIL}"]})
    assert session.get(SECRETS, timeout=10).status_code == 200
    assert session.post(f"{SECRETS}?secretId=x", json={"replication": {"automatic": {}}}, timeout=10).status_code == 403


def test_a_token_from_a_plain_address(proxied: LocalCloud, key: str) -> None:
    credentials = service_account.Credentials.from_service_account_info(account(key, f"{proxied.url}/token"), scopes=SCOPES)
    credentials.refresh(Request())
    assert proxied.tokens[credentials.token] == EMAIL


def test_an_account_that_does_not_exist(proxied: LocalCloud, key: str) -> None:
    proxied.unknown_accounts.add(EMAIL)
    credentials = service_account.Credentials.from_service_account_info(account(key), scopes=SCOPES)
    with pytest.raises(RefreshError, match="account not found"):
        credentials.refresh(Request())


def test_application_default_credentials(proxied: LocalCloud, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.json"
    file.write_text(json.dumps(account(key)))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    credentials, project = google.auth.default(scopes=SCOPES)
    assert project == "example-project"
    credentials.refresh(Request())
    user = {"type": "authorized_user", "client_id": "x", "client_secret": "x", "refresh_token": "x"}
    file.write_text(json.dumps(user))
    credentials, _project = google.auth.default(scopes=SCOPES)
    credentials.refresh(Request())
    assert proxied.tokens[credentials.token] == "owner@example.com"


def test_the_metadata_server(proxied: LocalCloud) -> None:
    # google-auth reads where the metadata server is when it is imported.
    script = f"""
import google.auth
from google.auth.transport.requests import AuthorizedSession, Request
credentials, project = google.auth.default({SCOPES})
credentials.refresh(Request())
print(credentials.service_account_email, project, AuthorizedSession(credentials).get({SECRETS!r}).status_code)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert run.stdout.split() == [proxied.default_service_account, "example-project", "200"], run.stderr


@pytest.mark.parametrize("path", ["instance/name", "instance/service-accounts/other@example.com/token", "instance/service-accounts/default/key"])
def test_metadata_that_is_not_there(cloud: LocalCloud, path: str) -> None:
    session = requests.Session()
    session.trust_env = False
    assert session.get(f"{cloud.url}/computeMetadata/v1/{path}", timeout=10).status_code == 404


def test_an_assertion_that_cannot_be_read(cloud: LocalCloud) -> None:
    session = requests.Session()
    session.trust_env = False
    response = session.post(f"{cloud.url}/token", data={"assertion": "x"}, timeout=10)
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")
