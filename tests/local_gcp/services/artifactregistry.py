# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifact Registry's repositories, and Cloud Build, which pushes to them. Nothing is built: a build says that it has."""

from __future__ import annotations

import re

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json, masked, now
from ._common import begin_lro, get_policy, location, page, set_policy

REPOSITORIES = "artifactregistry.projects.locations.repositories"
TYPE = "google.devtools.artifactregistry.v1.Repository"


def existing(cloud: LocalCloud, call: Call) -> tuple[str, dict[str, Json]]:
    name = f"{location(cloud, call)}/repositories/{call.get('repositoriesId')}"
    found = cloud.state.read(f"registry/{name}")
    if not found:
        raise GoogleError(404, f"Requested entity was not found: {name}.")
    return name, found


@handles(f"{REPOSITORIES}.list")
def list_repositories(cloud: LocalCloud, call: Call) -> Json:
    return page(call, cloud.state.below(f"registry/{location(cloud, call)}/repositories/").values(), "repositories")


@handles(f"{REPOSITORIES}.get")
def get_repository(cloud: LocalCloud, call: Call) -> Json:
    return existing(cloud, call)[1]


@handles(f"{REPOSITORIES}.create")
def create_repository(cloud: LocalCloud, call: Call) -> Json:
    repository_id = call.get("repositoryId")
    name = f"{location(cloud, call)}/repositories/{repository_id}"
    # "Repository names": up to 63 characters, a letter first.
    if not re.fullmatch(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", repository_id):
        raise GoogleError(400, f"Repository ID must match [a-z]([a-z0-9-]{{0,61}}[a-z0-9])?: {repository_id}.")
    if not call.body.get("format"):
        raise GoogleError(400, "The format of the repository must be there.")
    if f"registry/{name}" in cloud.state.resources:
        raise GoogleError(409, "the repository already exists", status="ALREADY_EXISTS")
    uri = f"{call.get('locationsId')}-docker.pkg.dev/{cloud.project}/{repository_id}"
    repository = {"mode": "STANDARD_REPOSITORY", **call.body, "name": name, "createTime": now(), "updateTime": now(), "registryUri": uri}
    return begin_lro(cloud, call, f"registry/{name}", TYPE, repository, changes=[(f"registry/{name}", repository)])


@handles(f"{REPOSITORIES}.patch")
def patch_repository(cloud: LocalCloud, call: Call) -> Json:
    name, repository = existing(cloud, call)
    changed = {**masked(repository, call.body, call.get("updateMask")), "updateTime": now()}
    if changed["format"] != repository["format"]:
        raise GoogleError(400, "The format of a repository cannot be changed.")
    cloud.state.put(f"registry/{name}", changed)
    return changed


@handles(f"{REPOSITORIES}.delete")
def delete_repository(cloud: LocalCloud, call: Call) -> Json:
    name, _repository = existing(cloud, call)
    return begin_lro(cloud, call, f"registry/{name}", "google.protobuf.Empty", {}, changes=[(f"registry/{name}", None)])


@handles(f"{REPOSITORIES}.getIamPolicy")
def get_repository_policy(cloud: LocalCloud, call: Call) -> Json:
    return get_policy(cloud, existing(cloud, call)[0])


@handles(f"{REPOSITORIES}.setIamPolicy")
def set_repository_policy(cloud: LocalCloud, call: Call) -> Json:
    return set_policy(cloud, call, existing(cloud, call)[0])


# Builds


@handles("cloudbuild.projects.builds.create")
def create_build(cloud: LocalCloud, call: Call) -> Json:
    project = cloud.project_id(call.get("projectId"))
    if not call.body.get("steps"):
        raise GoogleError(400, "Build must specify at least one step.")
    for image in call.body.get("images", []):
        # "Pushing and pulling images": the repository is there before.
        found = re.match(r"([a-z0-9-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/", image)
        if found and f"registry/projects/{cloud.project_id(found[2])}/locations/{found[1]}/repositories/{found[3]}" not in cloud.state.resources:
            raise GoogleError(404, f'name unknown: Repository "{found[3]}" not found')
    build_id = cloud.state.uid()
    begun = {"timeout": "600s", **call.body, "id": build_id, "projectId": project, "status": "WORKING", "createTime": now(), "startTime": now()}
    done = {**begun, "status": "SUCCESS", "finishTime": now()}
    path = f"build/{project}/{build_id}"
    cloud.state.put(path, begun)
    public_name = f"operations/build/{project}/{build_id}"
    return begin_lro(cloud, call, path, "google.devtools.cloudbuild.v1.Build", done, changes=[(path, done)], public_name=public_name)


@handles("cloudbuild.projects.builds.get")
def get_build(cloud: LocalCloud, call: Call) -> Json:
    path = f"build/{cloud.project_id(call.get('projectId'))}/{call.get('id')}"
    cloud.look(path)
    found = cloud.state.read(path)
    if not found:
        raise GoogleError(404, f"Requested entity was not found: {call.get('id')}.")
    return found


@handles("cloudbuild.projects.builds.list")
def list_builds(cloud: LocalCloud, call: Call) -> Json:
    return page(call, cloud.state.below(f"build/{cloud.project_id(call.get('projectId'))}/").values(), "builds")
