# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Usage: scripts/local-gcp up|down|environment|log [--project NAME] [--number NUMBER] [--port PORT] [--enable API] [--no-machines]

A local Google Cloud on this machine. `up` starts it, or leaves a running one alone, and prints what clients need in their
environment; `environment` prints that again, `log` each request that it was asked; `down` removes it with all that it has made.
`--enable compute` is `gcloud services enable compute.googleapis.com`. What it keeps is in build/local-gcp.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from . import docker as engine
from .cloud import LocalCloud
from .machines import BUNDLE, Machines

FOLDER = engine.ROOT / "build/local-gcp"


def main() -> None:
    parser = argparse.ArgumentParser(prog="local-gcp", usage=__doc__)
    parser.add_argument("command", choices=["up", "down", "environment", "log", "serve"])
    parser.add_argument("--project", default="example-project")
    parser.add_argument("--number", default="123456789012")
    parser.add_argument("--port", type=int, default=8470)
    parser.add_argument("--enable", action="append", default=[], metavar="API")
    parser.add_argument("--no-machines", action="store_true")
    options = parser.parse_args()
    {"up": up, "down": down, "environment": environment, "log": log, "serve": serve}[options.command](options)


def up(options: argparse.Namespace) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    running = project_at(options.port)
    if running not in ("", options.project):
        sys.exit(f"local-gcp: port {options.port} has the cloud of the project {running}: scripts/local-gcp down removes it, --port names another one.")
    if not running:
        if not options.no_machines:
            subprocess.run([str(engine.ROOT / "scripts/docker-engine")], check=True)
            engine.prepare_images("12")
        command = [sys.executable, "-m", "local_gcp", "serve", *sys.argv[2:]]
        with (FOLDER / "server.log").open("w") as log_file:
            process = subprocess.Popen(command, stdout=log_file, stderr=log_file, stdin=subprocess.DEVNULL, start_new_session=True)
        for _time in range(100):
            if project_at(options.port):
                break
            if process.poll() is not None:
                sys.exit(f"local-gcp: it does not start; its last words: {(FOLDER / 'server.log').read_text()[-600:]}")
            time.sleep(0.1)
    environment(options)


def serve(options: argparse.Namespace) -> None:
    (FOLDER / "pid").write_text(str(os.getpid()))
    (FOLDER / "project").write_text(options.project)
    machines = None if options.no_machines else Machines()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_signal: ended.set())
    # As a project is on its first day: no API but the few that are always there, and those that somebody enabled by hand.
    with LocalCloud(
        options.project, options.number, port=options.port, folder=FOLDER, operation_polls=0, operation_seconds=0.5, apis=options.enable, machines=machines
    ) as cloud:
        variables = {**cloud.endpoint_environment(), **cloud.proxy_environment(), "LOCAL_GCP_CA_BUNDLE": BUNDLE}
        cloud.spreading_calls = 1
        (FOLDER / "environment.json").write_text(json.dumps(variables))
        ended.wait()


def down(options: argparse.Namespace) -> None:
    pid = FOLDER / "pid"
    if pid.exists():
        # Only if the number is still that process's.
        command = Path(f"/proc/{pid.read_text()}/cmdline")
        if command.exists() and b"local_gcp" in command.read_bytes():
            os.kill(int(pid.read_text()), signal.SIGTERM)
            while command.exists():
                time.sleep(0.1)
    project = FOLDER / "project"
    if project.exists() and not options.no_machines:
        engine.clean(project.read_text())
    subprocess.run(["rm", "-rf", str(FOLDER)], check=True)


def environment(_options: argparse.Namespace) -> None:
    try:
        variables = json.loads((FOLDER / "environment.json").read_text())
    except OSError:
        sys.exit("local-gcp: it is not up: scripts/local-gcp up starts it.")
    sys.stdout.writelines(f"export {name}={value}\n" for name, value in variables.items())


def log(_options: argparse.Namespace) -> None:
    for line in (FOLDER / "requests.log").read_text().splitlines():
        request = json.loads(line)
        sys.stdout.write(f"{request['status']} {'write' if request['writes'] else 'read '} {request['method']} {request['path']}\n")


def project_at(port: int) -> str:
    """The project of the cloud that answers at a port; nothing where none does."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/computeMetadata/v1/project/project-id", timeout=1) as response:
            return str(response.read().decode())
    except OSError:
        return ""


if __name__ == "__main__":
    main()
