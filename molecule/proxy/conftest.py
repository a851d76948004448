# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proxies as clients see them, from the machine that runs the tests."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
import typing as t

import pytest
import testinfra
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import open_prefect_socket

AUTH = "tester:made-up-p@ss:word%"
SITE = "/etc/nginx/conf.d/prefect.conf"


class Answer(t.NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Proxy:
    def __init__(self, host, folder):
        self.host = host
        self.name = host.backend.get_hostname()
        self.certificate = folder / f"{self.name}.crt"
        self.certificate.write_text(host.file("/etc/ssl/prefect.crt").content_string)

    @property
    def address(self):
        return self.host.check_output("hostname --ip-address").split()[0]

    def connect(self, port=None, *, tls=True, timeout=30):
        if tls:
            return http.client.HTTPSConnection(self.name, port, timeout=timeout, context=ssl.create_default_context(cafile=str(self.certificate)))
        return http.client.HTTPConnection(self.name, port, timeout=timeout)

    def fetch(self, path, method="GET", *, tls=True, auth=AUTH, body=None, **headers):
        connection = self.connect(tls=tls)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if auth:
            headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def open_socket(self, path, *, tls=True, auth=AUTH):
        client = PrefectClient(f"{'https' if tls else 'http'}://{self.name}/api", auth_string=auth, ca_path=str(self.certificate))
        open_prefect_socket(client, path).close()

    def handshake(self, version=None, ciphers=None):
        """The TLS connection itself, whoever signed the certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        if ciphers:
            context.set_ciphers(ciphers)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context.wrap_socket(socket.create_connection((self.name, 443), timeout=10), server_hostname=self.name)

    def served_certificate(self):
        with self.handshake() as connection:
            return ssl.DER_cert_to_PEM_cert(connection.getpeercert(binary_form=True))

    def state(self):
        """What a refusal must leave as it was: files, links, and the very processes that serve."""
        return self.host.check_output(
            f"sha256sum {SITE} /etc/ssl/prefect.crt /etc/ssl/private/prefect.key; ls /etc/nginx/conf.d /etc/nginx/sites-enabled; pgrep nginx",
        )

    def is_ready(self, deadline=60.0):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            try:
                if self.fetch("/api/ready").status == 200:
                    return True
            except OSError:
                pass
            time.sleep(0.5)
        return False


@pytest.fixture(scope="session", autouse=True)
def _names():
    """Let the names of the hosts, which only they themselves can resolve, work here too."""
    connect = socket.create_connection
    addresses = {}

    def create_connection(address, *args, **kwargs):
        name, port = address
        if name.startswith("molecule-"):
            if name not in addresses:
                addresses[name] = testinfra.get_host(f"ansible://{name}").check_output("hostname --ip-address").split()[0]
            name = addresses[name]
        return connect((name, port), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", create_connection)
        yield


@pytest.fixture(scope="module")
def proxy(host, tmp_path_factory):
    found = Proxy(host, tmp_path_factory.mktemp("proxy"))
    assert found.is_ready()
    return found


@pytest.fixture(scope="module")
def proxies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxies")
    found = [Proxy(testinfra.get_host(f"ansible://{name}"), folder) for name in ("molecule-proxy-12", "molecule-proxy-13")]
    assert all(one.is_ready() for one in found)
    return found


@pytest.fixture(scope="session")
def server():
    return testinfra.get_host("ansible://molecule-proxy-server")
