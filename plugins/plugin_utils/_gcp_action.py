# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is PRIVATE to the collection. In plugins/action, each module for Google Cloud has it by its own name.

"""Runs a module for Google Cloud in Ansible's own process, where that is the interpreter it would run on anyway.

To pack a module, to start Python and to import Google's and Ansible's libraries takes ten times as long as what most of these modules ask of
Google. ansible.netcommon does the same for network devices, as "direct execution".
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import typing as t

from ansible.module_utils import basic
from ansible.module_utils.common.json import Direction, get_module_decoder, get_module_encoder
from ansible.plugins.action.normal import ActionModule as NormalActionModule
from ansible.utils.display import Display

# Imported here for the process that all tasks are forked from, so that each has it at no cost.
from ansible_collections.selfhost.prefect.plugins.module_utils import _gcp

# How ansible-core itself writes a module's arguments and reads its result.
PROFILE = "legacy"


class ActionModule(NormalActionModule):
    """The usual action, but for where the module is executed."""

    def _execute_module(self, *args: t.Any, task_vars: dict[str, t.Any] | None = None, **kwargs: t.Any) -> t.Any:
        task_vars = task_vars or {}
        if not self._may_run_here(task_vars):
            return super()._execute_module(*args, task_vars=task_vars, **kwargs)
        Display().vvv(f"Running {self._task.action} in Ansible's own process", host=self._play_context.remote_addr)
        arguments = dict(self._task.args)
        self._update_module_args(self._task.action, arguments, task_vars)
        return json.loads(run_here(self._task.resolved_action, arguments), cls=get_module_decoder(PROFILE, Direction.MODULE_TO_CONTROLLER))

    def _may_run_here(self, task_vars: dict[str, t.Any]) -> bool:
        """Say whether the module would run on this machine, as this user, with this interpreter and this environment."""
        # Where nobody says otherwise, it is Ansible's own. The one that Ansible would go and look for need not have google-auth.
        interpreter = self._templar.template(task_vars.get("ansible_python_interpreter", sys.executable))
        return (
            _gcp.IMPORT_ERROR is None
            and self._connection.transport == "local"
            and interpreter in (sys.executable, task_vars.get("ansible_playbook_python"))
            and not (self._connection.become or self._task.async_val or any(self._task.environment or ()))
        )


def run_here(name: str, arguments: dict[str, t.Any]) -> str:
    """Run main() of a module with these arguments, and give what it prints. It is the last thing that this process does: nothing is put back."""
    encoder = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}, cls=encoder).encode()
    basic._ANSIBLE_PROFILE = PROFILE
    _gcp.show = Display().display
    namespace, collection, module = name.split(".")
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
        importlib.import_module(f"ansible_collections.{namespace}.{collection}.plugins.modules.{module}").main()
    return printed.getvalue()
