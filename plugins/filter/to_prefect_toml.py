# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.selfhost.prefect.plugins.module_utils._toml import TomlError, dumps


def to_prefect_toml(settings: dict[str, Any]) -> str:
    if not isinstance(settings, dict):
        raise AnsibleFilterError("to_prefect_toml takes a dictionary of settings")
    try:
        return dumps(settings)
    except TomlError as error:
        raise AnsibleFilterError(f"These settings cannot be written: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_prefect_toml": to_prefect_toml}
