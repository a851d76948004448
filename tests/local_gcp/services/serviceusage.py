# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Service Usage: which APIs a project may call."""

from __future__ import annotations

from ..cloud import GCLOUD_NAMES, Call, LocalCloud, handles
from ..errors import GoogleError, error_info
from ..state import Json
from ._common import begin_lro, page

SUFFIX = ".googleapis.com"


def short(cloud: LocalCloud, name: str) -> str:
    """The API's name without googleapis.com."""
    if not name.endswith(SUFFIX) or name.removesuffix(SUFFIX) not in GCLOUD_NAMES.keys() | cloud.enabled.keys() | {
        "serviceusage",
        "iamcredentials",
        "iap",
        "oslogin",
    }:
        details = [error_info("SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED", "serviceusage.googleapis.com", services=name)]
        raise GoogleError(404, f"Not found or permission denied for service(s): {name}.", details=details)
    return name.removesuffix(SUFFIX)


def service_json(cloud: LocalCloud, api: str) -> dict[str, Json]:
    return {
        "name": f"projects/{cloud.project_number}/services/{api}{SUFFIX}",
        "parent": f"projects/{cloud.project_number}",
        "state": "ENABLED" if api in cloud.enabled else "DISABLED",
        "config": {"name": f"{api}{SUFFIX}"},
    }


@handles("serviceusage.services.get")
def get_service(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    return service_json(cloud, short(cloud, call.get("servicesId")))


@handles("serviceusage.services.batchGet")
def batch_get(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    names = call.query.get("names", [])
    return {"services": [service_json(cloud, short(cloud, name.rpartition("/")[2])) for name in names]}


@handles("serviceusage.services.list")
def list_services(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    wanted = call.get("filter")
    services = [service_json(cloud, api) for api in sorted({*GCLOUD_NAMES, *cloud.enabled})]
    return page(call, [one for one in services if not wanted or wanted == f"state:{one['state']}"], "services")


@handles("serviceusage.services.enable")
def enable(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    api = short(cloud, call.get("servicesId"))
    cloud.enable([api])
    return begin(cloud, call, "EnableServiceResponse", {"service": service_json(cloud, api)})


@handles("serviceusage.services.batchEnable")
def batch_enable(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    # API reference, services.batchEnable: at most 20 in one request, all of them or none.
    names = call.body.get("serviceIds", [])
    if not 1 <= len(names) <= 20:
        raise GoogleError(400, f"The number of services must be from 1 to 20: {len(names)}.")
    apis = [short(cloud, name) for name in names]
    cloud.enable(apis)
    return begin(cloud, call, "BatchEnableServicesResponse", {"services": [service_json(cloud, api) for api in apis]})


@handles("serviceusage.services.disable")
def disable(cloud: LocalCloud, call: Call) -> Json:
    cloud.project_id(call.get("v1Id1"))
    api = short(cloud, call.get("servicesId"))
    cloud.enabled.pop(api, None)
    return begin(cloud, call, "DisableServiceResponse", {"service": service_json(cloud, api)})


def begin(cloud: LocalCloud, call: Call, kind: str, response: dict[str, Json]) -> dict[str, Json]:
    public_name = f"operations/acat.p17-{cloud.project_number}-{cloud.state.uid()}"
    return begin_lro(cloud, call, "serviceusage", f"google.api.serviceusage.v1.{kind}", response, public_name=public_name)
