# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.project_services import main

PATH = "/v1/projects/my-project/services"
SQL, RUN = "sqladmin.googleapis.com", "run.googleapis.com"


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
    assert (done["changed"], done["enabled"], done["diff"]) == (True, [RUN], checked["diff"])
    assert done["diff"] == {"before": {RUN: "DISABLED", SQL: "ENABLED"}, "after": {RUN: "ENABLED", SQL: "ENABLED"}}
    assert enabled == {SQL, RUN}
    again = run_google(main, services=[SQL, RUN])
    assert (again["changed"], again["enabled"], google.api.asked()) == (False, [], [f"GET {PATH}:batchGet"])


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
