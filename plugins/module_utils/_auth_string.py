# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""What Prefect takes as an auth string, what is too weak for one, and how one is made."""

from __future__ import annotations

import math
import re
import secrets
import string

SHORTEST_PASSWORD = 12
# What a password that is made at random has to have at least; what a person chose cannot be measured so.
FEWEST_BITS = 64
ALPHABET = string.ascii_letters + string.digits
# From Prefect's documentation, charts and well-read tutorials: the first that somebody else would try.
PUBLISHED = re.compile(
    r"(admin|prefect|user|username):(admin|pass|pass123|password|password123|prefect|prefect123|changeme|secret)|.*deadbeef.*", re.IGNORECASE
)
REMEDY = "make one at random, such as by openssl rand -hex 24"


def auth_string_problem(value: str, needs_user: bool = True) -> str:
    """What is wrong with an auth string and what to write instead, without quoting it; nothing when it is right.

    :param needs_user: whether to refuse one without a colon, which Prefect's own clients can send, and no other client of basic auth.
    """
    user, colon, password = value.partition(":")
    if not colon and not needs_user:
        user, password = "-", value
    problems = {
        "it is empty: write user:password": not value,
        "it holds a line break, perhaps at its end: write it in one line, without one": re.search(r"[\r\n]", value),
        "it holds a space or a character outside printable ASCII, which a basic-auth header cannot carry safely: use others": re.search(r"[^\x21-\x7e]", value),
        "it is not of the form user:password: write both, with a colon between": not user or (needs_user and not colon),
        f"it is an example from somebody's documentation, which everybody can read: {REMEDY}": PUBLISHED.fullmatch(value),
        f"its password has {len(password)} characters: use {SHORTEST_PASSWORD} or more, such as by openssl rand -hex 24": len(password) < SHORTEST_PASSWORD,
        f"its password is made of fewer than 6 different characters: {REMEDY}": len(set(password)) < 6,
    }
    return next((problem for problem, found in problems.items() if found), "")


def recipe_problem(user: str, length: int, alphabet: str) -> str:
    """What is wrong with what :func:`make_auth_string` is to make one of, and what to write instead."""
    if not re.fullmatch(r"[\x21-\x39\x3b-\x7e]+", user):
        return "user is empty, or holds a colon, a space or a character outside printable ASCII: use others"
    if not re.fullmatch(r"[\x21-\x7e]+", alphabet) or len(set(alphabet)) < 10:
        return "alphabet needs 10 or more different characters of printable ASCII, without the space"
    bits = length * math.log2(len(set(alphabet)))
    if bits < FEWEST_BITS or length < SHORTEST_PASSWORD:
        enough = max(math.ceil(FEWEST_BITS / math.log2(len(set(alphabet)))), SHORTEST_PASSWORD)
        return f"length is {length}, which is too short with {len(set(alphabet))} different characters: write {enough} or more"
    return ""


def make_auth_string(user: str, length: int, alphabet: str) -> str:
    """One at random."""
    characters = sorted(set(alphabet))
    while auth_string_problem(made := f"{user}:{''.join(secrets.choice(characters) for dummy in range(length))}"):
        pass
    return made
