# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.iam_binding import main

MEMBER = "serviceAccount:a@my-project.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("resource", "path", "method"),
    [
        (None, "/v3/projects/my-project", "POST"),
        ("projects/my-project/serviceAccounts/a@b.c", "/v1/projects/my-project/serviceAccounts/a@b.c", "POST"),
        ("projects/my-project/secrets/s", "/v1/projects/my-project/secrets/s", "GET"),
        ("projects/my-project/locations/r/services/s", "/v2/projects/my-project/locations/r/services/s", "GET"),
    ],
)
def test_grant_and_take(google, run_google, resource, path, method):
    policy = {"etag": "x", "bindings": []}
    google.api.routes[f"{method} {path}:getIamPolicy"] = lambda _request: (200, policy)
    google.api.routes[f"POST {path}:setIamPolicy"] = lambda request: (200, policy.update(request["body"]["policy"]) or {})
    arguments = {"roles": ["roles/viewer"], "members": [MEMBER], **({"resource": resource} if resource else {})}
    checked = run_google(main, check_mode=True, **arguments)
    assert google.written() == []
    done = run_google(main, **arguments)
    assert google.written() == [
        (f"POST {path}:setIamPolicy", {"policy": {"etag": "x", "version": 3, "bindings": [{"role": "roles/viewer", "members": [MEMBER]}]}})
    ]
    assert (done["changed"], done["members"], done["diff"]) == (True, {"roles/viewer": [MEMBER]}, checked["diff"])
    assert run_google(main, **arguments)["changed"] is False
    assert run_google(main, state="exclusive", **arguments)["changed"] is False
    assert run_google(main, state="absent", **arguments)["members"] == {"roles/viewer": []}
    assert run_google(main, state="absent", **arguments)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": "a"}, "resource: 'a' is none that this module knows: write such as projects/PROJECT/secrets/NAME."),
        ({"roles": ["roles/viewer", "viewer"]}, "roles: 'viewer' is no role: write such as roles/logging.logWriter."),
        ({"members": ["a@b.c"]}, "members: 'a@b.c' is no IAM member: write such as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com."),
    ],
)
def test_refused(google, run_google, arguments, message):
    assert run_google(main, **{"roles": ["roles/viewer"], "members": [MEMBER], **arguments})["msg"] == message
    assert google.api.requests == []
