# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all the services have in common: descriptions, callers, operations, the log."""

from __future__ import annotations

import json
import ssl
import threading
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import requests
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud, discovery, identity

from .conftest import PROJECT, Google

SECRETS = "/secretmanager.googleapis.com/v1/projects/example-project/secrets"
NETWORKS = "/compute.googleapis.com/compute/v1/projects/example-project/global/networks"


def ask(cloud: LocalCloud, method: str, path: str, body: t.Any = None, token: str = "owner", **headers: str) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
    return session.request(method, cloud.url + path, data=data, headers={"Authorization": f"Bearer {token}", **headers}, timeout=10)


def error_of(response: requests.Response) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", response.json()["error"])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"replicaton": {}}, 'Unknown name "replicaton": Cannot find field.'),
        ({"replication": {"automatic": {"kms": 1}}}, "Unknown name \"kms\" at 'replication.automatic'"),
        ({"replication": []}, "Invalid value at 'replication' (MESSAGE), []"),
        ({"labels": {"a": 1}}, "Invalid value at 'labels.a' (TYPE_STRING), 1"),
        ({"topics": {}}, "Invalid value at 'topics' (LIST), {}"),
        ({"topics": [{"name": True}]}, "Invalid value at 'topics[0].name' (TYPE_STRING), true"),
        ({"ttl": "1 day"}, "Invalid value at 'ttl' (type.googleapis.com/google.protobuf.Duration), \"1 day\""),
        ({"expireTime": "tomorrow"}, "Invalid value at 'expire_time' (type.googleapis.com/google.protobuf.Timestamp), \"tomorrow\""),
        ({"createTime": "2026-01-01T00:00:00Z"}, "Invalid value at 'create_time': the field is output only."),
    ],
)
def test_a_body_is_held_to_the_schema(cloud: LocalCloud, body: t.Any, text: str) -> None:
    response = ask(cloud, "POST", f"{SECRETS}?secretId=x", body)
    error = error_of(response)
    assert (response.status_code, error["status"]) == (400, "INVALID_ARGUMENT")
    assert text in error["message"]
    assert error["details"][0]["fieldViolations"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dataDiskSizeGb": "ten"}, "'settings.data_disk_size_gb' (TYPE_INT64)"),
        ({"dataDiskSizeGb": 2**63}, "'settings.data_disk_size_gb' (TYPE_INT64)"),
        ({"dataDiskSizeGb": True}, "'settings.data_disk_size_gb' (TYPE_INT64)"),
        ({"storageAutoResize": "yes"}, "'settings.storage_auto_resize' (TYPE_BOOL)"),
        ({"availabilityType": "GLOBAL"}, "'settings.availability_type' (TYPE_ENUM)"),
        ({"backupConfiguration": {"transactionLogRetentionDays": 2**31}}, "(TYPE_INT32)"),
    ],
)
def test_numbers_and_enumerations(cloud: LocalCloud, settings: t.Any, text: str) -> None:
    response = ask(cloud, "POST", "/v1/projects/example-project/instances", {"name": "x", "settings": settings})
    assert response.status_code == 400
    assert text in error_of(response)["message"]


def test_null_is_nothing(cloud: LocalCloud) -> None:
    assert ask(cloud, "POST", f"{SECRETS}?secretId=x", {"replication": {"automatic": {}}, "labels": None, "createTime": None}).status_code == 200


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("secretID=x", 'Unknown name "secretID": Cannot bind query parameter'),
        ("secretId=x&secretId=y", "the parameter is given 2 times"),
        ("secretId=x&prettyPrint=perhaps", "Invalid value at 'prettyPrint' (TYPE_BOOL)"),
        ("secretId=x&alt=xml", "Invalid value at 'alt' (TYPE_ENUM)"),
    ],
)
def test_the_query_is_held_to_the_method(cloud: LocalCloud, query: str, text: str) -> None:
    response = ask(cloud, "POST", f"{SECRETS}?{query}", {"replication": {"automatic": {}}})
    assert response.status_code == 400
    assert text in error_of(response)["message"]


@pytest.mark.parametrize(("body", "text"), [(b"{", "Invalid JSON payload"), (b"[]", "no object")])
def test_what_is_no_json_object(cloud: LocalCloud, body: bytes, text: str) -> None:
    assert text in error_of(ask(cloud, "POST", f"{SECRETS}?secretId=x", body))["message"]


def test_a_method_without_a_body_takes_none(cloud: LocalCloud) -> None:
    assert "takes no body" in error_of(ask(cloud, "DELETE", f"{SECRETS}/x", {"etag": "x"}))["message"]


def test_paths_and_methods_that_are_not_there(cloud: LocalCloud) -> None:
    assert ask(cloud, "GET", "/v9/nothing").status_code == 404
    missing = ask(cloud, "POST", "/v1/projects/example-project/instances/x/export", {})
    assert (missing.status_code, "has no sql.instances.export" in error_of(missing)["message"]) == (501, True)


def test_an_answer_that_breaks_the_schema_is_a_mistake_of_the_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCloud() as cloud:
        monkeypatch.setitem(cloud.handlers, "secretmanager.projects.secrets.list", lambda _cloud, _call: {"secrets": [{"createTime": 1}]})
        assert ask(cloud, "GET", SECRETS).status_code == 500
        assert "create_time" in cloud.mistakes[0]
        monkeypatch.setitem(cloud.handlers, "secretmanager.projects.secrets.list", lambda _cloud, _call: {}["x"])
        assert ask(cloud, "GET", SECRETS).status_code == 500
        assert "KeyError" in cloud.mistakes[1]


def test_64_bit_numbers_are_strings_in_answers() -> None:
    api = discovery.load("sqladmin.v1")
    method = api.find("GET", "/v1/projects/p/instances/i")[0]  # type: ignore[index]
    assert api.answer_problems(method, {"settings": {"dataDiskSizeGb": 10}})
    assert not api.answer_problems(method, {"settings": {"dataDiskSizeGb": "10"}})


def test_every_handler_is_one_of_googles_methods(cloud: LocalCloud) -> None:
    known = {method.id for one in discovery.APIS for method in discovery.load(one).methods}
    # A kind of resource has handlers for all the verbs; not every kind has all of them at Google.
    assert {method for method in cloud.handlers if not method.startswith("compute.")} <= known


# Who asks


def test_a_caller_without_a_token(cloud: LocalCloud) -> None:
    session = requests.Session()
    session.trust_env = False
    response = session.get(cloud.url + SECRETS, timeout=10)
    assert (response.status_code, error_of(response)["status"]) == (401, "UNAUTHENTICATED")
    cloud.revoked_tokens.add("old")
    assert ask(cloud, "GET", SECRETS, token="old").status_code == 401


def test_permissions_by_roles_and_by_name(cloud: LocalCloud) -> None:
    cloud.tokens["reader"] = "reader@example.com"
    refused = error_of(ask(cloud, "GET", SECRETS, token="reader"))
    assert (refused["code"], refused["status"]) == (403, "PERMISSION_DENIED")
    assert "'secretmanager.secrets.list' denied on resource 'projects/example-project/secrets'" in refused["message"]
    assert refused["details"][0]["reason"] == "IAM_PERMISSION_DENIED"
    for roles in (["roles/secretmanager.viewer"], ["secretmanager.secrets.list"]):
        cloud.grants["reader@example.com"] = roles
        assert ask(cloud, "GET", SECRETS, token="reader").status_code == 200
        assert ask(cloud, "POST", f"{SECRETS}?secretId=x", {"replication": {"automatic": {}}}, token="reader").status_code == 403


def test_each_service_words_a_refusal_in_its_way(cloud: LocalCloud) -> None:
    cloud.grants[identity.OWNER] = []
    sql = error_of(ask(cloud, "GET", "/v1/projects/example-project/instances/x"))
    assert sql["errors"][0]["reason"] == "notAuthorized"
    assert "Possibly missing permission cloudsql.instances.get" in sql["message"]
    compute = error_of(ask(cloud, "GET", NETWORKS))
    assert compute["message"] == "Required 'compute.networks.list' permission for 'projects/example-project/global/networks'"
    assert compute["errors"][0]["reason"] == "forbidden"


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("sql.instances.insert", "cloudsql.instances.create"),
        ("sql.instances.patch", "cloudsql.instances.update"),
        ("run.projects.locations.services.create", "run.services.create"),
        ("secretmanager.projects.secrets.versions.access", "secretmanager.versions.access"),
        ("secretmanager.projects.secrets.addVersion", "secretmanager.versions.add"),
        ("servicenetworking.services.connections.create", "servicenetworking.services.addPeering"),
        ("serviceusage.services.batchEnable", "serviceusage.services.enable"),
        ("cloudresourcemanager.projects.setIamPolicy", "resourcemanager.projects.setIamPolicy"),
        ("compute.instances.aggregatedList", "compute.instances.list"),
        ("run.projects.locations.operations.get", None),
        ("cloudresourcemanager.projects.testIamPermissions", None),
    ],
)
def test_the_permission_of_a_method(method: str, permission: str | None) -> None:
    assert identity.permission_for(method) == permission


def test_an_api_that_is_not_enabled() -> None:
    with LocalCloud(apis=["compute"]) as cloud:
        refused = error_of(ask(cloud, "GET", SECRETS))
        assert refused["code"] == 403
        assert "secretmanager.googleapis.com API has not been used in project example-project before or it is disabled." in refused["message"]
        assert refused["details"][0]["reason"] == "SERVICE_DISABLED"
        assert ask(cloud, "GET", NETWORKS).status_code == 200


def test_what_is_enabled_on_the_first_day() -> None:
    with LocalCloud(apis=[]) as cloud:
        assert list(cloud.enabled) == ["serviceusage"]


def test_an_api_that_was_enabled_a_moment_ago() -> None:
    with LocalCloud(apis=[]) as cloud:
        cloud.spreading_calls = 2
        enable = "/serviceusage.googleapis.com/v1/projects/example-project/services/secretmanager.googleapis.com:enable"
        assert ask(cloud, "POST", enable, {}).status_code == 200
        assert [ask(cloud, "GET", SECRETS).status_code for _time in range(3)] == [403, 403, 200]


def test_the_project_that_requests_count_as(cloud: LocalCloud) -> None:
    cloud.make_network()
    connections = (
        "/servicenetworking.googleapis.com/v1/services/servicenetworking.googleapis.com/connections?network=projects/123456789012/global/networks/default"
    )
    refused = error_of(ask(cloud, "GET", connections))
    assert "requires a quota project, which is not set by default" in refused["message"]
    assert refused["details"][0]["metadata"]["consumer"] == "projects/764086051850"
    named = {"X-Goog-User-Project": "example-project"}
    assert ask(cloud, "GET", connections, **named).status_code == 200
    assert ask(cloud, "GET", SECRETS, **{"X-Goog-User-Project": "other-project"}).status_code == 403

    cloud.tokens.update(reader="reader@example.com", robot="robot@example-project.iam.gserviceaccount.com")
    cloud.grants["reader@example.com"] = ["roles/secretmanager.viewer"]
    cloud.grants["robot@example-project.iam.gserviceaccount.com"] = ["roles/servicenetworking.networksAdmin"]
    assert error_of(ask(cloud, "GET", SECRETS, token="reader", **named))["details"][0]["reason"] == "USER_PROJECT_DENIED"
    assert ask(cloud, "GET", SECRETS, token="reader").status_code == 200
    assert ask(cloud, "GET", connections, token="robot").status_code == 200


def test_a_project_that_is_somebody_elses(cloud: LocalCloud) -> None:
    refused = error_of(ask(cloud, "GET", SECRETS.replace("example-project", "other-project")))
    assert (refused["code"], refused["details"][0]["reason"]) == (403, "CONSUMER_INVALID")


# What tests turn on


def test_faults_on_purpose(cloud: LocalCloud) -> None:
    cloud.fail("secretmanager.*", 429, "Quota exceeded for quota metric", times=2, headers={"Retry-After": "3"})
    first = ask(cloud, "GET", SECRETS)
    assert (first.status_code, first.headers["Retry-After"]) == (429, "3")
    assert [ask(cloud, "GET", SECRETS).status_code for _time in range(2)] == [429, 200]


def test_operations_that_fail_on_purpose(cloud: LocalCloud, google: Google) -> None:
    cloud.fail_operation("run.*.create", 9, "Revision 'x' is not ready.")
    services = google("run.v2").projects().locations().services()
    parent = f"projects/{PROJECT}/locations/europe-west1"
    body = {"template": {"containers": [{"image": "nginx:1.28"}]}}
    assert google.run(services.create(parent=parent, serviceId="x", body=body))["error"] == {"code": 9, "message": "Revision 'x' is not ready."}
    service = services.get(name=f"{parent}/services/x").execute()
    assert (service["terminalCondition"]["state"], "latestReadyRevision" in service) == ("CONDITION_FAILED", False)
    # It stays so with the same template, unless a new revision is asked for.
    first = service["latestCreatedRevision"]
    refused = google.run(services.patch(name=service["name"], body=body, updateMask="template"))["error"]
    assert refused["message"] == f"Revision '{first.rpartition('/')[2]}' is not ready and cannot serve traffic."
    assert "error" not in google.run(services.patch(name=service["name"], body=body, updateMask="template", forceNewRevision=True))
    service = services.get(name=service["name"]).execute()
    assert service["terminalCondition"]["state"] == "CONDITION_SUCCEEDED"
    assert service["latestReadyRevision"] != first


def test_quotas(cloud: LocalCloud) -> None:
    cloud.quotas["secretmanager.secrets"] = 1
    assert ask(cloud, "POST", f"{SECRETS}?secretId=one", {"replication": {"automatic": {}}}).status_code == 200
    refused = error_of(ask(cloud, "POST", f"{SECRETS}?secretId=two", {"replication": {"automatic": {}}}))
    assert (refused["code"], refused["status"]) == (403, "RESOURCE_EXHAUSTED")


def test_reads_that_lag_behind(cloud: LocalCloud) -> None:
    cloud.stale_reads = 2
    assert ask(cloud, "POST", f"{SECRETS}?secretId=late", {"replication": {"automatic": {}}}).status_code == 200
    assert [ask(cloud, "GET", f"{SECRETS}/late").status_code for _time in range(3)] == [404, 404, 200]
    assert ask(cloud, "POST", f"{SECRETS}?secretId=late", {"replication": {"automatic": {}}}).status_code == 409


def test_the_log_tells_reads_from_writes(cloud: LocalCloud) -> None:
    run = "/run.googleapis.com/v2/projects/example-project/locations/europe-west1/services"
    container = {"template": {"containers": [{"image": "nginx:1.28"}]}}
    ask(cloud, "GET", SECRETS)
    ask(cloud, "POST", "/v1/projects/example-project:getIamPolicy", {})
    assert ask(cloud, "POST", f"{run}?serviceId=x&validateOnly=true", container).status_code == 200
    assert cloud.writes() == []
    ask(cloud, "POST", f"{run}?serviceId=x", container)
    assert cloud.writes() == ["POST /v2/projects/example-project/locations/europe-west1/services"]
    assert cloud.requests[-1]["id"] == "run.projects.locations.services.create"
    assert cloud.requests[-1]["body"] == container
    assert cloud.requests[-1]["status"] == 200


def test_operations_take_as_long_as_they_are_told() -> None:
    with LocalCloud(operation_polls=3) as cloud:
        google = Google(cloud)
        operation = google("compute.v1").networks().insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}).execute()
        operations = google("compute.v1").globalOperations()
        states = [operations.get(project=PROJECT, operation=operation["name"]).execute()["status"] for _time in range(4)]
        assert states == ["RUNNING", "RUNNING", "RUNNING", "DONE"]
    with LocalCloud(operation_seconds=60) as cloud:
        google = Google(cloud)
        operation = google("compute.v1").networks().insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}).execute()
        operations = google("compute.v1").globalOperations()
        assert {operations.get(project=PROJECT, operation=operation["name"]).execute()["status"] for _time in range(5)} == {"RUNNING"}
        cloud.settle()
        assert operations.wait(project=PROJECT, operation=operation["name"]).execute()["status"] == "DONE"


def test_pages(cloud: LocalCloud, google: Google) -> None:
    secrets = google("secretmanager.v1").projects().secrets()
    for name in "abc":
        secrets.create(parent=f"projects/{PROJECT}", secretId=name, body={"replication": {"automatic": {}}}).execute()
    first = secrets.list(parent=f"projects/{PROJECT}", pageSize=2).execute()
    second = secrets.list_next(secrets.list(parent=f"projects/{PROJECT}", pageSize=2), first).execute()
    assert (len(first["secrets"]), len(second["secrets"]), "nextPageToken" in second) == (2, 1, False)
    google.refused(secrets.list(parent=f"projects/{PROJECT}", pageToken="x"), 400, "page token")


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    with LocalCloud(folder=tmp_path, operation_polls=5) as cloud:
        authority = Path(cloud.ca_file).read_text()
        google = Google(cloud)
        secrets = google("secretmanager.v1").projects().secrets()
        secrets.create(parent=f"projects/{PROJECT}", secretId="kept", body={"replication": {"automatic": {}}}).execute()
        operation = google("compute.v1").networks().insert(project=PROJECT, body={"name": "n", "autoCreateSubnetworks": False}).execute()
    assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
    assert "secrets.create" in (tmp_path / "requests.log").read_text()
    with LocalCloud(folder=tmp_path) as cloud:
        google = Google(cloud)
        assert Path(cloud.ca_file).read_text() == authority
        assert google("secretmanager.v1").projects().secrets().get(name=f"projects/{PROJECT}/secrets/kept").execute()
        operations = google("compute.v1").globalOperations()
        while operations.get(project=PROJECT, operation=operation["name"]).execute()["status"] != "DONE":
            pass
        assert google("compute.v1").networks().get(project=PROJECT, network="n").execute()["name"] == "n"


def test_many_at_the_same_time(cloud: LocalCloud) -> None:
    statuses: list[int] = []
    make = {"replication": {"automatic": {}}}
    threads = [threading.Thread(target=lambda: statuses.append(ask(cloud, "POST", f"{SECRETS}?secretId=same", make).status_code)) for _number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 11


# How it is reached


def test_googles_own_hosts_through_the_proxy(cloud: LocalCloud) -> None:
    session = requests.Session()
    session.trust_env = False
    session.proxies, session.verify = {"https": cloud.url}, cloud.ca_file
    headers = {"Authorization": "Bearer x"}
    for host, path in (
        ("secretmanager.googleapis.com", "/v1/projects/example-project/secrets"),
        ("sqladmin.googleapis.com", "/sql/v1beta4/projects/example-project/instances"),
        ("www.googleapis.com", "/compute/v1/projects/example-project/aggregated/instances"),
        ("europe-west1-run.googleapis.com", "/apis/domains.cloudrun.com/v1/namespaces/example-project/domainmappings"),
    ):
        for _again in range(2):
            assert session.get(f"https://{host}{path}", headers=headers, timeout=10).status_code == 200
    session.verify = True
    session.close()
    with pytest.raises(requests.exceptions.SSLError):
        session.get("https://iam.googleapis.com/v1/projects/example-project/serviceAccounts", headers=headers, timeout=10)


def test_the_proxy_of_plain_http(cloud: LocalCloud) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": cloud.url}))
    with opener.open("http://metadata.google.internal/computeMetadata/v1/project/project-id", timeout=10) as response:
        assert response.read() == PROJECT.encode()


def test_the_endpoints_by_gclouds_names(cloud: LocalCloud) -> None:
    environment = cloud.endpoint_environment()
    assert environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_SQL"] == f"{cloud.url}/sqladmin.googleapis.com/"
    assert environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN"] == f"{cloud.url}/run.googleapis.com/"


def test_the_certificate_is_for_one_host(cloud: LocalCloud) -> None:
    context = cloud.server.authority.context("sqladmin.googleapis.com")
    assert isinstance(context, ssl.SSLContext)
    assert not list(cloud.server.folder.glob("server.pem"))
