# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flow runs on workers, and what is around them. Both hosts at once, since flow runs take their time."""

from __future__ import annotations

import hashlib
import json

import pytest

AUTH = "tester:made-up-p@ss:word%"
TOKEN = "made-up s3cret % $x"
LOG = "/var/log/prefect-worker/etl.log"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def looks(prefect, mains, etls):
    """A flow run of each kind of worker of each host, finished."""
    begun = {worker: prefect.run(worker, "look") for worker in [*mains, *etls]}
    return {worker: prefect.wait_for(flow_run) for worker, flow_run in begun.items()}


@pytest.fixture(scope="module")
def found(looks):
    """What they found."""
    states = {worker: flow_run["state"] for worker, flow_run in looks.items()}
    assert [state["type"] for state in states.values()] == ["COMPLETED"] * 4, states
    return {worker: json.loads(state["message"]) for worker, state in states.items()}


def test_workers_are_online_and_never_had_to_be_restarted(prefect, mains, etls):
    for worker in [*mains, *etls]:
        assert worker.is_running()
        assert worker.host.service(worker.unit).is_enabled
        assert worker.show("NRestarts") == "0"
        assert prefect.is_online(worker)


def test_a_flow_run_has_the_settings_of_its_worker(found, mains):
    for worker in mains:
        environment = found[worker]["environment"]
        # Of either host: they share a pool.
        assert environment.pop("HOME").startswith("/var/lib/prefect-worker/molecule-worker-")
        assert environment == {"GREETING": 'hello, 100% of $HOME "world"', "NOTIFY_SOCKET": None}
        assert found[worker]["secrets"] == {"PREFECT_API_AUTH_STRING": sha256(AUTH), "TOKEN": sha256(TOKEN)}
        assert not found[worker]["cowsay"]


def test_a_flow_run_is_the_workers_own_process(found, mains, etls):
    """And no other Python starts first, to prepare it."""
    assert {found[worker]["parent"] for worker in mains} <= {worker.pid for worker in mains}
    assert [found[worker]["parent"] for worker in etls] == [worker.pid for worker in etls]


def test_a_flow_run_has_the_packages_of_its_worker(found, etls):
    for worker in etls:
        assert found[worker]["cowsay"]
        assert found[worker]["environment"]["GREETING"] is None
        assert found[worker]["secrets"] == {"PREFECT_API_AUTH_STRING": sha256(AUTH), "TOKEN": sha256("")}


def test_a_flow_run_can_only_write_what_is_its_own(found, etls):
    for worker in etls:
        assert found[worker]["user"] == "prefect-worker"
        assert found[worker]["may_write"] == [f"/var/lib/prefect-worker/{worker.name}", "/tmp"]
        assert "/etc/shadow" not in found[worker]["may_read"]
        assert worker.host.run("su -s /bin/sh prefect-worker -c 'cat /etc/prefect/worker/*.env'").rc != 0


def test_the_concurrency_limit_holds(prefect, etls):
    runs = [[prefect.run(worker, "wait", seconds=1) for dummy in range(2)] for worker in etls]
    for pair in runs:
        first, second = sorted(prefect.times(one) for one in pair)
        assert first[1] <= second[0]


def test_queues_of_others_are_left_alone(prefect, etls):
    theirs = [prefect.run(worker, "look", queue="of somebody else") for worker in etls]
    for flow_run in [prefect.run(worker, "look", queue="slow lane") for worker in etls]:
        prefect.times(flow_run)
    assert [prefect.state(flow_run) for flow_run in theirs] == ["SCHEDULED", "SCHEDULED"]
    for flow_run in theirs:
        prefect.client.delete(f"flow_runs/{flow_run}")


def test_the_health_check_answers_on_its_host_alone(hosts):
    for host in hosts:
        assert host.socket("tcp://127.0.0.1:4250").is_listening
        assert not host.socket("tcp://0.0.0.0:4250").is_listening
        host.check_output("python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:4250/health\")'")


def test_limits_are_systemds(etls):
    for worker in etls:
        assert [worker.show(key) for key in ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")] == [str(2 << 30), "500", "1.500000s"]


def test_who_cannot_start_is_tried_less_and_less_often_where_systemd_can(etls):
    assert [worker.show("RestartSteps") for worker in etls] == ["", "5"]
    assert [worker.show("RestartMaxDelayUSec") for worker in etls] == ["", "30s"]


def test_a_log_file_is_rotated_and_written_on(prefect, looks, etls):
    for worker in etls:
        first = looks[worker]["name"]
        assert first in worker.host.file(LOG).content_string
        assert first not in worker.host.check_output("journalctl --quiet --unit=%s", worker.unit)
        worker.host.check_output("logrotate --force /etc/logrotate.d/prefect-worker")
        assert first not in worker.host.file(LOG).content_string
        assert first in worker.host.file(f"{LOG}.1").content_string
    for worker, flow_run in [(worker, prefect.run(worker, "look")) for worker in etls]:
        assert prefect.wait_for(flow_run)["name"] in worker.host.file(LOG).content_string


def test_secrets_are_nowhere_but_in_the_file_for_them(mains, looks):
    for worker in mains:
        host = worker.host
        secrets = host.file(f"/etc/prefect/worker/{worker.name}.env")
        assert (secrets.user, secrets.group, secrets.mode) == ("root", "root", 0o600)
        assert all(part in secrets.content_string for part in ("made-up-p@ss", "made-up s3cret"))
        for command in (
            "journalctl --quiet --all",
            "systemctl show 'prefect-worker@*'; systemctl cat 'prefect-worker@*'",
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
        ):
            assert "made-up" not in host.check_output(command)
        # zgrep forks for each file, so it gets only what is compressed.
        search = "-lsE 'made-up(-p@ss| s3cret)' {} +"
        found = f"-name '*.gz' -exec zgrep {search} -o ! -name '*.gz' -exec grep {search}"
        files = host.check_output(f"find / /opt -xdev -type f -newer /etc/hostname -size -1000k \\( {found} \\) || true").split()
        assert set(files) == {f"/etc/prefect/worker/{name}.env" for name in (worker.name, worker.name.replace("molecule-worker", "etl"))}
