#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_flow_run
short_description: Start a run of a Prefect deployment and wait for it
description:
  - Starts a run of a deployment at once, and waits until it is completed.
  - Fails when the run fails, crashes or is cancelled, with the message of its state and its last log lines.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: Starts nothing and waits for nothing. The deployment, the parameters and the O(idempotency_key) are looked at.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Each call is a run of its own, unless O(idempotency_key) names one that was started before.
options:
  deployment:
    description: Names of the flow and of its deployment, C(flow/deployment).
    type: str
    required: true
  parameters:
    description:
      - Parameters of the run that differ from those of the deployment. They are checked against the deployment's schema.
      - Prefect shows them to everybody who sees the run, so a secret belongs in a block.
    type: dict
    default: {}
  job_variables:
    description: Job variables of the run that differ from those of the deployment.
    type: dict
    default: {}
  tags:
    description: Tags of the run, besides those of the deployment.
    type: list
    elements: str
    default: []
  idempotency_key:
    description:
      - Any text that names the run. When the flow has a run with this key, none is started, and the module waits for that one and tells its state.
      - A run that failed is not started again by the same key.
    type: str
  wait:
    description: Whether to wait for the end of the run.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds to wait for the end of the run. One that is still under way by then goes on, but the task fails.
      - An outage of the server in between does no harm.
    type: int
    default: 600
notes:
  - Ansible shows what a module says when the module ends. While it waits, each state that the run enters is written to the journal of the host that the
    module runs on. With O(wait=false) a playbook can look at a long run itself, or give the task C(async).
"""

EXAMPLES = r"""
- name: Load yesterday, and go on when it is done
  selfhost.prefect.prefect_flow_run:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    deployment: load/nightly
    parameters:
      day: "2026-11-22"
    wait_timeout: 1800
  register: load

- name: Say how it went
  ansible.builtin.debug:
    msg: "{{ load.flow_run.name }}: {{ load.timeline | map(attribute='name') | join(', ') }}"

- name: Run the migration of this release once, however often the playbook runs
  selfhost.prefect.prefect_flow_run:
    deployment: migrate/warehouse
    idempotency_key: release-42
"""

RETURN = r"""
flow_run:
  description: The flow run.
  returned: when there is a run
  type: dict
  contains:
    id:
      description: Identifier, as in the address of its page.
      type: str
    name:
      description: Name.
      type: str
    deployment:
      description: Names of the flow and of the deployment.
      type: str
  sample:
    id: 2b45803d-b356-4de8-84eb-bed2841cf426
    name: cuddly-teal
    deployment: load/nightly
state:
  description: Name of the state that the run is in.
  returned: when there is a run
  type: str
  sample: Completed
state_type:
  description: Type of that state, one of Prefect's fixed ones.
  returned: when there is a run
  type: str
  sample: COMPLETED
timeline:
  description: The states of the run so far, oldest first.
  returned: when there is a run
  type: list
  elements: dict
  contains:
    name:
      description: Name of the state.
      type: str
    type:
      description: Type of the state.
      type: str
    timestamp:
      description: When the run entered it.
      type: str
    message:
      description: What Prefect says to it.
      type: str
  sample:
    - name: Scheduled
      type: SCHEDULED
      timestamp: "2026-11-22T10:00:00.123456Z"
      message:
logs:
  description: The last 20 log lines of the run, oldest first.
  returned: when there is a run
  type: list
  elements: str
  sample: ["Loaded 120 rows."]
"""

import time
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._flow_run import FINAL, HINTS, LOG_SECONDS, POLL_SECONDS, last_logs
from ansible_collections.selfhost.prefect.plugins.module_utils._json_schema import find_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec


class FlowRun:
    """One run of a deployment."""

    def __init__(self, module: AnsibleModule, client: PrefectClient) -> None:
        self.module = module
        self.client = client
        self.name: str = module.params["deployment"]
        self.deployment: dict[str, t.Any] = {}
        self.run: dict[str, t.Any] = {}

    def find_deployment(self) -> None:
        """Read the deployment, and see that it takes the parameters."""
        flow, _slash, name = self.name.partition("/")
        quote = self.client.quote
        found = self.client.get(f"deployments/name/{quote(flow)}/{quote(name)}", missing_ok=True)
        if found is None and self.module.check_mode:
            self.module.warn(f"There is no deployment {self.name!r} yet. A run of this playbook outside check mode has to create it before.")
            self.module.exit_json(changed=True)
        if found is None:
            there = sorted(other["name"] for other in self.client.filter("deployments/filter", {"flows": {"name": {"any_": [flow]}}}))
            known = f"the flow {flow!r} has {', '.join(there)}" if there else f"the flow {flow!r} has none"
            raise PrefectError(f"deployment: there is no deployment {self.name!r}, {known}", "correct the name, or create it", "missing")
        self.deployment = found
        if found["enforce_parameter_schema"] and (problem := self.problem_of_parameters()):
            raise PrefectError(problem, "correct it, or the schema of the deployment", "parameters")

    def problem_of_parameters(self) -> str | None:
        """Say what is wrong with the parameters as the run would have them."""
        parameters = {**self.deployment["parameters"], **self.module.params["parameters"]}
        return find_problem(parameters, self.deployment["parameter_openapi_schema"] or {}, "parameters")

    def find_run(self) -> bool:
        """Read the run that the idempotency key names, if there is one."""
        key = self.module.params["idempotency_key"]
        if key is None:
            return False
        body = {"flow_runs": {"idempotency_key": {"any_": [key]}}, "flows": {"id": {"any_": [self.deployment["flow_id"]]}}}
        self.run = next(iter(self.client.post("flow_runs/filter", body)), {})
        return bool(self.run)

    def start(self) -> None:
        """Start a run at once."""
        params = self.module.params
        body = {name: params[name] for name in ("parameters", "job_variables", "tags")}
        # With a key the server makes one run only, however often it is asked.
        body["idempotency_key"] = params["idempotency_key"] or str(uuid.uuid4())
        self.run = self.client.post(f"deployments/{self.deployment['id']}/create_flow_run", body, repeatable=True)

    def wait(self, deadline: float) -> bool:
        """Wait for a final state; say whether one came in time."""
        seen = None
        while True:
            try:
                self.run = self.client.get(f"flow_runs/{self.run['id']}")
            except PrefectError as exc:
                # The run goes on without the server, and so does waiting for it.
                if exc.kind not in ("refused", "timeout", "connection", "dns") and exc.status not in (429, 502, 503, 504):
                    raise
                if time.monotonic() > deadline:
                    raise
            if self.run["state_name"] != seen:
                seen = self.run["state_name"]
                self.module.log(f"The flow run {self.run['name']} of {self.name} is {seen}.")
            if self.run["state_type"] in FINAL:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def problem(self, in_time: bool) -> str:
        """Say what is wrong with the end of the run, if anything is."""
        state, message = self.run["state_type"], (self.run.get("state") or {}).get("message")
        if not in_time:
            hint = HINTS.get(state, "see its page")
            return f"did not end within {self.module.params['wait_timeout']} s but is {self.run['state_name']}, and goes on: {hint}"
        return "" if state == "COMPLETED" else f"ended {self.run['state_name']}" + (f": {message}" if message else "")

    def result(self) -> dict[str, t.Any]:
        """Give what is told about the run."""
        states = sorted(self.client.get(f"flow_run_states/?flow_run_id={self.run['id']}"), key=lambda state: state["timestamp"])
        return {
            "flow_run": {"id": self.run["id"], "name": self.run["name"], "deployment": self.name},
            "state": self.run["state_name"],
            "state_type": self.run["state_type"],
            "timeline": [{name: state[name] for name in ("name", "type", "timestamp", "message")} for state in states],
            "logs": last_logs(self.client, self.run["id"]),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **prefect_argument_spec(),
            "deployment": {"type": "str", "required": True},
            "parameters": {"type": "dict", "default": {}},
            "job_variables": {"type": "dict", "default": {}},
            "tags": {"type": "list", "elements": "str", "default": []},
            # Not a secret, for all its name.
            "idempotency_key": {"type": "str", "no_log": False},
            "wait": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    name, timeout = module.params["deployment"], module.params["wait_timeout"]
    if not all(name.partition("/")) or name.count("/") != 1:
        module.fail_json(msg=f"deployment: {name!r} does not name a flow and a deployment: write flow/deployment, like load/nightly.")
    if timeout < 0:
        module.fail_json(msg=f"wait_timeout: {timeout} is no time to wait: write the seconds, or wait=false.")
    if module.params["idempotency_key"] == "":
        module.fail_json(msg="idempotency_key: it is empty: write a text that names the run, or leave it out.")
    deadline = time.monotonic() + timeout
    problem = ""
    try:
        flow_run = FlowRun(module, PrefectClient.from_params(module.params))
        flow_run.find_deployment()
        changed = not flow_run.find_run()
        if module.check_mode:
            module.exit_json(changed=changed, **(flow_run.result() if flow_run.run else {}))
        if changed:
            flow_run.start()
        if module.params["wait"]:
            problem = flow_run.problem(flow_run.wait(deadline))
            # The last log lines come after the state; those of an old run are there.
            time.sleep(LOG_SECONDS if changed else 0)
        result = flow_run.result()
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    if problem:
        lines = "\n".join(result["logs"][-5:])
        message = f"The flow run {flow_run.run['name']!r} of {flow_run.name!r} {problem}." + (f" Its last log lines:\n{lines}" if lines else "")
        module.fail_json(msg=message, changed=changed, **result)
    module.exit_json(changed=changed, **result)


if __name__ == "__main__":
    main()
