# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SQLite under several clients that write at once: some calls are refused, as Prefect's clients expect, but the server goes on answering."""

from __future__ import annotations

import base64
import collections
import json
import threading
import time
import typing as t
import urllib.error
import urllib.request

from ansible_collections.selfhost.prefect.tests.live.prefect_server import PrefectServer, locked_versions

SECONDS = 20
# SQLite itself waits for a lock for 60 s.
LONGEST = 30


class Client:
    def __init__(self, server: PrefectServer) -> None:
        self.url = server.api_url
        credentials = base64.b64encode(server.auth_string.encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        self.answers: collections.Counter[int] = collections.Counter()
        self.longest = 0.0

    def post(self, path: str, body: dict[str, t.Any]) -> t.Any:
        """Give what the API answers, or None when it refuses."""
        request = urllib.request.Request(f"{self.url}/{path}", json.dumps(body).encode(), self.headers)
        began = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            status, content = refused.code, b""
        self.longest = max(self.longest, time.monotonic() - began)
        self.answers[status] += 1
        return json.loads(content) if content else None

    def create(self, path: str, **body: t.Any) -> str:
        while not (created := self.post(path, body)):
            time.sleep(0.2)
        return created["id"]


def test_a_lock_does_not_stop_the_server(tmp_path):
    server = PrefectServer(locked_versions()[-1], tmp_path)
    try:
        server.wait()
        client = Client(server)
        flow = client.create("flows/", name="flow")
        client.create("work_pools/", name="pool", type="process")
        deployment = client.create("deployments/", name="deployment", flow_id=flow, work_pool_name="pool")
        end = time.monotonic() + SECONDS

        def work(name: str) -> None:
            while time.monotonic() < end:
                client.post("work_pools/pool/workers/heartbeat", {"name": name})
                client.post("work_pools/pool/get_scheduled_flow_runs", {})
                client.post(f"deployments/{deployment}/create_flow_run", {})

        threads = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        server.close()

    # Statements have failed, or this would prove nothing.
    assert client.answers[503]
    assert client.longest < LONGEST
