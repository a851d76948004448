# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.selfhost.prefect.plugins.filter import (
    asyncpg_url,
    asyncpg_url_mask,
    asyncpg_url_parts,
    asyncpg_url_problem,
    auth_string_problem,
    to_prefect_toml,
)

URL = "postgresql+asyncpg://prefect:p%40ss@db.example.com:5432/prefect"
PARTS = {"host": "db.example.com", "port": 5432, "user": "prefect", "password": "p@ss", "name": "prefect"}


def filter_of(module):
    [(name, function)] = module.FilterModule().filters().items()
    assert module.__name__.endswith(f".{name}")
    return function


def test_asyncpg_url():
    assert filter_of(asyncpg_url)(PARTS) == URL


@pytest.mark.parametrize("parts", ["text", None, {}, {"host": "db"}, {"name": ""}])
def test_asyncpg_url_refuses(parts):
    with pytest.raises(AnsibleFilterError, match=r"^asyncpg_url takes a dictionary with at least 'name', the database's$"):
        filter_of(asyncpg_url)(parts)


def test_asyncpg_url_refuses_what_it_does_not_know():
    with pytest.raises(AnsibleFilterError, match=r"^asyncpg_url knows no database, username, only name, host, port, user, password, query$"):
        filter_of(asyncpg_url)({"name": "prefect", "username": "u", "database": "d"})


def test_a_name_that_no_url_carries():
    with pytest.raises(AnsibleFilterError, match=r"^asyncpg_url: its database is called 'a b', "):
        filter_of(asyncpg_url)({"name": "a b"})


def test_asyncpg_url_mask():
    assert filter_of(asyncpg_url_mask)(URL) == "postgresql+asyncpg://prefect:***@db.example.com:5432/prefect"
    assert filter_of(asyncpg_url_mask)(URL, "${PASSWORD}") == "postgresql+asyncpg://prefect:${PASSWORD}@db.example.com:5432/prefect"


def test_asyncpg_url_parts():
    assert filter_of(asyncpg_url_parts)(URL) == {**PARTS, "query": {}}


def test_asyncpg_url_parts_refuses():
    with pytest.raises(AnsibleFilterError, match=r"^This database URL cannot be used: it names no database: write "):
        filter_of(asyncpg_url_parts)("postgresql+asyncpg://u:p@db")


def test_asyncpg_url_problem():
    assert filter_of(asyncpg_url_problem)(URL) == ""
    assert filter_of(asyncpg_url_problem)("postgresql+asyncpg://u:p#w@db/d") == "it holds a '#', which starts a fragment: write %23"


def test_auth_string_problem():
    assert filter_of(auth_string_problem)("prefect:Hw4eV9tqsAbw") == ""
    assert filter_of(auth_string_problem)(12) == "it is not of the form user:password: write both, with a colon between"


def test_to_prefect_toml():
    assert filter_of(to_prefect_toml)({"server": {"api": {"port": 4200}}}) == "[server.api]\nport = 4200\n"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("[server]", "to_prefect_toml takes a dictionary of settings"),
        ({"server": {"ui": {"api_url": None}}}, "These settings cannot be written: server.ui.api_url is None, which TOML cannot say"),
    ],
)
def test_to_prefect_toml_refuses(settings, fault):
    with pytest.raises(AnsibleFilterError) as refusal:
        filter_of(to_prefect_toml)(settings)
    assert str(refusal.value) == fault
