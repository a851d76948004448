# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import typing as t

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import NOBODY
from ansible_collections.selfhost.prefect.tests.live.prefect_server import PrefectServer, locked_versions
from ansible_collections.selfhost.prefect.tests.run_module import run_module

VERSIONS = (locked_versions()[0], locked_versions()[-1])


class Live:
    """A running server, and the collection's modules with it."""

    def __init__(self, server: PrefectServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.version = server.version
        self.csrf = server.csrf
        self.oldest = server.version == VERSIONS[0]
        self.connection = {"api_url": server.api_url, "auth_string": server.auth_string}
        self.client = PrefectClient(server.api_url, server.auth_string)
        # What the modules have asked the server, as "POST variables/filter".
        self.requests: list[str] = []
        send = PrefectClient._send

        def noted(client: PrefectClient, method: str, path: str, body: t.Any) -> t.Any:
            if client is not self.client:
                self.requests.append(f"{method} {path}")
            return send(client, method, path, body)

        monkeypatch.setattr(PrefectClient, "_send", noted)

    def run(self, main: t.Callable[[], None], check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        self.requests.clear()
        result = run_module(main, check_mode, **{**self.connection, **arguments})
        invocation = str(result.pop("invocation", None))
        password = self.connection["auth_string"].partition(":")[2]
        assert password not in invocation
        assert password not in result.pop("_output")
        return result

    def writes(self) -> list[str]:
        """Those of the last module's requests that wrote something; what goes to nobody is only checked by the server."""
        return [request for request in self.requests if not request.startswith("GET ") and not request.endswith(("/filter", NOBODY))]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[dict[str, PrefectServer]]:
    """One server of the newest and one of the oldest Prefect, the newest with CSRF protection."""
    with contextlib.ExitStack() as stack:
        started = []
        # All of them start before the first is waited for.
        for version in VERSIONS:
            # Pages of 20 objects, so that a few are many.
            started.append(PrefectServer(version, tmp_path_factory.mktemp("prefect"), csrf=version == VERSIONS[-1], default_limit=20))
            stack.callback(started[-1].close)
        for server in started:
            server.wait()
        yield {server.version: server for server in started}


@pytest.fixture(params=VERSIONS)
def live(request: pytest.FixtureRequest, servers: dict[str, PrefectServer], monkeypatch: pytest.MonkeyPatch) -> Live:
    return Live(servers[request.param], monkeypatch)
