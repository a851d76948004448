#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_auth_string
short_description: Keep the auth string of a Prefect server in a file
version_added: 0.1.0
description:
  - Keeps an auth string, C(user:password), in a file of its own. It is either given, or made once at random and then left as it is.
  - Neither the diff nor a message shows it. The diff tells one from another by a fingerprint.
author: selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.files
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: With O(state=rotated) there is a new one each time.
options:
  path:
    description: The file. Its folder must exist. A new file has the mode C(0600) where O(mode) says nothing else.
    type: path
    required: true
  state:
    description:
      - With V(present), the file holds O(value), or, without one, what it held before; where that was nothing, an auth string is made.
      - With V(rotated), an auth string is made whatever the file holds.
      - With V(absent), there is no file.
    type: str
    choices: [absent, present, rotated]
    default: present
  value:
    description: The auth string, C(user:password) in printable ASCII. Weak and well-known ones are refused. Left out or empty, one is made.
    type: str
  user:
    description: The user's name in an auth string that is made.
    type: str
    default: prefect
  length:
    description: Number of characters, letters and digits, of a password that is made.
    type: int
    default: 40
  return_value:
    description: Whether to return RV(auth_string). The task then needs C(no_log), as do those that use it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep an auth string, and learn which
  selfhost.prefect.prefect_auth_string:
    path: /etc/prefect/server/auth_string
    return_value: true
  register: kept
  no_log: true
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/prefect/server/auth_string
auth_string:
  description: The auth string. It is a secret.
  returned: when O(return_value) is true and O(state) is not V(absent)
  type: str
"""

import os
import secrets
import string
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._auth_string import SHORTEST_PASSWORD, auth_string_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint, read, write


def generate(user: str, length: int) -> str:
    return f"{user}:{''.join(secrets.choice(string.ascii_letters + string.digits) for dummy in range(length))}"


def run(module: AnsibleModule) -> dict[str, Any]:
    path, state, value = module.params["path"], module.params["state"], module.params["value"] or ""
    if value and (problem := auth_string_problem(value)):
        module.fail_json(msg=f"value cannot be used: {problem}.")
    if module.params["length"] < SHORTEST_PASSWORD:
        module.fail_json(msg=f"length is {module.params['length']}, which is too short: write {SHORTEST_PASSWORD} or more.")

    before = (read(path) or "").strip()
    after = ""
    if state != "absent":
        after = value or (before if state == "present" else "") or generate(module.params["user"], module.params["length"])
    existed = os.path.exists(path)
    changed = before != after or (state == "absent" and existed)

    if changed and not module.check_mode:
        if after:
            write(path, f"{after}\n")
        else:
            os.unlink(path)
    if after and os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)

    result: dict[str, Any] = {"changed": changed, "path": path}
    if module._diff:
        result["diff"] = {"before": f"auth string: {fingerprint(before)}\n", "after": f"auth string: {fingerprint(after)}\n"}
    if after and module.params["return_value"]:
        # It was asked for; what was given would come back as asterisks.
        module.no_log_values.discard(after)
        result["auth_string"] = after
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["absent", "present", "rotated"], "default": "present"},
            "value": {"type": "str", "no_log": True},
            "user": {"type": "str", "default": "prefect"},
            "length": {"type": "int", "default": 40},
            "return_value": {"type": "bool", "default": False},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']} could not be kept: {error}")


if __name__ == "__main__":
    main()
