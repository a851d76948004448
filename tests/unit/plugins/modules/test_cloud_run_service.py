# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloud_run_service import main

COLLECTION = "/v2/projects/my-project/locations/europe-west1/services"
PATH = f"{COLLECTION}/proxy"
SUBNETWORKS = "/compute/v1/projects/my-project/regions/europe-west1/subnetworks"
SECRETS = "/v1/projects/my-project/secrets"
FULL = {
    "command": ["nginx"],
    "args": ["-g", "daemon off;"],
    "env": {"B": 1, "A": "x"},
    "secret_env": [{"name": "AB", "secret": "token", "version": "latest"}],
    "secret_volumes": [{"name": "conf", "mount_path": "/etc/nginx/conf.d", "secret": "conf", "items": [{"path": "default.conf", "version": "3"}]}],
    "startup_probe": {"path": "/api/health", "timeout_seconds": 5, "failure_threshold": 18},
    "liveness_probe": {"path": "/nginx-health", "period_seconds": 30},
    "min_instance_count": 1,
    "max_instance_count": 3,
    "max_instance_request_concurrency": 1000,
    "request_timeout": 3600,
    "execution_environment": "EXECUTION_ENVIRONMENT_GEN2",
    "service_account": "proxy@my-project.iam.gserviceaccount.com",
    "subnetwork": "run",
    "network_tags": ["proxy"],
    "ingress": "INGRESS_TRAFFIC_ALL",
    "invoker_iam_disabled": True,
    "default_uri_disabled": False,
    "description": "d",
    "labels": {"n": 1},
}
CONTAINER = {
    "image": "nginx:1.28-alpine",
    "command": ["nginx"],
    "args": ["-g", "daemon off;"],
    "ports": [{"name": "http1", "containerPort": 8080}],
    "env": [
        {"name": "A", "value": "x"},
        {"name": "AB", "valueSource": {"secretKeyRef": {"secret": "token", "version": "latest"}}},
        {"name": "B", "value": "1"},
    ],
    "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "cpuIdle": True, "startupCpuBoost": True},
    "volumeMounts": [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}],
    "startupProbe": {
        "httpGet": {"path": "/api/health", "port": 8080},
        "initialDelaySeconds": 0,
        "periodSeconds": 10,
        "timeoutSeconds": 5,
        "failureThreshold": 18,
    },
    "livenessProbe": {
        "httpGet": {"path": "/nginx-health", "port": 8080},
        "initialDelaySeconds": 0,
        "periodSeconds": 30,
        "timeoutSeconds": 1,
        "failureThreshold": 3,
    },
}
BODY = {
    "description": "d",
    "labels": {"n": "1"},
    "ingress": "INGRESS_TRAFFIC_ALL",
    "invokerIamDisabled": True,
    "defaultUriDisabled": False,
    "scaling": {"minInstanceCount": 1, "maxInstanceCount": 3},
    "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
    "template": {
        "serviceAccount": "proxy@my-project.iam.gserviceaccount.com",
        "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
        "maxInstanceRequestConcurrency": 1000,
        "timeout": "3600s",
        "volumes": [{"name": "conf", "secret": {"secret": "conf", "items": [{"path": "default.conf", "version": "3"}]}}],
        "containers": [CONTAINER],
        "vpcAccess": {"networkInterfaces": [{"subnetwork": "run", "tags": ["proxy"]}], "egress": "PRIVATE_RANGES_ONLY"},
    },
}


@pytest.fixture
def run(google, run_google):
    google.objects[f"{SUBNETWORKS}/run"] = {"ipCidrRange": "10.10.1.0/26"}
    google.objects[f"{SUBNETWORKS}/small"] = {"ipCidrRange": "10.10.1.0/27"}
    google.objects[f"{SECRETS}/conf/versions/3"] = {"state": "ENABLED"}
    google.objects[f"{SECRETS}/conf/versions/2"] = {"state": "DISABLED"}
    google.objects[f"{SECRETS}/token/versions/latest"] = {"state": "ENABLED"}
    google.objects["/v1/projects/my-project/serviceAccounts/proxy@my-project.iam.gserviceaccount.com"] = {}
    google.fill = {"uri": "https://proxy.a.run.app", "latestReadyRevision": "projects/my-project/x/revisions/proxy-00001-abc"}
    return functools.partial(run_google, main, region="europe-west1", name="proxy", image="nginx:1.28-alpine")


def test_a_service_in_full(google, run):
    checked = run(check_mode=True, **FULL)
    assert google.written() == [(f"POST {COLLECTION}?serviceId=proxy&validateOnly=true", BODY)]
    assert PATH not in google.objects
    done = run(**FULL)
    assert google.written() == [(f"POST {COLLECTION}?serviceId=proxy", BODY)]
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"name": "proxy", **BODY}}
    assert (done["uri"], done["revision"]) == ("https://proxy.a.run.app", "proxy-00001-abc")
    assert (checked["uri"], checked["revision"]) == ("", "")
    assert run(**FULL)["changed"] is False
    assert google.reads() == [PATH]


def test_a_change_makes_a_revision(google, run):
    run(**FULL)
    google.objects[PATH]["template"].update(revision="proxy-00001-abc", labels={"l": "1"}, sessionAffinity=True)
    google.objects[PATH]["labels"]["m"] = "2"
    changed = {**FULL, "env": {}, "liveness_probe": None, "subnetwork": None, "network_tags": [], "labels": {"n": 2}}
    checked = run(check_mode=True, **changed)
    container = {key: value for key, value in CONTAINER.items() if key != "livenessProbe"} | {"env": CONTAINER["env"][1:2]}
    template = {key: value for key, value in BODY["template"].items() if key != "vpcAccess"} | {"containers": [container]}
    body = {"labels": {"n": "2", "m": "2"}, "template": {**template, "labels": {"l": "1"}, "sessionAffinity": True}}
    assert google.written() == [(f"PATCH {PATH}?updateMask=labels,template&validateOnly=true", body)]
    done = run(**changed)
    assert google.written() == [(f"PATCH {PATH}?updateMask=labels,template", body)]
    assert done["diff"] == checked["diff"]
    assert done["diff"]["before"]["template"]["containers"][0]["livenessProbe"] == CONTAINER["livenessProbe"]
    assert done["diff"]["after"]["template"]["containers"][0]["livenessProbe"] is None
    assert run(**changed)["changed"] is False


def test_the_traffic_of_another_revision(google, run):
    run()
    back = run(traffic_revision="proxy-00001-abc")
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "proxy-00001-abc", "percent": 100}]
    assert google.written() == [(f"PATCH {PATH}?updateMask=traffic", {"traffic": traffic})]
    assert back["changed"] is True


def test_ways_into_the_network(google, run):
    run(connector="projects/my-project/locations/europe-west1/connectors/c", egress="ALL_TRAFFIC", startup_probe={})
    template = google.written()[0][1]["template"]
    assert template["vpcAccess"] == {"connector": "projects/my-project/locations/europe-west1/connectors/c", "egress": "ALL_TRAFFIC"}
    assert template["containers"][0]["startupProbe"]["tcpSocket"] == {"port": 8080}
    run(network="default")
    assert google.written()[0][1]["template"]["vpcAccess"]["networkInterfaces"] == [{"network": "default", "tags": []}]
    google.objects["/compute/v1/projects/shared/regions/europe-west1/subnetworks/run"] = {"ipCidrRange": "10.10.1.0/24"}
    assert run(subnetwork="projects/shared/regions/europe-west1/subnetworks/run")["changed"] is True


def test_who_may_call_it(google, run):
    google.objects[f"{PATH}:getIamPolicy"] = {"etag": "x"}
    google.api.routes[f"POST {PATH}:setIamPolicy"] = lambda request: (200, google.objects[f"{PATH}:getIamPolicy"].update(request["body"]["policy"]) or {})
    checked = run(invokers=["user:a@example.com"], check_mode=True)
    done = run(invokers=["user:a@example.com"])
    assert (done["changed"], done["diff"]) == (True, checked["diff"])
    assert done["diff"]["after"]["roles/run.invoker"] == ["user:a@example.com"]
    assert run(invokers=["user:a@example.com"])["changed"] is False
    assert run(invokers=["user:b@example.com"])["changed"] is True


def test_delete(google, run):
    run()
    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent", invokers=["user:a@example.com"])["service"] == {}
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert run(state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subnetwork": "none"}, "subnetwork: none does not exist in the region europe-west1: create it first, or correct the region."),
        ({"service_account": "a@b.c"}, "service_account: a@b.c does not exist: create it first."),
        (
            {"secret_env": [{"name": "A", "secret": "projects/my-project/secrets/token", "version": "4"}]},
            "the secret projects/my-project/secrets/token has no version 4: add it first, or correct its name.",
        ),
        (
            {"secret_env": [{"name": "A", "secret": "conf", "version": "2"}]},
            "the version 2 of the secret conf is DISABLED: enable it, or use another one.",
        ),
    ],
)
def test_what_is_missing(google, run, arguments, message):
    assert run(**arguments)["msg"] == message
    assert google.written() == []
    assert run(check_mode=True, **arguments)["changed"] is True
    assert google.written() == []
    assert google.warnings == [message]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "Proxy"},
            "name: 'Proxy' is no name of a service: write up to 49 lower-case letters, digits and hyphens, with a letter first.",
        ),
        ({"port": 0}, "port is 0: write 1 to 65535."),
        ({"max_instance_request_concurrency": 1001}, "max_instance_request_concurrency is 1001: write 1 to 1000."),
        ({"request_timeout": 3601}, "request_timeout is 3601: write 1 to 3600."),
        (
            {"min_instance_count": 3, "max_instance_count": 2},
            "min_instance_count is 3, which is more than max_instance_count, 2: correct one of them.",
        ),
        (
            {"liveness_probe": {"path": "/", "timeout_seconds": 11}},
            "liveness_probe: timeout_seconds is 11, which is longer than period_seconds, 10: correct one of them.",
        ),
        (
            {"startup_probe": {"failure_threshold": 25}},
            "startup_probe: period_seconds times failure_threshold is 250 seconds: write no more than 240.",
        ),
        ({"liveness_probe": {}}, "liveness_probe: path is missing: write a path that answers as long as the container works."),
        (
            {"env": {"A": 1, "B": 2}, "secret_env": [{"name": "B", "secret": "conf", "version": "3"}]},
            "env and secret_env both name B: remove one of them.",
        ),
        ({"connector": "c", "network": "n"}, "parameters are mutually exclusive: connector|network"),
        (
            {"subnetwork": "small"},
            "subnetwork: small is 10.10.1.0/27, which is too small for Direct VPC egress: use one of /26 or larger.",
        ),
        (
            {"subnetwork": "projects/my-project/regions/us-east1/subnetworks/run"},
            "subnetwork: projects/my-project/regions/us-east1/subnetworks/run is in another region than the service, europe-west1: give one in europe-west1.",
        ),
    ],
)
def test_refused(google, run, arguments, message):
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **arguments)["msg"] == message
        assert google.written() == []


def test_without_an_image(google, run_google):
    assert run_google(main, region="europe-west1", name="proxy")["msg"] == "state is present but all of the following are missing: image"


def test_who_may_not_look_may_still_deploy(google, run):
    google.fail(f"GET {SUBNETWORKS}/run", 403, "Required 'compute.subnetworks.get' permission for 'x'", errors=[{"reason": "forbidden"}])
    assert run(subnetwork="run")["changed"] is True
    google.fail(f"GET {SUBNETWORKS}/run", 400, "Odd.")
    assert run(subnetwork="run", image="nginx:2")["msg"].endswith("HTTP 400: Odd.")


def test_what_google_says_of_a_dry_run(google, run):
    google.fail(f"POST {COLLECTION}", 400, "Violation in template.containers[0].image.", "INVALID_ARGUMENT")
    assert run(check_mode=True)["msg"].endswith("HTTP 400: Violation in template.containers[0].image.")
    google.fail(f"POST {COLLECTION}", 403, "Permission 'run.services.create' denied on x", "PERMISSION_DENIED")
    assert run(check_mode=True)["changed"] is True
    assert google.warnings[0].endswith("grant roles/run.admin (or what else holds run.services.create) in my-project to the account in use.")


def test_a_revision_that_does_not_start(google, run):
    run(**FULL)
    google.objects[PATH]["template"]["revision"] = "proxy-00001-abc"
    google.objects[PATH]["terminalCondition"] = {"state": "CONDITION_FAILED", "message": "The container failed to start."}
    checked = run(check_mode=True, **FULL)
    body = {"template": BODY["template"]}
    assert google.written() == [(f"PATCH {PATH}?updateMask=template&forceNewRevision=true&validateOnly=true", body)]
    assert checked["changed"] is True
    assert checked["diff"]["before"] == {"name": "proxy", **BODY, "terminalCondition": {"state": "CONDITION_FAILED"}}
    assert checked["diff"]["after"] == {"name": "proxy", **BODY, "terminalCondition": {"state": "CONDITION_SUCCEEDED"}}

    # It fails again.
    message = "the service 'proxy' is not ready (The container failed to start): look at its logs; an earlier revision keeps its traffic."
    assert run(**FULL)["msg"] == message
    assert google.written() == [(f"PATCH {PATH}?updateMask=template&forceNewRevision=true", body)]

    def recover(request):
        google.objects[PATH]["terminalCondition"] = {"state": "CONDITION_SUCCEEDED"}
        return google.answer(request)

    google.api.routes[f"PATCH {PATH}"] = recover
    done = run(**FULL)
    assert (done["changed"], done["diff"]) == (True, checked["diff"])
    assert run(**FULL)["changed"] is False
    assert google.written() == []


def test_what_failed_is_changed_and_deleted_like_any_other(google, run):
    run(**FULL)
    google.objects[PATH]["terminalCondition"] = {"state": "CONDITION_FAILED"}
    run(**{**FULL, "description": "e"})
    assert google.written() == [
        (f"PATCH {PATH}?updateMask=description,template&forceNewRevision=true", {"description": "e", "template": BODY["template"]}),
    ]
    assert run(state="absent")["diff"]["before"] == {"name": "proxy"}
    assert google.written() == [(f"DELETE {PATH}", None)]


def test_a_service_that_another_run_has_left_under_way(google, run, naps):
    run()
    naps.clear()
    found = google.objects[PATH]
    google.api.routes[f"GET {PATH}"] = [(200, {**found, "reconciling": True}), (200, found)]
    assert run()["changed"] is False
    assert naps == [10]
