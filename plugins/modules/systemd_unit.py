#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_unit
short_description: Write a systemd unit, and tell whether its service has to be restarted
version_added: 0.1.0
description:
  - Writes a unit to C(/etc/systemd/system).
  - Tells whether the service runs since before its unit or another of its files was written, which is what a run that was
    interrupted between writing and restarting leaves behind; and whether systemd has not got the service to run so far.
    It reloads and restarts nothing by itself.
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
  name:
    description: The unit, with its suffix, or a drop-in of it such as V(example.service.d/10-example.conf).
    type: str
    required: true
  content:
    description: What it says.
    type: str
    required: true
  sources:
    description: Other files, folders and links that the service reads when it starts. Of a link, its own age counts.
    type: list
    elements: path
    default: []
"""

EXAMPLES = r"""
- name: Write the unit
  selfhost.prefect.systemd_unit:
    name: example.service
    content: "{{ lookup('ansible.builtin.template', 'example.service.j2') }}"
    sources: [/etc/example/example.toml]
    owner: root
    group: root
    mode: "0644"
  register: unit
  changed_when: unit.changed or unit.stale
  notify: Restart example
"""

RETURN = r"""
path:
  description: The file of the unit.
  returned: success
  type: str
  sample: /etc/systemd/system/example.service
stale:
  description:
    - Whether the service has to be restarted. Either it runs since before the unit or one of the O(sources) was written,
      or systemd is at starting it, which C(ansible.builtin.systemd_service) takes for V(started), though it may have failed many times.
    - V(false) for a service that is down.
  returned: success
  type: bool
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import read, write

UNITS = "/etc/systemd/system"
# systemd keeps a link here for each unit that runs, made when it was started.
INVOCATIONS = "/run/systemd/units"


def written(path: str) -> int:
    """When a path was written or made, in nanoseconds since 1970; 0 where there is none."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def is_at_starting(module: AnsibleModule, unit: str) -> bool:
    """Whether systemd is at starting the service, or waits before it tries again."""
    return module.run_command(["systemctl", "is-active", unit])[1].strip() == "activating"


def run(module: AnsibleModule) -> dict[str, Any]:
    path = os.path.join(UNITS, module.params["name"])
    unit = module.params["name"].partition(".d/")[0]
    since = written(os.path.join(INVOCATIONS, f"invocation:{unit}"))
    stale = since > 0 and any(written(source) > since for source in [path, *module.params["sources"]])

    before, after = read(path), module.params["content"]
    stale = stale or (before is not None and is_at_starting(module, unit))
    changed = before != after
    if changed and not module.check_mode:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, after)
    if os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments({**module.params, "path": path}), changed)
    return {
        "changed": changed,
        "path": path,
        "stale": stale,
        "diff": {"before": before or "", "after": after, "before_header": path, "after_header": path},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
            "sources": {"type": "list", "elements": "path", "default": []},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except OSError as error:
        module.fail_json(msg=f"{module.params['name']} could not be written: {error}")


if __name__ == "__main__":
    main()
