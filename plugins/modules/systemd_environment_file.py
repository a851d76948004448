#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_environment_file
short_description: Write a file of environment variables for a systemd service
version_added: 0.1.0
description:
  - Writes a file for systemd's C(EnvironmentFile=), quoted so that the service gets each value to the letter.
  - The values of O(secrets) show up nowhere; the diff has their names, and tells one value from another by a fingerprint.
    What the file holds as a secret stays one in the diff, even where O(variables) has it now.
    The file is readable to its owner alone from the first moment on.
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
    support: full
options:
  path:
    description: The file. Its folder must exist. A new file has the mode C(0600) where O(mode) says nothing else.
    type: path
    required: true
  variables:
    description: Names and values that everybody may see. A boolean becomes V(true) or V(false). Line breaks are refused.
    type: dict
    default: {}
  secrets:
    description: Names and values that nobody may see, written in the same way.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the secrets of a service
  selfhost.prefect.systemd_environment_file:
    path: /etc/example/secrets.env
    secrets:
      EXAMPLE_PASSWORD: "{{ example_password }}"
    owner: root
    group: root
    mode: "0600"
"""

RETURN = r"""
path:
  description: The file.
  returned: success
  type: str
  sample: /etc/example/secrets.env
"""

import os
from collections.abc import Container
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint, read, write
from ansible_collections.selfhost.prefect.plugins.module_utils._systemd import EnvironmentFileError, environment_file

HEADER = "# Ansible managed\n"
# What stands below it is secret, also for a later run that has it among the variables. In a file without it, all may be.
SECRETS = "# Secrets\n"


def shown(text: str, public: Container[str]) -> str:
    """The file with a fingerprint in the place of each value that is not known to be public."""
    above, separator, below = text.partition(SECRETS)
    return masked(above, public if separator else ()) + masked(below, ())


def masked(text: str, public: Container[str]) -> str:
    pairs = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    return "".join(f"{name}={value if name in public else fingerprint(value)}\n" for name, equals, value in pairs if equals)


def run(module: AnsibleModule) -> dict[str, Any]:
    path, variables, secrets = (module.params[name] for name in ("path", "variables", "secrets"))
    public = {name: value for name, value in variables.items() if name not in secrets}
    before, after = read(path), HEADER + environment_file(public) + SECRETS + environment_file(secrets)
    changed = before != after
    result: dict[str, Any] = {"path": path}
    if module._diff:
        result["diff"] = {"before": shown(before or "", public), "after": shown(after, public), "before_header": path, "after_header": path}
    if changed and not module.check_mode:
        write(path, after)
    if os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)
    return {"changed": changed, **result}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "variables": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except EnvironmentFileError as error:
        module.fail_json(msg=f"{module.params['path']} was not written: {error}")
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']} could not be written: {error}")


if __name__ == "__main__":
    main()
