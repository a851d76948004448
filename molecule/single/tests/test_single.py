"""One machine with everything on it: what belongs to the inside stays inside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://molecule"]


def test_the_installed_collection_was_used():
    [collections] = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]).glob("collections/ansible_collections/selfhost/prefect/roles")
    assert not collections.resolve().is_relative_to(Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).parent.parent)


@pytest.mark.parametrize("unit", ["prefect-server", "nginx", "prefect-worker@molecule-single"])
def test_runs_now_and_after_a_boot(host, unit):
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


def test_only_the_proxy_is_reached_from_outside(host):
    assert host.socket("tcp://0.0.0.0:80").is_listening
    assert host.socket("tcp://127.0.0.1:4200").is_listening
    assert not host.socket("tcp://0.0.0.0:4200").is_listening


def test_the_database_is_sqlite_and_nobody_elses(host):
    database = host.file("/var/lib/prefect-server/prefect.db")
    assert (database.user, database.mode) == ("prefect", 0o600)
