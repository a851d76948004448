# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""The one client of Prefect's REST API: standard library and ansible.module_utils only."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import ssl
import time
import typing as t
import uuid
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from ansible.module_utils.urls import Request
from ansible_collections.selfhost.prefect.plugins.module_utils._connection import USER_AGENT, explain_connection_error

# A server that restarts is back within seconds.
BACKOFF = (0.5, 1.0, 2.0, 4.0)
RETRIED_STATUS = (429, 502, 503, 504)
# POST requests that only read.
READING_POST = re.compile(r"/(filter|count|paginate)$")


def prefect_argument_spec() -> dict[str, dict[str, t.Any]]:
    """Options of every module that talks to Prefect's API (doc fragment _prefect)."""
    return {
        "api_url": {"type": "str", "default": "http://127.0.0.1:4200/api"},
        "auth_string": {"type": "str", "no_log": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "int", "default": 30},
    }


class PrefectError(Exception):
    """A request that failed, as one sentence to show to a person: the problem and its remedy.

    kind: url, dns, refused, timeout, tls, connection (no answer), redirect, not_json, http (an answer that says no).
    detail: Prefect's own words, where it said any.
    """

    def __init__(self, problem: str, remedy: str, kind: str, status: int | None = None, detail: str | None = None) -> None:
        super().__init__(f"{problem}: {remedy}." if remedy else f"{problem}.")
        self.problem = problem
        self.remedy = remedy
        self.kind = kind
        self.status = status
        self.detail = detail


def parse_version(version: str) -> tuple[int, ...]:
    """Give the numbers of a version; () of none."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(number) for number in match.groups()) if match else ()


def tls_context(ca_path: str | None) -> ssl.SSLContext:
    """Trust ca_path alone where it is given, else what the system trusts."""
    if ca_path and not os.path.isfile(ca_path):
        raise PrefectError(f"ca_path {ca_path} is no file on this host", "give the path of a PEM bundle that exists there", "tls")
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except OSError as exc:
        raise PrefectError(f"ca_path {ca_path} cannot be read ({exc})", "give the path of a PEM bundle of certificates", "tls") from exc


class PrefectClient:
    """Requests to one Prefect API; paths are relative to api_url."""

    def __init__(self, api_url: str, auth_string: str | None = None, ca_path: str | None = None, timeout: float = 30) -> None:
        self.api_url = api_url.rstrip("/")
        self.auth_string = auth_string or None
        self.ca_path = ca_path or None
        self.timeout = timeout
        try:
            parts = urlsplit(self.api_url)
            self.host, self.port = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            self.host = ""
        if not self.host:
            raise PrefectError("api_url is no URL of an API", "write it like https://prefect.example.com/api", "url")
        if "@" in parts.netloc:
            raise PrefectError("api_url carries a user name or password", "give user:password as auth_string instead", "url")
        self.tls = parts.scheme == "https"
        self.netloc, self.base_path = parts.netloc, parts.path
        self.address = f"{parts.scheme}://{parts.netloc}"
        # Loading the system's bundle takes longer than a request: once, and only where TLS is spoken.
        self.context = tls_context(ca_path) if self.tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.auth_string:
            headers["Authorization"] = "Basic " + base64.b64encode(self.auth_string.encode()).decode()
        # A redirect would turn POST into GET and may carry the auth string to another host: it is reported, not followed.
        self._http = Request(headers=headers, http_agent=USER_AGENT, follow_redirects="none", use_netrc=False, context=self.context)
        self._csrf: dict[str, str] = {}
        # When the last answer was sent, by the clock of what sent it.
        self.date = ""

    @classmethod
    def from_params(cls, params: dict[str, t.Any]) -> PrefectClient:
        """Make the client that a module's parameters describe."""
        return cls(params["api_url"], params["auth_string"], params["ca_path"], params["timeout"])

    @staticmethod
    def quote(name: str) -> str:
        """Make a name fit to be a part of a path."""
        return quote(name, safe="")

    def get(self, path: str, missing_ok: bool = False) -> t.Any:
        """Read; with missing_ok an object that does not exist is None."""
        return self.request("GET", path, missing_ok=missing_ok)

    def post(self, path: str, body: t.Any = None, repeatable: bool | None = None) -> t.Any:
        """Create or query; repeatable says that the same request twice does no harm."""
        return self.request("POST", path, {} if body is None else body, repeatable=repeatable)

    def put(self, path: str, body: t.Any) -> t.Any:
        """Replace."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: t.Any) -> t.Any:
        """Change the fields that body names."""
        return self.request("PATCH", path, body)

    def delete(self, path: str, missing_ok: bool = True) -> t.Any:
        """Delete; what is gone already is fine."""
        return self.request("DELETE", path, missing_ok=missing_ok)

    def filter(self, path: str, body: dict[str, t.Any] | None = None, most: int | None = None) -> list[t.Any]:
        """Give all the results of a POST .../filter, page by page; most is how many there can be, where that is known.

        The page size is the server's: a limit above its server.api.default_limit would be refused. So the last page is
        one that is empty, or shorter than the one before it.
        """
        found: list[t.Any] = []
        size = 0
        while page := self.post(path, {**(body or {}), "offset": len(found)}):
            found += page
            if len(page) < size or len(found) == most:
                break
            size = len(page)
        return found

    def request(self, method: str, path: str, body: t.Any = None, missing_ok: bool = False, repeatable: bool | None = None) -> t.Any:
        """Send one request, again after a passing failure, and give back the JSON of the answer."""
        if repeatable is None:
            repeatable = method != "POST" or READING_POST.search(path) is not None
        deadline = time.monotonic() + self.timeout
        pauses = list(BACKOFF)
        renewed = False
        while True:
            try:
                return self._send(method, path, body)
            except PrefectError as exc:
                # Prefect's own 404 names the object; a bare "Not Found" is a route that does not exist, so a wrong api_url.
                if missing_ok and exc.status == 404 and exc.detail not in (None, "Not Found"):
                    return None
                if exc.status == 403 and "CSRF" in (exc.detail or "") and not renewed:
                    renewed = True
                    self._renew_csrf()
                    continue
                # What may have arrived is sent again only if it does no harm twice.
                passing = exc.kind == "refused" or exc.status in (429, 503)
                if repeatable:
                    passing = passing or exc.kind in ("timeout", "connection", "dns") or exc.status in RETRIED_STATUS
                if not passing or not pauses or time.monotonic() + pauses[0] > deadline:
                    raise
            time.sleep(pauses.pop(0))

    def _renew_csrf(self) -> None:
        client = self._csrf.get("Prefect-Csrf-Client") or str(uuid.uuid4())
        token = self.get(f"csrf-token?client={client}")["token"]
        self._csrf = {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token}

    def _send(self, method: str, path: str, body: t.Any) -> t.Any:
        url = f"{self.api_url}/{path.lstrip('/')}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with self._http.open(method, url, data=data, timeout=self.timeout, headers=dict(self._csrf)) as response:
                status, headers, content = response.status, response.headers, response.read()
                self.date = headers.get("Date") or ""
        except HTTPError as exc:
            with exc:
                try:
                    content = exc.read()
                except (OSError, http.client.HTTPException):
                    content = b""
                raise self._error(f"{method} {url}", exc.code, exc.headers, content) from None
        except (OSError, http.client.HTTPException) as exc:
            problem, remedy, kind = explain_connection_error(exc, self.address)
            raise PrefectError(f"{method} {url}: {problem}", remedy, kind) from exc
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            problem = f"{method} {url}: answered HTTP {status} with {_describe(headers, content)}, not with Prefect's JSON"
            raise PrefectError(problem, "set api_url to the address of the API, which ends in /api by default", "not_json", status) from None

    def _error(self, request: str, status: int, headers: t.Any, content: bytes) -> PrefectError:
        detail = _detail(content)
        kind, remedy = "http", ""
        if 300 <= status < 400:
            kind, problem = "redirect", f"redirects (HTTP {status}) to {headers.get('Location') or 'nowhere'}"
            remedy = "set api_url to the address that answers itself"
        elif detail is None:
            problem = f"answered HTTP {status} with {_describe(headers, content)}, not with Prefect's JSON"
            remedy = {
                401: "a proxy in front asks for a password of its own, switch that off for the API",
                502: "the proxy in front does not reach the server, start the server or correct the proxy's upstream",
                503: "the proxy in front does not reach the server, start the server or correct the proxy's upstream",
                504: "the server does not answer the proxy in front in time, look at its load and its database",
            }.get(status, "correct api_url, or the proxy in front of it")
        elif status == 401:
            problem = "Prefect refused the auth string (HTTP 401)" if self.auth_string else "Prefect asks for an auth string (HTTP 401)"
            remedy = "give the server's own, user:password as in its server.api.auth_string, as auth_string"
        elif status == 404 and detail == "Not Found":
            problem = "there is no such route (HTTP 404)"
            remedy = "let api_url end in /api, or upgrade a Prefect that is too old to have this"
        else:
            problem = f"HTTP {status}: {detail.rstrip('.')}"
        return PrefectError(f"{request}: {problem}", remedy, kind, status, detail)


def _detail(content: bytes) -> str | None:
    """Take Prefect's own words out of an error's body; never the input that it quotes, which may hold secrets."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    for key in ("exception_detail", "detail"):
        if isinstance(answer.get(key), list):
            faults = [([part for part in item.get("loc", ()) if part != "body"], item) for item in answer[key] if isinstance(item, dict)]
            return "; ".join(_faults(faults)) or "invalid request"
    return next((str(answer[key]) for key in ("detail", "exception_message") if answer.get(key)), None)


def _faults(faults: list[tuple[list[t.Any], dict[str, t.Any]]]) -> t.Iterator[str]:
    """Say what is wrong where.

    Of a value that may be of several kinds pydantic says what is wrong with it as any of them: what counts is the kind that is meant.
    """
    unions: dict[tuple[t.Any, ...], dict[str, list[tuple[list[t.Any], dict[str, t.Any]]]]] = {}
    for place, fault in faults:
        # Kinds are told by the names of Python's classes, like CronSchedule or function-after[check(), CompoundTrigger].
        index = next((index for index, part in enumerate(place) if re.match(r"[A-Z]|.*\[", str(part))), None)
        if index is None:
            yield f"{'.'.join(map(str, place))}: {fault.get('msg', 'invalid')}"
        else:
            unions.setdefault(tuple(place[:index]), {}).setdefault(place[index], []).append((place[index + 1 :], fault))
    for union, kinds in unions.items():
        other_types = [fault for of_kind in kinds.values() for place, fault in of_kind if place == ["type"] and fault.get("type") == "literal_error"]
        meant = [of_kind for of_kind in kinds.values() if all(fault not in other_types for _place, fault in of_kind)]
        if meant:
            # As any other kind it lacks fields, and has some that the kind does not know.
            nearest = min(meant, key=lambda of_kind: sum(fault.get("type") in ("missing", "extra_forbidden") for _place, fault in of_kind))
            yield from _faults([([*union, *place], fault) for place, fault in nearest])
        else:
            types = [str((fault.get("ctx") or {}).get("expected")) for fault in other_types]
            yield f"{'.'.join(map(str, union))}.type: Input should be {' or '.join(types)}"


def _describe(headers: t.Any, content: bytes) -> str:
    """Name what answered in place of Prefect."""
    title = re.search(rb"<title[^>]*>([^<]{1,80})", content, re.IGNORECASE)
    what = "a web page" if b"<html" in content[:1000].lower() else "something else" if content else "nothing"
    server = (headers.get("Server") or "").strip()
    return what + (f" ({title.group(1).decode(errors='replace').strip()})" if title else "") + (f" of {server}" if server else "")
