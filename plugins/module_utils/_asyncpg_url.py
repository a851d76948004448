# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""URLs of a PostgreSQL database as SQLAlchemy's asyncpg dialect reads them: `postgresql+asyncpg://user:password@host:port/name?query`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

DRIVER = "postgresql+asyncpg"
# What asyncpg.connect() takes from a URL's query and understands as text. Of `ssl` it knows these values:
# https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.connection.connect
QUERY = ("gsslib", "host", "krbsrvname", "passfile", "port", "prepared_statement_cache_size", "ssl", "target_session_attrs")
SSL = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")

# No part of a URL, only the password may hold anything (percent-encoded), and so it is never quoted in a fault.
_NETLOC = re.compile(r"(?:(?P<userinfo>[^@]*)@)?(?:(?P<bracketed>\[[^\]]*\])|(?P<host>[^:]*))?(?::(?P<port>.*))?")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class AsyncpgUrlError(ValueError):
    """Says what is wrong with a URL and what to write instead, and never quotes the password."""


def build_url(parts: dict[str, Any]) -> str:
    """The URL of a database.

    :param parts: ``name`` (required), ``host``, ``port``, ``user``, ``password``, ``query``; as they are, not encoded.
        A host that starts with a slash is the folder of a Unix socket.
    """
    host, query = str(parts.get("host") or ""), dict(parts.get("query") or {})
    if host.startswith("/"):
        query, host = {"host": host, **query}, ""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    login = quote(str(parts.get("user") or ""), safe="")
    if parts.get("password"):
        login += ":" + quote(str(parts["password"]), safe="")
    port = f":{parts['port']}" if parts.get("port") else ""
    arguments = "&".join(f"{quote(key, safe='')}={quote(str(value), safe='/')}" for key, value in query.items())
    return f"{DRIVER}://{login}{'@' if login else ''}{host}{port}/{quote(str(parts['name']), safe='')}{'?' if arguments else ''}{arguments}"


def parse_url(url: str) -> dict[str, Any]:
    """The parts of a URL, decoded; those that :func:`build_url` takes.

    :raises AsyncpgUrlError: when SQLAlchemy or asyncpg would refuse it, or would read it otherwise than it is meant.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise AsyncpgUrlError(f"it has no '://': write {DRIVER}://user:password@host:5432/name")
    if scheme != DRIVER:
        raise AsyncpgUrlError(f"its driver is '{scheme}': Prefect's server speaks to PostgreSQL by asyncpg only, write {DRIVER}://…")
    if re.search(r"[^\x21-\x7e]", rest):
        raise AsyncpgUrlError("it holds a space or a character outside ASCII: percent-encode it (a space is %20)")
    address, dummy, arguments = rest.partition("?")
    netloc, dummy, name = address.partition("/")
    if "@" in name or "@" in arguments or netloc.count("@") > 1:
        raise AsyncpgUrlError("its user or password holds an '@', '/' or '?' that is not percent-encoded: write %40, %2F, %3F")
    if "#" in rest:
        raise AsyncpgUrlError("it holds a '#', which starts a fragment: write %23")
    if _BAD_PERCENT.search(rest):
        raise AsyncpgUrlError("it holds a '%' that starts no percent-encoded character: write a percent sign as %25")

    found = _NETLOC.fullmatch(netloc)
    host = (found["bracketed"] or found["host"] or "") if found else ""
    port = (found["port"] or "") if found else ""
    if not found or (not found["bracketed"] and port.count(":")):
        raise AsyncpgUrlError("its host is an IPv6 address without brackets: write [2001:db8::1]:5432")
    if port and not (port.isdigit() and 1 <= int(port) <= 65535):
        raise AsyncpgUrlError("its port is no number from 1 to 65535" + (", or its password holds a ':' or '/' that is not percent-encoded" if not found["userinfo"] else ""))
    if not name:
        raise AsyncpgUrlError("it names no database: write …/name at its end, such as …:5432/prefect")

    user, dummy, password = (found["userinfo"] or "").partition(":")
    return {
        "host": unquote(host.strip("[]")),
        "port": int(port) if port else None,
        "user": unquote(user),
        "password": unquote(password),
        "name": unquote(name),
        "query": _parse_query(arguments, host),
    }


def _parse_query(arguments: str, host: str) -> dict[str, str]:
    query = dict(parse_qsl(arguments, keep_blank_values=True))
    for key, value in query.items():
        if key == "sslmode":
            raise AsyncpgUrlError("asyncpg knows no sslmode=: write ?ssl=require, or give a certificate authority in prefect_server_database_tls_ca_file")
        if key not in QUERY:
            raise AsyncpgUrlError(f"asyncpg takes no '{key}' from a URL, only {', '.join(QUERY)}")
        if key == "ssl" and value not in SSL:
            raise AsyncpgUrlError(f"ssl={value} is unknown to asyncpg: write one of {', '.join(SSL)}")
    if not host and "host" not in query:
        raise AsyncpgUrlError("it names no host: write …@host:5432/name, or …@/name?host=/var/run/postgresql for a Unix socket")
    return query


def mask_url(url: str, mask: str = "***") -> str:
    """The URL with something else in the password's place."""
    scheme, separator, rest = url.partition("://")
    login, at, address = rest.rpartition("@")
    user, colon, dummy = login.partition(":")
    return f"{scheme}{separator}{user}{colon}{mask if colon else ''}{at}{address}"
