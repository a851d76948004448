"""What becomes of a server when its database, or what is said about it, changes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
import testinfra

testinfra_hosts = ["ansible://prefect_server"]

CONVERGE = Path(__file__).parents[1] / "converge.yml"


@pytest.fixture
def database(host):
    [name] = host.ansible.get_variables()["groups"]["prefect_database"]
    return testinfra.get_host(f"ansible://{name}")


def stop(database):
    """Debian's postgresql.service alone would return before its clusters have stopped."""
    database.check_output("systemctl stop 'postgresql@*' postgresql")


def test_outlives_a_restart_of_the_database(host, database, get, pid, wait_until_ready):
    before = pid()
    stop(database)
    assert get("/api/ready").status == 503
    assert get("/api/health").status == 200
    database.check_output("systemctl start postgresql")
    wait_until_ready()
    assert get("/api/admin/version", auth=True).status == 200
    assert pid() == before


def test_a_url_says_the_same_as_its_parts_and_a_schema_of_yesterday_is_migrated(host, pid):
    """All in one run, whose only change is the schema."""
    downgrade = (
        "systemd-run --wait --pipe --quiet --uid=prefect --property=WorkingDirectory=/etc/prefect/server --setenv=PREFECT_HOME=/tmp/downgrade"
        " --property=EnvironmentFile=/etc/prefect/server/secrets.env /opt/prefect/current/bin/prefect server database downgrade --yes --revision=-1"
    )
    host.check_output(downgrade)
    before = pid()
    variables = host.ansible.get_variables()
    [database] = variables["groups"]["prefect_database"]
    password = quote(variables["prefect_server_database_password"], safe="")
    given = {"prefect_server_database_host": "", "prefect_server_database_url": f"postgresql+asyncpg://prefect:{password}@{database}:5432/prefect"}
    command = ["ansible-playbook", "-vvv", "--diff", CONVERGE, "--extra-vars", json.dumps(given)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert re.search(r"ok=\d+ +changed=1 +unreachable=0 +failed=0", run.stdout), run.stdout
    assert re.search(r"^-revision: [0-9a-f]{12}\n\+revision: [0-9a-f]{12}$", run.stdout, re.MULTILINE)
    assert variables["prefect_server_database_password"] not in run.stdout
    assert password not in run.stdout
    assert pid() == before


def test_comes_up_when_the_database_does(host, database, wait_until_ready):
    stop(database)
    host.check_output("systemctl restart prefect-server && sleep 8")
    database.check_output("systemctl start postgresql")
    wait_until_ready()


def test_waits_for_a_database_that_is_just_starting(database, pid):
    before = pid()
    stop(database)
    database.check_output("systemd-run --on-active=6 systemctl start postgresql")
    command = ["ansible-playbook", CONVERGE, "--extra-vars", json.dumps({"prefect_server_database_wait_timeout": 60})]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert re.search(r"changed=0 +unreachable=0 +failed=0", run.stdout), run.stdout
    assert pid() == before
