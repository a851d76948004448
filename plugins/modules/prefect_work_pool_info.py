#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_work_pool_info
short_description: Read work pools of a Prefect server, with their queues and workers
description:
  - Reads work pools, and whether they have what they need to run something, which are queues and workers that are online.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
options:
  names:
    description: Names of the work pools to read, in place of all. One that does not exist is not in the result.
    type: list
    elements: str
seealso:
  - module: selfhost.prefect.prefect_work_pool
"""

EXAMPLES = r"""
- name: Look at a pool
  selfhost.prefect.prefect_work_pool_info:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    names: [etl]
  register: found

- name: Wait until it has a worker
  selfhost.prefect.prefect_work_pool_info:
    names: [etl]
  register: found
  until: found.work_pools | map(attribute='workers') | flatten | selectattr('status', 'equalto', 'ONLINE')
  retries: 10
"""

RETURN = r"""
work_pools:
  description: The work pools as the server gives them, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
    type:
      description: Type of the workers that the pool is for.
      type: str
    status:
      description: C(READY), C(NOT_READY) (no worker is online) or C(PAUSED).
      type: str
    is_paused:
      description: Whether the pool hands out no work.
      type: bool
    concurrency_limit:
      description: Greatest number of runs at a time; none without a limit.
      type: int
    base_job_template:
      description: Template of the jobs that the workers start.
      type: dict
    work_queues:
      description: Its queues as the server gives them, the first in priority first.
      type: list
      elements: dict
      contains:
        name:
          description: Name.
          type: str
        priority:
          description: Whose runs go first, V(1) before all others.
          type: int
        is_paused:
          description: Whether the queue hands out no work.
          type: bool
        concurrency_limit:
          description: Greatest number of runs at a time; none without a limit.
          type: int
        status:
          description: C(READY), C(NOT_READY) (no worker asks for its work) or C(PAUSED).
          type: str
        last_polled:
          description: When a worker last asked for its work; none for never.
          type: str
    workers:
      description: Its workers as the server gives them, the last heard of first.
      type: list
      elements: dict
      contains:
        name:
          description: Name.
          type: str
        status:
          description: C(ONLINE) or C(OFFLINE).
          type: str
        last_heartbeat_time:
          description: When the server last heard of it.
          type: str
  sample:
    - name: etl
      type: process
      status: READY
      is_paused: false
      concurrency_limit: 10
      base_job_template: {}
      work_queues:
        - {name: default, priority: 1, is_paused: false, concurrency_limit: null, status: READY, last_polled: "2026-08-21T10:00:00Z"}
      workers:
        - {name: etl-1, status: ONLINE, last_heartbeat_time: "2026-08-21T10:00:00Z"}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec


def read(client: PrefectClient, names: list[str] | None) -> list[dict[str, t.Any]]:
    if names is None:
        pools = client.filter("work_pools/filter")
    else:
        pools = client.filter("work_pools/filter", {"work_pools": {"name": {"any_": names}}}, most=len(set(names)))
    for pool in pools:
        path = f"work_pools/{client.quote(pool['name'])}"
        pool["work_queues"] = client.filter(f"{path}/queues/filter")
        pool["workers"] = client.filter(f"{path}/workers/filter")
    return sorted(pools, key=lambda pool: pool["name"])


def main() -> None:
    names = {"type": "list", "elements": "str"}
    module = AnsibleModule(argument_spec={**prefect_argument_spec(), "names": names}, supports_check_mode=True)
    try:
        pools = read(PrefectClient.from_params(module.params), module.params["names"])
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, work_pools=pools)


if __name__ == "__main__":
    main()
