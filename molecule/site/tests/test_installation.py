"""What only a whole installation shows: the way from the proxy to the workers, that a rollout says no secret, and what stops it."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

testinfra_hosts = ["ansible://prefect_server"]


def play(*arguments: str) -> subprocess.CompletedProcess[str]:
    directory = os.environ["MOLECULE_SCENARIO_DIRECTORY"]
    inventories = [f"--inventory={directory}/../inventory/", f"--inventory={directory}/inventory.yml"]
    return subprocess.run(["ansible-playbook", *inventories, *arguments], cwd=f"{directory}/../..", text=True, capture_output=True, check=False)


def changes(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {host: int(number) for host, number in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", run.stdout, re.MULTILINE)}


@pytest.fixture(scope="module")
def auth_string(host):
    return host.check_output("cat /etc/prefect/server/auth_string")


def test_a_run_with_all_its_output_verifies_and_shows_no_secret(auth_string):
    run = play("site.yml", "playbooks/verify.yml", "-vvv", "--diff")
    output = run.stdout + run.stderr
    assert run.returncode == 0, output
    assert re.search(r"Prefect \S+ works at http://molecule-site-proxy$", output, re.MULTILINE)
    assert "Log in:    with what /etc/prefect/server/auth_string holds on molecule-site-server" in output
    assert re.search(r"Workers:   molecule-site-worker-1[23], molecule-site-worker-1[23]$", output, re.MULTILINE)
    assert re.search(r"Flow run:  Completed in [\d.]+ s in the pool default", output)
    assert "Changed:   nothing that runs" in output
    assert "Service | Write the unit" in output
    assert auth_string.partition(":")[2] not in output
    assert "made-up p@ss" not in output
    assert "made-up%20p%40ss" not in output


def test_a_worker_that_is_missing_fails_the_verification():
    run = play("playbooks/verify.yml", '--extra-vars={"prefect_verify_timeout": 3, "prefect_worker_workers": [{"name": "gone"}]}')
    assert run.returncode != 0
    assert re.search(r"workers default failed: .*\bgone\b", run.stdout)


def test_what_is_refused_on_one_host_is_done_on_none():
    run = play("site.yml", '--extra-vars={"prefect_worker_workers": [{"name": "a"}, {"name": "a"}], "prefect_version": "3.7.8"}')
    assert run.returncode != 0
    assert "Nothing was touched on any host" in run.stdout
    assert "prefect_worker_workers holds more than one worker called a" in run.stdout
    assert set(changes(run).values()) == {0}


def test_the_workers_are_left_alone_when_their_server_fails():
    run = play("site.yml", '--extra-vars={"prefect_server_database_port": 1, "prefect_server_database_wait_timeout": 0, "prefect_worker_drain_timeout": 77}')
    assert run.returncode != 0
    assert "molecule-site-server could not be rolled out" in run.stdout
    workers = {host: number for host, number in changes(run).items() if "worker" in host}
    assert workers == {"molecule-site-worker-12": 0, "molecule-site-worker-13": 0}
