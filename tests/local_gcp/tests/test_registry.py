# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifact Registry, Cloud Build and Serverless VPC Access."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

from .conftest import PROJECT, REGION, Google

PARENT = f"projects/{PROJECT}/locations/{REGION}"


def wait(operations: t.Any, operation: dict[str, t.Any]) -> dict[str, t.Any]:
    while not operation.get("done"):
        operation = operations.get(name=operation["name"]).execute()
    return operation


def test_repositories(google: Google) -> None:
    locations = google("artifactregistry.v1").projects().locations()
    repositories, operations = locations.repositories(), locations.operations()
    create = repositories.create(parent=PARENT, repositoryId="prefect", body={"format": "DOCKER"})
    made = wait(operations, create.execute())["response"]
    assert made["registryUri"] == f"{REGION}-docker.pkg.dev/{PROJECT}/prefect"
    name = f"{PARENT}/repositories/prefect"
    google.refused(create, 409, "already exists")
    google.refused(repositories.create(parent=PARENT, repositoryId="other", body={}), 400, "format")
    google.refused(repositories.create(parent=PARENT, repositoryId="Other", body={"format": "DOCKER"}), 400, "must match")
    assert len(repositories.list(parent=PARENT).execute()["repositories"]) == 1
    assert repositories.patch(name=name, body={"labels": {"a": "b"}}, updateMask="labels").execute()["labels"] == {"a": "b"}
    google.refused(repositories.patch(name=name, body={"format": "MAVEN"}, updateMask="format"), 400, "cannot be changed")
    binding = {"role": "roles/artifactregistry.reader", "members": ["user:a@example.com"]}
    repositories.setIamPolicy(resource=name, body={"policy": {"bindings": [binding]}}).execute()
    assert repositories.getIamPolicy(resource=name).execute()["bindings"] == [binding]
    wait(operations, repositories.delete(name=name).execute())
    google.refused(repositories.get(name=name), 404)


def test_builds(google: Google) -> None:
    builds, operations = google("cloudbuild.v1").projects().builds(), google("cloudbuild.v1").operations()
    image = f"{REGION}-docker.pkg.dev/{PROJECT}/prefect/nginx"
    build = {"steps": [{"name": "gcr.io/cloud-builders/docker", "args": ["build", "."]}], "images": [image]}
    google.refused(builds.create(projectId=PROJECT, body={}), 400, "at least one step")
    google.refused(builds.create(projectId=PROJECT, body=build), 404, 'Repository "prefect" not found')
    google("artifactregistry.v1").projects().locations().repositories().create(parent=PARENT, repositoryId="prefect", body={"format": "DOCKER"}).execute()
    google.cloud.settle()
    operation = builds.create(projectId=PROJECT, body=build).execute()
    build_id = operation["name"].rpartition("/")[2]
    assert builds.get(projectId=PROJECT, id=build_id).execute()["status"] == "WORKING"
    assert wait(operations, operation)["response"]["status"] == "SUCCESS"
    assert [one["id"] for one in builds.list(projectId=PROJECT).execute()["builds"]] == [build_id]
    google.refused(builds.get(projectId=PROJECT, id="none"), 404)


@pytest.mark.parametrize(
    ("connector_id", "body", "text"),
    [
        ("Connector", {"network": "default", "ipCidrRange": "10.8.0.0/28"}, "must follow the pattern"),
        ("c", {"network": "default"}, "Exactly one of"),
        ("c", {"network": "none", "ipCidrRange": "10.8.0.0/28"}, "does not exist: none"),
        ("c", {"network": "default", "ipCidrRange": "10.8.0.0/24"}, "must be a /28"),
        ("c", {"subnet": {"name": "default"}}, "must be a /28"),
        ("c", {"network": "default", "ipCidrRange": "10.8.0.0/28", "minInstances": 1}, "from 2 to 10"),
    ],
)
def test_connectors_that_are_refused(cloud: LocalCloud, google: Google, connector_id: str, body: dict[str, t.Any], text: str) -> None:
    cloud.make_network(region=REGION)
    create = google("vpcaccess.v1").projects().locations().connectors().create(parent=PARENT, connectorId=connector_id, body=body)
    google.refused(create, 400, text)


def test_a_connector(cloud: LocalCloud, google: Google) -> None:
    cloud.make_network(region=REGION)
    locations = google("vpcaccess.v1").projects().locations()
    create = locations.connectors().create(parent=PARENT, connectorId="c", body={"network": "default", "ipCidrRange": "10.8.0.0/28"})
    assert wait(locations.operations(), create.execute())["response"]["state"] == "READY"
    google.refused(create, 409, "already exists")
    assert len(locations.connectors().list(parent=PARENT).execute()["connectors"]) == 1
    wait(locations.operations(), locations.connectors().delete(name=f"{PARENT}/connectors/c").execute())
    google.refused(locations.connectors().get(name=f"{PARENT}/connectors/c"), 404)
