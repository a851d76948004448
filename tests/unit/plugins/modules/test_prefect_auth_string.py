# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import time

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint
from ansible_collections.selfhost.prefect.plugins.modules.prefect_auth_string import main

GIVEN = "prefect:made-up-for-a-test"
OTHER = "prefect:another-made-up-one"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "auth_string"


@pytest.fixture
def run(run_module, path):
    def call(**arguments):
        result = run_module(main, **{"path": str(path), "_ansible_diff": True, **arguments})
        if not arguments.get("return_value"):
            assert "auth_string" not in result
            assert "made-up" not in result["_output"]
        return result

    return call


def test_makes_one_once(run, path):
    result = run(return_value=True)
    assert result["changed"] is True
    assert re.fullmatch(r"prefect:[A-Za-z0-9]{40}", result["auth_string"])
    assert path.read_text() == result["auth_string"] + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    again = run(return_value=True)
    assert (again["changed"], again["auth_string"]) == (False, result["auth_string"])


def test_makes_one_as_it_is_told(run):
    assert re.fullmatch(r"admin:[A-Za-z0-9]{12}", run(user="admin", length=12, return_value=True)["auth_string"])


def test_makes_one_of_the_characters_that_it_is_told(run):
    made = run(alphabet="0123456789abcdef", length=32, return_value=True)["auth_string"]
    assert re.fullmatch(r"prefect:[0-9a-f]{32}", made)


def test_tells_about_it_what_is_no_secret(run, path):
    result = run(value=GIVEN)
    assert (result["fingerprint"], result["length"], result["age"], result["previous_fingerprint"]) == (fingerprint(GIVEN), len(GIVEN), 0, "none")
    os.utime(path, (time.time() - 86400,) * 2)
    assert run()["age"] in (86400, 86401)
    # A clock that was set back.
    os.utime(path, (time.time() + 86400,) * 2)
    assert run()["age"] == 0


def test_makes_one_in_place_of_nothing(run, path):
    path.write_text("\n")
    assert run()["changed"] is True
    assert path.read_text().startswith("prefect:")


def test_keeps_what_is_given(run, path):
    result = run(value=GIVEN)
    assert (result["changed"], result["diff"]["before"]) == (True, "auth string: none\nprevious: none\n")
    assert path.read_text() == f"{GIVEN}\n"
    assert run(value=GIVEN)["changed"] is False
    # No longer given, it stays.
    assert run(value="")["changed"] is False
    assert run(value=GIVEN, return_value=True)["auth_string"] == GIVEN


def test_replaces_it_by_another_one(run, path):
    path.write_text(f"{GIVEN}\n")
    path.chmod(0o644)
    result = run(value=OTHER)
    assert (result["changed"], path.read_text()) == (True, f"{OTHER}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert result["diff"] == {
        "before": f"auth string: {fingerprint(GIVEN)}\nprevious: none\n",
        "after": f"auth string: {fingerprint(OTHER)}\nprevious: {fingerprint(GIVEN)}\n",
    }


def test_sets_the_mode(run, path):
    path.write_text(f"{GIVEN}\n")
    assert run(mode="0640")["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o640
    assert run(mode="0640")["changed"] is False
    run(mode="0640", value=OTHER)
    previous = path.with_name("auth_string.previous")
    assert (path.stat().st_mode & 0o777, previous.stat().st_mode & 0o777) == (0o640, 0o640)


def test_rotates(run, path):
    path.write_text(f"{GIVEN}\n")
    assert run(state="rotated")["changed"] is True
    made = path.read_text()
    assert run(state="rotated", value=OTHER)["changed"] is True
    assert (made != f"{GIVEN}\n", path.read_text()) == (True, f"{OTHER}\n")


def test_keeps_the_previous_one_until_told_otherwise(run, path):
    previous = path.with_name("auth_string.previous")
    path.write_text(f"{GIVEN}\n")
    result = run(value=OTHER, return_value=True)
    assert (result["previous_auth_string"], result["previous_fingerprint"]) == (GIVEN, fingerprint(GIVEN))
    assert (previous.read_text(), previous.stat().st_mode & 0o777) == (f"{GIVEN}\n", 0o600)
    assert run(value=OTHER, return_value=True)["previous_auth_string"] == GIVEN
    assert run(check_mode=True, keep_previous=False)["changed"] is True
    assert previous.exists()
    result = run(keep_previous=False)
    assert (result["changed"], result["previous_fingerprint"], previous.exists(), path.read_text()) == (True, "none", False, f"{OTHER}\n")
    assert run(keep_previous=False)["changed"] is False
    # And not even at the moment of the change.
    assert run(keep_previous=False, value=GIVEN)["previous_fingerprint"] == "none"
    assert not previous.exists()


def test_warns_of_one_that_only_prefect_can_send(run, path, monkeypatch):
    warnings = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: warnings.append(text))
    assert run(value=GIVEN)["changed"] is True
    assert warnings == []
    run(value="made-up-without-a-colon")
    run()
    assert (
        warnings
        == ["The auth string has no colon. Prefect's own clients can send it, but curl and other clients of basic auth cannot: write user:password."] * 2
    )


def test_takes_it_away(run, path):
    path.write_text(f"{GIVEN}\n")
    path.with_name("auth_string.previous").write_text(f"{OTHER}\n")
    result = run(state="absent", return_value=False)
    assert (result["changed"], path.exists(), result["diff"]["after"]) == (True, False, "auth string: none\nprevious: none\n")
    assert list(path.parent.iterdir()) == []
    assert "fingerprint" not in result
    assert run(state="absent")["changed"] is False


def test_takes_an_empty_file_away(run, path):
    path.touch()
    assert run(state="absent")["changed"] is True
    assert not path.exists()


@pytest.mark.parametrize("state", ["present", "rotated", "absent"])
def test_check_mode_touches_nothing(run, path, state):
    path.write_text(f"{GIVEN}\n")
    assert run(check_mode=True, state=state, value=OTHER)["changed"] is True
    assert path.read_text() == f"{GIVEN}\n"
    path.unlink()
    assert run(check_mode=True, state=state)["changed"] is (state != "absent")
    assert not path.exists()


def test_shows_a_diff_only_when_asked(run):
    assert "diff" not in run(_ansible_diff=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": "admin:pass"}, "value cannot be used: it is an example from somebody's documentation"),
        ({"value": "made-up:short"}, "value cannot be used: its password has 5 characters: use 12 or more"),
        ({"value": "made-up-one", "user": ""}, "value cannot be used: its password has 11 characters: use 12 or more"),
        ({"length": 11}, "length is 11, which is too short with 62 different characters: write 12 or more."),
        ({"length": 19, "alphabet": "0123456789"}, "length is 19, which is too short with 10 different characters: write 20 or more."),
        ({"alphabet": "0123456788"}, "alphabet needs 10 or more different characters of printable ASCII, without the space."),
        ({"alphabet": "0123456789 "}, "alphabet needs 10 or more different characters of printable ASCII, without the space."),
        ({"user": "a:b"}, "user is empty, or holds a colon, a space or a character outside printable ASCII: use others."),
        ({"user": ""}, "user is empty, or holds a colon, a space or a character outside printable ASCII: use others."),
    ],
)
def test_refuses(run, path, arguments, message):
    path.write_text(f"{GIVEN}\n")
    assert run(**arguments)["msg"].startswith(message)
    assert path.read_text() == f"{GIVEN}\n"


def test_says_why_it_could_not_keep_it(run, tmp_path):
    assert run(path=str(tmp_path))["msg"] == f"{tmp_path} could not be kept: [Errno 21] Is a directory: '{tmp_path}'"


@pytest.mark.parametrize("content", ["made-up:short\n", "prefect:made-up-one\nand:made-up-another\n"])
def test_does_not_go_on_with_one_that_somebody_wrote_badly(run, path, content):
    path.write_text(content)
    result = run()
    assert result["msg"].startswith(f"{path} holds an auth string that cannot be used: it")
    assert result["msg"].endswith("; or set state to rotated.")
    assert path.read_text() == content
    assert run(state="rotated")["changed"] is True


def test_says_that_the_file_is_something_else(run, path):
    path.write_bytes(b"\xff\xfe")
    assert run()["msg"] == f"{path} holds no text: is it another program's file?"
