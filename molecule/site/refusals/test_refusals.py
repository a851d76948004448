"""What stops a rollout, and what it then leaves alone; what a verification finds."""

from __future__ import annotations

import re
import subprocess


def changes(run: subprocess.CompletedProcess[str]) -> dict[str, int]:
    return {host: int(number) for host, number in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", run.stdout, re.MULTILINE)}


def test_a_worker_that_is_missing_fails_the_verification(play):
    run = play("playbooks/verify.yml", '--extra-vars={"prefect_verify_timeout": 3, "prefect_worker_workers": [{"name": "gone"}]}')
    assert run.returncode != 0
    assert re.search(r"workers default failed: .*\bgone\b", run.stdout)


def test_what_is_refused_on_one_host_is_done_on_none(play):
    run = play("site.yml", '--extra-vars={"prefect_worker_workers": [{"name": "a"}, {"name": "a"}], "prefect_version": "3.7.8"}')
    assert run.returncode != 0
    assert "Nothing was touched on any host" in run.stdout
    for worker in ("molecule-site-worker-12", "molecule-site-worker-13"):
        assert f"{worker}: prefect_worker_workers holds more than one worker called a" in run.stdout
    assert set(changes(run).values()) == {0}


def test_the_workers_are_left_alone_when_their_server_fails(play):
    run = play("site.yml", '--extra-vars={"prefect_server_database_port": 1, "prefect_server_database_wait_timeout": 0, "prefect_worker_drain_timeout": 77}')
    assert run.returncode != 0
    assert "molecule-site-server could not be rolled out" in run.stdout
    workers = {host: number for host, number in changes(run).items() if "worker" in host}
    assert workers == {"molecule-site-worker-12": 0, "molecule-site-worker-13": 0}
