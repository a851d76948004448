"""What only a whole installation shows, once it has been rebooted: the way from the proxy to the workers, and that a rollout says no secret."""

from __future__ import annotations

import re

import pytest

testinfra_hosts = ["ansible://prefect_server"]


@pytest.fixture(scope="module")
def auth_string(host):
    return host.check_output("cat /etc/prefect/server/auth_string")


def test_a_run_with_all_its_output_verifies_and_shows_no_secret(play, auth_string):
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


def test_a_second_run_leaves_the_database_alone(play):
    run = play("playbooks/postgresql.yml")
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.findall(r"^(\S+) .* changed=0 ", run.stdout, re.MULTILINE) == ["molecule-site-database", "molecule-site-server"], run.stdout
