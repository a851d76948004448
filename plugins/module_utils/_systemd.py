# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""Files of environment variables as systemd's EnvironmentFile= reads them."""

from __future__ import annotations

import re
from typing import Any


class EnvironmentFileError(ValueError):
    """Says which variable cannot stand in such a file, and never quotes its value."""


def environment_file(variables: dict[str, Any]) -> str:
    """One `NAME="value"` a line.

    :raises EnvironmentFileError: for what is no name or no value of an environment variable.
    """
    return "".join(f'{_name(name)}="{_quoted(name, value)}"\n' for name, value in variables.items())


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)):
        raise EnvironmentFileError(f"'{name}' is no name of an environment variable: use letters, digits and underscores")
    return name


def _quoted(name: str, value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise EnvironmentFileError(f"The environment variable {name} is a list or a dictionary: write its value as text")
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    # systemd would take a line break, but nothing that reads such a file line by line would.
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", text):
        raise EnvironmentFileError(f"The environment variable {name} holds a line break or another control character: take it out")
    # As in a shell's double quotes.
    return re.sub(r'([\\"$`])', r"\\\1", text)
