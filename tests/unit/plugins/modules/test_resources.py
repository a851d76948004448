# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules that keep lists of objects ask of the server; that a real one takes it is seen in tests/live."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import NOBODY
from ansible_collections.selfhost.prefect.plugins.modules import (
    prefect_global_concurrency_limit,
    prefect_tag_concurrency_limit,
    prefect_variable,
    prefect_variable_info,
    prefect_work_pool_info,
    prefect_work_queue,
)

SECRET = "admin:not-a-real-password"


class Store:
    """A server that keeps objects by id below some paths."""

    def __init__(self, api: t.Any, run_module: t.Any) -> None:
        self.api = api
        self.run_module = run_module

    def serve(self, path: str, objects: list[dict[str, t.Any]], *written: str) -> None:
        """Answer POST path/filter with the objects, and writes to path/ and path/KEY, for each key, with nothing."""

        def read(request: dict[str, t.Any]) -> tuple[int, t.Any]:
            names = next((part["name"]["any_"] for part in request["body"].values() if isinstance(part, dict)), None)
            found = [fields for fields in objects if names is None or fields["name"] in names]
            return 200, found[request["body"]["offset"] :]

        self.api.routes[f"POST /api/{path}/filter"] = read
        self.api.routes[f"POST /api/{path}/"] = (201, {})
        for key in written:
            for method in ("PATCH", "DELETE"):
                self.api.routes[f"{method} /api/{path}/{key}"] = (204, "")

    def run(self, module: t.Any, **arguments: t.Any) -> dict[str, t.Any]:
        self.api.requests.clear()
        result = self.run_module(module.main, api_url=self.api.url, auth_string=SECRET, **arguments)
        assert "not-a-real-password" not in result["_output"].replace(str(result.get("invocation")), "")
        return result

    def writes(self) -> list[tuple[str, t.Any]]:
        asked = [(f"{request['method']} {request['path'].removeprefix('/api/')}", request["body"]) for request in self.api.requests]
        return [(what, body) for what, body in asked if not what.endswith("/filter")]


@pytest.fixture
def store(fake_api, run_module) -> Store:
    return Store(fake_api, run_module)


def test_variables(store):
    store.serve("variables", [{"id": "1", "name": "a", "value": 1, "tags": ["t"]}, {"id": "2", "name": "b", "value": 1, "tags": []}], "1", "2")
    store.run(prefect_variable, variables=[{"name": "a", "value": "1"}, {"name": "b", "tags": []}, {"name": "c", "value": [None]}])
    assert store.api.requests[0]["body"] == {"variables": {"name": {"any_": ["a", "b", "c"]}}, "offset": 0}
    assert store.writes() == [("PATCH variables/1", {"value": "1"}), ("POST variables/", {"name": "c", "value": [None], "tags": []})]
    store.run(prefect_variable, variables=[{"name": "b"}], state="absent")
    assert store.writes() == [("DELETE variables/2", None)]


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"name": "A b"}, "variables[0].name: 'A b' is no name of a variable: write lowercase letters, digits and underscores, 255 at most."),
        ({"name": "a", "value": "x" * 4999}, "variables[0].value: it is 5001 characters long as JSON, and Prefect takes 5000: keep it in a file or a block."),
    ],
)
def test_variables_refused(store, element, message):
    assert store.run(prefect_variable, variables=[element])["msg"] == message
    assert store.api.requests == []


def test_variables_with_dashes(store):
    """Only newer servers take them, which is asked once and before anything is written."""
    store.serve("variables", [], NOBODY)
    wanted = [{"name": name, "value": 1} for name in ("plain", "a-b", "c-d")]
    store.run(prefect_variable, variables=wanted)
    assert store.writes()[0] == (f"PATCH variables/{NOBODY}", {"name": "a-b"})
    assert [what for what, _body in store.writes()[1:]] == ["POST variables/"] * 3
    store.api.routes[f"PATCH /api/variables/{NOBODY}"] = (422, {"exception_detail": [{"loc": ["body", "name"], "msg": "Value error, No dashes."}]})
    assert store.run(prefect_variable, variables=wanted)["msg"] == "variables[1].name: No dashes."
    assert [what for what, _body in store.writes()] == [f"PATCH variables/{NOBODY}"]


def test_global_concurrency_limits(store):
    limit = {"id": "1", "name": "a", "limit": 1, "active": True, "slot_decay_per_second": 0.0, "active_slots": 0}
    store.serve("v2/concurrency_limits", [limit], "1")
    wanted = [{"name": "a", "slot_decay_per_second": 2}, {"name": "b", "limit": 0, "active": False}]
    done = store.run(prefect_global_concurrency_limit, global_concurrency_limits=wanted)
    assert done["diff"]["before"] == {"a": {"slot_decay_per_second": 0.0}}
    created = {"name": "b", "limit": 0, "active": False, "slot_decay_per_second": 0.0}
    assert store.writes() == [("PATCH v2/concurrency_limits/1", {"slot_decay_per_second": 2.0}), ("POST v2/concurrency_limits/", created)]
    store.run(prefect_global_concurrency_limit, global_concurrency_limits=[{"name": "a"}], state="absent")
    assert store.writes() == [("DELETE v2/concurrency_limits/1", None)]


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"name": "a%b", "limit": 1}, "name: 'a%b' holds %, and Prefect takes none of / % & < > in a name: write it without."),
        ({"name": "a", "limit": -1}, "limit: -1 is no limit: write 0 to let none through, or a greater number."),
        (
            {"name": "a", "limit": 1, "slot_decay_per_second": -0.5},
            "slot_decay_per_second: -0.5 would take slots away: write 0 for none, or a greater number.",
        ),
    ],
)
def test_global_concurrency_limits_refused(store, element, message):
    result = store.run(prefect_global_concurrency_limit, global_concurrency_limits=[element])
    assert result["msg"] == f"global_concurrency_limits[0].{message}"
    assert store.api.requests == []


@pytest.mark.parametrize("kept_as", ["tags", "global"])
def test_tag_concurrency_limits(store, kept_as):
    """Older servers have them by themselves, newer ones among the global limits too."""
    tags = [{"id": "1", "tag": "a", "concurrency_limit": 1, "active_slots": []}]
    limits = [{"id": "1", "name": "tag:a", "limit": 1}, {"id": "2", "name": "all:b", "limit": 0}]
    store.serve("concurrency_limits", tags if kept_as == "tags" else [], "1")
    store.serve("v2/concurrency_limits", limits if kept_as == "global" else [])
    wanted = [{"tag": "a", "concurrency_limit": 2}, {"tag": "b", "concurrency_limit": 0}]
    assert store.run(prefect_tag_concurrency_limit, tag_concurrency_limits=wanted)["tag_concurrency_limits"] == [
        {"id": "1", "tag": "a", "concurrency_limit": 1}
    ]
    assert store.writes() == [("POST concurrency_limits/", element) for element in wanted]
    store.run(prefect_tag_concurrency_limit, tag_concurrency_limits=[{"tag": "a"}], state="absent")
    assert store.writes() == [("DELETE concurrency_limits/1", None)]


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"tag": "a/b", "concurrency_limit": 1}, "tag: 'a/b' holds /, and Prefect takes none of / % & < > in a name: write it without."),
        ({"tag": "a", "concurrency_limit": -2}, "concurrency_limit: -2 is no limit: write 0 to let none through, or a greater number."),
    ],
)
def test_tag_concurrency_limits_refused(store, element, message):
    assert store.run(prefect_tag_concurrency_limit, tag_concurrency_limits=[element])["msg"] == f"tag_concurrency_limits[0].{message}"
    assert store.api.requests == []


@pytest.fixture
def queues(store) -> Store:
    """Two pools: "p q" with the queues default, first, second and third; "other" with its default alone."""
    store.serve("work_pools", [{"name": "p q", "default_queue_id": "0"}, {"name": "other", "default_queue_id": "9"}])
    kept = {"description": "", "is_paused": False, "concurrency_limit": None, "work_pool_name": "p q"}
    names = ("default", "first", "second", "third")
    store.serve("work_pools/p%20q/queues", [{"id": str(index), "name": name, "priority": index + 1, **kept} for index, name in enumerate(names)], *names)
    store.serve("work_pools/other/queues", [], "a%20b")
    for pool in ("p%20q", "other"):
        store.api.routes[f"POST /api/work_pools/{pool}/queues"] = (201, {})
    return store


def run_queues(store: Store, *elements: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
    return store.run(prefect_work_queue, work_queues=[{"work_pool": "p q", **element} for element in elements], **arguments)


def test_work_queues(queues):
    run_queues(queues, {"name": "first", "concurrency_limit": 2, "paused": True}, {"name": "a b", "work_pool": "other", "concurrency_limit": -1})
    assert [request["body"] for request in queues.api.requests[:2]] == [
        {"work_pools": {"name": {"any_": ["p q", "other"]}}, "offset": 0},
        {"work_queues": {"name": {"any_": ["first"]}}, "offset": 0},
    ]
    created = {"name": "a b", "description": "", "priority": None, "concurrency_limit": None, "is_paused": False}
    assert queues.writes() == [
        ("PATCH work_pools/p%20q/queues/first", {"concurrency_limit": 2, "is_paused": True}),
        ("POST work_pools/other/queues", created),
    ]
    run_queues(queues, {"name": "second"}, state="absent")
    assert queues.writes() == [("DELETE work_pools/p%20q/queues/second", None)]


def test_work_queues_are_put_in_place_from_the_front(queues):
    done = run_queues(
        queues,
        {"name": "third", "priority": 4},
        {"name": "second", "priority": 2},
        {"name": "first", "priority": 1},
        {"name": "default", "description": "d"},
        {"name": "new", "work_pool": "other", "priority": 4},
    )
    assert queues.writes() == [
        ("PATCH work_pools/p%20q/queues/default", {"description": "d"}),
        ("PATCH work_pools/p%20q/queues/first", {"priority": 1}),
        ("PATCH work_pools/p%20q/queues/second", {"priority": 2}),
        # It has its place, and is given it again, since the others may have moved it.
        ("PATCH work_pools/p%20q/queues/third", {"priority": 4}),
        ("POST work_pools/other/queues", {"name": "new", "priority": 4, "description": "", "concurrency_limit": None, "is_paused": False}),
    ]
    assert "p q/third" not in done["diff"]["after"]
    run_queues(queues, {"name": "third", "priority": 4})
    assert queues.writes() == []


@pytest.mark.parametrize(
    ("elements", "state", "message"),
    [
        ([{"name": "a/b"}], "present", "[0].name: 'a/b' holds /, and Prefect takes none of / % & < > in a name: write it without."),
        ([{"name": "a", "work_pool": ""}], "present", "[0].work_pool: it is empty: write a name."),
        (
            [{"name": "a", "concurrency_limit": -2}],
            "present",
            "[0].concurrency_limit: -2 is no limit: write -1 for none, 0 to let none through, or a greater number.",
        ),
        ([{"name": "a", "priority": 0}], "present", "[0].priority: 0 is no priority: write 1 for the first, or a greater number."),
        (
            [{"name": "a", "priority": 1}, {"name": "b", "priority": 1}],
            "present",
            "[1].priority: 1 is that of 'a' already, and no two queues of a work pool can have the same: write another one.",
        ),
        ([{"name": "a"}, {"name": "a"}], "present", "[1].name: 'p q/a' is in work_queues[0] already: leave one of them out."),
        (
            [{"name": "a", "work_pool": "nowhere"}],
            "present",
            "[0].work_pool: there is no work pool 'nowhere': create it first, or correct the name.",
        ),
        (
            [{"name": "default"}],
            "absent",
            "[0].name: 'default' is the default queue of 'p q' and goes only with it: pause it, or delete the work pool.",
        ),
    ],
)
def test_work_queues_refused(queues, elements, state, message):
    result = run_queues(queues, *elements, state=state)
    assert result["failed"] is True
    assert result["msg"] == f"work_queues{message}"
    assert queues.writes() == []


def test_work_queues_of_no_pool(queues):
    """In check mode, it is one that an earlier task would have made."""
    queues.serve("work_pools", [])
    assert run_queues(queues, {"name": "a"}, check_mode=True)["changed"] is True
    assert run_queues(queues, {"name": "a"}, state="absent")["changed"] is False


def test_work_pool_info(store):
    store.serve("work_pools", [{"name": "p q"}, {"name": "a"}])
    for pool in ("p%20q", "a"):
        store.serve(f"work_pools/{pool}/queues", [{"name": "default"}])
        store.serve(f"work_pools/{pool}/workers", [{"name": "worker"}])
    read = {"work_queues": [{"name": "default"}], "workers": [{"name": "worker"}]}
    assert store.run(prefect_work_pool_info)["work_pools"] == [{"name": "a", **read}, {"name": "p q", **read}]
    assert store.run(prefect_work_pool_info, names=["a", "a"])["work_pools"] == [{"name": "a", **read}]
    assert store.writes() == []


def test_variable_info(store):
    store.serve("variables", [{"name": "a"}, {"name": "b"}])
    assert store.run(prefect_variable_info)["variables"] == [{"name": "a"}, {"name": "b"}]
    assert store.api.requests[0]["body"] == {"offset": 0}
    assert store.run(prefect_variable_info, names=["b"], tags=["t"])["variables"] == [{"name": "b"}]
    assert store.api.requests[0]["body"] == {"variables": {"name": {"any_": ["b"]}, "tags": {"all_": ["t"]}}, "offset": 0}


@pytest.mark.parametrize("module", [prefect_variable_info, prefect_work_pool_info])
def test_info_of_no_server(store, module):
    store.api.routes.clear()
    assert store.run(module)["msg"].endswith("there is no such route (HTTP 404): let api_url end in /api, or upgrade a Prefect that is too old to have this.")
