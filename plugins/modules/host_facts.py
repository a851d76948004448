#!/usr/bin/python
# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Tell what roles refuse a host for, which programs listen on TCP ports, and which accounts there are
description:
  - Gives the distribution and the Python of the managed host as facts, in the words of M(ansible.builtin.setup).
  - Looks up accounts, in the words of M(ansible.builtin.getent), which would be a task for each.
  - Looks up who listens on the given TCP ports, so that a role can refuse a port that another program holds before it changes anything.
  - Needs no program and no Python library on the host; it reads C(/etc/os-release) and C(/proc).
author: selfhost.prefect contributors (!UNKNOWN)
version_added: 0.1.0
extends_documentation_fragment:
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
attributes:
  facts:
    description: Returns C(ansible_facts) with the names that M(ansible.builtin.setup) uses.
    support: full
options:
  ports:
    description: The ports to look at.
    type: list
    elements: int
    default: []
  users:
    description: Names of the accounts to look up.
    type: list
    elements: str
    default: []
notes:
  - Without root, the programs of other users stay unknown; their ports are reported nevertheless.
"""

EXAMPLES = r"""
- name: Look who listens on the ports of a web server
  selfhost.prefect.host_facts:
    ports: [80, 443]
  register: web
  become: true

- name: Refuse a port that belongs to another program
  ansible.builtin.assert:
    that: item.process == 'nginx'
    fail_msg: "Port {{ item.port }} is taken by {{ item.process | default('another program', true) }}."
  loop: "{{ web.listeners }}"
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to those of the host.
  returned: success
  type: dict
  contains:
    distribution:
      description: The name of the distribution, V(Debian) or V(Ubuntu); of others the name that they give themselves.
      type: str
      sample: Debian
    distribution_version:
      description: Its release as C(/etc/os-release) has it, V(n/a) where it has none, as in Debian's testing.
      type: str
      sample: "12"
    python:
      description: The Python that this module ran on.
      type: dict
      sample:
        executable: /usr/bin/python3
        has_sslcontext: true
        type: cpython
        version: {major: 3, micro: 2, minor: 11, releaselevel: final, serial: 0}
        version_info: [3, 11, 2, final, 0]
    getent_passwd:
      description: What is known of each of the O(users), V(null) of one that does not exist.
      returned: with O(users)
      type: dict
      sample:
        prefect: ["x", "998", "998", Prefect, /nonexistent, /usr/sbin/nologin]
        missing: null
listeners:
  description: Every socket that listens on one of the ports, by port and address. Empty when all of them are free.
  returned: success
  type: list
  elements: dict
  sample:
    - {port: 80, address: 0.0.0.0, pid: 812, process: nginx, unit: nginx.service}
  contains:
    port:
      description: The port.
      type: int
      sample: 80
    address:
      description: The address that the socket is bound to; V(0.0.0.0) and V(::) are all addresses.
      type: str
      sample: 0.0.0.0
    pid:
      description:
        - The process that owns the socket, V(null) if it cannot be seen.
        - Of several owners the oldest that is not systemd.
      type: int
      sample: 812
    process:
      description: The name of that process as the kernel has it, at most 15 characters, V(null) if it cannot be seen.
      type: str
      sample: nginx
    unit:
      description: The systemd unit (service or scope) that the process belongs to, V(null) if none.
      type: str
      sample: nginx.service
"""

import os
import pwd
import re
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OS_RELEASE = "/etc/os-release"
PROC = "/proc"
LISTEN = "0A"
SYSTEMD = 1


def read(*path: str) -> str:
    """The text of a file, empty if it cannot be read: below /proc, the process is gone or is none of ours."""
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def facts() -> dict[str, Any]:
    # Values may stand in quotes, by the rules of shells (os-release(5)).
    release = {name: value.strip("'\"") for name, value in re.findall(r"^(\w+)=(.*?)\s*$", read(OS_RELEASE), re.MULTILINE)}
    version = sys.version_info
    return {
        "ansible_distribution": {"debian": "Debian", "ubuntu": "Ubuntu"}.get(release.get("ID", ""), release.get("NAME", "Linux")),
        "ansible_distribution_version": release.get("VERSION_ID", "n/a"),
        "ansible_python": {
            "version": dict(zip(("major", "minor", "micro", "releaselevel", "serial"), version)),
            "version_info": list(version),
            "executable": sys.executable,
            "has_sslcontext": True,
            "type": sys.implementation.name,
        },
    }


def account(user: str) -> list[str] | None:
    try:
        return [str(field) for field in pwd.getpwnam(user)[1:]]
    except KeyError:
        return None


def listening_sockets(ports: Iterable[int]) -> Iterator[tuple[int, str, str]]:
    """Port, address and inode of each socket that listens on one of the ports."""
    wanted = set(ports)
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in read(PROC, "net", table).splitlines()[1:]:
            fields = line.split()
            host, port = fields[1].split(":")
            if fields[3] == LISTEN and int(port, 16) in wanted:
                # The kernel prints the address as 32-bit words in the byte order of the machine.
                words = [int(host[at : at + 8], 16) for at in range(0, len(host), 8)]
                yield int(port, 16), socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)), fields[9]


def owners(inodes: Iterable[str]) -> dict[str, int]:
    """The process behind each inode: the oldest, and systemd (which holds the sockets of its socket units) only if it is alone."""
    links = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, int] = {}
    if not links:
        return found
    for pid in sorted((int(name) for name in os.listdir(PROC) if name.isdigit()), key=lambda pid: (pid == SYSTEMD, pid)):
        folder = os.path.join(PROC, str(pid), "fd")
        try:
            descriptors = os.listdir(folder)
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                inode = links.get(os.readlink(os.path.join(folder, descriptor)))
            except OSError:
                continue
            if inode:
                found.setdefault(inode, pid)
    return found


def unit_of(pid: int) -> str | None:
    """The innermost systemd unit in the control group of a process, on cgroup v1, v2 and both at once."""
    units = re.findall(r"([^/\n]+\.(?:service|scope))(?=/|$)", read(PROC, str(pid), "cgroup"), re.MULTILINE)
    return units[-1] if units else None


def listeners(ports: Iterable[int]) -> list[dict[str, Any]]:
    sockets = sorted(listening_sockets(ports))
    pids = owners(inode for _port, _address, inode in sockets)
    result: list[dict[str, Any]] = []
    for port, address, inode in sockets:
        pid = pids.get(inode)
        entry = {
            "port": port,
            "address": address,
            "pid": pid,
            "process": (read(PROC, str(pid), "comm").strip() or None) if pid else None,
            "unit": unit_of(pid) if pid else None,
        }
        # One program may open several sockets for one address (SO_REUSEPORT).
        if entry not in result:
            result.append(entry)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "users": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    found = facts()
    # Not an empty one, which would replace what is known of others.
    if module.params["users"]:
        found["getent_passwd"] = {user: account(user) for user in module.params["users"]}
    module.exit_json(changed=False, ansible_facts=found, listeners=listeners(module.params["ports"]))


if __name__ == "__main__":
    main()
