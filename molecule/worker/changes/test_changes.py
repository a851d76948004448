# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another run of the role does to workers that run. Each test applies it to both hosts, and leaves them as they were."""

from __future__ import annotations

import pytest

SECRETS = ("made-up-p@ss", "made-up s3cret")


@pytest.fixture
def refused(apply, etls, mains):
    """Apply something that must be refused, and give what was said."""

    def run(*options, **variables):
        before = {worker: worker.pid for worker in [*etls, *mains]}
        done = apply(*options, **variables)
        assert done.failed
        assert not done.changed
        assert {worker: worker.pid for worker in [*etls, *mains]} == before
        assert all(worker.is_running() for worker in before)
        assert not any(secret in done.output for secret in SECRETS)
        return done.text

    return run


def test_every_mistake_is_told_at_once(refused, hosts):
    for host in hosts:
        host.check_output("systemd-run --unit=squatter python3 -m http.server --bind 127.0.0.1 8099")
    said = refused(
        prefect_api_url="http://molecule-worker-server:4200",
        prefect_auth_string="admin:pass",
        prefect_worker_drain_timeout=-1,
        prefect_worker_workers=[
            {"name": "one", "health_check_port": 8099, "environment": {"a-b": 1, "PREFECT_API_KEY": "made-up s3cret"}, "log_file": "/tmp/x.log"},
            {"name": "one", "health_check_port": 8099, "type": "docker", "poll_interval": 0, "memory_max": "2 GB", "read_write_paths": ["srv"]},
            {"name": "a/b", "pool": "a/b", "secrets": {"TOKEN": "made-up s3cret\n"}, "concurrency_limit": 0, "cpu_quota": "1.5"},
        ],
    )
    for host in hosts:
        host.check_output("systemctl stop squatter")
    for sentence in (
        "prefect_worker_api_url (or prefect_api_url) is 'http://molecule-worker-server:4200', which is no address of Prefect's API",
        "prefect_worker_auth_string (or prefect_auth_string) cannot be used: it is an example from somebody's documentation",
        "prefect_worker_drain_timeout is -1: write how many seconds flow runs get to finish",
        "prefect_worker_workers names a worker 'a/b', which no unit can be called",
        "prefect_worker_workers holds more than one worker called one: give each a name of its own.",
        "prefect_worker_workers gives molecule-worker-12 and another host workers of the same pool and name (a/b and one)",
        "prefect_worker_workers names the pool or queue 'a/b', which Prefect does not take",
        "prefect_worker_workers gives the pool default workers of more than one type",
        "prefect_worker_workers has the health_check_port 8099 more than once",
        "prefect_worker_workers has the health_check_port 8099, which python3 already listens on",
        "prefect_worker_workers sets 'a-b', which is no name of an environment variable",
        "prefect_worker_workers sets TOKEN to a value with a line break or another control character",
        "prefect_worker_workers sets PREFECT_API_KEY in environment, where a diff would show it",
        "prefect_worker_workers has the log_file '/tmp/x.log', which is no *.log in /var/log/prefect-worker",
        "prefect_worker_workers has 'srv' in read_write_paths, which is no absolute path",
        "prefect_worker_workers has the memory_max '2 GB', which systemd does not take",
        "prefect_worker_workers has the cpu_quota '1.5', which systemd does not take",
        "prefect_worker_workers gives a/b a concurrency_limit below 1",
        "prefect_worker_workers gives one a poll_interval below 0.1 s",
        "prefect_worker_workers has a worker of type docker, and molecule-worker-12 has no group docker",
    ):
        assert sentence in said


def test_an_unknown_type_is_refused(refused):
    said = refused(prefect_worker_workers=[{"type": "subprocess"}])
    assert "value of type must be one of: process, docker, kubernetes, cloud-run, cloud-run-v2, vertex-ai, got: subprocess" in said


def test_an_api_that_is_not_there_is_told(refused):
    said = refused(prefect_api_url="http://molecule-worker-server:4299/api", prefect_worker_workers=[{}])
    assert "molecule-worker-server:4299" in said


def test_a_wrong_auth_string_is_told_and_never_shown(refused):
    said = refused("-vvv", prefect_auth_string="tester:made-up s3cret, wrong".replace(" ", "-"))
    assert "401" in said
    assert "s3cret,-wrong" not in said


def test_a_pool_of_another_type_is_told(refused, prefect):
    if not prefect.client.get("work_pools/elsewhere", missing_ok=True):
        prefect.client.post("work_pools/", {"name": "elsewhere", "type": "docker"})
    assert "elsewhere" in refused(prefect_worker_workers=[{"pool": "elsewhere"}])


def test_a_worker_that_systemd_tries_in_vain_to_start_is_no_success(apply, mains, wait_until):
    """Though there is nothing to write."""
    for worker in mains:
        drop_in = f"/run/systemd/system/{worker.unit}.d/missing.conf"
        worker.host.check_output(f"mkdir {drop_in.rpartition('/')[0]} && printf '[Service]\\nReadWritePaths=/srv/missing\\n' > {drop_in}")
        worker.host.check_output("systemctl daemon-reload")
        worker.systemctl("restart", "--no-block")
        wait_until(lambda worker=worker: worker.show("NRestarts") != "0")
    done = apply()
    for worker in mains:
        worker.host.check_output("rm -r /run/systemd/system/prefect-worker@*.d && systemctl daemon-reload")
        worker.systemctl("restart")
    assert done.failed
    for worker in mains:
        assert f"{worker.unit} did not get to polling its work pool" in done.text
        assert "NAMESPACE" in done.text


def test_what_changed_is_restarted_and_what_is_gone_is_removed(apply, prefect, etls, mains, dockers):
    before = {worker: worker.pid for worker in mains}
    only = {"health_check_port": 4250, "secrets": {"TOKEN": "made-up s3cret, another"}}
    # A run that is interrupted between writing and restarting is made good by the next one, which finds nothing to write.
    assert not apply("--tags", "prefect_worker_configure", prefect_worker_workers=[only]).failed
    assert {worker: worker.pid for worker in mains} == before
    done = apply("-vv", prefect_worker_workers=[only])
    assert not done.failed, done.output
    assert not any(secret in done.output for secret in SECRETS)
    assert all(worker.pid != before[worker] for worker in mains)
    for etl in etls:
        assert etl.show("ActiveState") == "inactive"
        assert etl.host.check_output("find /etc /opt/prefect -maxdepth 4 -name '*etl*'") == ""

    before = {worker: worker.pid for worker in mains}
    # Of the same name on both hosts, but of different pools.
    done = apply(prefect_worker_workers=[only, {"name": "second", "pool": "containers {{ container_debian }}", "type": "docker"}])
    assert not done.failed, done.output
    assert {worker: worker.pid for worker in mains} == before
    for worker in dockers:
        assert worker.is_running()
        assert prefect.is_online(worker)
        have_the_extra = worker.host.check_output("ls -d /opt/prefect/worker*/lib/python3*/site-packages/prefect_docker").split()
        assert [folder.split("/")[3] for folder in have_the_extra] == ["worker-second"]
        assert worker.host.group("docker").gid in map(int, worker.host.check_output(f"grep ^Groups: /proc/{worker.pid}/status").split()[1:])
        worker.systemctl("stop")
        assert (worker.show("ActiveState"), worker.show("Result")) == ("inactive", "success")

    assert not apply().failed
    assert all(worker.pid != before[worker] for worker in mains)
    for worker in dockers:
        assert not worker.host.file("/etc/prefect/worker/second.env").exists
    for worker in etls:
        prefect.times(prefect.run(worker, "look"))
