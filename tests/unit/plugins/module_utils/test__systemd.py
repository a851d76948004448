# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._systemd import EnvironmentFileError, environment_file
from hypothesis import given
from hypothesis import strategies as st


def test_one_line_for_each():
    variables = {"A": "plain", "B_2": 5, "c": True, "D": False, "E": None, "F": 'a\\b"c$d`e f\tg%h', "G": " ä "}
    assert environment_file(variables) == ('A="plain"\nB_2="5"\nc="true"\nD="false"\nE=""\nF="a\\\\b\\"c\\$d\\`e f\tg%h"\nG=" ä "\n')
    assert environment_file({}) == ""


@given(st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32, exclude_characters="\x7f")))
def test_a_shell_reads_it_as_systemd_does(value):
    # systemd's own reading is tested where a systemd runs; its rules for double quotes are the shell's.
    assert shlex.split(environment_file({"A": value.replace("$", "").replace("`", "")})) == [f"A={value.replace('$', '').replace('`', '')}"]


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"A-B": 1}, "'A-B' is no name of an environment variable: use letters, digits and underscores"),
        ({"1A": 1}, "'1A' is no name of an environment variable: use letters, digits and underscores"),
        ({"": 1}, "'' is no name of an environment variable: use letters, digits and underscores"),
        ({"A\n": 1}, "'A\n' is no name of an environment variable: use letters, digits and underscores"),
        ({"A": "secret\nsecret"}, "The environment variable A holds a line break or another control character: take it out"),
        ({"A": "secret\x00"}, "The environment variable A holds a line break or another control character: take it out"),
        ({"A": ["secret"]}, "The environment variable A is a list or a dictionary: write its value as text"),
        ({"A": {"secret": 1}}, "The environment variable A is a list or a dictionary: write its value as text"),
    ],
)
def test_refuses(variables, fault):
    with pytest.raises(EnvironmentFileError) as refusal:
        environment_file(variables)
    assert str(refusal.value) == fault
