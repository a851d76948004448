# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the modules for Google Cloud run: in Ansible's own process, or as any other module. Nobody can tell by what they do."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

from .conftest import PROJECT, Controller, Run

HERE = "in Ansible's own process"
SECRET = "made-up-for-a-test"
# Another name of the same one.
INTERPRETER = str(next(path for path in Path(sys.prefix, "bin").glob("python3*") if str(path) != sys.executable))


@pytest.fixture
def keep(controller: Controller) -> t.Callable[..., Run]:
    """Keep a secret, show the result as JSON, and give the run."""

    def run(*arguments: str, keywords: dict[str, t.Any] | None = None, **variables: t.Any) -> Run:
        task = {
            "name": "Keep",
            "selfhost.prefect.secret_manager_secret": {"name": "kept", "value": "{{ value }}", "return_value": True},
            "module_defaults": {"group/selfhost.prefect.gcp": {"project": PROJECT}},
            "register": "kept",
            **(keywords or {}),
        }
        show = {"name": "Show", "ansible.builtin.debug": {"msg": "version={{ kept.version | default('') }} same={{ kept.value | default('') == value }}"}}
        return controller.tasks([task, show], "-vvv", *arguments, value=SECRET, ansible_async_dir=str(controller.home), **variables)

    return run


@pytest.mark.parametrize(
    ("keywords", "variables", "here"),
    [
        ({}, {}, True),
        ({}, {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}, True),
        ({}, {"ansible_python_interpreter": INTERPRETER}, False),
        ({"environment": {"SOME": "variable"}}, {}, False),
        ({"async": 60, "poll": 1}, {}, False),
    ],
)
def test_both_ways_do_the_same(cloud, keep: t.Callable[..., Run], keywords: dict[str, t.Any], variables: dict[str, t.Any], here: bool) -> None:
    dry = keep("--check", keywords={**keywords, "async": 0} if "async" in keywords else keywords, **variables)
    assert (dry.ok, cloud.writes()) == (True, []), dry.output
    first, second = keep(keywords=keywords, **variables), keep(keywords=keywords, **variables)
    for run, changed in ((first, 1), (second, 0)):
        assert run.ok, run.output
        assert (HERE in run.output) == here
        assert (run.changed, "version=1 same=True" in run.text) == (changed, True), run.output
    writes = len(cloud.writes())

    refused = keep(keywords={**keywords, "selfhost.prefect.secret_manager_secret": {"name": "k/t", "value": SECRET}}, **variables)
    assert not refused.ok
    assert "name" in refused.text
    assert len(cloud.writes()) == writes


@pytest.mark.parametrize("variables", [{}, {"ansible_python_interpreter": INTERPRETER}])
def test_no_secret_is_shown(keep: t.Callable[..., Run], variables: dict[str, t.Any]) -> None:
    run = keep("--diff", keywords={"selfhost.prefect.secret_manager_secret": {"name": "kept", "value": SECRET}}, **variables)
    assert run.ok, run.output
    assert ("VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in run.output) == ("invocation:" in run.output)
    assert SECRET not in run.output.replace("same=", "")
