# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles and playbooks for Google Cloud, as people run them, against the local one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

ROOT = Path(__file__).parents[2]
PROJECT = "example-project"


class Run(t.NamedTuple):
    """A run of ansible-playbook: its output, and how many tasks changed something."""

    ok: bool
    output: str
    changed: int

    @property
    def text(self) -> str:
        """The output on one line, as messages are folded anywhere."""
        return " ".join(self.output.replace("\\n", " ").replace('\\"', '"').split())


class Controller:
    """Runs Ansible with Google's addresses leading to the local cloud."""

    def __init__(self, cloud: LocalCloud, home: Path) -> None:
        self.cloud = cloud
        self.home = home
        self.environment = {
            **os.environ,
            **cloud.proxy_environment(),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(home),
            "GCP_AUTH_KIND": "accesstoken",
            "GCP_ACCESS_TOKEN": "a-token",
            "HOME": str(home),
        }
        for name in ("HTTP_PROXY", "http_proxy", "PYTHONPATH"):
            self.environment.pop(name, None)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.prefix) / "bin" / program), *arguments]
        return subprocess.run(command, env=self.environment, cwd=self.home, capture_output=True, text=True, check=False, timeout=300)

    def play(self, playbook: Path, *arguments: str, **variables: t.Any) -> Run:
        """Run a playbook with these variables, which have no Jinja in them."""
        values = {"ansible_python_interpreter": sys.executable, **variables}
        done = self.run("ansible-playbook", str(playbook), "--extra-vars", json.dumps(values), "--diff", *arguments)
        return Run(done.returncode == 0, done.stdout + done.stderr, sum(map(int, re.findall(r"changed=(\d+)", done.stdout))))

    def role(self, name: str, *arguments: str, **variables: t.Any) -> Run:
        """Apply a role to the controller."""
        variables = {"prefect_gcp_project": PROJECT, "prefect_gcp_region": "europe-west1", **variables}
        tasks = [{"name": "Apply", "ansible.builtin.include_role": {"name": f"selfhost.prefect.{name}"}}]
        return self.tasks(tasks, *arguments, **variables)

    def refusals(self, role: str, cases: dict[str, tuple[dict[str, t.Any], str]]) -> Run:
        """Apply a role with wrong input of many kinds, each of which it has to refuse with its message."""
        tasks: list[dict[str, t.Any]] = []
        for name, (variables, message) in cases.items():
            apply = {"name": name, "ansible.builtin.include_role": {"name": f"selfhost.prefect.{role}"}, "vars": variables}
            taken = {"name": "Nobody minded", "ansible.builtin.fail": {"msg": f"{name} was taken"}}
            said = {"that": f"{json.dumps(message)} in ansible_failed_result.msg", "fail_msg": "{{ ansible_failed_result.msg }}"}
            tasks.append({"name": name, "block": [apply, taken], "rescue": [{"name": "It said so", "ansible.builtin.assert": said}]})
        return self.tasks(tasks, prefect_gcp_region="europe-west1")

    def tasks(self, tasks: list[dict[str, t.Any]], *arguments: str, **variables: t.Any) -> Run:
        playbook = self.home / "tasks.yml"
        playbook.write_text(json.dumps([{"name": "Tasks", "hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]))
        return self.play(playbook, "--inventory", "localhost,", *arguments, **variables)


@pytest.fixture
def cloud() -> t.Iterator[LocalCloud]:
    with LocalCloud() as cloud:
        yield cloud
    assert cloud.mistakes == []


@pytest.fixture
def controller(cloud: LocalCloud, tmp_path: Path) -> Controller:
    return Controller(cloud, tmp_path)
