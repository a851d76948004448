# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.cloudsql_database import main

COLLECTION = "/v1/projects/my-project/instances/prefect/databases"
PATH = f"{COLLECTION}/prefect-db"


@pytest.fixture
def run(google, run_google):
    google.fill = {"charset": "UTF8", "collation": "en_US.UTF8"}
    return functools.partial(run_google, main, instance="prefect", name="prefect-db")


def test_create_then_delete(google, run):
    checked = run(check_mode=True)
    assert google.written() == []
    done = run()
    assert google.written() == [(f"POST {COLLECTION}", {"name": "prefect-db"})]
    assert done["changed"] is checked["changed"] is True
    assert done["diff"] == checked["diff"] == {"before": {}, "after": {"name": "prefect-db"}}
    assert done["database"] == google.objects[PATH]
    again = run()
    assert (again["changed"], google.written(), google.reads()) == (False, [], [PATH])
    assert run(charset="UTF8", collation="en_US.UTF8")["changed"] is False

    checked = run(state="absent", check_mode=True)
    assert (checked["changed"], checked["database"], google.written()) == (True, {}, [])
    done = run(state="absent")
    assert google.written() == [(f"DELETE {PATH}", None)]
    assert done["diff"] == checked["diff"] == {"before": {"name": "prefect-db"}, "after": {}}
    assert run(state="absent")["changed"] is False


def test_a_collation_is_for_ever(google, run):
    assert run(collation="C.UTF8")["diff"]["after"] == {"name": "prefect-db", "collation": "C.UTF8"}
    for check_mode in (True, False):
        result = run(collation="en_US.UTF8", check_mode=check_mode)
        assert result["msg"] == (
            "collation: the database 'prefect-db' has 'C.UTF8', which cannot be changed to 'en_US.UTF8': write 'C.UTF8', or move the data to a new database."
        )
        assert google.written() == []
