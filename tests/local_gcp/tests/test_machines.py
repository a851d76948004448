# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of operations and the front end, with no Docker: what the machines would do is a stand-in here."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
import typing as t
from pathlib import Path

import pytest
import requests
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud
from ansible_collections.selfhost.prefect.tests.local_gcp.front import Backend
from ansible_collections.selfhost.prefect.tests.local_gcp.machines import Machines

from .conftest import PROJECT, REGION, Google

HOST = "proxy-123456789012.europe-west1.run.app"
SERVICE = f"run/projects/{PROJECT}/locations/{REGION}/services/proxy"
ANSWERS = {
    b"/length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"/none": b"HTTP/1.1 204 No Content\r\n\r\n",
}


class Stub:
    """Notes what it is told to do; fails at what is in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.done: list[tuple[str, ...]] = []
        self.broken = broken
        self.released = threading.Event()
        self.released.set()

    def resume(self, cloud: LocalCloud) -> None:
        self.done.append(("resume",))

    def __getattr__(self, job: str) -> t.Callable[..., None]:
        def work(cloud: LocalCloud, _operation: t.Any, *arguments: str) -> None:
            assert self.released.wait(10)
            self.done.append((job, *arguments))
            if job in self.broken:
                raise OSError("no space left")

        return work


def wait(cloud: LocalCloud) -> None:
    while any(operation["work"] for operation in list(cloud.state.operations.values())):
        time.sleep(0.01)


def test_what_the_work_looks_at_is_there_before_it_begins() -> None:
    cloud = LocalCloud(machines=Stub())
    with cloud, cloud.lock:  # which keeps the work from getting on
        cloud.make_network("default", "us-central1")
        subnet = f"compute/compute/v1/projects/{PROJECT}/regions/us-central1/subnetworks/default"
        assert cloud.ask("GET", subnet)["name"] == "default"


def test_an_operation_is_done_when_its_work_is() -> None:
    stub = Stub()
    with LocalCloud(machines=stub) as cloud:
        cloud.make_network()
        stub.released.clear()
        google = Google(cloud)
        rule = {"name": "f", "network": f"projects/{PROJECT}/global/networks/default", "allowed": [{"IPProtocol": "tcp"}]}
        operation = google("compute.v1").firewalls().insert(project=PROJECT, body=rule).execute()
        operations = google("compute.v1").globalOperations()
        assert {operations.get(project=PROJECT, operation=operation["name"]).execute()["status"] for _time in range(5)} == {"RUNNING"}
        stub.released.set()
        wait(cloud)
        assert operations.get(project=PROJECT, operation=operation["name"]).execute()["status"] == "DONE"
        assert ("apply_firewall", f"compute/projects/{PROJECT}/global/firewalls/f") in stub.done


def test_work_that_fails_is_the_operations_error() -> None:
    with LocalCloud(machines=Stub("database_up", "apply_firewall")) as cloud:
        cloud.make_network(peered=True)
        google = Google(cloud)
        addresses = {"ipv4Enabled": False, "privateNetwork": f"projects/{PROJECT}/global/networks/default"}
        settings = {"tier": "db-custom-2-7680", "edition": "ENTERPRISE", "ipConfiguration": addresses}
        operation = google.sql(
            google("sqladmin.v1").instances().insert(project=PROJECT, body={"name": "db", "databaseVersion": "POSTGRES_17", "settings": settings})
        )
        assert operation["error"]["errors"][0]["message"] == "OSError: no space left"
        assert google("sqladmin.v1").instances().get(project=PROJECT, instance="db").execute()["state"] == "FAILED"
        rule = {"name": "f", "network": f"projects/{PROJECT}/global/networks/default", "allowed": [{"IPProtocol": "tcp"}]}
        operation = google.compute(google("compute.v1").firewalls().insert(project=PROJECT, body=rule))
        assert operation["error"]["errors"][0]["message"] == "OSError: no space left"


def test_work_that_was_interrupted_begins_anew(tmp_path: Path) -> None:
    stub = Stub()
    stub.released.clear()
    with LocalCloud(folder=tmp_path, machines=stub) as cloud:
        cloud.state.operations.clear()
        google = Google(cloud)
        google.compute(google("compute.v1").networks().insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}))
        subnet = {"name": "s", "network": f"projects/{PROJECT}/global/networks/n", "ipCidrRange": "10.10.0.0/24"}
        google("compute.v1").subnetworks().insert(project=PROJECT, region=REGION, body=subnet).execute()
    second = Stub()
    with LocalCloud(folder=tmp_path, machines=second) as cloud:
        wait(cloud)
        assert ("apply_network", f"compute/projects/{PROJECT}/regions/{REGION}/subnetworks/s") in second.done
    stub.released.set()


def test_every_work_is_one_that_the_machines_do() -> None:
    sources = (Path(__file__).parents[1] / "services").glob("*.py")
    pattern = r'work=\("(\w+)"|"((?:apply|instance|database|service)_(?:network|firewall|up|down|stop|reset|change|user))"'
    jobs = {name for source in sources for pair in re.findall(pattern, source.read_text()) for name in pair if name}
    assert len(jobs) >= 14
    assert jobs <= set(dir(Machines))


# The front end


@pytest.fixture
def backend(cloud: LocalCloud) -> t.Iterator[list[bytes]]:
    """A server behind the front end, and what it was sent."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                heads.append(head)
                if b"Upgrade: websocket" in head:
                    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
                    connection.sendall(b"echo " + connection.recv(4096))
                else:
                    connection.sendall(ANSWERS[head.split()[1]])

    threading.Thread(target=serve, daemon=True).start()
    cloud.server.backends[HOST] = Backend(SERVICE, [(listener.getsockname()[:2], 100)])
    cloud.state.resources[SERVICE] = {"invokerIamDisabled": True}
    yield heads
    listener.close()


def ask(cloud: LocalCloud, path: str, method: str = "GET", host: str = HOST) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    session.proxies, session.verify = {"https": cloud.url}, cloud.ca_file
    return session.request(method, f"https://{host}{path}", data=b"body" if method == "POST" else None, timeout=10)


def test_requests_are_handed_on(cloud: LocalCloud, backend: list[bytes]) -> None:
    assert [ask(cloud, path).text for path in ("/length", "/chunked", "/none")] == ["ok", "ok", ""]
    assert ask(cloud, "/length", "POST").text == "ok"
    assert ask(cloud, "/length", "HEAD").headers["Content-Length"] == "2"
    assert f"Host: {HOST}".encode() in backend[0]
    assert b"X-Forwarded-Proto: https" in backend[0]


def test_who_is_not_let_in(cloud: LocalCloud, backend: list[bytes]) -> None:
    cloud.state.resources[SERVICE] = {}
    assert ask(cloud, "/length").status_code == 403
    cloud.policies[SERVICE.removeprefix("run/")] = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
    assert ask(cloud, "/length").status_code == 200
    assert ask(cloud, "/length", host="other.run.app").status_code == 404
    assert ask(cloud, "/length", "HEAD", host="other.run.app").status_code == 404


def test_a_backend_that_is_gone(cloud: LocalCloud, backend: list[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()[:2]
    cloud.server.backends[HOST] = Backend(SERVICE, [(address, 100)])
    assert ask(cloud, "/length").status_code == 503
    assert b" 503 " in upgrade(cloud)


def upgrade(cloud: LocalCloud) -> bytes:
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=10) as plain:
        plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
        plain.recv(4096)
        with ssl.create_default_context(cafile=cloud.ca_file).wrap_socket(plain, server_hostname=HOST) as tls:
            tls.sendall(f"GET /api HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
            reply = tls.recv(4096)
            if b" 101 " in reply:
                tls.sendall(b"hello")
                reply += tls.recv(4096)
            return reply


def test_a_websocket(cloud: LocalCloud, backend: list[bytes]) -> None:
    assert upgrade(cloud).endswith(b"echo hello")


def test_the_front_has_a_certificate_for_every_name(cloud: LocalCloud, backend: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    listen = cloud.server.listen
    monkeypatch.setattr(cloud.server, "listen", lambda _address: listen(("127.0.0.1", 0)))
    cloud.server.serve_front("127.0.0.1")
    cloud.server.serve_front("127.0.0.1")
    assert cloud.server.front
    context = ssl.create_default_context(cafile=cloud.ca_file)
    plain = socket.create_connection(cloud.server.front.server_address[:2], timeout=10)
    with plain, context.wrap_socket(plain, server_hostname=HOST) as tls:
        tls.sendall(f"GET /length HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert tls.recv(4096).startswith(b"HTTP/1.1 200")
