# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules and the inventory of google.cloud, as they are, through the proxy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

from .conftest import NUMBER, PROJECT, REGION

# Not the folder of sys.executable: ansible-test runs a link to it.
PROGRAMS = Path(sys.prefix) / "bin"
ZONE = f"{REGION}-b"
IMAGE = "projects/debian-cloud/global/images/family/debian-12"
BASE = f"https://www.googleapis.com/compute/v1/projects/{PROJECT}"
NETWORK = {"selfLink": f"{BASE}/global/networks/prefect"}
SUBNET = {"selfLink": f"{BASE}/regions/{REGION}/subnetworks/prefect"}


def task(module: str, **arguments: t.Any) -> dict[str, t.Any]:
    credentials = {"project": PROJECT, "auth_kind": "accesstoken", "access_token": "a-token"}
    return {"name": module, f"google.cloud.gcp_{module}": {**credentials, **arguments}}


TASKS = [
    task("compute_network", name="prefect", auto_create_subnetworks=False),
    task("compute_subnetwork", name="prefect", region=REGION, ip_cidr_range="10.10.0.0/24", network=NETWORK, private_ip_google_access=True),
    task("compute_firewall", name="prefect-api", network=NETWORK, allowed=[{"ip_protocol": "tcp", "ports": ["4200"]}], source_ranges=["10.10.1.0/26"]),
    task("compute_global_address", name="services", address_type="INTERNAL", purpose="VPC_PEERING", prefix_length=20, network=NETWORK),
    task("compute_router", name="prefect", region=REGION, network=NETWORK),
    task("iam_service_account", name=f"prefect-server@{PROJECT}.iam.gserviceaccount.com", display_name="Prefect server"),
    task(
        "compute_instance", name="prefect-server", zone=ZONE, machine_type="e2-medium",
        disks=[{"auto_delete": True, "boot": True, "initialize_params": {"source_image": IMAGE, "disk_size_gb": 10}}],
        network_interfaces=[{"subnetwork": SUBNET}], labels={"prefect-role": "server"}, tags={"items": ["prefect"]},
        service_accounts=[{"email": f"prefect-server@{PROJECT}.iam.gserviceaccount.com", "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}],
    ),
]  # fmt: skip


@pytest.fixture
def ansible(cloud: LocalCloud, tmp_path: Path) -> t.Callable[..., str]:
    def run(program: str, *arguments: str) -> str:
        environment = {**os.environ, **cloud.proxy_environment(), "ANSIBLE_LOCAL_TEMP": str(tmp_path), "HOME": str(tmp_path), "ANSIBLE_FORCE_COLOR": "0"}
        environment["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "1"
        for name in ("ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_CONFIG", "HTTP_PROXY", "http_proxy", "PYTHONPATH"):
            environment.pop(name, None)
        command = [str(PROGRAMS / program), *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_modules_make_and_then_change_nothing(cloud: LocalCloud, ansible: t.Callable[..., str], tmp_path: Path) -> None:
    play = {
        "name": "Network",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": str(PROGRAMS / "python")},
        "tasks": TASKS,
    }
    playbook = tmp_path / "network.yml"
    playbook.write_text(json.dumps([play]))
    assert f"changed={len(TASKS)}" in ansible("ansible-playbook", "--inventory", "localhost,", str(playbook))
    made = len(cloud.writes())
    assert re.search(r"ok=7 +changed=0", ansible("ansible-playbook", "--inventory", "localhost,", str(playbook)))
    assert len(cloud.writes()) == made

    inventory = tmp_path / "gcp.yml"
    plugin = {
        "plugin": "google.cloud.gcp_compute",
        "projects": [PROJECT],
        "auth_kind": "accesstoken",
        "access_token": "x",
        "filters": ["labels.prefect-role = server"],
    }
    inventory.write_text(json.dumps({**plugin, "hostnames": ["name"], "keyed_groups": [{"key": "labels", "prefix": "label"}]}))
    found = json.loads(ansible("ansible-inventory", "--inventory", str(inventory), "--list"), object_hook=lambda value: value.get("__ansible_unsafe", value))
    host = found["_meta"]["hostvars"]["prefect-server"]
    assert host["networkInterfaces"][0]["networkIP"] == "10.10.0.2"
    assert found["label_prefect_role_server"]["hosts"] == ["prefect-server"]
    assert NUMBER not in host["selfLink"]
