# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This code is PRIVATE to the collection. It needs the standard library alone: scripts/bootstrap runs it without Ansible.

"""The pinned uv: which wheel fits this machine, where to get it, and how to put its executable in place.

    path = install_uv(lock_text, "/opt/prefect/bin", fetch)     # "/opt/prefect/bin/uv-0.13.9"

``fetch`` is a callable that takes a URL and returns the bytes behind it; whoever calls brings TLS, proxies and time-outs.
"""

from __future__ import annotations

import hashlib
import html.parser
import io
import json
import os
import platform
import re
import tempfile
import typing as t
import urllib.parse
import zipfile

Fetch = t.Callable[[str], bytes]

_LOCK_LINE = re.compile(r"uv @ (?P<url>\S+/(?P<filename>uv-(?P<version>[^-/\s]+)-[^/\s]+\.whl)) --hash=sha256:(?P<sha256>[0-9a-f]{64})")


class UvError(Exception):
    """What went wrong and what to do about it, in a sentence fit for the user."""


class Wheel(t.NamedTuple):
    """One line of the lock."""

    version: str
    url: str
    filename: str
    sha256: str


def pick_wheel(lock: str) -> Wheel:
    """The wheel for this machine, from the text of a uv.lock (one ``uv @ URL --hash=sha256:...`` a platform)."""
    wheels = []
    for number, line in enumerate(lock.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LOCK_LINE.fullmatch(line.strip())
        if match is None:
            raise UvError(f"Line {number} of the uv lock is not of the form 'uv @ URL --hash=sha256:DIGEST': make the lock anew.")
        wheels.append(Wheel(match["version"], match["url"], match["filename"], match["sha256"]))

    # Before Python 3.13 libc_ver() knows glibc alone, and is empty on musl.
    linux = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    system, machine = platform.system(), platform.machine()
    prefix = {"Linux": linux, "Darwin": "macosx"}.get(system, system)
    for wheel in wheels:
        # Such as manylinux_2_17_x86_64; one file may carry several tags.
        if re.search(rf"{prefix}_\d+_\d+_{re.escape(machine)}\.", wheel.filename):
            return wheel
    raise UvError(f"The uv lock has no wheel for {prefix} on {machine}: add the line of one to the lock.")


def uv_path(wheel: Wheel, root: str) -> str:
    """Where :func:`install_uv` puts the executable: ``<root>/uv-<version>``."""
    return os.path.join(root, f"uv-{wheel.version}")


def install_uv(lock: str, root: str, fetch: Fetch, index_url: str = "", wheelhouse: str = "") -> str:
    """Make sure that ``<root>/uv-<version>`` is there and return its path; nothing is fetched when it is.

    The wheel comes from the folder ``wheelhouse`` when given, else from the package index ``index_url`` when given, else
    from the lock's own URL. Whatever its source, its digest must be the lock's before anything of it is unpacked.
    ``root`` must exist. The file appears complete or not at all, with mode 0755.
    """
    wheel = pick_wheel(lock)
    path = uv_path(wheel, root)
    if not os.path.exists(path):
        _unpack(_get(wheel, fetch, index_url, wheelhouse), wheel, path)
    return path


def _get(wheel: Wheel, fetch: Fetch, index_url: str, wheelhouse: str) -> bytes:
    if wheelhouse:
        source = os.path.join(wheelhouse, wheel.filename)
        try:
            with open(source, "rb") as file:
                data = file.read()
        except OSError as error:
            raise UvError(f"The wheelhouse {wheelhouse} gives no {wheel.filename} ({error.strerror}): put that file there.") from error
    else:
        source = _find_in_index(wheel, index_url, fetch) if index_url else wheel.url
        data = fetch(source)
    digest = hashlib.sha256(data).hexdigest()
    if digest != wheel.sha256:
        raise UvError(f"{_public(source)} has the SHA-256 {digest}, not {wheel.sha256} as locked: it is not the uv that was asked for and is not used.")
    return data


def _find_in_index(wheel: Wheel, index_url: str, fetch: Fetch) -> str:
    """The wheel's URL in a simple repository (PEP 503 in HTML, PEP 691 in JSON)."""
    page_url = f"{index_url.rstrip('/')}/uv/"
    page = fetch(page_url)
    try:
        text = page.decode()
        links = [file["url"] for file in json.loads(text)["files"]] if text.lstrip().startswith("{") else _Links.of(text)
    except (ValueError, KeyError, TypeError) as error:
        raise UvError(f"{_public(page_url)} is not a page of a simple package index: check the index's URL.") from error
    for link in links:
        url = urllib.parse.urldefrag(urllib.parse.urljoin(page_url, link)).url
        if urllib.parse.unquote(url.rsplit("/", 1)[-1]) == wheel.filename:
            return _with_credentials_of(page_url, url)
    raise UvError(f"{_public(page_url)} does not list {wheel.filename}: mirror that file there.")


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]

    @classmethod
    def of(cls, text: str) -> list[str]:
        parser = cls()
        parser.feed(text)
        return parser.found


def _with_credentials_of(page_url: str, url: str) -> str:
    """A link to the index's own host takes the credentials of the index, as with pip; another host never sees them."""
    page, link = urllib.parse.urlsplit(page_url), urllib.parse.urlsplit(url)
    credentials, at, host = page.netloc.rpartition("@")
    if at and (link.scheme, link.netloc) == (page.scheme, host):
        link = link._replace(netloc=f"{credentials}@{host}")
    return link.geturl()


def _public(url: str) -> str:
    """A URL as it may be shown: without credentials."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _unpack(data: bytes, wheel: Wheel, path: str) -> None:
    member = f"uv-{wheel.version}.data/scripts/uv"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            executable = archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise UvError(f"{wheel.filename} holds no {member}: make the uv lock anew.") from error
    descriptor, temporary = tempfile.mkstemp(prefix=".uv-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(executable)
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
