# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory and the playbooks for Google Cloud, without the VMs' insides."""

from __future__ import annotations

import collections
import json
import os
import re
import typing as t
from pathlib import Path

import pytest

from .conftest import PROJECT, ROOT, Controller

INSTANCES = f"compute/compute/v1/projects/{PROJECT}/zones/europe-west1-b/instances"

ADMINS = [f"roles/{name}" for name in ("cloudsql.admin", "iam.serviceAccountAdmin", "iam.serviceAccountUser", "resourcemanager.projectIamAdmin",
                                       "secretmanager.admin", "serviceusage.serviceUsageAdmin")]  # fmt: skip


@pytest.fixture
def inventory(controller: Controller, tmp_path: Path) -> Path:
    """inventory/gcp.yml as a user has it: with a project and variables of their own."""
    path = tmp_path / "inventory/gcp.yml"
    path.parent.mkdir()
    text = (ROOT / "inventory/gcp.yml").read_text()
    path.write_text(text.replace("my-project", PROJECT).replace("auth_kind: application", "auth_kind: accesstoken"))
    variables = {"prefect_gcp_project": PROJECT, "prefect_gcp_region": "europe-west1", "gce_vm_workers": [{"name": "prefect-worker-1"}]}
    (path.parent / "group_vars").mkdir()
    (path.parent / "group_vars/all.json").write_text(json.dumps(variables))
    return path


def listed(controller: Controller, inventory: Path) -> dict[str, t.Any]:
    done = controller.run("ansible-inventory", "--inventory", str(inventory), "--list")
    assert done.returncode == 0, done.stderr
    return t.cast("dict[str, t.Any]", json.loads(done.stdout, object_hook=lambda value: value.get("__ansible_unsafe", value)))


def make_machines(cloud) -> None:
    cloud.make_network("prefect", "europe-west1", "10.10.0.0/24")
    image = {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}
    for name, role in (("prefect-server", "server"), ("prefect-worker-1", "worker"), ("elsewhere", None)):
        machine = {
            "name": name,
            "machineType": "zones/europe-west1-b/machineTypes/e2-medium",
            "disks": [{"boot": True, "initializeParams": image}],
            "networkInterfaces": [{"network": f"projects/{PROJECT}/global/networks/prefect"}],
            "labels": {"prefect-role": role} if role else {},
        }
        cloud.ask("POST", INSTANCES, machine)


def test_the_inventory(cloud, controller: Controller, inventory: Path) -> None:
    make_machines(cloud)
    found = listed(controller, inventory)
    assert found["prefect_server"]["hosts"] == ["prefect-server"]
    assert found["prefect_worker"]["hosts"] == ["prefect-worker-1"]
    hosts = found["_meta"]["hostvars"]
    assert set(hosts) == {"prefect-server", "prefect-worker-1"}
    assert hosts["prefect-server"]["ansible_host"].startswith("10.10.0.")
    assert hosts["prefect-server"]["ansible_ssh_common_args"] == (
        f'-o ProxyCommand="gcloud compute start-iap-tunnel prefect-server %p --listen-on-stdin --verbosity=warning --project={PROJECT} --zone=europe-west1-b"'
    )
    keys = r"-o ControlMaster=auto -o ControlPersist=60s -o StrictHostKeyChecking=accept-new -o HostKeyAlias=compute\.\d+"
    arguments = [host["ansible_ssh_args"] for host in hosts.values()]
    assert all(re.fullmatch(keys, argument) for argument in arguments)
    assert len(set(arguments)) == 2, "two VMs have the same key"
    asked = len(cloud.requests)
    assert listed(controller, inventory) == found
    assert len(cloud.requests) == asked, "the cache was not used"


@pytest.mark.parametrize("code", [403, 503])
def test_an_inventory_that_cannot_be_had_is_an_error(cloud, controller: Controller, inventory: Path, code: int) -> None:
    cloud.fail("compute.instances.aggregatedList", code, times=9)
    done = controller.run("ansible-inventory", "--inventory", str(inventory), "--list")
    assert done.returncode != 0
    cloud.enabled.pop("compute")


def test_an_api_out_of_reach_is_an_error(controller: Controller, inventory: Path) -> None:
    controller.environment["HTTPS_PROXY"] = controller.environment["https_proxy"] = "http://127.0.0.1:9"
    assert controller.run("ansible-inventory", "--inventory", str(inventory), "--list").returncode != 0


def on_this_machine(inventory: Path) -> None:
    folder = inventory.parent / "host_vars"
    folder.mkdir()
    for name in ("prefect-server", "prefect-worker-1"):
        (folder / f"{name}.json").write_text(json.dumps({"ansible_connection": "local", "ansible_become": False}))


@pytest.fixture
def site(cloud, controller: Controller, inventory: Path, tmp_path: Path) -> t.Callable[..., t.Any]:
    """Provisions, and hands over to machines that are this one, whose files are not touched."""
    on_this_machine(inventory)
    show = {
        "name": "What they were told",
        "hosts": "prefect_server:prefect_worker",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Show",
                "ansible.builtin.debug": {
                    "msg": "{{ inventory_hostname }} {{ prefect_api_url }} {{ prefect_server_api_port }} {{ prefect_auth_string | hash('sha256') }}",
                },
            }
        ],
    }
    playbook = tmp_path / "site.yml"
    playbook.write_text(json.dumps([{"name": "Google Cloud", "ansible.builtin.import_playbook": str(ROOT / "playbooks/gcp.yml")}, show]))

    def run(*arguments: str, **variables: t.Any) -> t.Any:
        defaults = {"prefect_server_database_host": "10.1.2.3", "cloudsql_server_ca_file": str(tmp_path / "cloudsql-ca.pem")}
        return controller.play(playbook, "--inventory", str(inventory), *arguments, **{**defaults, **variables})

    return run


def test_from_no_project_to_hosts_in_one_run(cloud, controller: Controller, inventory: Path, site) -> None:
    done = site()
    assert done.ok, done.output
    address = cloud.ask("GET", f"{INSTANCES}/prefect-server")["networkInterfaces"][0]["networkIP"]
    said = re.findall(r"(prefect-\S+) (http://\S+) 4200 ([0-9a-f]{64})", done.text)
    assert {line[:2] for line in said} == {(name, f"http://{address}:4200/api") for name in ("prefect-server", "prefect-worker-1")}
    assert len({fingerprint for *_rest, fingerprint in said}) == 1
    secret = cloud.ask("GET", f"secretmanager/v1/projects/{PROJECT}/secrets/prefect-auth-string/versions/latest:access")["payload"]["data"]
    assert secret not in done.output

    # By another process, which the cache must not tell what there was when this run began.
    found = listed(controller, inventory)
    assert (found["prefect_server"]["hosts"], found["prefect_worker"]["hosts"]) == (["prefect-server"], ["prefect-worker-1"])

    made = len(cloud.writes())
    again = site()
    assert again.ok, again.output
    # Facts count as no change, and nothing else was.
    assert (again.changed, len(cloud.writes())) == (0, made), again.output
    assert re.findall(r"[0-9a-f]{64}", again.text)[0] == said[0][2]


@pytest.mark.skipif(os.geteuid() != 0, reason="a file belongs to root")
def test_the_first_day_of_a_project(cloud, site, tmp_path: Path) -> None:
    cloud.enabled.clear()
    # What docs/google-cloud.md has people enable.
    cloud.enabled.update(serviceusage=True, compute=True)
    cloud.spreading_calls = 1
    everything = {"prefect_server_database_host": "", "nginx_proxy_backend": "cloud_run"}
    dry = site("--check", **everything)
    assert dry.ok, dry.output
    assert cloud.writes() == []
    done = site(**everything)
    assert done.ok, done.output
    assert (tmp_path / "cloudsql-ca.pem").exists()


def test_what_a_second_run_asks(cloud, controller: Controller, inventory: Path) -> None:
    """By all that is done at Google, but for Cloud SQL, which has a test of its own; nothing is done on the hosts."""
    on_this_machine(inventory)

    def run() -> t.Any:
        variables = {"nginx_proxy_backend": "cloud_run", "prefect_server_database_host": "10.1.2.3"}
        return controller.play(ROOT / "site.yml", "--inventory", str(inventory), "--tags", "nginx_proxy", **variables)

    first = run()
    assert first.ok, first.output
    made, asked = len(cloud.writes()), len(cloud.requests)
    again = run()
    assert (again.ok, again.changed, len(cloud.writes())) == (True, 0, made), again.output
    # One read for each thing: two VMs, three accounts, two rules, two secrets; the inventory reads anew.
    asked_for = collections.Counter(request["id"] for request in cloud.requests[asked:])
    assert asked_for == {
        "cloudresourcemanager.projects.getIamPolicy": 1,
        "cloudresourcemanager.projects.testIamPermissions": 1,
        "compute.firewalls.get": 2,
        "compute.instances.aggregatedList": 2,
        "compute.instances.get": 2,
        "compute.networks.get": 1,
        "compute.routers.get": 1,
        "compute.subnetworks.list": 1,
        "iam.projects.serviceAccounts.get": 3,
        "run.projects.locations.services.get": 1,
        "secretmanager.projects.secrets.get": 2,
        "secretmanager.projects.secrets.getIamPolicy": 1,
        "secretmanager.projects.secrets.versions.access": 2,
        "serviceusage.services.batchGet": 1,
    }


@pytest.fixture
def teardown(controller: Controller, inventory: Path) -> t.Callable[..., t.Any]:
    return lambda *arguments, **variables: controller.play(ROOT / "playbooks/teardown.yml", "--inventory", str(inventory), *arguments, **variables)


UNPROTECTED = {"gce_vm_deletion_protection": False, "cloudsql_deletion_protection": False}


def left(cloud) -> set[str]:
    """What there is of ours, without the service and the project around it."""
    return {name.partition(f"/projects/{PROJECT}/")[2] for name in cloud.state.resources if "prefect" in name}


def test_teardown(cloud, site, teardown) -> None:
    assert site().ok
    made = len(cloud.writes())
    told = teardown()
    assert told.ok, told.output
    for text in (
        "VM prefect-server, which is PROTECTED",
        f"service account prefect-worker@{PROJECT}",
        "Cloud NAT prefect",
        "Stays, unless gce_vm_delete_network is true: network prefect",
        "Nothing was deleted",
    ):
        assert text in told.text
    assert len(cloud.writes()) == made

    assert "prefect_teardown_confirm is other-project" in teardown(prefect_teardown_confirm="other-project").text
    refused = teardown(prefect_teardown_confirm=PROJECT)
    assert not refused.ok
    assert "gce_vm_deletion_protection protects prefect-server" in refused.text
    assert len(cloud.writes()) == made

    assert site(gce_vm_deletion_protection=False).ok
    done = teardown(prefect_teardown_confirm=PROJECT)
    assert done.ok, done.output
    subnetworks = {f"regions/europe-west1/subnetworks/{name}" for name in ("prefect", "prefect-run")}
    assert left(cloud) == {"global/networks/prefect", *subnetworks}
    assert teardown(prefect_teardown_confirm=PROJECT).changed == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a file belongs to root")
def test_teardown_with_the_network(cloud, site, teardown) -> None:
    """Google lets go of it late: what is left then goes with the next run."""
    everything = {"nginx_proxy_backend": "cloud_run", "prefect_server_database_host": "", **UNPROTECTED}
    assert site(**everything).ok
    made = len(cloud.writes())
    told = teardown("--extra-vars", "prefect_teardown_network=true", **everything)
    for text in ("connection of the network with Google's services, and its range prefect-services", "subnetwork prefect-run network prefect"):
        assert text in told.text, told.output
    assert len(cloud.writes()) == made

    cloud.fail("servicenetworking.services.connections.deleteConnection", 400, "Producer services are still using this connection.")
    late = teardown("--extra-vars", "prefect_teardown_network=true", prefect_teardown_confirm=PROJECT, **everything)
    assert not late.ok
    assert "Producer services are still using this connection" in late.text
    assert not [name for name in left(cloud) if "/instances/" in name or "/services/" in name or "serviceAccounts" in name]

    done = teardown("--extra-vars", "prefect_teardown_network=true", prefect_teardown_confirm=PROJECT, **everything)
    assert done.ok, done.output
    assert left(cloud) == set()
    assert not [name for name in cloud.state.resources if name.startswith("servicenetworking/")]


def test_teardown_leaves_what_was_there_before(cloud, site, teardown) -> None:
    cloud.make_network("platform", "europe-west1", "10.40.0.0/24", peered=True)
    for account in ("prefect-server", "prefect-proxy"):
        body = {"accountId": account, "serviceAccount": {"displayName": "The platform team's"}}
        cloud.ask("POST", f"iam/v1/projects/{PROJECT}/serviceAccounts", body)
    before = set(cloud.state.resources)
    mine = {
        "prefect_gcp_network": "platform",
        "gce_vm_subnetwork": "platform",
        "gce_vm_subnetwork_range": "",
        "gce_vm_run_subnetwork_range": "10.40.1.0/26",
        "nginx_proxy_backend": "cloud_run",
        **UNPROTECTED,
    }
    assert site(**mine).ok
    told = teardown(prefect_teardown_network=True, prefect_teardown_confirm=PROJECT, **mine)
    assert told.ok, told.output
    for name in (f"service account prefect-server@{PROJECT}", f"service account prefect-proxy@{PROJECT}", "subnetwork platform", "network platform"):
        assert f"Stays, since the role has not made it: {name}" in told.text
    assert {name for name in cloud.state.resources if name in before or "prefect" in name or "platform" in name} == before


def test_another_port(cloud, inventory: Path, site) -> None:
    """One that the server is told in an inventory, the firewall and the proxy know too, or it is refused."""
    other = {"prefect_server_api_port": 8080}
    group = inventory.parent / "group_vars/prefect_server.json"
    group.write_text(json.dumps(other))
    refused = site()
    assert not refused.ok
    assert "prefect_server_api_port is 8080 for prefect-server alone, and the firewall and the proxy know 4200" in refused.text

    group.unlink()
    everyone = inventory.parent / "group_vars/all.json"
    everyone.write_text(json.dumps({**json.loads(everyone.read_text()), **other, "nginx_proxy_backend": "cloud_run"}))
    done = site()
    assert done.ok, done.output
    address = cloud.ask("GET", f"{INSTANCES}/prefect-server")["networkInterfaces"][0]["networkIP"]
    assert f"http://{address}:8080/api 8080" in done.text
    rule = cloud.ask("GET", f"compute/compute/v1/projects/{PROJECT}/global/firewalls/prefect-server-api")
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["8080"]}]


@pytest.mark.parametrize("auth_string", ["x", ""])
def test_a_bad_auth_string_is_never_kept(cloud, site, auth_string: str) -> None:
    refused = site(prefect_auth_string=auth_string)
    assert not refused.ok
    assert "prefect_auth_string cannot be used" in refused.text
    assert cloud.writes() == []


def test_workers_that_use_the_public_address(cloud, site) -> None:
    refused = site(prefect_api_url="{{ hostvars['localhost'].nginx_proxy_url }}/api")
    assert not refused.ok
    assert "prefect_api_url refers to something that is not known before the VMs are made, such as nginx_proxy_url: write the address itself." in refused.text
    assert cloud.writes() == []
    # As docs/google-cloud.md has it, and the message.
    url = f"https://prefect-proxy-{cloud.project_number}.europe-west1.run.app/api"
    assert url.replace(cloud.project_number, "PROJECT_NUMBER") in refused.text
    done = site(prefect_api_url=url)
    assert done.ok, done.output
    assert set(re.findall(r"(prefect-\S+) (https://\S+) ", done.text)) == {(name, url) for name in ("prefect-server", "prefect-worker-1")}


def test_a_mistake_in_the_proxy_is_told_before_anything_is_made(cloud, site) -> None:
    refused = site(nginx_proxy_backend="cloud_run", nginx_proxy_domain="prefect.example.com", nginx_proxy_domain_by="mapping")
    assert not refused.ok
    assert "gcloud domains verify prefect.example.com" in refused.text
    # Which domains are verified can only be asked of an API that is enabled.
    assert {write.rpartition(":")[2] for write in cloud.writes()} <= {"batchEnable"}


def test_a_mistake_in_cloud_sql_is_told_before_anything_is_made(cloud, site) -> None:
    refused = site(prefect_server_database_host="", cloudsql_tier="db-perf-optimized-N-2")
    assert not refused.ok
    assert "the edition ENTERPRISE does not have it: write such as db-custom-2-7680" in refused.text
    assert {write.rpartition(":")[2] for write in cloud.writes()} <= {"batchEnable"}


def test_a_range_of_cloud_sql_that_the_network_is_to_have(cloud, site) -> None:
    refused = site(prefect_server_database_host="", cloudsql_range="10.10.0.0/20")
    assert not refused.ok
    assert "the range 10.10.0.0/24 of the subnetwork prefect overlaps 10.10.0.0/20 of cloudsql_range: choose a free one." in refused.text
    assert {write.rpartition(":")[2] for write in cloud.writes()} <= {"batchEnable"}


def test_a_role_that_the_proxy_lacks_is_told_before_anything_is_made(cloud, site) -> None:
    cloud.grants["owner@example.com"] = ["roles/viewer", "roles/compute.admin", *ADMINS]
    refused = site(nginx_proxy_backend="cloud_run")
    assert not refused.ok
    assert f"lack run.services.create, run.services.setIamPolicy, run.services.update in {PROJECT}: grant them roles/run.admin." in refused.text
    assert {write.rpartition(":")[2] for write in cloud.writes()} <= {"batchEnable"}


@pytest.mark.parametrize("build", ["none", "cloud_build"])
def test_what_builds_an_image_is_enabled_if_it_is_wanted(cloud, site, build: str) -> None:
    for api in ("artifactregistry", "cloudbuild"):
        cloud.enabled.pop(api)
    # That it is refused afterwards makes it short.
    assert "nginx_proxy_keep_versions is 0" in site(nginx_proxy_backend="cloud_run", nginx_proxy_keep_versions=0, nginx_proxy_image_build=build).text
    assert {"artifactregistry", "cloudbuild"} & set(cloud.enabled) == ({"artifactregistry", "cloudbuild"} if build == "cloud_build" else set())
