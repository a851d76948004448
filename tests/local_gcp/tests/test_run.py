# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud Run."""

from __future__ import annotations

import base64
import copy
import typing as t

import pytest
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud

from .conftest import NUMBER, PROJECT, REGION, Google

PARENT = f"projects/{PROJECT}/locations/{REGION}"
NAME = f"{PARENT}/services/proxy"
ACCOUNT = f"prefect-proxy@{PROJECT}.iam.gserviceaccount.com"
NETWORK, SUBNET = f"projects/{PROJECT}/global/networks/default", f"projects/{PROJECT}/regions/{REGION}/subnetworks/default"
Json = dict[str, t.Any]

SERVICE: Json = {
    "ingress": "INGRESS_TRAFFIC_ALL",
    "invokerIamDisabled": True,
    "labels": {"app": "prefect"},
    "scaling": {"minInstanceCount": 1, "maxInstanceCount": 3},
    "template": {
        "serviceAccount": ACCOUNT,
        "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
        "timeout": "3600s",
        "maxInstanceRequestConcurrency": 1000,
        "vpcAccess": {
            "egress": "PRIVATE_RANGES_ONLY",
            "networkInterfaces": [{"network": NETWORK, "subnetwork": SUBNET}],
        },
        "volumes": [{"name": "nginx-conf", "secret": {"secret": "nginx-conf", "defaultMode": 292, "items": [{"version": "1", "path": "default.conf"}]}}],
        "containers": [
            {
                "name": "nginx",
                "image": "nginx:1.28-alpine",
                "ports": [{"name": "http1", "containerPort": 8080}],
                "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "cpuIdle": True, "startupCpuBoost": True},
                "volumeMounts": [{"name": "nginx-conf", "mountPath": "/etc/nginx/conf.d"}],
                "startupProbe": {"httpGet": {"path": "/api/health", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 18},
                "livenessProbe": {"httpGet": {"path": "/nginx-health", "port": 8080}, "periodSeconds": 30, "timeoutSeconds": 5, "failureThreshold": 3},
            }
        ],
    },
}  # fmt: skip


def body(**template: t.Any) -> Json:
    service = copy.deepcopy(SERVICE)
    service["template"].update(template)
    return service


def with_container(**fields: t.Any) -> Json:
    service = copy.deepcopy(SERVICE)
    service["template"]["containers"][0].update(fields)
    return service


@pytest.fixture
def services(cloud: LocalCloud, google: Google) -> t.Any:
    """With all that the service needs: a subnet, an account, a secret that the account may read."""
    cloud.make_network(region=REGION)
    cloud.ask("POST", f"iam/v1/projects/{PROJECT}/serviceAccounts", {"accountId": "prefect-proxy"})
    cloud.ask("POST", f"secretmanager/v1/projects/{PROJECT}/secrets?secretId=nginx-conf", {"replication": {"automatic": {}}})
    add_version(cloud)
    binding = {"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{ACCOUNT}"]}
    cloud.ask("POST", f"secretmanager/v1/projects/{PROJECT}/secrets/nginx-conf:setIamPolicy", {"policy": {"bindings": [binding]}})
    return google("run.v2").projects().locations().services()


def add_version(cloud: LocalCloud) -> None:
    payload = {"data": base64.b64encode(b"server {}").decode()}
    cloud.ask("POST", f"secretmanager/v1/projects/{PROJECT}/secrets/nginx-conf:addVersion", {"payload": payload})


@pytest.fixture
def service(services: t.Any, google: Google) -> Json:
    return t.cast("Json", google.run(services.create(parent=PARENT, serviceId="proxy", body=SERVICE))["response"])


def test_a_service(services: t.Any, service: Json) -> None:
    found = services.get(name=NAME).execute()
    assert found == {name: value for name, value in service.items() if name != "@type"}
    assert found["uri"] == f"https://proxy-{NUMBER}.{REGION}.run.app"
    assert (found["reconciling"], found["terminalCondition"]["state"]) == (False, "CONDITION_SUCCEEDED")
    assert found["latestReadyRevision"].startswith(f"{NAME}/revisions/proxy-00001-")
    assert services.list(parent=PARENT).execute()["services"] == services.list(parent=f"projects/{PROJECT}/locations/-").execute()["services"] == [found]


def test_while_it_is_made(services: t.Any, google: Google, cloud: LocalCloud) -> None:
    cloud.operation_polls = 9
    operation = services.create(parent=PARENT, serviceId="proxy", body=SERVICE).execute()
    assert "done" not in operation
    found = services.get(name=NAME).execute()
    assert (found["reconciling"], found["terminalCondition"]["state"], "uri" in found) == (True, "CONDITION_RECONCILING", False)
    google.refused(services.patch(name=NAME, body=SERVICE), 409, "another operation is in progress")


def test_what_google_adds_by_itself(services: t.Any, google: Google) -> None:
    made = google.run(services.create(parent=PARENT, serviceId="plain", body={"template": {"containers": [{"image": "nginx:1.28"}]}}))["response"]
    assert made["template"]["containers"][0]["ports"] == [{"name": "http1", "containerPort": 8080}]
    assert made["template"]["containers"][0]["startupProbe"]["tcpSocket"] == {"port": 8080}
    assert (made["template"]["timeout"], made["template"]["maxInstanceRequestConcurrency"]) == ("300s", 80)
    assert made["traffic"] == [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"template": {}}, "at least one container"),
        (body(containers=[{}]), "an image is required"),
        (body(containers=[{"image": "a"}, {"image": "b"}]), "exactly one container with an exposed port"),
        (with_container(ports=[{"name": "http2"}]), "named http1 or h2c"),
        (with_container(ports=[{"containerPort": 1}, {"containerPort": 2}]), "only one port"),
        (with_container(volumeMounts=[{"name": "other", "mountPath": "/x"}]), "must name a volume"),
        (with_container(env=[{"name": "PORT", "value": "1"}]), "reserved env names"),
        (with_container(resources={"limits": {"cpu": "3"}}), "Invalid value specified for cpu"),
        (with_container(resources={"limits": {"memory": "64Mi"}}), "Invalid value specified for memory"),
        (with_container(resources={"limits": {"cpu": "1", "memory": "8Gi"}}), "at least 2 is needed"),
        (with_container(startupProbe={"periodSeconds": 10}), "exactly one of http_get"),
        (with_container(startupProbe={"httpGet": {}, "periodSeconds": 10, "failureThreshold": 25}), "not be above 240 seconds: it is 250"),
        (with_container(startupProbe={"httpGet": {}, "periodSeconds": 5, "timeoutSeconds": 6}), "must not be above period_seconds"),
        (with_container(livenessProbe={"tcpSocket": {}}), "exactly one of"),
        (with_container(livenessProbe={"httpGet": {}, "periodSeconds": 3601}), "from 1 to 3600"),
        (body(timeout="3601s"), "from 1 to 3600 seconds"),
        (body(maxInstanceRequestConcurrency=1001), "Must be from 1 to 1000"),
        (body(serviceAccount="none@example-project.iam.gserviceaccount.com"), "does not exist"),
        ({**SERVICE, "scaling": {"minInstanceCount": 4, "maxInstanceCount": 3}}, "must not be above max_instance_count"),
        ({**SERVICE, "labels": {"run.googleapis.com/x": "y"}}, "reserved name space"),
        ({**SERVICE, "labels": {"App": "y"}}, "invalid label"),
        (body(vpcAccess={"connector": "c", "networkInterfaces": [{}]}), "exclude each other"),
        (body(vpcAccess={"connector": f"{PARENT}/connectors/none"}), "connectors/none does not exist"),
        (body(vpcAccess={"networkInterfaces": [{"subnetwork": "none"}]}), "does not exist in europe-west1"),
        (body(vpcAccess={"networkInterfaces": [{"subnetwork": "small"}]}), "must be /26 or larger"),
        (body(vpcAccess={"networkInterfaces": [{"subnetwork": "default", "network": "other"}]}), "is not one of the network other"),
        (body(volumes=[{"name": "nginx-conf", "secret": {"secret": "none"}}]), "versions/latest was not found"),
        (body(volumes=[{"name": "nginx-conf", "secret": {"secret": "nginx-conf", "items": [{"version": "9", "path": "x"}]}}]), "versions/9 was not found"),
        (with_container(env=[{"name": "X", "valueSource": {"secretKeyRef": {"secret": "none", "version": "1"}}}]), "was not found"),
        ({**SERVICE, "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 90}]}, "add up to 100"),
        ({**SERVICE, "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "none", "percent": 100}]}, "does not exist"),
        ({**SERVICE, "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "revision": "x", "percent": 100}]}, "names none"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_services_that_are_refused(services: t.Any, google: Google, wanted: Json, text: str, dry: bool) -> None:
    small = {"name": "small", "network": f"projects/{PROJECT}/global/networks/default", "ipCidrRange": "10.99.0.0/27"}
    google.cloud.ask("POST", f"compute/compute/v1/projects/{PROJECT}/regions/{REGION}/subnetworks", small)
    google.refused(services.create(parent=PARENT, serviceId="proxy", body=wanted, validateOnly=dry), 400, text)
    google.refused(services.get(name=NAME), 404)


def test_names(services: t.Any, google: Google, service: Json) -> None:
    google.refused(services.create(parent=PARENT, serviceId="proxy", body=SERVICE), 409, "already exists")
    google.refused(services.create(parent=PARENT, serviceId="Proxy", body=SERVICE), 400, "Service id Proxy")
    google.refused(services.create(parent=PARENT, serviceId="x" * 50, body=SERVICE), 400, "shorter than 50")


def test_the_account_must_be_able_to_read_the_secret(cloud: LocalCloud, services: t.Any, google: Google) -> None:
    cloud.policies.pop(f"projects/{PROJECT}/secrets/nginx-conf")
    create = services.create(parent=PARENT, serviceId="proxy", body=SERVICE)
    google.refused(create, 400, f"Permission denied on secret: .* for Revision service account {ACCOUNT}")
    binding = {"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{ACCOUNT}"]}
    cloud.policies[f"projects/{PROJECT}"]["bindings"].append(binding)
    google.run(create)
    cloud.ask("POST", f"secretmanager/v1/projects/{PROJECT}/secrets/nginx-conf/versions/1:disable", {})
    google.refused(services.patch(name=NAME, body=SERVICE), 400, "is in DISABLED state")


def test_a_dry_run_changes_nothing(services: t.Any, google: Google, cloud: LocalCloud) -> None:
    answer = services.create(parent=PARENT, serviceId="proxy", body=SERVICE, validateOnly=True).execute()
    assert (answer["done"], answer["response"]["template"]["timeout"]) == (True, "3600s")
    google.refused(services.get(name=NAME), 404)
    google.run(services.create(parent=PARENT, serviceId="proxy", body=SERVICE))
    before = services.get(name=NAME).execute()
    services.patch(name=NAME, body=body(timeout="60s"), validateOnly=True).execute()
    services.delete(name=NAME, validateOnly=True).execute()
    assert services.get(name=NAME).execute() == before


def test_a_new_version_of_the_secret_is_a_new_revision(cloud: LocalCloud, services: t.Any, google: Google, service: Json) -> None:
    add_version(cloud)
    volumes = [{"name": "nginx-conf", "secret": {"secret": "nginx-conf", "defaultMode": 292, "items": [{"version": "2", "path": "default.conf"}]}}]
    changed = google.run(services.patch(name=NAME, body=body(volumes=volumes)))["response"]
    assert changed["latestReadyRevision"] != service["latestReadyRevision"]
    assert (changed["generation"], changed["observedGeneration"]) == ("2", "2")
    revisions = services.revisions().list(parent=NAME).execute()["revisions"]
    assert [revision["name"] for revision in revisions] == [changed["latestReadyRevision"], service["latestReadyRevision"]]
    assert services.revisions().get(name=service["latestReadyRevision"]).execute()["timeout"] == "3600s"
    google.refused(services.revisions().get(name=f"{NAME}/revisions/none"), 404)
    # Back to what it was, by traffic alone.
    old = service["latestReadyRevision"].rpartition("/")[2]
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": old, "percent": 100}]
    back = google.run(services.patch(name=NAME, body={"traffic": traffic}, updateMask="traffic"))["response"]
    assert (back["trafficStatuses"], back["latestCreatedRevision"]) == (traffic, changed["latestCreatedRevision"])


def test_the_same_template_makes_no_revision(services: t.Any, google: Google, service: Json) -> None:
    changed = google.run(services.patch(name=NAME, body={"labels": {"app": "other"}}, updateMask="labels"))["response"]
    assert (changed["latestCreatedRevision"], changed["labels"]) == (service["latestCreatedRevision"], {"app": "other"})
    forced = google.run(services.patch(name=NAME, body=SERVICE, forceNewRevision=True))["response"]
    assert forced["latestCreatedRevision"] != service["latestCreatedRevision"]


def test_a_mask_that_goes_down(services: t.Any, google: Google, service: Json) -> None:
    mask = "template.max_instance_request_concurrency,scaling.minInstanceCount"
    wanted = {"template": {"maxInstanceRequestConcurrency": 10, "timeout": "5s"}, "scaling": {"maxInstanceCount": 1}}
    changed = google.run(services.patch(name=NAME, body=wanted, updateMask=mask))["response"]
    assert (changed["template"]["maxInstanceRequestConcurrency"], changed["template"]["timeout"]) == (10, "3600s")
    assert changed["scaling"] == {"maxInstanceCount": 3}


def test_revisions_with_names(services: t.Any, google: Google, service: Json) -> None:
    google.refused(services.patch(name=NAME, body=body(revision="other-1")), 400, "does not begin with the service's name")
    assert google.run(services.patch(name=NAME, body=body(revision="proxy-blue")))["response"]["latestReadyRevision"].endswith("/proxy-blue")
    google.refused(services.patch(name=NAME, body=body(revision="proxy-blue", timeout="60s")), 400, "exists already")


def test_etags(services: t.Any, google: Google, service: Json) -> None:
    google.run(services.patch(name=NAME, body={**SERVICE, "etag": service["etag"], "labels": {"a": "b"}}))
    google.refused(services.patch(name=NAME, body={**SERVICE, "etag": service["etag"]}), 409, "was specified but current version is")
    google.refused(services.delete(name=NAME, etag=service["etag"]), 409)


def test_a_patch_of_what_is_missing(services: t.Any, google: Google, service: Json) -> None:
    other = f"{PARENT}/services/other"
    google.refused(services.patch(name=other, body=SERVICE), 404)
    google.run(services.patch(name=other, body=SERVICE, allowMissing=True))
    google.refused(services.patch(name=NAME, body={**SERVICE, "name": other}), 400, "it must be")


def test_tags_have_a_url(services: t.Any, google: Google, service: Json) -> None:
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100, "tag": "next"}]
    changed = google.run(services.patch(name=NAME, body={**SERVICE, "traffic": traffic}))["response"]
    assert changed["trafficStatuses"][0]["uri"] == f"https://next---proxy-{NUMBER}.{REGION}.run.app"


def test_deletion_and_its_policy(services: t.Any, google: Google, service: Json) -> None:
    binding = {"role": "roles/run.invoker", "members": ["allUsers"]}
    services.setIamPolicy(resource=NAME, body={"policy": {"bindings": [binding]}}).execute()
    assert services.getIamPolicy(resource=NAME).execute()["bindings"] == [binding]
    assert services.testIamPermissions(resource=NAME, body={"permissions": ["run.services.get"]}).execute()["permissions"]
    google.run(services.delete(name=NAME))
    google.refused(services.get(name=NAME), 404)
    google.run(services.create(parent=PARENT, serviceId="proxy", body=SERVICE))
    assert "bindings" not in services.getIamPolicy(resource=NAME).execute()


def test_its_subnet_stays(services: t.Any, google: Google, service: Json) -> None:
    delete = google("compute.v1").subnetworks().delete(project=PROJECT, region=REGION, subnetwork="default")
    google.refused(delete, 400, "already being used by .*services/proxy")


def test_domain_mappings(cloud: LocalCloud, google: Google, service: Json) -> None:
    mappings = google("run.v1").projects().locations().domainmappings()
    mapping = {"apiVersion": "domains.cloudrun.com/v1", "kind": "DomainMapping", "metadata": {"name": "prefect.example.com"}, "spec": {"routeName": "proxy"}}
    create = mappings.create(parent=PARENT, body=mapping)
    google.refused(create, 403, "Caller is not authorized to administer the domain 'prefect.example.com'")
    authorized = google("run.v1").projects().locations().authorizeddomains().list(parent=PARENT)
    assert authorized.execute() == {}
    cloud.verified_domains.add("example.com")
    assert authorized.execute() == {"domains": [{"id": "example.com"}]}
    google.refused(mappings.create(parent=PARENT, body={**mapping, "spec": {"routeName": "none"}}), 400, "does not exist")
    google.refused(mappings.create(parent=PARENT, body={**mapping, "kind": "Mapping"}), 400, "kind DomainMapping")
    name = f"{PARENT}/domainmappings/prefect.example.com"
    mappings.create(parent=PARENT, body=mapping, dryRun="all").execute()
    google.refused(mappings.get(name=name), 404)
    assert create.execute()["status"]["resourceRecords"][0]["rrdata"] == "ghs.googlehosted.com."
    google.refused(create, 409, "already exists")
    assert [one["metadata"]["name"] for one in mappings.list(parent=PARENT).execute()["items"]] == ["prefect.example.com"]
    mappings.delete(name=name, dryRun="all").execute()
    assert mappings.get(name=name).execute()["spec"] == {"routeName": "proxy"}
    mappings.delete(name=name).execute()
    google.refused(mappings.get(name=name), 404)
