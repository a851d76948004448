# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint
from ansible_collections.selfhost.prefect.plugins.modules.systemd_environment_file import HEADER, SECRETS, main


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secrets.env"


@pytest.fixture
def run(run_module, path):
    def call(**arguments):
        result = run_module(main, **{"path": str(path), "secrets": {"KEY": "made-up"}, "_ansible_diff": True, **arguments})
        assert "made-up" not in result["_output"]
        return result

    return call


def test_writes_once(run, path):
    result = run()
    assert (result["changed"], result["path"]) == (True, str(path))
    assert path.read_text() == HEADER + SECRETS + 'KEY="made-up"\n'
    assert path.stat().st_mode & 0o777 == 0o600
    assert run()["changed"] is False


def test_the_diff_has_names_and_fingerprints(run):
    run()
    result = run(secrets={"KEY": "made-up too", "OTHER": "made-up"})
    assert result["changed"] is True
    assert result["diff"] == {
        "before_header": result["path"],
        "after_header": result["path"],
        "before": f"KEY={fingerprint(chr(34) + 'made-up' + chr(34))}\n",
        "after": f"KEY={fingerprint(chr(34) + 'made-up too' + chr(34))}\nOTHER={fingerprint(chr(34) + 'made-up' + chr(34))}\n",
    }
    assert "diff" not in run(_ansible_diff=False)


def test_the_diff_has_values_that_are_public(run):
    run(variables={"COLOR": "red"}, secrets={})
    result = run(variables={"COLOR": "blue"})
    assert result["diff"]["before"] == 'COLOR="red"\n'
    assert result["diff"]["after"] == f'COLOR="blue"\nKEY={fingerprint(chr(34) + "made-up" + chr(34))}\n'


def test_a_name_that_is_both_is_a_secret(run, path):
    run(variables={"KEY": "made-up-to-be-seen"}, secrets={"KEY": "made-up"})
    assert path.read_text() == HEADER + SECRETS + 'KEY="made-up"\n'


def test_what_was_or_became_a_secret_is_not_shown(run):
    run()
    moved = run(variables={"KEY": "plain"}, secrets={})["diff"]
    assert (moved["before"], moved["after"]) == (f"KEY={fingerprint(chr(34) + 'made-up' + chr(34))}\n", 'KEY="plain"\n')
    back = run()["diff"]
    assert back["before"] == f"KEY={fingerprint(chr(34) + 'plain' + chr(34))}\n"


def test_a_file_of_somebody_else_is_shown_as_little(run, path):
    path.write_text("made-up\nOLD=made-up\n")
    assert run(variables={"OLD": "another"})["diff"]["before"] == f"OLD={fingerprint('made-up')}\n"


def test_sets_the_mode(run, path):
    run()
    assert run(mode="0640")["changed"] is True
    assert path.stat().st_mode & 0o777 == 0o640


def test_check_mode_touches_nothing(run, path):
    assert run(check_mode=True)["changed"] is True
    assert not path.exists()


def test_refuses(run, path):
    path.write_text("before")
    assert run(secrets={"KEY": "made-up\n"})["msg"] == (
        f"{path} was not written: The environment variable KEY holds a line break or another control character: take it out"
    )
    assert path.read_text() == "before"


def test_wants_a_folder(run, tmp_path):
    missing = tmp_path / "missing" / "secrets.env"
    assert run(path=str(missing))["msg"].startswith(f"{missing} could not be written: [Errno 2] No such file or directory")
