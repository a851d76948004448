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
# What asyncpg takes from a URL's query as text, both from SQLAlchemy and from the connection that Prefect listens on:
# https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.connection.connect
QUERY = ("gsslib", "host", "krbsrvname", "passfile", "port", "ssl", "target_session_attrs")
SSL = ("allow", "disable", "prefer", "require", "verify-ca", "verify-full")

# SQLAlchemy 2.0 takes a database's name from the URL as it stands, 2.1 decodes it: only these mean the same to both.
_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class AsyncpgUrlError(ValueError):
    """Says what is wrong with a URL and what to write instead, and never quotes the password."""


def build_url(parts: dict[str, Any]) -> str:
    """The URL of a database.

    :param parts: ``name`` (required), ``host``, ``port``, ``user``, ``password``, ``query``; as they are, not encoded.
        A host that starts with a slash is the folder of a Unix socket.
    :raises AsyncpgUrlError: for a name that no URL can carry safely.
    """
    name = str(parts["name"])
    _refuse_name(name)
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
    return f"{DRIVER}://{login}{'@' if login else ''}{host}{port}/{name}{'?' if arguments else ''}{arguments}"


def parse_url(url: str) -> dict[str, Any]:
    """The parts of a URL, decoded; those that :func:`build_url` takes.

    :raises AsyncpgUrlError: when SQLAlchemy or asyncpg would refuse it, or would read it otherwise than it is meant.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise AsyncpgUrlError(f"it has no '://': write {DRIVER}://user:password@host:5432/name")
    if scheme != DRIVER:
        raise AsyncpgUrlError(f"its driver is '{scheme}': Prefect's server speaks to PostgreSQL by asyncpg only, write {DRIVER}://…")
    address, dummy, arguments = rest.partition("?")
    netloc, dummy, name = address.partition("/")
    _refuse_unencoded(rest, netloc, name, arguments)

    login, dummy, place = netloc.rpartition("@")
    user, dummy, password = login.partition(":")
    host, port = _parse_place(place)
    if port and not _is_port(port):
        raise AsyncpgUrlError("its port is no number from 1 to 65535" + ("" if login else ", or a '/' in its password is not percent-encoded: write %2F"))
    if not name:
        raise AsyncpgUrlError("it names no database: write …/name at its end, such as …:5432/prefect")
    _refuse_name(name)
    query = _parse_query(arguments)
    if not host and "host" not in query:
        raise AsyncpgUrlError("it names no host: write …@host:5432/name, or …@/name?host=/var/run/postgresql for a Unix socket")
    return {"host": host, "port": int(port) if port else None, "user": unquote(user), "password": unquote(password), "name": name, "query": query}


def _refuse_unencoded(rest: str, netloc: str, name: str, arguments: str) -> None:
    if re.search(r"[^\x21-\x7e]", rest):
        raise AsyncpgUrlError("it holds a space or a character outside ASCII: percent-encode it (a space is %20)")
    if "@" in name or "@" in arguments or netloc.count("@") > 1:
        raise AsyncpgUrlError("its user or password holds an '@', '/' or '?' that is not percent-encoded: write %40, %2F, %3F")
    if "#" in rest:
        raise AsyncpgUrlError("it holds a '#', which starts a fragment: write %23")
    if _BAD_PERCENT.search(rest):
        raise AsyncpgUrlError("it holds a '%' that starts no percent-encoded character: write a percent sign as %25")


def _refuse_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AsyncpgUrlError(f"its database is called '{name}', which not every SQLAlchemy reads as it is meant: use letters, digits and - . _ ~ alone")


def _parse_place(place: str) -> tuple[str, str]:
    """Host and port, as text."""
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        well = bracket and colon in ("", ":")
    else:
        host, dummy, port = place.partition(":")
        well = ":" not in port
    if not well:
        raise AsyncpgUrlError("its host is an IPv6 address without brackets: write [2001:db8::1]:5432")
    if "%" in host:
        raise AsyncpgUrlError("its host is percent-encoded, which nothing decodes: write it as it is, and the folder of a Unix socket as …@/name?host=/folder")
    if "," in host:
        raise AsyncpgUrlError("it names several hosts where there is room for one: write …@/name?host=one,two&port=5432,5432")
    return host, port


def _parse_query(arguments: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for key, value in parse_qsl(arguments, keep_blank_values=True):
        if not value:
            raise AsyncpgUrlError(f"it says {key}= and no value, which SQLAlchemy leaves out: write one, or leave it out")
        if key == "sslmode":
            raise AsyncpgUrlError("asyncpg knows no sslmode=: write ?ssl=require, or give a certificate authority in prefect_server_database_tls_ca_file")
        if key not in QUERY:
            raise AsyncpgUrlError(f"asyncpg takes no '{key}' from a URL, only {', '.join(QUERY)}")
        if key == "ssl" and value not in SSL:
            raise AsyncpgUrlError(f"ssl={value} is unknown to asyncpg: write one of {', '.join(SSL)}")
        if key in query:
            raise AsyncpgUrlError(f"it says {key}= twice: write several hosts as host=one,two&port=5432,5432, anything else once")
        query[key] = value
    _refuse_unlike_hosts(query)
    return query


def _refuse_unlike_hosts(query: dict[str, str]) -> None:
    hosts, ports = query.get("host", "").split(","), query.get("port", "").split(",")
    if "port" in query and not all(map(_is_port, ports)):
        raise AsyncpgUrlError(f"port={query['port']} is no number from 1 to 65535: write port=5432, and for two hosts port=5432,5432")
    if any(re.fullmatch(r"[A-Za-z0-9.-]*:[0-9]*", host) for host in hosts):
        raise AsyncpgUrlError(f"host={query['host']} holds a port: write host=one&port=5432, and for two hosts host=one,two&port=5432,5432")
    if len(hosts) != len(ports) or (len(hosts) > 1 and not all(hosts)):
        raise AsyncpgUrlError("it names not as many ports as hosts: write host=one,two&port=5432,5432")


def _is_port(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def mask_url(url: str, mask: str = "***") -> str:
    """The URL with something else in the password's place."""
    scheme, separator, rest = url.partition("://")
    login, at, address = rest.rpartition("@")
    user, colon, password = login.partition(":")
    return f"{scheme}{separator}{user}{colon}{mask if password else ''}{at}{address}"
