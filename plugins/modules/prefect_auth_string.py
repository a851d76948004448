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
  - The one that it replaces is kept in a file beside it, for what has not heard of the new one, until O(keep_previous) says otherwise.
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
    description:
      - The file. Its folder must exist. A new file has the mode C(0600) where O(mode) says nothing else.
      - The previous one is in the same place, with C(.previous) at the end of its name, and with the same owner, group and mode.
    type: path
    required: true
  state:
    description:
      - With V(present), the file holds O(value), or, without one, what it held before; where that was nothing, an auth string is made.
      - With V(rotated), an auth string is made whatever the file holds, or O(value) is stored.
      - With V(absent), there is no file, and no previous one either.
    type: str
    choices: [absent, present, rotated]
    default: present
  value:
    description:
      - The auth string, C(user:password) in printable ASCII. Weak and well-known ones are refused. Left out or empty, one is made.
      - One without a colon is taken with a warning, since Prefect's own clients can send it, and no other client of basic auth can.
    type: str
  user:
    description: The user's name in an auth string that is made.
    type: str
    default: prefect
  length:
    description: Number of characters in a password that is made. Refused when too few for 64 bits of randomness.
    type: int
    default: 40
  alphabet:
    description: The characters to make a password of, ten or more of printable ASCII. Left out, they are letters and digits.
    type: str
  keep_previous:
    description: Whether to keep the auth string that was replaced, by this call or by one before. With V(false), it is taken away.
    type: bool
    default: true
  return_value:
    description: Whether to return RV(auth_string) and RV(previous_auth_string). The task then needs C(no_log), as do those that use it.
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

- name: Replace it when it is older than 90 days
  selfhost.prefect.prefect_auth_string:
    path: /etc/prefect/server/auth_string
    state: "{{ 'rotated' if kept.age > 90 * 86400 else 'present' }}"

- name: Forget the previous one, once nothing uses it any more
  selfhost.prefect.prefect_auth_string:
    path: /etc/prefect/server/auth_string
    keep_previous: false
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/prefect/server/auth_string
fingerprint:
  description:
    - Tells one auth string from another, on every host in the same way, and is of no help in guessing it.
    - In check mode, that of an auth string that would be made is one of many that it could be.
  returned: when O(state) is not V(absent)
  type: str
  sample: 3f9a01c7
length:
  description: Number of its characters, with the user and the colon.
  returned: when O(state) is not V(absent)
  type: int
  sample: 48
age:
  description: Seconds since it was stored.
  returned: when O(state) is not V(absent)
  type: int
  sample: 86400
previous_fingerprint:
  description: Fingerprint of the auth string before, V(none) when none is kept.
  returned: success
  type: str
  sample: none
auth_string:
  description: The auth string. It is a secret.
  returned: when O(return_value) is true and O(state) is not V(absent)
  type: str
previous_auth_string:
  description: The auth string before, empty when none is kept. It is a secret.
  returned: when O(return_value) is true and O(state) is not V(absent)
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._auth_string import ALPHABET, auth_string_problem, make_auth_string, recipe_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import FileStore, Kept, SecretStore, fingerprint

NOTHING = Kept("", 0)


class AuthStringError(Exception):
    """Says what is wrong, and what to do about it."""


def wanted(params: dict[str, Any], current: Kept) -> str:
    """The auth string that there should be; nothing for none."""
    value = params["value"] or ""
    if value and (problem := auth_string_problem(value, needs_user=False)):
        raise AuthStringError(f"value cannot be used: {problem}.")
    recipe = {"user": params["user"], "length": params["length"], "alphabet": params["alphabet"] or ALPHABET}
    if problem := recipe_problem(**recipe):
        raise AuthStringError(f"{problem}.")
    if params["state"] == "absent":
        return ""
    if value or params["state"] == "rotated" or not current.value:
        return value or make_auth_string(**recipe)
    if problem := auth_string_problem(current.value, needs_user=False):
        raise AuthStringError(f"{params['path']} holds an auth string that cannot be used: {problem}; or set state to rotated.")
    return current.value


def store(module: AnsibleModule, secrets: SecretStore, current: Kept, after: str) -> None:
    if not after:
        secrets.remove()
        return
    if after != current.value:
        secrets.put(after)
    if not module.params["keep_previous"]:
        secrets.drop_previous()


def run(module: AnsibleModule) -> dict[str, Any]:
    params, files = module.params, FileStore(module.params["path"])
    current, previous = files.current() or NOTHING, files.previous() or NOTHING
    after = wanted(params, current)
    if after and ":" not in after:
        module.warn("The auth string has no colon. Prefect's own clients can send it, but curl and other clients of basic auth cannot: write user:password.")

    previous_after = previous if after == current.value else current
    if not (after and params["keep_previous"]):
        previous_after = NOTHING
    is_gone = not any(map(os.path.lexists, (files.path, files.previous_path)))
    changed = (current.value, previous.value) != (after, previous_after.value) or (not after and not is_gone)
    if changed and not module.check_mode:
        store(module, files, current, after)
    for path in filter(os.path.exists, (files.path, files.previous_path)) if after else ():
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(params, path=path), changed)

    result: dict[str, Any] = {"changed": changed, "path": files.path, "previous_fingerprint": fingerprint(previous_after.value)}
    if module._diff:
        result["diff"] = {"before": shown(current, previous), "after": shown(Kept(after, 0), previous_after)}
    if after:
        age = current.age if after == current.value else 0
        result.update(fingerprint=fingerprint(after), length=len(after), age=age)
        if params["return_value"]:
            # They were asked for; what was given would come back as asterisks.
            module.no_log_values -= {after, previous_after.value}
            result.update(auth_string=after, previous_auth_string=previous_after.value)
    return result


def shown(current: Kept, previous: Kept) -> str:
    return f"auth string: {fingerprint(current.value)}\nprevious: {fingerprint(previous.value)}\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["absent", "present", "rotated"], "default": "present"},
            "value": {"type": "str", "no_log": True},
            "user": {"type": "str", "default": "prefect"},
            "length": {"type": "int", "default": 40},
            "alphabet": {"type": "str"},
            "keep_previous": {"type": "bool", "default": True},
            "return_value": {"type": "bool", "default": False},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except AuthStringError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']} could not be kept: {error}")
    except UnicodeDecodeError:
        module.fail_json(msg=f"{module.params['path']} holds no text: is it another program's file?")


if __name__ == "__main__":
    main()
