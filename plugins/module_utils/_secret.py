# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""Secrets, and the files that hold them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
import time
from typing import NamedTuple, Protocol


@functools.lru_cache
def fingerprint(secret: str) -> str:
    """Tells one secret from another in a diff. Slow and short, so that it is of no help in guessing."""
    return hashlib.scrypt(secret.encode(), salt=b"selfhost.prefect", n=1 << 14, r=8, p=1, dklen=4).hex() if secret else "none"


def read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def write(path: str, text: str) -> None:
    """Replaces the file in one step. It is its owner's alone from the first moment on, which AnsibleModule.atomic_move() does not promise."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".ansible_tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


class Kept(NamedTuple):
    """A secret in a store."""

    value: str
    age: int  # seconds since it was stored


class SecretStore(Protocol):
    """Where one secret is kept, and the one that it replaced."""

    def current(self) -> Kept | None:
        """The secret."""

    def previous(self) -> Kept | None:
        """The one that it replaced, where that is still kept."""

    def put(self, value: str) -> None:
        """Store another one; the one so far becomes the previous one."""

    def drop_previous(self) -> None:
        """Keep the previous one no longer."""

    def remove(self) -> None:
        """Keep neither."""


class FileStore:
    """A secret in a file, and the previous one in a file beside it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.previous_path = f"{path}.previous"

    def current(self) -> Kept | None:
        return _kept(self.path)

    def previous(self) -> Kept | None:
        return _kept(self.previous_path)

    def put(self, value: str) -> None:
        if replaced := self.current():
            write(self.previous_path, f"{replaced.value}\n")
        write(self.path, f"{value}\n")

    def drop_previous(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.previous_path)

    def remove(self) -> None:
        self.drop_previous()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _kept(path: str) -> Kept | None:
    """What the file holds; an empty one holds nothing."""
    value = (read(path) or "").strip()
    return Kept(value, max(int(time.time() - os.stat(path).st_mtime), 0)) if value else None
