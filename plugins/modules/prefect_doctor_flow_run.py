#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_doctor_flow_run
short_description: Prove a work pool by running a small flow through it
description:
  - Runs a small built-in flow with one task through a work pool and waits until it is completed and its task run is recorded.
  - That takes the API, the scheduler of the work queue, a worker, the infrastructure it starts, and the events WebSocket by which task runs are recorded.
  - Nothing has to be on the worker. The deployment, one for each pool and queue of the flow C(selfhost-prefect-doctor), brings its code along
    in a pull step, for any type of infrastructure that has a POSIX shell and Prefect.
  - Fails with the run's last log lines when the run does not complete. A run that nobody takes in time is cancelled.
  - Fails as well when the run had a newer Prefect than the server has. Such a server refuses some of its requests.
  - The newest finished run stays for people to look at, older ones are deleted.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: Starts nothing, and says only that it would.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Each call is a run of its own, and reports a change.
options:
  work_pool:
    description: Name of the work pool.
    type: str
    required: true
  work_queue:
    description: Name of a queue of the pool, when it shall not be the default one.
    type: str
  wait_timeout:
    description:
      - Seconds until the run has to be completed.
      - A worker of P(selfhost.prefect.prefect_worker#role) looks for runs every second, others every ten, and Prefect itself takes some to start.
      - Infrastructure that pulls images first takes longer.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: See a flow run through the pool
  selfhost.prefect.prefect_doctor_flow_run:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    work_pool: etl
  register: run

- name: Say how long that took
  ansible.builtin.debug:
    msg: "{{ run.state }} after {{ run.seconds }} s by Prefect {{ run.prefect_version }}"
"""

RETURN = r"""
state:
  description: Name of the state that the run ended in.
  returned: when a run was started
  type: str
  sample: Completed
seconds:
  description: Seconds from the start of the call to the end of the run, with the task run recorded.
  returned: when a run was started
  type: float
  sample: 7.4
prefect_version:
  description: Version of Prefect that the flow ran with, which is the worker's, or that of its image.
  returned: success, outside check mode
  type: str
  sample: 3.8.8
flow_run:
  description: The flow run.
  returned: when a run was started
  type: dict
  contains:
    id:
      description: Identifier, as in the address of its page.
      type: str
    name:
      description: Name.
      type: str
    deployment:
      description: Name of the flow and of the deployment.
      type: str
  sample:
    id: 2b45803d-b356-4de8-84eb-bed2841cf426
    name: cuddly-teal
    deployment: selfhost-prefect-doctor/etl
logs:
  description: The run's last log lines, oldest first.
  returned: when a run was started
  type: list
  elements: str
"""

import shlex
import time
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._flow_run import FINAL, HINTS, LOG_SECONDS, POLL_SECONDS, last_logs
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, parse_version, prefect_argument_spec

FLOW = "selfhost-prefect-doctor"
FILE = "selfhost_prefect_doctor.py"
# The task makes the run depend on the events WebSocket; the message of the final state tells the version.
SOURCE = """\
import prefect
from prefect.states import Completed

@prefect.task
def check():
    return prefect.__version__

@prefect.flow(name="selfhost-prefect-doctor")
def doctor():
    return Completed(message=check())
"""
# A step takes one command a line and no shell of its own.
SCRIPT = "sh -c " + shlex.quote("printf %b " + shlex.quote(SOURCE.replace("\n", "\\n")) + " > " + FILE)

# Task runs are written every five seconds.
RECORD_SECONDS = 20


class DoctorRun:
    """The check flow's deployment for one pool and queue, and one run of it."""

    def __init__(self, client: PrefectClient, pool: str, queue: str | None) -> None:
        self.client = client
        self.pool = pool
        self.queue = queue
        self.name = f"{pool}-{queue}" if queue else pool
        self.run: dict[str, t.Any] = {}

    def check(self) -> None:
        """See that pool and queue exist: the server would make a queue up."""
        path = f"work_pools/{self.client.quote(self.pool)}"
        if self.client.get(path, missing_ok=True) is None:
            raise PrefectError(f"work_pool: there is no work pool {self.pool!r}", "create it, or correct the name", "missing")
        if self.queue and self.client.get(f"{path}/queues/{self.client.quote(self.queue)}", missing_ok=True) is None:
            raise PrefectError(f"work_queue: the pool {self.pool!r} has no queue {self.queue!r}", "create it, or correct the name", "missing")

    def deploy(self) -> str:
        """Have the deployment, and give its identifier."""
        wanted = {
            "work_pool_name": self.pool,
            "work_queue_name": self.queue or "default",
            "entrypoint": f"{FILE}:doctor",
            "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": SCRIPT, "stream_output": False}}],
            "parameter_openapi_schema": {"type": "object", "properties": {}},
            "paused": False,
        }
        quote = self.client.quote
        current = self.client.get(f"deployments/name/{quote(FLOW)}/{quote(self.name)}", missing_ok=True)
        if current is None or any(current.get(field) != value for field, value in wanted.items()):
            flow = self.client.post("flows/", {"name": FLOW}, repeatable=True)
            body = {"name": self.name, "flow_id": flow["id"], "description": "A check by selfhost.prefect; deleted, it comes back.", **wanted}
            current = self.client.post("deployments/", body, repeatable=True)
        return str(current["id"])

    def start(self) -> None:
        """Start a run at once."""
        path = f"deployments/{self.deploy()}/create_flow_run"
        # With the key the server makes one run only, however often it is asked.
        self.run = self.client.post(path, {"idempotency_key": str(uuid.uuid4())}, repeatable=True)

    def wait(self, deadline: float) -> bool:
        """Wait for a final state; a run that misses the deadline is called off."""
        path = f"flow_runs/{self.run['id']}"
        while True:
            self.run = self.client.get(path)
            if self.run["state_type"] in FINAL:
                return True
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        state = {"type": "CANCELLING" if self.run["state_type"] == "RUNNING" else "CANCELLED", "message": "Not completed in time for selfhost.prefect's check."}
        self.client.post(f"{path}/set_state", {"state": state, "force": True}, repeatable=True)
        return False

    def recorded(self) -> bool:
        """Wait until the task run is recorded as completed."""
        deadline = time.monotonic() + RECORD_SECONDS
        while True:
            runs = self.client.filter("task_runs/filter", {"flow_runs": {"id": {"any_": [self.run["id"]]}}})
            if any(run["state_type"] == "COMPLETED" for run in runs):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def too_old(self, version: str) -> str:
        """Give the server's version if it is older than this one, with which the flow ran."""
        server = str(self.client.get("admin/version"))
        return server if parse_version(server) < parse_version(version) else ""

    def clean(self) -> None:
        """Delete the finished runs that ended before this one began."""
        body = {
            "flow_runs": {
                "deployment_id": {"any_": [self.run["deployment_id"]]},
                "state": {"type": {"any_": list(FINAL)}},
                "end_time": {"before_": self.run["created"]},
            }
        }
        for old in self.client.filter("flow_runs/filter", body):
            self.client.delete(f"flow_runs/{old['id']}")

    def result(self) -> dict[str, t.Any]:
        """Give what is told about the run."""
        return {
            "state": self.run["state_name"],
            "flow_run": {"id": self.run["id"], "name": self.run["name"], "deployment": f"{FLOW}/{self.name}"},
            "logs": last_logs(self.client, self.run["id"]),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **prefect_argument_spec(),
            "work_pool": {"type": "str", "required": True},
            "work_queue": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    started = time.monotonic()
    timeout = module.params["wait_timeout"]
    try:
        doctor = DoctorRun(PrefectClient.from_params(module.params), module.params["work_pool"], module.params["work_queue"])
        doctor.check()
        doctor.start()
        in_time = doctor.wait(started + timeout)
        state, message = doctor.run["state_type"], (doctor.run.get("state") or {}).get("message")
        problem = ""
        if not in_time:
            problem = f"was not completed within {timeout} s but {doctor.run['state_name']}: {HINTS.get(state, 'see its page')}"
        elif state != "COMPLETED":
            problem = f"ended {doctor.run['state_name']}" + (f": {message}" if message else "")
            time.sleep(LOG_SECONDS)
        elif not doctor.recorded():
            problem = "completed, but its task run was not recorded: see that the worker's host reaches the WebSocket events/in and that the server's "
            problem += "background services run"
        elif server_version := doctor.too_old(message or ""):
            problem = f"completed with Prefect {message}, which is newer than the server's {server_version}: upgrade the server first"
        doctor.clean()
        result = {**doctor.result(), "seconds": round(time.monotonic() - started, 1)}
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    if problem:
        lines = "\n".join(result["logs"][-5:])
        name = result["flow_run"]["name"]
        module.fail_json(
            msg=f"The flow run {name!r} in the work pool {doctor.pool!r} {problem}." + (f" Its last log lines:\n{lines}" if lines else ""), **result
        )
    module.exit_json(changed=True, prefect_version=message, **result)


if __name__ == "__main__":
    main()
