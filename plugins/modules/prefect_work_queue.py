#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_work_queue
short_description: Manage work queues of a Prefect server's work pools
description:
  - Creates, changes or deletes any number of work queues, of one or of several work pools, in one call, which writes only those that differ.
  - What is not given stays as it is on the server.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._resources
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  work_queues:
    description: The work queues.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the queue.
        type: str
        required: true
      work_pool:
        description: Name of the work pool that it belongs to, which has to exist. In check mode, it is taken to be what an earlier task would create.
        type: str
        required: true
      description:
        description: What the queue is for.
        type: str
      priority:
        description:
          - Whose runs go first, V(1) before all others.
          - Each queue of a pool has a priority of its own. The server moves other queues back to make room, but none of those that the list gives one.
        type: int
      concurrency_limit:
        description: How many runs of the queue may be under way at a time. V(-1) removes the limit, V(0) lets none start.
        type: int
      paused:
        description: Whether the queue hands out no work.
        type: bool
seealso:
  - module: selfhost.prefect.prefect_work_pool
    description: Creates missing queues with their pool, where only their names matter.
"""

EXAMPLES = r"""
- name: Let urgent runs go first, and only two of the nightly ones at a time
  selfhost.prefect.prefect_work_queue:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    work_queues:
      - name: urgent
        work_pool: etl
        priority: 1
      - name: nightly
        work_pool: etl
        priority: 2
        concurrency_limit: 2

- name: Delete a queue
  selfhost.prefect.prefect_work_queue:
    work_queues:
      - name: nightly
        work_pool: etl
    state: absent
"""

RETURN = r"""
work_queues:
  description: The work queues, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a queue that check mode would create.
      type: str
      returned: when the queue exists
    name:
      description: Name.
      type: str
    work_pool_name:
      description: Name of its work pool.
      type: str
    description:
      description: What the queue is for.
      type: str
    priority:
      description: Its priority; none of a queue that check mode would create, where the task gives none.
      type: int
    concurrency_limit:
      description: Greatest number of runs at a time; none without a limit.
      type: int
    is_paused:
      description: Whether the queue hands out no work.
      type: bool
    status:
      description: C(READY), C(NOT_READY) (no worker asks for its work) or C(PAUSED).
      type: str
      returned: when the queue exists
  sample:
    - id: 9c1f7a51-1d0e-4a4a-9d5e-5d3a0a3c2e11
      name: urgent
      work_pool_name: etl
      description: ""
      priority: 1
      concurrency_limit: null
      is_paused: false
      status: READY
"""

import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import (
    Change,
    Fields,
    InvalidError,
    Kind,
    check_limit,
    check_name,
    manage,
)


class WorkQueues(Kind):
    option = "work_queues"
    noun = "work queue"
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "work_pool": {"type": "str", "required": True},
        "description": {"type": "str"},
        "priority": {"type": "int"},
        "concurrency_limit": {"type": "int"},
        "paused": {"type": "bool"},
    }
    fields: t.ClassVar = {
        "name": "name",
        "work_pool": "work_pool_name",
        "description": "description",
        "priority": "priority",
        "concurrency_limit": "concurrency_limit",
        "paused": "is_paused",
    }
    keys = ("work_pool", "name")
    defaults: t.ClassVar = {"description": "", "is_paused": False}

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        super().__init__(client, check_mode)
        self.pools: dict[str, Fields] = {}
        self.priorities: dict[tuple[str, int], str] = {}

    def check(self, element: Fields) -> None:
        check_name("name", element["name"])
        check_name("work_pool", element["work_pool"])
        check_limit("concurrency_limit", element["concurrency_limit"], lowest=-1)
        priority = element["priority"]
        if priority is None:
            return
        if priority < 1:
            raise InvalidError("priority", f"{priority} is no priority: write 1 for the first, or a greater number.")
        other = self.priorities.setdefault((element["work_pool"], priority), element["name"])
        if other != element["name"]:
            raise InvalidError("priority", f"{priority} is that of {other!r} already, and no two queues of a work pool can have the same: write another one.")

    def wanted(self, element: Fields) -> Fields:
        limit = element["concurrency_limit"]
        return {**super().wanted(element), **({"concurrency_limit": None} if limit == -1 else {})}

    def read(self, elements: list[Fields]) -> list[Fields]:
        names: dict[str, list[str]] = {}
        for element in elements:
            names.setdefault(element["work_pool"], []).append(element["name"])
        pools = self.client.filter("work_pools/filter", {"work_pools": {"name": {"any_": list(names)}}}, most=len(names))
        self.pools = {pool["name"]: pool for pool in pools}
        # Each pool by itself, because the pages of all queues together have no stable order.
        return [queue for pool in self.pools for queue in self.client.filter(f"{path(pool)}/filter", some(names[pool]), most=len(names[pool]))]

    def after(self, element: Fields, current: Fields | None) -> Fields:
        pool = element["work_pool"]
        if pool not in self.pools and not self.check_mode:
            raise InvalidError("work_pool", f"there is no work pool {pool!r}: create it first, or correct the name.")
        return super().after(element, current)

    def check_deletion(self, current: Fields) -> None:
        pool = self.pools[current["work_pool_name"]]
        if current["id"] == pool["default_queue_id"]:
            raise InvalidError(
                "name", f"{current['name']!r} is the default queue of {pool['name']!r} and goes only with it: pause it, or delete the work pool."
            )

    def order(self, changes: list[Change]) -> list[Change]:
        # A queue that takes a place moves those behind it back, so the first place goes first, and those behind are put in place anew.
        moved = set()
        ordered = sorted(changes, key=lambda change: change.element["priority"] or 0)
        for change in ordered:
            pool, priority = change.element["work_pool"], change.element["priority"]
            if priority is None or change.after is None:
                continue
            if "priority" in change.fields():
                moved.add(pool)
            elif pool in moved:
                change.forced = {"priority": priority}
        return ordered

    def create(self, after: Fields) -> None:
        self.client.post(path(after["work_pool_name"]), {name: value for name, value in after.items() if name != "work_pool_name"})

    def update(self, current: Fields, fields: Fields) -> None:
        self.client.patch(f"{path(current['work_pool_name'])}/{self.client.quote(current['name'])}", fields)

    def delete(self, current: Fields) -> None:
        self.client.delete(f"{path(current['work_pool_name'])}/{self.client.quote(current['name'])}")


def path(pool: str) -> str:
    return f"work_pools/{PrefectClient.quote(pool)}/queues"


def some(names: list[str]) -> Fields:
    """Ask for the queues with these names."""
    return {"work_queues": {"name": {"any_": names}}}


def main() -> None:
    manage(WorkQueues)


if __name__ == "__main__":
    main()
