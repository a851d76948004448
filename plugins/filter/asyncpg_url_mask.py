# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import mask_url


def asyncpg_url_mask(url: str, mask: str = "***") -> str:
    return mask_url(url, mask)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"asyncpg_url_mask": asyncpg_url_mask}
