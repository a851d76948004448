# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex
import sys

import pytest
from ansible_collections.selfhost.prefect.plugins.modules.prefect_toml import HEADER, main

SETTINGS = {"server": {"api": {"port": 4200}}}
TEXT = HEADER + "[server.api]\nport = 4200\n"


@pytest.fixture
def python(tmp_path):
    """Stands for the interpreter of an installed Prefect: it says what `answer` says, and notes what it was asked."""
    script = tmp_path / "python"
    script.write_text(
        f"#!/bin/sh\ncat > {shlex.quote(str(tmp_path / 'asked'))}\nenv > {shlex.quote(str(tmp_path / 'env'))}\n. {shlex.quote(str(tmp_path / 'answer'))}\n"
    )
    script.chmod(0o755)
    (tmp_path / "answer").write_text("echo '[]'")
    return script


@pytest.fixture
def run(run_module, tmp_path, python):
    def call(**arguments):
        return run_module(main, **{"path": str(tmp_path / "prefect.toml"), "settings": SETTINGS, "python": str(python), "mode": "0640", **arguments})

    return call


def test_writes_what_prefect_accepts(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", "somebody's")
    result = run()
    assert (result["changed"], result["up_to_date"], result["checked"], result["path"]) == (True, False, True, str(tmp_path / "prefect.toml"))
    assert (result["diff"]["before"], result["diff"]["after"]) == ("", TEXT)
    assert (tmp_path / "prefect.toml").read_text() == TEXT
    assert (tmp_path / "prefect.toml").stat().st_mode & 0o777 == 0o640
    assert json.loads((tmp_path / "asked").read_text()) == SETTINGS
    # Nothing of the environment may have a say in what is right.
    assert "PREFECT_API_KEY" not in (tmp_path / "env").read_text()


def test_a_second_time_nothing_is_asked_or_changed(run, tmp_path):
    run()
    (tmp_path / "answer").write_text("exit 1")
    result = run()
    assert (result["changed"], result["up_to_date"], result["checked"]) == (False, True, False)


def test_another_prefect_may_be_asked_about_what_is_there_already(run, tmp_path):
    run()
    result = run(always_check=True)
    assert (result["changed"], result["checked"]) == (False, True)
    (tmp_path / "answer").write_text("""echo '["server.api.port is no setting of this Prefect"]'""")
    assert run(always_check=True)["faults"] == ["server.api.port is no setting of this Prefect"]


def test_another_mode_is_a_change(run, tmp_path):
    run()
    result = run(mode="0600")
    assert (result["changed"], result["up_to_date"], result["checked"]) == (True, False, False)
    assert (tmp_path / "prefect.toml").stat().st_mode & 0o777 == 0o600


def test_check_mode_checks_and_writes_nothing(run, tmp_path):
    result = run(check_mode=True)
    assert (result["changed"], result["checked"], result["diff"]["after"]) == (True, True, TEXT)
    assert not (tmp_path / "prefect.toml").exists()


def test_check_mode_needs_no_prefect(run, tmp_path):
    result = run(check_mode=True, python=str(tmp_path / "missing"))
    assert (result["changed"], result["checked"]) == (True, False)


def test_without_an_interpreter_nothing_is_checked(run, tmp_path):
    result = run(python=None)
    assert (result["changed"], result["checked"]) == (True, False)
    assert (tmp_path / "prefect.toml").read_text() == TEXT


def test_an_empty_file_is_not_the_same_as_none(run, tmp_path):
    assert run(settings={}, python=None)["changed"] is True
    assert (tmp_path / "prefect.toml").read_text() == HEADER


def test_refuses_what_prefect_refuses(run, tmp_path):
    run()
    (tmp_path / "answer").write_text("""echo '["server.api.prot is no setting of this Prefect; did you mean server.api.port?", "server.ui is a table"]'""")
    result = run(settings={"server": {"api": {"prot": 4200}, "ui": 5}})
    assert result["msg"] == (
        f"{tmp_path}/prefect.toml was not written, for its settings (prefect_server_settings) are wrong:\n"
        "- server.api.prot is no setting of this Prefect; did you mean server.api.port?\n"
        "- server.ui is a table"
    )
    assert result["faults"] == ["server.api.prot is no setting of this Prefect; did you mean server.api.port?", "server.ui is a table"]
    assert (tmp_path / "prefect.toml").read_text() == TEXT


def test_says_why_nothing_could_be_checked(run, tmp_path, python):
    (tmp_path / "answer").write_text("echo 'Traceback' >&2; echo 'ModuleNotFoundError: No module named prefect' >&2; exit 1")
    assert run()["msg"] == (
        f"{python} could not check the settings; {tmp_path}/prefect.toml is untouched. It says:\nTraceback\nModuleNotFoundError: No module named prefect"
    )
    assert not (tmp_path / "prefect.toml").exists()


def test_refuses_what_toml_cannot_say(run, tmp_path):
    assert run(settings={"server": {"ui": {"api_url": None}}})["msg"] == (
        f"{tmp_path}/prefect.toml was not written: server.ui.api_url is None, which TOML cannot say"
    )


def test_wants_a_folder(run, tmp_path):
    missing = tmp_path / "missing" / "prefect.toml"
    assert run(path=str(missing))["msg"] == f"{missing} was not written, for its folder does not exist: make it first."


def test_says_why_it_could_not_read(run, tmp_path):
    assert run(path=str(tmp_path))["msg"] == f"{tmp_path} could not be written: [Errno 21] Is a directory: '{tmp_path}'"


def test_the_check_is_python():
    from ansible_collections.selfhost.prefect.plugins.modules.prefect_toml import CHECK

    compile(CHECK, "check", "exec")
    assert sys.version_info >= (3, 9)
