# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import stat
import zipfile
from pathlib import Path

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._uv import UvError, Wheel, install_uv, pick_wheel, uv_path

LOCK_FILE = Path(__file__).parents[4] / "roles/prefect_runtime/files/uv.lock"
INDEX = "https://index.example/simple"
NAME = "uv-9.8.7-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
PINNED_URL = f"https://files.example/ab/{NAME}"


def wheel_with(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"uv-9.8.7.data/scripts/{name}", content)
    return buffer.getvalue()


WHEEL = wheel_with(uv=b"the executable", uvx=b"another")


def lock_of(data: bytes) -> str:
    return f"# the pinned uv\n\nuv @ {PINNED_URL} --hash=sha256:{hashlib.sha256(data).hexdigest()}\n"


LOCK = lock_of(WHEEL)


class Web:
    """Pages by URL, and which were asked for."""

    def __init__(self, **pages: bytes) -> None:
        self.pages = {url: content if isinstance(content, bytes) else content.encode() for url, content in pages.items()}
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pages[url]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Sets what this machine is; Debian on x86_64 when a test does not say."""

    def be(system: str, machine: str, libc: str) -> None:
        monkeypatch.setattr(platform, "system", lambda: system)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))

    be("Linux", "x86_64", "glibc")
    return be


@pytest.mark.parametrize(
    ("system", "arch", "libc", "tag"),
    [
        ("Linux", "x86_64", "glibc", "manylinux_2_17_x86_64"),
        ("Linux", "x86_64", "", "musllinux_1_1_x86_64"),
        ("Linux", "x86_64", "musl", "musllinux_1_1_x86_64"),
        ("Linux", "aarch64", "glibc", "manylinux_2_17_aarch64"),
        ("Linux", "aarch64", "", "musllinux_1_1_aarch64"),
        ("Darwin", "arm64", "", "macosx_11_0_arm64"),
    ],
)
def test_the_committed_lock_has_a_wheel_for_every_supported_machine(machine, system, arch, libc, tag):
    machine(system, arch, libc)
    wheel = pick_wheel(LOCK_FILE.read_text())
    assert tag in wheel.filename
    assert wheel.url.startswith("https://")
    assert wheel.url.endswith(f"/{wheel.filename}")
    assert wheel.filename.startswith(f"uv-{wheel.version}-")


def test_the_committed_lock_pins_one_version():
    lines = [line for line in LOCK_FILE.read_text().splitlines() if not line.startswith("#")]
    assert len({line.rsplit("/", 1)[1].split("-")[1] for line in lines}) == 1


@pytest.mark.parametrize(("system", "arch"), [("Linux", "riscv64"), ("Windows", "x86_64"), ("Linux", "x86"), ("Linux", "64")])
def test_a_machine_that_is_not_in_the_lock_is_named(machine, system, arch):
    machine(system, arch, "glibc")
    with pytest.raises(UvError, match=rf"no wheel for \w+ on {arch}: add the line"):
        pick_wheel(LOCK)


@pytest.mark.parametrize(
    "line",
    [
        f"uv @ {PINNED_URL}",
        f"uv @ {PINNED_URL} --hash=sha256:abc",
        f"uv @ {PINNED_URL} --hash=md5:{'0' * 64}",
        f"ruff @ {PINNED_URL} --hash=sha256:{'0' * 64}",
        f"uv==9.8.7 --hash=sha256:{'0' * 64}",
        f"uv @ https://files.example/uv-9.8.7.tar.gz --hash=sha256:{'0' * 64}",
        f"{LOCK.splitlines()[-1]} --hash=sha256:{'0' * 64}",
    ],
)
def test_a_malformed_line_is_refused_with_its_number(line):
    with pytest.raises(UvError, match=r"^Line 4 of the uv lock"):
        pick_wheel(f"{LOCK}{line}\n")


def test_the_executable_comes_from_the_locked_url(tmp_path):
    web = Web(**{PINNED_URL: WHEEL})
    path = install_uv(LOCK, str(tmp_path), web)
    assert path == uv_path(pick_wheel(LOCK), str(tmp_path)) == str(tmp_path / "uv-9.8.7")
    assert Path(path).read_bytes() == b"the executable"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert os.listdir(tmp_path) == ["uv-9.8.7"]
    assert web.asked == [PINNED_URL]


def test_what_is_there_is_not_fetched_again(tmp_path):
    (tmp_path / "uv-9.8.7").write_text("there")
    web = Web()
    assert install_uv(LOCK, str(tmp_path), web, index_url=INDEX) == str(tmp_path / "uv-9.8.7")
    assert web.asked == []


def test_mode_does_not_depend_on_the_umask(tmp_path):
    old = os.umask(0o077)
    try:
        path = install_uv(LOCK, str(tmp_path), Web(**{PINNED_URL: WHEEL}))
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        (f'<a href="../../packages/{NAME}#sha256=0">x</a>', f"https://index.example/packages/{NAME}"),
        (f'<!DOCTYPE html><html><body><A data-yanked HREF="/files/{NAME}">{NAME}</A>', f"https://index.example/files/{NAME}"),
        (
            f'<link href="/{NAME}"><a href>no link</a><a name="{NAME}">nor this</a><a href="{NAME}">x</a>',
            f"{INDEX}/uv/{NAME}",
        ),
        (f'<a href="https://mirror.example/{NAME.replace("_", "%5F")}">x</a>', f"https://mirror.example/{NAME.replace('_', '%5F')}"),
        (json.dumps({"meta": {}, "files": [{"filename": "x", "url": "x"}, {"filename": NAME, "url": f"../../{NAME}"}]}), f"https://index.example/{NAME}"),
        (json.dumps({"files": [{"url": f"https://mirror.example/{NAME}"}]}), f"https://mirror.example/{NAME}"),
    ],
)
@pytest.mark.parametrize("index_url", [INDEX, f"{INDEX}/"])
def test_a_private_index_is_asked_instead_of_the_locked_url(tmp_path, index_url, page, asked):
    web = Web(**{f"{INDEX}/uv/": page, asked: WHEEL})
    path = install_uv(LOCK, str(tmp_path), web, index_url=index_url)
    assert Path(path).read_bytes() == b"the executable"
    assert web.asked == [f"{INDEX}/uv/", asked]


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        (f"../../{NAME}", f"https://reader:made-up@index.example/{NAME}"),
        (f"https://index.example/{NAME}", f"https://reader:made-up@index.example/{NAME}"),
        (f"https://other.example/{NAME}", f"https://other.example/{NAME}"),
        (f"http://index.example/{NAME}", f"http://index.example/{NAME}"),
    ],
)
def test_credentials_of_an_index_go_to_its_own_host_alone(tmp_path, link, asked):
    web = Web(**{"https://reader:made-up@index.example/simple/uv/": f'<a href="{link}">x</a>', asked: WHEEL})
    install_uv(LOCK, str(tmp_path), web, index_url="https://reader:made-up@index.example/simple")
    assert web.asked[1] == asked


@pytest.mark.parametrize("page", ["<a href='uv-9.8.6.whl'>older</a>", '{"files": []}', ""])
def test_an_index_without_the_wheel_says_what_to_mirror(tmp_path, page):
    with pytest.raises(UvError) as caught:
        install_uv(LOCK, str(tmp_path), Web(**{"https://u:made-up@index.example/uv/": page}), index_url="https://u:made-up@index.example")
    assert str(caught.value) == f"https://index.example/uv/ does not list {NAME}: mirror that file there."


@pytest.mark.parametrize("page", [b"\xff\xfe", b"{not json", b'{"message": "not found"}', b'{"files": [{}]}', b'{"files": 1}'])
def test_a_page_of_something_else_is_told(tmp_path, page):
    with pytest.raises(UvError, match="is not a page of a simple package index"):
        install_uv(LOCK, str(tmp_path), Web(**{f"{INDEX}/uv/": page}), index_url=INDEX)


def test_a_wheelhouse_goes_first_and_needs_no_network(tmp_path):
    (tmp_path / NAME).write_bytes(WHEEL)
    web = Web()
    path = install_uv(LOCK, str(tmp_path), web, index_url=INDEX, wheelhouse=str(tmp_path))
    assert Path(path).read_bytes() == b"the executable"
    assert web.asked == []


def test_a_wheelhouse_without_the_wheel_says_so(tmp_path):
    with pytest.raises(UvError, match=rf"gives no {NAME} \(No such file or directory\): put that file there"):
        install_uv(LOCK, str(tmp_path), Web(), wheelhouse=str(tmp_path))


@pytest.mark.parametrize("source", ["lock", "index", "wheelhouse"])
def test_another_digest_is_refused_whatever_the_source(tmp_path, source):
    other = wheel_with(uv=b"something else")
    (tmp_path / NAME).write_bytes(other)
    root = tmp_path / "root"
    root.mkdir()
    web = Web(**{PINNED_URL: other, f"{INDEX}/uv/": f'<a href="{NAME}">x</a>', f"{INDEX}/uv/{NAME}": other})
    options = {"lock": {}, "index": {"index_url": INDEX}, "wheelhouse": {"wheelhouse": str(tmp_path)}}[source]
    with pytest.raises(UvError, match=hashlib.sha256(other).hexdigest()):
        install_uv(LOCK, str(root), web, **options)
    assert os.listdir(root) == []


@pytest.mark.parametrize("data", [wheel_with(uvx=b"x"), b"no zip at all"])
def test_a_wheel_without_the_executable_is_refused(tmp_path, data):
    with pytest.raises(UvError, match=r"holds no uv-9\.8\.7\.data/scripts/uv"):
        install_uv(lock_of(data), str(tmp_path), Web(**{PINNED_URL: data}))
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(_source: str, _destination: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install_uv(LOCK, str(tmp_path), Web(**{PINNED_URL: WHEEL}))
    assert os.listdir(tmp_path) == []


def test_an_error_of_fetch_goes_through(tmp_path):
    def broken(_url: str) -> bytes:
        raise TimeoutError("slow")

    with pytest.raises(TimeoutError):
        install_uv(LOCK, str(tmp_path), broken)


def test_wheel_is_what_the_lock_says():
    assert pick_wheel(LOCK) == Wheel("9.8.7", PINNED_URL, NAME, hashlib.sha256(WHEEL).hexdigest())
