# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.compute_firewall_rule import main

COLLECTION = "/compute/v1/projects/my-project/global/firewalls"
PATH = f"{COLLECTION}/prefect-ssh"
NETWORK = "projects/my-project/global/networks/prefect"
ACCOUNT = "prefect-server@my-project.iam.gserviceaccount.com"
RULE = {
    "network": NETWORK,
    "direction": "INGRESS",
    "priority": 1000,
    "description": "",
    "disabled": False,
    "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
    "sourceRanges": ["35.235.240.0/20"],
    "sourceTags": [],
    "sourceServiceAccounts": [],
    "targetTags": [],
    "targetServiceAccounts": [ACCOUNT],
}


@pytest.fixture
def run(google, run_google):
    options = {"name": "prefect-ssh", "network": "prefect", "ports": ["22"], "source_ranges": ["35.235.240.0/20"], "target_service_accounts": [ACCOUNT]}
    return functools.partial(run_google, main, **options)


def test_a_life(google, run):
    checked = run(check_mode=True)
    assert google.written() == []
    done = run()
    assert google.written() == [(f"POST {COLLECTION}", {"name": "prefect-ssh", **RULE})]
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"name": "prefect-ssh", **RULE}}
    assert done["rule"]["sourceRanges"] == ["35.235.240.0/20"]

    # As Google gives it back: full links, and nothing where there is nothing.
    there = google.objects[PATH]
    there["network"] = f"https://www.googleapis.com/compute/v1/{NETWORK}"
    for field in ("description", "sourceTags", "sourceServiceAccounts", "targetTags"):
        del there[field]
    assert run()["changed"] is False
    assert google.reads() == [PATH]
    assert run(network=NETWORK)["changed"] is False

    assert run(state="absent", check_mode=True)["changed"] is True
    assert google.written() == []
    assert run(state="absent")["rule"] == {}
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert run(state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("field", "by_hand"),
    [
        ("sourceRanges", ["35.235.240.0/20", "0.0.0.0/0"]),
        ("sourceTags", ["anybody"]),
        ("targetServiceAccounts", [ACCOUNT, "another@my-project.iam.gserviceaccount.com"]),
        ("allowed", [{"IPProtocol": "tcp", "ports": ["22"]}, {"IPProtocol": "all"}]),
        ("disabled", True),
        ("priority", 900),
    ],
)
def test_what_somebody_changed_by_hand(google, run, field, by_hand):
    run()
    google.objects[PATH][field] = by_hand
    checked = run(check_mode=True)
    assert checked["diff"]["before"][field] == by_hand
    assert google.written() == []
    assert run()["diff"] == checked["diff"]
    assert google.written() == [(f"PATCH {PATH}", {field: RULE[field]})]


def test_order_means_nothing_and_ports_may_be_left_out(google, run):
    run(source_ranges=["10.0.0.0/24", "10.0.1.0/24"], ports=["22", "4200"])
    assert run(source_ranges=["10.0.1.0/24", "10.0.0.0/24"], ports=["4200", "22"])["changed"] is False
    run(name="all", ports=[], protocol="icmp")
    assert google.objects[f"{COLLECTION}/all"]["allowed"] == [{"IPProtocol": "icmp"}]


def test_another_network(google, run):
    run()
    for check_mode in (True, False):
        message = run(network="other", check_mode=check_mode)["msg"]
        assert message.startswith(f"network: the rule 'prefect-ssh' exists with {NETWORK}, which cannot be changed: use another name,")
        assert google.written() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "SSH"}, "name: 'SSH' is no name of a rule: write up to 63 lower-case letters, digits and hyphens, with a letter first."),
        ({"source_ranges": []}, "source_ranges is empty, which Google takes for everybody: write who is to be let in, such as 10.0.0.0/24."),
        (
            {"source_ranges": ["10.0.0.1/24"]},
            "source_ranges: '10.0.0.1/24' is no network (10.0.0.1/24 has host bits set): write it in CIDR notation, such as 10.0.0.0/24.",
        ),
        ({"ports": ["ssh"]}, "ports: 'ssh' is no port: write such as 4200, or 8000-8009."),
    ],
)
def test_refusals(google, run, options, message):
    assert run(**options)["msg"] == message
    assert google.api.requests == []


def test_without_a_network(run_google, google):
    assert "network" in run_google(main, name="x")["msg"]
    assert google.api.requests == []
