# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Workers as their users see them: flow runs, units, and what another run of the role does."""

from __future__ import annotations

import datetime as dt
import time

import pytest
import testinfra
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError

AUTH = "tester:made-up-p@ss:word%"
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def wait_until(check, seconds=120.0):
    """What `check` gives, as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"{check.__qualname__} did not come true in {seconds:g} s"
        time.sleep(0.5)
    return found


@pytest.fixture(name="wait_until", scope="session")
def _wait_until():
    return wait_until


class Worker:
    """A worker on its host."""

    def __init__(self, host, name, pool, queue=None):
        self.host, self.name, self.pool, self.queue = host, name, pool, queue
        self.unit = f"prefect-worker@{name}.service"

    def show(self, key):
        return self.host.check_output("systemctl show --property=%s --value %s", key, self.unit)

    @property
    def pid(self):
        return int(self.show("MainPID"))

    def systemctl(self, *arguments):
        self.host.check_output(" ".join(["systemctl", *arguments, self.unit]))

    def is_running(self):
        return self.show("ActiveState") == "active"


class Prefect:
    """The server's API."""

    def __init__(self):
        host = testinfra.get_host("ansible://molecule-worker-server")
        self.server = host
        self.client = PrefectClient(f"http://{host.check_output('hostname --ip-address').split()[0]}:4200/api", auth_string=AUTH)
        self.deployments = {}

    def is_ready(self):
        try:
            return self.client.get("ready")
        except PrefectError:
            return False

    def deployment(self, worker, flow, queue):
        key = worker.pool, queue, flow
        if key not in self.deployments:
            self.deployments[key] = self.client.post(
                "deployments/",
                {
                    "name": f"{worker.pool} {queue}",
                    "flow_id": self.client.post("flows/", {"name": flow})["id"],
                    "work_pool_name": worker.pool,
                    "work_queue_name": queue,
                    "entrypoint": f"flows.py:{flow}",
                    "enforce_parameter_schema": False,
                    "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv/flows"}}],
                },
            )["id"]
        return self.deployments[key]

    def run(self, worker, flow, queue=None, tags=(), **parameters):
        """Have a flow run, and give its id."""
        wish = {"state": {"type": "SCHEDULED"}, "parameters": parameters, "tags": list(tags)}
        return self.client.post(f"deployments/{self.deployment(worker, flow, queue or worker.queue)}/create_flow_run", wish)["id"]

    def flow_run(self, flow_run_id):
        return self.client.get(f"flow_runs/{flow_run_id}")

    def state(self, flow_run_id):
        return self.flow_run(flow_run_id)["state"]["type"]

    def is_online(self, worker):
        known = self.client.filter(f"work_pools/{self.client.quote(worker.pool)}/workers/filter", {})
        return (worker.name, "ONLINE") in [(one["name"], one["status"]) for one in known]

    def worker(self, flow_run_id):
        """The name of the worker that started it last."""
        return self.flow_run(flow_run_id)["labels"]["prefect.worker.name"]

    def wait_for(self, flow_run_id, *states):
        """The flow run, as soon as it is in one of the states."""

        def flow_run_got_there():
            found = self.flow_run(flow_run_id)
            return found if found["state"]["type"] in (states or FINAL) else None

        return wait_until(flow_run_got_there)

    def begin(self, worker, flow, **parameters):
        """Have a flow run, and give its id as soon as it runs."""
        flow_run_id = self.run(worker, flow, **parameters)
        assert self.wait_for(flow_run_id, "RUNNING", *FINAL)["state"]["type"] == "RUNNING"
        return flow_run_id

    def inner_states(self, flow_run_id):
        """States of the flow runs that it called itself."""
        inner = self.client.filter("flow_runs/filter", {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run_id]}}})
        return [flow_run["state"]["type"] for flow_run in inner]

    def times(self, flow_run_id):
        flow_run = self.wait_for(flow_run_id)
        assert flow_run["state"]["type"] == "COMPLETED", flow_run["state"]
        return [dt.datetime.fromisoformat(flow_run[key].replace("Z", "+00:00")) for key in ("start_time", "end_time")]


@pytest.fixture(scope="session")
def prefect():
    return Prefect()


@pytest.fixture(scope="session")
def hosts():
    return [testinfra.get_host(f"ansible://molecule-worker-{debian}") for debian in (12, 13)]


@pytest.fixture(scope="session")
def etls(hosts):
    return [Worker(host, f"etl-{debian}", f"etl pool {debian}", "fast") for host, debian in zip(hosts, (12, 13))]


@pytest.fixture(scope="session")
def mains(hosts):
    return [Worker(host, f"molecule-worker-{debian}", "default") for host, debian in zip(hosts, (12, 13))]


@pytest.fixture
def dockers(hosts):
    """Workers that a test of changes makes. They need Docker's group, and its engine for a flow run alone."""
    for host in hosts:
        host.check_output("groupadd --system docker")
    yield [Worker(host, "second", f"containers {debian}") for host, debian in zip(hosts, (12, 13))]
    for host in hosts:
        host.check_output("groupdel docker")
