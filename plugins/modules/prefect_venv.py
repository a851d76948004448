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
  - With O(link), a symbolic link is switched to it in one step, and older environments that no link names are pruned.
  - Packages are installed by C(uv), which the module brings along as a pinned wheel whose hash is checked.
author: selfhost.prefect contributors (!UNKNOWN)
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
      - Nothing that the lock does not hold with a hash is installed, and nothing is built from source, O(packages) excepted.
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
    description: Interpreter that the environment is made for. When the link that it mostly is comes to name another one, a new environment is made.
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
    description: With less free space than this, in bytes, nothing is built.
    type: int
    default: 1073741824
  link:
    description: Name of a symbolic link in O(path) to switch to the environment, such as V(current). Without it the environment is only built.
    type: str
  keep:
    description:
      - How many environments to keep for each link, the one that it names included. The others are what a rollback goes back to.
      - With V(1), the former one is gone before what runs on it has been restarted.
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
links:
  description: Names of the links in O(path) that point to the environment.
  returned: always
  type: list
  elements: str
  sample: [current]
pruned:
  description: Paths of the environments that were removed. Without O(link), none is.
  returned: always
  type: list
  elements: str
"""

import contextlib
import fcntl
import glob
import hashlib
import http.client
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from ansible.module_utils import urls
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._uv import UvError, install_uv

SYSTEM_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Written last, so that a folder without it is an installation that was interrupted.
COMPLETE = ".complete"
# uvicorn uses them where they are. Without them, several API processes under one socket cost 44 ms a request
# (no TCP_NODELAY: https://github.com/Kludex/uvicorn/issues/3149).
UVICORN_ACCELERATORS = ("uvloop", "httptools")
# With 2.1 the scheduler of Prefect 3.8 fails at each insert. A lock has a version of its own.
UNLOCKED = ("sqlalchemy<2.1",)
VENV_NAME = re.compile(r"\d+(\.\d+)+[a-z0-9.+]*-[0-9a-f]{10}")


class Venv:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.root: str = module.params["path"]
        self.name = f"{module.params['version']}-{self.digest()}"
        self.path = os.path.join(self.root, self.name)
        # Of uv and for uv: everything in it can be fetched again.
        self.cache = os.path.join(self.root, ".cache")

    def digest(self) -> str:
        decisive = [self.params[key] for key in ("constraints", "requirements", "exclude_newer")]
        decisive += [sorted(self.params[key]) for key in ("extras", "packages")]
        # With its links followed, because an upgrade of the distribution leaves an environment behind that no longer works.
        decisive.append(os.path.realpath(self.params["python"]))
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:10]

    def is_complete(self, name: str) -> bool:
        return os.path.exists(os.path.join(self.root, name, COMPLETE))

    # What is there.

    def folders(self) -> list[str]:
        """Names of the environments, finished or not."""
        names = os.listdir(self.root) if os.path.isdir(self.root) else []
        return [name for name in names if VENV_NAME.fullmatch(name) and (self.is_complete(name) or self.is_venv(name))]

    def is_venv(self, name: str) -> bool:
        """By what is there first when one is built, and last when one is removed, of all that takes space."""
        return bool(glob.glob(os.path.join(self.root, name, "lib", "python3*", "site-packages")))

    def environments(self) -> list[str]:
        """Names of the finished environments, the youngest first."""
        found = [name for name in self.folders() if self.is_complete(name)]
        return sorted(found, key=lambda name: os.path.getmtime(os.path.join(self.root, name, COMPLETE)), reverse=True)

    def links(self) -> dict[str, str]:
        """Name of each link in the folder -> name of what it points to."""
        entries = list(os.scandir(self.root)) if os.path.isdir(self.root) else []
        return {entry.name: os.path.basename(os.readlink(entry.path)) for entry in entries if entry.is_symlink()}

    def superfluous(self, environments: list[str], links: dict[str, str], former: str | None) -> list[str]:
        """Names of what to prune: of the finished environments those that no link names beyond what is kept, and the interrupted ones."""
        linked = set(links.values()) & set(environments)
        spare = sorted((name for name in environments if name not in linked), key=lambda name: name != former)
        interrupted = [name for name in self.folders() if name not in environments]
        return spare[(self.params["keep"] - 1) * len(linked) :] + interrupted

    # Building.

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other run is at work here, and let none begin."""
        os.makedirs(self.root, mode=0o755, exist_ok=True)
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def check_disk(self) -> None:
        folder = self.root
        while not os.path.exists(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if free < self.params["free_bytes"]:
            self.fail(
                f"path (prefect_runtime_path) is {self.root}, which has {free >> 20} MiB of free space, and an installation of Prefect wants "
                f"{self.params['free_bytes'] >> 20} MiB: free some, or write a folder on a larger disk."
            )

    def build(self) -> None:
        bundle = self.params["ca_bundle"]
        if bundle and not os.path.isfile(bundle):
            self.fail(
                f"ca_bundle (prefect_runtime_ca_bundle or prefect_ca_bundle) is {bundle}, which is no file on this host: bring the PEM bundle there first."
            )
        # A version that is new here shares little with what was cached for another, which would stay for ever.
        if not any(name.startswith(f"{self.params['version']}-") for name in self.environments()):
            shutil.rmtree(self.cache, ignore_errors=True)
        # Closed, because uv makes lock files in it that everybody may write.
        os.makedirs(self.cache, mode=0o700, exist_ok=True)
        uv = install_uv(self.params["uv_lock"], self.cache, self.fetch, index_url=self.params["index_url"] or "", wheelhouse=self.params["wheelhouse"] or "")
        try:
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                self.run_uv([uv, "venv", "--quiet", "--clear", "--no-project", "--python", self.params["python"], self.path])
                source = ["--no-index", "--find-links", self.params["wheelhouse"]] if self.params["wheelhouse"] else []
                for arguments in self.installs(folder):
                    python = os.path.join(self.path, "bin", "python")
                    # The service may not write byte code, and would compile at each start.
                    self.run_uv([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *source, *arguments])
            # uv makes it so that everybody may write.
            os.unlink(os.path.join(self.path, ".lock"))
            with open(os.path.join(self.path, COMPLETE), "w", encoding="utf-8"):
                pass
        except BaseException:
            # Half an environment is of no use, and takes space that may be what it failed for.
            self.remove(self.name)
            raise

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
            beside = [pin for name in UVICORN_ACCELERATORS if (pin := pinned(lock, name))] if lock else [*UVICORN_ACCELERATORS, *UNLOCKED]
            # The locks have a wheel for everything, and to build one would be to run code whose own requirements have no hashes.
            no_build = ["--no-build"] if lock else []
            calls = [[*hashes, *no_build, "--constraints", lock_file, f"prefect{extras}=={version}", *beside]]
        if self.params["packages"]:
            calls.append(["--constraints", lock_file, f"prefect{extras}=={version}", *self.params["packages"]])
        return calls

    def run_uv(self, command: list[str]) -> None:
        environment = {
            "UV_CACHE_DIR": self.cache,
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        }
        # By the environment, since an argument list is readable to every user of the host.
        if self.params["index_url"]:
            environment["UV_DEFAULT_INDEX"] = self.params["index_url"]
        if self.params["exclude_newer"]:
            environment["UV_EXCLUDE_NEWER"] = self.params["exclude_newer"]
        bundle = self.params["ca_bundle"] or SYSTEM_CA_BUNDLE
        if os.path.exists(bundle):
            environment["SSL_CERT_FILE"] = bundle
        code, dummy, error = self.module.run_command(command, environ_update=environment)
        if code:
            lines = error.strip().splitlines() or [f"nothing, and ended with {code}"]
            if len(lines) > 20:
                # What is wrong comes first, then perhaps a hundred hashes, then a hint.
                lines[10:-10] = ["..."]
            index = urlsplit(self.params["index_url"] or "").hostname
            asking = f", asking {index}," if index else ""
            said = "\n".join(lines)
            self.fail(f"Prefect {self.params['version']} could not be installed into {self.path}; what runs is untouched. uv{asking} says:\n{said}")

    def fetch(self, url: str) -> bytes:
        try:
            # Some indexes answer 404 where they should ask for a password. A host that it redirects to must not get it.
            with urls.open_url(url, ca_path=self.params["ca_bundle"], timeout=60, force_basic_auth=True, unredirected_headers=["Authorization"]) as answer:
                return answer.read()
        except (OSError, ValueError, http.client.HTTPException, urls.ConnectionError) as error:
            raise UvError(f"{urlsplit(url).hostname or 'index_url'} does not give it: {error}") from error

    # Switching.

    def switch(self) -> None:
        temporary = os.path.join(self.root, f".{self.params['link']}.new")
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(self.name, temporary)
        os.replace(temporary, os.path.join(self.root, self.params["link"]))

    def remove(self, name: str) -> None:
        folder = os.path.join(self.root, name)
        if self.is_complete(name):
            # First, so that a removal that is interrupted leaves nothing that looks finished.
            os.unlink(os.path.join(folder, COMPLETE))
        shutil.rmtree(folder, ignore_errors=True)

    def fail(self, message: str) -> None:
        """End the module. The credentials of the index are in no message, whoever wrote it."""
        credentials = urlsplit(self.params["index_url"] or "").netloc.rpartition("@")[0]
        password = credentials.partition(":")[2]
        for secret in filter(None, (credentials, password, unquote(password))):
            message = message.replace(secret, "********")
        self.module.fail_json(msg=message)


def pinned(lock: str, package: str) -> str:
    """The lock's pin of a package, `name==version`, or nothing."""
    found = re.search(rf"^{re.escape(package)}==[^\s;\\]+", lock, re.MULTILINE)
    return found.group() if found else ""


def run(wish: Venv) -> dict[str, Any]:
    link, check_mode = wish.params["link"], wish.module.check_mode
    environments, links = wish.environments(), wish.links()

    build, switch = not wish.is_complete(wish.name), bool(link) and links.get(link) != wish.name
    if build and not check_mode:
        wish.build()
    if switch and not check_mode:
        wish.switch()

    after, after_links = [wish.name] * build + environments, {**links, link: wish.name} if link else links
    prune = wish.superfluous(after, after_links, former=links.get(link)) if link else []
    if not check_mode:
        for name in prune:
            wish.remove(name)

    return {
        "changed": build or switch or bool(prune),
        "venv": wish.path,
        "links": sorted(name for name, target in after_links.items() if target == wish.name),
        "pruned": [os.path.join(wish.root, name) for name in prune],
        "diff": {
            "before": json.dumps({"environments": sorted(environments), "links": links}, indent=2, sort_keys=True) + "\n",
            "after": json.dumps({"environments": sorted({*after} - {*prune}), "links": after_links}, indent=2, sort_keys=True) + "\n",
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
    # The service must be able to read what root installs, whatever root's umask is.
    os.umask(0o022)
    try:
        wish = Venv(module)
        # Before the folder is made.
        if not wish.is_complete(wish.name):
            wish.check_disk()
        with contextlib.nullcontext() if module.check_mode else wish.alone():
            result = run(wish)
        module.exit_json(**result)
    except UvError as error:
        module.fail_json(msg=f"uv could not be installed; what runs is untouched. {error}")
    except OSError as error:
        module.fail_json(msg=f"Prefect {module.params['version']} could not be installed below {module.params['path']}; what runs is untouched. {error}")


if __name__ == "__main__":
    main()
