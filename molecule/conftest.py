# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of several scenarios use."""

from __future__ import annotations

import json
import os
import subprocess
import typing as t
from pathlib import Path

import pytest


class Run(t.NamedTuple):
    failed: bool
    changed: bool
    output: str

    @property
    def text(self):
        """The output as one line, so that sentences can be looked for."""
        return " ".join(self.output.split())


@pytest.fixture(scope="session")
def apply():
    """Apply the scenario's role to its two hosts, with other variables than the scenario's."""
    scenario = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])

    def run(*options, **variables):
        command = ["ansible-playbook", "--diff", "--extra-vars", json.dumps(variables), *options, str(scenario / "converge.yml")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})
        recap = done.stdout.rpartition("PLAY RECAP")[2]
        assert recap.count(f"molecule-{scenario.name}-") == 2, done.stdout
        return Run(done.returncode != 0, recap.count("changed=0") < 2, done.stdout)

    return run
