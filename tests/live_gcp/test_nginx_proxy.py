# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy on Cloud Run."""

from __future__ import annotations

import base64
import re
import typing as t
from pathlib import Path

import pytest

from .conftest import PROJECT, Controller

RUN = f"run/v2/projects/{PROJECT}/locations/europe-west1/services/prefect-proxy"
SECRET = f"secretmanager/v1/projects/{PROJECT}/secrets/prefect-proxy-nginx"
ACCOUNT = f"prefect-proxy@{PROJECT}.iam.gserviceaccount.com"


@pytest.fixture
def proxy(cloud, controller: Controller) -> t.Callable[..., t.Any]:
    cloud.make_network("prefect", "europe-west1", "10.10.0.0/24")
    subnetwork = {"name": "prefect-run", "network": f"projects/{PROJECT}/global/networks/prefect", "ipCidrRange": "10.10.1.0/26"}
    cloud.ask("POST", f"compute/compute/v1/projects/{PROJECT}/regions/europe-west1/subnetworks", subnetwork)
    cloud.settle()

    def run(*arguments: str, **variables: t.Any) -> t.Any:
        return controller.role("nginx_proxy", *arguments, **{"nginx_proxy_backend": "cloud_run", "nginx_proxy_upstreams": ["10.10.0.2:4200"], **variables})

    return run


def configuration(cloud, version: str) -> str:
    return base64.b64decode(cloud.ask("GET", f"{SECRET}/versions/{version}:access")["payload"]["data"]).decode()


def test_a_service_and_its_changes(cloud, proxy) -> None:
    dry = proxy("--check")
    assert dry.ok, dry.output
    assert "makes a revision of prefect-proxy" in dry.text
    assert cloud.writes() == []

    done = proxy()
    assert done.ok, done.output
    service = cloud.ask("GET", RUN)
    template = service["template"]
    assert template["volumes"][0]["secret"]["items"] == [{"path": "nginx.conf", "version": "1"}]
    assert (template["timeout"], template["maxInstanceRequestConcurrency"], template["serviceAccount"]) == ("3600s", 1000, ACCOUNT)
    assert template["containers"][0]["image"] == "nginx:1.28.0-alpine"
    assert service["invokerIamDisabled"] is True
    text = configuration(cloud, "1")
    # A WebSocket is one request, and two connections of nginx's.
    assert int(re.findall(r"worker_connections (\d+);", text)[0]) > 2 * template["maxInstanceRequestConcurrency"]
    for line in ("listen 0.0.0.0:8080 default_server;", "server 10.10.0.2:4200 ", "real_ip_recursive off;", "location = /nginx-health"):
        assert line in text
    policy = cloud.ask("GET", f"{SECRET}:getIamPolicy")
    assert policy["bindings"] == [{"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{ACCOUNT}"]}]
    first = service["latestReadyRevision"].rpartition("/")[2]

    made, asked = len(cloud.writes()), len(cloud.requests)
    again = proxy()
    assert (again.ok, again.changed, len(cloud.writes())) == (True, 0, made), again.output
    assert [request["id"].partition(".")[2] for request in cloud.requests[asked:]] == [
        "projects.testIamPermissions",
        "networks.get",
        "subnetworks.list",
        "projects.serviceAccounts.get",
        "projects.secrets.get",
        "projects.secrets.versions.access",
        "projects.secrets.getIamPolicy",
        "projects.locations.services.get",
    ]

    changed = proxy(nginx_proxy_client_max_body_size="64m")
    assert changed.ok, changed.output
    service = cloud.ask("GET", RUN)
    second = service["latestReadyRevision"].rpartition("/")[2]
    assert second != first
    assert service["template"]["volumes"][0]["secret"]["items"][0]["version"] == "2"
    assert service["trafficStatuses"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]

    back = proxy(nginx_proxy_client_max_body_size="64m", nginx_proxy_revision=first)
    assert back.ok, back.output
    assert [status["revision"] for status in cloud.ask("GET", RUN)["trafficStatuses"] if status.get("percent")] == [first]


def test_which_configurations_are_kept(cloud, proxy) -> None:
    """None that a revision may still have to start with."""

    def change(size: str, *arguments: str, **variables: t.Any) -> t.Any:
        return proxy(*arguments, nginx_proxy_client_max_body_size=size, nginx_proxy_keep_versions=2, **variables)

    def destroyed() -> set[str]:
        versions = cloud.ask("GET", f"{SECRET}/versions")["versions"]
        return {version["name"].rpartition("/")[2] for version in versions if version["state"] == "DESTROYED"}

    assert change("1m").ok
    for size in ("2m", "3m"):
        cloud.fail("run.projects.locations.services.patch", 400, "The new revision does not start.")
        assert not change(size).ok
    assert destroyed() == set()

    dry = change("4m", "--check")
    assert dry.ok, dry.output
    assert "- versions_to_destroy: - - '1' - - '2' + versions_to_destroy: []" in dry.text
    assert change("4m").ok
    assert destroyed() == {"1", "2"}

    pinned = cloud.ask("GET", RUN)["latestReadyRevision"].rpartition("/")[2]
    for size in ("5m", "6m"):
        assert change(size, nginx_proxy_revision=pinned).ok
    assert destroyed() == {"1", "2"}


def test_a_load_balancer(cloud, proxy) -> None:
    domain = {"nginx_proxy_domain": "prefect.example.com"}
    own = "https://prefect-proxy-123456789012.europe-west1.run.app"
    assert proxy().ok
    compute = f"compute/compute/v1/projects/{PROJECT}/global"
    done = proxy(**domain)
    assert done.ok, done.output
    address = cloud.ask("GET", f"{compute}/addresses/prefect-proxy")["address"]
    assert f"prefect.example.com. A {address} Its certificate is PROVISIONING: make this DNS record, and run this again" in done.text
    assert cloud.ask("GET", f"{compute}/forwardingRules/prefect-proxy")["IPAddress"] == address
    # Whoever uses the service's own address goes on to.
    assert cloud.ask("GET", RUN)["ingress"] == "INGRESS_TRAFFIC_ALL"
    assert f"{own} leads to" in done.text
    again = proxy(**domain)
    assert (again.ok, again.changed) == (True, 0), again.output

    [certificate] = [name for name in cloud.state.resources if "/sslCertificates/" in name]
    cloud.state.resources[certificate]["managed"]["status"] = "ACTIVE"
    made = len(cloud.writes())
    dry = proxy("--check", **domain)
    assert (dry.ok, dry.changed, len(cloud.writes())) == (True, 1, made), dry.output
    done = proxy(**domain)
    assert done.ok, done.output
    assert cloud.ask("GET", RUN)["ingress"] == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    assert "https://prefect.example.com leads to" in done.text
    again = proxy(**domain)
    assert (again.ok, again.changed) == (True, 0), again.output

    assert proxy().ok
    assert cloud.ask("GET", RUN)["ingress"] == "INGRESS_TRAFFIC_ALL"


def test_a_connector(cloud, proxy) -> None:
    connectors = f"projects/{PROJECT}/locations/europe-west1/connectors"
    refused = proxy(nginx_proxy_connector=f"{connectors}/prefect")
    assert not refused.ok
    assert f"VPC connector {connectors}/prefect does not exist" in refused.text
    cloud.ask("POST", f"vpcaccess/v1/{connectors}?connectorId=prefect", {"network": "prefect", "ipCidrRange": "10.8.0.0/28"})
    done = proxy(nginx_proxy_connector=f"{connectors}/prefect")
    assert done.ok, done.output
    assert cloud.ask("GET", RUN)["template"]["vpcAccess"] == {"connector": f"{connectors}/prefect", "egress": "PRIVATE_RANGES_ONLY"}
    again = proxy(nginx_proxy_connector=f"{connectors}/prefect")
    assert (again.ok, again.changed) == (True, 0), again.output


def test_a_domain_mapping(cloud, proxy) -> None:
    refused = proxy(nginx_proxy_domain="prefect.example.com", nginx_proxy_domain_by="mapping")
    assert not refused.ok
    assert "gcloud domains verify prefect.example.com" in refused.text
    cloud.verified_domains.add("example.com")
    done = proxy(nginx_proxy_domain="prefect.example.com", nginx_proxy_domain_by="mapping")
    assert done.ok, done.output
    assert "CNAME ghs.googlehosted.com." in done.text


def test_an_image_of_ones_own(cloud, proxy, controller: Controller, tmp_path: Path) -> None:
    """With a gcloud that notes what it is asked for, and what it is given to build."""
    stub, log = tmp_path / "bin/gcloud", tmp_path / "log"
    stub.parent.mkdir()
    script = """#!/bin/sh
echo "$*" >> log
if [ "$1" = artifacts ]; then test -e built; exit; fi
for last; do :; done
cat "$last"/* >> log
touch built
"""
    stub.write_text(script.replace("log", str(log)).replace("built", str(tmp_path / "built")))
    stub.chmod(0o755)
    controller.environment["PATH"] = f"{stub.parent}:{controller.environment['PATH']}"
    options = {"nginx_proxy_image_build": "cloud_build", "nginx_proxy_image_repository": f"europe-west1-docker.pkg.dev/{PROJECT}/prefect/proxy"}

    dry = proxy("--check", **options)
    assert dry.ok, dry.output
    assert "builds submit" not in log.read_text()
    done = proxy(**options)
    assert done.ok, done.output
    image = cloud.ask("GET", RUN)["template"]["containers"][0]["image"]
    assert image.startswith(f"{options['nginx_proxy_image_repository']}:")
    assert f"builds submit --tag {image} --project {PROJECT}" in log.read_text()
    for text in ("FROM nginx:1.28.0-alpine", "COPY nginx.conf /etc/nginx/nginx.conf", "server 10.10.0.2:4200 "):
        assert text in log.read_text()
    assert cloud.ask("GET", RUN)["template"].get("volumes", []) == []
    again = proxy(**options)
    assert (again.ok, again.changed) == (True, 0), again.output


def test_an_image_built_by_docker(cloud, proxy, controller: Controller, tmp_path: Path) -> None:
    """With a docker that notes what it is asked for, and knows the images that it has pushed."""
    stub, log, pushed = tmp_path / "bin/docker", tmp_path / "log", tmp_path / "pushed"
    stub.parent.mkdir()
    stub.write_text(f"""#!/bin/sh
echo "$*" >> {log}
for last; do :; done
if [ "$1" = manifest ]; then grep -qxF "$last" {pushed} 2>/dev/null; exit; fi
test -e "$last/Dockerfile" && echo "$6" >> {pushed}
""")
    stub.chmod(0o755)
    controller.environment["PATH"] = f"{stub.parent}:{controller.environment['PATH']}"
    options = {"nginx_proxy_image_build": "docker", "nginx_proxy_image_repository": f"europe-west1-docker.pkg.dev/{PROJECT}/prefect/proxy"}
    done = proxy(**options)
    assert done.ok, done.output
    image = cloud.ask("GET", RUN)["template"]["containers"][0]["image"]
    build = f"buildx build --platform linux/amd64 --tag {image} --push "
    assert [line.startswith(build) for line in log.read_text().splitlines()] == [False, True]
    assert pushed.read_text() == f"{image}\n"
    again = proxy(**options)
    assert (again.ok, again.changed, log.read_text().count(build)) == (True, 0, 1), again.output
    # Another configuration is another image.
    assert proxy(nginx_proxy_client_max_body_size="64m", **options).ok
    assert cloud.ask("GET", RUN)["template"]["containers"][0]["image"] == pushed.read_text().splitlines()[1] != image


@pytest.mark.parametrize(
    ("roles", "options", "message"),
    [
        (["iam.serviceAccountAdmin", "secretmanager.admin"], {}, "grant them roles/run.admin."),
        (["iam.*", "run.admin"], {}, "grant them roles/secretmanager.admin."),
        (
            ["iam.*", "run.admin", "secretmanager.admin"],
            {"nginx_proxy_domain": "prefect.example.com"},
            f"compute.globalForwardingRules.create, compute.sslCertificates.create in {PROJECT}: grant them roles/compute.loadBalancerAdmin.",
        ),
    ],
    ids=["Cloud Run", "secrets", "load balancer"],
)
def test_roles_that_are_missing(cloud, proxy, roles: list[str], options: dict[str, str], message: str) -> None:
    # A role that the local cloud does not know stands for permissions.
    cloud.grants["owner@example.com"] = ["roles/viewer", *(name if "*" in name else f"roles/{name}" for name in roles)]
    refused = proxy(**options)
    assert not refused.ok
    assert message in refused.text, refused.output
    assert cloud.writes() == []


def test_a_subnetwork_that_cannot_be_used(cloud, proxy) -> None:
    small = {"name": "small", "network": f"projects/{PROJECT}/global/networks/prefect", "ipCidrRange": "10.10.2.0/27"}
    cloud.ask("POST", f"compute/compute/v1/projects/{PROJECT}/regions/europe-west1/subnetworks", small)
    for options, message in (
        ({"nginx_proxy_subnetwork": "other"}, "there is no subnetwork other in the network prefect and this region"),
        ({"nginx_proxy_subnetwork": "small"}, "small is 10.10.2.0/27, which is too small for Cloud Run: name one of /26 or larger."),
        ({"nginx_proxy_network": "default"}, "the subnetwork prefect-run is in another network (prefect)"),
    ):
        refused = proxy(**options)
        assert not refused.ok
        assert f"nginx_proxy_subnetwork: {message}" in refused.text, refused.output
    assert cloud.writes() == []
    # A connector needs none, and of one in another project this one's account may know nothing.
    connector = proxy("--check", nginx_proxy_subnetwork="other", nginx_proxy_connector=f"projects/{PROJECT}/locations/europe-west1/connectors/prefect")
    assert connector.ok, connector.output


REFUSALS = {
    "no region": ({"nginx_proxy_region": ""}, "nginx_proxy_region (or prefect_gcp_region) is ''"),
    "no project": ({"nginx_proxy_project": ""}, "nginx_proxy_project (or prefect_gcp_project) is ''"),
    "the container itself": ({"nginx_proxy_upstreams": ["127.0.0.1:4200"]}, "which on Cloud Run is the container itself"),
    "a server that is no address": ({"nginx_proxy_upstreams": ["http://10.10.0.2"]}, "nginx_proxy_upstreams holds http://10.10.0.2"),
    "too many instances": ({"nginx_proxy_min_instances": 5}, "nginx_proxy_min_instances is 5, and nginx_proxy_max_instances 3"),
    "no version to go back to": ({"nginx_proxy_keep_versions": 1}, "nginx_proxy_keep_versions is 1, and beside the one in use"),
    "an image without a place": ({"nginx_proxy_image_build": "docker"}, "nginx_proxy_image_repository is ''"),
    "no domain": ({"nginx_proxy_domain": "https://prefect.example.com"}, "which is no domain"),
    "callers behind a load balancer": (
        {"nginx_proxy_domain": "prefect.example.com", "nginx_proxy_invokers": ["user:a@example.com"]},
        "nginx_proxy_invokers lets only some",
    ),
}


def test_refusals(cloud, controller: Controller) -> None:
    common = {"nginx_proxy_backend": "cloud_run", "nginx_proxy_project": PROJECT, "nginx_proxy_upstreams": ["10.10.0.2:4200"]}
    done = controller.refusals("nginx_proxy", {name: ({**common, **variables}, message) for name, (variables, message) in REFUSALS.items()})
    assert done.ok, done.output
    assert f"rescued={len(REFUSALS)}" in done.output
    assert cloud.requests == []


def test_what_nginx_refuses(cloud, proxy, controller: Controller, tmp_path: Path) -> None:
    stub = tmp_path / "bin/nginx"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nfor last; do :; done\ngrep -q "no_such_directive" "$last" && echo "nginx: [emerg] unknown directive" >&2 && exit 1\nexit 0\n')
    stub.chmod(0o755)
    controller.environment["PATH"] = f"{stub.parent}:{controller.environment['PATH']}"
    refused = proxy(nginx_proxy_extra_directives="no_such_directive;")
    assert not refused.ok
    assert "unknown directive" in refused.text
    assert cloud.writes() == []
    assert proxy("--check").ok
