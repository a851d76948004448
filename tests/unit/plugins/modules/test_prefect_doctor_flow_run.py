# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_doctor_flow_run import FILE, FLOW, SCRIPT, SOURCE, main

SECRET = "admin:not-a-real-password"
CREATED = "2026-01-01T00:00:00Z"


class Server:
    """The part of the API that runs flows: the run goes through the states that a test sets."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.states: list[tuple[str, str, str | None]] = [("SCHEDULED", "Scheduled", None), ("RUNNING", "Running", None), ("COMPLETED", "Completed", "3.8.8")]
        self.deployment: dict[str, t.Any] | None = None
        self.task_runs: list[list[dict[str, str]]] = [[], [{"state_type": "RUNNING"}], [{"state_type": "COMPLETED"}]]
        self.old_runs = [{"id": "old-1"}, {"id": "old-2"}]
        pool = {"name": "etl"}
        api.routes.update(
            {
                "GET /api/admin/version": (200, '"3.8.8"'),
                "GET /api/work_pools/etl": (200, pool),
                "GET /api/work_pools/etl/queues/fast": (200, {"name": "fast"}),
                "POST /api/flows/": (200, {"id": "flow-1"}),
                f"GET /api/deployments/name/{FLOW}/etl": self.read_deployment,
                f"GET /api/deployments/name/{FLOW}/etl-fast": self.read_deployment,
                "POST /api/deployments/": self.write_deployment,
                "POST /api/deployments/deployment-1/create_flow_run": lambda _request: (201, self.run(0)),
                "GET /api/flow_runs/run-1": self.read_run,
                "POST /api/flow_runs/run-1/set_state": (201, {}),
                "POST /api/task_runs/filter": self.read_task_runs,
                "POST /api/logs/filter": (200, [{"message": "last\n"}, {"message": "first"}]),
                "POST /api/flow_runs/filter": lambda request: (200, [] if request["body"]["offset"] else self.old_runs),
                "DELETE /api/flow_runs/old-1": (204, ""),
                "DELETE /api/flow_runs/old-2": (404, {"detail": "Flow run not found"}),
            }
        )

    def run(self, index: int) -> dict[str, t.Any]:
        kind, name, message = self.states[index]
        state = {"message": message} if message else None
        return {"id": "run-1", "name": "calm-fox", "deployment_id": "deployment-1", "created": CREATED, "state_type": kind, "state_name": name, "state": state}

    def read_run(self, _request: t.Any) -> tuple[int, t.Any]:
        if len(self.states) > 1:
            self.states.pop(0)
        return 200, self.run(0)

    def read_task_runs(self, request: t.Any) -> tuple[int, t.Any]:
        if request["body"]["offset"]:
            return 200, []
        return 200, self.task_runs.pop(0) if len(self.task_runs) > 1 else self.task_runs[0]

    def read_deployment(self, _request: t.Any) -> tuple[int, t.Any]:
        return (200, self.deployment) if self.deployment else (404, {"detail": "Deployment not found"})

    def write_deployment(self, request: t.Any) -> tuple[int, t.Any]:
        self.deployment = {"id": "deployment-1", **request["body"]}
        return 201, self.deployment

    def bodies(self, path: str) -> list[t.Any]:
        return [request["body"] for request in self.api.requests if f"{request['method']} {request['path']}" == path]


@pytest.fixture
def server(fake_api) -> Server:
    return Server(fake_api)


@pytest.fixture
def run(fake_api, run_module, naps) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        return run_module(main, **{"api_url": fake_api.url, "auth_string": SECRET, "work_pool": "etl", **arguments})

    return call


def test_completed(server, run):
    result = run()
    assert result["changed"] is True
    assert (result["state"], result["prefect_version"]) == ("Completed", "3.8.8")
    assert result["flow_run"] == {"id": "run-1", "name": "calm-fox", "deployment": f"{FLOW}/etl"}
    assert result["logs"] == ["first", "last"]
    assert result["seconds"] > 0
    assert server.deployment["work_queue_name"] == "default"
    (key,) = server.bodies("POST /api/deployments/deployment-1/create_flow_run")
    assert list(key) == ["idempotency_key"]
    # Only what had ended before this run began is deleted, whatever a run beside this one does.
    assert server.bodies("POST /api/flow_runs/filter")[0]["flow_runs"]["end_time"] == {"before_": CREATED}
    assert [path for path in server.api.asked() if path.startswith("DELETE")] == ["DELETE /api/flow_runs/old-1", "DELETE /api/flow_runs/old-2"]
    assert "POST /api/flow_runs/run-1/set_state" not in server.api.asked()


def test_the_deployment_is_made_once_and_repaired(server, run):
    run()
    run()
    assert len(server.bodies("POST /api/deployments/")) == 1
    server.deployment["work_pool_name"] = None  # as after a pool was deleted and made again
    run()
    assert len(server.bodies("POST /api/deployments/")) == 2


def test_a_queue(server, run):
    assert run(work_queue="fast")["flow_run"]["deployment"] == f"{FLOW}/etl-fast"
    assert server.deployment["work_queue_name"] == "fast"


def test_check_mode(server, run):
    assert run(check_mode=True)["changed"] is True
    assert server.api.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"work_pool": "none"}, "work_pool: there is no work pool 'none': create it, or correct the name."),
        # The server would make up a queue that nobody reads.
        ({"work_queue": "none"}, "work_queue: the pool 'etl' has no queue 'none': create it, or correct the name."),
    ],
)
def test_unknown_names(server, fake_api, run, arguments, message):
    fake_api.routes["GET /api/work_pools/none"] = fake_api.routes["GET /api/work_pools/etl/queues/none"] = (404, {"detail": "not found."})
    result = run(**arguments)
    assert result["failed"] is True
    assert result["msg"] == message
    assert "POST /api/deployments/" not in fake_api.asked()


@pytest.mark.parametrize(
    ("state", "hint", "asked"),
    [
        (("SCHEDULED", "Late", None), "not completed within 5 s but Late: no worker took it", "CANCELLED"),
        (("PENDING", "Pending", None), "not completed within 5 s but Pending: a worker took it, but its infrastructure did not start", "CANCELLED"),
        (("RUNNING", "Running", None), "not completed within 5 s but Running: it runs still", "CANCELLING"),
        (("PAUSED", "Suspended", None), "not completed within 5 s but Suspended: see its page", "CANCELLED"),
    ],
)
def test_too_late(server, run, state, hint, asked):
    server.states = [state]
    result = run(wait_timeout=5)
    assert result["failed"] is True
    assert hint in result["msg"]
    assert result["state"] == state[1]
    (body,) = server.bodies("POST /api/flow_runs/run-1/set_state")
    assert (body["state"]["type"], body["force"]) == (asked, True)


def test_failed_with_the_last_log_lines(server, fake_api, run, naps):
    server.states = [("FAILED", "Failed", "Flow run encountered an exception")]
    fake_api.routes["POST /api/logs/filter"] = (200, [{"message": f"line {number}"} for number in range(20, 0, -1)])
    result = run()
    assert result["msg"] == (
        "The flow run 'calm-fox' in the work pool 'etl' ended Failed: Flow run encountered an exception. Its last log lines:\n"
        "line 16\nline 17\nline 18\nline 19\nline 20"
    )
    assert len(result["logs"]) == 20
    # The last lines arrive later than the state.
    assert naps == [3]
    server.states = [("CRASHED", "Crashed", None)]
    fake_api.routes["POST /api/logs/filter"] = (200, [])
    assert run()["msg"] == "The flow run 'calm-fox' in the work pool 'etl' ended Crashed."


def test_a_task_run_that_is_not_recorded(server, run):
    server.task_runs = [[{"state_type": "PENDING"}]]
    result = run()
    assert result["failed"] is True
    assert "completed, but its task run was not recorded" in result["msg"]
    assert "events/in" in result["msg"]


def test_a_server_that_is_older(fake_api, server, run):
    fake_api.routes["GET /api/admin/version"] = (200, '"3.8.9"')
    assert "failed" not in run()
    server.states = [("COMPLETED", "Completed", "3.10.0")]
    result = run()
    assert result["failed"] is True
    assert "completed with Prefect 3.10.0, which is newer than the server's 3.8.9: upgrade the server first." in result["msg"]


def test_what_the_server_says(fake_api, run):
    fake_api.routes["GET /api/work_pools/etl"] = (401, {"exception_message": "Unauthorized"})
    result = run()
    assert result["failed"] is True
    assert "Prefect refused the auth string" in result["msg"]


def test_the_script_writes_the_flow(tmp_path: Path, monkeypatch):
    # As Prefect's step does it: each line is a command, split like a shell would, and run without one.
    assert len(SCRIPT.splitlines()) == 1
    assert "{{" not in SCRIPT
    subprocess.run(shlex.split(SCRIPT), cwd=tmp_path, check=True)
    written = (tmp_path / FILE).read_text()
    assert written == SOURCE

    prefect = types.ModuleType("prefect")
    states = types.ModuleType("prefect.states")
    prefect.__version__ = "1.2.3"
    prefect.task = lambda function: function
    prefect.flow = lambda **_options: lambda function: function
    states.Completed = lambda message: message
    monkeypatch.setitem(sys.modules, "prefect", prefect)
    monkeypatch.setitem(sys.modules, "prefect.states", states)
    namespace: dict[str, t.Any] = {}
    exec(written, namespace)
    assert namespace["doctor"]() == "1.2.3"
