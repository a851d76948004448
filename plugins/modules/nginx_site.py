#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_site
short_description: Write a site of nginx that nginx accepts, and tell whether nginx has loaded it
version_added: 0.1.0
description:
  - Writes a site, and has C(nginx -t) judge the whole configuration. What nginx refuses is taken back at once, with all that was changed for it.
  - Lets each worker process hold 4096 connections where C(/etc/nginx/nginx.conf) still has the distribution's 768. What somebody tuned stays.
  - Tells whether nginx runs since before its files were written, which is what a run that was interrupted between writing and
    reloading leaves behind. It reloads and restarts nothing by itself.
author: selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - ansible.builtin.files
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
    details: A configuration that is not written is not judged.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  path:
    description: The file of the site.
    type: path
    required: true
  content:
    description: What it says.
    type: str
    required: true
  replaces:
    description: The file or link of another site that goes.
    type: path
"""

EXAMPLES = r"""
- name: Write the site
  selfhost.prefect.nginx_site:
    path: /etc/nginx/conf.d/example.conf
    content: "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}"
    replaces: /etc/nginx/sites-enabled/default
    owner: root
    group: root
    mode: "0644"
  register: site
  changed_when: site.changed or site.stale | default(false)
  notify: Reload nginx
"""

RETURN = r"""
stale:
  description: Whether nginx runs, and has not read its configuration since the site or C(/etc/nginx/nginx.conf) was written.
  returned: success
  type: bool
"""

import contextlib
import os
import re
import stat
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import read, write

NGINX = "/usr/sbin/nginx"
CONF = "/etc/nginx/nginx.conf"
PID = "/run/nginx.pid"
PROC = "/proc"

# What Debian and Ubuntu ship. Each WebSocket takes two connections, so that 768 of them are 380 WebSockets.
FEW_CONNECTIONS = re.compile(r"^events \{\n(\s+)worker_connections 768;", re.MULTILINE)
MORE_CONNECTIONS = r"worker_rlimit_nofile 8192;\nevents {\n\1worker_connections 4096;"


def loaded() -> float:
    """When nginx read its configuration, in seconds since 1970; 0 if it does not run. Whenever it does, it starts new worker processes."""
    master = (read(PID) or "").strip()
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    starts = [0.0]
    for worker in (read(os.path.join(PROC, master, "task", master, "children")) or "").split():
        # One of before a reload may end just now.
        with contextlib.suppress(ProcessLookupError):
            # By proc(5): the name in brackets is the second field, and the start in clock ticks since the boot the 22nd.
            fields = (read(os.path.join(PROC, worker, "stat")) or "").rpartition(")")[2].split()
            starts += [booted + int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[19:20]]
    return max(starts)


def is_stale(*paths: str) -> bool:
    since = loaded()
    return since > 0 and any(os.path.exists(path) and os.stat(path).st_mtime > since for path in paths)


def wanted(path: str, content: str, replaces: str | None) -> dict[str, str | None]:
    """The files that are to change with what they are to hold, and with None those that are to go."""
    changes: dict[str, str | None] = {}
    if replaces and os.path.lexists(replaces):
        changes[replaces] = None
    # A link leads to the file of somebody who takes care of it, and the distribution's own is in UTF-8.
    with contextlib.suppress(UnicodeDecodeError):
        conf = "" if os.path.islink(CONF) else read(CONF) or ""
        if FEW_CONNECTIONS.search(conf) and "worker_rlimit_nofile" not in conf:
            changes[CONF] = FEW_CONNECTIONS.sub(MORE_CONNECTIONS, conf)
    if read(path) != content:
        changes[path] = content
    return changes


def refusal(module: AnsibleModule) -> str:
    """What nginx has against its configuration."""
    code, _output, errors = module.run_command([NGINX, "-t"])
    return (errors.strip() or f"nginx -t ends with {code}") if code else ""


def put(module: AnsibleModule, changes: dict[str, str | None]) -> str:
    """Make the changes, and take them back if anything fails or nginx refuses them. Gives the refusal."""
    with tempfile.TemporaryDirectory(dir=os.path.dirname(CONF), prefix=".ansible_tmp") as folder, contextlib.ExitStack() as undo:
        for number, (path, text) in enumerate(changes.items()):
            kept = os.path.join(folder, str(number))
            if os.path.lexists(path):
                os.link(path, kept, follow_symlinks=False)
                undo.callback(os.replace, kept, path)
            if text is None:
                os.remove(path)
                continue
            write(path, text)
            if not os.path.lexists(kept):
                undo.callback(os.remove, path)
            if path == CONF:
                before = os.stat(kept)
                os.chown(path, before.st_uid, before.st_gid)
                os.chmod(path, stat.S_IMODE(before.st_mode))
        refused = refusal(module)
        if not refused:
            undo.pop_all()
    return refused


def run(module: AnsibleModule) -> dict[str, Any]:
    path, content, replaces = (module.params[name] for name in ("path", "content", "replaces"))
    changes = wanted(path, content, replaces)
    diff = [{"before": read(name) or "", "after": text or "", "before_header": name, "after_header": name} for name, text in changes.items()]
    stale = is_stale(path, CONF)
    if refused := refusal(module) if not changes else "" if module.check_mode else put(module, changes):
        verdict = (
            "nginx refuses the new configuration. The previous one is back, and keeps serving"
            if changes
            else "nginx refuses the configuration of this host, its sites together. It runs on, and would not start again"
        )
        module.fail_json(msg=f"{verdict}: {refused}")
    changed = bool(changes)
    if os.path.exists(path):
        changed = module.set_fs_attributes_if_different(module.load_file_common_arguments(module.params), changed)
    return {"changed": changed, "stale": stale, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "replaces": {"type": "path"},
        },
        add_file_common_args=True,
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except OSError as error:
        module.fail_json(msg=f"{module.params['path']} could not be written: {error}")


if __name__ == "__main__":
    main()
