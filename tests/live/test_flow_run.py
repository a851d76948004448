# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Flow runs of a real worker."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import prefect_deployment, prefect_flow_run, prefect_work_pool
from ansible_collections.selfhost.prefect.tests.live.prefect_server import environment

FLOWS = """\
import time
from prefect import flow

@flow(name="live", log_prints=True)
def live(seconds: float = 0, fail: bool = False):
    print("The live flow is here.")
    time.sleep(seconds)
    if fail:
        raise ValueError("as it was told")
"""
SCHEMA = {"type": "object", "properties": {"seconds": {"type": "number"}, "fail": {"type": "boolean"}}}


@pytest.fixture
def deployment(live, tmp_path):
    """A deployment with a worker that takes its runs."""
    (tmp_path / "flows.py").write_text(FLOWS)
    live.run(prefect_work_pool.main, work_pools=[{"name": "live", "type": "process"}])
    element = {
        "name": "run",
        "flow_name": "live",
        "entrypoint": "flows.py:live",
        "path": str(tmp_path),
        "work_pool": "live",
        "parameter_openapi_schema": SCHEMA,
    }
    live.run(prefect_deployment.main, deployments=[element])
    settings = {
        "PATH": f"{environment(live.version)}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_API_URL": live.connection["api_url"],
        "PREFECT_API_AUTH_STRING": live.connection["auth_string"],
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
    }
    # Prefect ends a worker by SIGINT, which is ignored by what runs in the background of a script.
    command = ["env", "--default-signal=INT", "prefect", "worker", "start", "--pool", "live", "--type", "process"]
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=log, stderr=log)
    yield "live/run"
    worker.terminate()
    worker.wait(timeout=60)
    live.run(prefect_deployment.main, deployments=[element], state="absent")
    live.run(prefect_work_pool.main, work_pools=[{"name": "live"}], state="absent")


def test_runs(live, deployment):
    def run(**arguments):
        return live.run(prefect_flow_run.main, deployment=deployment, **arguments)

    def runs():
        return len(live.client.filter("flow_runs/filter", {"flows": {"name": {"any_": ["live"]}}}))

    # Check mode starts nothing, and knows a run by its key.
    predicted = run(check_mode=True, idempotency_key="once")
    assert (predicted["changed"], runs(), live.writes()) == (True, 0, [])
    done = run(idempotency_key="once", tags=["live"])
    assert (done["changed"], done["state"], done["state_type"], runs()) == (True, "Completed", "COMPLETED", 1)
    # A newer Prefect is pending twice.
    assert list(dict.fromkeys(state["type"] for state in done["timeline"])) == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    assert any("The live flow is here." in line for line in done["logs"])
    for check_mode in (True, False):
        again = run(check_mode=check_mode, idempotency_key="once")
        assert (again["changed"], again["flow_run"], again["state"], runs()) == (False, done["flow_run"], "Completed", 1)

    failed = run(parameters={"fail": True})
    assert failed["failed"] is True
    assert failed["msg"].startswith(f"The flow run {failed['flow_run']['name']!r} of 'live/run' ended Failed: Flow run encountered an exception")
    assert "as it was told" in failed["msg"]
    assert "The live flow is here." in failed["msg"]

    slow = run(parameters={"seconds": 600}, wait_timeout=0)
    assert slow["failed"] is True
    assert "did not end within 0 s but is Scheduled, and goes on: no worker took it" in slow["msg"]
    live.client.post(f"flow_runs/{slow['flow_run']['id']}/set_state", {"state": {"type": "CANCELLED", "name": "Cancelled"}, "force": True})

    started = run(wait=False)
    assert (started["changed"], started["state_type"]) == (True, "SCHEDULED")
    before = runs()
    for check_mode in (True, False):
        refused = run(check_mode=check_mode, parameters={"fail": "perhaps"})
        assert refused["msg"] == "parameters.fail: has to be true or false: correct it, or the schema of the deployment."
    assert runs() == before


def test_no_such_deployment(live):
    result = live.run(prefect_flow_run.main, deployment="nowhere/at-all")
    assert result["msg"] == "deployment: there is no deployment 'nowhere/at-all', the flow 'nowhere' has none: correct the name, or create it."
    predicted = live.run(prefect_flow_run.main, check_mode=True, deployment="nowhere/at-all")
    assert predicted["changed"] is True
    assert live.writes() == []


def test_what_is_scheduled_runs_once(live):
    """A change makes the coming runs anew, and does not add to them."""
    element = {"name": "scheduled", "flow_name": "live", "entrypoint": "flows.py:live", "schedules": [{"interval": 3600}]}

    def coming(deployment):
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            runs = live.client.filter("flow_runs/filter", {"deployments": {"id": {"any_": [deployment["id"]]}}})
            if runs:
                return sorted(run["expected_start_time"] for run in runs)
            time.sleep(1)
        return pytest.fail("Nothing was scheduled.")

    first = live.run(prefect_deployment.main, deployments=[element])["deployments"][0]
    times = coming(first)
    changed = live.run(prefect_deployment.main, deployments=[{**element, "description": "Changed"}])["deployments"][0]
    assert changed["schedules"] == first["schedules"]
    assert coming(changed) == times
    live.run(prefect_deployment.main, deployments=[element], state="absent")
