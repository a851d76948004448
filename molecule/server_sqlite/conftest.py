"""Asks a server from its own host, where neither a proxy nor a firewall stands between."""

from __future__ import annotations

import json
import shlex
import time
from typing import NamedTuple

import pytest

# The auth string comes by stdin, since an argument would show up where tests look for it.
REQUEST = """
import base64, json, sys, urllib.error, urllib.request
url, auth = sys.argv[1], sys.stdin.read()
request = urllib.request.Request(url)
if auth:
    request.add_header("Authorization", "Basic " + base64.b64encode(auth.encode()).decode())
try:
    answer = urllib.request.urlopen(request, timeout=20)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, answer.url, answer.read().decode()]))
"""
AUTH_STRING_FILE = "/etc/prefect/server/auth_string"


class Answer(NamedTuple):
    status: int
    url: str
    text: str


@pytest.fixture
def get(host):
    """GET a path; with an auth string, or with True for the one that the server host keeps."""

    def ask(path, auth=None):
        source = f"head --bytes=-1 {AUTH_STRING_FILE}" if auth is True else f"printf %s {shlex.quote(auth or '')}"
        command = f"{source} | python3 -c {shlex.quote(REQUEST)} http://127.0.0.1:4200{path}"
        return Answer(*json.loads(host.check_output(command)))

    return ask


@pytest.fixture
def pid(host):
    return lambda: host.check_output("systemctl show --property MainPID --value prefect-server")


@pytest.fixture
def wait_until_ready(host, get):
    def wait(seconds=90):
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = get("/api/ready")
            except AssertionError:  # refused
                answer = None
            if answer and answer.status == 200:
                return
            assert time.monotonic() < deadline, f"not ready after {seconds} s: {answer}"
            time.sleep(1)

    return wait


@pytest.fixture(autouse=True)
def ready(host, wait_until_ready, waited_for):
    """After a reboot it takes a while; once for each host."""
    name = host.backend.get_hostname()
    if name not in waited_for:
        waited_for.add(name)
        wait_until_ready()


@pytest.fixture(scope="session")
def waited_for():
    return set()
