"""The roles do as the other playbook says, and leave alone what it did not ask for."""

from __future__ import annotations

testinfra_hosts = ["ansible://molecule"]


def test_the_server_listens_where_it_was_told(host):
    assert host.socket("tcp://127.0.0.1:4300").is_listening
    assert not host.socket("tcp://127.0.0.1:4200").is_listening


def test_the_server_runs_as_the_user_that_was_named(host):
    pid = host.check_output("systemctl show --property=MainPID --value prefect-server")
    assert host.check_output(f"stat --format=%U /proc/{pid}") == "workflows"


def test_the_worker_is_the_one_that_was_asked_for(host):
    assert host.service("prefect-worker@reports").is_running
    assert host.check_output("ls /etc/prefect/worker").split() == ["reports.env"]


def test_there_is_no_proxy(host):
    assert not host.package("nginx").is_installed
