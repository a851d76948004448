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
  - That is the name and the port, the certificate, health and readiness, the authentication, the clock, the version, the address that the
    UI uses, each of Prefect's WebSockets, the workers, late runs, work queues that nobody works on, and events that are kept for too long.
  - Where it is told how to, it also asks past the proxy, and looks at the database.
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
  direct_url:
    description:
      - Address of the same API that goes past the proxy, such as C(http://10.0.0.5:4200/api), where the module can reach it.
      - What works there and not at O(api_url) is the fault of what is in between.
    type: str
  database:
    description: Prefect's database. Give it where the module runs on a host that has Prefect and reaches the database, as the server's does.
    type: dict
    suboptions:
      connection_url:
        description: The database, C(postgresql+asyncpg://user:password@host:port/name) or C(sqlite+aiosqlite:////path).
        type: str
        required: true
      python:
        description: Interpreter of the environment that Prefect is installed in.
        type: path
        default: /opt/prefect/current/bin/python
      user:
        description: The system user to connect as, such as the server's. Left out, it is the one that the module runs as.
        type: str
      settings:
        description: The settings of the database as in C(prefect.toml)'s table C([server.database]); those of TLS are of use here.
        type: dict
        default: {}
      processes:
        description: How many processes of Prefect's server use the database.
        type: int
        default: 1
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

- name: Examine the server on its own host, past the proxy, and its database
  selfhost.prefect.prefect_doctor_info:
    api_url: https://prefect.example.com/api
    direct_url: http://127.0.0.1:4200/api
    auth_string: "{{ prefect_auth_string }}"
    database:
      connection_url: "{{ prefect_server_database_url }}"
      user: prefect
  become: true
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
        - C(dns), C(tcp), C(tls), C(health), C(ready), C(auth_accepted), C(auth_required), C(auth_refused), C(clock), C(version), C(ui),
          C(websocket) and a path, C(websocket_auth), C(workers) and a pool, C(late_runs), C(work_queues), C(events), and where they are
          asked for C(direct), C(database), C(connections).
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

import datetime as dt
import email.utils
import functools
import re
import secrets
import socket
import ssl
import time
import typing as t
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import AsyncpgUrlError
from ansible_collections.selfhost.prefect.plugins.module_utils._connection import explain_connection_error
from ansible_collections.selfhost.prefect.plugins.module_utils._database import Database, DatabaseError, migration_problem, planned_connections
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, parse_version, prefect_argument_spec
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import open_prefect_socket

LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # noqa: S104 - recognised, not bound
POLL_SECONDS = 1
SOCKET_SECONDS = 10
# A clock that is off by more moves schedules, and makes runs late that are not. The header tells whole seconds.
SKEW_SECONDS = 5
# Old events are deleted by the hour, some at a time.
RETENTION_GRACE = dt.timedelta(days=1)
DURATION = re.compile(r"P(?:(?P<days>[\d.]+)D)?(?:T(?:(?P<hours>[\d.]+)H)?(?:(?P<minutes>[\d.]+)M)?(?:(?P<seconds>[\d.]+)S)?)?")
# Path of each of Prefect's WebSockets, and the first version that serves it.
WEBSOCKETS = {
    "events/in": (3, 0, 0),
    "events/out": (3, 0, 0),
    "logs/out": (3, 4, 7),
    "task_runs/subscriptions/scheduled": (3, 0, 0),
    "work_pools/{pool}/workers/connect": (3, 7, 2),
}


def parse_duration(text: t.Any) -> dt.timedelta:
    """Read a duration as Prefect tells its settings (ISO 8601); none that it does not tell."""
    match = DURATION.fullmatch(str(text))
    return dt.timedelta(**{unit: float(number) for unit, number in match.groupdict(default="0").items()}) if match else dt.timedelta()


def counted(count: int, what: str) -> str:
    """Say how many of something."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def megabytes(size: int) -> str:
    """Say a size as people do."""
    return f"{size / 1e6:.1f} MB"


class Doctor:
    """The checks, each of which adds what it found."""

    def __init__(self, params: dict[str, t.Any], database: Database | None = None) -> None:
        self.params = params
        self.database = database
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
        """Run all checks; little is worth asking before the API answers us."""
        if self.reaches_api():
            self.run(self.check_clock, self.check_version, self.check_ui, self.check_websockets)
            self.run(self.check_workers, self.check_late_runs, self.check_work_queues, self.check_events)
        else:
            self.add("the rest", "skipped", "not asked before that works")
        if self.params["direct_url"]:
            self.run(self.check_direct)
        if self.database:
            self.check_database(self.database, self.params["database"]["processes"])

    def reaches_api(self) -> bool:
        """Run the checks that the others need."""
        for check in (self.check_connection, self.check_health, self.check_auth):
            check()
            if self.failed():
                return False
        return True

    def run(self, *checks: t.Callable[[], None]) -> None:
        """Run checks that need no other."""
        for check in checks:
            try:
                check()
            except PrefectError as exc:
                self.add_error(check.__name__.replace("check_", ""), exc)

    @functools.cached_property
    def settings(self) -> dict[str, t.Any]:
        """Give the settings of the server, without its secrets; none where it does not tell them."""
        try:
            answer = self.client.get("admin/settings")
        except PrefectError:
            return {}
        return answer.get("server", {}) if isinstance(answer, dict) else {}

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

    def check_clock(self) -> None:
        """Compare the clock of the server with that of this host."""
        asked = time.time()
        self.client.get("health")
        now = (asked + time.time()) / 2
        try:
            skew = round(email.utils.parsedate_to_datetime(self.client.date).timestamp() - now)
        except (TypeError, ValueError):
            self.add("clock", "skipped", "the server does not tell its time")
            return
        off = abs(skew) > SKEW_SECONDS
        detail = f"the server's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} this host's" if off else "the server's clock is this host's"
        self.add("clock", "warning" if off else "ok", detail, "let both hosts synchronise their clocks, such as with systemd-timesyncd" if off else "")

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
        is_off = self.settings.get("ui", {}).get("enabled") is False
        settings = self.with_auth(None, root).get("ui-settings", missing_ok=True) if root and not is_off else None
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
        self.add("late_runs", "warning" if late else "ok", f"{counted(late, 'flow run')} late", remedy)

    def check_work_queues(self) -> None:
        """Find the work queues that have deployments, and that no worker asks."""
        idle = [queue for queue in self.client.filter("work_queues/filter") if queue.get("status") == "NOT_READY" and not queue["is_paused"]]
        found = []
        # Each work pool has a queue that often nobody uses, so most have no deployments.
        for queue in idle if self.count_deployments(idle) else ():
            count = self.count_deployments([queue])
            if count:
                found.append(f"{queue.get('work_pool_name')}/{queue['name']} ({counted(count, 'deployment')})")
        remedy = "start a worker that takes from them, or move their deployments" if found else ""
        detail = f"no worker takes from {', '.join(found)}" if found else "each work queue that has deployments has a worker"
        self.add("work_queues", "warning" if found else "ok", detail, remedy)

    def count_deployments(self, queues: list[dict[str, t.Any]]) -> int:
        """Count the deployments of some work queues."""
        if not queues:
            return 0
        return int(self.client.post("deployments/count", {"work_pool_queues": {"id": {"any_": [queue["id"] for queue in queues]}}}))

    def check_events(self) -> None:
        """See that events are deleted when their time has come."""
        settings = self.settings
        overrides = (settings.get("services", {}).get("db_vacuum") or {}).get("event_retention_overrides") or {}
        kept_for = max(map(parse_duration, (settings.get("events", {}).get("retention_period"), *overrides.values())))
        if not kept_for:
            self.add("events", "skipped", "the server does not tell for how long it keeps them")
            return
        now = dt.datetime.now(dt.timezone.utc)
        try:
            total, overdue = (
                self.client.post("events/filter", {"limit": 1, "filter": {"occurred": {"since": "2000-01-01T00:00:00Z", "until": until.isoformat()}}})["total"]
                for until in (now, now - kept_for - RETENTION_GRACE)
            )
        except PrefectError as exc:
            # To count very many takes long, which harms nobody else.
            self.add("events", "warning", exc.problem, exc.remedy)
            return
        days = f"{kept_for / dt.timedelta(days=1):g} days"
        if overdue:
            remedy = "see that the server's background services run, and that server.services.db_vacuum.enabled has events"
            self.add("events", "warning", f"{overdue} of {counted(total, 'event')} older than the {days} that they are kept for", remedy)
        else:
            self.add("events", "ok", f"{counted(total, 'event')}, kept for {days}")

    def check_direct(self) -> None:
        """Ask past the proxy: what works there and not here is the fault of what is in between."""
        url = self.params["direct_url"]
        direct = Doctor({**self.params, "api_url": url})
        if direct.reaches_api():
            direct.run(direct.check_version, direct.check_websockets)
        there = {check["name"]: check for check in direct.checks}
        unreachable = next((check for check in direct.checks if check["status"] == "failed" and check["name"] in ("dns", "tcp", "tls")), None)
        works = [name for name in self.failed() if there.get(name, {}).get("status") in ("ok", "skipped")]
        if unreachable:
            self.add("direct", "warning", f"{url}: {unreachable['detail']}", "run the module where it reaches that address, or leave direct_url out")
        elif works:
            detail = f"{', '.join(works)}: that works at {url}, so the fault is in between"
            self.add("direct", "failed", detail, "look at the proxy's configuration and its journal")
        elif direct.failed():
            self.add("direct", "failed", f"{url} has a fault of its own: {', '.join(direct.failed())}", "mend the server before its proxy")
        elif self.version and direct.version != self.version:
            self.add("direct", "failed", f"{url} has Prefect {direct.version}, and api_url {self.version}", "let the proxy lead to the same server")
        else:
            self.add("direct", "ok", f"{url} answers the same")

    def check_database(self, database: Database, processes: int) -> None:
        """Connect as the server does, and see whether there are connections enough for it."""
        try:
            seen = database.look()
        except DatabaseError as exc:
            self.add("database", "failed", exc.problem, exc.remedy)
            return
        except OSError as exc:
            self.add("database", "failed", f"it could not be looked at ({exc})", "give the interpreter of an installed Prefect as python")
            return
        if not seen["server_version"]:
            self.add("database", "ok", "SQLite can be read")
            return
        problem, _dot, remedy = migration_problem(seen).partition(". ")
        size = f"{megabytes(seen['size'])}, events are {megabytes(seen['events_size'])} of it"
        how = f"PostgreSQL {seen['server_version']} {'with' if seen['tls'] else 'without'} TLS answers in {seen['latency_ms']} ms; it has {size}"
        self.add("database", "warning" if problem else "ok", problem or how, remedy)
        usable = seen["max_connections"] - seen["reserved_connections"]
        planned = planned_connections(self.pool_settings(), processes)
        detail = f"the server needs up to {planned} connections in {processes} process{'' if processes == 1 else 'es'}, and PostgreSQL takes {usable}"
        remedy = "raise max_connections of PostgreSQL, or lower sqlalchemy.pool_size and max_overflow in server.database" if planned > usable else ""
        self.add("connections", "warning" if remedy else "ok", detail, remedy)

    def pool_settings(self) -> dict[str, t.Any]:
        """Give the pool's settings, which old versions name otherwise."""
        database = self.settings.get("database", {})
        return {"sqlalchemy": database.get("sqlalchemy") or {key: database.get(f"sqlalchemy_{key}") for key in ("pool_size", "max_overflow")}}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **prefect_argument_spec(),
            "version": {"type": "str"},
            "pools": {"type": "dict", "default": {}},
            "wait_timeout": {"type": "int", "default": 0},
            "tls_days_left": {"type": "int", "default": 14},
            "direct_url": {"type": "str"},
            "database": {
                "type": "dict",
                "options": {
                    "connection_url": {"type": "str", "required": True, "no_log": True},
                    "python": {"type": "path", "default": "/opt/prefect/current/bin/python"},
                    "user": {"type": "str"},
                    "settings": {"type": "dict", "default": {}},
                    "processes": {"type": "int", "default": 1},
                },
            },
        },
        supports_check_mode=True,
    )
    for pool, names in module.params["pools"].items():
        if not isinstance(names, list):
            module.fail_json(msg=f"pools: {pool} has {names!r}: write a list of the names of its workers, or [] for any.")
    options = module.params["database"]
    try:
        database = None
        if options:
            database = Database(options["connection_url"], **{key: options[key] for key in ("settings", "python", "user")})
            database.hide(module)
        doctor = Doctor(module.params, database)
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    except AsyncpgUrlError as exc:
        module.fail_json(msg=f"database.connection_url cannot be used: {exc}.")
    doctor.examine()
    module.exit_json(changed=False, checks=doctor.checks, failed_checks=doctor.failed(), server_version=doctor.version, workers=doctor.workers)


if __name__ == "__main__":
    main()
