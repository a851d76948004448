# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import nginx_site
from ansible_collections.selfhost.prefect.plugins.modules.nginx_site import main

SITE = "server { listen 80 default_server; }\n"
CONF = "user www-data;\nevents {\n\tworker_connections 768;\n\t# multi_accept on;\n}\nhttp {}\n"
TUNED = "user www-data;\nworker_rlimit_nofile 8192;\nevents {\n\tworker_connections 4096;\n\t# multi_accept on;\n}\nhttp {}\n"
# It tells what it was asked and what it saw, and refuses what says so.
NGINX = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> asked
if grep -s refuse site.conf nginx.conf other; then echo "[emerg] that is refused" >&2; exit 1; fi
! test -e mute || exit 1
"""
NEW = "nginx refuses the new configuration. The previous one is back, and keeps serving: "
OLD = "nginx refuses the configuration of this host, its sites together. It runs on, and would not start again: "


class Host:
    def __init__(self, folder):
        self.folder = folder
        self.site, self.conf, self.other, self.default, self.asked = (folder / name for name in ("site.conf", "nginx.conf", "other", "default", "asked"))
        self.conf.write_text(CONF)
        self.conf.chmod(0o640)
        self.other.write_text("something else\n")
        self.default.symlink_to("other")
        (folder / "nginx").write_text(NGINX)
        (folder / "nginx").chmod(0o755)

    def files(self):
        """All there is, but for what nginx was asked."""
        return {
            path.name: (path.is_symlink(), path.read_text(), path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_mode)
            for path in self.folder.iterdir()
            if path.is_file() and path != self.asked
        }

    def runs(self, *ages):
        """A master process and its workers, so many seconds old."""
        (self.folder / "pid").write_text("7\n")
        (self.folder / "7/task/7").mkdir(parents=True)
        (self.folder / "7/task/7/children").write_text("".join(f"{10 + number} " for number in range(len(ages))))
        for number, age in enumerate(ages):
            ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age) * os.sysconf("SC_CLK_TCK"))
            (self.folder / f"{10 + number}").mkdir()
            (self.folder / f"{10 + number}/stat").write_text(f"{10 + number} (nginx :) 1) S 7 {'0 ' * 17}{ticks} 0\n")


@pytest.fixture
def host(tmp_path, monkeypatch):
    for name, value in {"NGINX": "nginx", "CONF": "nginx.conf", "PID": "pid", "PROC": ""}.items():
        monkeypatch.setattr(nginx_site, name, str(tmp_path / value))
    return Host(tmp_path)


@pytest.fixture
def run(run_module, host):
    def call(**arguments):
        given = {"path": str(host.site), "content": SITE, "replaces": str(host.default), "mode": "0644", "_ansible_diff": True}
        return run_module(main, **{**given, **arguments})

    return call


def age(path, seconds):
    os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_writes_the_site_in_the_place_of_another_once(run, host):
    before = host.files()
    checked = run(check_mode=True)
    assert host.files() == before
    assert not host.asked.exists()
    done = run()
    assert checked["changed"] is done["changed"] is True
    assert checked["diff"] == done["diff"]
    assert [(shown["before_header"], shown["before"], shown["after"]) for shown in done["diff"]] == [
        (str(host.default), "something else\n", ""),
        (str(host.conf), CONF, TUNED),
        (str(host.site), "", SITE),
    ]
    assert (host.site.read_text(), host.site.stat().st_mode & 0o777) == (SITE, 0o644)
    assert (host.conf.read_text(), host.conf.stat().st_mode & 0o777) == (TUNED, 0o640)
    assert not host.default.is_symlink()
    assert host.other.exists()
    assert host.asked.read_text() == "-t\n"
    after = host.files()
    assert run()["changed"] is run(check_mode=True)["changed"] is False
    assert host.files() == after
    assert host.asked.read_text() == "-t\n" * 3


@pytest.mark.parametrize("there", [SITE, "server { listen 81; }\n", None])
def test_goes_on_where_a_run_was_interrupted(run, host, there):
    if there:
        host.site.write_text(there)
    host.default.unlink()
    assert run()["changed"] is True
    assert (host.site.read_text(), host.conf.read_text()) == (SITE, TUNED)


def test_another_site_stays_unless_it_is_named(run, host):
    run(replaces=None)
    assert host.default.is_symlink()


def test_a_mode_is_a_change(run, host):
    run()
    assert run(mode="0600")["changed"] is True
    assert host.site.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "conf",
    [
        CONF.replace("768", "1024").encode(),
        b"worker_rlimit_nofile 2000;\n" + CONF.encode(),
        CONF.encode() + b"worker_rlimit_nofile 2000;\n",
        b"# Mit fr\xf6hlichen Gr\xfc\xdfen\n" + CONF.encode(),
    ],
)
def test_what_somebody_tuned_stays(run, host, conf):
    host.conf.write_bytes(conf)
    assert run()["changed"] is True
    assert host.conf.read_bytes() == conf


def test_a_configuration_of_elsewhere_stays(run, host):
    kept = host.folder / "kept"
    host.conf.rename(kept)
    host.conf.symlink_to(kept)
    run()
    assert host.conf.is_symlink()
    assert kept.read_text() == CONF


@pytest.mark.parametrize("before", ["server { listen 81; }\n", None])
def test_what_nginx_refuses_is_taken_back(run, host, before):
    if before:
        host.site.write_text(before)
        age(host.site, 100)
    files = host.files()
    failed = run(content="refuse\n")
    assert (failed["failed"], failed["msg"]) == (True, f"{NEW}[emerg] that is refused")
    assert host.files() == files
    assert sorted(path.name for path in host.folder.iterdir() if path.is_dir()) == []


def test_a_refusal_without_words_is_one(run, host):
    (host.folder / "mute").touch()
    assert run()["msg"] == f"{NEW}nginx -t ends with 1"


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_is_broken_without_a_change_is_told(run, host, check_mode):
    run()
    host.other.write_text("refuse\n")
    files = host.files()
    failed = run(check_mode=check_mode)
    assert (failed["failed"], failed["msg"]) == (True, f"{OLD}[emerg] that is refused")
    assert host.files() == files


def test_what_fails_half_way_is_taken_back(run, host):
    files = host.files()
    failed = run(path=str(host.folder / "nowhere/site.conf"))
    assert failed["failed"] is True
    assert failed["msg"].startswith(f"{host.folder}/nowhere/site.conf could not be written: [Errno 2]")
    assert host.files() == files


def test_nginx_is_stale_until_its_youngest_worker_is_younger_than_the_files(run, host):
    run()
    age(host.site, 100)
    age(host.conf, 100)
    assert run()["stale"] is False
    host.runs(200, 50, 150)
    assert run()["stale"] is False
    age(host.conf, 20)
    assert run()["stale"] is run(check_mode=True)["stale"] is True
    age(host.conf, 100)
    age(host.site, 20)
    done = run()
    assert (done["changed"], done["stale"]) == (False, True)


def test_a_first_site_is_not_stale(run, host):
    host.runs(50)
    age(host.conf, 100)
    assert run()["stale"] is False


def test_a_worker_that_ends_at_this_moment_is_passed_over(run, host, monkeypatch):
    run()
    age(host.site, 100)
    age(host.conf, 20)
    host.runs(50, 50, 10)
    (host.folder / "10/stat").unlink()

    def read(path):
        if path.endswith("/11/stat"):
            raise ProcessLookupError
        return real(path)

    real = nginx_site.read
    monkeypatch.setattr(nginx_site, "read", read)
    assert run()["stale"] is False
