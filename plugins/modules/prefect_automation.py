#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_automation
short_description: Manage automations of a Prefect server
description:
  - Creates, changes or deletes any number of automations in one call, which reads them all at once and writes only those that differ.
  - What is not given stays as it is on the server.
  - The server checks each automation that differs before the first one is written.
version_added: 0.1.0
author:
  - selfhost.prefect contributors (!UNKNOWN)
extends_documentation_fragment:
  - selfhost.prefect._prefect
  - selfhost.prefect._resources
  - selfhost.prefect._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  automations:
    description: The automations.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name.
          - Prefect lets several automations have one name. Such a name is refused, because it does not say which of them is meant.
        type: str
        required: true
      description:
        description: What the automation is for.
        type: str
      enabled:
        description: Whether it is on. A new one is, unless this says otherwise.
        type: bool
      tags:
        description: All its tags, in place of those that it has. Prefect 3.1 knows none.
        type: list
        elements: str
      trigger:
        description:
          - What sets it off, written as in Prefect's documentation, C(type) V(event), V(compound) or V(sequence). Times are in seconds.
          - The whole of it. What it leaves out has Prefect's default.
          - Needed to create the automation.
        type: dict
      actions:
        description:
          - What it does, all of it, each with a C(type) such as V(run-deployment) or V(send-notification).
          - Instead of C(deployment_id), C(work_pool_id), C(work_queue_id) and C(block_document_id), there can be the name of what exists by then, as
            C(deployment) V(flow/deployment), C(work_pool) V(pool), C(work_queue) V(pool/queue) and C(block_document) V(type/block).
          - Needed to create the automation.
        type: list
        elements: dict
      actions_on_trigger:
        description: What it does besides when its trigger is set off, as in O(automations[].actions).
        type: list
        elements: dict
      actions_on_resolve:
        description: What it does when its trigger resolves, as in O(automations[].actions).
        type: list
        elements: dict
"""

EXAMPLES = r"""
- name: Keep a team's automations
  selfhost.prefect.prefect_automation:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    automations:
      - name: Tell when a nightly load fails
        trigger:
          type: event
          posture: Reactive
          expect: [prefect.flow-run.Failed, prefect.flow-run.Crashed]
          match_related:
            prefect.resource.name: nightly
            prefect.resource.role: deployment
        actions:
          - type: send-notification
            block_document: slack-webhook/alerts
            subject: A load failed
            body: "{% raw %}{{ flow_run.name }} is {{ flow_run.state.name }}{% endraw %}"
      - name: Load again when the source has been away
        trigger:
          type: event
          posture: Proactive
          expect: [source.online]
          within: 3600
        actions:
          - type: run-deployment
            deployment: load/nightly
            parameters:
              full: true

- name: Switch one off
  selfhost.prefect.prefect_automation:
    automations:
      - name: Load again when the source has been away
        enabled: false
"""

RETURN = r"""
automations:
  description: The automations, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of an automation that check mode would create.
      type: str
      returned: when the automation exists
    name:
      description: Name.
      type: str
    description:
      description: What the automation is for.
      type: str
    enabled:
      description: Whether it is on.
      type: bool
    tags:
      description: Tags.
      type: list
      elements: str
      returned: when the server is newer than Prefect 3.1
    trigger:
      description: What sets it off.
      type: dict
    actions:
      description: What it does.
      type: list
      elements: dict
    actions_on_trigger:
      description: What it does besides when its trigger is set off.
      type: list
      elements: dict
    actions_on_resolve:
      description: What it does when its trigger resolves.
      type: list
      elements: dict
  sample:
    - id: 5a7a3a52-6b3c-4f61-9f0c-0f7f2f0f6a11
      name: Stop the loads when one crashes
      description: ""
      enabled: true
      tags: []
      trigger:
        type: event
        posture: Reactive
        expect: [prefect.flow-run.Crashed]
        threshold: 1
        within: 0
      actions:
        - type: pause-deployment
          source: selected
          deployment_id: 2b45803d-b356-4de8-84eb-bed2841cf426
      actions_on_trigger: []
      actions_on_resolve: []
"""

import itertools
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import NOBODY, Fields, InvalidError, Kind, ResourceError, judge, manage, same

# What Prefect takes where a trigger or an action says nothing; the module leaves it out.
TRIGGER: Fields = {
    "type": None,
    "posture": None,
    "match": {},
    "match_related": {},
    "after": [],
    "expect": [],
    "for_each": [],
    "threshold": 1,
    "within": 0,
    "triggers": None,
    "require": None,
}
ACTION: Fields = {
    "type": None,
    "source": "selected",
    **dict.fromkeys(("deployment_id", "work_pool_id", "work_queue_id", "automation_id", "block_document_id")),
    **dict.fromkeys(("parameters", "job_variables", "state", "name", "message", "body")),
    "force": False,
    "payload": "",
    "schedule_after": 0,
    "subject": "Prefect automated notification",
}
SECONDS = ("within", "schedule_after")
# No order is kept of these.
SETS = ("after", "expect", "for_each")

# What can be named instead of given by its identifier: how it is read, and how its name is written.
NAMED = {
    "deployment": ("deployments/name/{}/{}", "flow/deployment"),
    "work_pool": ("work_pools/{}", "pool"),
    "work_queue": ("work_pools/{}/queues/{}", "pool/queue"),
    "block_document": ("block_types/slug/{}/block_documents/name/{}", "type/block"),
}
ACTIONS = ("actions", "actions_on_trigger", "actions_on_resolve")


class Automations(Kind):
    option = "automations"
    noun = "automation"
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "description": {"type": "str"},
        "enabled": {"type": "bool"},
        "tags": {"type": "list", "elements": "str"},
        "trigger": {"type": "dict"},
        **{option: {"type": "list", "elements": "dict"} for option in ACTIONS},
    }
    fields: t.ClassVar = {option: option for option in options}
    # Fields of an action that belong to another one are left out.
    doubtful = True
    needed = ("trigger", "actions")
    defaults: t.ClassVar = {"description": "", "enabled": True, "actions_on_trigger": [], "actions_on_resolve": []}

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        super().__init__(client, check_mode)
        # Identifiers of what has been named, by kind and name.
        self.identifiers: dict[tuple[str, str], str] = {}

    def check(self, element: Fields) -> None:
        # Its name is no part of an address, so Prefect takes any.
        if not element["name"].strip():
            raise InvalidError("name", "it is empty: write a name.")
        if element["trigger"] is not None:
            check_trigger("trigger", element["trigger"])
        for option in ACTIONS:
            for index, action in enumerate(element[option] or ()):
                check_action(f"{option}[{index}]", action)

    def read(self, elements: list[Fields]) -> list[Fields]:
        names = sorted({element["name"] for element in elements})
        found = self.client.filter("automations/filter", {"automations": {"name": {"any_": names}}})
        there = [automation["name"] for automation in found]
        for name in names:
            if there.count(name) > 1:
                raise ResourceError(f"automations: the server has {there.count(name)} automations by the name {name!r}: rename or delete all but one of them.")
        return [{**automation, **self.plain(automation)} for automation in found]

    def plain(self, fields: Fields) -> Fields:
        """Write alike what means the same."""
        written: Fields = {option: [plain_action(action) for action in fields[option]] for option in ACTIONS if option in fields}
        if "trigger" in fields:
            written["trigger"] = plain_trigger(fields["trigger"])
        if "tags" in fields:
            written["tags"] = sorted(fields["tags"])
        return written

    def wanted(self, element: Fields) -> Fields:
        wanted = super().wanted(element)
        for option in set(ACTIONS).intersection(wanted):
            wanted[option] = [self.identify(f"{option}[{index}]", action) for index, action in enumerate(wanted[option])]
        return {**wanted, **self.plain(wanted)}

    def identify(self, where: str, action: Fields) -> Fields:
        """Put identifiers in the place of names."""
        return {
            f"{field}_id" if field in NAMED else field: self.identifier(f"{where}.{field}", field, value) if field in NAMED else value
            for field, value in action.items()
        }

    def identifier(self, where: str, kind: str, name: str) -> str:
        if (kind, name) not in self.identifiers:
            found = self.client.get(NAMED[kind][0].format(*map(self.client.quote, name.split("/"))), missing_ok=True)
            if found is None and not self.check_mode:
                raise InvalidError(where, f"there is none by the name {name!r}: create it before, or correct the name.")
            if found is None:
                self.module.warn(f"There is no {kind} {name!r} yet. A run of this playbook outside check mode has to create it before.")
            self.identifiers[kind, name] = found["id"] if found else NOBODY
        return self.identifiers[kind, name]

    def after(self, element: Fields, current: Fields | None) -> Fields:
        before = self.before(current) if current else {}
        after = super().after(element, current)
        after["trigger"] = complete(after["trigger"], before.get("trigger"), TRIGGER)
        for option in ACTIONS:
            after[option] = complete_each(after[option], before.get(option, []), ACTION)
        if not same(after, before):
            judge(self.client, "PUT", "automations", body_of(after))
        return after

    def shown(self, fields: Fields, _before: Fields | None = None) -> Fields:
        return body_of(fields)

    def create(self, after: Fields) -> None:
        self.client.post("automations/", body_of(after))

    def update(self, current: Fields, fields: Fields) -> None:
        path = f"automations/{current['id']}"
        if set(fields) == {"enabled"}:
            # All else would make the trigger forget what it has seen.
            self.client.patch(path, fields)
        else:
            self.client.put(path, body_of({**self.before(current), **fields}))

    def delete(self, current: Fields) -> None:
        self.client.delete(f"automations/{current['id']}")


def check_trigger(where: str, trigger: Fields) -> None:
    """Refuse what Prefect would leave out in silence."""
    check_fields(where, trigger, TRIGGER)
    for index, inner in enumerate(trigger.get("triggers") or ()):
        check_trigger(f"{where}.triggers[{index}]", inner)


def check_action(where: str, action: Fields) -> None:
    for kind in set(NAMED).intersection(action):
        written = NAMED[kind][1]
        if f"{kind}_id" in action:
            raise InvalidError(f"{where}.{kind}", f"there is {kind}_id as well: leave one of them out.")
        name = action[kind]
        if not isinstance(name, str) or not all(name.split("/")) or name.count("/") != written.count("/"):
            raise InvalidError(f"{where}.{kind}", f"{name!r} is no name of one: write {written}.")
    check_fields(where, action, {**ACTION, **NAMED})


def check_fields(where: str, value: t.Any, known: t.Collection[str]) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise InvalidError(where, "it has no type: write a dictionary with one.")
    for field, part in value.items():
        if field not in known:
            raise InvalidError(f"{where}.{field}", f"Prefect knows no such field here: write one of {', '.join(sorted(known))}.")
        if field in SECONDS and (isinstance(part, bool) or not isinstance(part, (int, float))):
            raise InvalidError(f"{where}.{field}", f"{part!r} is no number: write the seconds.")


def plain(value: t.Any) -> t.Any:
    """Write 60.0 as 60, throughout."""
    if isinstance(value, dict):
        return {field: plain(part) for field, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain_trigger(trigger: Fields) -> Fields:
    """Leave out what is as it is by default, and the identifier; write [one label] as that label."""
    fields = plain({field: value for field, value in trigger.items() if field != "id"})
    for field in ("match", "match_related"):
        if isinstance(fields.get(field), dict):
            fields[field] = {label: part[0] if isinstance(part, list) and len(part) == 1 else part for label, part in fields[field].items()}
    for field in SETS:
        if isinstance(fields.get(field), list):
            fields[field] = sorted(fields[field], key=str)
    if isinstance(fields.get("triggers"), list):
        fields["triggers"] = [plain_trigger(inner) for inner in fields["triggers"]]
    # Prefect waits for what is missing for ten seconds at least.
    defaults = {**TRIGGER, "within": 10} if fields.get("posture") == "Proactive" else TRIGGER
    return without(defaults, fields)


def plain_action(action: Fields) -> Fields:
    return without(ACTION, plain(action))


def without(defaults: Fields, fields: Fields) -> Fields:
    return {field: value for field, value in fields.items() if field not in defaults or not same(value, defaults[field])}


def complete(wanted: Fields, stored: Fields | None, known: t.Collection[str]) -> Fields:
    """Keep what the server has and this module does not know."""
    if not stored or stored["type"] != wanted["type"]:
        return wanted
    kept = {field: value for field, value in stored.items() if field not in known}
    inner = {"triggers": complete_each(wanted["triggers"], stored["triggers"], known)} if "triggers" in wanted else {}
    return {**kept, **wanted, **inner}


def complete_each(wanted: list[Fields], stored: list[Fields], known: t.Collection[str]) -> list[Fields]:
    """Complete each by the one in its place."""
    return [complete(fields, other, known) for fields, other in itertools.zip_longest(wanted, stored[: len(wanted)])]


def body_of(fields: Fields) -> Fields:
    # Prefect 3.1 takes no tags, not even none.
    return {field: value for field, value in fields.items() if value is not None}


def main() -> None:
    manage(Automations)


if __name__ == "__main__":
    main()
