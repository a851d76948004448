# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import NOBODY
from ansible_collections.selfhost.prefect.plugins.modules.prefect_automation import main

SECRET = "admin:not-a-real-password"
EVENT = {"type": "event", "id": "t1", "match": {}, "match_related": {}, "after": [], "expect": [], "for_each": [], "posture": "Reactive"}


class Server:
    """The part of the API that keeps automations, with Prefect's defaults."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.automations: list[dict[str, t.Any]] = []
        self.written: list[tuple[str, t.Any]] = []
        api.routes["POST /api/automations/filter"] = self.read
        api.routes["POST /api/automations/"] = self.create
        api.routes[f"PUT /api/automations/{NOBODY}"] = (404, {"detail": "Automation not found"})
        api.routes["GET /api/deployments/name/load/nightly"] = (200, {"id": "d1"})
        api.routes["GET /api/work_pools/nowhere"] = (404, {"detail": "Work pool not found"})

    def read(self, request: t.Any) -> tuple[int, t.Any]:
        found = [one for one in self.automations if one["name"] in request["body"]["automations"]["name"]["any_"]]
        return 200, found[request["body"]["offset"] :]

    def stored(self, body: dict[str, t.Any]) -> dict[str, t.Any]:
        def trigger(given: dict[str, t.Any]) -> dict[str, t.Any]:
            if given["type"] != "event":
                return {**given, "id": "t2", "within": float(given["within"]), "triggers": [trigger(one) for one in given["triggers"]]}
            within = float(given.get("within", 10 if given["posture"] == "Proactive" else 0))
            return {**EVENT, "threshold": 1, **given, "within": within, "future": "kept", "expect": given.get("expect", [])[::-1]}

        actions = [{"source": "selected", "parameters": None, **action} for action in body["actions"]]
        return {"tags": [], **body, "trigger": trigger(body["trigger"]), "actions": actions}

    def create(self, request: t.Any) -> tuple[int, t.Any]:
        body = request["body"]
        self.written.append(("POST", body))
        automation = {"id": body["name"], **self.stored(body)}
        self.automations.append(automation)

        def change(request: t.Any) -> tuple[int, t.Any]:
            self.written.append((request["method"], request["body"]))
            automation.update(self.stored(request["body"]) if request["method"] == "PUT" else request["body"])
            return 204, ""

        def delete(_request: t.Any) -> tuple[int, t.Any]:
            self.written.append(("DELETE", automation["name"]))
            self.automations.remove(automation)
            return 204, ""

        for method, answer in (("PUT", change), ("PATCH", change), ("DELETE", delete)):
            self.api.routes[f"{method} /api/automations/{automation['id']}"] = answer
        return 201, automation


@pytest.fixture
def server(fake_api) -> Server:
    return Server(fake_api)


@pytest.fixture
def run(fake_api, run_module) -> t.Callable[..., dict[str, t.Any]]:
    def call(*automations: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
        result = run_module(main, api_url=fake_api.url, auth_string=SECRET, automations=list(automations), **arguments)
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    return call


TELL = {
    "name": "tell",
    "tags": ["b", "a"],
    "trigger": {"type": "event", "posture": "Reactive", "expect": ["y", "x"], "match": {"prefect.resource.id": ["prefect.flow-run.*"]}, "threshold": 1},
    "actions": [{"type": "run-deployment", "deployment": "load/nightly"}],
}
INNER = [{"type": "event", "posture": "Proactive", "within": 10}, {"type": "event", "posture": "Reactive", "threshold": 2}]
AGAIN = {
    "name": "again",
    "trigger": {"type": "compound", "require": "all", "within": 60, "triggers": INNER},
    "actions": [{"type": "do-nothing"}],
    "actions_on_resolve": [{"type": "do-nothing"}],
}


def test_from_nothing_to_nothing(server, run):
    predicted = run(TELL, AGAIN, check_mode=True)
    assert (predicted["changed"], server.written) == (True, [])
    done = run(TELL, AGAIN)
    assert done["diff"] == predicted["diff"]
    assert server.written[0][1]["trigger"]["match"] == {"prefect.resource.id": "prefect.flow-run.*"}
    assert server.written[0][1]["actions"] == [{"type": "run-deployment", "deployment_id": "d1"}]
    assert "tags" not in server.written[1][1]
    assert "threshold" not in done["automations"][0]["trigger"]
    for check_mode in (True, False):
        again = run(TELL, AGAIN, check_mode=check_mode)
        assert (again["changed"], again["automations"], len(server.written)) == (False, done["automations"], 2)
    gone = run(TELL, AGAIN, state="absent")
    assert (gone["changed"], gone["automations"], server.automations) == (True, [], [])


def test_change(server, run):
    run(TELL, AGAIN)
    server.written.clear()
    off = run({"name": "again", "enabled": False})
    assert off["diff"] == {"before": {"again": {"enabled": True}}, "after": {"again": {"enabled": False}}}
    # Anything more would make the trigger forget what it has seen.
    assert server.written == [("PATCH", {"enabled": False})]
    run({"name": "again", "description": "d"})
    method, body = server.written[-1]
    assert (method, body["enabled"], body["description"], body["trigger"]["within"]) == ("PUT", False, "d", 60)
    other = {"type": "event", "posture": "Proactive"}
    assert run({"name": "again", "trigger": other})["changed"] is True
    assert run({"name": "again", "trigger": other})["changed"] is False
    # What this module does not know stays as the server has it.
    assert run({"name": "tell", "trigger": {**TELL["trigger"], "threshold": 3}})["automations"][0]["trigger"]["future"] == "kept"


def test_two_by_one_name(server, run):
    run(TELL)
    server.automations.append({**server.automations[0], "id": "other"})
    message = "automations: the server has 2 automations by the name 'tell': rename or delete all but one of them."
    assert run(TELL)["msg"] == run(TELL, state="absent")["msg"] == message


def field(**fields: t.Any) -> dict[str, t.Any]:
    return {"trigger": {"type": "event", "posture": "Reactive", **fields}}


TRIGGER_FIELDS = "after, expect, for_each, match, match_related, posture, require, threshold, triggers, type, within"
ACTION_FIELDS = (
    "automation_id, block_document, block_document_id, body, deployment, deployment_id, force, job_variables, message, name, parameters, payload, "
    "schedule_after, source, state, subject, type, work_pool, work_pool_id, work_queue, work_queue_id"
)
REFUSED = [
    ({"name": " "}, "name: it is empty: write a name."),
    ({"trigger": None}, "trigger: it is needed to create the automation 'odd', which does not exist yet."),
    ({"trigger": {"posture": "Reactive"}}, "trigger: it has no type: write a dictionary with one."),
    (
        field(expct=["x"]),
        f"trigger.expct: Prefect knows no such field here: write one of {TRIGGER_FIELDS}.",
    ),
    (field(within="PT1M"), "trigger.within: 'PT1M' is no number: write the seconds."),
    (field(within=True), "trigger.within: True is no number: write the seconds."),
    ({"trigger": {"type": "sequence", "triggers": ["x"]}}, "trigger.triggers[0]: it has no type: write a dictionary with one."),
    ({"actions": [{"type": "x", "body": 1, "bdoy": 1}]}, f"actions[0].bdoy: Prefect knows no such field here: write one of {ACTION_FIELDS}."),
    ({"actions": [{"type": "x", "deployment": "nightly"}]}, "actions[0].deployment: 'nightly' is no name of one: write flow/deployment."),
    ({"actions": [{"type": "x", "deployment": "/nightly"}]}, "actions[0].deployment: '/nightly' is no name of one: write flow/deployment."),
    ({"actions": [{"type": "x", "work_pool": 1}]}, "actions[0].work_pool: 1 is no name of one: write pool."),
    (
        {"actions": [{"type": "x", "work_pool": "a", "work_pool_id": "b"}]},
        "actions[0].work_pool: there is work_pool_id as well: leave one of them out.",
    ),
    ({"actions": [{"type": "x", "work_pool": "nowhere"}]}, "actions[0].work_pool: there is none by the name 'nowhere': create it before, or correct the name."),
]


@pytest.mark.parametrize(("odd", "message"), REFUSED)
def test_refused(server, run, odd, message):
    result = run(TELL, {**AGAIN, "name": "odd", **odd})
    assert (result["failed"], result["msg"]) == (True, f"automations[1].{message}")
    assert server.written == []


def test_what_a_task_before_would_create(server, run):
    predicted = run({**TELL, "actions": [{"type": "pause-work-pool", "work_pool": "nowhere"}] * 2}, check_mode=True)
    assert predicted["changed"] is True
    assert str(predicted["warnings"]).count("There is no work_pool 'nowhere' yet.") == 1


def test_what_the_server_refuses(server, run, fake_api):
    fault = {"type": "value_error", "loc": ["body", "actions", 0, "RunDeployment"], "msg": "Value error, deployment_id is required"}
    fake_api.routes[f"PUT /api/automations/{NOBODY}"] = (422, {"exception_detail": [fault]})
    for check_mode in (True, False):
        assert run(TELL, check_mode=check_mode)["msg"] == "automations[0].actions[0]: deployment_id is required."
    fake_api.routes[f"PUT /api/automations/{NOBODY}"] = (422, {"exception_detail": [{"loc": ["body", "tags"], "msg": "Extra inputs are not permitted"}]})
    message = "automations[0].tags: this server's version of Prefect does not know it: leave it out, or upgrade the server."
    assert run(TELL)["msg"] == message
    fake_api.routes[f"PUT /api/automations/{NOBODY}"] = (500, {"exception_message": "Internal Server Error"})
    assert "HTTP 500: Internal Server Error" in run(TELL)["msg"]
    assert server.written == []


def test_what_the_server_does_not_keep(server, run, monkeypatch):
    monkeypatch.setattr(server, "stored", lambda body: {**body, "actions": [{"type": "do-nothing"}]})
    message = "automations[0] (tell): the server took the write, but did not keep actions as it was given."
    assert run({**TELL, "actions": [{"type": "do-nothing", "payload": "x"}]}, {**AGAIN, "actions": [{"type": "do-nothing"}]})["msg"] == message
