# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""tests/live_gcp runs playbooks with it. Here is what decides where a module runs, and that what it prints is taken."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from ansible.module_utils import basic
from ansible_collections.selfhost.prefect.plugins.module_utils import _gcp
from ansible_collections.selfhost.prefect.plugins.plugin_utils._gcp_action import ActionModule


@pytest.fixture
def action():
    action = ActionModule.__new__(ActionModule)
    action._templar = SimpleNamespace(template=lambda value: value)
    action._connection = SimpleNamespace(transport="local", become=None)
    action._task = SimpleNamespace(async_val=0, environment=[{}])
    return action


@pytest.mark.parametrize(
    "variables", [{}, {"ansible_python_interpreter": sys.executable}, {"ansible_python_interpreter": "/a", "ansible_playbook_python": "/a"}]
)
def test_it_runs_here(action, variables):
    assert action._may_run_here(variables)


@pytest.mark.parametrize(
    ("part", "differently"),
    [
        ("_connection", {"transport": "ssh"}),
        ("_connection", {"become": "sudo"}),
        ("_task", {"async_val": 60}),
        ("_task", {"environment": [{"SOME": "variable"}]}),
    ],
)
def test_it_runs_elsewhere(action, part, differently):
    vars(getattr(action, part)).update(differently)
    assert not action._may_run_here({})


def test_it_runs_on_another_interpreter(action):
    assert not action._may_run_here({"ansible_python_interpreter": "/another/python3", "ansible_playbook_python": sys.executable})


def test_it_runs_as_usual_where_the_libraries_are_missing(action, monkeypatch):
    monkeypatch.setattr(_gcp, "IMPORT_ERROR", "No module named 'google.auth'")
    assert not action._may_run_here({})


def test_what_the_module_says_is_taken(action, monkeypatch, capsys):
    for name in ("_ANSIBLE_ARGS", "_ANSIBLE_PROFILE"):
        monkeypatch.setattr(basic, name, None)
    monkeypatch.setattr(_gcp, "show", None)
    name, arguments = "selfhost.prefect.project_services", {"project": "My Project", "services": ["sqladmin.googleapis.com"]}
    action._play_context = SimpleNamespace(remote_addr="localhost")
    vars(action._task).update(action=name, resolved_action=name, args=arguments)
    monkeypatch.setattr(action, "_update_module_args", lambda name, arguments, variables: arguments.update(_ansible_check_mode=True))
    said = action._execute_module(task_vars={})
    assert said["failed"]
    assert said["msg"].startswith("project is 'My Project', which is no project ID")
    assert arguments == {"project": "My Project", "services": ["sqladmin.googleapis.com"]}
    assert capsys.readouterr().out == ""
    # Whoever waits for Google is told so by Ansible's own means.
    _gcp.show("Waiting for an operation, 30 s so far")
    assert capsys.readouterr().out == "Waiting for an operation, 30 s so far\n"
