# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloud_run_domain_mapping import main

COLLECTION = "/v1/projects/my-project/locations/europe-west1/domainmappings"
PATH = f"{COLLECTION}/prefect.example.com"
SPEC = {"routeName": "proxy", "certificateMode": "AUTOMATIC"}


SERVICE = "/v2/projects/my-project/locations/europe-west1/services/proxy"
VERIFIED = "/v1/projects/my-project/locations/europe-west1/authorizeddomains"


@pytest.fixture
def run(google, run_google):
    google.objects[VERIFIED] = {"domains": [{"id": "example.org"}, {"id": "example.com"}]}
    return functools.partial(run_google, main, region="europe-west1", name="prefect.example.com", service="proxy")


def test_a_life(google, run):
    # In the run that makes the service, Google could not validate it yet.
    assert run(check_mode=True)["changed"] is True
    assert google.written() == []
    google.objects[SERVICE] = {}
    checked = run(check_mode=True)
    assert [request for request, _body in google.written()] == [f"POST {COLLECTION}?dryRun=all"]
    assert PATH not in google.objects
    google.fill = {
        "status": {"resourceRecords": [{"type": "A", "rrdata": "192.0.2.1"}], "conditions": [{"type": "Ready", "status": "Unknown", "message": "Wait."}]}
    }
    done = run()
    body = {
        "apiVersion": "domains.cloudrun.com/v1",
        "kind": "DomainMapping",
        "metadata": {"name": "prefect.example.com", "namespace": "my-project"},
        "spec": {**SPEC, "forceOverride": False},
    }
    assert google.written() == [(f"POST {COLLECTION}", body)]
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"name": "prefect.example.com", "spec": SPEC}}
    assert (done["ready"], done["message"]) == (False, "Wait.")
    assert done["resource_records"] == [{"name": "", "type": "A", "rrdata": "192.0.2.1"}]
    assert (checked["ready"], checked["message"], checked["resource_records"]) == (False, "", [])
    google.objects[PATH]["status"]["conditions"][0]["status"] = "True"
    again = run()
    assert (again["changed"], again["ready"], google.reads()) == (False, True, [PATH])

    message = (
        "the mapping of prefect.example.com exists with routeName proxy, certificateMode AUTOMATIC, which cannot be changed: "
        "correct the task, or delete it first (state: absent)."
    )
    assert run(service="other")["msg"] == message
    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent")["domain_mapping"] == {}
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert run(state="absent")["changed"] is False


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("verified", [{}, {"domains": [{"id": "other.example.com"}, {"id": "ample.com"}]}])
def test_a_domain_that_is_not_verified(google, run, verified, check_mode):
    google.objects[VERIFIED] = verified
    message = (
        "the domain prefect.example.com is not verified as this account's: "
        "run `gcloud domains verify prefect.example.com` as an owner of it, and add this account as an owner there."
    )
    assert run(check_mode=check_mode)["msg"] == message
    assert google.written() == []


def test_what_google_refuses(google, run):
    google.fail(f"POST {COLLECTION}", 400, "Domain mappings are not supported in this region.")
    assert run()["msg"].endswith("HTTP 400: Domain mappings are not supported in this region.")


@pytest.mark.parametrize("name", ["https://prefect.example.com", "prefect", "Prefect.example.com"])
def test_no_domain(google, run, name):
    assert run(name=name)["msg"] == f"name: {name!r} is no domain: write it in lower case, without https://."
