# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of flow runs when their worker, their host or the server goes away. Both hosts at once, since it takes its time."""

from __future__ import annotations

import time

import pytest


@pytest.fixture(autouse=True)
def _as_before(etls, mains):
    yield
    for worker in [*etls, *mains]:
        worker.systemctl("start")


def test_a_stop_lets_flow_runs_finish_and_takes_no_new_one(prefect, etls, wait_until):
    running = [prefect.begin(worker, "wait", seconds=5) for worker in etls]
    for worker in etls:
        worker.systemctl("stop", "--no-block")
    waiting = [prefect.run(worker, "look") for worker in etls]
    for worker, flow_run in zip(etls, running):
        assert prefect.wait_for(flow_run)["state"]["type"] == "COMPLETED"
        wait_until(lambda worker=worker: worker.show("ActiveState") == "inactive")
    assert [prefect.state(flow_run) for flow_run in waiting] == ["SCHEDULED", "SCHEDULED"]
    for worker in etls:
        worker.systemctl("start")
    assert [prefect.wait_for(flow_run)["state"]["type"] for flow_run in waiting] == ["COMPLETED", "COMPLETED"]


def test_flow_runs_that_take_longer_than_the_drain_timeout_crash(prefect, etls, wait_until):
    patient, hurried = etls
    slow, stubborn = prefect.begin(patient, "wait", seconds=300), prefect.begin(hurried, "wait", seconds=300, stubborn=True)
    began = time.monotonic()
    for worker in etls:
        worker.systemctl("stop", "--no-block")
    # A second SIGTERM cuts the wait short. Who ignores it gets SIGKILL.
    hurried.systemctl("kill", "--kill-who=main", "--signal=TERM")
    assert prefect.wait_for(slow)["state"]["type"] == "CRASHED"
    assert time.monotonic() - began >= 8
    state = prefect.wait_for(stubborn)["state"]
    assert (state["type"], "-9" in state["message"]) == ("CRASHED", True)
    for worker in etls:
        wait_until(lambda worker=worker: worker.show("ActiveState") == "inactive")
        assert worker.show("Result") == "success"


def test_a_killed_worker_comes_back_and_reports_its_flow_runs(prefect, etls, wait_until):
    running = [prefect.begin(worker, "wait_in_a_flow", seconds=300) for worker in etls]
    for flow_run in running:
        wait_until(lambda flow_run=flow_run: prefect.inner_states(flow_run) == ["RUNNING"])
    for worker in etls:
        worker.systemctl("kill", "--kill-who=main", "--signal=KILL")
    for worker, flow_run in zip(etls, running):
        state = prefect.wait_for(flow_run)["state"]
        assert state["type"] == "CRASHED"
        assert state["message"].startswith("The worker, its host or the API went away")
        wait_until(lambda flow_run=flow_run: prefect.inner_states(flow_run) == ["CRASHED"])
        prefect.times(prefect.run(worker, "look"))


def test_a_flow_run_that_was_tried_again_elsewhere_is_left_alone(prefect, mains):
    flow_run = prefect.begin(mains[0], "wait", seconds=300)
    lost, other = sorted(mains, key=lambda worker: worker.name != prefect.worker(flow_run))
    lost.systemctl("kill", "--kill-who=main", "--signal=KILL")
    lost.systemctl("stop")
    # What somebody does who sees that its host is gone.
    for state in ("CRASHED", "SCHEDULED"):
        prefect.client.post(f"flow_runs/{flow_run}/set_state", {"state": {"type": state}, "force": True})
    prefect.wait_for(flow_run, "RUNNING")
    assert prefect.worker(flow_run) == other.name
    # It is ready when it has looked after the flow runs that it lost.
    lost.systemctl("start")
    found = prefect.flow_run(flow_run)
    assert found["state"]["type"] == "RUNNING"
    other.host.check_output("kill -KILL %s", found["infrastructure_pid"].rpartition(":")[2])
    assert prefect.wait_for(flow_run)["state"]["type"] == "CRASHED"


def test_an_outage_of_the_server_ends_neither_workers_nor_flow_runs(prefect, etls, mains, wait_until):
    long, short = [prefect.begin(mains[0], "wait", seconds=seconds) for seconds in (25, 5)]
    workers = {worker: worker.pid for worker in mains}
    prefect.server.check_output("systemctl stop prefect-server")
    # These start while there is no server.
    for worker in etls:
        worker.systemctl("restart", "--no-block")
    time.sleep(10)
    prefect.server.check_output("systemctl start prefect-server")
    wait_until(prefect.is_ready)
    assert prefect.wait_for(long)["state"]["type"] == "COMPLETED"
    # It ended while nobody could be told.
    assert prefect.wait_for(short)["state"]["type"] in ("COMPLETED", "CRASHED")
    assert {worker: worker.pid for worker in mains} == workers
    for worker in etls:
        wait_until(worker.is_running)
        prefect.times(prefect.run(worker, "look"))
