# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math
import re

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._toml import TomlError, dumps
from hypothesis import given
from hypothesis import strategies as st

tomllib = pytest.importorskip("tomllib")  # Python 3.11

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(st.dictionaries(TEXT, VALUES))
def test_is_read_back_as_it_was(data):
    assert tomllib.loads(dumps(data)) == data


def test_is_what_a_person_would_write():
    settings = {"server": {"api": {"port": 4200, "host": "127.0.0.1"}, "log": True, "services": {"late_runs": {"enabled": False}}}, "a key": [1, {"x": 0.5}]}
    assert dumps(settings) == (
        '"a key" = [1, {x = 0.5}]\n\n[server]\nlog = true\n\n[server.api]\nport = 4200\nhost = "127.0.0.1"\n\n[server.services.late_runs]\nenabled = false\n'
    )


def test_an_empty_table_is_kept():
    assert dumps({"server": {"ui": {}}}) == "[server.ui]\n"
    assert dumps({}) == ""


def test_what_is_no_number():
    assert dumps({"a": math.inf, "b": -math.inf, "c": math.nan}) == "a = inf\nb = -inf\nc = nan\n"


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({"server": {"api": {"base_path": None}}}, "server.api.base_path is None, which TOML cannot say"),
        ({"server": {"list": [1, None]}}, "server.list is None, which TOML cannot say"),
        ({"server": {"list": [{"deep": b"x"}]}}, "server.list.deep is b'x', which TOML cannot say"),
        ({"server": {4: 5}}, "the key 4 is no text"),
    ],
)
def test_refuses(data, fault):
    with pytest.raises(TomlError, match=f"^{re.escape(fault)}$"):
        dumps(data)
