# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._auth_string import auth_string_problem, make_auth_string, recipe_problem
from hypothesis import given
from hypothesis import strategies as st

PUBLISHED = "it is an example from somebody's documentation, which everybody can read: make one at random, such as by openssl rand -hex 24"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "it is empty: write user:password"),
        ("prefect:something-long\n", "it holds a line break, perhaps at its end: write it in one line, without one"),
        ("prefect:something\rlong", "it holds a line break, perhaps at its end: write it in one line, without one"),
        (
            "prefect:some thing long",
            "it holds a space or a character outside printable ASCII, which a basic-auth header cannot carry safely: use others",
        ),
        (
            "prefect:somethingläng",
            "it holds a space or a character outside printable ASCII, which a basic-auth header cannot carry safely: use others",
        ),
        ("somethinglongbutalone", "it is not of the form user:password: write both, with a colon between"),
        (":somethinglongbutalone", "it is not of the form user:password: write both, with a colon between"),
        ("admin:pass", PUBLISHED),
        ("ADMIN:Pass", PUBLISHED),
        ("prefect:0123deadbeef4567", PUBLISHED),
        ("prefect:elevenchars", "its password has 11 characters: use 12 or more, such as by openssl rand -hex 24"),
        ("prefect:", "its password has 0 characters: use 12 or more, such as by openssl rand -hex 24"),
        ("prefect:abcababcabacabc", "its password is made of fewer than 6 different characters: make one at random, such as by openssl rand -hex 24"),
        ("prefect:twelve-chars", ""),
        ("prefect:a:b:c:d:e:f:g", ""),
        ("prefect:made-up-&3-$`\"'\\%{{", ""),
    ],
)
def test_tells_the_problem(value, problem):
    assert auth_string_problem(value) == problem


@given(st.text())
def test_never_quotes_the_value(value):
    assert f"Zq7{value}" not in auth_string_problem(f"user:Zq7{value}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("somethinglongbutalone", ""),
        ("user:somethinglong", ""),
        ("", "it is empty: write user:password"),
        (":somethinglongbutalone", "it is not of the form user:password: write both, with a colon between"),
        ("made-up-one", "its password has 11 characters: use 12 or more, such as by openssl rand -hex 24"),
        ("0123deadbeef4567", PUBLISHED),
    ],
)
def test_a_colon_may_be_left_to_the_caller(value, problem):
    assert auth_string_problem(value, needs_user=False) == problem


PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7F)


@given(st.text(PRINTABLE, max_size=8), st.integers(0, 64), st.text(PRINTABLE))
def test_what_is_made_can_be_used(user, length, alphabet):
    if not recipe_problem(user, length, alphabet):
        made = make_auth_string(user, length, alphabet)
        assert auth_string_problem(made) == ""
        assert made.startswith(f"{user}:")
        assert len(made) == len(user) + 1 + length
        assert set(made[len(user) + 1 :]) <= set(alphabet)


def test_one_that_cannot_be_used_is_made_again(monkeypatch):
    drawn = iter("aaaaaaaaaaaa" + "0123456789ab")
    monkeypatch.setattr("secrets.choice", lambda _characters: next(drawn))
    assert make_auth_string("user", 12, "0123456789ab") == "user:0123456789ab"
