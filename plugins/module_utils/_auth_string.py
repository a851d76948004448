# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""What Prefect takes as an auth string, and what is too weak for one."""

from __future__ import annotations

import re

SHORTEST_PASSWORD = 12
# From Prefect's documentation, charts and well-read tutorials: the first that somebody else would try.
PUBLISHED = re.compile(r"(admin|prefect|user|username):(admin|pass|pass123|password|password123|prefect|prefect123|changeme|secret)|.*deadbeef.*", re.IGNORECASE)


def auth_string_problem(value: str) -> str:
    """What is wrong with an auth string and what to write instead, without quoting it; nothing when it is right."""
    password = value.partition(":")[2] if ":" in value else value
    if not value:
        return "it is empty: write user:password"
    if re.search(r"[\r\n]", value):
        return "it holds a line break, perhaps at its end: write it in one line, without one"
    if re.search(r"[^\x21-\x7e]", value):
        return "it holds a space or a character outside printable ASCII, which a basic-auth header cannot carry safely: use others"
    if PUBLISHED.fullmatch(value):
        return "it is an example from somebody's documentation, which everybody can read: make one of your own, such as by openssl rand -hex 24"
    if len(password) < SHORTEST_PASSWORD:
        return f"its password has {len(password)} characters: use {SHORTEST_PASSWORD} or more, such as by openssl rand -hex 24"
    if len(set(password)) < 6:
        return "its password is made of fewer than 6 different characters: make one at random, such as by openssl rand -hex 24"
    return ""
