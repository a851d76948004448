#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_work_pool
short_description: Manage work pools of a Prefect server
description:
  - Creates, changes or deletes any number of work pools in one call, which reads them all at once and writes only those that differ.
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
  work_pools:
    description:
      - The work pools.
      - With O(state=absent), a pool goes with its queues. Deployments that use it stay, without a pool.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the work pool. Prefect keeps names that begin with C(prefect) for itself.
        type: str
        required: true
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
      base_job_template:
        description:
          - What differs from the base job template that the server has for the type, or all of it.
          - It is laid over the server's own. Dictionaries are merged, everything else is replaced.
          - A server that reaches the internet takes its own from Prefect's registry. When that has a new one, the pool is brought up to it.
          - Left out, the pool keeps its template. A new pool has an empty one, which the first worker that starts in it fills in with the default
            of the type as that worker has it installed, so that pool and worker agree on the fields.
          - A file is read with P(ansible.builtin.file#lookup), as the example shows. In a playbook, C({{ }}) needs C(!unsafe).
        type: dict
      work_queues:
        description:
          - Names of queues that the pool has to have. Those that are missing are created; others stay.
          - A worker that asks for several queues gets nothing from any of them as long as one does not exist.
        type: list
        elements: str
seealso:
  - module: selfhost.prefect.prefect_work_queue
    description: Sets the priority and the limit of queues, and deletes them.
"""

EXAMPLES = r"""
- name: Have a pool for runs as processes, at most ten at a time, and one for containers
  selfhost.prefect.prefect_work_pool:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    work_pools:
      - name: etl
        type: process
        description: Nightly loads
        concurrency_limit: 10
        work_queues: [nightly, urgent]
      - name: containers
        type: docker
        base_job_template:
          variables:
            properties:
              image:
                default: registry.example.com/etl:1.4
              auto_remove:
                default: true

- name: Use a template that is kept in a file
  selfhost.prefect.prefect_work_pool:
    work_pools:
      - name: containers
        type: docker
        base_job_template: "{{ lookup('ansible.builtin.file', 'containers.json') | from_json }}"

- name: Hand out no work while the warehouse is down
  selfhost.prefect.prefect_work_pool:
    work_pools:
      - name: etl
        paused: true

- name: Delete a pool
  selfhost.prefect.prefect_work_pool:
    work_pools:
      - name: containers
    state: absent
"""

RETURN = r"""
work_pools:
  description: The work pools, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
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
    base_job_template:
      description: Template of the jobs that the workers start.
      type: dict
    work_queues:
      description: Names of those of the queues in O(work_pools[].work_queues) that the pool has; none where the task names no queues.
      type: list
      elements: str
    status:
      description: C(READY), C(NOT_READY) (no worker is online) or C(PAUSED).
      type: str
      returned: when the pool exists
    default_queue_id:
      description: Identifier of the pool's default queue.
      type: str
      returned: when the pool exists
  sample:
    - id: 0c1d9be2-6f5b-4c8e-9a55-0f6f2a4a3c11
      name: etl
      type: process
      description: Nightly loads
      is_paused: false
      concurrency_limit: 10
      base_job_template: {}
      work_queues: [nightly, urgent]
      status: READY
"""

import json
import re
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import (
    Fields,
    InvalidError,
    Kind,
    check_limit,
    check_name,
    manage,
)


class WorkPools(Kind):
    option = "work_pools"
    noun = "work pool"
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "type": {"type": "str"},
        "description": {"type": "str"},
        "concurrency_limit": {"type": "int"},
        "paused": {"type": "bool"},
        "base_job_template": {"type": "dict"},
        "work_queues": {"type": "list", "elements": "str"},
    }
    fields: t.ClassVar = {**{name: name for name in options if name != "paused"}, "paused": "is_paused"}
    defaults: t.ClassVar = {"is_paused": False, "base_job_template": {}}

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        super().__init__(client, check_mode)
        self._templates: dict[str, Fields] = {}

    def check(self, element: Fields) -> None:
        check_name("name", element["name"])
        check_limit("concurrency_limit", element["concurrency_limit"], lowest=-1)
        for index, queue in enumerate(element["work_queues"] or ()):
            check_name(f"work_queues[{index}]", queue)
        check_shape(element["base_job_template"] or {})

    def read(self, elements: list[Fields]) -> list[Fields]:
        queues = {element["name"]: element["work_queues"] for element in elements}
        pools = self.client.filter("work_pools/filter", {"work_pools": {"name": {"any_": list(queues)}}}, most=len(queues))
        return [{**pool, "work_queues": self._existing(pool["name"], queues[pool["name"]])} for pool in pools]

    def wanted(self, element: Fields) -> Fields:
        wanted = super().wanted(element)
        if element["concurrency_limit"] == -1:
            wanted["concurrency_limit"] = None
        if element["work_queues"] is not None:
            wanted["work_queues"] = sorted(set(element["work_queues"]))
        return wanted

    def after(self, element: Fields, current: Fields | None) -> Fields:
        after = super().after(element, current)
        if current is None:
            self._check_new(element)
        elif after["type"] != current["type"]:
            raise InvalidError(
                "type",
                f"the work pool {current['name']!r} exists with the type {current['type']!r}, which Prefect cannot change to {after['type']!r}: "
                f"write {current['type']!r}, or delete the pool first (state: absent).",
            )
        if element["base_job_template"] is not None:
            default = self.templates().get(after["type"], {})
            after["base_job_template"] = merge(default, element["base_job_template"])
            check_template(after["base_job_template"], default)
        return after

    def create(self, after: Fields) -> None:
        self.client.post("work_pools/", {name: value for name, value in after.items() if name != "work_queues"})
        self._create_queues(after["name"], after["work_queues"] or ())

    def update(self, current: Fields, fields: Fields) -> None:
        queues = fields.pop("work_queues", None)
        if fields:
            self.client.patch(f"work_pools/{self.client.quote(current['name'])}", fields)
        self._create_queues(current["name"], sorted(set(queues or ()) - set(current["work_queues"] or ())))

    def delete(self, current: Fields) -> None:
        self.client.delete(f"work_pools/{self.client.quote(current['name'])}")

    def templates(self) -> dict[str, Fields]:
        """Give the base job template of each type that the server knows. The server may fetch them from far away, so they are asked for only when needed."""
        if not self._templates:
            catalogue = self.client.get("collections/views/aggregate-worker-metadata")
            self._templates = {worker["type"]: worker["default_base_job_configuration"] for workers in catalogue.values() for worker in workers.values()}
        return self._templates

    def _check_new(self, element: Fields) -> None:
        name, type_ = element["name"], element["type"]
        if name.lower().startswith("prefect"):
            raise InvalidError("name", f"Prefect keeps names that begin with 'prefect' for itself, and {name!r} does: choose another name.")
        # The server would take any type.
        types = self.templates()
        if type_ is None:
            raise InvalidError("type", f"the work pool {name!r} does not exist yet and needs a type to be created: write one of {', '.join(sorted(types))}.")
        if type_ not in types:
            raise InvalidError("type", f"{type_!r} is no type that the server knows: write one of {', '.join(sorted(types))}.")

    def _existing(self, pool: str, names: list[str] | None) -> list[str] | None:
        """Give those of the queues that the pool has."""
        if not names:
            return names
        body = {"work_queues": {"name": {"any_": names}}}
        return sorted(queue["name"] for queue in self.client.filter(f"work_pools/{self.client.quote(pool)}/queues/filter", body, most=len(set(names))))

    def _create_queues(self, pool: str, names: t.Iterable[str]) -> None:
        for name in names:
            try:
                self.client.post(f"work_pools/{self.client.quote(pool)}/queues", {"name": name})
            except PrefectError as exc:
                # Another host may have been faster, and each new pool has a queue "default".
                if exc.status != 409:
                    raise PrefectError(f"the pool is there, its queue {name!r} is not: {exc.problem}", exc.remedy, exc.kind, exc.status) from exc


def merge(below: Fields, above: Fields) -> Fields:
    """Lay one dictionary over another."""
    both = {key: merge(below[key], value) for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)}
    return {**below, **above, **both}


def check_shape(template: Fields) -> None:
    """Refuse what is no template whatever the type."""
    parts = {f"base_job_template.{name}": part for name, part in template.items()}
    for name in parts:
        if name not in ("base_job_template.job_configuration", "base_job_template.variables"):
            raise InvalidError(name, "a template has no such part: write job_configuration, variables, or both.")
    variables = template.get("variables")
    if isinstance(variables, dict) and "properties" in variables:
        parts["base_job_template.variables.properties"] = variables["properties"]
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise InvalidError(name, "it is no dictionary: write its fields below it.")


def check_template(template: Fields, default: Fields) -> None:
    """Refuse variables that nothing declares, which Prefect would refuse, and variables that nothing uses, which are misspelt ones."""
    used = set(re.findall(r"{{\s*([\w.\-\[\]$]+)\s*}}", json.dumps(template.get("job_configuration", {}))))
    declared = set(properties(template))
    for name in sorted(used - declared):
        raise InvalidError(
            "base_job_template.job_configuration",
            f"{{{{ {name} }}}} is no variable of the template: declare it below variables.properties, or use one of {', '.join(sorted(declared))}.",
        )
    for name in sorted(declared - used - set(properties(default))):
        raise InvalidError(
            f"base_job_template.variables.properties.{name}",
            f"the job configuration uses no such variable: write one of {', '.join(sorted(used))}, or use it there as {{{{ {name} }}}}.",
        )


def properties(template: Fields) -> Fields:
    found: Fields = template.get("variables", {}).get("properties", {})
    return found


def main() -> None:
    manage(WorkPools)


if __name__ == "__main__":
    main()
