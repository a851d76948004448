# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""Writes TOML, which the standard library only reads (and reads only from Python 3.11)."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class TomlError(ValueError):
    """Says what TOML cannot say."""


def dumps(data: dict[str, Any]) -> str:
    """The TOML of a dictionary: its plain values first, then a table for each dictionary in it, in the order given.

    :raises TomlError: for what TOML cannot say: an empty value, a key that is no text, a type it does not have.
    """
    return "\n".join(_table(data, ()))


def _table(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = []
    if plain or not table:
        body = "".join(f"{_key(key)} = {_value(value, (*path, key))}\n" for key, value in plain.items())
        lines.append((f"[{'.'.join(map(_key, path))}]\n" if path else "") + body)
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table(value, (*path, key))
    return lines


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TomlError(f"the key {key!r} is no text")
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item, path) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item, (*path, key))}" for key, item in value.items()) + "}"
    raise TomlError(f"{'.'.join(map(str, path))} is {value!r}, which TOML cannot say")


def _string(text: str) -> str:
    # JSON's escapes are TOML's as well; only DEL must be escaped in TOML, and is not in JSON.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
