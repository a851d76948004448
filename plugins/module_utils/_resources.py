# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""A desired-state engine for Prefect's objects: a list of them, one read, and only the writes that are needed.

A module describes one kind of object by a subclass of Kind, and its main() is manage(THAT_CLASS).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient, PrefectError, prefect_argument_spec

# An element of the module's list, an object as the server gives it, or those of its fields that are managed.
Fields = dict[str, t.Any]

# The identifier that nothing has.
NOBODY = "00000000-0000-0000-0000-000000000000"


class InvalidError(Exception):
    """An element that cannot be: the option at fault ("name", "schedules[0].cron"), and a sentence with the fault and the remedy."""

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")


class ResourceError(Exception):
    """What the whole call fails with, as sentences to show to a person."""


@dataclasses.dataclass
class Change:
    """What is to be done for one element; current is None for an object that is not there, after is None for one to delete."""

    where: str
    key: str
    element: Fields
    current: Fields | None
    before: Fields | None
    after: Fields | None
    # Fields to write though they do not differ, because the other writes would move them.
    forced: Fields = dataclasses.field(default_factory=dict)

    def fields(self) -> Fields:
        """The fields that differ, with their new values."""
        before, after = self.before or {}, self.after or {}
        return {field: value for field, value in after.items() if field not in before or not same(before[field], value)}

    @property
    def differs(self) -> bool:
        return (self.before is None) != (self.after is None) or bool(self.fields())


class Kind:
    """One kind of Prefect's objects: how it is told apart, read, compared, created, changed and deleted."""

    # Name of the module's list, and of the list in its result.
    option: t.ClassVar[str]
    # How one of them is called in a sentence.
    noun: t.ClassVar[str]
    # Argument spec of an element.
    options: t.ClassVar[dict[str, dict[str, t.Any]]]
    # Option of an element -> field of the API.
    fields: t.ClassVar[dict[str, str]]
    # Options that tell two elements apart.
    keys: t.ClassVar[tuple[str, ...]] = ("name",)
    # Options that an object cannot be created without.
    needed: t.ClassVar[tuple[str, ...]] = ()
    # Fields of a new object where the task says nothing.
    defaults: t.ClassVar[Fields] = {}

    # Whether the server may leave out in silence what it is given, so that it has to be looked at afterwards.
    doubtful: t.ClassVar[bool] = False

    # The module that runs, for its warnings.
    module: AnsibleModule

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        self.client = client
        # What an earlier task would have made is not there in check mode.
        self.check_mode = check_mode

    # What every kind has to say.

    def read(self, elements: list[Fields]) -> list[Fields]:
        """Give those of the objects that exist; others may be among them. Called again after the writes."""
        raise NotImplementedError

    def create(self, after: Fields) -> None:
        raise NotImplementedError

    def update(self, current: Fields, fields: Fields) -> None:
        """Change the fields, which are those that differ."""
        raise NotImplementedError

    def delete(self, current: Fields) -> None:
        raise NotImplementedError

    # What most kinds leave as it is.

    def check(self, element: Fields) -> None:
        """Raise InvalidError for what is wrong whatever the server has."""
        check_name("name", element["name"])

    def key(self, element: Fields) -> str:
        return "/".join(element[option] for option in self.keys)

    def key_of(self, current: Fields) -> str:
        """Give the key of an object, which is that of the element it belongs to."""
        return "/".join(current[self.fields[option]] for option in self.keys)

    def wanted(self, element: Fields) -> Fields:
        """Give the fields that the task names."""
        return {field: element[option] for option, field in self.fields.items() if element[option] is not None}

    def before(self, current: Fields) -> Fields:
        """Give the managed fields of an object."""
        return {field: current.get(field) for field in self.fields.values()}

    def after(self, element: Fields, current: Fields | None) -> Fields:
        """Give the managed fields as they are to be; raise InvalidError for what the server's state forbids."""
        if current is not None:
            return {**self.before(current), **self.wanted(element)}
        for option in self.needed:
            if element[option] is None:
                raise InvalidError(option, f"it is needed to create the {self.noun} {self.key(element)!r}, which does not exist yet.")
        return {**dict.fromkeys(self.fields.values()), **self.defaults, **self.wanted(element)}

    def check_deletion(self, current: Fields) -> None:
        """Raise InvalidError for an object that cannot be deleted."""

    def order(self, changes: list[Change]) -> list[Change]:
        """Put the writes in the order that they need."""
        return changes

    def shown(self, fields: Fields, _before: Fields | None = None) -> Fields:
        """Give what of an object may be shown, in the result and in the diff, there beside what it was before."""
        return fields


def same(one: t.Any, other: t.Any) -> bool:
    """Compare as JSON: True is not 1, and the order of keys does not count."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def check_name(option: str, name: str) -> None:
    """Refuse what Prefect would refuse as a name."""
    if not name.strip():
        raise InvalidError(option, "it is empty: write a name.")
    refused = sorted(set(re.findall(r"[/%&<>]", name)))
    if refused:
        raise InvalidError(option, f"{name!r} holds {' '.join(refused)}, and Prefect takes none of / % & < > in a name: write it without.")


def check_limit(option: str, limit: int | None, lowest: int = 0) -> None:
    """Refuse a limit below the lowest, which is -1 where that stands for none."""
    if limit is not None and limit < lowest:
        none = "-1 for none, " if lowest == -1 else ""
        raise InvalidError(option, f"{limit} is no limit: write {none}0 to let none through, or a greater number.")


class Engine:
    """Brings the objects of one kind into the state that a task asks for."""

    def __init__(self, kind: Kind, elements: list[Fields], present: bool) -> None:
        self.kind = kind
        self.elements = elements
        self.present = present
        self.written = False

    def plan(self) -> list[Change]:
        """Check all the elements, read what exists, and say what is to be done for each; nothing is written."""
        places: dict[str, str] = {}
        for where, element in self._places():
            with at(where):
                self.kind.check(element)
            key = self.kind.key(element)
            if key in places:
                raise ResourceError(f"{where}.{self.kind.keys[-1]}: {key!r} is in {places[key]} already: leave one of them out.")
            places[key] = where
        objects = self._read()
        return [self._change(where, element, objects.get(self.kind.key(element))) for where, element in self._places()]

    def write(self, changes: list[Change]) -> None:
        """Do what is to be done; a failure says what has been written and what has not."""
        todo = [change for change in self.kind.order(changes) if change.differs or change.forced]
        for index, change in enumerate(todo):
            try:
                self._write(change)
            except (PrefectError, ResourceError) as exc:
                written, left = (", ".join(change.key for change in part) or "nothing" for part in (todo[:index], todo[index:]))
                raise ResourceError(f"{change.where} ({change.key}): {exc} Written: {written}. Not written: {left}.") from exc
            self.written = True

    def result(self, changes: list[Change]) -> list[Fields]:
        """Give the objects as the server has them, or as it would have them."""
        if not self.present:
            return []
        if self.written:
            objects = self._read()
            found = [objects[change.key] for change in changes if change.key in objects]
            if self.kind.doubtful:
                self._check_kept(changes, objects)
        else:
            found = [{**(change.current or {}), **(change.fields() if change.differs else {})} for change in changes]
        return [self.kind.shown(fields) for fields in found]

    def diff(self, changes: list[Change]) -> dict[str, Fields]:
        """Give what differs, by object: the fields that change, or all those of an object that comes or goes."""
        sides: dict[str, Fields] = {"before": {}, "after": {}}
        for change in changes:
            if not change.differs:
                continue
            whole = change.before is None or change.after is None
            names = change.fields()
            for side, fields, before in (("before", change.before, None), ("after", change.after, change.before)):
                if fields is not None:
                    shown = self.kind.shown(fields, before).items()
                    sides[side][change.key] = {name: value for name, value in shown if (value is not None if whole else name in names)}
        return sides

    def _check_kept(self, changes: list[Change], objects: dict[str, Fields]) -> None:
        """See that the server has what was written."""
        for change in changes:
            if not change.differs or change.key not in objects:
                continue
            again = self._change(change.where, change.element, objects[change.key])
            if again.differs:
                raise ResourceError(f"{change.where} ({change.key}): the server took the write, but did not keep {', '.join(again.fields())} as it was given.")

    def _places(self) -> list[tuple[str, Fields]]:
        return [(f"{self.kind.option}[{index}]", element) for index, element in enumerate(self.elements)]

    def _read(self) -> dict[str, Fields]:
        return {self.kind.key_of(found): found for found in (self.kind.read(self.elements) if self.elements else ())}

    def _change(self, where: str, element: Fields, current: Fields | None) -> Change:
        after = None
        with at(where):
            if self.present:
                after = self.kind.after(element, current)
            elif current is not None:
                self.kind.check_deletion(current)
        before = None if current is None else self.kind.before(current)
        return Change(where, self.kind.key(element), element, current, before, after)

    def _write(self, change: Change) -> None:
        if change.after is None:
            self.kind.delete(t.cast(Fields, change.current))
        elif change.current is not None:
            self.kind.update(change.current, {**change.forced, **change.fields()})
        else:
            try:
                self.kind.create(change.after)
            except PrefectError as exc:
                # Another host may create the same object at the same moment, and has been faster.
                current = self._read().get(change.key) if exc.status == 409 else None
                if current is None:
                    raise
                again = self._change(change.where, change.element, current)
                if again.differs:
                    self._write(again)


def judge(client: PrefectClient, method: str, path: str, body: Fields) -> None:
    """Let the server check what would be written, as a change of an object that does not exist."""
    try:
        client.request(method, f"{path}/{NOBODY}", body, missing_ok=True)
    except PrefectError as exc:
        if exc.status != 422 or exc.detail is None:
            raise
        option, _colon, problem = exc.detail.partition(": ")
        if problem.startswith("Extra inputs are not permitted"):
            problem = "this server's version of Prefect does not know it: leave it out, or upgrade the server"
        raise InvalidError(re.sub(r"\.(\d+)", r"[\1]", option), f"{problem.removeprefix('Value error, ').rstrip('.')}.") from exc


@contextlib.contextmanager
def at(where: str) -> t.Iterator[None]:
    """Name the element that a fault is in."""
    try:
        yield
    except InvalidError as exc:
        raise ResourceError(f"{where}.{exc}") from None


def manage(kind_class: type[Kind]) -> None:
    """Be the main() of a module for one kind of objects."""
    elements = {"type": "list", "elements": "dict", "required": True, "options": kind_class.options}
    states = {"type": "str", "choices": ["present", "absent"], "default": "present"}
    module = AnsibleModule(argument_spec={**prefect_argument_spec(), kind_class.option: elements, "state": states}, supports_check_mode=True)
    changes: list[Change] = []
    try:
        kind = kind_class(PrefectClient.from_params(module.params), module.check_mode)
        kind.module = module
        engine = Engine(kind, module.params[kind.option], module.params["state"] == "present")
        changes = engine.plan()
        if not module.check_mode:
            engine.write(changes)
        result = engine.result(changes)
    except (PrefectError, ResourceError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**{"changed": any(change.differs for change in changes), kind.option: result, "diff": engine.diff(changes)})
