# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold after a reboot, before which flow runs were running (the last test leaves one)."""

from __future__ import annotations

testinfra_hosts = ["ansible://prefect_worker"]


def test_the_workers_are_back(prefect, main, etl, wait_until):
    for worker in (main, etl):
        wait_until(worker.is_running)
        prefect.times(prefect.run(worker, "look"))


def test_no_flow_run_is_in_running_for_ever(prefect, etl):
    # Rebooted together with the server, which may have come back later.
    for flow_run in prefect.client.filter("flow_runs/filter", {"flow_runs": {"tags": {"all_": ["reboot", etl.name]}}}):
        assert prefect.wait_for(flow_run["id"])["state"]["type"] == "CRASHED"


def test_a_flow_run_is_left_for_the_next_reboot(prefect, etl):
    prefect.begin(etl, "wait", tags=["reboot", etl.name], seconds=3600)
