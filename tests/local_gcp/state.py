# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the local cloud remembers: resources, operations, projects. It is JSON, and lives in a file where one is given."""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import json
import os
import typing as t
import uuid
from pathlib import Path
from time import time

Json = t.Any


class State:
    """Every resource by its name, which begins with the service: sql/projects/P/instances/I."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.resources: dict[str, dict[str, Json]] = {}
        self.operations: dict[str, dict[str, Json]] = {}
        # What a reader still sees of a resource that has changed, and how often.
        self.stale: dict[str, list[Json]] = {}
        self.stale_reads = 0
        self.serial = 0
        if file and file.exists():
            saved = json.loads(file.read_text())
            self.resources, self.operations, self.serial = saved["resources"], saved["operations"], saved["serial"]

    def save(self) -> None:
        if not self.file:
            return
        # The payloads of secrets are in it.
        new = self.file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump({"resources": self.resources, "operations": self.operations, "serial": self.serial}, stream)
        new.replace(self.file)

    def put(self, name: str, resource: dict[str, Json] | None) -> None:
        """Make, change or (None) remove a resource."""
        if self.stale_reads:
            self.stale[name] = [self.stale_reads, copy.deepcopy(self.resources.get(name))]
        if resource is None:
            self.resources.pop(name, None)
        else:
            self.resources[name] = resource

    def read(self, name: str) -> dict[str, Json] | None:
        """A resource as a caller sees it, who may be shown an old state for a while."""
        if name in self.stale:
            left, old = self.stale[name]
            self.stale[name][0] = left - 1
            if left > 0:
                return t.cast("dict[str, Json] | None", old)
            del self.stale[name]
        return self.resources.get(name)

    def below(self, prefix: str) -> dict[str, dict[str, Json]]:
        """The resources directly below a name that ends in a slash."""
        names = [name for name in {*self.resources, *self.stale} if name.startswith(prefix) and "/" not in name[len(prefix) :]]
        found = {name: self.read(name) for name in sorted(names)}
        return {name: resource for name, resource in found.items() if resource is not None}

    def planned(self) -> list[tuple[str, dict[str, Json]]]:
        """All resources, with those that an operation is about to make: what may not be given away twice."""
        coming = [change for operation in self.operations.values() if not operation["done"] for change in operation["changes"]]
        return [(name, resource) for name, resource in (*self.resources.items(), *coming) if resource]

    def number(self) -> str:
        """A number that no other thing has, as Google's ids are."""
        self.serial += 1
        return str(7_000_000_000_000_000_000 + int(time()) * 1000 + self.serial)

    def uid(self) -> str:
        return str(uuid.uuid4())


def now(offset: float = 0) -> str:
    moment = dt.datetime.fromtimestamp(time() + offset, dt.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def etag(resource: Json) -> str:
    return hashlib.sha256(json.dumps(resource, sort_keys=True).encode()).hexdigest()[:16]


def merged(old: Json, new: Json) -> Json:
    """A patch without a mask: messages merge, everything else, lists too, is replaced; null takes away."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    result = dict(old)
    for name, value in new.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(old.get(name), value)
    return result


def masked(old: dict[str, Json], new: dict[str, Json], mask: str) -> dict[str, Json]:
    """A patch with a mask: exactly the fields that it names are taken, and gone where the patch has none."""
    result = copy.deepcopy(old)
    for path in filter(None, mask.split(",")):
        *parents, last = [camel(part) for part in path.strip().split(".")]
        source, target = new, result
        for parent in parents:
            source = source.get(parent) or {}
            target = target.setdefault(parent, {})
        if last in source:
            target[last] = source[last]
        else:
            target.pop(last, None)
    return result


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
