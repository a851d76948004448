# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""What Prefect takes as an auth string, and what is too weak for one."""

from __future__ import annotations

import re

SHORTEST_PASSWORD = 12
# From Prefect's documentation, charts and well-read tutorials: the first that somebody else would try.
PUBLISHED = re.compile(
    r"(admin|prefect|user|username):(admin|pass|pass123|password|password123|prefect|prefect123|changeme|secret)|.*deadbeef.*", re.IGNORECASE
)
REMEDY = "make one at random, such as by openssl rand -hex 24"


def auth_string_problem(value: str) -> str:
    """What is wrong with an auth string and what to write instead, without quoting it; nothing when it is right."""
    user, colon, password = value.partition(":")
    problems = {
        "it is empty: write user:password": not value,
        "it holds a line break, perhaps at its end: write it in one line, without one": re.search(r"[\r\n]", value),
        "it holds a space or a character outside printable ASCII, which a basic-auth header cannot carry safely: use others": re.search(r"[^\x21-\x7e]", value),
        "it is not of the form user:password: write both, with a colon between": not user or not colon,
        f"it is an example from somebody's documentation, which everybody can read: {REMEDY}": PUBLISHED.fullmatch(value),
        f"its password has {len(password)} characters: use {SHORTEST_PASSWORD} or more, such as by openssl rand -hex 24": len(password) < SHORTEST_PASSWORD,
        f"its password is made of fewer than 6 different characters: {REMEDY}": len(set(password)) < 6,
    }
    return next((problem for problem, found in problems.items() if found), "")
