# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.compute_info import main

BASE = "/compute/v1/projects/my-project"
ACCOUNT = "prefect-server@my-project.iam.gserviceaccount.com"
NETWORK = "https://www.googleapis.com/compute/v1/projects/my-project/global/networks/"
SUBNETWORK = {"name": "prefect", "network": f"{NETWORK}prefect", "ipCidrRange": "10.10.0.0/24"}


@pytest.fixture
def run(google, run_google):
    return functools.partial(run_google, main, network="prefect", region="europe-west1", zone="europe-west1-b")


def test_what_is_there(google, run):
    machine = {"name": "prefect-server", "networkInterfaces": [{"networkIP": "10.10.0.2"}]}
    new = {"name": "new", "status": "PROVISIONING", "networkInterfaces": [{}]}
    google.objects = {
        f"{BASE}/global/networks/prefect": {"name": "prefect"},
        f"{BASE}/regions/europe-west1/subnetworks": {"items": [SUBNETWORK, {**SUBNETWORK, "name": "other", "ipCidrRange": "10.11.0.0/24"}]},
        f"{BASE}/zones/europe-west1-b/instances/prefect-server": machine,
        f"{BASE}/zones/europe-west1-b/instances/new": new,
        f"/v1/projects/my-project/serviceAccounts/{ACCOUNT}": {"email": ACCOUNT},
    }
    names = {"subnetworks": [{"name": "prefect"}], "instances": ["prefect-server", "new", "worker"], "service_accounts": [ACCOUNT, "nobody@example.com"]}
    for check_mode in (True, False):
        found = run(**names, check_mode=check_mode)
        assert google.written() == []
        assert {key: found[key] for key in ("changed", "network", "subnetworks", "instances", "addresses", "service_accounts", "faults")} == {
            "changed": False,
            "network": {"name": "prefect"},
            "subnetworks": {"prefect": SUBNETWORK},
            "instances": {"prefect-server": machine, "new": new},
            "addresses": {"prefect-server": "10.10.0.2"},
            "service_accounts": [ACCOUNT],
            "faults": [],
        }


def test_nothing_is_there(google, run):
    found = run(subnetworks=[{"name": "prefect", "ip_cidr_range": "10.10.0.0/24"}, {"name": "run", "ip_cidr_range": "10.10.1.0/26"}], instances=["vm"])
    assert (found["network"], found["subnetworks"], found["instances"], found["faults"]) == ({}, {}, {}, [])


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ({"name": "prefect", "ip_cidr_range": "10.10.0.0/24"}, ""),
        ({"name": "prefect"}, ""),
        ({"name": "new", "ip_cidr_range": "10.10.1.0/24"}, ""),
        ({"name": "new", "ip_cidr_range": "10.12.0.0/24"}, ""),
        ({"name": "new", "ip_cidr_range": "fd00::/64"}, ""),
        (
            {"name": "prefect", "ip_cidr_range": "10.10.0.0/25"},
            "the subnetwork prefect exists with the range 10.10.0.0/24, not 10.10.0.0/25: write that range, or use another name.",
        ),
        (
            {"name": "new", "ip_cidr_range": "10.10.0.128/25"},
            "the range 10.10.0.128/25 of the subnetwork new overlaps 10.10.0.0/24 of prefect: choose a free one.",
        ),
        (
            {"name": "new", "ip_cidr_range": "10.10.9.1/24"},
            "the range 10.10.9.1/24 of the subnetwork new is none (10.10.9.1/24 has host bits set): write it in CIDR notation, such as 10.10.0.0/24.",
        ),
        ({"name": "new"}, "there is no subnetwork new in the network prefect and this region: create it, give its range, or correct the region."),
        ({"name": "theirs", "ip_cidr_range": "10.13.0.0/24"}, "the subnetwork theirs is in another network (others): use another name."),
    ],
)
def test_subnetworks(google, run, wanted, fault):
    theirs = {"name": "theirs", "network": f"{NETWORK}others", "ipCidrRange": "10.12.0.0/24"}
    google.objects[f"{BASE}/regions/europe-west1/subnetworks"] = {"items": [SUBNETWORK, theirs]}
    assert run(subnetworks=[wanted])["faults"] == ([fault] if fault else [])


def test_two_that_overlap(google, run):
    wanted = [{"name": "a", "ip_cidr_range": "10.20.0.0/16"}, {"name": "b", "ip_cidr_range": "10.20.1.0/24"}]
    assert run(subnetworks=wanted)["faults"] == ["the range 10.20.1.0/24 of the subnetwork b overlaps 10.20.0.0/16 of a: choose a free one."]


def test_one_that_overlaps_what_is_reserved(google, run):
    google.objects[f"{BASE}/regions/europe-west1/subnetworks"] = {"items": [SUBNETWORK]}
    wanted = [{"name": "prefect", "ip_cidr_range": "10.10.0.0/24"}, {"name": "run", "ip_cidr_range": "10.10.1.0/26"}]
    # What is there already has been judged by whoever made it.
    faults = run(subnetworks=wanted, reserved_ranges={"services": "10.10.0.1/20"})["faults"]
    assert faults == ["the range 10.10.1.0/26 of the subnetwork run overlaps 10.10.0.0/20 of services: choose a free one."]
    message = "reserved_ranges: services: '10.10.0.0/33' is no range: write it in CIDR notation, such as 10.20.0.0/20."
    assert run(reserved_ranges={"services": "10.10.0.0/33"})["msg"] == message


def test_a_zone_of_another_region(google, run):
    assert run(zone="us-east1-b")["msg"] == "zone: 'us-east1-b' is not in the region europe-west1: write such as europe-west1-b, or correct the region."
    assert google.api.requests == []
