# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""The part of JSON schema that Prefect's blocks, parameters and job variables are written in.

Prefect stores a block of any content, and notices only when a flow loads it. Keywords that are not here are left to Prefect.
"""

from __future__ import annotations

import typing as t

Schema = dict[str, t.Any]

TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "object": ("a dictionary", (dict,)),
    "array": ("a list", (list,)),
    "string": ("a string", (str,)),
    "integer": ("a whole number", (int,)),
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "null": ("null", (type(None),)),
}


def find_problem(value: t.Any, schema: Schema, path: str) -> str | None:
    """Say what is wrong with a value and where, never what the value is: it may be a secret."""
    return next(_problems(value, schema, path, schema), None)


def _problems(value: t.Any, schema: Schema, path: str, root: Schema) -> t.Iterator[str]:
    schema = _resolve(schema, root)
    if (isinstance(value, dict) and "__prefect_kind" in value) or (isinstance(value, str) and "{{" in value):
        # Prefect puts the value in its place later.
        return
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, path, root)
    choices = schema.get("anyOf") or schema.get("oneOf") or ()
    problems = [next(_problems(value, choice, path, root), None) for choice in choices]
    if problems and None not in problems:
        # What is wrong further in says more than the kinds that it could be.
        inner = next((problem for problem in problems if problem and not problem.startswith(f"{path}: ")), None)
        yield inner or f"{path}: has to be {_describe(schema, root)}"
    if "type" in schema and not _is_type(value, schema["type"]):
        yield f"{path}: has to be {_describe(schema, root)}"
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if allowed is not None and value not in allowed:
        yield f"{path}: has to be {_or(repr(one) for one in allowed)}"
    if isinstance(value, dict):
        yield from _problems_of_object(value, schema, path, root)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _problems(item, schema["items"], f"{path}[{index}]", root)


def _problems_of_object(value: Schema, schema: Schema, path: str, root: Schema) -> t.Iterator[str]:
    properties, required, additional = schema.get("properties", {}), schema.get("required", []), schema.get("additionalProperties")
    yield from (f"{path}.{name}: is missing" for name in required if name not in value)
    for name, part in value.items():
        if name in properties:
            # An optional field of a schema by pydantic 1 does not tell that it may be null.
            if part is not None or name in required:
                yield from _problems(part, properties[name], f"{path}.{name}", root)
        elif isinstance(additional, dict):
            yield from _problems(part, additional, f"{path}.{name}", root)
        elif additional is False:
            yield f"{path}.{name}: there is no such field, only {', '.join(sorted(properties)) or 'none'}"


def _resolve(schema: Schema, root: Schema) -> Schema:
    """Follow references to the schema's own definitions; what is not there says nothing."""
    while "$ref" in schema:
        kind, _slash, name = str(schema["$ref"]).removeprefix("#/").partition("/")
        schema = root.get(kind, {}).get(name, {})
    return schema


def _is_type(value: t.Any, names: str | list[str]) -> bool:
    for name in [names] if isinstance(names, str) else names:
        types = TYPES.get(name, ("", (object,)))[1]
        if isinstance(value, types) and (not isinstance(value, bool) or bool in types or object in types):
            return True
    return False


def _describe(schema: Schema, root: Schema) -> str:
    """Name the kinds of value that a schema takes."""
    schema = _resolve(schema, root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _or(dict.fromkeys(_describe(choice, root) for choice in choices))
    names = schema.get("type", [])
    return _or(TYPES.get(name, (name, ()))[0] for name in ([names] if isinstance(names, str) else names)) or "something else"


def _or(words: t.Iterable[str]) -> str:
    return " or ".join(words)
