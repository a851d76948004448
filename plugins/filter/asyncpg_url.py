# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import AsyncpgUrlError, build_url

PARTS = ("name", "host", "port", "user", "password", "query")


def asyncpg_url(parts: dict[str, Any]) -> str:
    if not isinstance(parts, dict) or not parts.get("name"):
        raise AnsibleFilterError("asyncpg_url takes a dictionary with at least 'name', the database's")
    if unknown := ", ".join(sorted(set(parts) - set(PARTS))):
        raise AnsibleFilterError(f"asyncpg_url knows no {unknown}, only {', '.join(PARTS)}")
    try:
        return build_url(parts)
    except AsyncpgUrlError as error:
        raise AnsibleFilterError(f"asyncpg_url: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"asyncpg_url": asyncpg_url}
