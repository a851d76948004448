# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.secret_manager_secret import main

COLLECTION = "/v1/projects/my-project/secrets"
PATH = f"{COLLECTION}/pass"
NUMBERED = "projects/123456789012/secrets/pass"
VALUE = "made-up-value"


class Versions:
    """The versions of one secret."""

    def __init__(self, google):
        self.google = google
        self.values: list[str | None] = []
        # What else than ENABLED or DESTROYED the latest one is.
        self.state = ""
        google.api.routes[f"POST {PATH}:addVersion"] = self.add
        google.api.routes[f"GET {PATH}/versions/latest:access"] = self.access
        google.api.routes[f"GET {PATH}/versions"] = lambda _request: (200, {"versions": self.list()})
        for number in range(1, 6):
            google.api.routes[f"POST {PATH}/versions/{number}:destroy"] = self.destroy

    def list(self):
        return [{"name": f"{NUMBERED}/versions/{number}", "state": "DESTROYED" if value is None else "ENABLED"} for number, value in enumerate(self.values, 1)]

    def add(self, request):
        self.values.append(base64.b64decode(request["body"]["payload"]["data"]).decode())
        return 200, self.list()[-1]

    def access(self, _request):
        if not self.values:
            return 404, {"error": {"code": 404, "message": "Not found.", "status": "NOT_FOUND"}}
        if self.values[-1] is None or self.state:
            self.google.objects[f"{PATH}/versions/latest"] = {**self.list()[-1], **({"state": self.state} if self.state else {})}
            return 400, {"error": {"code": 400, "message": "It is not in ENABLED state.", "status": "FAILED_PRECONDITION"}}
        return 200, {"name": f"{NUMBERED}/versions/{len(self.values)}", "payload": {"data": base64.b64encode(self.values[-1].encode()).decode()}}

    def destroy(self, request):
        self.values[int(request["path"].rpartition("/")[2].partition(":")[0]) - 1] = None
        return 200, {}


@pytest.fixture
def versions(google):
    return Versions(google)


@pytest.fixture
def run(google, versions, run_google):
    return functools.partial(run_google, main, name="pass")


def test_a_value(google, versions, run):
    checked = run(value=VALUE, check_mode=True)
    assert google.written() == []
    done = run(value=VALUE)
    assert google.written() == [
        (f"POST {COLLECTION}?secretId=pass", {"replication": {"automatic": {}}}),
        (f"POST {PATH}:addVersion", {"payload": {"data": base64.b64encode(VALUE.encode()).decode()}}),
    ]
    assert (done["changed"], done["diff"]) == (checked["changed"], checked["diff"])
    assert (checked["version"], done["version"]) == ("", "1")
    assert done["diff"]["before"] == {"value": "none"}
    assert VALUE not in done["_output"]
    assert "value" not in done

    again = run(value=VALUE)
    assert (again["changed"], again["version"], google.written()) == (False, "1", [])
    assert google.reads() == [PATH, f"{PATH}/versions/latest:access"]
    assert run()["version"] == "1"

    checked = run(value="another", check_mode=True)
    assert google.written() == []
    other = run(value="another", return_value=True)
    assert (other["changed"], other["diff"], other["version"], other["value"]) == (True, checked["diff"], "2", "another")
    assert other["diff"]["before"]["value"] != other["diff"]["after"]["value"]

    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    gone = run(state="absent")
    assert (gone["changed"], gone["secret"], gone["version"]) == (True, {}, "")
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert run(state="absent")["changed"] is False


def test_a_value_that_is_made(google, versions, run):
    checked = run(generate=True, return_value=True, check_mode=True)
    assert "value" not in checked
    done = run(generate=True, return_value=True, length=50)
    assert done["diff"] == checked["diff"]
    assert done["diff"]["after"]["value"] == "made at random"
    assert versions.values == [done["value"]]
    assert len(done["value"]) == 50
    assert done["value"].isalnum()
    again = run(generate=True, return_value=True)
    assert (again["changed"], again["value"]) == (False, done["value"])
    assert done["value"] not in run(generate=True)["_output"]


def test_a_value_that_is_made_with_a_prefix(google, versions, run):
    made = run(generate=True, prefix="prefect:", length=20, return_value=True)["value"]
    assert made.startswith("prefect:")
    assert len(made) == len("prefect:") + 20
    assert run(generate=True, prefix="other:")["changed"] is False


def test_a_secret_without_a_value(google, versions, run):
    done = run(return_value=True)
    assert (done["changed"], done["version"]) == (True, "")
    assert "value" not in done
    assert run()["changed"] is False


def test_a_run_that_stopped_before_the_version(google, versions, run):
    google.objects[PATH] = {"name": NUMBERED}
    assert run(generate=True)["version"] == "1"
    versions.values[-1] = None
    assert run(generate=True)["version"] == "2"


def test_a_version_that_somebody_has_disabled(google, versions, run):
    google.objects[PATH] = {"name": NUMBERED}
    versions.values += ["a", "b"]
    versions.state = "DISABLED"
    message = "the latest version of the secret 'pass', 2, is disabled: enable it again, or destroy it to have a new value made."
    for check_mode in (True, False):
        assert run(generate=True, check_mode=check_mode)["msg"] == message
        assert google.written() == []
    # Nothing is made where nothing was asked for, and what is given is known anyway.
    assert run(labels={"n": 1})["version"] == ""
    versions.state = ""
    assert run(generate=True)["version"] == "2"
    assert f"{PATH}/versions/latest" not in google.reads()
    versions.state = "DISABLED"
    assert run(value=VALUE)["changed"] is True


def test_a_version_that_cannot_be_had_for_another_reason(google, versions, run):
    google.objects[PATH] = {"name": NUMBERED}
    versions.values.append("a")
    # Its key in Cloud KMS is disabled.
    versions.state = "ENABLED"
    for arguments in ({"generate": True}, {"value": VALUE}):
        assert run(**arguments)["msg"].endswith("HTTP 400: It is not in ENABLED state.")
        assert google.written() == []


def test_what_google_says_of_a_version(google, versions, run):
    google.objects[PATH] = {"name": NUMBERED}
    google.fail(f"GET {PATH}/versions/latest:access", 403, "Permission 'secretmanager.versions.access' denied", "PERMISSION_DENIED")
    assert "roles/secretmanager.admin (or what else holds secretmanager.versions.access)" in run(value=VALUE)["msg"]
    assert google.written() == []


def test_old_versions_go(google, versions, run):
    for value in ("a", "b", None, "d"):
        versions.values.append(value)
    google.objects[PATH] = {"name": NUMBERED}
    assert run(value="d", keep_versions=3)["changed"] is False
    checked = run(value="e", keep_versions=2, check_mode=True)
    assert checked["diff"]["before"]["versions_to_destroy"] == ["1", "2"]
    assert google.written() == []
    done = run(value="e", keep_versions=2)
    assert done["diff"] == checked["diff"]
    assert versions.values == [None, None, None, "d", "e"]
    assert run(keep_versions=2)["changed"] is False
    google.written()
    checked = run(keep_versions=1, check_mode=True)
    assert (checked["changed"], checked["diff"]["before"]["versions_to_destroy"], google.written()) == (True, ["4"], [])
    assert run(keep_versions=1)["diff"] == checked["diff"]
    assert versions.values == [None, None, None, None, "e"]


def test_labels_and_places(google, versions, run):
    run(labels={"n": 1}, replica_locations=["a", "b"])
    place = {"userManaged": {"replicas": [{"location": "a"}, {"location": "b"}]}}
    assert google.written() == [(f"POST {COLLECTION}?secretId=pass", {"replication": place, "labels": {"n": "1"}})]
    assert run(replica_locations=["b", "a"], labels={"n": 1})["changed"] is False
    assert run(labels={"m": 2})["secret"]["labels"] == {"n": "1", "m": "2"}
    assert google.written() == [(f"PATCH {PATH}?updateMask=labels", {"labels": {"n": "1", "m": "2"}})]
    message = "replica_locations: the secret 'pass' is kept elsewhere, which cannot be changed: correct the task, or use another name."
    assert run(replica_locations=["a"])["msg"] == message
    assert google.written() == []


def test_who_may_read_it(google, versions, run):
    google.objects[PATH] = {"name": NUMBERED}
    google.objects[f"{PATH}:getIamPolicy"] = {"etag": "x"}
    google.api.routes[f"POST {PATH}:setIamPolicy"] = lambda request: (200, google.objects[f"{PATH}:getIamPolicy"].update(request["body"]["policy"]) or {})
    members = ["serviceAccount:a@my-project.iam.gserviceaccount.com"]
    checked = run(accessors=members, check_mode=True)
    assert google.written() == []
    done = run(accessors=members)
    assert (done["changed"], done["diff"]) == (True, checked["diff"])
    assert done["diff"]["after"]["roles/secretmanager.secretAccessor"] == members
    assert run(accessors=members)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a/b"}, "name: 'a/b' is no name of a secret: write letters, digits, hyphens and underscores."),
        ({"value": "ä" * 32769}, "value is larger than the 64 KiB that a secret holds: shorten it."),
        ({"value": ""}, "value is empty: write a value, or leave it out."),
        ({"length": 15}, "length is 15, which is too short: write 16 or more."),
        ({"keep_versions": 0}, "keep_versions is 0: write 1 or more."),
        (
            {"accessors": ["allUsers"]},
            "accessors: 'allUsers' is no IAM member for a secret: write such as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com.",
        ),
        ({"value": VALUE, "generate": True}, "parameters are mutually exclusive: value|generate"),
    ],
)
def test_refused(google, run, arguments, message):
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **arguments)["msg"] == message
    assert google.api.requests == []
