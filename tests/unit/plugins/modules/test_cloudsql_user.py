# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloudsql_user import main

PATH = "/v1/projects/my-project/instances/prefect/users"
PASSWORD = "made-up-password"


@pytest.fixture
def run(google, run_google):
    users = google.objects[PATH] = {"items": [{"name": "postgres"}]}

    def write(request):
        if request["method"] == "POST":
            users["items"].append({key: value for key, value in request["body"].items() if key != "password" and value != "BUILT_IN"})
        elif request["method"] == "DELETE":
            users["items"].pop()
        return 200, google.operation(PATH)

    for method in ("POST", "PUT", "DELETE"):
        google.api.routes[f"{method} {PATH}"] = write
    call = functools.partial(run_google, main, instance="prefect", name="prefect")

    def run_without_a_leak(**arguments):
        result = call(**arguments)
        assert PASSWORD not in result["_output"]
        return result

    return run_without_a_leak


def test_create_then_delete(google, run):
    checked = run(password=PASSWORD, check_mode=True)
    assert google.written() == []
    done = run(password=PASSWORD)
    assert google.written() == [(f"POST {PATH}", {"name": "prefect", "type": "BUILT_IN", "password": PASSWORD})]
    assert (done["changed"], done["diff"]) == (checked["changed"], checked["diff"])
    assert done["diff"] == {"before": {}, "after": {"name": "prefect", "type": "BUILT_IN", "password": "(set by this task)"}}
    assert done["user"] == checked["user"] == {"type": "BUILT_IN", "name": "prefect"} or done["user"]["type"] == "BUILT_IN"
    assert "password" not in done["user"]

    for arguments in ({"password": PASSWORD}, {"password": "another"}, {}):
        assert run(**arguments)["changed"] is False
        assert google.written() == []
    assert google.reads() == [PATH]

    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    done = run(state="absent")
    assert google.written() == [(f"DELETE {PATH}?name=prefect", None)]
    assert done["user"] == {}
    assert run(state="absent")["changed"] is False


def test_another_password(google, run):
    run(password=PASSWORD)
    checked = run(password=PASSWORD, update_password="always", check_mode=True)
    assert google.written() == []
    done = run(password=PASSWORD, update_password="always")
    assert google.written() == [(f"PUT {PATH}?name=prefect", {"name": "prefect", "type": "BUILT_IN", "password": PASSWORD})]
    assert done["changed"] is checked["changed"] is True
    assert done["diff"]["before"] == {"name": "prefect", "type": "BUILT_IN"}


def test_a_service_account(google, run):
    account = {"name": "prefect@my-project.iam", "type": "CLOUD_IAM_SERVICE_ACCOUNT"}
    assert run(**account)["changed"] is True
    assert google.written() == [(f"POST {PATH}", account)]
    assert run(**account)["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "password: the user 'prefect' does not exist yet: give the password to create them with."),
        ({"name": "cloudsqlfoo"}, "name: 'cloudsqlfoo' begins as Google's or PostgreSQL's own users do: choose another name."),
        ({"name": "pg_foo"}, "name: 'pg_foo' begins as Google's or PostgreSQL's own users do: choose another name."),
        ({"name": "a@b.c", "type": "CLOUD_IAM_USER", "password": PASSWORD}, "password: a user of type CLOUD_IAM_USER has none: leave it out."),
        (
            {"name": "a@p.iam.gserviceaccount.com", "type": "CLOUD_IAM_SERVICE_ACCOUNT"},
            "name: PostgreSQL's name of the service account a@p.iam.gserviceaccount.com is shorter: write a@p.iam.",
        ),
        (
            {"name": "a", "type": "CLOUD_IAM_GROUP"},
            "name: 'a' is no e-mail address, which a user of type CLOUD_IAM_GROUP is named by: write the address.",
        ),
        (
            {"name": "postgres", "password": PASSWORD, "type": "BUILT_IN", "update_password": "never"},
            "value of update_password must be one of: on_create, always, got: never",
        ),
    ],
)
def test_refused(google, run, arguments, message):
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **arguments)["msg"] == message
        assert google.written() == []


def test_a_type_is_for_ever(google, run):
    google.objects[PATH]["items"].append({"name": "a@b.c"})
    message = "type: the user 'a@b.c' is of type BUILT_IN, which cannot be changed to CLOUD_IAM_USER: write BUILT_IN, or delete the user first (state: absent)."
    assert run(name="a@b.c", type="CLOUD_IAM_USER")["msg"] == message
    assert google.written() == []
