# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.selfhost.prefect.plugins.module_utils._secret import fingerprint, read, write


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secret"


def test_reads_what_it_wrote(path):
    assert read(str(path)) is None
    write(str(path), "ä\n")
    assert read(str(path)) == "ä\n"


def test_is_the_owners_alone(path):
    path.write_text("before")
    path.chmod(0o644)
    old_umask = os.umask(0)
    try:
        write(str(path), "after")
    finally:
        os.umask(old_umask)
    assert path.stat().st_mode & 0o777 == 0o600


def test_leaves_nothing_behind_when_it_fails(path):
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write(str(path), "\ud800")
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_a_fingerprint_tells_one_from_another():
    assert fingerprint("one") == fingerprint("one") != fingerprint("two")
    assert len(fingerprint("one")) == 8
    assert fingerprint("") == "none"
