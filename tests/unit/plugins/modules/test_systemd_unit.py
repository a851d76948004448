# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import systemd_unit
from ansible_collections.selfhost.prefect.plugins.modules.systemd_unit import main

CONTENT = "[Service]\nExecStart=/bin/true\n"


def systemctl(folder, monkeypatch, state):
    """Have systemctl say that the service is in a state."""
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$*" = "is-active example.service" ] && echo {state}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Folders of units and of running ones. Gives a function that writes a file at a second of its own."""
    monkeypatch.setattr(systemd_unit, "UNITS", str(tmp_path))
    monkeypatch.setattr(systemd_unit, "INVOCATIONS", str(tmp_path))
    systemctl(tmp_path, monkeypatch, "active")

    def write(name, second, link=False):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if link:
            path.symlink_to("nowhere")
        else:
            path.write_text(CONTENT)
        os.utime(path, (second, second), follow_symlinks=False)
        return str(path)

    return write


@pytest.fixture
def run(run_module):
    def call(**arguments):
        return run_module(main, **{"name": "example.service", "content": CONTENT, "mode": "0644", "_ansible_diff": True, **arguments})

    return call


@pytest.mark.usefixtures("host")
def test_writes_once(run, tmp_path):
    unit = tmp_path / "example.service"
    checked = run(check_mode=True)
    assert not unit.exists()
    done = run()
    assert (unit.read_text(), unit.stat().st_mode & 0o777) == (CONTENT, 0o644)
    assert checked["changed"] is done["changed"] is True
    assert checked["diff"] == done["diff"] == {"before": "", "after": CONTENT, "before_header": str(unit), "after_header": str(unit)}
    assert run()["changed"] is False


def test_a_mode_is_a_change(host, run):
    host("example.service", 1)
    assert run(check_mode=True, mode="0600")["changed"] is True
    assert run(mode="0600")["changed"] is True
    assert run(mode="0600")["changed"] is False


def test_what_is_newer_than_the_service_makes_it_stale(host, run):
    host("invocation:example.service", 10, link=True)
    host("example.service", 9)
    sources = [host("older", 9), host("same", 10), "/nowhere"]
    assert run(sources=sources)["stale"] is False
    assert run(sources=[*sources, host("link", 11, link=True)])["stale"] is True
    host("example.service", 11)
    assert run(check_mode=True)["stale"] is True
    assert run()["changed"] is False


def test_a_service_that_is_down_is_not_stale(host, run):
    host("example.service", 9)
    assert run()["stale"] is False


def test_a_drop_in_is_one_of_its_service(host, run, tmp_path):
    assert run(name="example.service.d/some.conf")["changed"] is True
    assert (tmp_path / "example.service.d/some.conf").read_text() == CONTENT
    host("invocation:example.service", 10, link=True)
    assert run(name="example.service.d/some.conf")["stale"] is True


@pytest.mark.parametrize("since", [0, 10])
def test_a_service_that_does_not_get_to_running_is_stale(host, run, tmp_path, monkeypatch, since):
    """It has no invocation while systemd waits before the next try."""
    systemctl(tmp_path, monkeypatch, "activating")
    if since:
        host("invocation:example.service", since, link=True)
    # There is nothing to start before it is written.
    assert run()["stale"] is False
    host("example.service", 9)
    assert run(check_mode=True)["stale"] is True
    done = run()
    assert (done["changed"], done["stale"]) == (False, True)


def test_what_cannot_be_written_is_told(host, run):
    host("example.service.d", 1)
    failed = run(name="example.service.d/some.conf")
    assert failed["failed"] is True
    assert failed["msg"].startswith("example.service.d/some.conf could not be written: [Errno 20]")
