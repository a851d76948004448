# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.selfhost.prefect.plugins.module_utils import _auth_string


def auth_string_problem(value: str) -> str:
    return _auth_string.auth_string_problem(str(value))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"auth_string_problem": auth_string_problem}
