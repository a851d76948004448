# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_work_pool import main, merge

SECRET = "admin:not-a-real-password"
CATALOGUE_PATH = "GET collections/views/aggregate-worker-metadata"
DOCKER = {
    "job_configuration": {"image": "{{ image }}", "env": "{{ env }}"},
    "variables": {"type": "object", "properties": {"image": {"type": "string"}, "env": {"type": "object"}, "old": {"type": "string"}}},
}
CATALOGUE = {
    "prefect": {"process": {"type": "process", "default_base_job_configuration": {}}},
    "prefect-docker": {"docker": {"type": "docker", "default_base_job_configuration": DOCKER}},
}
POOL = {
    "id": "1",
    "name": "a b",
    "type": "docker",
    "description": "d",
    "is_paused": False,
    "concurrency_limit": 3,
    "status": "READY",
    "base_job_template": {},
}


class Pools:
    """The part of the API that keeps work pools: "a b" or none, and its queues."""

    def __init__(self, api: t.Any, run_module: t.Any) -> None:
        self.api, self.run_module = api, run_module
        self.pool: dict[str, t.Any] | None = None
        self.queues = ["default"]
        api.routes["GET /api/collections/views/aggregate-worker-metadata"] = (200, CATALOGUE)
        api.routes["POST /api/work_pools/filter"] = lambda request: (200, [self.pool] if self.pool and not request["body"]["offset"] else [])
        api.routes["POST /api/work_pools/a%20b/queues/filter"] = self.read_queues
        api.routes["POST /api/work_pools/a%20b/queues"] = self.create_queue
        for method, path in (("POST", ""), ("PATCH", "a%20b"), ("DELETE", "a%20b")):
            api.routes[f"{method} /api/work_pools/{path}"] = self.write

    def write(self, request: dict[str, t.Any]) -> tuple[int, t.Any]:
        if request["method"] == "DELETE":
            self.pool = None
            return 204, ""
        self.pool = {"id": "1", "status": "NOT_READY", **(self.pool or {}), **request["body"]}
        return (201, self.pool) if request["method"] == "POST" else (204, "")

    def read_queues(self, request: dict[str, t.Any]) -> tuple[int, t.Any]:
        found = [name for name in self.queues if name in request["body"]["work_queues"]["name"]["any_"]]
        return 200, [{"name": name} for name in found[request["body"]["offset"] :]]

    def create_queue(self, request: dict[str, t.Any]) -> tuple[int, t.Any]:
        name = request["body"]["name"]
        if name in self.queues:
            return 409, {"detail": "Work queue already exists."}
        self.queues.append(name)
        return 201, {}

    def run(self, check_mode: bool = False, state: str = "present", **element: t.Any) -> dict[str, t.Any]:
        self.api.requests.clear()
        arguments = {"api_url": self.api.url, "auth_string": SECRET, "work_pools": [{"name": "a b", **element}], "state": state}
        result = self.run_module(main, check_mode, **arguments)
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    def writes(self) -> list[tuple[str, t.Any]]:
        asked = [(f"{request['method']} {request['path'].removeprefix('/api/')}", request["body"]) for request in self.api.requests]
        return [(what, body) for what, body in asked if not what.endswith("/filter") and what != CATALOGUE_PATH]


@pytest.fixture
def pools(fake_api, run_module) -> Pools:
    return Pools(fake_api, run_module)


def test_create(pools):
    asked = {"type": "process", "description": "d", "concurrency_limit": 3}
    after = {"name": "a b", "type": "process", "description": "d", "concurrency_limit": 3, "is_paused": False, "base_job_template": {}}
    checked = pools.run(check_mode=True, **asked)
    assert pools.writes() == []
    done = pools.run(**asked)
    # The template is left to the first worker.
    assert pools.writes() == [("POST work_pools/", after)]
    assert done["changed"] is checked["changed"] is True
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"a b": after_shown(after)}}
    assert done["work_pools"][0]["status"] == "NOT_READY"
    again = pools.run(**asked)
    assert again["changed"] is False
    assert again["work_pools"] == done["work_pools"]
    assert pools.api.asked() == ["POST /api/work_pools/filter"]


def after_shown(after: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in after.items() if value is not None}


def test_change_only_what_is_named(pools):
    pools.pool = dict(POOL)
    done = pools.run(concurrency_limit=-1, paused=True)
    assert pools.writes() == [("PATCH work_pools/a%20b", {"concurrency_limit": None, "is_paused": True})]
    assert done["diff"] == {
        "before": {"a b": {"concurrency_limit": 3, "is_paused": False}},
        "after": {"a b": {"concurrency_limit": None, "is_paused": True}},
    }
    # The server may fetch the catalogue from far away, so it is asked for only when it is needed.
    assert not any("collections" in path for path in pools.api.asked())
    assert pools.run(concurrency_limit=-1, paused=True)["changed"] is False
    assert pools.run(concurrency_limit=0)["work_pools"][0]["concurrency_limit"] == 0


def test_delete(pools):
    pools.pool = dict(POOL)
    done = pools.run(state="absent")
    assert pools.writes() == [("DELETE work_pools/a%20b", None)]
    assert done["work_pools"] == []
    assert pools.run(state="absent")["changed"] is False


def test_queues(pools):
    asked = {"type": "process", "work_queues": ["urgent", "default", "urgent", "nightly"]}
    checked = pools.run(check_mode=True, **asked)
    assert checked["work_pools"][0]["work_queues"] == ["default", "nightly", "urgent"]
    done = pools.run(**asked)
    # Each new pool has a queue "default", which is no error.
    assert pools.queues == ["default", "nightly", "urgent"]
    assert done["work_pools"][0]["work_queues"] == ["default", "nightly", "urgent"]
    assert pools.run(**asked)["changed"] is False
    more = pools.run(work_queues=["nightly", "new"])
    assert pools.writes() == [("POST work_pools/a%20b/queues", {"name": "new"})]
    assert more["diff"] == {"before": {"a b": {"work_queues": ["nightly"]}}, "after": {"a b": {"work_queues": ["new", "nightly"]}}}
    assert pools.run(work_queues=[])["changed"] is False
    pools.api.routes["POST /api/work_pools/a%20b/queues"] = (422, {"detail": "No such name."})
    message = pools.run(work_queues=["odd"])["msg"]
    assert message.startswith("work_pools[0] (a b): the pool is there, its queue 'odd' is not: POST ")
    assert message.endswith("HTTP 422: No such name. Written: nothing. Not written: a b.")


def test_the_template_is_laid_over_that_of_the_type(pools):
    given = {"variables": {"properties": {"image": {"default": "example.com/etl:1"}, "mine": {}}}, "job_configuration": {"extra": ["{{mine}}"]}}
    merged = {
        "job_configuration": {"image": "{{ image }}", "env": "{{ env }}", "extra": ["{{mine}}"]},
        "variables": {
            "type": "object",
            "properties": {"image": {"type": "string", "default": "example.com/etl:1"}, "env": {"type": "object"}, "old": {"type": "string"}, "mine": {}},
        },
    }
    done = pools.run(type="docker", base_job_template=given)
    assert done["work_pools"][0]["base_job_template"] == merged
    assert pools.run(base_job_template=given)["changed"] is False
    changed = pools.run(base_job_template={"job_configuration": {"env": {"A": "1"}}})
    assert changed["work_pools"][0]["base_job_template"]["job_configuration"] == {"image": "{{ image }}", "env": {"A": "1"}}
    # A type of a worker class of one's own has no default, so the template is all of it.
    pools.pool = {**POOL, "type": "own"}
    whole = {"job_configuration": {"a": "{{ b }}"}, "variables": {"properties": {"b": {}}}}
    assert pools.run(base_job_template=whole)["work_pools"][0]["base_job_template"] == whole


def test_merge():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}, "d": {"e": 3}}) == {"a": {"b": 1, "c": [2]}, "d": {"e": 3}}


UNKNOWN_VARIABLE = (
    "base_job_template.job_configuration: {{ envv }} is no variable of the template: declare it below variables.properties, or use one of env, image, old."
)
UNUSED_VARIABLE = (
    "base_job_template.variables.properties.imgae: the job configuration uses no such variable: write one of env, image, or use it there as {{ imgae }}."
)
OTHER_TYPE = (
    "type: the work pool 'a b' exists with the type 'docker', which Prefect cannot change to 'process': "
    "write 'docker', or delete the pool first (state: absent)."
)


@pytest.mark.parametrize(
    ("exists", "element", "message"),
    [
        (True, {"type": "process"}, OTHER_TYPE),
        (False, {"type": "dokcer"}, "type: 'dokcer' is no type that the server knows: write one of docker, process."),
        (False, {}, "type: the work pool 'a b' does not exist yet and needs a type to be created: write one of docker, process."),
        (
            False,
            {"name": "Prefect x", "type": "process"},
            "name: Prefect keeps names that begin with 'prefect' for itself, and 'Prefect x' does: choose another name.",
        ),
        (False, {"name": "", "type": "process"}, "name: it is empty: write a name."),
        (True, {"concurrency_limit": -2}, "concurrency_limit: -2 is no limit: write -1 for none, 0 to let none through, or a greater number."),
        (True, {"work_queues": ["a", "b>"]}, "work_queues[1]: 'b>' holds >, and Prefect takes none of / % & < > in a name: write it without."),
        (
            True,
            {"base_job_template": {"variable": {}}},
            "base_job_template.variable: a template has no such part: write job_configuration, variables, or both.",
        ),
        (True, {"base_job_template": {"variables": []}}, "base_job_template.variables: it is no dictionary: write its fields below it."),
        (
            True,
            {"base_job_template": {"variables": {"properties": "image"}}},
            "base_job_template.variables.properties: it is no dictionary: write its fields below it.",
        ),
        (True, {"base_job_template": {"job_configuration": {"env": ["{{envv}}"]}}}, UNKNOWN_VARIABLE),
        (True, {"base_job_template": {"variables": {"properties": {"imgae": {}}}}}, UNUSED_VARIABLE),
    ],
)
def test_refused(pools, exists, element, message):
    pools.pool = dict(POOL) if exists else None
    for check_mode in (True, False):
        result = pools.run(check_mode=check_mode, **element)
        assert result["failed"] is True
        assert result["msg"] == f"work_pools[0].{message}"
        assert pools.writes() == []


def test_another_host_creates_the_pool_at_the_same_moment(pools):
    def write(request: dict[str, t.Any]) -> tuple[int, t.Any]:
        pools.write(request)
        return 409, {"detail": "A work pool with this name already exists."}

    pools.api.routes["POST /api/work_pools/"] = write
    assert pools.run(type="process", work_queues=["urgent"])["work_pools"][0]["work_queues"] == ["urgent"]
    assert pools.run(type="process", work_queues=["urgent"])["changed"] is False
