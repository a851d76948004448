# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as others get it: built, installed into an empty folder, and used from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What a checkout holds beside the collection, some of it ignored by git but not by ansible-galaxy.
NOT_SHIPPED = (".ci", ".collections", ".config", ".git", ".venv", "build", "molecule", "requirements", "scripts", "tests")


def ansible(program: str, *arguments: object, cwd: Path) -> str:
    """Run an Ansible program as if nothing of this checkout and this user were there."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8", "ANSIBLE_COLLECTIONS_PATH": str(cwd / "collections")}
    command = [sys.executable, "-m", "ansible", program, *map(str, arguments)]
    run = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    checkout = work / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=lambda folder, names: NOT_SHIPPED if Path(folder) == ROOT else ())
    for folder in NOT_SHIPPED:
        (checkout / folder).mkdir()
        (checkout / folder / "README.md").touch()
    ansible("galaxy", "collection", "build", checkout, "--output-path", work, cwd=work)
    (built,) = work.glob("selfhost-prefect-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(tarball):
    """Where a collection path is that holds this collection alone."""
    place = tarball.parent / "elsewhere"
    place.mkdir()
    ansible("galaxy", "collection", "install", tarball, "--collections-path", place / "collections", "--offline", cwd=place)
    return place


def test_the_tarball_holds_the_collection_and_nothing_else(tarball):
    with tarfile.open(tarball) as archive:
        names = {member.name for member in archive.getmembers() if member.isfile()}
    assert {
        "LICENSE",
        "README.md",
        "meta/runtime.yml",
        "playbooks/site.yml",
        "plugins/module_utils/_uv.py",
        "roles/prefect_runtime/files/uv.lock",
        "roles/prefect_runtime/meta/argument_specs.yml",
    } <= names
    assert sorted(name for name in names if name.split("/")[0] in NOT_SHIPPED) == []
    assert sorted(name for name in names if any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))) == []


def test_each_playbook_is_found_and_understood_by_its_full_name(installed):
    playbooks = [path.stem for path in installed.glob("collections/ansible_collections/selfhost/prefect/playbooks/*.yml")]
    assert {"site", "verify"} <= set(playbooks)
    for playbook in playbooks:
        output = ansible("playbook", "--syntax-check", "--inventory", "localhost,", f"selfhost.prefect.{playbook}", cwd=installed)
        assert f"playbook: selfhost.prefect.{playbook}" in output or f"playbooks/{playbook}.yml" in output
