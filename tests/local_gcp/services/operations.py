# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Long-running operations, of every API that has them (AIP-151)."""

from __future__ import annotations

from ..cloud import Call, LocalCloud, handles
from ..errors import GoogleError
from ..state import Json
from ._common import lro

WITH_LOCATION = [f"{service}.projects.locations.operations.get" for service in ("run", "artifactregistry", "vpcaccess", "cloudbuild")]
WITHOUT = [f"{service}.operations.get" for service in ("servicenetworking", "serviceusage", "cloudresourcemanager", "cloudbuild")]


@handles(*WITH_LOCATION, *WITHOUT, "run.projects.locations.operations.wait")
def get_operation(cloud: LocalCloud, call: Call) -> Json:
    """By its name alone: which of the APIs is asked, a client with an endpoint of its own does not tell."""
    name = call.path.split("/", 2)[2].removesuffix(":wait").replace(f"projects/{cloud.project_number}/", f"projects/{cloud.project}/", 1)
    for operation in cloud.state.operations.values():
        if operation.get("public_name") == name:
            cloud.poll(operation)
            return lro(operation)
    raise GoogleError(404, f"Operation {name} not found.")
