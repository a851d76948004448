"""One machine with everything on it: what belongs to the inside stays inside."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

testinfra_hosts = ["ansible://molecule"]


def test_the_installed_collection_was_used():
    listed = json.loads(subprocess.check_output(["ansible-galaxy", "collection", "list", "selfhost.prefect", "--format=json"]))
    [path] = listed
    assert Path(path) == Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "collections/ansible_collections")


@pytest.mark.parametrize("unit", ["prefect-server", "nginx", "prefect-worker@default"])
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
