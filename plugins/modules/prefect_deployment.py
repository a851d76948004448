#!/usr/bin/python

# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prefect_deployment
short_description: Manage deployments of a Prefect server
description:
  - Creates, changes or deletes any number of deployments in one call, which reads them all at once and writes only those that differ.
  - What is not given stays as it is on the server.
  - The flow is made known to the server when it is not yet. Its code is not looked at, it has to be where the workers find it.
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
  deployments:
    description: The deployments.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      flow_name:
        description: Name of the flow, as in its code. Each flow has its own names of deployments.
        type: str
        required: true
      entrypoint:
        description:
          - Where the flow is, C(file.py:function) from where the code is pulled to or from O(deployments[].path), or C(package.module.function).
          - Needed to create the deployment.
        type: str
      path:
        description: Directory of the code, as the worker sees it.
        type: str
      pull_steps:
        description: Steps by which a run gets its code, written as in C(prefect.yaml).
        type: list
        elements: dict
      work_pool:
        description: Name of the work pool, which has to exist.
        type: str
      work_queue:
        description: Name of a queue of that pool, which has to exist. A deployment that comes to a pool without one is put into C(default).
        type: str
      job_variables:
        description: All the values of its own for the variables of the pool's base job template.
        type: dict
      parameters:
        description: All the parameters of its runs that differ from the defaults in the code.
        type: dict
      parameter_openapi_schema:
        description: JSON schema of the parameters, by which Prefect checks them and draws the form of a run.
        type: dict
      schedules:
        description:
          - All its schedules, each with one of C(cron), C(interval) and C(rrule). An empty list removes them.
          - The server checks them before anything is written.
        type: list
        elements: dict
        suboptions:
          cron:
            description: Cron expression.
            type: str
          day_or:
            description: Whether a day has to fit the day of the month or that of the week, as in cron, when C(cron) has both. Otherwise it has to fit both.
            type: bool
            default: true
          interval:
            description: Seconds from one run to the next.
            type: float
          anchor_date:
            description: Date and time that the C(interval) counts from, in ISO 8601. Left out, it is when the schedule was made.
            type: str
          rrule:
            description: Recurrence rule of iCalendar.
            type: str
          timezone:
            description: Time zone of the schedule, by its IANA name.
            type: str
            default: UTC
          active:
            description: Whether it makes runs.
            type: bool
            default: true
          slug:
            description: Name of the schedule. Prefect 3.1 knows none.
            type: str
          parameters:
            description: Parameters of its runs that differ from those of the deployment. Prefect 3.1 knows none.
            type: dict
            default: {}
      paused:
        description: Whether none of the schedules makes runs.
        type: bool
      concurrency_limit:
        description: How many runs may be under way at a time. V(-1) removes the limit.
        type: int
      tags:
        description: All its tags.
        type: list
        elements: str
      description:
        description: What the deployment is for, in Markdown.
        type: str
      version:
        description: Any text that names the version of the code.
        type: str
notes:
  - When a deployment changes, Prefect makes its schedules and their coming runs anew. Nothing runs twice, but a schedule loses a C(max_scheduled_runs)
    that somebody gave it by other means.
  - The flow, with the runs that there were, stays when a deployment is deleted.
"""

EXAMPLES = r"""
- name: Keep a team's deployments
  selfhost.prefect.prefect_deployment:
    api_url: https://prefect.example.com/api
    auth_string: "{{ prefect_auth_string }}"
    deployments:
      - name: nightly
        flow_name: load
        entrypoint: flows/load.py:load
        path: /srv/flows
        work_pool: etl
        work_queue: nightly
        schedules:
          - cron: 0 3 * * *
            timezone: Europe/Berlin
        parameters:
          full: true
        job_variables:
          env:
            REGION: north
        concurrency_limit: 1
        tags: [etl]
        version: "42"
      - name: hourly
        flow_name: probe
        entrypoint: probe.py:probe
        pull_steps:
          - prefect.deployments.steps.git_clone:
              repository: https://git.example.com/team/flows.git
        work_pool: etl
        schedules:
          - interval: 3600

- name: Let one rest
  selfhost.prefect.prefect_deployment:
    deployments:
      - name: hourly
        flow_name: probe
        paused: true
"""

RETURN = r"""
deployments:
  description: The deployments, in the order of the task, as the server has them; as they would be, in check mode; empty after O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Identifier; missing of a deployment that check mode would create.
      type: str
      returned: when the deployment exists
    name:
      description: Name.
      type: str
    flow_name:
      description: Name of the flow.
      type: str
    entrypoint:
      description: Where the flow is.
      type: str
    path:
      description: Directory of the code.
      type: str
    pull_steps:
      description: Steps by which a run gets its code.
      type: list
      elements: dict
    work_pool_name:
      description: Name of the work pool.
      type: str
    work_queue_name:
      description: Name of the queue.
      type: str
    job_variables:
      description: Values of its own for the variables of the base job template.
      type: dict
    parameters:
      description: Parameters of its runs.
      type: dict
    parameter_openapi_schema:
      description: JSON schema of the parameters.
      type: dict
    schedules:
      description: Schedules, as the options have them.
      type: list
      elements: dict
    paused:
      description: Whether none of the schedules makes runs.
      type: bool
    concurrency_limit:
      description: Greatest number of runs at a time; none without a limit.
      type: int
    tags:
      description: Tags.
      type: list
      elements: str
    description:
      description: What the deployment is for.
      type: str
    version:
      description: Version of the code.
      type: str
    status:
      description: C(READY) when a worker polls for its runs, otherwise C(NOT_READY).
      type: str
      returned: when the deployment exists
  sample:
    - id: 2b45803d-b356-4de8-84eb-bed2841cf426
      name: nightly
      flow_name: load
      entrypoint: flows/load.py:load
      path: /srv/flows
      work_pool_name: etl
      work_queue_name: nightly
      paused: false
      schedules:
        - cron: 0 3 * * *
          timezone: Europe/Berlin
          active: true
      tags: [etl]
"""

import datetime as dt
import typing as t

from ansible_collections.selfhost.prefect.plugins.module_utils._json_schema import find_problem
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient
from ansible_collections.selfhost.prefect.plugins.module_utils._resources import Fields, InvalidError, Kind, check_name, judge, manage, same

KINDS = ("cron", "interval", "rrule")
# Prefect counts from here where a rule says nothing, and newer versions write that down.
RRULE_START = "DTSTART:20200101T000000"


class Deployments(Kind):
    option = "deployments"
    noun = "deployment"
    keys = ("flow_name", "name")
    options: t.ClassVar = {
        "name": {"type": "str", "required": True},
        "flow_name": {"type": "str", "required": True},
        "entrypoint": {"type": "str"},
        "path": {"type": "str"},
        "pull_steps": {"type": "list", "elements": "dict"},
        "work_pool": {"type": "str"},
        "work_queue": {"type": "str"},
        "job_variables": {"type": "dict"},
        "parameters": {"type": "dict"},
        "parameter_openapi_schema": {"type": "dict"},
        "schedules": {
            "type": "list",
            "elements": "dict",
            "options": {
                "cron": {"type": "str"},
                "day_or": {"type": "bool", "default": True},
                "interval": {"type": "float"},
                "anchor_date": {"type": "str"},
                "rrule": {"type": "str"},
                "timezone": {"type": "str", "default": "UTC"},
                "active": {"type": "bool", "default": True},
                "slug": {"type": "str"},
                "parameters": {"type": "dict", "default": {}},
            },
        },
        "paused": {"type": "bool"},
        "concurrency_limit": {"type": "int"},
        "tags": {"type": "list", "elements": "str"},
        "description": {"type": "str"},
        "version": {"type": "str"},
    }
    fields: t.ClassVar = {**{option: option for option in options}, "work_pool": "work_pool_name", "work_queue": "work_queue_name"}
    # Prefect 3.1 does not take the last job variable away.
    doubtful = True
    needed = ("entrypoint",)
    defaults: t.ClassVar = {
        "pull_steps": [],
        "job_variables": {},
        "parameters": {},
        "schedules": [],
        "paused": False,
        "tags": [],
        # Prefect 3.1 starts no run without one.
        "parameter_openapi_schema": {},
    }

    def __init__(self, client: PrefectClient, check_mode: bool = False) -> None:
        super().__init__(client, check_mode)
        self.flows: dict[str, str] = {}
        # By name: the variables of a pool's base job template; none of a pool that is not there yet.
        self.pools: dict[str, Fields | None] = {}

    def check(self, element: Fields) -> None:
        check_name("name", element["name"])
        check_name("flow_name", element["flow_name"])
        limit = element["concurrency_limit"]
        if limit is not None and limit != -1 and limit < 1:
            raise InvalidError("concurrency_limit", f"{limit} is no limit: write -1 for none, or 1 or more. To let no run start, pause the deployment.")
        slugs: list[str] = []
        for index, schedule in enumerate(element["schedules"] or ()):
            check_schedule(f"schedules[{index}]", schedule)
            if schedule["slug"] in slugs:
                raise InvalidError(f"schedules[{index}].slug", f"{schedule['slug']!r} is the name of another: give each its own.")
            slugs += [schedule["slug"]] if schedule["slug"] else []

    def read(self, elements: list[Fields]) -> list[Fields]:
        flows = {"name": {"any_": sorted({element["flow_name"] for element in elements})}}
        names = sorted({element["name"] for element in elements})
        self.flows = {flow["name"]: flow["id"] for flow in self.client.filter("flows/filter", {"flows": flows}, most=len(flows["name"]["any_"]))}
        found = self.client.filter("deployments/filter", {"flows": flows, "deployments": {"name": {"any_": names}}})
        name_of = {identifier: name for name, identifier in self.flows.items()}
        return [self.deployment_of(deployment, name_of[deployment["flow_id"]]) for deployment in found]

    def deployment_of(self, deployment: Fields, flow_name: str) -> Fields:
        """Give a deployment as the task would write it."""
        return {
            **{field: deployment.get(field) for field in ("id", "status", *self.fields.values())},
            "flow_name": flow_name,
            "schedules": sorted(map(schedule_of, deployment["schedules"]), key=repr),
            "tags": sorted(deployment["tags"]),
            "parameter_openapi_schema": plain_schema(deployment["parameter_openapi_schema"]),
            "concurrency_limit": (deployment["global_concurrency_limit"] or {}).get("limit"),
        }

    def wanted(self, element: Fields) -> Fields:
        wanted = super().wanted(element)
        if "schedules" in wanted:
            wanted["schedules"] = [plain(schedule) for schedule in wanted["schedules"]]
        if "tags" in wanted:
            wanted["tags"] = sorted(wanted["tags"])
        if "parameter_openapi_schema" in wanted:
            wanted["parameter_openapi_schema"] = plain_schema(wanted["parameter_openapi_schema"])
        if wanted.get("concurrency_limit") == -1:
            wanted["concurrency_limit"] = None
        return wanted

    def after(self, element: Fields, current: Fields | None) -> Fields:
        before = self.before(current) if current else {}
        after = super().after(element, current)
        if after["work_pool_name"] != before.get("work_pool_name") and element["work_queue"] is None:
            after["work_queue_name"] = "default"
        self.check_pool(after, before)
        if problem := find_problem(after["parameters"], {**after["parameter_openapi_schema"], "required": []}, "parameters"):
            option, _colon, fault = problem.partition(": ")
            raise InvalidError(option, f"{fault} by the parameter_openapi_schema of the deployment.")
        schedules = keep_anchors(after["schedules"], before.get("schedules", []))
        after["schedules"] = sorted(schedules, key=repr)
        if not same(after["schedules"], before.get("schedules", [])):
            self.judge_schedules(schedules)
        return after

    def judge_schedules(self, schedules: list[Fields]) -> None:
        """Let the server parse them."""
        try:
            judge(self.client, "PATCH", "deployments", {"schedules": [body_of_schedule(schedule) for schedule in schedules]})
        except InvalidError as exc:
            option, problem = str(exc).split(": ", 1)
            raise InvalidError(option.replace("].schedule", "]"), problem) from exc

    def check_pool(self, after: Fields, before: Fields) -> None:
        """See that pool and queue are there, since the server would make a queue up, and that the pool takes the variables."""
        pool, queue = after["work_pool_name"], after["work_queue_name"]
        if queue and not pool:
            raise InvalidError("work_queue", "there is no work_pool that it could be a queue of: give one.")
        if not pool or all(same(after[field], before.get(field)) for field in ("work_pool_name", "work_queue_name", "job_variables")):
            return
        path = f"work_pools/{self.client.quote(pool)}"
        if pool not in self.pools:
            found = self.client.get(path, missing_ok=True)
            self.pools[pool] = (found["base_job_template"] or {}).get("variables", {}) if found else None
            if found is None:
                self.missing("work_pool", f"there is no work pool {pool!r}")
        variables = self.pools[pool]
        if variables is None:
            return
        if queue != "default" and self.client.get(f"{path}/queues/{self.client.quote(queue)}", missing_ok=True) is None:
            self.missing("work_queue", f"the work pool {pool!r} has no queue {queue!r}")
        if problem := find_problem(after["job_variables"], {**variables, "required": []}, "job_variables"):
            option, _colon, fault = problem.partition(": ")
            raise InvalidError(option, f"{fault} by the base job template of the work pool {pool!r}.")
        known = variables.get("properties")
        for name in sorted(set(after["job_variables"]).difference(known)) if known else ():
            self.module.warn(f"The base job template of the work pool {pool!r} has no variable {name!r}, so Prefect leaves it out of {self.key(after)}.")

    def missing(self, option: str, problem: str) -> None:
        if not self.check_mode:
            raise InvalidError(option, f"{problem}: create it before, or correct the name.")
        self.module.warn(f"{option}: {problem} yet. A run of this playbook outside check mode has to create it before.")

    def create(self, after: Fields) -> None:
        self.write(after, {})

    def update(self, current: Fields, fields: Fields) -> None:
        self.write({**self.before(current), **fields}, fields)

    def write(self, after: Fields, changed: Fields) -> None:
        """Create or change: Prefect does both in one step, and clears some of what it is not told again."""
        flow = after["flow_name"]
        if flow not in self.flows:
            self.flows[flow] = self.client.post("flows/", {"name": flow}, repeatable=True)["id"]
        body = {field: value for field, value in after.items() if value is not None or field in changed}
        del body["flow_name"]
        body["flow_id"] = self.flows[flow]
        body["schedules"] = [body_of_schedule(schedule) for schedule in after["schedules"]]
        self.client.post("deployments/", body, repeatable=True)

    def delete(self, current: Fields) -> None:
        self.client.delete(f"deployments/{current['id']}")


def check_schedule(where: str, schedule: Fields) -> None:
    """Refuse what the server would take in silence, or refuse in other words."""
    given = [kind for kind in KINDS if schedule[kind] is not None]
    if len(given) != 1:
        raise InvalidError(where, f"it has {' and '.join(given) or 'none of cron, interval and rrule'}: write one of cron, interval and rrule.")
    if not schedule["timezone"]:
        raise InvalidError(f"{where}.timezone", "it is empty: write a name like Europe/Berlin, or leave it out for UTC.")
    if schedule["anchor_date"] is not None:
        if schedule["interval"] is None:
            raise InvalidError(f"{where}.anchor_date", f"a schedule by {given[0]} has none: leave it out.")
        try:
            instant(schedule["anchor_date"])
        except ValueError:
            raise InvalidError(f"{where}.anchor_date", f"{schedule['anchor_date']!r} is no date and time: write it like 2026-01-31T06:00:00Z.") from None


def instant(text: str) -> str:
    """Write a date and time in UTC."""
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)).astimezone(dt.timezone.utc).isoformat()


def plain_schema(schema: Fields | None) -> Fields:
    """Write alike the schemas of no parameters, of which newer versions make one."""
    return schema if schema and schema.get("properties") else {}


def plain(schedule: Fields) -> Fields:
    """Write alike what means the same, and leave out what is as it is by default."""
    fields = {field: value for field, value in schedule.items() if value not in (None, {})}
    if "rrule" in fields:
        lines = [line.strip().removeprefix("RRULE:") for line in fields["rrule"].splitlines()]
        fields["rrule"] = "\n".join(line for line in lines if line and line != RRULE_START)
    if "anchor_date" in fields:
        fields["anchor_date"] = instant(fields["anchor_date"])
    if "interval" in fields:
        fields["interval"] = float(fields["interval"])
    if "cron" not in fields or fields.get("day_or"):
        fields.pop("day_or", None)
    return dict(sorted(fields.items()))


def schedule_of(stored: Fields) -> Fields:
    """Give a schedule as the task would write it."""
    of_kind = {field: stored["schedule"].get(field) for field in (*KINDS, "day_or", "anchor_date")}
    return plain({**of_kind, "timezone": stored["schedule"]["timezone"] or "UTC", **{field: stored.get(field) for field in ("active", "slug", "parameters")}})


def keep_anchors(wanted: list[Fields], stored: list[Fields]) -> list[Fields]:
    """Let intervals go on counting from where they did, unless the task says otherwise."""
    named = [schedule.get("anchor_date") for schedule in wanted]
    counting = [schedule for schedule in stored if "interval" in schedule and schedule["anchor_date"] not in named]
    kept = []
    for schedule in wanted:
        like = [other for other in counting if {**other, "active": True, "anchor_date": None} == {**schedule, "active": True, "anchor_date": None}]
        if "interval" not in schedule or "anchor_date" in schedule or not like:
            kept.append(schedule)
            continue
        # One that is as active as before goes before one that is switched.
        other = min(like, key=lambda one: one["active"] != schedule["active"])
        counting.remove(other)
        kept.append(dict(sorted({**schedule, "anchor_date": other["anchor_date"]}.items())))
    return kept


def body_of_schedule(schedule: Fields) -> Fields:
    """Give a schedule as the API has it."""
    own = ("active", "slug", "parameters")
    return {
        "schedule": {field: value for field, value in schedule.items() if field not in own},
        **{field: schedule[field] for field in own if field in schedule},
    }


def main() -> None:
    manage(Deployments)


if __name__ == "__main__":
    main()
