# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import importlib.util
import json
import sys
import typing as t

import google.auth.exceptions
import google.oauth2.credentials
import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils import _gcp
from ansible_collections.selfhost.prefect.plugins.module_utils._gcp import (
    GcpClient,
    GcpError,
    PendingError,
    Resource,
    converge,
    converge_members,
    given,
    make_credentials,
    overlaid,
    run_module,
    seen,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import assume
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

PARAMS = {
    "project": "my-project",
    "auth_kind": "application",
    "access_token": None,
    "service_account_file": None,
    "service_account_contents": None,
    "service_account_email": None,
    "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
}
POLICY_PATH = "v3/projects/my-project"


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def make_client(google, told):
    def make(check_mode: bool = False, timeout: float = 600, credentials: t.Any = None) -> GcpClient:
        return GcpClient(credentials or google_credentials(), "my-project", timeout, check_mode, told.append)

    return make


def google_credentials(**options: str) -> t.Any:
    return google.oauth2.credentials.Credentials("not-a-real-token", **options)


@pytest.fixture
def client(make_client) -> GcpClient:
    return make_client()


@pytest.fixture(scope="session")
def key() -> dict[str, str]:
    """The key of a service account that nobody has."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "type": "service_account",
        "client_email": "a@my-project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": "http://127.0.0.1:9/token",
    }


# Credentials


def test_an_access_token():
    assert make_credentials({**PARAMS, "auth_kind": "accesstoken", "access_token": "x"}).token == "x"
    with pytest.raises(GcpError, match=r"^access_token is missing, and auth_kind is accesstoken: give what `gcloud auth print-access-token` prints\.$"):
        make_credentials({**PARAMS, "auth_kind": "accesstoken"})


def test_the_account_of_the_machine():
    assert make_credentials({**PARAMS, "auth_kind": "machineaccount"}).service_account_email == "default"
    assert make_credentials({**PARAMS, "auth_kind": "machineaccount", "service_account_email": "a@b.c"}).service_account_email == "a@b.c"


def test_a_service_account(key, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    for option, value in {"service_account_file": str(path), "service_account_contents": json.dumps(key)}.items():
        assert make_credentials({**PARAMS, "auth_kind": "serviceaccount", option: value}).service_account_email == key["client_email"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "auth_kind is serviceaccount, and neither of service_account_file and service_account_contents is set: give one of them."),
        (
            {"service_account_file": "/a", "service_account_contents": "{}"},
            "auth_kind is serviceaccount, and both of service_account_file and service_account_contents is set: give one of them.",
        ),
        (
            {"service_account_file": "/nowhere/key.json"},
            "service_account_file /nowhere/key.json cannot be read (No such file or directory): give the path of a key file on the controller.",
        ),
        (
            {"service_account_contents": "private: x"},
            "service_account_contents holds no key of a service account: give the JSON that Google made with the key, unchanged.",
        ),
        (
            {"service_account_contents": "[]"},
            "service_account_contents holds no key of a service account: give the JSON that Google made with the key, unchanged.",
        ),
        (
            {"service_account_contents": "{}"},
            "service_account_contents holds no key of a service account: give the JSON that Google made with the key, unchanged.",
        ),
    ],
)
def test_a_service_account_that_is_none(options, message):
    with pytest.raises(GcpError) as error:
        make_credentials({**PARAMS, "auth_kind": "serviceaccount", **options})
    assert str(error.value) == message


def test_application_default_credentials(key, tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert make_credentials(PARAMS).service_account_email == key["client_email"]
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(GcpError, match=r"there are no application default credentials \(File /nowhere/key.json was not found\): run `gcloud auth application-"):
        make_credentials(PARAMS)


@pytest.mark.parametrize("elsewhere", [{}, {"quota_project_id": "last-used-project"}])
def test_what_a_person_asks_counts_as_the_projects(elsewhere, tmp_path, monkeypatch):
    path = tmp_path / "person.json"
    path.write_text(json.dumps({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r", **elsewhere}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    person = {**PARAMS, "auth_kind": "application"}
    token = {**PARAMS, "auth_kind": "accesstoken", "access_token": "x"}
    assert [make_credentials(params).quota_project_id for params in (person, token)] == ["my-project"] * 2
    # Google's own variable says otherwise.
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "central-project")
    assert [make_credentials(params).quota_project_id for params in (person, token)] == ["central-project"] * 2


def test_what_a_service_account_asks_counts_as_its_own_projects(key, tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    path.write_text(json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for params in ({"auth_kind": "application"}, {"auth_kind": "serviceaccount", "service_account_file": str(path)}, {"auth_kind": "machineaccount"}):
        assert make_credentials({**PARAMS, **params}).quota_project_id is None


# Talking


def test_where_the_apis_are(monkeypatch):
    asked = []

    def request(method, url, **_options):
        asked.append((method, url))
        raise _gcp.requests.ConnectionError("x")

    client = GcpClient(google_credentials(), "my-project", timeout=0, check_mode=False, tell=print)
    monkeypatch.setattr(client._session, "request", request)
    for api in _gcp.APIS:
        with pytest.raises(GcpError):
            client.get(api, "v1/x")
    assert ("GET", "https://sqladmin.googleapis.com/v1/x") in asked
    assert ("GET", "https://compute.googleapis.com/compute/v1/v1/x") in asked


def test_other_endpoints(monkeypatch):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://127.0.0.1:1")
    assert _gcp.api_endpoint("compute") == "http://127.0.0.1:1/compute/v1/"
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://127.0.0.1:1/other/")
    assert _gcp.api_endpoint("compute") == "http://127.0.0.1:1/other/"


def test_read(google, client):
    google.objects["/v1/a"] = {"name": "a"}
    assert client.get("sql", "v1/a") == {"name": "a"}
    assert client.get("sql", "v1/b") is None
    assert google.api.requests[0]["headers"]["Authorization"] == "Bearer not-a-real-token"
    assert google.api.requests[0]["headers"]["User-Agent"] == "ansible selfhost.prefect"


def test_who_may_not_use_the_projects_quota_goes_on_without(google, make_client, naps):
    def answer(request):
        if "x-goog-user-project" in request["headers"]:
            details = [{"reason": "USER_PROJECT_DENIED", "metadata": {"consumer": "projects/my-project"}}]
            return 403, {"error": {"code": 403, "message": "Caller does not have required permission.", "status": "PERMISSION_DENIED", "details": details}}
        return 200, {"name": "a"}

    google.api.routes["POST /v1/a"] = answer
    client = make_client(credentials=google_credentials(quota_project_id="my-project"))
    assert client.request("sql", "POST", "v1/a") == {"name": "a"}
    assert google.api.requests[0]["headers"]["x-goog-user-project"] == "my-project"
    assert client.request("sql", "POST", "v1/a") == {"name": "a"}
    assert (len(google.api.requests), naps) == (3, [])


def test_a_service_account_that_may_not_use_a_quota_is_told_so(google, client):
    google.fail("GET /v1/a", 403, "Denied.", details=[{"reason": "USER_PROJECT_DENIED"}])
    with pytest.raises(GcpError, match="Denied"):
        client.get("sql", "v1/a")
    assert len(google.api.requests) == 1


def test_names_in_paths():
    assert GcpClient.quote("a b@c/d") == "a%20b%40c%2Fd"


def test_read_all_pages(google, client):
    pages = {"": {"items": [1, 2], "nextPageToken": "t"}, "pageToken=t": {"nextPageToken": "u"}, "pageToken=u": {"items": [3]}}
    google.api.routes["GET /v1/list"] = lambda request: (200, pages[request["query"]])
    assert client.list("sql", "v1/list", "items") == [1, 2, 3]
    assert client.list("sql", "v1/nothing", "items") == []


@pytest.mark.parametrize(("method", "status", "tries"), [("GET", 500, 6), ("PATCH", 502, 6), ("POST", 503, 6), ("POST", 500, 1), ("GET", 400, 1)])
def test_what_passes_is_tried_again(google, client, naps, *, method, status, tries):
    google.fail(f"{method} /v1/x", status, "No.")
    with pytest.raises(GcpError, match=f"HTTP {status}: No"):
        client.request("sql", method, "v1/x")
    assert len(google.api.requests) == tries
    assert naps == [1, 2, 4, 8, 16][: tries - 1]
    google.api.routes[f"{method} /v1/x"] = [(503, {}), (429, {"error": {"code": 429, "message": "Slow"}}), (200, {"ok": 1})]
    assert client.request("sql", method, "v1/x") == {"ok": 1}


def test_another_operation_is_waited_for(google, client, naps):
    busy = {"error": {"code": 409, "message": "Busy.", "errors": [{"reason": "operationInProgress"}]}}
    google.api.routes["PATCH /v1/x"] = [(409, busy)] * 3 + [(200, {"name": "x"})]
    assert client.write("sql", "PATCH", "v1/x", {}) == {"name": "x"}
    assert naps == [10, 10, 10]
    google.api.routes["PATCH /v1/x"] = (409, busy)
    with pytest.raises(PendingError, match=r"^another operation takes longer than 600 s \(.* HTTP 409: Busy\): run this again later\.$"):
        client.write("sql", "PATCH", "v1/x", {})
    assert sum(naps) == pytest.approx(630, abs=1)


@pytest.mark.parametrize(
    ("api", "path", "first", "where"),
    [
        ("sql", "v1/projects/p/instances", {"kind": "sql#operation", "name": "op", "targetProject": "p", "status": "PENDING"}, "/v1/projects/p/operations/op"),
        (
            "compute",
            "projects/p/global/addresses",
            {
                "kind": "compute#operation",
                "name": "op",
                "selfLink": "https://www.googleapis.com/compute/v1/projects/p/global/operations/op",
                "status": "RUNNING",
            },
            "/compute/v1/projects/p/global/operations/op",
        ),
        ("run", "v2/projects/p/locations/r/services", {"name": "projects/p/locations/r/operations/op"}, "/v2/projects/p/locations/r/operations/op"),
        ("servicenetworking", "v1/services/s/connections", {"name": "operations/op"}, "/v1/operations/op"),
    ],
)
def test_operations(google, client, naps, *, api, path, first, where):
    prefix = "/compute/v1/" if api == "compute" else "/"
    google.api.routes[f"POST {prefix}{path}"] = (200, first)
    done = {**first, "status": "DONE"} if "status" in first else {**first, "done": True}
    google.api.routes[f"GET {where}"] = [(200, first), (200, first), (200, done)]
    assert client.write(api, "POST", path, {}) == done
    assert naps == [0.5, 1, 2]

    google.api.routes[f"GET {where}"] = (200, first)
    with pytest.raises(GcpError, match=r"operations/op has not finished within 600 s, and goes on at Google: run this again, which waits for it"):
        client.write(api, "POST", path, {})


def test_a_person_who_waits_is_told_now_and_then(google, client, naps, monkeypatch):
    shown = []
    monkeypatch.setattr(_gcp, "show", shown.append)
    first = {"name": "projects/p/locations/r/operations/op"}
    google.api.routes["POST /v2/projects/p/locations/r/services"] = (200, first)
    google.api.routes["GET /v2/projects/p/locations/r/operations/op"] = [(200, first)] * 12 + [(200, {**first, "done": True})]
    client.write("run", "POST", "v2/projects/p/locations/r/services", {})
    assert naps == [0.5, 1, 2, 4] + [8] * 9
    assert shown == [f"Waiting for v2/projects/p/locations/r/operations/op, {seconds} s so far" for seconds in (32, 64)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ({"errors": [{"code": "X", "message": "No disk."}, {"code": "INTERNAL_ERROR"}]}, "run: No disk; INTERNAL_ERROR."),
        (
            {"errors": [{"code": "QUOTA_EXCEEDED", "message": "Quota 'ROUTERS' exceeded."}]},
            "run: Quota 'ROUTERS' exceeded: wait, or ask for a greater quota on the quotas page of my-project.",
        ),
        ({"code": 7, "message": "Denied on secret."}, "run: Denied on secret: grant roles/run.admin in my-project to the account in use."),
        ({"code": 9, "message": "Container failed to start."}, "run: Container failed to start."),
    ],
)
def test_an_operation_that_fails(google, client, error, message):
    google.api.routes["POST /v2/x"] = (200, {"name": "operations/op", "done": True, "error": error})
    with pytest.raises(GcpError) as caught:
        client.write("run", "POST", "v2/x", {})
    assert str(caught.value) == message


DISABLED = {
    "status": "PERMISSION_DENIED",
    "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED", "metadata": {"service": "sqladmin.googleapis.com"}}],
}


def disabled_in(consumer: str) -> dict[str, t.Any]:
    return {"details": [{"reason": "SERVICE_DISABLED", "metadata": {"service": "sqladmin.googleapis.com", "consumer": f"projects/{consumer}"}}]}


NO_QUOTA = "Your application is authenticating by using local credentials. The x API requires a quota project, which is not set by default"
ENABLE = "enable the API by `gcloud services enable sqladmin.googleapis.com --project my-project`, and give it some minutes"
TO_WHOM = "in my-project to the account in use"
ACT_AS = "Permission 'iam.serviceaccounts.actAs' denied on service account x"


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, {"message": "Cloud SQL Admin API has not been used.\nMore.", **DISABLED}, f"Cloud SQL Admin API has not been used: {ENABLE}."),
        (403, {"message": "Not used.", **disabled_in("my-project")}, f"Not used: {ENABLE}."),
        (
            403,
            {"message": "Not used.", **disabled_in("123")},
            f"Not used: {ENABLE.replace('my-project', '123')}; what these credentials ask counts as that project's.",
        ),
        (
            403,
            {"message": f"{NO_QUOTA}.", **disabled_in("123")},
            f"{NO_QUOTA}: grant roles/serviceusage.serviceUsageConsumer {TO_WHOM}.",
        ),
        (400, {"message": "Service account a@b.c does not exist."}, "Service account a@b.c does not exist: create it first, or correct its name."),
        (403, {"message": "Access Not Configured.", "errors": [{"reason": "accessNotConfigured"}]}, f"Access Not Configured: {ENABLE}."),
        (
            403,
            {"message": "The client is not authorized.", "errors": [{"reason": "notAuthorized"}]},
            f"The client is not authorized: grant roles/cloudsql.admin {TO_WHOM}.",
        ),
        (
            403,
            {"message": "Permission 'a.b.get' denied on x", "status": "PERMISSION_DENIED"},
            f"Permission 'a.b.get' denied on x: grant roles/cloudsql.admin (or what else holds a.b.get) {TO_WHOM}.",
        ),
        (
            403,
            {"message": "Denied.", "status": "PERMISSION_DENIED", "details": [{"reason": "IAM_PERMISSION_DENIED", "metadata": {"permission": "a.b.c"}}]},
            f"Denied: grant roles/cloudsql.admin (or what else holds a.b.c) {TO_WHOM}.",
        ),
        (
            403,
            {"message": ACT_AS, "status": "PERMISSION_DENIED"},
            f"{ACT_AS}: grant roles/iam.serviceAccountUser on that service account to the account in use.",
        ),
        (429, {"message": "Quota.", "status": "RESOURCE_EXHAUSTED"}, "Quota: wait, or ask for a greater quota on the quotas page of my-project."),
        (
            400,
            {"message": "Invalid.", "status": "INVALID_ARGUMENT", "details": [{"fieldViolations": [{"field": "tier", "description": "no such tier"}]}]},
            "Invalid; tier: no such tier.",
        ),
    ],
)
def test_what_google_says(google, client, status, error, message):
    google.api.routes["GET /v1/x"] = (status, {"error": {"code": status, **error}})
    with pytest.raises(GcpError) as caught:
        client.get("sql", "v1/x")
    assert str(caught.value) == f"GET http://127.0.0.1:{google.api.port}/v1/x: HTTP {status}: {message}"


def test_a_right_is_missing_and_the_account_is_known(google, make_client, key):
    credentials = make_credentials({**PARAMS, "auth_kind": "serviceaccount", "service_account_contents": json.dumps(key)})
    client = make_client(credentials=credentials)
    client._session.credentials = google_credentials()
    google.fail("GET /v1/x", 403, "Denied.", "PERMISSION_DENIED")
    with pytest.raises(GcpError, match=r"in my-project to serviceAccount:a@my-project\.iam\.gserviceaccount\.com\.$"):
        client.get("sql", "v1/x")


@pytest.mark.parametrize("content", ["<html>", "[]", '{"error": "invalid_grant"}', "{}"])
def test_an_error_without_googles_words(google, client, content):
    google.api.routes["GET /v1/x"] = (400, content)
    with pytest.raises(GcpError, match=r"HTTP 400, without Google's words for it\.$"):
        client.get("sql", "v1/x")


def test_an_answer_that_is_no_json(google, client):
    google.api.routes["GET /v1/x"] = (200, "<html>")
    with pytest.raises(GcpError, match=r"the answer is not Google's JSON: look for a proxy in between, or correct the endpoint\.$"):
        client.get("sql", "v1/x")
    google.api.routes["GET /v1/x"] = (200, "")
    assert client.get("sql", "v1/x") == {}


def test_a_token_that_google_refuses(google, client):
    google.fail("GET /v1/x", 401, "Request had invalid authentication credentials.", errors=[{"reason": "authError"}])
    message = r"Request had invalid authentication credentials: renew the credentials, or give others; an access token lasts an hour\.$"
    with pytest.raises(GcpError, match=message):
        client.get("sql", "v1/x")
    assert len(google.api.requests) == 1


def test_credentials_that_google_does_not_renew(google, make_client, monkeypatch):
    def refresh(_request):
        raise google_auth_exceptions.RefreshError("invalid_grant: Token has been expired or revoked.", {"error": "invalid_grant"})

    google_auth_exceptions = _gcp.google.auth.exceptions
    google.fail("GET /v1/x", 401, "Expired.", "UNAUTHENTICATED")
    client = make_client(credentials=google_credentials(refresh_token="r"))
    monkeypatch.setattr(client._session.credentials, "refresh", refresh)
    with pytest.raises(GcpError) as caught:
        client.get("sql", "v1/x")
    words = "invalid_grant: Token has been expired or revoked"
    assert str(caught.value) == f"Google refused the credentials ({words}): renew the credentials, or give others."


def test_no_token_can_be_had(google, client, monkeypatch):
    def fail(*_arguments, **_options):
        raise google_transport_error

    google_transport_error = _gcp.google.auth.exceptions.TransportError("The metadata server does not answer.\nMore")
    monkeypatch.setattr(client._session, "request", fail)
    with pytest.raises(GcpError, match=r"^no access token could be had \(The metadata server does not answer\): look at auth_kind"):
        client.get("sql", "v1/x")
    google_transport_error = _gcp.google.auth.exceptions.RefreshError()
    with pytest.raises(GcpError, match=r"^Google refused the credentials \(RefreshError\)"):
        client.get("sql", "v1/x")


def test_nobody_answers(client, naps, monkeypatch, certificate, raw_server):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SQL", "http://127.0.0.1:9/")
    with pytest.raises(GcpError, match=r"nothing listens on http://127.0.0.1:9/: start the server, or correct the address\.$"):
        client.get("sql", "v1/x")
    assert naps == [1, 2, 4, 8, 16]
    naps.clear()
    with pytest.raises(GcpError):
        client.request("sql", "POST", "v1/x")
    assert naps == []
    server = raw_server(lambda connection: connection.recv(1), certificate.context)
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SQL", f"https://127.0.0.1:{server.port}/")
    with pytest.raises(GcpError, match=r"is not trusted .*: trust its authority by REQUESTS_CA_BUNDLE\.$"):
        client.get("sql", "v1/x")


def test_a_dry_run_before_the_api_is_enabled(google, make_client, told):
    google.fail("GET /v1/x", 403, "Not used.", **DISABLED)
    assert make_client(check_mode=True).get("sql", "v1/x") is None
    assert told[0].endswith("and give it some minutes. Until then, this goes on as if nothing were there.")


# Comparing


@pytest.mark.parametrize(
    ("wanted", "current", "expected"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, None, {}),
        ({"a": 10}, {"a": "10"}, {"a": 10}),
        ({"a": False, "b": 0, "c": "", "d": []}, {}, {"a": False, "b": 0, "c": "", "d": []}),
        ({"a": True}, {"a": 1}, {"a": 1}),
        ({"a": None}, {"b": 1}, {"a": None}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": 5}, {"a": {}}),
        (
            {"a": "projects/p/global/networks/n"},
            {"a": "https://www.googleapis.com/compute/v1/projects/p/global/networks/n"},
            {"a": "projects/p/global/networks/n"},
        ),
        ({"a": [1]}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": "1", "c": 2}]}, {"a": [{"b": 1}]}),
        ({"a": [1, 2]}, {"a": [2, 1]}, {"a": [2, 1]}),
        ({"a": [1]}, {"a": {}}, {"a": []}),
        ({"set": [1, 2]}, {"set": [2, 1]}, {"set": [1, 2]}),
        ({"set": [1, 2]}, {"set": [3, 2]}, {"set": [2, 3]}),
        ({"flags": [{"name": "a"}, {"name": "b"}]}, {"flags": [{"name": "b"}, {"name": "a"}]}, {"flags": [{"name": "a"}, {"name": "b"}]}),
    ],
)
def test_seen(wanted, current, expected):
    assert seen(wanted, current, {"set": "", "flags": "name"}) == expected


def test_what_was_not_given():
    assert given({"a": None, "b": [{"c": None, "d": 1}], "e": {"f": None}}) == {"b": [{"d": 1}], "e": {}}


def test_overlaid():
    assert overlaid({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}
    assert overlaid(None, {"a": 1}) == {"a": 1}


# Bringing into the wanted state


class Thing(Resource):
    """A made-up object, whose kind has everything that a kind can have."""

    api = "sql"
    unordered: t.ClassVar = {"set": ""}
    defaults: t.ClassVar = {"kept": {"default": 1}}
    faults: t.ClassVar[list[str]] = []
    lacking: t.ClassVar[list[str]] = []
    rehearsed = 0

    def is_settled(self, current):
        return not current.get("busy")

    def check(self):
        if self.faults:
            raise GcpError(self.faults[0])

    def missing(self):
        return self.lacking

    def rehearse(self):
        self.rehearsed += 1

    def create(self):
        self.client.write("sql", "POST", "v1/things", {"name": self.name, **self.wanted})

    def finish(self, current):
        if current.get("broken"):
            raise GcpError("it is broken")


def thing(client, wanted, **attributes):
    made = Thing(client, "it", "v1/things/it", wanted)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def test_a_life(google, make_client):
    wanted = {"a": {"b": 1, "c": 2}, "set": [1, 2]}
    whole = {**wanted, "kept": {"default": 1}}
    checked = converge(thing(make_client(check_mode=True), wanted))
    assert google.written() == []
    done = converge(thing(make_client(), wanted))
    assert google.written() == [("POST /v1/things", {"name": "it", **whole})]
    assert done == checked | {"resource": {"name": "it", **whole}}
    assert done["diff"] == {"before": {}, "after": {"name": "it", **whole}}
    assert done["changed"] is True

    google.objects["/v1/things/it"].update(a={"b": "1", "c": 2, "filled": 9}, set=[2, 1], filled=9)
    google.api.requests.clear()
    assert converge(thing(make_client(), wanted))["changed"] is False
    assert google.api.asked() == ["GET /v1/things/it"]

    wanted["a"]["b"] = 5
    checked = converge(thing(make_client(check_mode=True), wanted))
    assert checked["resource"]["a"] == {"b": 5, "c": 2, "filled": 9}
    done = converge(thing(make_client(), wanted))
    assert google.written() == [("PATCH /v1/things/it", {"a": {"b": 5, "c": 2}})]
    assert done["diff"] == checked["diff"]
    assert done["diff"]["before"]["a"] == {"b": "1", "c": 2}

    checked = converge(thing(make_client(check_mode=True), None))
    assert "/v1/things/it" in google.objects
    done = converge(thing(make_client(), None))
    assert "/v1/things/it" not in google.objects
    assert done == checked == {"changed": True, "diff": {"before": {"name": "it"}, "after": {}}, "resource": {}}
    assert converge(thing(make_client(), None))["changed"] is False


def test_a_fault_is_refused_in_check_mode_too(google, make_client):
    for check_mode in (True, False):
        with pytest.raises(GcpError, match="no such tier"):
            converge(thing(make_client(check_mode), {"a": 1}, faults=["no such tier"]))
    assert google.written() == []
    google.objects["/v1/things/it"] = {"a": 1}
    assert converge(thing(make_client(), {"a": 1}, faults=["no such tier"]))["changed"] is False


def test_what_is_missing_is_foretold(google, make_client, told):
    made = thing(make_client(check_mode=True), {"a": 1}, lacking=["No subnet.", "No secret."])
    assert converge(made)["changed"] is True
    assert told == ["No subnet.", "No secret."]
    assert made.rehearsed == 0
    with pytest.raises(GcpError, match=r"^No subnet\. No secret\.$"):
        converge(thing(make_client(), {"a": 1}, lacking=["No subnet.", "No secret."]))
    assert google.written() == []
    made = thing(make_client(check_mode=True), {"a": 1})
    converge(made)
    assert made.rehearsed == 1


def test_what_another_run_has_begun_is_waited_for(google, make_client, naps):
    google.api.routes["GET /v1/things/it"] = [(200, {"busy": True})] * 2 + [(200, {"a": 1})]
    assert converge(thing(make_client(), {"a": 1}))["changed"] is False
    assert naps == [10, 10]
    google.api.routes["GET /v1/things/it"] = (200, {"busy": True, "a": 1})
    assert converge(thing(make_client(check_mode=True), {"a": 1}))["changed"] is False
    with pytest.raises(GcpError, match=r"^it has been changing for 600 s: look at it in Google's console, or set a longer timeout\.$"):
        converge(thing(make_client(), {"a": 1}))


def test_what_is_there_has_to_work(google, make_client):
    google.objects["/v1/things/it"] = {"a": 1, "broken": True}
    with pytest.raises(GcpError, match="it is broken"):
        converge(thing(make_client(), {"a": 1}))
    assert converge(thing(make_client(check_mode=True), {"a": 1}))["changed"] is False


def test_a_kind_that_is_never_created(client):
    plain = Resource(client, "x", "v1/x", {})
    plain.check()
    plain.rehearse()
    plain.finish({})
    assert plain.missing() == []
    assert plain.is_settled({}) is True
    with pytest.raises(NotImplementedError):
        plain.create()


# Google keeps what was written in ways of its own: int64 as text, names as URLs, nothing for zero, and more than was asked for.
kinds = [st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "projects/p/global/networks/n"])]
scalars = st.one_of(kinds)
trees = st.recursive(
    st.dictionaries(st.sampled_from("abc"), scalars, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.one_of(scalars, inner, st.lists(inner, max_size=2)), max_size=3),
    max_leaves=8,
)


def kept(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {"filled": 7, **{key: kept(part) for key, part in value.items() if part not in (0, "", [])}}
    if isinstance(value, list):
        return [kept(part) for part in value]
    if isinstance(value, str) and value.startswith("projects/"):
        return f"https://www.googleapis.com/compute/v1/{value}"
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class Server:
    """Keeps one object, and merges what is written to it."""

    check_mode = False
    timeout = 1

    def __init__(self, stored: t.Any) -> None:
        self.stored = stored
        self.writes = 0

    def get(self, _api: str, _path: str) -> t.Any:
        return copy.deepcopy(self.stored)

    def write(self, _api: str, method: str, _path: str, body: t.Any = None) -> None:
        self.writes += 1
        self.stored = None if method == "DELETE" else kept(overlaid(self.stored or {}, body))

    def tell(self, _text: str) -> None:
        raise AssertionError


@hypothesis_given(wanted=st.none() | trees, there=st.none() | trees)
def test_apply_settles_and_check_mode_predicts_it(wanted, there):
    server = Server(None if there is None else kept(there))
    server.check_mode = True
    foretold = converge(thing(server, wanted))
    assert server.writes == 0
    server.check_mode = False
    done = converge(thing(server, wanted))
    assert server.writes == int(done["changed"])
    assert (done["changed"], done["diff"]) == (foretold["changed"], foretold["diff"])
    again = converge(thing(server, wanted))
    assert again["changed"] is False
    assert again["diff"]["before"] == again["diff"]["after"]


@hypothesis_given(wanted=trees, values=st.one_of(st.tuples(kind, kind) for kind in kinds))
def test_each_drift_is_seen(wanted, values):
    old, new = values
    assume(old != new)
    result = converge(thing(Server(kept({**wanted, "a": old})), {**wanted, "a": new}))
    assert result["changed"] is True
    assert result["diff"]["before"].get("a") != new
    assert result["diff"]["after"] == {"name": "it", **wanted, "a": new}


# Who may do what


@pytest.fixture
def policy(google):
    """A project's policy, which is kept and guarded by its etag."""
    held = {
        "etag": "1",
        "bindings": [
            {"role": "roles/viewer", "members": ["user:b@example.com", "user:a@example.com"]},
            {"role": "roles/viewer", "members": ["user:c@example.com"], "condition": {"expression": "false"}},
        ],
    }

    def write(request):
        wanted = request["body"]["policy"]
        if wanted["etag"] != held["etag"]:
            return 409, {"error": {"code": 409, "message": "There were concurrent policy changes.", "status": "ABORTED"}}
        held.update(wanted, etag=str(int(held["etag"]) + 1))
        return 200, held

    google.api.routes[f"POST /{POLICY_PATH}:getIamPolicy"] = lambda _request: (200, held)
    google.api.routes[f"POST /{POLICY_PATH}:setIamPolicy"] = write
    return held


@pytest.mark.parametrize(
    ("role", "state", "members", "after"),
    [
        ("roles/viewer", "present", ["user:a@example.com"], None),
        ("roles/viewer", "present", ["user:d@example.com"], ["user:a@example.com", "user:b@example.com", "user:d@example.com"]),
        ("roles/viewer", "absent", ["user:a@example.com", "user:z@example.com"], ["user:b@example.com"]),
        ("roles/viewer", "absent", ["user:c@example.com"], None),
        ("roles/viewer", "exclusive", ["user:z@example.com"], ["user:z@example.com"]),
        ("roles/viewer", "exclusive", [], []),
        ("roles/editor", "present", ["user:a@example.com"], ["user:a@example.com"]),
        ("roles/editor", "absent", ["user:a@example.com"], None),
    ],
)
def test_members(google, make_client, policy, *, role, state, members, after):
    checked = converge_members(make_client(check_mode=True), "cloudresourcemanager", POLICY_PATH, [role], members=members, state=state)
    assert google.written() == []
    done = converge_members(make_client(), "cloudresourcemanager", POLICY_PATH, [role], members=members, state=state)
    assert done == checked
    assert done["changed"] is (after is not None)
    assert len(google.written()) == int(done["changed"])
    if done["changed"]:
        assert done["diff"]["after"] == {role: after}
        assert policy["version"] == 3
        assert [item["members"] for item in policy["bindings"] if item["role"] == role and "condition" not in item] == ([after] if after else [])
    assert {"role": "roles/viewer", "members": ["user:c@example.com"], "condition": {"expression": "false"}} in policy["bindings"]
    assert converge_members(make_client(), "cloudresourcemanager", POLICY_PATH, [role], members=members, state=state)["changed"] is False


def test_several_roles_are_one_change(google, client, policy):
    arguments = {"members": ["user:b@example.com"], "state": "present"}
    done = converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/viewer", "roles/editor", "roles/browser"], **arguments)
    assert done["diff"]["after"] == {
        "roles/viewer": ["user:a@example.com", "user:b@example.com"],
        "roles/editor": ["user:b@example.com"],
        "roles/browser": ["user:b@example.com"],
    }
    assert len(google.written()) == 1
    assert {item["role"] for item in policy["bindings"]} == {"roles/viewer", "roles/editor", "roles/browser"}


def test_somebody_else_changes_the_policy_meanwhile(google, client, policy, naps):
    old = copy.deepcopy(policy)
    policy["etag"] = "2"
    read = google.api.routes[f"POST /{POLICY_PATH}:getIamPolicy"]
    google.api.routes[f"POST /{POLICY_PATH}:getIamPolicy"] = [(200, old), read]
    arguments = {"members": ["user:d@example.com"], "state": "present"}
    assert converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/viewer"], **arguments)["changed"] is True
    assert policy["etag"] == "3"
    assert naps == [1]
    google.fail(f"POST /{POLICY_PATH}:setIamPolicy", 409, "There were concurrent policy changes.", "ABORTED")
    with pytest.raises(GcpError, match="concurrent"):
        converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/owner"], **arguments)
    google.fail(f"POST /{POLICY_PATH}:setIamPolicy", 400, "No such role.")
    with pytest.raises(GcpError, match="No such role"):
        converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/owner"], **arguments)


def test_an_account_that_iam_does_not_know_yet(google, client, policy, naps, monkeypatch):
    write = google.api.routes[f"POST /{POLICY_PATH}:setIamPolicy"]
    unknown = (400, {"error": {"code": 400, "message": "Service account a@b.c does not exist.", "status": "INVALID_ARGUMENT"}})
    arguments = {"members": ["serviceAccount:a@b.c"], "state": "present"}
    google.api.routes[f"POST /{POLICY_PATH}:setIamPolicy"] = [unknown] * 3 + [write]
    assert converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/viewer"], **arguments)["changed"] is True
    assert naps == [1, 2, 4]
    assert "serviceAccount:a@b.c" in policy["bindings"][0]["members"]

    naps.clear()
    google.api.routes[f"POST /{POLICY_PATH}:setIamPolicy"] = unknown
    shown = []
    monkeypatch.setattr(_gcp, "show", shown.append)
    with pytest.raises(GcpError, match=r"a@b.c does not exist: create it first, or correct its name\.$"):
        converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/editor"], **arguments)
    # It may be a mistake after all.
    assert "a@b.c does not exist" in shown[0]
    assert (naps[:6], 100 < sum(naps) <= 120) == ([1, 2, 4, 8, 16, 16], True)
    # Not longer than the task says.
    naps.clear()
    client.timeout = 5
    with pytest.raises(GcpError, match="does not exist"):
        converge_members(client, "cloudresourcemanager", POLICY_PATH, ["roles/editor"], **arguments)
    assert naps == [1, 2]


@pytest.mark.parametrize(("api", "path"), [("cloudresourcemanager", POLICY_PATH), ("iam", "v1/x"), ("run", "v2/x")])
def test_a_dry_run_of_a_policy_before_the_api_is_enabled(google, make_client, told, api, path):
    for method in ("GET", "POST"):
        google.fail(f"{method} /{path}:getIamPolicy", 403, "Not used.", **DISABLED)
    arguments = {"members": ["user:d@example.com"], "state": "present"}
    done = converge_members(make_client(check_mode=True), api, path, ["roles/viewer"], **arguments)
    assert done == {"changed": True, "diff": {"before": {"roles/viewer": []}, "after": {"roles/viewer": ["user:d@example.com"]}}}
    assert told[0].endswith("Until then, this goes on as if nothing were there.")
    with pytest.raises(GcpError, match="enable the API"):
        converge_members(make_client(), api, path, ["roles/viewer"], **arguments)


def test_each_api_reads_its_policies_in_its_own_way(google, client):
    arguments = {"members": ["user:d@example.com"], "state": "absent"}
    google.api.routes["POST /v1/x:getIamPolicy"] = (200, {})
    assert converge_members(client, "iam", "v1/x", ["roles/viewer"], **arguments)["changed"] is False
    assert converge_members(client, "run", "v2/x", ["roles/viewer"], **arguments)["changed"] is False
    query = "options.requestedPolicyVersion=3"
    assert [(request["method"], request["path"], request["query"]) for request in google.api.requests] == [
        ("POST", "/v1/x:getIamPolicy", query),
        ("GET", "/v2/x:getIamPolicy", query),
    ]


# Running


def run_it(run_module_fixture, run=lambda module, client: {"changed": False, "project": client.project}, **arguments):
    return run_module_fixture(lambda: run_module(run, {"name": {"type": "str"}}), **arguments)


def test_a_module(google, run_module, monkeypatch):
    monkeypatch.setenv("GCP_PROJECT", "my-project")
    monkeypatch.setenv("GCP_AUTH_KIND", "accesstoken")
    monkeypatch.setenv("GCP_ACCESS_TOKEN", "not-a-real-token")
    result = run_it(run_module)
    assert result["project"] == "my-project"
    assert "not-a-real-token" not in result["_output"]


def test_what_is_not_wrong_but_pending(google, run_module):
    arguments = {"project": "my-project", "auth_kind": "accesstoken", "access_token": "not-a-real-token"}
    for error in (GcpError("wrong"), PendingError("pending")):

        def run(module, client, error=error):
            raise error

        result = run_it(run_module, run, **arguments)
        assert (result["failed"], result["pending"]) == (True, str(error) == "pending.")


@pytest.mark.parametrize("project", ["My Project", "123456789012", "p", "my-project-"])
def test_a_project_by_its_name(google, run_module, project):
    result = run_it(run_module, project=project, auth_kind="accesstoken", access_token="not-a-real-token")
    assert result["msg"] == f"project is {project!r}, which is no project ID: write the ID, as `gcloud projects list` shows it, not the name or the number."


def test_without_googles_libraries(google, run_module, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.auth", None)
    spec = importlib.util.spec_from_file_location("without_google_auth", _gcp.__file__)
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    result = run_module(lambda: without.run_module(lambda *_: {}, {}), project="my-project")
    assert result["failed"] is True
    assert "Failed to import the required Python library (google-auth and requests)" in result["msg"]
