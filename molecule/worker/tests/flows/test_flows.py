# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flow runs on workers, and what is around them."""

from __future__ import annotations

import hashlib
import json

import pytest

testinfra_hosts = ["ansible://prefect_worker"]

AUTH = "tester:made-up-p@ss:word%"
TOKEN = "made-up s3cret % $x"
LOG = "/var/log/prefect-worker/etl.log"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def found_by(prefect):
    def look(worker):
        state = prefect.wait_for(prefect.run(worker, "look"))["state"]
        assert state["type"] == "COMPLETED", state
        return json.loads(state["message"])

    return look


def test_workers_are_online_and_never_had_to_be_restarted(prefect, main, etl):
    for worker in (main, etl):
        assert worker.is_running()
        assert worker.host.service(worker.unit).is_enabled
        assert worker.show("NRestarts") == "0"
        known = prefect.client.filter(f"work_pools/{prefect.client.quote(worker.pool)}/workers/filter", {})
        assert {"name": worker.name, "status": "ONLINE"} in [{"name": one["name"], "status": one["status"]} for one in known]


def test_a_flow_run_has_the_settings_of_its_worker(found_by, main):
    found = found_by(main)
    home = found["environment"].pop("HOME")
    assert home.startswith("/var/lib/prefect-worker/molecule-worker-")
    assert found["environment"] == {"GREETING": 'hello, 100% of $HOME "world"', "NOTIFY_SOCKET": None}
    assert found["secrets"] == {"PREFECT_API_AUTH_STRING": sha256(AUTH), "TOKEN": sha256(TOKEN)}
    assert not found["cowsay"]


def test_a_flow_run_has_the_packages_of_its_worker(found_by, etl):
    found = found_by(etl)
    assert found["cowsay"]
    assert found["environment"]["GREETING"] is None
    assert found["secrets"] == {"PREFECT_API_AUTH_STRING": sha256(AUTH), "TOKEN": sha256("")}


def test_a_flow_run_can_only_write_what_is_its_own(found_by, etl):
    found = found_by(etl)
    assert found["user"] == "prefect-worker"
    assert found["may_write"] == [f"/var/lib/prefect-worker/{etl.name}", "/tmp"]
    assert "/etc/shadow" not in found["may_read"]
    assert etl.host.run("su -s /bin/sh prefect-worker -c 'cat /etc/prefect/worker/*.secrets.env'").rc != 0


def test_the_concurrency_limit_holds(prefect, etl):
    runs = [prefect.run(etl, "wait", seconds=1) for dummy in range(2)]
    first, second = sorted(prefect.times(one) for one in runs)
    assert first[1] <= second[0]


def test_queues_of_others_are_left_alone(prefect, etl):
    etl.queue = "of somebody else"
    theirs = prefect.run(etl, "look")
    etl.queue = "slow lane"
    prefect.times(prefect.run(etl, "look"))
    assert prefect.state(theirs) == "SCHEDULED"
    prefect.client.delete(f"flow_runs/{theirs}")


def test_the_health_check_answers_on_this_host_alone(host):
    assert host.socket("tcp://127.0.0.1:4250").is_listening
    assert not host.socket("tcp://0.0.0.0:4250").is_listening
    host.check_output("python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:4250/health\")'")


def test_limits_are_systemds(etl):
    assert [etl.show(key) for key in ("MemoryMax", "TasksMax", "CPUQuotaPerSecUSec")] == [str(2 << 30), "500", "1.500000s"]


def test_a_log_file_is_rotated_and_written_on(prefect, host, etl):
    def is_logged(flow_run):
        return flow_run["name"] in host.file(LOG).content_string

    first = prefect.wait_for(prefect.run(etl, "look"))
    assert is_logged(first)
    assert first["name"] not in host.check_output("journalctl --quiet --unit=%s", etl.unit)
    host.check_output("logrotate --force /etc/logrotate.d/prefect-worker")
    assert not is_logged(first)
    assert first["name"] in host.file(f"{LOG}.1").content_string
    assert is_logged(prefect.wait_for(prefect.run(etl, "look")))


def test_secrets_are_nowhere_but_in_the_file_for_them(host, main):
    secrets = host.file(f"/etc/prefect/worker/{main.name}.secrets.env")
    assert (secrets.user, secrets.group, secrets.mode) == ("root", "root", 0o600)
    assert all(part in secrets.content_string for part in ("made-up-p@ss", "made-up s3cret"))
    places = [
        host.check_output("journalctl --quiet --all"),
        host.check_output("systemctl show 'prefect-worker@*'; systemctl cat 'prefect-worker@*'"),
        host.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        host.check_output("cat /etc/prefect/worker/*[!s].env /etc/systemd/system/prefect-worker@*; zcat --force /var/log/prefect-worker/*"),
        host.check_output("find / -xdev -type f -newer /etc/hostname -size -100k -not -path '/proc/*' -exec grep -lsE 'made-up(-p@ss| s3cret)' {} + || true"),
    ]
    for place in places[:-1]:
        assert "made-up" not in place
    assert set(places[-1].split()) <= {f"/etc/prefect/worker/{name}.secrets.env" for name in (main.name, main.name.replace("molecule-worker", "etl"))}
