# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo by the commands that a newcomer types: up, logged in to, up again with nothing to do, and gone."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Of containers and networks alike.
OURS = "name=^prefect-demo"


def docker(*command: str) -> str:
    return subprocess.run(["docker", *command], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.fixture
def make(port: str) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    if docker("ps", "--all", "--quiet", "--filter", OURS):
        pytest.fail("A demo is up: make demo-down removes it.")
    environment = {**os.environ, "DEMO_PORT": port, "ANSIBLE_NOCOLOR": "1"}

    def make(target: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", target], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)

    yield make
    assert make("demo-down").returncode == 0
    assert docker("ps", "--all", "--quiet", "--filter", OURS) == ""
    assert docker("network", "ls", "--quiet", "--filter", OURS) == ""
    assert not (ROOT / "build/demo").exists()


def status(port: str, auth: str = "") -> int:
    """What the API answers to this login."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/admin/version")
    if auth:
        request.add_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    try:
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def recaps(output: str) -> list[tuple[str, str]]:
    """Each host of each playbook, and how many tasks changed something there."""
    return re.findall(r"(?m)^(\S+) +: ok=\d+ +changed=(\d+)", output)


def test_from_nothing_to_a_flow_run_and_back(make: Callable[[str], subprocess.CompletedProcess[str]], port: str) -> None:
    done = make("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Flow run: +Completed in \S+ s in the pool demo", done.stdout)
    assert f"\nPrefect is up: http://127.0.0.1:{port}\n" in done.stdout

    # Alone, so that a shell can take it.
    login = make("demo-auth")
    assert re.fullmatch(r"\w+:\S{12,}\n?", login.stdout)
    assert login.stderr == ""
    auth = login.stdout.strip()
    assert auth not in done.stdout + done.stderr
    assert [status(port, auth), status(port, auth + "-"), status(port)] == [200, 401, 401]

    again = make("demo")
    assert again.returncode == 0, again.stdout + again.stderr
    hosts = recaps(again.stdout + (ROOT / "build/demo/postgresql.log").read_text())
    assert {host for host, _changed in hosts} >= {"database", "server", "proxy", "worker"}
    assert [host for host, changed in hosts if changed != "0"] == []
    assert make("demo-auth").stdout.strip() == auth
