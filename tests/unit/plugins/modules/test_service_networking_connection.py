# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.service_networking_connection import main

ADDRESSES = "/compute/v1/projects/my-project/global/addresses"
CONNECTIONS = "/v1/services/servicenetworking.googleapis.com/connections"
NETWORK = "projects/my-project/global/networks/default"
RANGE = {"purpose": "VPC_PEERING", "addressType": "INTERNAL", "network": NETWORK}
CONNECTION = {"network": "projects/123/global/networks/default", "service": "services/servicenetworking.googleapis.com"}
SUBNETWORKS = {
    "regions/a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}},
    "regions/b": {
        "subnetworks": [
            {"name": "other", "network": f"https://www.googleapis.com/compute/v1/{NETWORK}2", "ipCidrRange": "10.20.0.0/24"},
            {"name": "ipv6", "network": f"https://www.googleapis.com/compute/v1/{NETWORK}"},
            {
                "name": "pods",
                "network": f"https://www.googleapis.com/compute/v1/{NETWORK}",
                "ipCidrRange": "10.10.0.0/24",
                "secondaryIpRanges": [{"ipCidrRange": "10.30.0.0/16"}],
            },
        ]
    },
}


@pytest.fixture
def run(google, run_google):
    google.objects["/v3/projects/my-project"] = {"name": "projects/123"}
    google.objects[CONNECTIONS] = {}
    google.objects[f"/compute/v1/{NETWORK}"] = {"name": "default"}
    google.objects["/compute/v1/projects/my-project/aggregated/subnetworks"] = {"items": SUBNETWORKS}

    def connect(request):
        google.objects[CONNECTIONS] = {"connections": [{**CONNECTION, **request["body"]}]}
        return 200, google.operation(CONNECTIONS)

    def disconnect(_request):
        google.objects[CONNECTIONS] = {}
        return 200, google.operation(CONNECTIONS)

    google.api.routes[f"POST {CONNECTIONS}"] = connect
    google.api.routes[f"PATCH {CONNECTIONS}/servicenetworking-googleapis-com"] = connect
    google.api.routes[f"POST {CONNECTIONS}/servicenetworking-googleapis-com"] = disconnect
    return functools.partial(run_google, main, network="default")


def test_a_life(google, run):
    ranges = [{"name": "services", "address": "10.20.0.0", "prefix_length": 20}]
    checked = run(ranges=ranges, check_mode=True)
    assert google.written() == []
    done = run(ranges=ranges)
    assert google.written() == [
        (f"POST {ADDRESSES}", {"name": "services", "address": "10.20.0.0", "prefixLength": 20, **RANGE}),
        (f"POST {CONNECTIONS}", {"network": "projects/123/global/networks/default", "reservedPeeringRanges": ["services"]}),
    ]
    assert (done["changed"], done["diff"]) == (checked["changed"], checked["diff"])
    assert done["ranges"] == {"services": "10.20.0.0/20"}
    again = run(ranges=ranges)
    assert (again["changed"], google.written()) == (False, [])
    assert google.reads() == ["/v3/projects/my-project", f"{ADDRESSES}/services", CONNECTIONS]

    more = [{"name": "more", "prefix_length": 24}]
    checked = run(ranges=more, check_mode=True)
    assert checked["ranges"] == {}
    done = run(ranges=more)
    body = {"network": "projects/123/global/networks/default", "reservedPeeringRanges": ["services", "more"]}
    assert google.written()[1] == (f"PATCH {CONNECTIONS}/servicenetworking-googleapis-com?updateMask=reservedPeeringRanges&force=true", body)
    assert done["diff"] == checked["diff"]
    assert done["diff"]["before"]["servicenetworking-googleapis-com"] == {"name": "servicenetworking-googleapis-com", "reservedPeeringRanges": []}

    checked = run(ranges=[*ranges, *more], state="absent", check_mode=True)
    assert google.written() == []
    done = run(ranges=[*ranges, *more], state="absent")
    assert [request for request, _body in google.written()] == [
        f"POST {CONNECTIONS}/servicenetworking-googleapis-com",
        f"DELETE {ADDRESSES}/services",
        f"DELETE {ADDRESSES}/more",
    ]
    assert (done["changed"], done["diff"]) == (True, checked["diff"])
    assert run(ranges=ranges, state="absent")["changed"] is False


def test_somebody_elses_network(google, run):
    google.objects["/v3/projects/shared"] = {"name": "projects/456"}
    google.objects["/compute/v1/projects/shared/aggregated/subnetworks"] = {}
    google.objects["/compute/v1/projects/shared/global/addresses/services"] = {**RANGE, "prefixLength": 20, "network": "projects/shared/global/networks/vpc"}
    done = run(network="projects/shared/global/networks/vpc", ranges=[{"name": "services"}])
    assert google.written() == [(f"POST {CONNECTIONS}", {"network": "projects/456/global/networks/vpc", "reservedPeeringRanges": ["services"]})]
    assert done["changed"] is True


def test_a_project_that_nobody_has_heard_of(google, run):
    arguments = {"network": "projects/another/global/networks/default", "ranges": [{"name": "a"}]}
    message = "the project 'another' does not exist, or the credentials have no right to see it: correct project or network."
    assert run(**arguments)["msg"] == message
    assert google.written() == []
    # A dry run before the API is enabled cannot know, and names the network by no number that it could ask by.
    google.objects["/compute/v1/projects/another/global/networks/default"] = {"name": "default"}
    google.fail(f"GET {CONNECTIONS}", 400, "Invalid network.")
    assert run(check_mode=True, **arguments)["changed"] is True


def test_a_network_that_is_not_there_yet(google, run):
    del google.objects[f"/compute/v1/{NETWORK}"]
    google.fail(f"GET {CONNECTIONS}", 404, "Network projects/123/global/networks/default not found.")
    assert run(ranges=[{"name": "services"}], check_mode=True)["changed"] is True
    assert CONNECTIONS not in google.reads()
    assert run(ranges=[{"name": "services"}], state="absent")["changed"] is False


def test_googles_own_account_gets_its_role_late(google, run, naps):
    denied = {"code": 7, "message": "Required 'compute.globalAddresses.list' permission for 'projects/123'"}
    connect = google.api.routes[f"POST {CONNECTIONS}"]
    google.api.routes[f"POST {CONNECTIONS}"] = [(200, {"name": "operations/op", "done": True, "error": denied})] * 2 + [connect]
    assert run(ranges=[{"name": "services"}])["changed"] is True
    assert naps[-3:-1] == [1, 2]

    google.objects[CONNECTIONS] = {}
    google.api.routes[f"POST {CONNECTIONS}"] = (200, {"name": "operations/op", "done": True, "error": denied})
    assert run(ranges=[{"name": "services"}])["msg"] == (
        "servicenetworking: Required 'compute.globalAddresses.list' permission for 'projects/123': "
        "grant roles/servicenetworking.serviceAgent in that project to serviceAccount:service-NUMBER@service-networking.iam.gserviceaccount.com, "
        "with the number of the network's project."
    )
    assert len(google.written()) > 5

    # Who may not ask for it at all is told at once.
    google.fail(f"POST {CONNECTIONS}", 403, "Permission 'servicenetworking.services.addPeering' denied on x", "PERMISSION_DENIED")
    assert run(ranges=[{"name": "services"}])["msg"].endswith("(or what else holds servicenetworking.services.addPeering) in my-project to the account in use.")
    assert len(google.written()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranges": []}, "ranges is empty: name at least one range."),
        (
            {"ranges": [{"name": "a", "prefix_length": 25}]},
            "ranges: the prefix_length of 'a' is 25: write 8 to 24; 24 is enough for one region.",
        ),
        (
            {"ranges": [{"name": "a", "address": "10.20.0.1"}]},
            "ranges: 10.20.0.1/20 is no network: write the first address of one, such as 10.20.0.0 with a prefix_length of 20.",
        ),
        (
            {"network": "My network", "ranges": [{"name": "a"}]},
            "network is 'My network', which names no network: write its name, or projects/PROJECT/global/networks/NAME.",
        ),
        (
            {"ranges": [{"name": "a", "address": "10.0.0.0", "prefix_length": 12}]},
            "the range 'a', 10.0.0.0/12, overlaps the subnetwork pods (10.10.0.0/24): choose other addresses.",
        ),
        (
            {"ranges": [{"name": "a", "address": "10.30.16.0"}]},
            "the range 'a', 10.30.16.0/20, overlaps the subnetwork pods (10.30.0.0/16): choose other addresses.",
        ),
        (
            {"ranges": [{"name": "small"}]},
            "the range 'small' exists with prefixLength 24, not 20, and cannot be changed: correct the task, or use another name.",
        ),
    ],
)
def test_refused(google, run, arguments, message):
    google.objects[f"{ADDRESSES}/small"] = {"name": "small", "prefixLength": 24, **RANGE}
    for check_mode in (True, False):
        assert run(check_mode=check_mode, **arguments)["msg"] == message
        assert google.written() == []
