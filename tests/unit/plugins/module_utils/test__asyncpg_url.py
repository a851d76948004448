# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.filter.asyncpg_url_problem import asyncpg_url_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import DRIVER, QUERY, AsyncpgUrlError, build_url, mask_url, parse_url
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

TEXT_CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.text(TEXT_CHARACTERS)
HOSTS = st.from_regex(r"[a-z0-9.-]+", fullmatch=True) | st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
QUERIES = st.dictionaries(st.sampled_from([key for key in QUERY if key not in ("host", "port", "ssl")]), st.text(TEXT_CHARACTERS, min_size=1))
PARTS = st.fixed_dictionaries(
    {
        "host": HOSTS,
        "port": st.none() | st.integers(1, 65535),
        "user": st.text(TEXT_CHARACTERS, min_size=1),
        "password": TEXT,
        "name": st.from_regex(r"[A-Za-z0-9._~-]+", fullmatch=True),
        "query": QUERIES,
    }
)


@given(PARTS)
def test_a_url_that_was_built_has_the_same_parts(parts):
    assert parse_url(build_url(parts)) == parts


@given(PARTS)
def test_sqlalchemy_reads_the_same_parts(parts):
    url = make_url(build_url(parts))
    assert url.get_backend_name() == "postgresql"
    assert url.get_driver_name() == "asyncpg"
    read = {"host": url.host, "port": url.port, "user": url.username, "password": url.password or "", "name": url.database, "query": dict(url.query)}
    assert read == parts


@given(PARTS)
def test_what_sqlalchemy_writes_is_read_as_it_was_meant(parts):
    login = {"username": parts["user"], "password": parts["password"] or None}
    url = URL.create(DRIVER, host=parts["host"], port=parts["port"], database=parts["name"], query=parts["query"], **login)
    text = url.render_as_string(hide_password=False)
    # It leaves a space as it is, which is too often a mistake.
    assume(" " not in text)
    assert parse_url(text) == parts


# Parts that are often well, and often not.
PLACES = st.sampled_from(["", "db", "db:5432", "db:0", "db:x", "[::1]", "[::1]:5432", "::1", "one,two"])
LOGINS = st.sampled_from(["", "u@", "u:p@", ":p@", "u:p:w@", "u:p%40w@", "u:p/w@", "u:p%@", "@"])
NAMES = st.sampled_from(["", "/", "/d", "/d%20e", "/d#e", "/d/e"])
HOST_QUERIES = st.lists(
    st.sampled_from(["host=one", "host=one,two", "host=/run", "host=one:1", "host=,", "port=1", "port=1,2", "port=x", "port=", "ssl=require"])
)


@given(LOGINS, PLACES, NAMES, HOST_QUERIES)
def test_what_is_taken_leads_sqlalchemy_to_the_same_place(login, place, name, query):
    text = f"{DRIVER}://{login}{place}{name}?{'&'.join(query)}"
    if asyncpg_url_problem(text):
        return
    (_none, wanted) = PGDialect_asyncpg().create_connect_args(make_url(text))
    asked = Database(text, settings={}, python="").wish()["arguments"]
    for key in ("host", "port"):
        if key in wanted:
            wanted[key] = wanted[key] if isinstance(wanted[key], list) else [wanted[key]]
    # SQLAlchemy's default for the host is none, and a user may be left to asyncpg.
    assert asked == {key: value for key, value in wanted.items() if value != ""}


@given(PARTS)
def test_a_mask_hides_the_password_and_nothing_else(parts):
    masked = mask_url(build_url(parts), "${PASSWORD}")
    assert masked == build_url({**parts, "password": "X-X-X" if parts["password"] else ""}).replace("X-X-X", "${PASSWORD}", 1)


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "a%20b", "a\n", ""])
def test_refuses_a_name_that_not_every_sqlalchemy_reads(name):
    with pytest.raises(AsyncpgUrlError, match=r"^its database is called '"):
        build_url({"name": name})


def test_what_the_parts_may_leave_out():
    assert build_url({"name": "prefect"}) == "postgresql+asyncpg:///prefect"
    assert build_url({"name": "prefect", "user": "u", "host": "db"}) == "postgresql+asyncpg://u@db/prefect"
    assert build_url({"name": "prefect", "host": "[::1]", "port": 5432}) == "postgresql+asyncpg://[::1]:5432/prefect"


def test_a_socket():
    url = build_url({"name": "prefect", "user": "u", "host": "/var/run/postgresql", "query": {"ssl": "disable"}})
    assert url == "postgresql+asyncpg://u@/prefect?host=/var/run/postgresql&ssl=disable"
    assert parse_url(url) == {
        "host": "",
        "port": None,
        "user": "u",
        "password": "",
        "name": "prefect",
        "query": {"host": "/var/run/postgresql", "ssl": "disable"},
    }


def test_several_hosts():
    assert parse_url("postgresql+asyncpg://u:p@/prefect?host=one,two&port=5432,5433")["query"] == {"host": "one,two", "port": "5432,5433"}


def test_a_password_is_cut_at_the_first_colon():
    assert parse_url("postgresql+asyncpg://u:p:w@db/prefect")["password"] == "p:w"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("db.example.com", "it has no '://': write postgresql+asyncpg://user:password@host:5432/name"),
        ("postgresql://u:p@db/prefect", "its driver is 'postgresql': Prefect's server speaks to PostgreSQL by asyncpg only, write postgresql+asyncpg://…"),
        (
            "postgresql+psycopg2://u:p@db/d",
            "its driver is 'postgresql+psycopg2': Prefect's server speaks to PostgreSQL by asyncpg only, write postgresql+asyncpg://…",
        ),
        ("postgresql+asyncpg://u:p w@db/d", "it holds a space or a character outside ASCII: percent-encode it (a space is %20)"),
        ("postgresql+asyncpg://u:pä@db/d", "it holds a space or a character outside ASCII: percent-encode it (a space is %20)"),
        ("postgresql+asyncpg://u:p\n@db/d", "it holds a space or a character outside ASCII: percent-encode it (a space is %20)"),
        ("postgresql+asyncpg://u:p@w@db/d", "its user or password holds an '@', '/' or '?' that is not percent-encoded: write %40, %2F, %3F"),
        ("postgresql+asyncpg://u:p/w@db/d", "its user or password holds an '@', '/' or '?' that is not percent-encoded: write %40, %2F, %3F"),
        ("postgresql+asyncpg://u:p?w@db/d", "its user or password holds an '@', '/' or '?' that is not percent-encoded: write %40, %2F, %3F"),
        ("postgresql+asyncpg://u:p#w@db/d", "it holds a '#', which starts a fragment: write %23"),
        ("postgresql+asyncpg://u:p%w@db/d", "it holds a '%' that starts no percent-encoded character: write a percent sign as %25"),
        ("postgresql+asyncpg://u:p@2001:db8::1/d", "its host is an IPv6 address without brackets: write [2001:db8::1]:5432"),
        ("postgresql+asyncpg://u:p@[2001:db8::1/d", "its host is an IPv6 address without brackets: write [2001:db8::1]:5432"),
        ("postgresql+asyncpg://u:p@[::1]5432/d", "its host is an IPv6 address without brackets: write [2001:db8::1]:5432"),
        (
            "postgresql+asyncpg://u:p@%2Frun/d",
            "its host is percent-encoded, which nothing decodes: write it as it is, and the folder of a Unix socket as …@/name?host=/folder",
        ),
        (
            "postgresql+asyncpg://u:p@one,two/d",
            "it names several hosts where there is room for one: write …@/name?host=one,two&port=5432,5432",
        ),
        ("postgresql+asyncpg://u:p@db:0/d", "its port is no number from 1 to 65535"),
        ("postgresql+asyncpg://u:p@db:65536/d", "its port is no number from 1 to 65535"),
        ("postgresql+asyncpg://u:p@db:postgresql/d", "its port is no number from 1 to 65535"),
        ("postgresql+asyncpg://u:p/w", "its port is no number from 1 to 65535, or a '/' in its password is not percent-encoded: write %2F"),
        ("postgresql+asyncpg://u:p@db:5432", "it names no database: write …/name at its end, such as …:5432/prefect"),
        ("postgresql+asyncpg://u:p@db/", "it names no database: write …/name at its end, such as …:5432/prefect"),
        (
            "postgresql+asyncpg://u:p@db/d%20e",
            "its database is called 'd%20e', which not every SQLAlchemy reads as it is meant: use letters, digits and - . _ ~ alone",
        ),
        ("postgresql+asyncpg://u:p@/d", "it names no host: write …@host:5432/name, or …@/name?host=/var/run/postgresql for a Unix socket"),
        (
            "postgresql+asyncpg://u:p@db/d?sslmode=require",
            "asyncpg knows no sslmode=: write ?ssl=require, or give a certificate authority in prefect_server_database_tls_ca_file",
        ),
        (
            "postgresql+asyncpg://u:p@db/d?timeout=5",
            "asyncpg takes no 'timeout' from a URL, only gsslib, host, krbsrvname, passfile, port, ssl, target_session_attrs",
        ),
        ("postgresql+asyncpg://u:p@db/d?ssl=true", "ssl=true is unknown to asyncpg: write one of allow, disable, prefer, require, verify-ca, verify-full"),
        ("postgresql+asyncpg://u:p@db/d?passfile=", "it says passfile= and no value, which SQLAlchemy leaves out: write one, or leave it out"),
        (
            "postgresql+asyncpg://u:p@/d?host=one&port=x",
            "port=x is no number from 1 to 65535: write port=5432, and for two hosts port=5432,5432",
        ),
        (
            "postgresql+asyncpg://u:p@/d?host=one:5432",
            "host=one:5432 holds a port: write host=one&port=5432, and for two hosts host=one,two&port=5432,5432",
        ),
        ("postgresql+asyncpg://u:p@/d?host=one,two", "it names not as many ports as hosts: write host=one,two&port=5432,5432"),
        ("postgresql+asyncpg://u:p@/d?host=one,&port=1,2", "it names not as many ports as hosts: write host=one,two&port=5432,5432"),
        (
            "postgresql+asyncpg://u:p@/d?host=one&host=two",
            "it says host= twice: write several hosts as host=one,two&port=5432,5432, anything else once",
        ),
    ],
)
def test_refuses(url, fault):
    with pytest.raises(AsyncpgUrlError) as refusal:
        parse_url(url)
    assert str(refusal.value) == fault


@given(st.text(TEXT_CHARACTERS, min_size=1))
def test_a_refusal_never_quotes_the_password(password):
    problem = asyncpg_url_problem(f"postgresql+asyncpg://user:Zq7-{password}-7qZ@db.example.com:5432/prefect")
    assert "Zq7" not in problem
    assert "7qZ" not in problem


def test_a_mask_leaves_a_url_without_a_password_alone():
    assert mask_url("sqlite+aiosqlite:////var/lib/prefect.db") == "sqlite+aiosqlite:////var/lib/prefect.db"
    assert mask_url("postgresql+asyncpg://u@db/prefect") == "postgresql+asyncpg://u@db/prefect"
    assert mask_url("postgresql+asyncpg://u:p@ss@db/prefect") == "postgresql+asyncpg://u:***@db/prefect"
