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

import pytest

from .conftest import ROOT

PROJECT = "rehearsal-project"


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


def test_from_no_project_to_a_flow_run_and_back(rehearse: t.Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = rehearse(PROJECT=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Prefect \S+ works at https://prefect-proxy-\S+\.run\.app", done.stdout)
    assert re.search(r"Flow run: +Completed", done.stdout)
    recaps = re.findall(r"(?m)^(\S+) +: ok=\d+ +changed=(\d+)", done.stdout)
    assert {host for host, _changed in recaps} == {"localhost", "prefect-server", "prefect-worker-1"}
    assert [changed for _host, changed in recaps[-3:]] == ["0", "0", "0"]

    asked = run("scripts/local-gcp", "log").stdout
    assert "write POST /v1/projects/rehearsal-project/instances\n" in asked
    secret = run("docker", "exec", "local-gcp-vm-prefect-server", "cat", "/etc/prefect/server/auth_string").stdout.strip()
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
