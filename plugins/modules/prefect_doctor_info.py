#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_doctor_info
short_description: Examine a Prefect installation from the outside
description:
  - Asks a Prefect server, from the host that the module runs on and in the way that Prefect's clients do, whether all works that they need.
  - That is the name and the port, the certificate, health and readiness, the authentication, the version, the address that the UI uses,
    each of Prefect's WebSockets, the workers, and late runs.
  - A check that fails does not fail the task, look at RV(failed_checks). Each says what to do about it.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes.info
options:
  version:
    description:
      - Version of Prefect that the server should have, which is that of the workers and of whoever else uses it.
      - A server that is older than its clients refuses some of their requests. Left out or empty, any version will do.
    type: str
  pools:
    description: The work pools that should exist, each with the names of the workers that should be online in it.
    type: dict
    default: {}
  wait_timeout:
    description: Seconds to wait for all workers to be online, for those that have just been started.
    type: int
    default: 0
  tls_days_left:
    description: Warn when the certificate ends in fewer days than these.
    type: int
    default: 14
"""

EXAMPLES = r"""
- name: Examine the installation as people reach it
  selfhost.prefect.prefect_doctor_info:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    version: 3.8.8
    pools:
      etl: [worker-1, worker-2]
    wait_timeout: 60
  register: doctor

- name: Fail with what is wrong
  ansible.builtin.assert:
    that: doctor.failed_checks is falsy
    fail_msg: "{{ doctor.checks | selectattr('status', 'eq', 'failed') }}"
"""

RETURN = r"""
checks:
  description: All checks, in the order in which one thing needs another.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description:
        - C(dns), C(tcp), C(tls), C(health), C(ready), C(auth_required), C(auth_accepted), C(auth_refused), C(version), C(ui),
          C(websocket) and a path, C(websocket_auth), C(workers) and a pool, C(late_runs).
      type: str
    status:
      description: C(ok), C(warning), C(failed), or C(skipped) when an earlier failure or the version leaves nothing to check.
      type: str
    detail:
      description: What was found.
      type: str
    remedy:
      description: What to do about it; empty when all is well.
      type: str
  sample:
    - name: websocket events/in
      status: failed
      detail: the handshake was answered with HTTP 401 and not with 101
      remedy: let the proxy pass Upgrade, Connection and Sec-WebSocket-Protocol on, by HTTP/1.1, for every path of the API
failed_checks:
  description: Names of the checks that failed.
  returned: success
  type: list
  elements: str
  sample: [websocket events/in]
server_version:
  description: Version of Prefect that the server has; empty when it does not say.
  returned: success
  type: str
  sample: 3.8.8
workers:
  description: The workers that the server knows in O(pools).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    pool:
      description: Work pool.
      type: str
    status:
      description: C(ONLINE) or C(OFFLINE).
      type: str
  sample:
    - name: worker-1
      pool: etl
      status: ONLINE
"""

import re
import secrets
import socket
import ssl
import time
import typing as t
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import (
    PrefectClient,
    PrefectError,
    explain_connection_error,
    prefect_argument_spec,
)
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import open_prefect_socket

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # noqa: S104 - recognised, not bound
POLL_SECONDS = 1
SOCKET_SECONDS = 10
# Path of each of Prefect's WebSockets, and the first version that serves it.
WEBSOCKETS = {
    "events/in": (3, 0, 0),
    "events/out": (3, 0, 0),
    "logs/out": (3, 4, 7),
    "task_runs/subscriptions/scheduled": (3, 0, 0),
    "work_pools/{pool}/workers/connect": (3, 7, 2),
}


def parse_version(version: str) -> tuple[int, ...]:
    """Give the numbers of a version; () of none."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(number) for number in match.groups()) if match else ()


class Doctor:
    """The checks, each of which adds what it found."""

    def __init__(self, params: dict[str, t.Any]) -> None:
        self.params = params
        self.client = PrefectClient.from_params(params)
        self.checks: list[dict[str, str]] = []
        self.version = ""
        self.workers: list[dict[str, str]] = []

    def add(self, name: str, status: str, detail: str, remedy: str = "") -> None:
        """Note a result."""
        self.checks.append({"name": name, "status": status, "detail": detail, "remedy": remedy})

    def add_error(self, name: str, exc: PrefectError) -> None:
        """Note a failure."""
        self.add(name, "failed", exc.problem, exc.remedy)

    def failed(self) -> list[str]:
        """Give the names of the checks that failed."""
        return [check["name"] for check in self.checks if check["status"] == "failed"]

    def with_auth(self, auth_string: str | None, api_url: str | None = None) -> PrefectClient:
        """Give a client with another auth string, or of another address."""
        return PrefectClient(api_url or self.client.api_url, auth_string, self.client.ca_path, self.client.timeout)

    def examine(self) -> None:
        """Run all checks; nothing is worth asking before the API answers us."""
        for check in (self.check_connection, self.check_health, self.check_auth):
            check()
            if self.failed():
                self.add("the rest", "skipped", "not asked before that works")
                return
        for check in (self.check_version, self.check_ui, self.check_websockets, self.check_workers, self.check_late_runs):
            try:
                check()
            except PrefectError as exc:
                self.add_error(check.__name__.replace("check_", ""), exc)

    def check_connection(self) -> None:
        """Resolve the name, open the port, look at the certificate."""
        client, name = self.client, "dns"
        try:
            found = socket.getaddrinfo(client.host, client.port, type=socket.SOCK_STREAM)
            self.add(name, "ok", f"{client.host} is {', '.join(sorted({str(info[4][0]) for info in found}))}")
            name = "tcp"
            with socket.create_connection((client.host, client.port), timeout=min(client.timeout, SOCKET_SECONDS)) as sock:
                self.add(name, "ok", f"port {client.port} is open")
                name = "tls"
                if client.tls:
                    with client.context.wrap_socket(sock, server_hostname=client.host) as tls:
                        self.check_certificate(tls)
                else:
                    self.add(name, "skipped", "the address is http://")
        except OSError as exc:
            self.add(name, "failed", *explain_connection_error(exc, client.address)[:2])

    def check_certificate(self, tls: ssl.SSLSocket) -> None:
        """See how long a certificate that is trusted will last."""
        ends = ssl.cert_time_to_seconds(str((tls.getpeercert() or {})["notAfter"]))
        days = int((ends - time.time()) // 86400)
        soon = days < self.params["tls_days_left"]
        self.add("tls", "warning" if soon else "ok", f"the certificate is trusted, for {days} days more", "renew it" if soon else "")

    def check_health(self) -> None:
        """Ask the API whether it lives, and whether its database does; old versions tell only those with an auth string."""
        for name, good in (("health", "the API answers"), ("ready", "the API reaches its database")):
            try:
                self.client.get(name)
            except PrefectError as exc:
                self.add_error(name, exc)
                return
            self.add(name, "ok", good)

    def check_auth(self) -> None:
        """See that the API is open to us, and closed to strangers."""
        given = self.client.auth_string is not None
        try:
            self.client.get("version")
        except PrefectError as exc:
            self.add_error("auth_accepted", exc)
            return
        self.add("auth_accepted", "ok", "the auth string is accepted" if given else "no auth string is needed")
        for name, auth_string, good, bad in (
            ("auth_required", None, "nobody gets in without an auth string", "everyone who reaches the API gets in"),
            ("auth_refused", f"doctor:{secrets.token_hex(8)}", "a wrong auth string is refused", "any auth string gets in"),
        ):
            try:
                self.with_auth(auth_string).get("version")
            except PrefectError as exc:
                if exc.status != 401:
                    self.add_error(name, exc)
                else:
                    self.add(name, "ok", good)
            else:
                self.add(name, "failed" if given else "warning", bad, "set server.api.auth_string")

    def check_version(self) -> None:
        """Compare the server's version with that of its clients."""
        self.version = str(self.client.get("admin/version"))
        wanted = self.params["version"] or self.version
        if parse_version(self.version) < parse_version(wanted):
            self.add("version", "failed", f"the server has {self.version}, its clients {wanted}", "upgrade the server: it may not be older than its clients")
        elif self.version != wanted:
            self.add("version", "warning", f"the server has {self.version}, its clients {wanted}", "upgrade the clients")
        else:
            self.add("version", "ok", f"the server has {self.version}")

    def check_ui(self) -> None:
        """See that the UI sends browsers to an address that they reach."""
        root = self.client.api_url[: -len("/api")] if self.client.base_path.endswith("/api") else ""
        settings = self.with_auth(None, root).get("ui-settings", missing_ok=True) if root else None
        if not isinstance(settings, dict) or not settings.get("api_url"):
            self.add("ui", "skipped", "there is no UI at this address")
            return
        address = str(settings["api_url"]).rstrip("/")
        local = urlsplit(address).hostname in LOCAL_HOSTS
        if local and address != self.client.api_url:
            self.add("ui", "failed", f"the UI makes browsers call {address}, which is the browser's own machine", "set server.ui.api_url to /api")
        else:
            self.add("ui", "ok", f"the UI makes browsers call {address}")

    def check_websockets(self) -> None:
        """Open each of Prefect's WebSockets as its clients do, and one as a stranger."""
        timeout = min(self.client.timeout, SOCKET_SECONDS)
        pool = self.client.quote(next(iter(self.params["pools"]), "default"))
        for path, since in WEBSOCKETS.items():
            name = f"websocket {path.format(pool=pool)}"
            if self.version and parse_version(self.version) < since:
                self.add(name, "skipped", f"Prefect has it since {'.'.join(map(str, since))}")
                continue
            try:
                open_prefect_socket(self.client, path.format(pool=pool), timeout).close()
            except PrefectError as exc:
                self.add_error(name, exc)
            else:
                self.add(name, "ok", "opens")
        if self.client.auth_string is None or any(name.startswith("websocket") for name in self.failed()):
            return
        try:
            open_prefect_socket(self.with_auth(f"doctor:{secrets.token_hex(8)}"), "events/out", timeout).close()
        except PrefectError:
            self.add("websocket_auth", "ok", "a wrong auth string is refused")
        else:
            self.add("websocket_auth", "warning", f"the WebSockets of Prefect {self.version} ask for no auth string", "upgrade Prefect")

    def check_workers(self) -> None:
        """See that each pool has its workers online; wait for those that have just been started."""
        deadline = time.monotonic() + self.params["wait_timeout"]
        for pool, names in self.params["pools"].items():
            while True:
                path = f"work_pools/{self.client.quote(pool)}"
                if self.client.get(path, missing_ok=True) is None:
                    found, problem = {}, "the work pool does not exist"
                else:
                    found = {worker["name"]: worker["status"] for worker in self.client.filter(f"{path}/workers/filter")}
                    away = [f"{name} is {found.get(name, 'unknown to the server')}" for name in names if found.get(name) != "ONLINE"]
                    problem = ", ".join(away) or ("" if "ONLINE" in found.values() else "no worker is online")
                if not problem or time.monotonic() > deadline:
                    break
                time.sleep(POLL_SECONDS)
            self.workers += [{"name": name, "pool": pool, "status": status} for name, status in found.items()]
            online = ", ".join(name for name, status in found.items() if status == "ONLINE")
            remedy = "start the workers, or look at their journals" if problem else ""
            self.add(f"workers {pool}", "failed" if problem else "ok", problem or f"{online} online", remedy)

    def check_late_runs(self) -> None:
        """Count the runs that no worker has taken in time."""
        late = self.client.post("flow_runs/count", {"flow_runs": {"state": {"name": {"any_": ["Late"]}}}})
        remedy = "see that their pools have workers online, are not paused, and have slots left" if late else ""
        self.add("late_runs", "warning" if late else "ok", f"{late} flow runs are late", remedy)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **prefect_argument_spec(),
            "version": {"type": "str"},
            "pools": {"type": "dict", "default": {}},
            "wait_timeout": {"type": "int", "default": 0},
            "tls_days_left": {"type": "int", "default": 14},
        },
        supports_check_mode=True,
    )
    for pool, names in module.params["pools"].items():
        if not isinstance(names, list):
            module.fail_json(msg=f"pools: {pool} has {names!r}: write a list of the names of its workers, or [] for any.")
    try:
        doctor = Doctor(module.params)
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    doctor.examine()
    module.exit_json(changed=False, checks=doctor.checks, failed_checks=doctor.failed(), server_version=doctor.version, workers=doctor.workers)


if __name__ == "__main__":
    main()
