# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret of a block comes out of Ansible, however much it is asked to say, and whatever the server answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.selfhost.prefect.tests.live.prefect_server import ROOT

SECRETS = ("made-up-token", "made-up-other-token", "made-up-key")
BLOCKS = [
    {"type": "slack-webhook", "name": "secrets", "data": {"url": "https://hooks.example.com/made-up-token", "notify_type": "failure"}},
    {"type": "gcp-credentials", "name": "secrets", "data": {"service_account_info": {"private_key": "made-up-key", "note": "made-up-token"}}},
]


@pytest.fixture
def echo():
    """A server that fails, and quotes what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.end_headers()
            self.wfile.write(json.dumps({"exception_message": f"Failed on {content.decode()} and {SECRETS[::2]}"}).encode())

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api"
    server.shutdown()
    server.server_close()


def test_no_secret_is_told(live, tmp_path, echo):
    def play(connection, blocks, state="present", *options):
        task = {
            "selfhost.prefect.prefect_block": {**connection, "blocks": blocks, "state": state},
            "name": "Blocks",
        }
        play = tmp_path / "play.json"
        play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
        command = [f"{ROOT}/.venv/bin/ansible-playbook", "-vvvv", "--diff", "-i", "localhost,", "-c", "local", *options, str(play)]
        settings = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.collections", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")}
        variables = ["-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run([*command, *variables], env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert [secret for secret in (*SECRETS, live.connection["auth_string"]) if secret in output] == []
        return output

    assert "changed=1" in play(live.connection, BLOCKS, "present", "--check")
    created = play(live.connection, BLOCKS)
    assert "changed=1" in created
    assert "failure" in created
    other = [{**BLOCKS[0], "data": {"url": "https://hooks.example.com/made-up-other-token"}}]
    assert "******** (changed)" in play(live.connection, other)
    misspelt = [{**BLOCKS[0], "data": {"url": "made-up-token", "tokn": "made-up-key"}}]
    assert "data.tokn: there is no such field" in play(live.connection, misspelt)
    unknown = [{**BLOCKS[0], "type": "slack-webhok"}]
    assert "failed=1" in play(live.connection, unknown)
    assert "failed=1" in play({**live.connection, "auth_string": "admin:wrong"}, BLOCKS)
    assert "failed=1" in play({**live.connection, "api_url": echo, "timeout": 1}, BLOCKS)
    assert "failed=1" in play({**live.connection, "api_url": "http://127.0.0.1:1/api", "timeout": 1}, BLOCKS)
    assert "changed=1" in play(live.connection, BLOCKS, "absent")
