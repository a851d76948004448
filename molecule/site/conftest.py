"""Whole rollouts, with other variables than the scenario's."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.fixture(scope="session")
def play():
    directory = os.environ["MOLECULE_SCENARIO_DIRECTORY"]
    command = ["ansible-playbook", f"--inventory={directory}/../inventory/", f"--inventory={directory}/inventory.yml"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], cwd=f"{directory}/../..", text=True, capture_output=True, check=False)

    return run
