# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import AsyncpgUrlError, parse_url


def asyncpg_url_parts(url: str) -> dict[str, Any]:
    try:
        return parse_url(url)
    except AsyncpgUrlError as error:
        raise AnsibleFilterError(f"This database URL cannot be used: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"asyncpg_url_parts": asyncpg_url_parts}
