# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError


def to_systemd_environment(variables: dict[str, Any]) -> str:
    if not isinstance(variables, dict):
        raise AnsibleFilterError(f"to_systemd_environment takes a dictionary of variables, not a {type(variables).__name__}")
    return "".join(f'{checked_name(name)}="{quoted(name, value)}"\n' for name, value in variables.items())


def checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
        raise AnsibleFilterError(f"'{name}' is no name of an environment variable: use letters, digits and underscores")
    return name


def quoted(name: str, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # systemd would take a line break, but nothing that reads such a file line by line would.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise AnsibleFilterError(f"The environment variable {name} holds a line break or another control character: take it out")
    return re.sub(r'([\\"$`])', r"\\\1", text)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"to_systemd_environment": to_systemd_environment}
