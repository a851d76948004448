# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloud_run_load_balancer import main

PROJECT = "projects/my-project"
BASE = f"/compute/v1/{PROJECT}"
PARTS = ["addresses", "networkEndpointGroups", "backendServices", "urlMaps", "sslCertificates", "targetHttpsProxies", "forwardingRules"]


@pytest.fixture
def run(google, run_google):
    return functools.partial(run_google, main, name="prefect", region="europe-west1", service="proxy", domain="prefect.example.com")


def kinds(google) -> list[str]:
    return [request.split("/")[-1 if request.startswith("POST") else -2] for request, _body in google.written()]


def test_a_life(google, run):
    google.fill = {"address": "198.51.100.7"}
    checked = run(check_mode=True)
    assert google.written() == []
    assert (checked["changed"], checked["address"]) == (True, "")
    done = run()
    assert kinds(google) == PARTS
    bodies = {request.split("/")[-1]: body for request, body in google.written()}
    assert bodies["networkEndpointGroups"]["cloudRun"] == {"service": "proxy"}
    assert bodies["backendServices"]["backends"] == [{"group": f"{PROJECT}/regions/europe-west1/networkEndpointGroups/prefect"}]
    assert bodies["forwardingRules"]["IPAddress"] == done["address"] == "198.51.100.7"
    certificate = bodies["sslCertificates"]["name"]
    assert bodies["targetHttpsProxies"]["sslCertificates"] == [f"{PROJECT}/global/sslCertificates/{certificate}"]

    google.objects[f"{BASE}/global/sslCertificates/{certificate}"]["managed"]["status"] = "ACTIVE"
    again = run()
    assert (again["changed"], again["certificate_status"]) == (False, "ACTIVE")
    assert len(google.reads()) == len(PARTS)

    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent")["address"] == ""
    assert kinds(google) == PARTS[::-1]
    assert run(state="absent")["changed"] is False


def test_another_domain_is_another_certificate(google, run):
    run()
    proxy = f"{BASE}/global/targetHttpsProxies/prefect"
    google.objects[proxy]["fingerprint"] = "abc="
    run(domain="flows.example.com")
    (made, _body), (patched, body) = google.written()
    assert (made, patched) == (f"POST {BASE}/global/sslCertificates", f"PATCH {proxy}")
    assert body["fingerprint"] == "abc="
    assert list(body) == ["sslCertificates", "fingerprint"]
    google.objects[f"{BASE}/global/urlMaps/prefect"]["defaultService"] = "other"
    run(domain="flows.example.com")
    assert google.written() == [(f"PATCH {BASE}/global/urlMaps/prefect", {"defaultService": f"{PROJECT}/global/backendServices/prefect"})]


def test_another_service(google, run):
    run()
    message = "networkEndpointGroups: 'prefect' exists with other cloudRun, which cannot be changed: use another name, or delete it first."
    for check_mode in (True, False):
        assert run(service="other", check_mode=check_mode)["msg"] == message
        assert google.written() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Prefect"}, "name: 'Prefect' cannot be one: write up to 54 lower-case letters, digits and hyphens, with a letter first."),
        ({"domain": "https://prefect.example.com"}, "domain: 'https://prefect.example.com' is no domain: write it in lower case, without https://."),
    ],
)
def test_refusals(google, run, options, message):
    assert run(**options)["msg"] == message
    assert google.api.requests == []
