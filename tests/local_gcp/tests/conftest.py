# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Google's own Python client, pointed at the local cloud: it is generated from the same descriptions and knows nothing of this one."""

from __future__ import annotations

import functools
import json
import re
import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud
from google.oauth2.credentials import Credentials
from googleapiclient import discovery, discovery_cache
from googleapiclient.errors import HttpError

PROJECT = "example-project"
NUMBER = "123456789012"
REGION = "europe-west1"


@functools.cache
def document(name: str) -> str:
    return t.cast("str", discovery_cache.get_static_doc(*name.split(".")))


class Google:
    """The clients of one cloud, and what they are mostly used for."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud

    def __call__(self, name: str, token: str = "owner") -> t.Any:
        options = {"api_endpoint": self.cloud.endpoint(name.partition(".")[0])}
        # Where the path does not say which project pays.
        credentials = Credentials(token, quota_project_id=PROJECT if name.startswith("servicenetworking") else None)
        return discovery.build_from_document(document(name), credentials=credentials, client_options=options)

    def refused(self, request: t.Any, code: int, text: str = "") -> dict[str, t.Any]:
        """The request is refused so; its error."""
        with pytest.raises(HttpError) as caught:
            request.execute()
        error: dict[str, t.Any] = json.loads(caught.value.content)["error"]
        assert error["code"] == code, error
        assert re.search(text, error["message"]), error["message"]
        return error

    def sql(self, request: t.Any) -> dict[str, t.Any]:
        """Run a request that begins an operation of Cloud SQL, and wait for it."""
        operation = request.execute()
        operations = self("sqladmin.v1").operations()
        while operation["status"] != "DONE":
            operation = operations.get(project=PROJECT, operation=operation["name"]).execute()
        return t.cast("dict[str, t.Any]", operation)

    def compute(self, request: t.Any) -> dict[str, t.Any]:
        operation = request.execute()
        place = {name: operation[name].rpartition("/")[2] for name in ("zone", "region") if name in operation}
        operations = getattr(self("compute.v1"), f"{next(iter(place), 'global')}Operations")()
        while operation["status"] != "DONE":
            operation = operations.get(project=PROJECT, operation=operation["name"], **place).execute()
        return t.cast("dict[str, t.Any]", operation)

    def run(self, request: t.Any) -> dict[str, t.Any]:
        operation = request.execute()
        operations = self("run.v2").projects().locations().operations()
        while not operation.get("done"):
            operation = operations.get(name=operation["name"]).execute()
        return t.cast("dict[str, t.Any]", operation)


@pytest.fixture
def cloud() -> t.Iterator[LocalCloud]:
    with LocalCloud() as cloud:
        yield cloud
    assert cloud.mistakes == []


@pytest.fixture
def google(cloud: LocalCloud) -> Google:
    return Google(cloud)
