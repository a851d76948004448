# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test runs each test in a process of its own, and sets its fixtures up there anew. That takes three times as long, so not here."""

from __future__ import annotations

import coverage
import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.unregister(name="ansible_forked")


def pytest_unconfigure() -> None:
    # ansible-test has it saved when such a process ends.
    if measured := coverage.Coverage.current():
        measured.save()
