#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_variable_info
short_description: Read variables of a Prefect server
description:
  - Reads the variables that a Prefect server keeps, all of them or some, so that plays and flows go by the same values.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
options:
  names:
    description: Names of the variables to read, in place of all. One that does not exist is not in the result.
    type: list
    elements: str
  tags:
    description: Tags that the variables have to have, each of them.
    type: list
    elements: str
seealso:
  - module: selfhost.prefect.prefect_variable
"""

EXAMPLES = r"""
- name: Read what the flows of a team go by
  selfhost.prefect.prefect_variable_info:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    tags: [etl]
  register: found

- name: Use one of them
  ansible.builtin.debug:
    msg: "{{ (found.variables | items2dict(key_name='name'))['warehouse'] }}"
"""

RETURN = r"""
variables:
  description: The variables as the server gives them, by name.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier.
      type: str
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

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec


def read(client: PrefectClient, names: list[str] | None, tags: list[str] | None) -> list[dict[str, t.Any]]:
    asked: dict[str, t.Any] = {}
    if names is not None:
        asked["name"] = {"any_": names}
    if tags:
        asked["tags"] = {"all_": tags}
    return client.filter("variables/filter", {"variables": asked} if asked else {})


def main() -> None:
    strings = {"type": "list", "elements": "str"}
    module = AnsibleModule(argument_spec={**prefect_argument_spec(), "names": strings, "tags": strings}, supports_check_mode=True)
    try:
        variables = read(PrefectClient.from_params(module.params), module.params["names"], module.params["tags"])
    except PrefectError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, variables=variables)


if __name__ == "__main__":
    main()
