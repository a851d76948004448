"""Starts the server of the environment that this runs in, as far away from everything else as can be, and runs a flow through its API."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

PORT = sys.argv[1]
API = f"http://127.0.0.1:{PORT}/api"
FLOW = "import prefect; prefect.flow(lambda: None, name='boot')()"


def ask(path, body=None):
    request = urllib.request.Request(f"{API}/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def ready():
    try:
        return ask("health") is True and ask("ready")
    except OSError:
        return False


folder = pathlib.Path(sys.prefix, "bin")
with tempfile.TemporaryDirectory() as home:
    environment = os.environ | {"HOME": home, "PREFECT_HOME": home, "PREFECT_API_URL": API, "PREFECT_UI_STATIC_DIRECTORY": f"{home}/ui", "DO_NOT_TRACK": "1"}
    server = subprocess.Popen([folder / "prefect", "server", "start", "--port", PORT], env=environment)
    try:
        limit = time.monotonic() + 120
        while not ready():
            assert server.poll() is None, "the server ended by itself"
            assert time.monotonic() < limit, "the server does not get ready"
            time.sleep(0.5)
        print(f"ready after {120 - limit + time.monotonic():.1f} s")
        subprocess.run([folder / "python", "-c", FLOW], env=environment, cwd=home, check=True)
        assert ask("flow_runs/count", b"{}") == 1, "the flow run is not the server's"
        print(f"flow run after {120 - limit + time.monotonic():.1f} s")
    finally:
        server.terminate()
        server.wait(30)
