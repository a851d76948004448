# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds before a reboot and after it. The last test leaves flow runs that are running."""

from __future__ import annotations

TAG = "left for the reboot"


def test_the_workers_are_back(prefect, mains, etls, wait_until):
    wait_until(prefect.is_ready)
    for worker in [*mains, *etls]:
        wait_until(worker.is_running)
    for flow_run in [prefect.run(worker, "look") for worker in [*mains, *etls]]:
        prefect.times(flow_run)


def test_no_flow_run_is_in_running_for_ever(prefect):
    for flow_run in prefect.client.filter("flow_runs/filter", {"flow_runs": {"tags": {"all_": [TAG]}}}):
        assert prefect.wait_for(flow_run["id"])["state"]["type"] == "CRASHED"


def test_flow_runs_are_left_for_the_next_reboot(prefect, etls):
    for flow_run in [prefect.run(worker, "wait", tags=[TAG], seconds=3600) for worker in etls]:
        assert prefect.wait_for(flow_run, "RUNNING")
