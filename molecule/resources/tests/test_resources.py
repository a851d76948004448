# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A team's resources as they are on the server, and the load that used them."""

from __future__ import annotations


def test_the_load_has_run_once_with_what_the_team_keeps(client):
    deployment = client.get("deployments/name/load/nightly")
    runs = client.filter("flow_runs/filter", {"flow_runs": {"idempotency_key": {"any_": ["first load"]}}})
    assert [(run["deployment_id"], run["state_name"], run["parameters"]) for run in runs] == [(deployment["id"], "Completed", {"full": True})]
    logs = client.post("logs/filter", {"logs": {"flow_run_id": {"any_": [runs[0]["id"]]}}})
    assert "Loads all rows of analytics, with a password of 26 characters." in [line["message"] for line in logs]


def test_pools_and_queues(client):
    pool = client.get("work_pools/etl")
    assert (pool["type"], pool["description"], pool["concurrency_limit"]) == ("process", "Loads", 4)
    # A worker has filled it in.
    assert "variables" in pool["base_job_template"]
    assert {queue["name"] for queue in client.filter("work_pools/etl/queues/filter")} == {"default", "urgent", "nightly"}


def test_what_refers_to_what(client):
    bucket = client.get("block_types/slug/gcs-bucket/block_documents/name/landing?include_secrets=true")
    assert bucket["data"]["gcp_credentials"]["service_account_info"]["private_key"] == "made-up-private-key"
    automations = {automation["name"]: automation for automation in client.filter("automations/filter")}
    again = automations["Load again when the source is back"]["actions"][0]
    assert again["deployment_id"] == client.get("deployments/name/load/nightly")["id"]
    tell = automations["Tell when a load fails"]["actions"][0]
    assert tell["block_document_id"] == client.get("block_types/slug/slack-webhook/block_documents/name/alerts")["id"]
    assert tell["body"] == "{{ flow_run.name }} is {{ flow_run.state.name }}"


def test_schedules(client):
    nightly, hourly = (client.get(f"deployments/name/load/{name}") for name in ("nightly", "hourly"))
    assert [(one["schedule"]["cron"], one["schedule"]["timezone"], one["active"]) for one in nightly["schedules"]] == [("0 3 * * *", "Europe/Berlin", True)]
    assert (hourly["paused"], hourly["work_queue_name"], hourly["schedules"][0]["schedule"]["interval"]) == (True, "urgent", 3600)
