#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_work_pool
short_description: Manage a work pool of a Prefect server
description:
  - Creates, changes or deletes a work pool.
  - What is not given stays as it is on the server.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: Name of the work pool. Prefect keeps names that begin with C(prefect) for itself.
    type: str
    required: true
  state:
    description:
      - V(present) creates the work pool, or changes what differs.
      - V(absent) deletes it, with its queues. Deployments that use it stay, without a pool.
    type: str
    choices: [present, absent]
    default: present
  type:
    description:
      - Kind of infrastructure that the pool's workers start runs on, such as V(process), V(docker) or V(kubernetes).
      - Needed to create the pool. Prefect cannot change it later.
      - It must be one that the server knows. A pool for a worker class of your own is best created by that worker at its first start.
    type: str
  description:
    description: What the pool is for.
    type: str
  concurrency_limit:
    description: How many runs of the pool may be under way at a time. V(-1) removes the limit, V(0) lets none start.
    type: int
  paused:
    description: Whether the pool hands out no work.
    type: bool
  work_queues:
    description:
      - Queues that the pool has to have. Those that are missing are created; others stay.
      - A worker that asks for several queues gets nothing from any of them as long as one does not exist.
    type: list
    elements: str
    default: []
notes:
  - A new pool has an empty base job template. The first worker that starts in it fills in the default of the type as that worker has it installed,
    so pool and worker agree on the fields.
"""

EXAMPLES = r"""
- name: Have a pool for runs as processes, at most ten at a time
  selfhost.prefect.prefect_work_pool:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    name: etl
    type: process
    description: Nightly loads
    concurrency_limit: 10
    work_queues: [nightly, urgent]

- name: Hand out no work while the warehouse is down
  selfhost.prefect.prefect_work_pool:
    name: etl
    paused: true

- name: Delete the pool
  selfhost.prefect.prefect_work_pool:
    name: etl
    state: absent
"""

RETURN = r"""
work_pool:
  description: The work pool as the server gives it; as it would be, in check mode; empty after O(state=absent).
  returned: success
  type: dict
  contains:
    id:
      description: Identifier; missing of a pool that check mode would create.
      type: str
      returned: when the pool exists
    name:
      description: Name.
      type: str
    type:
      description: Type of the workers that the pool is for.
      type: str
    description:
      description: What the pool is for.
      type: str
    is_paused:
      description: Whether the pool hands out no work.
      type: bool
    concurrency_limit:
      description: Greatest number of runs at a time; none without a limit.
      type: int
    status:
      description: C(READY), C(NOT_READY) (no worker is online) or C(PAUSED).
      type: str
      returned: when the pool exists
    default_queue_id:
      description: Identifier of the pool's default queue.
      type: str
      returned: when the pool exists
    base_job_template:
      description: Template of the jobs that the workers start.
      type: dict
      returned: when the pool exists
  sample:
    id: 0c1d9be2-6f5b-4c8e-9a55-0f6f2a4a3c11
    name: etl
    type: process
    description: Nightly loads
    is_paused: false
    concurrency_limit: 10
    status: READY
work_queues:
  description: Names of the pool's queues. Only asked for when O(work_queues) is given.
  returned: when O(work_queues) is given
  type: list
  elements: str
  sample: [default, nightly, urgent]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec

# Option of the module -> field of the API.
FIELDS = {"name": "name", "type": "type", "description": "description", "concurrency_limit": "concurrency_limit", "paused": "is_paused"}


def wanted_fields(params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Give the fields that the task names, as the API has them."""
    wanted = {field: params[option] for option, field in FIELDS.items() if params[option] is not None}
    if wanted.get("concurrency_limit") == -1:
        wanted["concurrency_limit"] = None
    return wanted


def check_new(client: PrefectClient, wanted: dict[str, t.Any]) -> str | None:
    """Say what stands against the creation of a pool; the server would accept any type."""
    name, type_ = wanted["name"], wanted.get("type")
    if name.lower().startswith("prefect"):
        return f"name: Prefect keeps names that begin with 'prefect' for itself, and {name!r} does: choose another name."
    catalogue = client.get("collections/views/aggregate-worker-metadata")
    types = sorted({worker["type"] for workers in catalogue.values() for worker in workers.values()})
    if type_ is None:
        return f"type: the work pool {name!r} does not exist yet and needs a type to be created: write one of {', '.join(types)}."
    if type_ not in types:
        return f"type: {type_!r} is no type that the server knows: write one of {', '.join(types)}."
    return None


def run(module: AnsibleModule, client: PrefectClient) -> dict[str, t.Any]:
    """Bring the pool into the state that the task asks for."""
    name = module.params["name"]
    path = f"work_pools/{client.quote(name)}"
    current: dict[str, t.Any] | None = client.get(path, missing_ok=True)
    before = {field: current[field] for field in FIELDS.values()} if current else {}
    after: dict[str, t.Any] = {}
    if module.params["state"] == "present":
        wanted = wanted_fields(module.params)
        after = {**before, **wanted} if current else {**dict.fromkeys(FIELDS.values()), "is_paused": False, **wanted}
        if current is None:
            problem = check_new(client, wanted)
            if problem:
                module.fail_json(msg=problem)
        elif after["type"] != before["type"]:
            module.fail_json(
                msg=f"type: the work pool {name!r} exists with the type {before['type']!r}, which Prefect cannot change to {after['type']!r}: "
                f"write {before['type']!r}, or delete the pool first (state: absent)."
            )
    changed = before != after
    if changed and not module.check_mode:
        if not after:
            client.delete(path)
        elif current is None:
            create(client, after)
        else:
            client.patch(path, {field: value for field, value in after.items() if value != before[field]})
        current = client.get(path) if after else None
    shown = ({} if not after else {**(current or {}), **after}) if module.check_mode else current or {}
    return {"changed": changed, "work_pool": shown, "diff": {"before": before, "after": after}}


def create(client: PrefectClient, pool: dict[str, t.Any]) -> None:
    try:
        client.post("work_pools/", pool)
    except PrefectError as exc:
        # Another host may create the same pool at the same moment, and has been faster.
        found = client.get(f"work_pools/{client.quote(pool['name'])}", missing_ok=True) if exc.status == 409 else None
        if not found or any(found[field] != value for field, value in pool.items()):
            raise


def run_queues(module: AnsibleModule, client: PrefectClient, result: dict[str, t.Any]) -> None:
    """Create the queues that the pool lacks, and add them to the result."""
    path = f"work_pools/{client.quote(module.params['name'])}/queues"
    exists = bool(result["work_pool"].get("id"))
    before = sorted(queue["name"] for queue in client.filter(f"{path}/filter", {})) if exists else []
    missing = sorted(set(module.params["work_queues"]) - set(before))
    if not module.check_mode:
        for name in missing:
            try:
                client.post(path, {"name": name})
            except PrefectError as exc:
                # As with the pool.
                if exc.status != 409:
                    raise
    result["changed"] = result["changed"] or bool(missing)
    result["work_queues"] = sorted({*before, *missing})
    result["diff"]["before"]["work_queues"] = before
    result["diff"]["after"]["work_queues"] = result["work_queues"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **prefect_argument_spec(),
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "type": {"type": "str"},
            "description": {"type": "str"},
            "concurrency_limit": {"type": "int"},
            "paused": {"type": "bool"},
            "work_queues": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    limit = module.params["concurrency_limit"]
    if limit is not None and limit < -1:
        module.fail_json(msg=f"concurrency_limit: {limit} is no limit: write -1 for none, 0 to let no run start, or a greater number.")
    try:
        client = PrefectClient.from_params(module.params)
        result = run(module, client)
        if module.params["work_queues"] and module.params["state"] == "present":
            run_queues(module, client, result)
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
