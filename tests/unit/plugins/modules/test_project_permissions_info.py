# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.selfhost.prefect.plugins.modules.project_permissions_info import main

PATH = "/v3/projects/my-project:testIamPermissions"
WANTED = ["cloudsql.instances.get", "cloudsql.instances.create"]


def test_which_are_missing(google, run_google):
    google.api.routes[f"POST {PATH}"] = lambda request: (200, {"permissions": request["body"]["permissions"][:1]})
    for check_mode in (True, False):
        result = run_google(main, check_mode=check_mode, permissions=WANTED)
        assert (result["changed"], result["missing"]) == (False, ["cloudsql.instances.create"])
    google.api.routes[f"POST {PATH}"] = (200, {})
    assert run_google(main, permissions=WANTED)["missing"] == sorted(WANTED)


def test_before_the_api_is_enabled(google, run_google):
    google.fail(f"POST {PATH}", 403, "Not used.", "PERMISSION_DENIED", details=[{"reason": "SERVICE_DISABLED"}])
    assert run_google(main, permissions=WANTED)["missing"] == []
    assert google.warnings[0].endswith("Until then, nobody can tell which permissions are missing.")
    google.fail(f"POST {PATH}", 400, "Odd.")
    assert run_google(main, permissions=WANTED)["msg"].endswith("HTTP 400: Odd.")
