"""What only a whole installation shows: the way from the proxy to the workers, and that a rollout says no secret."""

from __future__ import annotations

import os
import subprocess

import pytest

testinfra_hosts = ["ansible://prefect_server"]


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    directory = os.environ["MOLECULE_SCENARIO_DIRECTORY"]
    inventories = [f"--inventory={directory}/../inventory/", f"--inventory={directory}/inventory.yml"]
    return subprocess.run(["ansible-playbook", *inventories, *arguments], cwd=f"{directory}/../..", text=True, capture_output=True, check=False)


@pytest.fixture(scope="module")
def auth_string(host):
    return host.check_output("cat /etc/prefect/server/auth_string")


def test_everything_is_verified_through_the_proxy():
    run = play("playbooks/verify.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "http://molecule-site-proxy" in run.stdout
    assert "Completed" in run.stdout


def test_a_run_with_all_its_output_shows_no_secret(auth_string):
    run = play("site.yml", "-vvv", "--diff")
    assert run.returncode == 0, run.stdout + run.stderr
    output = run.stdout + run.stderr
    assert "Service | Write the unit" in output
    assert auth_string.partition(":")[2] not in output
    assert "made-up p@ss" not in output
    assert "made-up%20p%40ss" not in output
