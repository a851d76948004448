# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""
Lets one run of Ansible send the modules that another one has packed.

To pack a module, Ansible reads all that it imports, and for each run anew: a third of what a run costs the controller. scripts/tests makes a folder
for its hundreds of runs, which all have the same modules, and takes it away at the end. Ansible's own lock, a file beside each, keeps runs side by side apart.

And to those that run on this machine it hands no PYTHONUNBUFFERED, which scripts/tests sets for the logs: Python would read them byte by byte.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: packed_modules
short_description: Send modules that another run has packed
description: For this project's own tests.
type: aggregate
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "packed_modules"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # As ansible.executor.module_common calls it. Under another name it would be of no use and do no harm.
        Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(os.environ["PACKED_MODULES"])
        os.environ.pop("PYTHONUNBUFFERED", None)
