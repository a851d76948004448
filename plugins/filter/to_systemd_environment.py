# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.selfhost.prefect.plugins.module_utils._systemd import EnvironmentFileError, environment_file


def to_systemd_environment(variables: dict[str, Any]) -> str:
    if not isinstance(variables, dict):
        raise AnsibleFilterError("to_systemd_environment takes a dictionary of variables")
    try:
        return environment_file(variables)
    except EnvironmentFileError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_systemd_environment": to_systemd_environment}
