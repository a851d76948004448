# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_util is PRIVATE to the collection.

"""Files that hold secrets."""

from __future__ import annotations

import hashlib
import os
import tempfile


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
