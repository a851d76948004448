# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import prefect_venv

HASHED = """\
httptools==0.7.1 \\
    --hash=sha256:1111
prefect==3.8.8 \\
    --hash=sha256:2222
uvloop==0.22.1 ; sys_platform != 'win32' \\
    --hash=sha256:3333
"""
PLAIN = "prefect==3.8.8\nuvloop==0.22.1\n"
CREDENTIALS = "reader:made-up%2Fsecret"

# Writes down how it was called, and does as FAKE_UV says.
FAKE_UV = f"""\
#!{sys.executable} -S
import json, os, signal, sys

arguments = sys.argv[1:]
call = {{"arguments": arguments, "environment": {{name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_"))}}}}
if "lock.txt" in " ".join(arguments):
    call["lock"] = open(next(argument for argument in arguments if argument.endswith("lock.txt"))).read()
with open(os.environ["FAKE_UV_LOG"], "a") as log:
    log.write(json.dumps(call) + "\\n")
if arguments[0] == "venv":
    os.makedirs(arguments[-1] + "/bin", exist_ok=True)
    for name in ("bin/python", ".lock"):
        open(arguments[-1] + "/" + name, "w").close()
elif os.environ.get("FAKE_UV") == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif os.environ.get("FAKE_UV"):
    sys.exit(os.environ["FAKE_UV"])
"""
WHEEL_NAME = "uv-9.8.7-py3-none-manylinux_2_17_x86_64.whl"


def wheel_of(script: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv-9.8.7.data/scripts/uv", script)
    return buffer.getvalue()


WHEEL = wheel_of(FAKE_UV)


class Host:
    """A folder of environments, and what uv was called with."""

    def __init__(self, root: Path, log: Path, run_module, lock: str) -> None:
        self.root, self.log, self.run_module, self.uv_lock = root, log, run_module, lock
        # A test need not have so much space.
        self.arguments = {"path": str(root), "version": "3.8.8", "uv_lock": lock, "constraints": HASHED, "link": "current", "free_bytes": 1}

    def install(self, check_mode: bool = False, **arguments):
        given = {**self.arguments, **arguments}
        return self.run_module(prefect_venv.main, check_mode, **{name: value for name, value in given.items() if value is not None})

    def calls(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def arguments_of_pip(self) -> list[list[str]]:
        """Those of each `uv pip install` that differ from one to another, with the lock's file by its name alone."""
        folder = str(self.root / ".cache")
        return [
            ["lock.txt" if argument.startswith(folder) else argument for argument in call["arguments"][6:]]
            for call in self.calls()
            if call["arguments"][0] == "pip"
        ]

    def tree(self) -> dict[str, str]:
        """Everything but the cache: path -> where it links to, or what it is."""
        paths = [path for path in self.root.rglob("*") if ".cache" not in path.parts]
        return {str(path.relative_to(self.root)): os.readlink(path) if path.is_symlink() else "folder" if path.is_dir() else "file" for path in paths}

    def environment(self, name: str, age: int = 0, complete: bool = True) -> None:
        (self.root / name).mkdir(parents=True)
        if complete:
            mark = self.root / name / ".complete"
            mark.touch()
            os.utime(mark, (1e9 - age, 1e9 - age))

    def names(self) -> set[str]:
        return {path.name for path in self.root.glob("3.*")}


@pytest.fixture
def host(tmp_path, fake_api, monkeypatch, run_module):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", ""))
    for name in [name for name in os.environ if name.startswith(("FAKE_UV", "SSL_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FAKE_UV_LOG", str(tmp_path / "log"))
    fake_api.routes = {
        f"GET /{WHEEL_NAME}": (200, WHEEL),
        "GET /simple/uv/": (200, f'<a href="../../{WHEEL_NAME}">{WHEEL_NAME}</a>'),
    }
    lock = f"uv @ http://127.0.0.1:{fake_api.port}/{WHEEL_NAME} --hash=sha256:{hashlib.sha256(WHEEL).hexdigest()}\n"
    old = os.umask(0o022)
    yield Host(tmp_path / "prefect", tmp_path / "log", run_module, lock)
    os.umask(old)


# What an installation does.


def test_the_environment_is_built_and_the_link_switched(host):
    result = host.install()
    name = os.path.basename(result["venv"])
    assert result["changed"]
    assert result["venv"].startswith(f"{host.root}/3.8.8-")
    assert result["pruned"] == []
    assert host.tree() == {name: "folder", f"{name}/bin": "folder", f"{name}/bin/python": "file", f"{name}/.complete": "file", "current": name}
    assert host.calls()[0]["arguments"] == ["venv", "--quiet", "--clear", "--no-project", "--python", "/usr/bin/python3", result["venv"]]
    assert host.calls()[1]["arguments"][:6] == ["pip", "install", "--quiet", "--compile-bytecode", "--python", f"{result['venv']}/bin/python"]
    assert host.calls()[1]["lock"] == HASHED


def test_a_second_run_changes_nothing_and_asks_nobody(host, fake_api):
    first = host.install()
    fake_api.requests.clear()
    host.log.unlink()
    before = host.tree()
    second = host.install()
    assert not second["changed"]
    assert second["venv"] == first["venv"]
    assert second["diff"]["before"] == second["diff"]["after"]
    assert host.tree() == before
    assert (host.calls(), fake_api.asked()) == ([], [])


def test_a_dry_run_on_a_bare_host_tells_and_touches_nothing(host, fake_api):
    result = host.install(check_mode=True)
    name = os.path.basename(result["venv"])
    assert result["changed"]
    assert json.loads(result["diff"]["before"]) == {"environments": [], "links": {}}
    assert json.loads(result["diff"]["after"]) == {"environments": [name], "links": {"current": name}}
    assert not host.root.exists()
    assert fake_api.asked() == []
    assert host.install()["venv"] == result["venv"]


def test_a_dry_run_tells_what_a_change_would_do(host):
    host.install(keep=1)
    before = host.tree()
    predicted = host.install(check_mode=True, extras=["redis"], keep=1)
    assert host.tree() == before
    done = host.install(extras=["redis"], keep=1)
    for key in ("changed", "venv", "links", "pruned", "diff"):
        assert predicted[key] == done[key]
    assert json.loads(done["diff"]["after"])["environments"] == [os.path.basename(done["venv"])]


def test_without_a_link_it_is_only_built(host):
    host.environment("3.0.0-0123456789", age=9)
    result = host.install(link=None, keep=1)
    assert result["changed"]
    assert result["pruned"] == []
    assert host.names() == {"3.0.0-0123456789", os.path.basename(result["venv"])}
    assert not any(path.is_symlink() for path in host.root.iterdir())
    assert result["links"] == []
    switched = host.install()
    assert switched["changed"]
    assert switched["links"] == host.install(link=None)["links"] == ["current"]
    assert len(host.calls()) == 2


def test_an_interrupted_installation_is_built_anew(host):
    venv = Path(host.install(check_mode=True)["venv"])
    (venv / "bin").mkdir(parents=True)
    (host.root / "current").symlink_to("3.7.8-0123456789")
    assert host.install()["changed"]
    assert host.calls()[0]["arguments"][:3] == ["venv", "--quiet", "--clear"]
    assert (venv / ".complete").exists()
    assert os.readlink(host.root / "current") == venv.name


def test_the_remains_of_an_interrupted_switch_do_no_harm(host):
    host.root.mkdir()
    (host.root / ".current.new").symlink_to("anywhere")
    result = host.install()
    assert os.readlink(host.root / "current") == os.path.basename(result["venv"])
    assert not (host.root / ".current.new").is_symlink()


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_service_can_read_and_not_write_what_root_installs(host, umask):
    os.umask(umask)
    venv = Path(host.install()["venv"])
    for path in (host.root, venv, venv / "bin", venv / "bin/python"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    assert stat.S_IMODE((host.root / ".cache").stat().st_mode) == 0o700


def test_two_runs_at_once_take_turns(host):
    host.install()
    held = os.open(host.root, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.3, os.close, [held]).start()
    began = time.monotonic()
    assert not host.install()["changed"]
    assert time.monotonic() - began > 0.25


# What decides that it is another environment.


@pytest.fixture
def known_python(tmp_path):
    """A /usr/bin/python3 whose target is the same on every machine that runs the tests."""
    link = tmp_path / "python3"
    link.symlink_to("/nowhere/python3.11")
    return link


def test_the_name_is_stable(host, known_python):
    # Another name would have every host build its environment anew after an upgrade of the collection.
    assert host.install(check_mode=True, python=str(known_python))["venv"] == f"{host.root}/3.8.8-7c9eaaa3a0"


@pytest.mark.parametrize(
    "change",
    [
        {"version": "3.8.9"},
        {"constraints": HASHED.replace("2222", "4444")},
        {"constraints": None, "requirements": HASHED},
        {"constraints": None, "exclude_newer": "2026-05-15T00:00:00Z"},
        {"extras": ["redis"]},
        {"packages": ["six"]},
    ],
)
def test_another_wish_is_another_environment(host, change):
    assert host.install(check_mode=True, **change)["venv"] != host.install(check_mode=True)["venv"]


def test_another_python_behind_the_same_name_is_another_environment(host, known_python):
    before = host.install(check_mode=True, python=str(known_python))["venv"]
    known_python.unlink()
    known_python.symlink_to("/nowhere/python3.13")
    assert host.install(check_mode=True, python=str(known_python))["venv"] != before


@pytest.mark.parametrize(
    "change",
    [
        {"link": "worker"},
        {"keep": 5},
        {"free_bytes": 2},
        {"index_url": "https://packages.example.com/simple"},
        {"wheelhouse": "/srv/wheelhouse"},
        {"ca_bundle": "/etc/ssl/other.pem"},
        {"uv_lock": "another"},
    ],
)
def test_where_it_comes_from_makes_no_other_environment(host, change):
    assert host.install(check_mode=True, **change)["venv"] == host.install(check_mode=True)["venv"]


def test_order_makes_no_other_environment(host):
    one = host.install(check_mode=True, extras=["redis", "docker"], packages=["six", "toml"])
    assert one["venv"] == host.install(check_mode=True, extras=["docker", "redis"], packages=["toml", "six"])["venv"]


# What uv is asked for.


LOCKED = ["--require-hashes", "--no-build", "--constraints", "lock.txt"]
PINS = ["uvloop==0.22.1", "httptools==0.7.1"]


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ({}, [[*LOCKED, "prefect==3.8.8", *PINS]]),
        ({"extras": ["redis", "docker"]}, [[*LOCKED, "prefect[docker,redis]==3.8.8", *PINS]]),
        ({"constraints": PLAIN}, [["--no-build", "--constraints", "lock.txt", "prefect==3.8.8", "uvloop==0.22.1"]]),
        (
            {"extras": ["redis"], "packages": ["six", "toml>=1"]},
            [
                [*LOCKED, "prefect[redis]==3.8.8", *PINS],
                # Prefect is named again, because what is new must not change it.
                ["--constraints", "lock.txt", "prefect[redis]==3.8.8", "six", "toml>=1"],
            ],
        ),
        ({"constraints": None, "requirements": HASHED}, [["--require-hashes", "--requirements", "lock.txt"]]),
        (
            {"constraints": None, "requirements": PLAIN, "packages": ["six"]},
            [["--requirements", "lock.txt"], ["--constraints", "lock.txt", "prefect==3.8.8", "six"]],
        ),
        (
            {"constraints": None, "exclude_newer": "2026-05-15T00:00:00Z"},
            [["--constraints", "lock.txt", "prefect==3.8.8", "uvloop", "httptools", "sqlalchemy<2.1"]],
        ),
        (
            {"wheelhouse": "WHEELHOUSE", "constraints": PLAIN},
            [["--no-index", "--find-links", "WHEELHOUSE", "--no-build", "--constraints", "lock.txt", "prefect==3.8.8", "uvloop==0.22.1"]],
        ),
    ],
)
def test_uv_is_asked_for(host, tmp_path, arguments, calls):
    (tmp_path / WHEEL_NAME).write_bytes(WHEEL)
    host.install(**{name: str(tmp_path) if value == "WHEELHOUSE" else value for name, value in arguments.items()})
    assert host.arguments_of_pip() == [[str(tmp_path) if argument == "WHEELHOUSE" else argument for argument in call] for call in calls]


def test_uv_is_told_by_its_environment(host, fake_api, tmp_path, monkeypatch):
    monkeypatch.setattr(prefect_venv, "SYSTEM_CA_BUNDLE", str(tmp_path / "none"))
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    index_url = f"http://{CREDENTIALS}@127.0.0.1:{fake_api.port}/simple"
    told = {"UV_CACHE_DIR": str(host.root / ".cache"), "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}
    host.install()
    assert [call["environment"] for call in host.calls()] == [told, told]
    host.log.unlink()
    host.install(constraints=None, exclude_newer="2026-05-15T00:00:00Z", index_url=index_url, ca_bundle=str(bundle))
    told |= {"UV_DEFAULT_INDEX": index_url, "UV_EXCLUDE_NEWER": "2026-05-15T00:00:00Z", "SSL_CERT_FILE": str(bundle)}
    assert [call["environment"] for call in host.calls()] == [told, told]


def test_the_system_s_authorities_are_trusted_by_default(host, tmp_path, monkeypatch):
    bundle = tmp_path / "system.crt"
    bundle.touch()
    monkeypatch.setattr(prefect_venv, "SYSTEM_CA_BUNDLE", str(bundle))
    host.install()
    assert host.calls()[0]["environment"]["SSL_CERT_FILE"] == str(bundle)


# What is kept.


@pytest.mark.parametrize(
    ("environments", "links", "keep", "left"),
    [
        # Two: the one in use and the one before it.
        (["a", "b", "c"], {}, 2, ["a"]),
        (["a", "b", "c"], {}, 1, []),
        (["a", "b", "c"], {}, 4, ["a", "b", "c"]),
        # What was in use until now is gone back to first, however old it is.
        (["a", "b", "c"], {"current": "c"}, 2, ["c"]),
        # What a link names stays, and each link may go back.
        (["a", "b", "c"], {"worker": "c"}, 1, ["c"]),
        (["a", "b", "c", "d"], {"worker": "c"}, 2, ["a", "b", "c"]),
        (["a", "b", "c", "d"], {"worker": "c", "other": "c"}, 2, ["a", "b", "c"]),
        # A link to nothing claims nothing.
        (["a", "b", "c"], {"worker": "z"}, 2, ["a"]),
    ],
)
def test_of_those_that_no_link_names_the_oldest_are_pruned(host, environments, links, keep, left):
    # a is the youngest.
    names = {letter: f"3.0.{ord(letter)}-0123456789" for letter in "abcdz"}
    for age, letter in enumerate(environments):
        host.environment(names[letter], age)
    for link, letter in links.items():
        (host.root / link).symlink_to(names[letter])
    result = host.install(keep=keep)
    assert host.names() == {os.path.basename(result["venv"]), *(names[letter] for letter in left)}
    assert sorted(result["pruned"]) == sorted(f"{host.root}/{names[letter]}" for letter in environments if letter not in left)
    again = host.install(keep=keep)
    assert (again["changed"], again["pruned"]) == (False, [])


def test_what_was_never_finished_is_pruned(host):
    (host.root / "3.0.0-0123456789/lib/python3.11/site-packages").mkdir(parents=True)
    result = host.install()
    assert result["pruned"] == [f"{host.root}/3.0.0-0123456789"]
    assert host.names() == {os.path.basename(result["venv"])}


def test_what_is_no_environment_is_nobody_s_to_prune(host):
    for name in ("backup", "backup-1732612345", "3.8.8", "3.8.8-old", "3.8.8-1732612345", "notes-0123456789abc"):
        (host.root / name / "lib").mkdir(parents=True)
    (host.root / "backup-1732612345/.complete").touch()
    (host.root / "prefect_worker.py").touch()
    assert host.install(keep=1)["pruned"] == []
    assert (host.root / "prefect_worker.py").exists()
    assert {"3.8.8", "3.8.8-old", "3.8.8-1732612345"} < host.names()
    assert (host.root / "backup-1732612345").exists()


def test_an_interrupted_removal_leaves_nothing_that_looks_finished(host, monkeypatch):
    host.environment("3.0.0-0123456789")
    monkeypatch.setattr(shutil, "rmtree", lambda *_args, **_options: None)
    host.install(keep=1)
    assert host.names() >= {"3.0.0-0123456789"}
    assert not (host.root / "3.0.0-0123456789/.complete").exists()


def test_the_cache_is_that_of_the_versions_at_hand(host, fake_api):
    host.install()
    left = host.root / ".cache/left"
    left.touch()
    host.install(extras=["redis"])
    assert left.exists()
    assert fake_api.asked() == [f"GET /{WHEEL_NAME}"], "another environment of the same version needs no second uv"
    host.install(version="3.8.9")
    assert not left.exists()


def test_no_lock_of_uv_lies_in_the_cache_afterwards(host):
    host.install()
    assert [path.name for path in (host.root / ".cache").iterdir()] == ["uv-9.8.7"]


# What goes wrong. What runs is untouched by all of it.


@pytest.fixture
def running(host):
    """An environment in use, and a check at the end that it is so still."""
    host.install()
    before = host.tree()
    yield host
    assert host.tree() == before


@pytest.mark.parametrize(("count", "shown"), [(1, [0]), (20, range(20)), (100, [*range(10), -1, *range(90, 100)])])
def test_what_uv_says_is_shown(running, monkeypatch, count, shown):
    monkeypatch.setenv("FAKE_UV", "\n".join(f"line {number}" for number in range(count)))
    result = running.install(extras=["redis"])
    assert result["failed"]
    first, *words = result["msg"].splitlines()
    assert first.startswith(f"Prefect 3.8.8 could not be installed into {running.root}/3.8.8-")
    assert first.endswith("; what runs is untouched. uv says:")
    assert words == ["..." if number == -1 else f"line {number}" for number in shown]


def test_a_uv_that_is_killed_says_nothing(running, monkeypatch):
    monkeypatch.setenv("FAKE_UV", "killed")
    assert running.install(extras=["redis"])["msg"].endswith("uv says:\nnothing, and ended with -9")


@pytest.mark.parametrize(
    "words",
    [
        f"error: Failed to fetch: `http://{CREDENTIALS}@packages.example.com/simple/prefect/`",
        "error: 401 for reader:made-up%2Fsecret",
        "error: password made-up/secret",
        "error: password made-up%2Fsecret",
    ],
)
def test_credentials_of_the_index_are_shown_by_nothing(running, monkeypatch, words):
    monkeypatch.setenv("FAKE_UV", words)
    result = running.install(extras=["redis"], index_url=f"http://{CREDENTIALS}@packages.example.com/simple")
    assert "uv, asking packages.example.com, says:\nerror:" in result["msg"]
    assert "made-up" not in result["_output"]
    assert "made-up" not in json.dumps([call["arguments"] for call in running.calls()])


def test_a_token_for_a_user_is_a_secret_too(running, monkeypatch):
    monkeypatch.setenv("FAKE_UV", "error: 403 for made-up-token")
    result = running.install(extras=["redis"], index_url="http://made-up-token@packages.example.com/simple")
    assert "made-up" not in result["_output"]


@pytest.fixture
def bare(host):
    """A host without uv, and a check at the end that no environment was made."""
    yield host
    assert host.names() == set()
    assert not (host.root / "current").is_symlink()


def test_no_uv_for_this_machine(bare, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert bare.install()["msg"] == (
        "uv could not be installed; what runs is untouched. The uv lock has no wheel for manylinux on riscv64: add the line of one to the lock."
    )


def test_another_uv_than_the_locked_one(bare, fake_api):
    fake_api.routes[f"GET /{WHEEL_NAME}"] = (200, wheel_of("something else"))
    assert "it is not the uv that was asked for and is not used" in bare.install()["msg"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://{CREDENTIALS}@127.0.0.1:9/simple", "127.0.0.1 does not give it: <urlopen error [Errno 111] Connection refused>"),
        (f"http://{CREDENTIALS}@127.0.0.1:PORT/nothing", "127.0.0.1 does not give it: HTTP Error 404: Not Found"),
        (f"http://{CREDENTIALS}@127.0.0.1:PORT/closed", "127.0.0.1 does not give it: HTTP Error 401: Unauthorized"),
        (f"http://{CREDENTIALS}@127.0.0.1:PORT/broken", "127.0.0.1 does not give it: "),
        (f"http://{CREDENTIALS}@127.0.0.1:PORT/empty", "does not list"),
        (f"{CREDENTIALS}@127.0.0.1", "index_url does not give it: <urlopen error unknown url type"),
    ],
)
def test_an_index_that_does_not_give_uv(bare, fake_api, url, words):
    fake_api.routes |= {
        "GET /closed/uv/": (401, "", {"WWW-Authenticate": 'Basic realm="index"'}),
        # Less than was promised.
        "GET /broken/uv/": (200, "", {"Content-Length": "10"}),
        "GET /empty/uv/": (200, "<html></html>"),
    }
    result = bare.install(index_url=url.replace("PORT", str(fake_api.port)))
    assert result["msg"].startswith("uv could not be installed; what runs is untouched. ")
    assert words in result["msg"]
    assert "made-up" not in result["_output"]


def test_the_index_gets_its_password_at_once_and_decoded(host, fake_api):
    host.install(index_url=f"http://{CREDENTIALS}@127.0.0.1:{fake_api.port}/simple")
    assert fake_api.asked() == ["GET /simple/uv/", f"GET /{WHEEL_NAME}"]
    assert {request["headers"]["Authorization"] for request in fake_api.requests} == {"Basic cmVhZGVyOm1hZGUtdXAvc2VjcmV0"}


def test_a_host_that_the_index_redirects_to_does_not_get_the_password(host, fake_api):
    fake_api.routes[f"GET /{WHEEL_NAME}"] = (302, "", {"Location": f"http://localhost:{fake_api.port}/elsewhere"})
    fake_api.routes["GET /elsewhere"] = (200, WHEEL)
    host.install(index_url=f"http://{CREDENTIALS}@127.0.0.1:{fake_api.port}/simple")
    assert fake_api.asked()[-1] == "GET /elsewhere"
    assert fake_api.requests[-1]["headers"]["Authorization"] is None


def test_the_certificate_of_the_index_is_checked_by_the_bundle(host, raw_server, certificate, tmp_path):
    def serve(connection) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + WHEEL)
        connection.close()

    server = raw_server(serve, certificate.context)
    lock = host.uv_lock.replace("http://", "https://").replace(host.uv_lock.split("/")[2], f"127.0.0.1:{server.port}")
    refused = host.install(uv_lock=lock)
    assert "certificate verify failed" in refused["msg"].lower()
    assert host.install(uv_lock=lock, ca_bundle=certificate.path)["changed"]


def test_a_bundle_that_is_not_there(bare):
    assert bare.install(ca_bundle="/nowhere.pem")["msg"] == (
        "ca_bundle (prefect_runtime_ca_bundle or prefect_ca_bundle) is /nowhere.pem, which is no file on this host: bring the PEM bundle there first."
    )


@pytest.mark.parametrize("check_mode", [False, True])
def test_too_little_space(bare, monkeypatch, check_mode):
    usage = shutil.disk_usage("/")._replace(free=300 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert bare.install(check_mode=check_mode, free_bytes=1 << 30)["msg"] == (
        f"path (prefect_runtime_path) is {bare.root}, which has 300 MiB of free space, and an installation of Prefect wants 1024 MiB: "
        "free some, or write a folder on a larger disk."
    )
    assert not bare.root.exists()


def test_space_that_runs_out_meanwhile_is_given_back(running, monkeypatch):
    monkeypatch.setenv("FAKE_UV", "error: No space left on device (os error 28)")
    assert "No space left on device" in running.install(extras=["redis"])["msg"]


def test_a_path_that_cannot_be_made(host, tmp_path):
    (tmp_path / "file").touch()
    message = host.install(path=str(tmp_path / "file/prefect"))["msg"]
    assert message.startswith(f"Prefect 3.8.8 could not be installed below {tmp_path}/file/prefect; what runs is untouched. [Errno 20]")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"constraints": None}, "one of the following is required: constraints, requirements, exclude_newer"),
        ({"requirements": HASHED}, "parameters are mutually exclusive: constraints|requirements|exclude_newer"),
    ],
)
def test_one_source_of_versions(bare, arguments, words):
    assert bare.install(**arguments)["msg"] == words
