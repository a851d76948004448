#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_global_concurrency_limit
short_description: Manage global concurrency limits of a Prefect server
description:
  - Creates, changes or deletes any number of global concurrency limits in one call, which reads them all at once and writes only those that differ.
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
  global_concurrency_limits:
    description: The limits.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name, as C(concurrency\(\)) and C(rate_limit\(\)) in a flow's code call it.
        type: str
        required: true
      limit:
        description:
          - How many slots there are. V(0) lets nothing through.
          - Needed to create the limit.
        type: int
      active:
        description: Whether the limit holds. One that is not active lets everything through. A new one is active.
        type: bool
      slot_decay_per_second:
        description: How many slots become free again each second, which makes it a rate limit. A new one has V(0).
        type: float
seealso:
  - module: selfhost.prefect.prefect_tag_concurrency_limit
"""

EXAMPLES = r"""
- name: Let at most five flows write to the warehouse, and ask the vendor's API twice a second
  selfhost.prefect.prefect_global_concurrency_limit:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    global_concurrency_limits:
      - name: warehouse
        limit: 5
      - name: vendor-api
        limit: 2
        slot_decay_per_second: 2.0

- name: Drop one
  selfhost.prefect.prefect_global_concurrency_limit:
    global_concurrency_limits:
      - name: vendor-api
    state: absent
"""

RETURN = r"""
global_concurrency_limits:
  description: The limits, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a limit that check mode would create.
      type: str
      returned: when the limit exists
    name:
      description: Name.
      type: str
    limit:
      description: How many slots there are.
      type: int
    active:
      description: Whether the limit holds.
      type: bool
    slot_decay_per_second:
      description: How many slots become free again each second.
      type: float
    active_slots:
      description: How many slots are taken.
      type: int
      returned: when the limit exists
  sample:
    - id: 7e6f0a0e-59c4-4a9c-8f0c-3b1d5c1d2b11
      name: warehouse
      limit: 5
      active: true
      slot_decay_per_second: 0.0
      active_slots: 2
"""

import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Fields, InvalidError, Kind, check_limit, check_name, manage

PATH = "v2/concurrency_limits"


class GlobalConcurrencyLimits(Kind):
    option = "global_concurrency_limits"
    noun = "global concurrency limit"
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "limit": {"type": "int"},
        "active": {"type": "bool"},
        "slot_decay_per_second": {"type": "float"},
    }
    fields: t.ClassVar = {name: name for name in options}
    needed = ("limit",)
    defaults: t.ClassVar = {"active": True, "slot_decay_per_second": 0.0}

    def check(self, element: Fields) -> None:
        check_name("name", element["name"])
        check_limit("limit", element["limit"])
        decay = element["slot_decay_per_second"]
        if decay is not None and decay < 0:
            raise InvalidError("slot_decay_per_second", f"{decay} would take slots away: write 0 for none, or a greater number.")

    def read(self, _elements: list[Fields]) -> list[Fields]:
        # They cannot be asked for by name.
        return self.client.filter(f"{PATH}/filter")

    def create(self, after: Fields) -> None:
        self.client.post(f"{PATH}/", after)

    def update(self, current: Fields, fields: Fields) -> None:
        self.client.patch(f"{PATH}/{current['id']}", fields)

    def delete(self, current: Fields) -> None:
        self.client.delete(f"{PATH}/{current['id']}")


def main() -> None:
    manage(GlobalConcurrencyLimits)


if __name__ == "__main__":
    main()
