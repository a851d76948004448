# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from urllib.parse import unquote

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_work_pool import main

SECRET = "admin:not-a-real-password"
CATALOGUE = {"prefect": {"process": {"type": "process"}}, "prefect-docker": {"docker": {"type": "docker"}}}
POOL = {"id": "1", "name": "a b", "type": "process", "description": "d", "is_paused": False, "concurrency_limit": 3, "status": "READY", "base_job_template": {}}
FIELDS = ("name", "type", "description", "concurrency_limit", "is_paused")


class Pools:
    """The part of the API that keeps work pools, with one pool or none."""

    def __init__(self, api: t.Any) -> None:
        self.api = api
        self.pool: dict[str, t.Any] | None = None
        self.written: list[tuple[str, t.Any]] = []
        api.routes["GET /api/collections/views/aggregate-worker-metadata"] = (200, CATALOGUE)
        api.routes["GET /api/work_pools/a%20b"] = lambda _request: (200, self.pool) if self.pool else (404, {"detail": 'Work pool "a b" not found.'})
        api.routes["POST /api/work_pools/"] = self.write
        api.routes["PATCH /api/work_pools/a%20b"] = self.write
        api.routes["DELETE /api/work_pools/a%20b"] = self.write

    def write(self, request: dict[str, t.Any]) -> tuple[int, t.Any]:
        self.written.append((request["method"], request["body"]))
        if request["method"] == "DELETE":
            self.pool = None
            return 204, ""
        self.pool = {"id": "1", "status": "NOT_READY", "base_job_template": {}, **(self.pool or {}), **request["body"]}
        return (201, self.pool) if request["method"] == "POST" else (204, "")


@pytest.fixture
def pools(fake_api) -> Pools:
    return Pools(fake_api)


@pytest.fixture
def run(fake_api, run_module) -> t.Callable[..., dict[str, t.Any]]:
    def call(**arguments: t.Any) -> dict[str, t.Any]:
        result = run_module(main, **{"api_url": fake_api.url, "auth_string": SECRET, "name": "a b", **arguments})
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    return call


def test_create(pools, run):
    asked = {"type": "process", "description": "d", "concurrency_limit": 3}
    after = {"name": "a b", "type": "process", "description": "d", "concurrency_limit": 3, "is_paused": False}
    checked = run(check_mode=True, **asked)
    assert pools.written == []
    assert checked["changed"] is True
    assert checked["work_pool"] == after
    done = run(**asked)
    assert pools.written == [("POST", after)]
    assert done["changed"] is True
    assert done["diff"] == checked["diff"] == {"before": {}, "after": after}
    assert done["work_pool"]["status"] == "NOT_READY"
    again = run(**asked)
    assert again["changed"] is False
    assert again["work_pool"] == done["work_pool"]
    assert len(pools.written) == 1


def test_the_template_is_left_to_the_worker(pools, run):
    run(type="docker", paused=True)
    assert pools.written == [("POST", {"name": "a b", "type": "docker", "description": None, "concurrency_limit": None, "is_paused": True})]


def test_change_only_what_is_named(pools, run):
    pools.pool = dict(POOL)
    checked = run(check_mode=True, concurrency_limit=-1, paused=True)
    assert pools.written == []
    assert checked["work_pool"] == {**POOL, "concurrency_limit": None, "is_paused": True}
    done = run(concurrency_limit=-1, paused=True)
    assert pools.written == [("PATCH", {"concurrency_limit": None, "is_paused": True})]
    before = {field: POOL[field] for field in FIELDS}
    assert done["diff"] == checked["diff"] == {"before": before, "after": {**before, "concurrency_limit": None, "is_paused": True}}
    assert done["work_pool"]["description"] == "d"
    assert run(concurrency_limit=-1, paused=True)["changed"] is False
    assert run()["changed"] is False
    assert run(concurrency_limit=0)["work_pool"]["concurrency_limit"] == 0
    # The catalogue, which the server may fetch from far away, is asked for on creation only.
    assert not any("collections" in path for path in map(unquote, pools.api.asked()))


def test_delete(pools, run):
    pools.pool = dict(POOL)
    checked = run(check_mode=True, state="absent")
    assert (checked["changed"], checked["work_pool"], pools.written) == (True, {}, [])
    done = run(state="absent")
    assert done["changed"] is True
    assert done["diff"] == {"before": {field: POOL[field] for field in FIELDS}, "after": {}}
    assert pools.written == [("DELETE", None)]
    assert run(state="absent")["changed"] is False
    assert run(state="absent", check_mode=True)["changed"] is False


OTHER_TYPE = (
    "type: the work pool 'a b' exists with the type 'process', which Prefect cannot change to 'docker': "
    "write 'process', or delete the pool first (state: absent)."
)


@pytest.mark.parametrize(
    ("exists", "arguments", "message"),
    [
        (True, {"type": "docker"}, OTHER_TYPE),
        (False, {"type": "dokcer"}, "type: 'dokcer' is no type that the server knows: write one of docker, process."),
        (False, {}, "type: the work pool 'a b' does not exist yet and needs a type to be created: write one of docker, process."),
        (True, {"concurrency_limit": -2}, "concurrency_limit: -2 is no limit: write -1 for none, 0 to let no run start, or a greater number."),
    ],
)
def test_refused(pools, run, exists, arguments, message):
    pools.pool = dict(POOL) if exists else None
    for check_mode in (True, False):
        result = run(check_mode=check_mode, **arguments)
        assert result["failed"] is True
        assert result["msg"] == message
    assert pools.written == []


def test_a_reserved_name(fake_api, run):
    fake_api.routes["GET /api/work_pools/Prefect%20x"] = (404, {"detail": "Work pool not found."})
    message = "name: Prefect keeps names that begin with 'prefect' for itself, and 'Prefect x' does: choose another name."
    assert run(name="Prefect x", type="process", check_mode=True)["msg"] == message


def test_another_host_creates_the_pool_at_the_same_moment(pools, fake_api, run):
    def write(request):
        pools.write(request)
        return 409, {"detail": "A work pool with this name already exists."}

    fake_api.routes["POST /api/work_pools/"] = write
    assert run(type="process")["work_pool"]["type"] == "process"
    assert run(type="process")["changed"] is False


def test_queues(pools, fake_api, run):
    queues = ["default"]

    def create(request):
        if request["body"]["name"] == "raced":
            return 409, {"detail": "Work queue already exists."}
        queues.append(request["body"]["name"])
        return 201, {}

    fake_api.routes["POST /api/work_pools/a%20b/queues/filter"] = lambda request: (200, [{"name": name} for name in queues[request["body"]["offset"] :]])
    fake_api.routes["POST /api/work_pools/a%20b/queues"] = create
    asked = {"type": "process", "work_queues": ["urgent", "nightly"]}
    assert run(check_mode=True, **asked)["work_queues"] == ["nightly", "urgent"]
    assert queues == ["default"]
    done = run(**asked)
    assert queues == ["default", "nightly", "urgent"]
    assert done["changed"] is True
    assert done["diff"]["before"]["work_queues"] == ["default"]
    assert done["diff"]["after"]["work_queues"] == done["work_queues"] == ["default", "nightly", "urgent"]
    assert run(**asked)["changed"] is False
    assert run(type="process", work_queues=["raced"])["changed"] is True
    fake_api.routes["POST /api/work_pools/a%20b/queues"] = (422, {"detail": "No such name."})
    assert "No such name" in run(type="process", work_queues=["odd"])["msg"]


def test_what_the_server_says(pools, fake_api, run):
    fake_api.routes["POST /api/work_pools/"] = (409, {"detail": "A work pool with this name already exists."})
    result = run(type="process")
    assert result["failed"] is True
    assert result["msg"] == f"POST {fake_api.url}/work_pools/: HTTP 409: A work pool with this name already exists."
    assert run(api_url="nonsense")["msg"].startswith("api_url is no URL")
