#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_tag_concurrency_limit
short_description: Manage tag-based concurrency limits of a Prefect server
description:
  - Creates, changes or deletes any number of concurrency limits of task runs by their tag, in one call, which reads them all at once and
    writes only those that differ.
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
  tag_concurrency_limits:
    description: The limits.
    type: list
    elements: dict
    required: true
    suboptions:
      tag:
        description: Tag of the task runs that the limit counts.
        type: str
        required: true
      concurrency_limit:
        description:
          - How many task runs with the tag may be under way at a time. V(0) lets none start.
          - Needed to create the limit. To have none, delete it.
        type: int
seealso:
  - module: selfhost.prefect.prefect_global_concurrency_limit
"""

EXAMPLES = r"""
- name: Let at most three tasks at a time talk to the old mainframe
  selfhost.prefect.prefect_tag_concurrency_limit:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    tag_concurrency_limits:
      - tag: mainframe
        concurrency_limit: 3

- name: Lift the limit
  selfhost.prefect.prefect_tag_concurrency_limit:
    tag_concurrency_limits:
      - tag: mainframe
    state: absent
"""

RETURN = r"""
tag_concurrency_limits:
  description: The limits, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a limit that check mode would create.
      type: str
      returned: when the limit exists
    tag:
      description: Tag.
      type: str
    concurrency_limit:
      description: How many task runs with the tag may be under way at a time.
      type: int
  sample:
    - id: 2f3f2e0a-9b1b-4c59-8a43-1a6c4d1c7c11
      tag: mainframe
      concurrency_limit: 3
"""

import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Fields, Kind, check_limit, check_name, manage

PATH = "concurrency_limits"
# A server that keeps them among the global limits calls them so there.
PREFIX = "tag:"


class TagConcurrencyLimits(Kind):
    option = "tag_concurrency_limits"
    noun = "tag concurrency limit"
    options: t.ClassVar = {
        "tag": {"type": "str", "required": True},
        "concurrency_limit": {"type": "int"},
    }
    fields: t.ClassVar = {name: name for name in options}
    keys = ("tag",)
    needed = ("concurrency_limit",)

    def check(self, element: Fields) -> None:
        check_name("tag", element["tag"])
        check_limit("concurrency_limit", element["concurrency_limit"])

    def read(self, _elements: list[Fields]) -> list[Fields]:
        # Newer servers keep them among the global limits, and page through both as one: pages without any are no sign of the end there.
        limits = [(limit["id"], limit["tag"], limit["concurrency_limit"]) for limit in self.client.filter(f"{PATH}/filter")]
        limits += [
            (limit["id"], limit["name"][len(PREFIX) :], limit["limit"]) for limit in self.client.filter(f"v2/{PATH}/filter") if limit["name"].startswith(PREFIX)
        ]
        return [dict(zip(("id", "tag", "concurrency_limit"), limit)) for limit in limits]

    def create(self, after: Fields) -> None:
        # Of a tag that has a limit, this changes it.
        self.client.post(f"{PATH}/", after, repeatable=True)

    def update(self, current: Fields, fields: Fields) -> None:
        self.create({"tag": current["tag"], **fields})

    def delete(self, current: Fields) -> None:
        self.client.delete(f"{PATH}/{current['id']}")


def main() -> None:
    manage(TagConcurrencyLimits)


if __name__ == "__main__":
    main()
