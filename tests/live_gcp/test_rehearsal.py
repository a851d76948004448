# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole rollout on the local cloud, as `make rehearse` does it: machines that boot, a flow run through the Cloud Run URL, a second run, the teardown."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

from .conftest import ROOT

PROJECT = "rehearsal-project"

# tests/local_gcp has more that boot containers, which would be called the same.
pytestmark = pytest.mark.xdist_group("containers")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "ANSIBLE_NOCOLOR": "1", **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=1200)


@pytest.fixture
def rehearse() -> t.Iterator[t.Callable[..., subprocess.CompletedProcess[str]]]:
    if shutil.which("docker") and run("docker", "ps", "--quiet", "--filter", "name=^local-gcp-").stdout:
        pytest.fail("A rehearsal is up: make rehearse-down removes it.")
    yield lambda **environment: run("scripts/rehearse", "up", **environment)
    assert run("scripts/rehearse", "down").returncode == 0
    assert not run("docker", "ps", "--all", "--quiet", "--filter", "name=^local-gcp-").stdout


# Where a name or a range is taken for granted somewhere, it is another one here.
OWN = """
gce_vm_name: flows-server
gce_vm_server_service_account: flows-server
gce_vm_worker_service_account: flows-worker
prefect_gcp_network: flows
gce_vm_subnetwork: flows-vms
gce_vm_subnetwork_range: 10.77.0.0/24
prefect_gcp_run_subnetwork: flows-run
gce_vm_run_subnetwork_range: 10.77.1.0/26
cloudsql_name: flows
cloudsql_database: flows
cloudsql_user: flows
cloudsql_range_name: flows-services
cloudsql_range: 10.78.0.0/20
cloudsql_password_secret_name: flows-password
nginx_proxy_service: flows-proxy
nginx_proxy_service_account: flows-proxy
nginx_proxy_secret_name: flows-nginx
"""


def test_from_no_project_to_a_flow_run_and_back(rehearse: t.Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """By an inventory of one's own, which is that of the quick start with other names."""
    refused = rehearse(PROJECT=PROJECT, REGION="nowhere")
    assert refused.returncode != 0
    assert "(or prefect_gcp_region) is 'nowhere', which is no region" in " ".join(refused.stdout.split())
    shutil.copytree(ROOT / "build/rehearse/inventory", tmp_path / "inventory")
    variables = tmp_path / "inventory/group_vars/all.yml"
    variables.write_text(variables.read_text().replace("nowhere", "europe-west1").replace("prefect-worker-1", "flows-worker-1") + OWN)

    done = rehearse(PROJECT=PROJECT, INVENTORY=str(tmp_path / "inventory/gcp.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Prefect \S+ works at https://flows-proxy-\S+\.run\.app", done.stdout)
    assert re.search(r"Flow run: +Completed", done.stdout)
    recaps = re.findall(r"(?m)^(\S+) +: ok=\d+ +changed=(\d+)", done.stdout)
    assert {host for host, _changed in recaps} == {"localhost", "flows-server", "flows-worker-1"}
    assert [changed for _host, changed in recaps[-3:]] == ["0", "0", "0"]

    asked = run("scripts/local-gcp", "log").stdout
    assert "write POST /v1/projects/rehearsal-project/instances\n" in asked
    # All the names that are left of ours have no variable.
    assert set(re.findall(r"/(prefect[\w-]*)", asked)) == {"prefect-auth-string"}
    secret = run("docker", "exec", "local-gcp-vm-flows-server", "cat", "/etc/prefect/server/auth_string").stdout.strip()
    assert secret.startswith("prefect:")
    assert secret not in done.stdout + done.stderr + asked


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"PROJECT": ""}, "PROJECT is '', which is no project's ID"),
        ({"PROJECT": "My Project"}, "PROJECT is 'My Project', which is no project's ID"),
        ({"PROJECT": PROJECT, "INVENTORY": "/nowhere.yml"}, "INVENTORY is /nowhere.yml, which does not exist"),
    ],
)
def test_bad_input(variables: dict[str, str], message: str) -> None:
    refused = run("scripts/rehearse", "up", **variables)
    assert refused.returncode == 1
    assert message in refused.stderr
