# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._json_schema import find_problem
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "port": {"type": "integer"},
        "share": {"type": "number"},
        "kind": {"enum": ["info", "failure"]},
        "fixed": {"const": 1},
        "channels": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
        "client": {"allOf": [{"$ref": "#/definitions/Client"}]},
        "both": {"oneOf": [{"$ref": "#/$defs/Small"}, {"type": "boolean"}]},
        "odd": {"anyOf": [{"$ref": "#/definitions/JsonValue"}, {"type": "string"}]},
        "old": {"type": ["string", "null"]},
        "new": {"type": "something new"},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "anything": {},
    },
    "required": ["url"],
    "additionalProperties": False,
    "definitions": {"Client": {"type": "object", "properties": {"verify": {"type": "boolean"}}}},
    "$defs": {"Small": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
}


@pytest.mark.parametrize(
    "value",
    [
        {"port": 1, "share": 0.5, "kind": "info", "fixed": 1},
        {"share": 1, "channels": ["a"], "client": {"verify": True, "more": 1}},
        {"channels": None, "both": {"a": 1}, "odd": {"x": [1]}, "old": None, "new": 3, "anything": [1]},
        {"both": False, "headers": {"a": "b"}},
        # An optional field may be null.
        {"port": None},
        # What Prefect fills in later.
        {"port": "{{ prefect.variables.port }}"},
        {"port": {"__prefect_kind": "json", "value": "1"}},
    ],
)
def test_fits(value):
    assert find_problem({"url": "u", **value}, SCHEMA, "data") is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"url": None}, "data.url: has to be a string"),
        ({"port": "80"}, "data.port: has to be a whole number"),
        ({"port": True}, "data.port: has to be a whole number"),
        ({"share": "x"}, "data.share: has to be a number"),
        ({"kind": "loud"}, "data.kind: has to be 'info' or 'failure'"),
        ({"fixed": 2}, "data.fixed: has to be 1"),
        ({"channels": ["a", 1]}, "data.channels[1]: has to be a string"),
        ({"channels": "a"}, "data.channels: has to be a list or null"),
        ({"client": {"verify": "yes"}}, "data.client.verify: has to be true or false"),
        ({"client": []}, "data.client: has to be a dictionary"),
        ({"both": {}}, "data.both.a: is missing"),
        ({"both": 1}, "data.both: has to be a dictionary or true or false"),
        ({"old": 1}, "data.old: has to be a string or null"),
        ({"headers": {"a": 1}}, "data.headers.a: has to be a string"),
        ({"prot": 80}, f"data.prot: there is no such field, only {', '.join(sorted(SCHEMA['properties']))}"),
    ],
)
def test_does_not_fit(value, problem):
    assert find_problem({"url": "u", **value}, SCHEMA, "data") == problem


def test_missing():
    assert find_problem({}, SCHEMA, "data") == "data.url: is missing"
    assert find_problem({"a": 1}, {"additionalProperties": False}, "data") == "data.a: there is no such field, only none"


def test_a_choice_of_unknown_kinds():
    assert find_problem(1, {"anyOf": [{"enum": ["a"]}, {"enum": ["b"]}]}, "x") == "x: has to be something else"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_never_shows_the_value(value):
    assert find_problem(value, {}, "x") is None
    problem = find_problem({"url": "u", "port": value}, SCHEMA, "data")
    assert problem in (None, "data.port: has to be a whole number")
