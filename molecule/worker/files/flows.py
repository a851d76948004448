# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The flows that the tests run on the workers."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pwd
import signal
import sys
import time

from prefect import flow
from prefect.states import Completed


@flow
def look():
    """Tell what a flow run finds around itself, in the message of its state."""
    found = {
        "environment": {name: os.environ.get(name) for name in ("GREETING", "HOME", "NOTIFY_SOCKET")},
        "secrets": {name: hashlib.sha256(os.environ.get(name, "").encode()).hexdigest() for name in ("PREFECT_API_AUTH_STRING", "TOKEN")},
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "python": sys.prefix,
        "parent": os.getppid(),
        "cowsay": importlib.util.find_spec("cowsay") is not None,
        "may_write": [path for path in ("/etc", "/opt/prefect", sys.prefix, os.environ["HOME"], "/srv/flows", "/tmp", "/usr") if os.access(path, os.W_OK)],
        "may_read": [path for path in ("/etc/prefect/worker", "/etc/shadow") if os.access(path, os.R_OK)],
    }
    return Completed(message=json.dumps(found))


@flow
def wait(seconds: float, stubborn: bool = False):
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)


@flow
def wait_in_a_flow(seconds: float):
    wait(seconds)
