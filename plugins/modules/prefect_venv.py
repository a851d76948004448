#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_venv
short_description: Install Prefect into a virtual environment of its own, from a hash-checked lock
version_added: 0.1.0
description:
  - Builds C(PATH/VERSION-HASH), where the hash stands for everything that decides what is in it. The same wish is the same folder,
    a changed wish is a new folder beside the old one, and so what runs is never touched.
  - With O(link), a symbolic link is switched to it in one step, and environments that no link names are pruned.
  - Packages are installed by C(uv), which the module brings along as a pinned wheel whose hash is checked.
author: selfhost.prefect contributors
extends_documentation_fragment:
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
    description: Folder of the environments. Made when it is missing.
    type: path
    required: true
  version:
    description: Version of Prefect.
    type: str
    required: true
  uv_lock:
    description: Text of the lock of C(uv), a line per platform.
    type: str
    required: true
  constraints:
    description:
      - Text of a lock that holds more than is installed. Of it come the versions and the hashes; what is installed is Prefect, its O(extras),
        and C(uvloop) and C(httptools) where the lock holds them.
      - Nothing that the lock does not hold with a hash is installed, O(packages) excepted.
    type: str
  requirements:
    description:
      - Text of a lock that is installed whole, such as your own. It must hold C(prefect==VERSION).
      - Where it has hashes, each of its packages must have one.
    type: str
  exclude_newer:
    description: Without a lock, resolve as if this moment were now. An RFC 3339 timestamp.
    type: str
  extras:
    description: Extras of Prefect to install, such as V(redis).
    type: list
    elements: str
    default: []
  packages:
    description: Further requirements, in pip's words. The lock's versions bind them, its hashes are checked where it has any.
    type: list
    elements: str
    default: []
  python:
    description: Interpreter that the environment is made for.
    type: path
    default: /usr/bin/python3
  index_url:
    description: Package index to use instead of the public one. It may hold a user and a password.
    type: str
  wheelhouse:
    description: Folder on the host that holds every wheel that is needed, that of C(uv) included. Nothing is then asked of any index.
    type: path
  ca_bundle:
    description: PEM file with the authorities that the index's certificate is checked against. By default the system's.
    type: path
  free_bytes:
    description: Refuse to build with less free space than this, in bytes.
    type: int
    default: 1073741824
  link:
    description: Name of a symbolic link in O(path) to switch to the environment, such as V(current). Without it the environment is only built.
    type: str
  keep:
    description: How many environments to keep, those that a link names included. Only used with O(link).
    type: int
    default: 2
"""

EXAMPLES = r"""
- name: Build the environment, and make it the current one
  selfhost.prefect.prefect_venv:
    path: /opt/prefect
    version: 3.8.8
    uv_lock: "{{ lookup('ansible.builtin.file', 'uv.lock') }}"
    constraints: "{{ lookup('ansible.builtin.file', 'prefect-3.8.8.txt') }}"
    extras: [redis]
    link: current
"""

RETURN = r"""
venv:
  description: Path of the environment.
  returned: always
  type: str
  sample: /opt/prefect/3.8.8-2b7a1f90c4
pruned:
  description: Paths of the environments that were removed.
  returned: always
  type: list
  elements: str
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.selfhost.prefect.plugins.module_utils._uv import UvError, install_uv, pick_wheel, uv_path

SYSTEM_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Written last, so that a folder without it is an installation that was interrupted.
COMPLETE = ".complete"
# uvicorn uses them where they are. Without them, several API processes under one socket cost 44 ms a request
# (no TCP_NODELAY: https://github.com/Kludex/uvicorn/issues/3149).
UVICORN_ACCELERATORS = ("uvloop", "httptools")
VENV_NAME = re.compile(r".+-[0-9a-f]{10}")


class Venv:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.root: str = module.params["path"]
        self.venv = os.path.join(self.root, f"{module.params['version']}-{self.digest()}")
        self.uv = ""

    def digest(self) -> str:
        decisive = [self.params[key] for key in ("constraints", "requirements", "exclude_newer", "python")]
        decisive += [sorted(self.params[key]) for key in ("extras", "packages")]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]

    def is_complete(self) -> bool:
        return os.path.exists(os.path.join(self.venv, COMPLETE))

    # What is there, as a diff shows it.

    def environments(self) -> list[str]:
        """Names of the finished environments, the youngest first."""
        try:
            names = [name for name in os.listdir(self.root) if VENV_NAME.fullmatch(name)]
        except FileNotFoundError:
            return []
        found = [(os.path.getmtime(mark), name) for name in names if os.path.exists(mark := os.path.join(self.root, name, COMPLETE))]
        return [name for dummy, name in sorted(found, reverse=True)]

    def links(self) -> dict[str, str]:
        """Name of each link in the folder -> name of what it points to."""
        try:
            entries = list(os.scandir(self.root))
        except FileNotFoundError:
            return {}
        return {entry.name: os.path.basename(os.readlink(entry.path)) for entry in entries if entry.is_symlink()}

    # Building.

    def build(self) -> None:
        self.check_disk()
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        self.uv = install_uv(
            self.params["uv_lock"], self.root, self.fetch, index_url=self.params["index_url"] or "", wheelhouse=self.params["wheelhouse"] or ""
        )
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            self.run_uv(["venv", "--clear", "--python", self.params["python"], self.venv])
            for arguments in self.installs(folder):
                self.run_uv(["pip", "install", "--compile-bytecode", "--python", os.path.join(self.venv, "bin", "python"), *arguments])
        with open(os.path.join(self.venv, COMPLETE), "w", encoding="utf-8"):
            pass

    def installs(self, folder: str) -> list[list[str]]:
        """The arguments of each `uv pip install` that the wish comes down to."""
        version, lock = self.params["version"], self.params["constraints"] or self.params["requirements"] or ""
        extras = f"[{','.join(sorted(self.params['extras']))}]" if self.params["extras"] else ""
        lock_file = os.path.join(folder, "lock.txt")
        with open(lock_file, "w", encoding="utf-8") as stream:
            stream.write(lock)
        hashes = ["--require-hashes"] if "--hash=" in lock else []
        if self.params["requirements"] is not None:
            calls = [[*hashes, "--requirements", lock_file]]
        else:
            beside = [pin for name in UVICORN_ACCELERATORS if (pin := pinned(lock, name))]
            calls = [[*hashes, "--constraints", lock_file, f"prefect{extras}=={version}", *beside]]
        if self.params["packages"]:
            calls.append(["--constraints", lock_file, f"prefect{extras}=={version}", *self.params["packages"]])
        return calls

    def run_uv(self, arguments: list[str]) -> None:
        environment = {
            "UV_CACHE_DIR": os.path.join(self.root, ".cache"),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        # By the environment, since an argument list is readable to every user of the host.
        if self.params["index_url"]:
            environment["UV_DEFAULT_INDEX"] = self.params["index_url"]
        if self.params["exclude_newer"]:
            environment["UV_EXCLUDE_NEWER"] = self.params["exclude_newer"]
        if self.params["wheelhouse"]:
            environment.update(UV_NO_INDEX="1", UV_FIND_LINKS=self.params["wheelhouse"])
        bundle = self.params["ca_bundle"] or SYSTEM_CA_BUNDLE
        if os.path.exists(bundle):
            environment["SSL_CERT_FILE"] = bundle
        code, dummy, error = self.module.run_command([self.uv, *arguments], environ_update=environment)
        if code:
            last_words = "\n".join(error.strip().splitlines()[-15:])
            self.module.fail_json(msg=f"Prefect {self.params['version']} could not be installed into {self.venv}; what runs is untouched. uv says:\n{last_words}")

    def fetch(self, url: str) -> bytes:
        return open_url(url, ca_path=self.params["ca_bundle"], timeout=60, http_agent="selfhost.prefect").read()

    def check_disk(self) -> None:
        folder = self.root
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if free < self.params["free_bytes"]:
            self.module.fail_json(
                msg=f"{self.root} has {free >> 20} MiB of free space, and an installation of Prefect wants {self.params['free_bytes'] >> 20} MiB: "
                "free some, or choose a folder on a larger disk."
            )

    # Switching.

    def switch(self) -> None:
        temporary = os.path.join(self.root, f".{self.params['link']}.new")
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(os.path.basename(self.venv), temporary)
        os.replace(temporary, os.path.join(self.root, self.params["link"]))

    def superfluous(self, links: dict[str, str]) -> list[str]:
        environments, linked = self.environments(), set(links.values())
        spare = [name for name in environments if name not in linked]
        return spare[max(0, self.params["keep"] - len(linked & set(environments))) :]


def pinned(lock: str, package: str) -> str:
    """The lock's pin of a package, `name==version`, or nothing."""
    found = re.search(rf"^{re.escape(package)}==[^\s;\\]+", lock, re.MULTILINE)
    return found.group() if found else ""


def run(module: AnsibleModule) -> dict[str, Any]:
    wish = Venv(module)
    name, link = os.path.basename(wish.venv), module.params["link"]
    environments, links = wish.environments(), wish.links()

    build, switch = not wish.is_complete(), bool(link) and links.get(link) != name
    if build and not module.check_mode:
        wish.build()
    if switch and not module.check_mode:
        wish.switch()

    after_links = {**links, link: name} if link else links
    prune = wish.superfluous(after_links) if link else []
    if not module.check_mode:
        for folder in prune:
            shutil.rmtree(os.path.join(wish.root, folder))

    after = [name for name in ([wish.venv.rpartition("/")[2]] if build else []) + environments if name not in prune]
    return {
        "changed": build or switch or bool(prune),
        "venv": wish.venv,
        "pruned": [os.path.join(wish.root, folder) for folder in prune],
        "diff": {
            "before": json.dumps({"environments": sorted(environments), "links": links}, indent=2, sort_keys=True) + "\n",
            "after": json.dumps({"environments": sorted(after), "links": after_links}, indent=2, sort_keys=True) + "\n",
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "version": {"type": "str", "required": True},
            # Locks are no secrets: they are a quarter of a megabyte of hashes, which no log is the better for.
            "uv_lock": {"type": "str", "required": True, "no_log": True},
            "constraints": {"type": "str", "no_log": True},
            "requirements": {"type": "str", "no_log": True},
            "exclude_newer": {"type": "str"},
            "extras": {"type": "list", "elements": "str", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "index_url": {"type": "str", "no_log": True},
            "wheelhouse": {"type": "path"},
            "ca_bundle": {"type": "path"},
            "free_bytes": {"type": "int", "default": 1 << 30},
            "link": {"type": "str"},
            "keep": {"type": "int", "default": 2},
        },
        mutually_exclusive=[("constraints", "requirements", "exclude_newer")],
        required_one_of=[("constraints", "requirements", "exclude_newer")],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except UvError as error:
        module.fail_json(msg=f"uv could not be installed: {error}")
    except OSError as error:
        module.fail_json(msg=f"Prefect {module.params['version']} could not be installed below {module.params['path']}: {error}")


if __name__ == "__main__":
    main()
