#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_variable
short_description: Manage variables of a Prefect server
description:
  - Creates, changes or deletes any number of variables in one call, which reads them all at once and writes only those that differ.
  - What is not given stays as it is on the server.
  - A variable is no place for a secret, since everybody with access to the server reads it. Prefect has Secret blocks for that.
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
  variables:
    description: The variables.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name, of lowercase letters, digits, underscores, and dashes where the server is new enough to take them.
        type: str
        required: true
      value:
        description:
          - Any value that JSON has, which is at most 5000 characters long as JSON.
          - Needed to create the variable. A V(null) counts as not given.
        type: raw
      tags:
        description: All its tags, in place of those that it has.
        type: list
        elements: str
"""

EXAMPLES = r"""
- name: Keep a team's variables
  selfhost.prefect.prefect_variable:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    variables:
      - name: warehouse
        value: analytics
        tags: [etl]
      - name: batch_size
        value: 500
      - name: regions
        value: [north, south]

- name: Drop one
  selfhost.prefect.prefect_variable:
    variables:
      - name: batch_size
    state: absent
"""

RETURN = r"""
variables:
  description: The variables, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a variable that check mode would create.
      type: str
      returned: when the variable exists
    name:
      description: Name.
      type: str
    value:
      description: Value.
      type: raw
    tags:
      description: Tags.
      type: list
      elements: str
  sample:
    - id: 5a7a3a52-6b3c-4f61-9f0c-0f7f2f0f6a11
      name: warehouse
      value: analytics
      tags: [etl]
"""

import json
import re
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Fields, InvalidError, Kind, judge, manage

LONGEST_VALUE = 5000


class Variables(Kind):
    option = "variables"
    noun = "variable"
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "value": {"type": "raw"},
        "tags": {"type": "list", "elements": "str"},
    }
    fields: t.ClassVar = {"name": "name", "value": "value", "tags": "tags"}
    needed = ("value",)
    defaults: t.ClassVar = {"tags": []}
    takes_dashes = False

    def check(self, element: Fields) -> None:
        name = element["name"]
        if not re.fullmatch(r"[a-z0-9_-]{1,255}", name):
            raise InvalidError("name", f"{name!r} is no name of a variable: write lowercase letters, digits and underscores, 255 at most.")
        length = len(json.dumps(element["value"]))
        if length > LONGEST_VALUE:
            raise InvalidError("value", f"it is {length} characters long as JSON, and Prefect takes {LONGEST_VALUE}: keep it in a file or a block.")

    def read(self, elements: list[Fields]) -> list[Fields]:
        names = [element["name"] for element in elements]
        return self.client.filter("variables/filter", {"variables": {"name": {"any_": names}}}, most=len(names))

    def after(self, element: Fields, current: Fields | None) -> Fields:
        name = element["name"]
        # Older servers take no dashes. What one of them is told holds for all.
        if current is None and "-" in name and not self.takes_dashes:
            judge(self.client, "PATCH", "variables", {"name": name})
            self.takes_dashes = True
        return super().after(element, current)

    def create(self, after: Fields) -> None:
        self.client.post("variables/", after)

    def update(self, current: Fields, fields: Fields) -> None:
        self.client.patch(f"variables/{current['id']}", fields)

    def delete(self, current: Fields) -> None:
        self.client.delete(f"variables/{current['id']}")


def main() -> None:
    manage(Variables)


if __name__ == "__main__":
    main()
