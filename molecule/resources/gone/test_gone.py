# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing of the team is left, but for the flow and its runs."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("path", ["work_pools", "variables", "v2/concurrency_limits", "concurrency_limits", "block_documents", "deployments"])
def test_nothing_is_left(client, path):
    assert client.filter(f"{path}/filter") == []


def test_the_team_s_automations_are_gone(client):
    assert {"Tell when a load fails", "Load again when the source is back"}.isdisjoint(one["name"] for one in client.filter("automations/filter"))


def test_the_flow_stays(client):
    assert [flow["name"] for flow in client.filter("flows/filter")] == ["load"]
