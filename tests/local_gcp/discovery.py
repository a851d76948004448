# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Google's API descriptions: which requests there are, and what may stand in them and in their answers.

They come with google-api-python-client. Of each only what a check needs is kept, which is a small part.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
import typing as t
from importlib import resources
from urllib.parse import unquote, urlsplit

# The order decides where two APIs have the same path and the caller names neither by its host: all of those give operations.
APIS = (
    "sqladmin.v1",
    "sqladmin.v1beta4",
    "compute.v1",
    "run.v2",
    "run.v1",
    "secretmanager.v1",
    "servicenetworking.v1",
    "serviceusage.v1",
    "cloudresourcemanager.v1",
    "cloudresourcemanager.v3",
    "iam.v1",
    "artifactregistry.v1",
    "cloudbuild.v1",
    "vpcaccess.v1",
)
# Google accepts these in the bodies of requests and leaves them alone: clients send what they have read.
TOLERATED = {"kind", "id", "selfLink", "etag", "fingerprint", "name", "creationTimestamp", "labelFingerprint", "region", "zone"}
OUTPUT_ONLY = re.compile(r"^\s*(\[Output Only\]|Output only\.|@OutputOnly)", re.IGNORECASE)
DATETIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")
KIND_NAMES = {
    "boolean": "TYPE_BOOL",
    "byte": "TYPE_BYTES",
    "google-datetime": "type.googleapis.com/google.protobuf.Timestamp",
    "google-duration": "type.googleapis.com/google.protobuf.Duration",
    "google-fieldmask": "type.googleapis.com/google.protobuf.FieldMask",
}
RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}


class Problem(t.NamedTuple):
    """What is wrong, in Google's words, and at which field."""

    field: str
    text: str


class Shape:
    """One schema, boiled down."""

    __slots__ = ("additional", "enum", "format", "items", "output_only", "properties", "ref", "type")

    def __init__(self, schema: dict[str, t.Any]) -> None:
        self.ref: str | None = schema.get("$ref")
        self.type: str = schema.get("type", "any")
        self.format: str = schema.get("format", "")
        self.enum = frozenset(schema["enum"]) if "enum" in schema else None
        self.output_only = bool(schema.get("readOnly")) or bool(OUTPUT_ONLY.match(schema.get("description", "")))
        self.items = make_shape(schema["items"]) if "items" in schema else None
        self.additional = make_shape(schema["additionalProperties"]) if "additionalProperties" in schema else None
        self.properties = {name: make_shape(value) for name, value in schema.get("properties", {}).items()}


@functools.lru_cache(maxsize=4096)
def simple_shape(type_: str, format_: str, output_only: bool) -> Shape:
    return Shape({"type": type_, "format": format_, "readOnly": output_only})


def make_shape(schema: dict[str, t.Any]) -> Shape:
    if schema.keys() & {"$ref", "enum", "items", "properties", "additionalProperties"}:
        return Shape(schema)
    # Most fields are plain strings and numbers: those of one kind share one shape.
    output_only = bool(schema.get("readOnly")) or bool(OUTPUT_ONLY.match(schema.get("description", "")))
    return simple_shape(schema.get("type", "any"), schema.get("format", ""), output_only)


class Method:
    """One request of an API."""

    def __init__(self, api: Api, description: dict[str, t.Any]) -> None:
        self.api = api
        self.id: str = description["id"]
        self.http: str = description["httpMethod"]
        self.request: str | None = description.get("request", {}).get("$ref")
        self.response: str | None = description.get("response", {}).get("$ref")
        path = "/" + (api.base + description.get("flatPath", description["path"])).lstrip("/")
        self.literal = len(re.sub(r"\{\+?\w+\}", "", path))
        pattern = re.sub(r"\\\{(?:\\\+)?(\w+)\\\}", r"(?P<\1>[^/:]+)", re.escape(path))
        parameters = description.get("parameters", {})
        # The name of an operation may be longer than its template has parts for.
        if any(one.get("pattern", "").endswith("/.*$") for one in parameters.values()):
            pattern = re.sub(r"\[\^/:\]\+\)$", "[^:]+)", pattern)
        self.pattern = re.compile(pattern)
        self.query = {name: make_shape(one) for name, one in parameters.items() if one["location"] == "query"}
        self.required = {name for name, one in parameters.items() if one["location"] == "query" and one.get("required")}
        self.repeated = {name for name, one in parameters.items() if one.get("repeated")}

    def match(self, path: str) -> dict[str, str] | None:
        found = self.pattern.fullmatch(path)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


class Api:
    """One version of one API."""

    def __init__(self, name: str) -> None:
        documents = resources.files("googleapiclient.discovery_cache.documents")
        document = json.loads(documents.joinpath(f"{name}.json").read_text())
        self.name = name
        self.service, self.version = name.split(".")
        self.host: str = urlsplit(document["rootUrl"]).netloc
        self.base: str = document["servicePath"]
        self.shapes = {name: make_shape(schema) for name, schema in document["schemas"].items()}
        self.common = {name: make_shape(one) for name, one in document["parameters"].items()}
        self.methods = sorted(self._methods(document), key=lambda method: -method.literal)

    def _methods(self, node: dict[str, t.Any]) -> t.Iterator[Method]:
        for description in node.get("methods", {}).values():
            yield Method(self, description)
        for child in node.get("resources", {}).values():
            yield from self._methods(child)

    def find(self, http: str, path: str) -> tuple[Method, dict[str, str]] | None:
        for method in self.methods:
            if method.http == http and (parameters := method.match(path)) is not None:
                return method, parameters
        return None

    def query_problems(self, method: Method, query: dict[str, list[str]]) -> list[Problem]:
        problems = []
        for name, values in query.items():
            shape = method.query.get(name) or self.common.get(name)
            if shape is None:
                text = f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter.'
                problems.append(Problem("", f"{text} Field '{name}' could not be found in request message."))
            elif len(values) > 1 and name not in method.repeated:
                problems.append(Problem(name, f"Invalid value at '{name}': the parameter is given {len(values)} times."))
            else:
                problems += [problem for value in values for problem in self._scalar(shape, from_query(shape, value), name, answer=False)]
        problems += [Problem(name, f"Required parameter: {name}") for name in sorted(method.required - query.keys())]
        return problems

    def body_problems(self, method: Method, body: t.Any) -> list[Problem]:
        """What Google would refuse of a request's body, and fields that only Google writes."""
        if method.request is None:
            return [Problem("", "Invalid JSON payload received: the method takes no body.")] if body else []
        return list(self._check(self.shapes[method.request], body if body is not None else {}, "", answer=False))

    def answer_problems(self, method: Method, answer: t.Any) -> list[Problem]:
        return list(self._check(self.shapes[method.response], answer, "", answer=True)) if method.response else []

    def _check(self, shape: Shape, value: t.Any, at: str, *, answer: bool) -> t.Iterator[Problem]:
        if shape.ref:
            shape = self.shapes[shape.ref]
        if value is None and not answer:
            return  # in a request null is the same as nothing
        if shape.type == "any":
            return
        if shape.type == "object":
            yield from self._check_object(shape, value, at, answer=answer)
        elif shape.type == "array":
            if not isinstance(value, list):
                yield Problem(at, f"Invalid value at '{at}' (LIST), {json.dumps(value)}")
                return
            for number, item in enumerate(value):
                yield from self._check(shape.items, item, f"{at}[{number}]", answer=answer)  # type: ignore[arg-type]
        else:
            yield from self._scalar(shape, value, at, answer=answer)

    def _check_object(self, shape: Shape, value: t.Any, at: str, *, answer: bool) -> t.Iterator[Problem]:
        if not isinstance(value, dict):
            yield Problem(at, f"Invalid value at '{at}' (MESSAGE), {json.dumps(value)}")
            return
        for name, one in value.items():
            inner = shape.properties.get(name) or shape.additional
            where = f"{at}.{snake(name)}" if at else snake(name)
            if inner is None:
                known = "" if not at else f" at '{at}'"
                yield Problem(at, f'Invalid JSON payload received. Unknown name "{name}"{known}: Cannot find field.')
            elif inner.output_only and not answer and name in shape.properties and name not in TOLERATED and one is not None:
                yield Problem(where, f"Invalid value at '{where}': the field is output only.")
            else:
                yield from self._check(inner, one, where, answer=answer)

    def _scalar(self, shape: Shape, value: t.Any, at: str, *, answer: bool) -> list[Problem]:
        if scalar_fits(shape, value, answer=answer):
            return []
        kind = "TYPE_ENUM" if shape.enum else KIND_NAMES.get(shape.format or shape.type, f"TYPE_{(shape.format or shape.type).upper()}")
        return [Problem(at, f"Invalid value at '{at}' ({kind}), {json.dumps(value)}")]


def scalar_fits(shape: Shape, value: t.Any, *, answer: bool) -> bool:
    if shape.type == "boolean":
        return isinstance(value, bool)
    if shape.format in RANGES:
        return integer_fits(shape, value, answer=answer)
    if shape.type in ("number", "integer"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str) and text_fits(shape, value)


def text_fits(shape: Shape, value: str) -> bool:
    if shape.enum is not None:
        return value in shape.enum
    if shape.format == "byte":
        return is_base64(value)
    pattern = {"google-datetime": DATETIME, "date-time": DATETIME, "google-duration": DURATION}.get(shape.format)
    return pattern is None or bool(pattern.fullmatch(value))


def integer_fits(shape: Shape, value: t.Any, *, answer: bool) -> bool:
    """Both forms are taken; 64 bits are given as a string, because JavaScript's numbers have 53."""
    if answer and isinstance(value, str) != (shape.type == "string"):
        return False
    if isinstance(value, bool) or not isinstance(value, (int, str)) or not re.fullmatch(r"-?\d+", str(value)):
        return False
    lowest, highest = RANGES[shape.format]
    return lowest <= int(value) <= highest


def is_base64(value: str) -> bool:
    try:
        base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        return False
    return True


def from_query(shape: Shape, value: str) -> t.Any:
    return {"true": True, "false": False}.get(value.lower(), value) if shape.type == "boolean" else value


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), name)


@functools.cache
def load(name: str) -> Api:
    return Api(name)


def candidates(host: str) -> list[str]:
    """The APIs that answer at a host, the nearest first: all of them where the host is none of Google's."""
    service = host.split(":", maxsplit=1)[0].removesuffix(".googleapis.com")
    # Cloud Run's v1 has a host for each region.
    service = "run" if service.endswith("-run") else service
    return [name for name in APIS if name.partition(".")[0] == service] or list(APIS)


def find(host: str, http: str, path: str) -> tuple[Method, dict[str, str]] | None:
    found = [match for name in candidates(host) if might_have(name, path) and (match := load(name).find(http, path))]
    return max(found, key=lambda match: match[0].literal) if found else None


def might_have(name: str, path: str) -> bool:
    """Compute's description is big: it is read when the first of its paths is asked for."""
    return path.startswith("/compute/") == name.startswith("compute.")
