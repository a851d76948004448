"""What further runs of the playbook do to servers that run."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import testinfra

testinfra_hosts = ["ansible://prefect_server"]

CONVERGE = Path(__file__).parents[1] / "converge.yml"
# On the one the auth string is made, on the other one it is given.
MADE, GIVEN = "molecule-server-sqlite-12", "molecule-server-sqlite-13"
NEW = "operator:another-made-up-one"


def everywhere(command):
    """What a command says, by host."""
    return {name: testinfra.get_host(f"ansible://{name}").check_output(command) for name in (MADE, GIVEN)}


class Run:
    """A run of the playbook, as loud as it gets, with the auth strings and the processes before and after it."""

    def __init__(self, *options, **variables):
        self.auth_string, self.pid = everywhere("cat /etc/prefect/server/auth_string"), everywhere("systemctl show -P MainPID prefect-server")
        testinfra.get_host(f"ansible://{MADE}").check_output(variables.pop("first", "true"))
        command = ["ansible-playbook", "-vvv", "--diff", *options, CONVERGE, "--extra-vars", json.dumps(variables)]
        process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        self.succeeded, self.output = process.returncode == 0, process.stdout
        self.new_auth_string, self.new_pid = everywhere("cat /etc/prefect/server/auth_string"), everywhere("systemctl show -P MainPID prefect-server")


def on(host, text, default):
    return f"{{{{ '{text}' if inventory_hostname == '{host}' else '{default}' }}}}"


@pytest.fixture(scope="module")
def dry_run():
    """It would change nothing but prefect.toml on one host, and nothing but the secrets on the other one."""
    # On that one they stay as the inventory has them.
    settings = {
        MADE: {"server": {"api": {"keepalive_timeout": 90}}},
        GIVEN: {"server": {"logging_level": "INFO", "services": {"late_runs": {"loop_seconds": 7}}}},
    }
    return Run("--check", prefect_server_auth_string=on(GIVEN, NEW, ""), prefect_server_settings=f"{{{{ {settings}[inventory_hostname] }}}}")


def test_a_dry_run_foretells_the_restart(host, dry_run):
    assert dry_run.succeeded, dry_run.output
    dummy, dummy, rest = dry_run.output.partition("Run the server, now and after every boot, and restart it")
    assert f"changed: [{host.backend.get_hostname()}]" in rest.partition("TASK [")[0]


def test_a_dry_run_changes_and_tells_nothing(dry_run):
    assert (dry_run.pid, dry_run.auth_string) == (dry_run.new_pid, dry_run.new_auth_string)
    assert NEW.partition(":")[2] not in dry_run.output


@pytest.fixture(scope="module")
def renewal(dry_run):
    """One host is given another auth string. On the other one the old one is lost, so that a new one is made."""
    run = Run(first="rm /etc/prefect/server/auth_string", prefect_server_auth_string=on(GIVEN, NEW, ""))
    assert run.succeeded, run.output
    return run


def test_there_is_a_new_auth_string(renewal):
    assert renewal.auth_string[MADE] != renewal.new_auth_string[MADE]
    assert renewal.new_auth_string[GIVEN] == NEW


def test_the_old_auth_string_has_had_its_day(host, get, renewal):
    name = host.backend.get_hostname()
    assert renewal.pid[name] != renewal.new_pid[name]
    assert get("/api/admin/version", renewal.auth_string[name]).status == 401
    assert get("/api/admin/version", renewal.new_auth_string[name]).status == 200


def test_no_run_tells_a_secret(renewal):
    # It was a run that had something to tell.
    assert "+PREFECT_SERVER_API_AUTH_STRING=" in renewal.output
    secrets = [auth_string.partition(":")[2] for auth_string in (*renewal.auth_string.values(), *renewal.new_auth_string.values())]
    assert [secret for secret in [*secrets, "made-up-🦆"] if secret in renewal.output] == []


@pytest.fixture(scope="module")
def unlucky(renewal):
    """
    One host is to log to a file that cannot be opened, of which the service dies.
    On the other one, the run before this seems to have been interrupted before it restarted the service.
    """
    testinfra.get_host(f"ansible://{MADE}").check_output("mkdir --parents /var/log/prefect-server/folder.log")
    testinfra.get_host(f"ansible://{GIVEN}").check_output("touch /etc/prefect/server/secrets.env")
    return Run(
        prefect_server_auth_string=on(GIVEN, NEW, ""),
        prefect_server_log_file=f"/var/log/prefect-server/{on(MADE, 'folder', 'server')}.log",
        prefect_server_ready_timeout=on(MADE, "6", "60"),
    )


def test_a_server_that_does_not_start_says_why(unlucky):
    assert not unlucky.succeeded
    # Not what Ansible, which is so loud here, shows of the tasks before.
    dummy, said_so, why = unlucky.output.partition("prefect-server.service is not ready after 6 s: http://127.0.0.1:4200/api/ready")
    assert said_so
    assert "Failed at step STDOUT" in why


def test_an_interrupted_run_is_made_good(unlucky):
    assert unlucky.pid[GIVEN] != unlucky.new_pid[GIVEN]


@pytest.fixture(scope="module")
def deaf(unlucky):
    """It listens, and answers elsewhere."""
    elsewhere = {"PREFECT_SERVER_API_BASE_PATH": "/elsewhere", "PREFECT_UI_ENABLED": False}
    return Run("--limit", MADE, prefect_server_environment=elsewhere, prefect_server_ready_timeout=30)


def test_a_server_that_listens_and_is_never_ready_says_why(deaf):
    assert not deaf.succeeded
    dummy, said_so, why = deaf.output.partition("prefect-server.service is not ready after 30 s: http://127.0.0.1:4200/api/ready")
    assert said_so
    assert "HTTP Error 404" in why
    assert "PREFECT_API_URL=http://127.0.0.1:4200/elsewhere" in why


@pytest.fixture(scope="module")
def mending(deaf):
    return Run(prefect_server_auth_string=on(GIVEN, NEW, ""))


def test_the_next_run_mends_it_and_leaves_alone_what_runs(mending, wait_until_ready):
    assert mending.succeeded, mending.output
    assert mending.pid[GIVEN] == mending.new_pid[GIVEN]
    assert mending.auth_string == mending.new_auth_string
    wait_until_ready()


@pytest.fixture(scope="module")
def steps(mending):
    return [Run("--tags", tag, prefect_server_auth_string=on(GIVEN, NEW, "")) for tag in ("prefect_server_configure", "prefect_server_service")]


def test_a_step_may_be_taken_alone(steps):
    for run in steps:
        assert run.succeeded, run.output
        assert len(re.findall("changed=0 ", run.output)) == 2, run.output
        assert run.pid == run.new_pid


@pytest.fixture(scope="module")
def newcomer(steps):
    """What runs has accepted a setting, which the environment that is to take over does not know."""
    host = testinfra.get_host(f"ansible://{MADE}")
    current, settings = "/opt/prefect/current", "/etc/prefect/server/prefect.toml"
    target = host.check_output(f"readlink {current}")
    host.check_output(f"ln --symbolic --force --no-dereference 3.7.8-0123456789 {current} && sed --in-place '/^analytics_enabled/a gone = true' {settings}")
    run = Run("--check", "--limit", MADE, prefect_server_settings={"server": {"gone": True}})
    host.check_output(f"ln --symbolic --force --no-dereference {target} {current} && sed --in-place '/^gone/d' {settings}")
    return run


def test_another_prefect_is_asked_about_settings_that_are_there_already(newcomer):
    assert not newcomer.succeeded
    assert "server.gone is no setting of this Prefect" in newcomer.output


@pytest.fixture(scope="module")
def killed():
    pids = everywhere("systemctl show -P MainPID prefect-server")
    everywhere("systemctl kill --signal=KILL prefect-server")
    return pids


def test_comes_back_when_it_is_killed(host, killed, pid, wait_until_ready):
    deadline = time.monotonic() + 20
    while pid() in ("0", killed[host.backend.get_hostname()]):
        assert time.monotonic() < deadline, "systemd did not start it again"
        time.sleep(0.5)
    wait_until_ready()
