# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import NOBODY
from ansible_collections.selfhost.prefect.plugins.modules.prefect_deployment import main

SECRET = "admin:not-a-real-password"
NOW = "2026-11-23T00:35:28.712639Z"
TEMPLATE = {"variables": {"type": "object", "properties": {"env": {"type": "object"}, "image": {"type": "string"}}, "required": ["image"]}}


class Server:
    """The part of the API that keeps deployments: it clears what it is not told, and writes schedules out."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.flows: dict[str, str] = {}
        self.deployments: list[dict[str, t.Any]] = []
        self.written: list[tuple[str, t.Any]] = []
        routes = api.routes
        routes["POST /api/flows/filter"] = lambda request: self.page(request, [{"name": name, "id": one} for name, one in self.flows.items()])
        routes["POST /api/flows/"] = self.create_flow
        routes["POST /api/deployments/filter"] = lambda request: self.page(request, self.deployments)
        routes["POST /api/deployments/"] = self.upsert
        routes[f"PATCH /api/deployments/{NOBODY}"] = (404, {"detail": "Deployment not found."})
        routes["GET /api/work_pools/etl"] = (200, {"base_job_template": TEMPLATE})
        routes["GET /api/work_pools/plain"] = (200, {"base_job_template": None})
        routes["GET /api/work_pools/nowhere"] = (404, {"detail": 'Work pool "nowhere" not found.'})
        routes["GET /api/work_pools/etl/queues/nightly"] = (200, {})
        routes["GET /api/work_pools/etl/queues/nowhere"] = (404, {"detail": "Work queue not found."})

    def page(self, request: t.Any, found: list[t.Any]) -> tuple[int, t.Any]:
        return 200, found[request["body"]["offset"] :]

    def create_flow(self, request: t.Any) -> tuple[int, t.Any]:
        name = request["body"]["name"]
        self.written.append(("flow", name))
        self.flows[name] = f"flow-{name}"
        return 201, {"id": self.flows[name]}

    def schedule(self, given: dict[str, t.Any]) -> dict[str, t.Any]:
        schedule = dict(given["schedule"])
        if "interval" in schedule:
            schedule.setdefault("anchor_date", NOW)
        if "cron" in schedule:
            schedule.setdefault("day_or", True)
        if "rrule" in schedule:
            schedule["rrule"] = "DTSTART:20200101T000000\n" + schedule["rrule"]
        return {"id": "s", "max_scheduled_runs": None, "slug": None, "parameters": {}, **given, "schedule": schedule}

    def upsert(self, request: t.Any) -> tuple[int, t.Any]:
        body = request["body"]
        self.written.append(("deployment", body))
        found = next((one for one in self.deployments if (one["name"], one["flow_id"]) == (body["name"], body["flow_id"])), None)
        if found is None:
            found = {
                "id": f"d{len(self.deployments)}",
                "status": "NOT_READY",
                "work_pool_name": None,
                "work_queue_name": None,
                "global_concurrency_limit": None,
            }
            self.deployments.append(found)
        limit = body.get("concurrency_limit", (found["global_concurrency_limit"] or {}).get("limit"))
        found.update({"parameter_openapi_schema": None, "concurrency_limit": None, **body})
        found["concurrency_limit"], found["global_concurrency_limit"] = None, {"limit": limit} if limit else None
        found["schedules"] = [self.schedule(given) for given in body.get("schedules", [])]

        def delete(_request: t.Any) -> tuple[int, t.Any]:
            self.written.append(("delete", found["name"]))
            self.deployments.remove(found)
            return 204, ""

        self.api.routes[f"DELETE /api/deployments/{found['id']}"] = delete
        return 200, found


@pytest.fixture
def server(fake_api) -> Server:
    return Server(fake_api)


@pytest.fixture
def run(fake_api, run_module) -> t.Callable[..., dict[str, t.Any]]:
    def call(*deployments: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
        result = run_module(main, api_url=fake_api.url, auth_string=SECRET, deployments=list(deployments), **arguments)
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    return call


NAMES = {"name": "nightly", "flow_name": "load"}
LOAD = {
    **NAMES,
    "entrypoint": "flows.py:load",
    "path": "/srv",
    "work_pool": "etl",
    "work_queue": "nightly",
    "job_variables": {"env": {"A": "1"}},
    "parameters": {"full": True},
    "parameter_openapi_schema": {"type": "object", "properties": {"full": {"type": "boolean"}}},
    "schedules": [
        {"interval": 3600},
        {"interval": 3600, "anchor_date": "2026-01-01T00:00:00+01:00", "active": False},
        {"cron": "0 3 1 * 1", "timezone": "Europe/Berlin", "day_or": False},
        {"cron": "0 3 * * *"},
        {"rrule": "RRULE:FREQ=DAILY", "slug": "daily", "parameters": {"full": False}},
    ],
    "concurrency_limit": 2,
    "tags": ["b", "a"],
}
PROBE = {"name": "nightly", "flow_name": "probe", "entrypoint": "probe.py:probe"}


def test_from_nothing_to_nothing(server, run):
    predicted = run(LOAD, PROBE, check_mode=True)
    assert (predicted["changed"], server.written) == (True, [])
    done = run(LOAD, PROBE)
    assert done["diff"] == predicted["diff"]
    assert [what for what, _body in server.written] == ["flow", "deployment", "flow", "deployment"]
    body = server.written[1][1]
    assert (body["name"], body["flow_id"], body["work_pool_name"], body["work_queue_name"]) == ("nightly", "flow-load", "etl", "nightly")
    assert "flow_name" not in body
    assert {"schedule": {"interval": 3600.0, "timezone": "UTC"}, "active": True} in body["schedules"]
    assert done["deployments"][0]["concurrency_limit"] == 2
    assert done["deployments"][1]["parameter_openapi_schema"] == {}
    for check_mode in (True, False):
        again = run(LOAD, PROBE, check_mode=check_mode)
        assert (again["changed"], again["deployments"], len(server.written)) == (False, done["deployments"], 4)
    gone = run(LOAD, PROBE, state="absent")
    assert (gone["changed"], gone["deployments"], server.deployments) == (True, [], [])
    assert run(LOAD, state="absent")["changed"] is False


def test_change(server, run):
    run(LOAD)
    done = run({**NAMES, "description": "d", "concurrency_limit": -1})
    # All is told again, because Prefect clears what it is not told; intervals go on counting from where they did.
    body = server.written[-1][1]
    assert (body["description"], body["concurrency_limit"], body["parameters"]) == ("d", None, {"full": True})
    assert body["parameter_openapi_schema"] == LOAD["parameter_openapi_schema"]
    assert {"interval": 3600.0, "timezone": "UTC", "anchor_date": "2026-11-23T00:35:28.712639+00:00"} in [one["schedule"] for one in body["schedules"]]
    assert done["diff"]["after"] == {"load/nightly": {"description": "d", "concurrency_limit": None}}
    assert run({**NAMES, "schedules": [{"interval": 3600, "active": False}, {"interval": 60, "anchor_date": "2026-01-01T00:00:00"}]})["changed"] is True
    anchors = [one["schedule"]["anchor_date"] for one in server.written[-1][1]["schedules"]]
    assert sorted(anchors) == ["2025-12-31T23:00:00+00:00", "2026-01-01T00:00:00+00:00"]
    moved = run({**NAMES, "work_pool": "plain"})
    assert moved["deployments"][0]["work_queue_name"] == "default"
    assert run({**NAMES, "paused": True, "tags": []})["deployments"][0]["paused"] is True
    assert run({**NAMES, "parameter_openapi_schema": {"type": "object", "properties": {}}})["changed"] is True


SCHEDULE = "write one of cron, interval and rrule."
REFUSED = [
    ({"name": "a/b"}, "name: 'a/b' holds /, and Prefect takes none of / % & < > in a name: write it without."),
    ({"flow_name": ""}, "flow_name: it is empty: write a name."),
    ({"entrypoint": None}, "entrypoint: it is needed to create the deployment 'odd/odd', which does not exist yet."),
    ({"concurrency_limit": 0}, "concurrency_limit: 0 is no limit: write -1 for none, or 1 or more. To let no run start, pause the deployment."),
    ({"schedules": [{}]}, f"schedules[0]: it has none of cron, interval and rrule: {SCHEDULE}"),
    ({"schedules": [{"cron": "x", "interval": 1}]}, f"schedules[0]: it has cron and interval: {SCHEDULE}"),
    ({"schedules": [{"cron": "x", "timezone": ""}]}, "schedules[0].timezone: it is empty: write a name like Europe/Berlin, or leave it out for UTC."),
    ({"schedules": [{"cron": "x", "anchor_date": "x"}]}, "schedules[0].anchor_date: a schedule by cron has none: leave it out."),
    (
        {"schedules": [{"interval": 1, "anchor_date": "soon"}]},
        "schedules[0].anchor_date: 'soon' is no date and time: write it like 2026-01-31T06:00:00Z.",
    ),
    ({"schedules": [{"cron": "x", "slug": "a"}, {"cron": "y", "slug": "a"}]}, "schedules[1].slug: 'a' is the name of another: give each its own."),
    ({"work_queue": "nightly"}, "work_queue: there is no work_pool that it could be a queue of: give one."),
    ({"work_pool": "nowhere"}, "work_pool: there is no work pool 'nowhere': create it before, or correct the name."),
    (
        {"work_pool": "etl", "work_queue": "nowhere"},
        "work_queue: the work pool 'etl' has no queue 'nowhere': create it before, or correct the name.",
    ),
    (
        {"work_pool": "etl", "job_variables": {"image": 1}},
        "job_variables.image: has to be a string by the base job template of the work pool 'etl'.",
    ),
    (
        {"parameters": {"a": 1}, "parameter_openapi_schema": {"properties": {"a": {"type": "string"}}}},
        "parameters.a: has to be a string by the parameter_openapi_schema of the deployment.",
    ),
]


@pytest.mark.parametrize(("odd", "message"), REFUSED)
def test_refused(server, run, odd, message):
    result = run(PROBE, {"name": "odd", "flow_name": "odd", "entrypoint": "x.py:x", **odd})
    assert (result["failed"], result["msg"]) == (True, f"deployments[1].{message}")
    assert server.written == []


def test_what_a_task_before_would_create(server, run):
    predicted = run({**PROBE, "work_pool": "nowhere"}, {**PROBE, "name": "b", "work_pool": "nowhere"}, check_mode=True)
    assert predicted["changed"] is True
    assert "work_pool: there is no work pool 'nowhere' yet." in str(predicted["warnings"])
    assert run({**PROBE, "work_pool": "etl", "work_queue": "nowhere"}, check_mode=True)["changed"] is True


def test_a_variable_that_the_pool_does_not_have(server, run):
    done = run({**PROBE, "work_pool": "etl", "job_variables": {"imgae": "x"}})
    assert done["changed"] is True
    assert "The base job template of the work pool 'etl' has no variable 'imgae', so Prefect leaves it out of probe/nightly." in str(done["warnings"])


def test_what_the_server_refuses(server, run, fake_api):
    kinds = ("function-after[validate_timezone(), IntervalSchedule]", "CronSchedule")
    place = ["body", "schedules", 0, "schedule"]
    faults = [
        {"type": "missing", "loc": [*place, kinds[0], "interval"], "msg": "Field required"},
        {"type": "value_error", "loc": [*place, kinds[1], "cron"], "msg": 'Value error, Invalid cron string: "x"'},
    ]
    fake_api.routes[f"PATCH /api/deployments/{NOBODY}"] = (422, {"exception_detail": faults})
    for check_mode in (True, False):
        assert run({**PROBE, "schedules": [{"cron": "x"}]}, check_mode=check_mode)["msg"] == 'deployments[0].schedules[0].cron: Invalid cron string: "x".'
    fake_api.routes[f"PATCH /api/deployments/{NOBODY}"] = (422, "<html>no</html>")
    assert "answered HTTP 422 with a web page" in run({**PROBE, "schedules": [{"cron": "x"}]})["msg"]
    assert server.written == []


def test_what_the_server_does_not_keep(server, run, monkeypatch):
    run(LOAD, PROBE)
    upsert = server.upsert
    server.api.routes["POST /api/deployments/"] = lambda request: upsert({"body": {**request["body"], "job_variables": {"env": {"A": "1"}}}})
    message = "deployments[1] (load/nightly): the server took the write, but did not keep job_variables as it was given."
    assert run(PROBE, {**NAMES, "job_variables": {}})["msg"] == message
