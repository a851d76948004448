# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each module that keeps a list of objects keeps its promises on a real server: check mode, diff, idempotence, absence."""

from __future__ import annotations

import importlib
import typing as t

import pytest

# What the server itself counts or dates.
VOLATILE = {"updated", "created", "id", "status", "last_polled", "default_queue_id", "storage_configuration", "active_slots", "work_pool_id", "filter"}


class Case(t.NamedTuple):
    """One module's life: objects that come, then change, then go; and what the diffs have to say."""

    option: str
    # A POST that reads all objects of the kind.
    path: str
    created: list[dict[str, t.Any]]
    changed: list[dict[str, t.Any]]
    diff: dict[str, dict[str, t.Any]]
    # What has to be there before.
    around: tuple[tuple[str, list[dict[str, t.Any]]], ...] = ()

    @property
    def module(self) -> str:
        return f"prefect_{self.option[:-1]}"


CASES = [
    Case(
        option="variables",
        path="variables/filter",
        created=[
            {"name": "case_a", "value": {"x": [1, 2.5, True, None, "ü"]}, "tags": ["b", "a"]},
            {"name": "case_b", "value": 1},
            {"name": "case_c", "value": "s"},
        ],
        changed=[{"name": "case_a", "tags": []}, {"name": "case_b", "value": True}, {"name": "case_c"}],
        diff={
            "before": {"case_a": {"tags": ["b", "a"]}, "case_b": {"value": 1}},
            "after": {"case_a": {"tags": []}, "case_b": {"value": True}},
        },
    ),
    Case(
        option="global_concurrency_limits",
        path="v2/concurrency_limits/filter",
        created=[{"name": "case a", "limit": 3}, {"name": "case-b", "limit": 1, "slot_decay_per_second": 0.5, "active": False}],
        changed=[{"name": "case a", "limit": 0, "slot_decay_per_second": 2}, {"name": "case-b"}],
        diff={
            "before": {"case a": {"limit": 3, "slot_decay_per_second": 0.0}},
            "after": {"case a": {"limit": 0, "slot_decay_per_second": 2.0}},
        },
    ),
    Case(
        option="tag_concurrency_limits",
        path="concurrency_limits/filter",
        created=[{"tag": "case a", "concurrency_limit": 3}, {"tag": "case:b", "concurrency_limit": 1}],
        changed=[{"tag": "case a", "concurrency_limit": 0}, {"tag": "case:b"}],
        diff={"before": {"case a": {"concurrency_limit": 3}}, "after": {"case a": {"concurrency_limit": 0}}},
    ),
    Case(
        option="work_pools",
        path="work_pools/filter",
        created=[
            {"name": "case a", "type": "process", "concurrency_limit": 3, "work_queues": ["default", "urgent"]},
            {"name": "case b", "type": "docker", "base_job_template": {"variables": {"properties": {"image": {"default": "example.com/etl:1"}}}}},
        ],
        changed=[
            {"name": "case a", "concurrency_limit": -1, "paused": True, "work_queues": ["nightly", "urgent"]},
            {"name": "case b", "description": "Containers"},
        ],
        diff={
            "before": {"case a": {"concurrency_limit": 3, "is_paused": False, "work_queues": ["urgent"]}, "case b": {"description": None}},
            "after": {"case a": {"concurrency_limit": None, "is_paused": True, "work_queues": ["nightly", "urgent"]}, "case b": {"description": "Containers"}},
        },
    ),
    Case(
        option="work_queues",
        path="work_queues/filter",
        around=(("work_pools", [{"name": "case around", "type": "process"}, {"name": "case other", "type": "process"}]),),
        created=[
            {"name": "third", "work_pool": "case around", "priority": 3},
            {"name": "default", "work_pool": "case around", "priority": 5},
            {"name": "first", "work_pool": "case around", "priority": 1, "concurrency_limit": 2, "description": "Before all"},
            {"name": "first", "work_pool": "case other", "paused": True, "priority": 7},
        ],
        # What takes the places of others leaves them where the list wants them.
        changed=[
            {"name": "third", "work_pool": "case around", "priority": 1},
            {"name": "first", "work_pool": "case around", "priority": 3, "concurrency_limit": -1},
            {"name": "first", "work_pool": "case other"},
        ],
        diff={
            "before": {"case around/third": {"priority": 3}, "case around/first": {"priority": 1, "concurrency_limit": 2}},
            "after": {"case around/third": {"priority": 1}, "case around/first": {"priority": 3, "concurrency_limit": None}},
        },
    ),
    Case(
        option="blocks",
        path="block_documents/filter",
        created=[
            {"type": "secret", "name": "case-a", "data": {"value": {"user": "etl", "password": "case-a-secret"}}},
            {"type": "gcp-credentials", "name": "case-b", "data": {"service_account_info": {"private_key": "case-b-secret"}, "project": "north"}},
            {"type": "gcs-bucket", "name": "case-c", "data": {"bucket": "landing", "gcp_credentials": {"$ref": "gcp-credentials/case-b"}}},
            {"type": "slack-webhook", "name": "case-a", "data": {"url": "https://hooks.example.com/case-a-secret", "allow_private_urls": True}},
            {"type": "remote-file-system", "name": "case-d", "data": {"basepath": "s3://landing", "settings": {}}},
        ],
        changed=[
            {"type": "secret", "name": "case-a", "data": {"value": {"user": "etl", "password": "case-a-other-secret"}}},
            {"type": "gcp-credentials", "name": "case-b"},
            {"type": "gcs-bucket", "name": "case-c", "data": {"bucket": "archive"}},
            {"type": "slack-webhook", "name": "case-a", "data": {"notify_type": "failure"}},
            {"type": "remote-file-system", "name": "case-d", "data": {"settings": None}},
        ],
        diff={
            "before": {
                "secret/case-a": {"data": {"value": "********"}},
                "gcs-bucket/case-c": {"data": {"bucket": "landing", "gcp_credentials": {"$ref": "gcp-credentials/case-b"}}},
                "slack-webhook/case-a": {"data": {"url": "********", "allow_private_urls": True}},
                "remote-file-system/case-d": {"data": {"basepath": "s3://landing", "settings": {}}},
            },
            "after": {
                "secret/case-a": {"data": {"value": "******** (changed)"}},
                "gcs-bucket/case-c": {"data": {"bucket": "archive", "gcp_credentials": {"$ref": "gcp-credentials/case-b"}}},
                "slack-webhook/case-a": {"data": {"url": "********", "allow_private_urls": True, "notify_type": "failure"}},
                "remote-file-system/case-d": {"data": {"basepath": "s3://landing", "settings": None}},
            },
        },
    ),
    Case(
        option="deployments",
        path="deployments/filter",
        around=(("work_pools", [{"name": "case around", "type": "process", "work_queues": ["nightly"]}]),),
        created=[
            {
                "name": "case a",
                "flow_name": "case flow",
                "entrypoint": "flows.py:load",
                "path": "/srv/flows",
                "work_pool": "case around",
                "work_queue": "nightly",
                "schedules": [
                    {"cron": "0 3 * * 1", "timezone": "Europe/Berlin"},
                    {"interval": 90, "anchor_date": "2026-01-01T00:00:00+01:00", "active": False},
                    {"rrule": "RRULE:FREQ=DAILY", "active": False},
                    {"cron": "0 3 1 * 1", "day_or": False, "active": False},
                ],
                "parameters": {"full": True},
                "parameter_openapi_schema": {"type": "object", "properties": {"full": {"type": "boolean"}}},
                "job_variables": {"env": {"REGION": "north"}},
                "concurrency_limit": 2,
                "tags": ["b", "a"],
                "description": "Loads",
                "version": "1",
            },
            {"name": "case a", "flow_name": "case other", "entrypoint": "flows.py:probe", "pull_steps": [{"prefect.deployments.steps.pull_from_s3": {}}]},
        ],
        changed=[
            {
                "name": "case a",
                "flow_name": "case flow",
                "work_queue": "default",
                "schedules": [{"rrule": "FREQ=DAILY"}],
                "concurrency_limit": -1,
                "tags": ["a"],
                "paused": True,
            },
            {"name": "case a", "flow_name": "case other"},
        ],
        diff={
            "before": {
                "case flow/case a": {
                    "work_queue_name": "nightly",
                    "schedules": [
                        {"active": False, "anchor_date": "2025-12-31T23:00:00+00:00", "interval": 90.0, "timezone": "UTC"},
                        {"active": False, "cron": "0 3 1 * 1", "day_or": False, "timezone": "UTC"},
                        {"active": False, "rrule": "FREQ=DAILY", "timezone": "UTC"},
                        {"active": True, "cron": "0 3 * * 1", "timezone": "Europe/Berlin"},
                    ],
                    "concurrency_limit": 2,
                    "tags": ["a", "b"],
                    "paused": False,
                }
            },
            "after": {
                "case flow/case a": {
                    "work_queue_name": "default",
                    "schedules": [{"active": True, "rrule": "FREQ=DAILY", "timezone": "UTC"}],
                    "concurrency_limit": None,
                    "tags": ["a"],
                    "paused": True,
                }
            },
        },
    ),
    Case(
        option="automations",
        path="automations/filter",
        around=(
            ("blocks", [{"type": "slack-webhook", "name": "case-around", "data": {"url": "https://hooks.example.com/"}}]),
            ("deployments", [{"name": "case-around", "flow_name": "case around", "entrypoint": "flows.py:load"}]),
            ("work_pools", [{"name": "case around", "type": "process"}]),
        ),
        created=[
            {
                "name": "case a / b",
                "trigger": {"type": "event", "posture": "Reactive", "expect": ["b", "a"], "match": {"prefect.resource.id": ["prefect.flow-run.*"]}},
                "actions": [{"type": "send-notification", "block_document": "slack-webhook/case-around", "body": "{{ flow_run.name }}"}],
            },
            {
                "name": "case c",
                "description": "Again",
                "trigger": {
                    "type": "compound",
                    "require": "all",
                    "within": 60,
                    "triggers": [{"type": "event", "posture": "Proactive", "expect": ["x"]}, {"type": "event", "posture": "Reactive", "threshold": 2}],
                },
                "actions": [
                    {"type": "run-deployment", "deployment": "case around/case-around", "parameters": {"share": 0.5}},
                    {"type": "pause-work-queue", "work_queue": "case around/default"},
                ],
                "actions_on_resolve": [{"type": "pause-work-pool", "work_pool": "case around"}],
            },
        ],
        changed=[
            {"name": "case a / b", "enabled": False, "trigger": {"type": "event", "posture": "Proactive", "expect": ["y"]}},
            {"name": "case c", "description": ""},
        ],
        diff={
            "before": {
                "case a / b": {
                    "enabled": True,
                    "trigger": {"type": "event", "posture": "Reactive", "expect": ["a", "b"], "match": {"prefect.resource.id": "prefect.flow-run.*"}},
                },
                "case c": {"description": "Again"},
            },
            "after": {
                "case a / b": {"enabled": False, "trigger": {"type": "event", "posture": "Proactive", "expect": ["y"]}},
                "case c": {"description": ""},
            },
        },
    ),
]


def main_of(option: str) -> t.Callable[[], None]:
    module = importlib.import_module(f"ansible_collections.selfhost.prefect.plugins.modules.prefect_{option[:-1]}")
    main: t.Callable[[], None] = module.main
    return main


def lasting(objects: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    return [{name: value for name, value in fields.items() if name not in VOLATILE} for fields in objects]


@pytest.mark.parametrize("case", CASES, ids=[case.option for case in CASES])
def test_a_list_of_objects(live, case):
    main = main_of(case.option)

    def everything() -> t.Any:
        return sorted(live.client.filter(case.path), key=lambda fields: fields["id"])

    def apply(elements: list[dict[str, t.Any]], state: str = "present") -> dict[str, t.Any]:
        """Bring the state about, and see that check mode has predicted it and that nothing is left to do afterwards."""
        arguments = {case.option: elements, "state": state}
        before = everything()
        predicted = live.run(main, check_mode=True, **arguments)
        assert predicted["changed"] is True
        assert live.writes() == []
        assert everything() == before
        done = live.run(main, **arguments)
        assert done["changed"] is True
        assert done["diff"] == predicted["diff"]
        for given, expected in zip(lasting(done[case.option]), lasting(predicted[case.option]), strict=True):
            assert {name: given[name] for name in expected} == expected
        after = everything()
        for check_mode in (False, True):
            again = live.run(main, check_mode=check_mode, **arguments)
            assert again["changed"] is False
            assert again["diff"] == {"before": {}, "after": {}}
            assert again[case.option] == done[case.option]
            assert live.writes() == []
        assert everything() == after
        return done

    for option, elements in case.around:
        live.run(main_of(option), **{option: elements})
    untouched = everything()

    created = apply(case.created)
    assert len(created[case.option]) == len(created["diff"]["after"]) == len(case.created)
    changed = apply(case.changed)
    assert changed["diff"] == case.diff
    # What the second list does not name is as it was.
    assert len(live.writes()) == 0
    removed = [element for element in case.created if element["name" if "name" in element else "tag"] != "default"]
    gone = apply(removed, state="absent")
    assert gone[case.option] == []
    assert gone["diff"]["after"] == {}
    assert len(gone["diff"]["before"]) == len(removed)
    assert [fields["id"] for fields in everything()] == [fields["id"] for fields in untouched]

    for option, elements in case.around:
        live.run(main_of(option), **{option: elements, "state": "absent"})


def test_many_variables_take_few_requests(live):
    main = main_of("variables")
    variables = [{"name": f"many_{number:02}", "value": {"number": number}, "tags": ["many"]} for number in range(50)]
    assert live.run(main, variables=variables)["changed"] is True
    again = live.run(main, variables=variables)
    assert again["changed"] is False
    assert [fields["name"] for fields in again["variables"]] == [element["name"] for element in variables]
    # Where the server asks for a CSRF token, the first request is refused and repeated.
    assert len(live.requests) == (5 if live.csrf else 3)
    variables[25]["value"] = "odd"
    one = live.run(main, variables=variables)
    assert list(one["diff"]["after"]) == ["many_25"]
    assert len(live.writes()) == 1


def test_variables_with_dashes(live):
    variables = [{"name": "plain", "value": 1}, {"name": "with-dash", "value": 1}]
    result = live.run(main_of("variables"), variables=variables)
    if live.oldest:
        assert result["msg"] == "variables[1].name: Variable name must only contain lowercase letters, numbers, and underscores."
        assert live.writes() == []
    else:
        assert result["changed"] is True
        assert live.run(main_of("variables"), variables=variables, state="absent")["changed"] is True


def test_tag_limits_behind_many_others(live):
    """Newer servers page through the tag limits and the global ones as one."""
    limits = [{"name": f"a{number:02}", "limit": 1} for number in range(21)]
    tags = [{"tag": "behind", "concurrency_limit": 2}]
    live.run(main_of("global_concurrency_limits"), global_concurrency_limits=limits)
    assert live.run(main_of("tag_concurrency_limits"), tag_concurrency_limits=tags)["changed"] is True
    assert live.run(main_of("tag_concurrency_limits"), tag_concurrency_limits=tags)["changed"] is False
    assert live.run(main_of("tag_concurrency_limits"), tag_concurrency_limits=tags, state="absent")["changed"] is True
    live.run(main_of("global_concurrency_limits"), global_concurrency_limits=limits, state="absent")


REFUSED = [
    ("variables", [{"name": "ok", "value": 1}, {"name": "Not ok", "value": 1}], "variables[1].name: 'Not ok' is no name of a variable"),
    (
        "variables",
        [{"name": "ok", "value": 1}, {"name": "not_there"}],
        "variables[1].value: it is needed to create the variable 'not_there', which does not exist yet.",
    ),
    ("variables", [{"name": "ok", "value": 1}, {"name": "ok", "value": 2}], "variables[1].name: 'ok' is in variables[0] already: leave one of them out."),
    ("variables", [{"name": "ok", "value": "x" * 5000}], "variables[0].value: it is 5002 characters long as JSON"),
    ("work_pools", [{"name": "ok", "type": "process"}, {"name": "a/b", "type": "process"}], "work_pools[1].name: 'a/b' holds /, and Prefect takes none"),
    ("work_pools", [{"name": "ok", "type": "proces"}], "work_pools[0].type: 'proces' is no type that the server knows: write one of azure-container-"),
    ("work_pools", [{"name": "Prefect ok", "type": "process"}], "work_pools[0].name: Prefect keeps names that begin with 'prefect' for itself"),
    (
        "work_pools",
        [{"name": "ok", "type": "process", "base_job_template": {"job_configuration": {"env": "{{ envv }}"}}}],
        "work_pools[0].base_job_template.job_configuration: {{ envv }} is no variable of the template: declare it below variables.properties, or use one of c",
    ),
    (
        "work_pools",
        [{"name": "ok", "type": "docker", "base_job_template": {"variables": {"properties": {"imgae": {"default": "x"}}}}}],
        "work_pools[0].base_job_template.variables.properties.imgae: the job configuration uses no such variable: write one of auto_remove, ",
    ),
    ("work_queues", [{"name": "ok", "work_pool": "nowhere"}], "work_queues[0].work_pool: there is no work pool 'nowhere': create it first"),
    (
        "blocks",
        [{"type": "secret", "name": "ok", "data": {"value": "x"}}, {"type": "slack-webhok", "name": "ok", "data": {"url": "https://x.example.com"}}],
        "blocks[1].type: the server has no block type 'slack-webhok': write slack-webhook or ",
    ),
    ("blocks", [{"type": "slack-webhook", "name": "ok"}], "blocks[0].data.url: is missing in a block of the type 'slack-webhook'."),
    ("blocks", [{"type": "secret", "name": "ok", "data": {"valeu": "x"}}], "blocks[0].data.value: is missing in a block of the type 'secret'."),
    (
        "blocks",
        [{"type": "slack-webhook", "name": "ok", "data": {"url": "https://x.example.com", "colour": "red"}}],
        "blocks[0].data.colour: there is no such field, only allow_private_urls, notify_type, url in a block of the type 'slack-webhook'.",
    ),
    (
        "blocks",
        [{"type": "gcs-bucket", "name": "ok", "data": {"bucket": "b", "gcp_credentials": {"$ref": "gcp-credentials/nowhere"}}}],
        "blocks[0].data.gcp_credentials: there is no block 'gcp-credentials/nowhere': create it before, or correct the name.",
    ),
    *[
        ("deployments", [{"name": "ok", "flow_name": "f", "entrypoint": "f.py:f"}, {"name": "odd", "flow_name": "f", "entrypoint": "f.py:f", **odd}], message)
        for odd, message in (
            ({"schedules": [{"cron": "61 3 * * *"}]}, "deployments[1].schedules[0].cron: Invalid cron string: "),
            ({"schedules": [{"cron": "0 3 * * *", "timezone": "Mars/Base"}]}, "deployments[1].schedules[0]: Invalid timezone: "),
            ({"schedules": [{"interval": 60}, {"rrule": "FREQ=NEVER"}]}, "deployments[1].schedules[1].rrule: Invalid RRule string "),
            ({"schedules": [{"interval": 0}]}, "deployments[1].schedules[0].interval: "),
            ({"work_pool": "nowhere"}, "deployments[1].work_pool: there is no work pool 'nowhere': create it before, or correct the name."),
        )
    ],
    *[
        (
            "automations",
            [
                {"name": "ok", "trigger": {"type": "event", "posture": "Reactive"}, "actions": [{"type": "do-nothing"}]},
                {"name": "odd", "trigger": {"type": "event", "posture": "Reactive"}, "actions": [{"type": "do-nothing"}], **odd},
            ],
            message,
        )
        for odd, message in (
            ({"trigger": {"type": "event", "posture": "Odd"}}, "automations[1].trigger.posture: Input should be Posture.Reactive or Posture.Proactive."),
            ({"trigger": {"type": "evnet"}}, "automations[1].trigger.type: Input should be 'event' or 'compound' or 'sequence'."),
            ({"actions": [{"type": "run-deploymnet"}]}, "automations[1].actions[0].type: Input should be 'do-nothing' or 'run-deployment' or "),
            (
                {"actions": [{"type": "run-deployment", "deployment": "nowhere/at-all"}]},
                "automations[1].actions[0].deployment: there is none by the name 'nowhere/at-all': create it before, or correct the name.",
            ),
        )
    ],
]


@pytest.mark.parametrize(("option", "elements", "message"), REFUSED)
def test_bad_input_changes_nothing(live, option, elements, message):
    path = next(case.path for case in CASES if case.option == option)
    before = live.client.filter(path)
    for check_mode in (True, False):
        if check_mode and "nowhere" in message:
            # What an earlier task would make is not there.
            continue
        result = live.run(main_of(option), check_mode=check_mode, **{option: elements})
        assert result["failed"] is True
        assert result["msg"].startswith(message)
        assert live.writes() == []
    assert live.client.filter(path) == before


def test_what_is_read(live):
    pools = [{"name": "read b", "type": "process", "work_queues": ["urgent"]}, {"name": "read a", "type": "process"}]
    live.run(main_of("work_pools"), work_pools=pools)
    live.client.post("work_pools/read%20b/workers/heartbeat", {"name": "worker 1"})
    found = live.run(main_of("work_pool_infos"), names=["read b", "read a", "never"])["work_pools"]
    assert [pool["name"] for pool in found] == ["read a", "read b"]
    assert [(queue["name"], queue["priority"]) for queue in found[1]["work_queues"]] == [("default", 1), ("urgent", 2)]
    assert [(worker["name"], worker["status"]) for worker in found[1]["workers"]] == [("worker 1", "ONLINE")]
    assert {"read a", "read b"} <= {pool["name"] for pool in live.run(main_of("work_pool_infos"))["work_pools"]}
    live.run(main_of("work_pools"), work_pools=pools, state="absent")

    variables = [{"name": f"read_{name}", "value": name, "tags": ["read", name]} for name in ("b", "a")]
    live.run(main_of("variables"), variables=variables)

    def read(**arguments: t.Any) -> list[str]:
        return [variable["name"] for variable in live.run(main_of("variable_infos"), **arguments)["variables"]]

    assert read(names=["read_b", "read_a", "never"]) == ["read_a", "read_b"]
    assert read(tags=["read", "b"]) == ["read_b"]
    assert {"read_a", "read_b"} <= set(read())
    live.run(main_of("variables"), variables=variables, state="absent")


def test_the_default_queue_goes_only_with_its_pool(live):
    live.run(main_of("work_pools"), work_pools=[{"name": "with default", "type": "process"}])
    result = live.run(main_of("work_queues"), work_queues=[{"name": "default", "work_pool": "with default"}], state="absent")
    assert result["msg"].startswith("work_queues[0].name: 'default' is the default queue of 'with default' and goes only with it")
    assert live.run(main_of("work_pools"), work_pools=[{"name": "with default"}], state="absent")["changed"] is True


def test_a_failure_halfway_says_what_is_written(live):
    """Only the server can tell that a default does not fit its variable's schema."""
    schema = {"variables": {"properties": {"stream_output": {"default": "perhaps"}}}}
    pools = [{"name": "fine", "type": "process"}, {"name": "unfit", "type": "process", "base_job_template": schema}, {"name": "left", "type": "process"}]
    result = live.run(main_of("work_pools"), work_pools=pools)
    assert result["msg"].startswith(f"work_pools[1] (unfit): POST {live.connection['api_url']}/work_pools/: HTTP 422: Validation failed for work pool's job")
    assert result["msg"].endswith(" Written: fine. Not written: unfit, left.")
    assert live.run(main_of("work_pools"), work_pools=[{"name": name["name"]} for name in pools], state="absent")["diff"]["before"].keys() == {"fine"}


def test_a_wrong_auth_string(live):
    result = live.run(main_of("variables"), variables=[{"name": "x"}], auth_string="admin:wrong-one")
    assert "Prefect refused the auth string (HTTP 401)" in result["msg"]
