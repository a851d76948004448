# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.project_services import main

PATH = "/v1/projects/my-project/services"
SQL, RUN = "sqladmin.googleapis.com", "run.googleapis.com"
SERVICES = "/v2/projects/my-project/locations/us-central1/services"
DISABLED = {"code": 403, "message": "Not used.", "details": [{"reason": "SERVICE_DISABLED", "metadata": {"service": RUN, "consumer": "projects/my-project"}}]}


@pytest.fixture
def enabled(google):
    """The APIs that are enabled."""
    names = {SQL}

    def states(request):
        asked = [part.partition("=")[2].rpartition("%2F")[2] for part in request["query"].split("&")]
        return 200, {"services": [{"name": f"projects/123/services/{name}", **({"state": "ENABLED"} if name in names else {})} for name in asked]}

    def enable(request):
        names.update(request["body"]["serviceIds"])
        google.objects["/v1/operations/op"] = {"name": "operations/op", "done": True}
        return 200, {"name": "operations/op"}

    google.api.routes[f"GET {PATH}:batchGet"] = states
    google.api.routes[f"POST {PATH}:batchEnable"] = enable
    return names


def test_enable(google, enabled, run_google):
    checked = run_google(main, check_mode=True, services=[SQL, RUN, RUN])
    assert google.written() == []
    done = run_google(main, services=[SQL, RUN])
    assert google.written() == [(f"POST {PATH}:batchEnable", {"serviceIds": [RUN]})]
    assert google.reads()[-1] == SERVICES
    assert (done["changed"], done["enabled"], done["diff"]) == (True, [RUN], checked["diff"])
    assert done["diff"] == {"before": {RUN: "DISABLED", SQL: "ENABLED"}, "after": {RUN: "ENABLED", SQL: "ENABLED"}}
    assert enabled == {SQL, RUN}
    again = run_google(main, services=[SQL, RUN])
    assert (again["changed"], again["enabled"], google.api.asked()) == (False, [], [f"GET {PATH}:batchGet"])


def test_an_api_that_does_not_know_yet(google, enabled, run_google, naps):
    google.api.routes[f"GET {SERVICES}"] = [(403, {"error": DISABLED})] * 2 + [(403, {"error": {"code": 403, "message": "No.", "status": "PERMISSION_DENIED"}})]
    assert run_google(main, services=[RUN, "iap.googleapis.com"])["enabled"] == ["iap.googleapis.com", RUN]
    assert naps[-2:] == [1, 2]

    enabled.discard(RUN)
    naps.clear()
    google.api.routes[f"GET {SERVICES}"] = (403, {"error": DISABLED})
    message = "enable the API by `gcloud services enable run.googleapis.com --project my-project`, and give it some minutes."
    assert run_google(main, services=[RUN])["msg"].endswith(message)
    assert 100 < sum(naps) <= 121

    enabled.discard(RUN)
    google.api.routes[f"GET {SERVICES}"] = (200, "<html>")
    assert "look for a proxy in between" in run_google(main, services=[RUN])["msg"]


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ([], "services has 0 items: write 1 to 20."),
        ([f"a{number}.googleapis.com" for number in range(21)], "services has 21 items: write 1 to 20."),
        (["sqladmin"], "services: 'sqladmin' is no API: write such as sqladmin.googleapis.com."),
    ],
)
def test_refused(google, run_google, services, message):
    assert run_google(main, services=services)["msg"] == message
    assert google.api.requests == []
