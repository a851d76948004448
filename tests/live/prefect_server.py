# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Prefect servers of any version that has a lock, on SQLite, for tests and measurements on this machine."""

from __future__ import annotations

import base64
import hashlib
import os
import runpy
import secrets
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/prefect"
LOCKS = ROOT / "roles/prefect_runtime/files"
# What the role starts on SQLite.
PROGRAM = ROOT / "roles/prefect_server/files/prefect_server.py"
READY_WITHIN = 180.0


def locked_versions() -> list[str]:
    """Versions that have a lock, the oldest first."""
    versions = [path.stem.removeprefix("prefect-") for path in LOCKS.glob("prefect-*.txt")]
    return sorted(versions, key=lambda version: [int(part) for part in version.split(".")])


def environment(version: str) -> Path:
    """Give an environment with that Prefect, made from the collection's lock where there is none of this lock yet."""
    lock, folder = LOCKS / f"prefect-{version}.txt", BUILD / version
    stamp = folder / "lock.sha256"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == digest):
        uv = [str(ROOT / ".venv/bin/uv")]
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", str(folder / "bin/python"), "--require-hashes", "--constraints", str(lock)]
        packages = {**os.environ, **runpy.run_path(str(ROOT / "scripts/bootstrap"))["package_environment"]()}
        subprocess.run([*uv, "venv", "--quiet", "--clear", "--no-project", str(folder)], check=True, env=packages)
        subprocess.run([*uv, *install, f"prefect=={version}"], check=True, env=packages)
        stamp.write_text(digest)
    return folder


class PrefectServer:
    """A server that starts when it is made and is there until close(); its log and its data stand in `folder`."""

    def __init__(self, version: str, folder: Path, csrf: bool = False, default_limit: int = 200) -> None:
        self.version = version
        self.csrf = csrf
        self.log = folder / "server.log"
        self.auth_string = f"admin:{secrets.token_urlsafe(16)}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.api_url = f"http://127.0.0.1:{port}/api"
        command = [environment(version) / "bin/python", PROGRAM, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PREFECT_HOME": str(folder),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string,
            "PREFECT_API_AUTH_STRING": self.auth_string,
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": str(csrf),
            "PREFECT_SERVER_API_DEFAULT_LIMIT": str(default_limit),
            # With every request.
            "PREFECT_SERVER_LOGGING_LEVEL": "INFO",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=settings, stdout=log, stderr=log)

    def wait(self) -> None:
        """Return when the server is ready."""
        deadline = time.monotonic() + READY_WITHIN
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prefect {self.version} did not start:\n{self.log.read_text()}")
            time.sleep(0.2)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def requests(self) -> int:
        """Say how many requests for the API the log shows, which is that of a new Prefect."""
        return self.log.read_text().count(" /api/")

    def _ready(self) -> bool:
        # Older ones ask for the auth string even here.
        credentials = base64.b64encode(self.auth_string.encode()).decode()
        request = urllib.request.Request(f"{self.api_url}/ready", headers={"Authorization": f"Basic {credentials}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False
