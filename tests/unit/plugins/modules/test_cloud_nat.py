# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloud_nat import main

COLLECTION = "/compute/v1/projects/my-project/regions/europe-west1/routers"
PATH = f"{COLLECTION}/prefect"
NETWORK = "projects/my-project/global/networks/default"
NAT = {
    "natIpAllocateOption": "AUTO_ONLY",
    "natIps": [],
    "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
    "subnetworks": [],
    "logConfig": {"enable": True, "filter": "ERRORS_ONLY"},
}


@pytest.fixture
def run(google, run_google):
    return functools.partial(run_google, main, region="europe-west1", router="prefect", name="nat", network="default")


def test_a_life(google, run):
    checked = run(check_mode=True)
    assert google.written() == []
    done = run()
    assert google.written() == [(f"POST {COLLECTION}", {"name": "prefect", "network": NETWORK, "nats": [{"name": "nat", **NAT}]})]
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"name": "nat", **NAT}}
    assert done["nat"] == {"name": "nat", **NAT}
    assert run()["changed"] is False
    assert google.reads() == [PATH]

    google.objects[PATH]["nats"][0].update(natIps=None, subnetworks=None, icmpIdleTimeoutSec=30)
    assert run()["changed"] is False
    checked = run(min_ports_per_vm=128, log_filter="NONE", check_mode=True)
    done = run(min_ports_per_vm=128, log_filter="NONE")
    (nat,) = google.objects[PATH]["nats"]
    assert done["diff"] == checked["diff"]
    assert (nat["minPortsPerVm"], nat["logConfig"], nat["icmpIdleTimeoutSec"]) == (128, {"enable": False, "filter": "ERRORS_ONLY"}, 30)

    run(name="other", subnetworks=["a"], nat_ips=["b"], network=NETWORK)
    assert [nat["name"] for nat in google.objects[PATH]["nats"]] == ["nat", "other"]
    assert google.objects[PATH]["nats"][1]["subnetworks"] == [
        {"name": "projects/my-project/regions/europe-west1/subnetworks/a", "sourceIpRangesToNat": ["ALL_IP_RANGES"]}
    ]
    assert google.objects[PATH]["nats"][1]["natIps"] == ["projects/my-project/regions/europe-west1/addresses/b"]

    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent")["nat"] == {}
    assert [nat["name"] for nat in google.objects[PATH]["nats"]] == ["other"]
    assert run(state="absent")["changed"] is False
    run(name="other", state="absent")
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert run(name="other", state="absent")["changed"] is False


@pytest.mark.parametrize("part", ["interfaces", "bgpPeers"])
def test_a_router_that_others_use_stays(google, run, part):
    google.objects[PATH] = {"name": "prefect", "network": f"https://www.googleapis.com/compute/v1/{NETWORK}", part: [{"name": "x"}], "nats": [{"name": "nat"}]}
    run(state="absent")
    assert google.written() == [(f"PATCH {PATH}", {"nats": []})]


def test_a_router_in_another_network(google, run):
    google.objects[PATH] = {"name": "prefect", "network": "projects/my-project/global/networks/other"}
    message = "the router 'prefect' is in another network, projects/my-project/global/networks/other: name another router, or correct network."
    for check_mode in (True, False):
        assert run(check_mode=check_mode)["msg"] == message
        assert google.written() == []


def test_without_a_network(google, run_google):
    result = run_google(main, region="europe-west1", router="prefect", name="nat")
    assert result["msg"] == "state is present but all of the following are missing: network"
