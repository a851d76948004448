# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import pytest
from ansible.module_utils.common import warnings
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args


def run_module(main: t.Callable[[], None], check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
    """Run a module's main() in this process, and give what it prints; "_output" is that as text."""
    # They are kept for as long as a process lives, which is that of one module elsewhere.
    warnings._global_warnings.clear()
    output = io.StringIO()
    given = {**arguments, "_ansible_check_mode": check_mode}
    if "inject_invocation" in PASS_VARS:
        # As with -vvv: newer versions of Ansible leave the arguments out of the answer otherwise.
        given["_ansible_inject_invocation"] = True
    with patch_module_args(given), contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main()
    result: dict[str, t.Any] = json.loads(output.getvalue())
    result["_output"] = output.getvalue()
    return result
