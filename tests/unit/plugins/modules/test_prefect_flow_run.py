# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_flow_run import main

SECRET = "admin:not-a-real-password"
DEPLOYMENT = {
    "id": "d1",
    "flow_id": "f1",
    "parameters": {"a": 1},
    "enforce_parameter_schema": True,
    "parameter_openapi_schema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["b"]},
}


class Server:
    """The part of the API that runs a deployment, through the states that a test gives."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.states = ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
        self.message = ""
        self.started: list[t.Any] = []
        api.routes["GET /api/deployments/name/load/nightly"] = (200, DEPLOYMENT)
        api.routes["POST /api/deployments/d1/create_flow_run"] = self.start
        api.routes["GET /api/flow_runs/r1"] = lambda _request: (200, self.run(self.states.pop(0) if len(self.states) > 1 else self.states[0]))
        api.routes["GET /api/flow_run_states/"] = lambda _request: (200, [self.state("RUNNING", "2"), self.state("SCHEDULED", "1")])
        api.routes["POST /api/flow_runs/filter"] = lambda _request: (200, [])
        api.routes["POST /api/logs/filter"] = lambda _request: (200, [{"message": "second\n"}, {"message": "first"}])

    def state(self, kind: str, timestamp: str) -> dict[str, t.Any]:
        return {"name": kind.capitalize(), "type": kind, "timestamp": timestamp, "message": self.message, "data": 1}

    def run(self, kind: str) -> dict[str, t.Any]:
        return {"id": "r1", "name": "odd-owl", "state_type": kind, "state_name": kind.capitalize(), "state": {"message": self.message}}

    def start(self, request: t.Any) -> tuple[int, t.Any]:
        self.started.append(request["body"])
        return 201, self.run("SCHEDULED")


@pytest.fixture
def server(fake_api) -> Server:
    return Server(fake_api)


@pytest.fixture
def run(fake_api, run_module, naps) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        given = {"deployment": "load/nightly", "parameters": {"b": "x"}, **arguments}
        result = run_module(main, api_url=fake_api.url, auth_string=SECRET, **given)
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    return call


def test_a_run(server, run):
    predicted = run(check_mode=True)
    assert (predicted["changed"], server.started) == (True, [])
    assert "flow_run" not in predicted
    done = run(job_variables={"env": {}}, tags=["a"])
    assert (done["changed"], done["state"], done["state_type"]) == (True, "Completed", "COMPLETED")
    assert done["flow_run"] == {"id": "r1", "name": "odd-owl", "deployment": "load/nightly"}
    assert [state["name"] for state in done["timeline"]] == ["Scheduled", "Running"]
    assert done["logs"] == ["first", "second"]
    key = server.started[0].pop("idempotency_key")
    assert len(key) == 36
    assert server.started == [{"parameters": {"b": "x"}, "job_variables": {"env": {}}, "tags": ["a"]}]


def test_without_waiting(server, run):
    done = run(wait=False)
    assert (done["changed"], done["state_type"]) == (True, "SCHEDULED")
    assert "GET /api/flow_runs/r1" not in server.api.asked()


def test_a_run_with_a_key(server, run, fake_api):
    fake_api.routes["POST /api/flow_runs/filter"] = lambda request: (200, [server.run("COMPLETED")] if server.started else [])
    assert run(check_mode=True, idempotency_key="k")["changed"] is True
    assert run(idempotency_key="k")["changed"] is True
    assert server.started[0]["idempotency_key"] == "k"
    for check_mode in (True, False):
        again = run(check_mode=check_mode, idempotency_key="k")
        assert (again["changed"], again["state"], len(server.started)) == (False, "Completed", 1)


@pytest.mark.parametrize(("kind", "message"), [("FAILED", "ValueError: no"), ("CRASHED", ""), ("CANCELLED", "by hand")])
def test_a_run_that_fails(server, run, kind, message):
    server.states, server.message = [kind], message
    result = run()
    assert (result["failed"], result["changed"], result["state_type"]) == (True, True, kind)
    end = f"{kind.capitalize()}: {message}" if message else kind.capitalize()
    assert result["msg"] == f"The flow run 'odd-owl' of 'load/nightly' ended {end}. Its last log lines:\nfirst\nsecond"


@pytest.mark.parametrize(("kind", "hint"), [("RUNNING", "it runs still"), ("PAUSED", "see its page")])
def test_a_run_that_takes_long(server, run, fake_api, kind, hint):
    server.states = [kind]
    fake_api.routes["POST /api/logs/filter"] = (200, [])
    result = run(wait_timeout=5)
    assert result["msg"].startswith(f"The flow run 'odd-owl' of 'load/nightly' did not end within 5 s but is {kind.capitalize()}, and goes on: {hint}")
    assert "log lines" not in result["msg"]


def test_the_server_is_away_for_a_while(server, run, fake_api):
    answers = iter([503] * 20)
    later = fake_api.routes["GET /api/flow_runs/r1"]
    fake_api.routes["GET /api/flow_runs/r1"] = lambda request: (status, {"detail": "away"}) if (status := next(answers, None)) else later(request)
    assert run()["state"] == "Completed"
    fake_api.routes["GET /api/flow_runs/r1"] = (503, {"detail": "away"})
    assert "HTTP 503: away" in run(wait_timeout=60)["msg"]
    fake_api.routes["GET /api/flow_runs/r1"] = (404, {"detail": "Flow run not found"})
    assert "Flow run not found" in run(wait_timeout=60)["msg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"deployment": "load"}, "deployment: 'load' does not name a flow and a deployment: write flow/deployment, like load/nightly."),
        ({"deployment": "load/"}, "deployment: 'load/' does not name a flow and a deployment: write flow/deployment, like load/nightly."),
        ({"deployment": "a/b/c"}, "deployment: 'a/b/c' does not name a flow and a deployment: write flow/deployment, like load/nightly."),
        ({"wait_timeout": -1}, "wait_timeout: -1 is no time to wait: write the seconds, or wait=false."),
        ({"idempotency_key": ""}, "idempotency_key: it is empty: write a text that names the run, or leave it out."),
        ({"parameters": {}}, "parameters.b: is missing: correct it, or the schema of the deployment."),
        ({"parameters": {"a": "x", "b": ""}}, "parameters.a: has to be a whole number: correct it, or the schema of the deployment."),
    ],
)
def test_refused(server, run, arguments, message):
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **arguments)["msg"] == message
    assert server.started == []


def test_parameters_that_are_not_enforced(server, run, fake_api):
    fake_api.routes["GET /api/deployments/name/load/nightly"] = (200, {**DEPLOYMENT, "enforce_parameter_schema": False})
    assert run(parameters={})["changed"] is True
    fake_api.routes["GET /api/deployments/name/load/nightly"] = (200, {**DEPLOYMENT, "parameter_openapi_schema": None})
    assert run(parameters={})["changed"] is True


@pytest.mark.parametrize(("there", "known"), [(["b", "a"], "the flow 'load' has a, b"), ([], "the flow 'load' has none")])
def test_no_such_deployment(server, run, fake_api, there, known):
    fake_api.routes["GET /api/deployments/name/load/x"] = (404, {"detail": "Deployment not found"})
    fake_api.routes["POST /api/deployments/filter"] = lambda request: (200, [{"name": name} for name in there[request["body"]["offset"] :]])
    assert run(deployment="load/x")["msg"] == f"deployment: there is no deployment 'load/x', {known}: correct the name, or create it."
    predicted = run(deployment="load/x", check_mode=True)
    assert predicted["changed"] is True
    assert "There is no deployment 'load/x' yet." in str(predicted["warnings"])
