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
import socket
import ssl
import time
import typing as t
import uuid
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit

from ansible.module_utils.urls import Request

USER_AGENT = "ansible selfhost.prefect"

# A server that restarts is back within seconds, so four more attempts are enough.
BACKOFF = (0.5, 1.0, 2.0, 4.0)
RETRIED_STATUS = (429, 502, 503, 504)
# POST requests that only read.
READING_POST = re.compile(r"/(filter|count|paginate|get_scheduled_flow_runs)$")


def prefect_argument_spec() -> dict[str, dict[str, t.Any]]:
    """Options of every module that talks to Prefect's API (doc fragment _prefect)."""
    return {
        "api_url": {"type": "str", "default": "http://127.0.0.1:4200/api"},
        "auth_string": {"type": "str", "no_log": True},
        "ca_path": {"type": "path"},
        "timeout": {"type": "int", "default": 30},
    }


class PrefectError(Exception):
    """A request that failed, as one sentence to show to a person.

    kind: url, dns, refused, timeout, tls, connection (no answer), redirect, not_json, http (an answer that says no).
    detail: Prefect's own words, where it said any.
    """

    def __init__(self, message: str, kind: str, status: int | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.detail = detail


def tls_context(ca_path: str | None) -> ssl.SSLContext:
    """Trust ca_path alone where it is given, else what the system trusts."""
    if ca_path and not os.path.isfile(ca_path):
        raise PrefectError(f"ca_path {ca_path} is no file on this host: give the path of a PEM bundle that exists there.", "tls")
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except (ssl.SSLError, OSError) as exc:
        raise PrefectError(f"ca_path {ca_path} cannot be read as a PEM bundle of certificates: {exc}.", "tls") from exc


def explain_connection_error(exc: BaseException, address: str) -> tuple[str, str]:
    """Say why no answer came: (kind, sentence without the full stop)."""
    if isinstance(exc, URLError) and isinstance(exc.reason, BaseException):
        exc = exc.reason
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "tls", (
            f"the certificate of {address} is not trusted ({exc.verify_message}): give the PEM bundle of the authority that signed it as ca_path, "
            "or use the host name that the certificate carries"
        )
    if isinstance(exc, ssl.SSLError):
        if exc.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return "tls", f"{address} does not speak TLS: write http:// or use the port that does"
        return "tls", f"TLS with {address} failed ({exc.reason or exc})"
    if isinstance(exc, socket.gaierror):
        return "dns", f"the name in {address} cannot be resolved ({exc.strerror or exc}): correct the name or the resolver of this host"
    if isinstance(exc, ConnectionRefusedError):
        return "refused", f"nothing listens on {address}: start the server or correct the address"
    if isinstance(exc, (TimeoutError, socket.timeout)):
        return "timeout", f"{address} did not answer in time: a firewall drops the packets, or the server is overloaded"
    if isinstance(exc, (http.client.HTTPException, ConnectionError)):
        return "connection", f"{address} closed the connection without an answer ({type(exc).__name__}): does it speak HTTPS where http:// is written?"
    return "connection", f"{address} cannot be reached ({getattr(exc, 'strerror', None) or exc})"


class PrefectClient:
    """Requests to one Prefect API; paths are relative to api_url."""

    quote = staticmethod(lambda name: quote(name, safe=""))

    def __init__(self, api_url: str, auth_string: str | None = None, ca_path: str | None = None, timeout: float = 30) -> None:
        self.api_url = api_url.rstrip("/")
        self.auth_string = auth_string or None
        self.timeout = timeout
        try:
            parts = urlsplit(self.api_url)
            self.host, self.port = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            self.host = ""
        if not self.host:
            raise PrefectError(f"api_url {api_url!r} is no URL of an API: write it like https://prefect.example.com/api.", "url")
        if "@" in parts.netloc:
            raise PrefectError("api_url carries a user name or password: give user:password as auth_string instead.", "url")
        self.tls = parts.scheme == "https"
        self.address = f"{parts.scheme}://{parts.netloc}"
        # Loading the system's bundle takes longer than a request: once, and only where TLS is spoken.
        self.context = tls_context(ca_path) if self.tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self.auth_string:
            headers["Authorization"] = "Basic " + base64.b64encode(self.auth_string.encode()).decode()
        # A redirect would turn POST into GET and may carry the auth string to another host: it is reported, not followed.
        self._http = Request(headers=headers, http_agent=USER_AGENT, follow_redirects="none", use_netrc=False, context=self.context)
        self._csrf: dict[str, str] = {}

    @classmethod
    def from_params(cls, params: dict[str, t.Any]) -> PrefectClient:
        """Make the client that a module's parameters describe."""
        return cls(params["api_url"], params["auth_string"], params["ca_path"], params["timeout"])

    def get(self, path: str, missing_ok: bool = False) -> t.Any:
        """Read; with missing_ok an object that does not exist is None."""
        return self.request("GET", path, missing_ok=missing_ok)

    def post(self, path: str, body: t.Any = None, repeatable: bool | None = None) -> t.Any:
        """Create or query; repeatable says that a second identical request does no harm."""
        return self.request("POST", path, {} if body is None else body, repeatable=repeatable)

    def put(self, path: str, body: t.Any) -> t.Any:
        """Replace."""
        return self.request("PUT", path, body)

    def patch(self, path: str, body: t.Any) -> t.Any:
        """Change the fields that body names."""
        return self.request("PATCH", path, body)

    def delete(self, path: str, missing_ok: bool = True) -> t.Any:
        """Delete; an object that is already gone is fine."""
        return self.request("DELETE", path, missing_ok=missing_ok)

    def filter(self, path: str, body: dict[str, t.Any] | None = None) -> list[t.Any]:
        """Give all the results of a POST .../filter, page by page.

        The page size is left to the server: a limit above its server.api.default_limit would be refused.
        """
        found: list[t.Any] = []
        while True:
            page = self.post(path, {**(body or {}), "offset": len(found)})
            found += page
            if not page:
                return found

    def request(self, method: str, path: str, body: t.Any = None, missing_ok: bool = False, repeatable: bool | None = None) -> t.Any:
        """Send one request, again after a passing failure, and give back the JSON it answers."""
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
                # A POST that may have arrived is not sent twice.
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
        except HTTPError as exc:
            with exc:
                try:
                    content = exc.read()
                except (OSError, http.client.HTTPException):
                    content = b""
                raise self._error(method, url, exc.code, exc.headers, content) from None
        except (OSError, http.client.HTTPException) as exc:
            kind, text = explain_connection_error(exc, self.address)
            raise PrefectError(f"{method} {url}: {text}.", kind) from exc
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise PrefectError(
                f"{method} {url}: answered HTTP {status} with {_describe(headers, content)}, not with Prefect's JSON: "
                "api_url must be the address of the API, which ends in /api by default.",
                "not_json",
                status,
            ) from None

    def _error(self, method: str, url: str, status: int, headers: t.Any, content: bytes) -> PrefectError:
        detail = _detail(content)
        head = f"{method} {url}: "
        if 300 <= status < 400:
            target = headers.get("Location", "")
            return PrefectError(
                f"{head}redirects (HTTP {status}) to {target or 'nowhere'}: set api_url to the address that answers itself.", "redirect", status
            )
        if status == 401:
            if detail is None:
                text = f"asks for credentials (HTTP 401) by {_describe(headers, content)}, so not Prefect: switch the password of the proxy off for the API."
            elif self.auth_string:
                text = "Prefect refused the auth string (HTTP 401): give the server's own, user:password as in its server.api.auth_string, as auth_string."
            else:
                text = "Prefect asks for its auth string (HTTP 401) and none was given: give the server's own, user:password, as auth_string."
        elif detail is None:
            text = f"answered HTTP {status} with {_describe(headers, content)}, not with Prefect's JSON: "
            text += "the proxy in front does not reach the server." if status in (502, 503, 504) else "a proxy in front, or not Prefect's API."
        elif status == 404 and detail == "Not Found":
            text = "there is no such route (HTTP 404): api_url must end in /api, or this version of Prefect is too old for it."
        else:
            text = f"HTTP {status}: {detail}" + ("" if detail.endswith((".", "!", "?")) else ".")
        return PrefectError(head + text, "http", status, detail)


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
            fields = [
                ".".join(str(part) for part in item.get("loc", ()) if part != "body") + ": " + str(item.get("msg", "invalid"))
                for item in answer[key]
                if isinstance(item, dict)
            ]
            return "; ".join(fields) or "invalid request"
    for key in ("detail", "exception_message"):
        if answer.get(key):
            return str(answer[key])
    return None


def _describe(headers: t.Any, content: bytes) -> str:
    """Name what answered in place of Prefect."""
    title = re.search(rb"<title[^>]*>([^<]{1,80})", content, re.IGNORECASE)
    kind = "a web page" if b"<html" in content[:1000].lower() else "something else" if content else "nothing"
    server = headers.get("Server")
    return kind + (f" ({title.group(1).decode(errors='replace').strip()})" if title else "") + (f" of {server}" if server else "")
