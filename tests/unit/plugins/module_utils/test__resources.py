# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectError
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Change, InvalidError, Kind, check_limit, check_name, manage, same


class Things(Kind):
    """Things that are kept in this class, in place of a server."""

    option = "things"
    noun = "thing"
    options: t.ClassVar = {"name": {"type": "str", "required": True}, "size": {"type": "int"}, "secret": {"type": "str", "no_log": True}}
    fields: t.ClassVar = {"name": "name", "size": "size", "secret": "secret"}
    needed = ("size",)
    defaults: t.ClassVar = {"secret": "none"}
    kept: t.ClassVar[dict[str, dict[str, t.Any]]] = {}
    log: t.ClassVar[list[str]] = []

    def read(self, elements):
        self.log.append("read")
        return [{"id": name, **fields} for name, fields in self.kept.items()]

    def create(self, after):
        self.log.append(f"create {after['name']}")
        if after["size"] == 404:
            raise PrefectError("POST things: HTTP 422: size: too large", "", "http", 422)
        if after["size"] == 409:
            # Another host is faster; "lost" is gone again at once.
            if after["name"] != "lost":
                self.kept[after["name"]] = {"name": after["name"], "size": 409 if after["name"] == "twin" else 1, "secret": "none"}
            raise PrefectError("POST things: HTTP 409: there already", "", "http", 409)
        self.kept[after["name"]] = after

    def update(self, current, fields):
        self.log.append(f"update {current['name']} {fields}")
        self.kept[current["name"]].update(fields)

    def delete(self, current):
        self.log.append(f"delete {current['name']}")
        del self.kept[current["name"]]

    def check_deletion(self, current):
        if current["name"] == "fixed":
            raise InvalidError("name", "it stays.")

    def order(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            if change.key == "forced":
                change.forced = {"size": 5}
        return super().order(changes)

    def shown(self, fields, _before=None):
        return {name: "masked" if name == "secret" and value else value for name, value in fields.items()}


@pytest.fixture
def things(run_module, monkeypatch):
    monkeypatch.setattr(Things, "kept", {})
    monkeypatch.setattr(Things, "log", [])

    def run(*elements: dict[str, t.Any], **arguments: t.Any) -> dict[str, t.Any]:
        Things.log.clear()
        return run_module(lambda: manage(Things), things=list(elements), **arguments)

    return run


def test_from_nothing_to_nothing(things):
    elements = {"name": "a", "size": 1, "secret": "hidden-value"}, {"name": "b", "size": 2}
    checked = things(*elements, check_mode=True)
    assert Things.log == ["read"]
    done = things(*elements)
    assert Things.log == ["read", "create a", "create b", "read"]
    assert done["changed"] is checked["changed"] is True
    created = {"a": {"name": "a", "size": 1, "secret": "masked"}, "b": {"name": "b", "size": 2, "secret": "masked"}}
    assert done["diff"] == checked["diff"] == {"before": {}, "after": created}
    assert checked["things"] == list(created.values())
    assert done["things"] == [{"id": name, **fields} for name, fields in created.items()]
    assert "hidden-value" not in done["_output"].replace(str(done.get("invocation")), "")
    again = things(*elements)
    assert Things.log == ["read"]
    assert (again["changed"], again["diff"], again["things"]) == (False, {"before": {}, "after": {}}, done["things"])

    grown = things({"name": "b", "size": 3}, {"name": "a"})
    assert Things.log == ["read", "update b {'size': 3}", "read"]
    assert grown["diff"] == {"before": {"b": {"size": 2}}, "after": {"b": {"size": 3}}}
    assert [thing["name"] for thing in grown["things"]] == ["b", "a"]

    gone = things({"name": "a"}, {"name": "never"}, state="absent")
    assert Things.log == ["read", "delete a"]
    assert gone["diff"] == {"before": {"a": created["a"]}, "after": {}}
    assert gone["things"] == []
    assert things({"name": "a"}, state="absent")["changed"] is False


def test_an_empty_list_asks_nothing(things):
    assert things()["changed"] is False
    assert Things.log == []


def test_what_is_gone_again_is_not_in_the_result(things, monkeypatch):
    monkeypatch.setattr(Things, "create", lambda self, after: None)
    assert things({"name": "a", "size": 1})["things"] == []


@pytest.mark.parametrize(
    ("elements", "state", "message"),
    [
        ([{"name": "ok", "size": 1}, {"name": " "}], "present", "things[1].name: it is empty: write a name."),
        ([{"name": "ok", "size": 1}, {"name": "ok"}], "present", "things[1].name: 'ok' is in things[0] already: leave one of them out."),
        ([{"name": "new"}], "present", "things[0].size: it is needed to create the thing 'new', which does not exist yet."),
        ([{"name": "old"}, {"name": "fixed"}], "absent", "things[1].name: it stays."),
    ],
)
def test_bad_input_writes_nothing(things, elements, state, message):
    Things.kept.update({name: {"name": name, "size": 1, "secret": None} for name in ("old", "fixed")})
    for check_mode in (True, False):
        result = things(*elements, state=state, check_mode=check_mode)
        assert result["failed"] is True
        assert result["msg"] == message
        assert Things.log in ([], ["read"])


def test_a_failure_halfway(things):
    result = things(*({"name": name, "size": size} for name, size in (("a", 1), ("b", 404), ("c", 3))))
    assert result["failed"] is True
    assert result["msg"] == "things[1] (b): POST things: HTTP 422: size: too large. Written: a. Not written: b, c."
    assert things({"name": "b", "size": 404})["msg"].endswith(" Written: nothing. Not written: b.")


def test_another_host_is_faster(things):
    assert things({"name": "twin", "size": 409})["changed"] is True
    assert Things.log == ["read", "create twin", "read", "read"]
    assert things({"name": "other", "size": 409})["things"] == [{"id": "other", "name": "other", "size": 409, "secret": "masked"}]
    assert Things.log == ["read", "create other", "read", "update other {'size': 409}", "read"]
    assert things({"name": "lost", "size": 409})["msg"] == "things[0] (lost): POST things: HTTP 409: there already. Written: nothing. Not written: lost."


def test_a_write_that_only_keeps(things):
    Things.kept["forced"] = {"name": "forced", "size": 5, "secret": None}
    assert things({"name": "forced", "size": 5})["changed"] is False
    assert Things.log == ["read", "update forced {'size': 5}", "read"]


def test_no_url(things):
    assert things(api_url="nonsense")["msg"].startswith("api_url is no URL")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(1, True, False), (1, 1.0, False), ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, True), ([1, 2], [2, 1], False), (None, "", False)],
)
def test_same(one, other, expected):
    assert same(one, other) is expected


def test_check_name():
    check_name("name", "a b-c.d_ü")
    with pytest.raises(InvalidError, match=r"^pool: 'a/b<c' holds / <, and Prefect takes none of / % & < > in a name: write it without\.$"):
        check_name("pool", "a/b<c")


@pytest.mark.parametrize(
    ("limit", "lowest", "message"),
    [
        (None, 0, None),
        (0, 0, None),
        (-1, -1, None),
        (-1, 0, "limit: -1 is no limit: write 0 to let none through, or a greater number."),
        (-2, -1, "limit: -2 is no limit: write -1 for none, 0 to let none through, or a greater number."),
    ],
)
def test_check_limit(limit, lowest, message):
    if message is None:
        check_limit("limit", limit, lowest)
    else:
        with pytest.raises(InvalidError) as caught:
            check_limit("limit", limit, lowest)
        assert str(caught.value) == message


def test_a_kind_has_to_say_the_rest():
    kind = Kind(t.cast(t.Any, None))
    for call in (lambda: kind.read([]), lambda: kind.create({}), lambda: kind.update({}, {}), lambda: kind.delete({})):
        with pytest.raises(NotImplementedError):
            call()
    kind.check_deletion({})
    assert kind.shown({"a": 1}) == {"a": 1}
