# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No module tells a secret, not even to -vvvv --diff: not with a server that does its work, with one that is away, or with one that repeats all it is told."""

from __future__ import annotations

import ast
import base64
import json
import os
import secrets
import subprocess
import sys
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from ansible_collections.selfhost.prefect.tests.live.conftest import VERSIONS
from ansible_collections.selfhost.prefect.tests.live.prefect_server import environment

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "plugins/modules"
# What a minimal call would not have: options that only go together, and the secrets themselves.
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "asyncpg_url_info": {"url": "{{ database_url }}", "connect": True, "python": "{{ prefect_python }}"},
    "prefect_auth_string": {"path": "{{ folder }}/auth_string", "value": "{{ auth_string }}"},
    "prefect_database": {"connection_url": "{{ database_url }}", "python": "{{ prefect_python }}", "user": "{{ me }}"},
    "prefect_doctor_info": {"database": {"connection_url": "{{ database_url }}", "python": "{{ prefect_python }}"}},
    "prefect_block": {"blocks": [{"type": "secret", "name": "made-up", "data": {"value": "{{ password }}"}}]},
    "prefect_flow_run": {"deployment": "load/nightly"},
    "prefect_variable": {"variables": [{"name": "made_up", "value": 1}]},
    "prefect_venv": {
        "path": "{{ folder }}/venv",
        "version": "3.8.8",
        "uv_lock": "{{ lookup('ansible.builtin.file', uv_lock) }}",
        "exclude_newer": "2026-10-07",
        "index_url": "http://reader:{{ password | urlencode }}@127.0.0.1:1/simple",
        "python": "{{ ansible_playbook_python }}",
    },
    "systemd_environment_file": {"path": "{{ folder }}/file.env", "secrets": {"A_PASSWORD": "{{ password }}", "B": "x{{ password }}x"}},
    "tls_certificate_info": {"certificate_path": "/nowhere", "private_key_content": "-----BEGIN PRIVATE KEY-----\n{{ password }}"},
}
# Calls beside that one.
MORE: list[tuple[str, dict[str, t.Any]]] = [
    ("asyncpg_url_info", {"url": "{{ database_url | replace('@', '/@') }}"}),
    ("prefect_auth_string", {"path": "{{ folder }}/auth_string", "state": "rotated", "keep_previous": True}),
    ("prefect_auth_string", {"path": "{{ folder }}/auth_string", "value": "{{ auth_string }} and more"}),
    ("prefect_auth_string", {"path": "{{ folder }}/nowhere/auth_string", "value": "{{ auth_string }}"}),
    ("systemd_environment_file", {"path": "{{ folder }}/nowhere/file.env", "secrets": {"A": "{{ password }}"}}),
    ("systemd_environment_file", {"path": "{{ folder }}/file.env", "secrets": {"A": "{{ password }}\n"}}),
]


def documented(module: str) -> dict[str, t.Any]:
    """The options of a module, those of the collection's fragments included."""
    tree = ast.parse((MODULES / f"{module}.py").read_text())
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    text = ast.literal_eval(values["DOCUMENTATION"])
    found: dict[str, t.Any] = yaml.safe_load(text)
    return found


def speaks_to_prefect(module: str) -> bool:
    return "selfhost.prefect._prefect" in documented(module).get("extends_documentation_fragment", ())


def has_secrets(module: str) -> bool:
    return speaks_to_prefect(module) or "no_log" in (MODULES / f"{module}.py").read_text()


def minimal(options: dict[str, t.Any]) -> dict[str, t.Any]:
    """Arguments for what is required, of the right types."""
    return {name: sample(option) for name, option in options.items() if option.get("required")}


def sample(option: dict[str, t.Any]) -> t.Any:
    if "suboptions" in option:
        inner = minimal(option["suboptions"])
        return [inner] if option["type"] == "list" else inner
    values = {"list": ["x"], "dict": {"x": "y"}, "int": 1, "float": 1.0, "bool": True}
    return option.get("choices", [values.get(option["type"], "x")])[0]


def test_a_minimal_call_has_what_is_required():
    options = {
        "a": {"type": "list", "elements": "dict", "required": True, "suboptions": {"n": {"type": "str", "required": True}, "m": {"type": "int"}}},
        "b": {"type": "dict", "required": True, "suboptions": {"n": {"type": "bool", "required": True}}},
        "c": {"type": "str", "required": True, "choices": ["one", "two"]},
        "d": {"type": "str"},
    }
    assert minimal(options) == {"a": [{"n": "x"}], "b": {"n": True}, "c": "one"}


class Repeater(BaseHTTPRequestHandler):
    """Refuses everything, and says again all that it was told: worse than Prefect does."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        told = f"{self.headers.get('Authorization')} {body}"
        problem = {"loc": ["body", "name"], "msg": "is refused", "input": told, "ctx": {"given": told}}
        content = json.dumps({"exception_detail": [problem], "request_body": told}).encode()
        self.send_response(422)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def __getattr__(self, name: str) -> t.Any:
        if name.startswith("do_"):
            return self.do_GET
        raise AttributeError(name)

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture(scope="module")
def repeater() -> t.Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repeater)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/api"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def told(tmp_path_factory, repeater, servers):
    """What Ansible says at its most talkative, and the secrets that it was given."""
    folder = tmp_path_factory.mktemp("secrets")
    password = f"Zq7%{secrets.token_hex(12)}@w"
    auth_string = f"tester:{password}"
    modules = [path.stem for path in sorted(MODULES.glob("*.py")) if has_secrets(path.stem)]
    calls = [(module, minimal(documented(module)["options"]) | ARGUMENTS.get(module, {})) for module in modules] + MORE
    server = servers[VERSIONS[-1]]
    connections = (
        {"api_url": server.api_url, "auth_string": "{{ server_auth_string }}"},
        {"api_url": repeater, "auth_string": "{{ auth_string }}"},
        {"api_url": "http://127.0.0.1:1/api", "auth_string": "{{ auth_string }}", "timeout": 1},
    )
    tasks = []
    for number, (module, arguments) in enumerate(calls):
        for connection in connections if speaks_to_prefect(module) else ({},):
            # Many of them fail on purpose, and what each says is wanted.
            task = {"name": f"{number} {module}", f"selfhost.prefect.{module}": {**connection, **arguments}, "ignore_errors": True}
            tasks.append(task)
    playbook, variables = folder / "playbook.json", folder / "variables.json"
    playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    given = {
        "password": password,
        "auth_string": auth_string,
        "database_url": f"postgresql+asyncpg://prefect:{quote(password, safe='')}@127.0.0.1:1/prefect",
        "server_auth_string": server.auth_string,
        "prefect_python": str(environment(server.version) / "bin/python"),
        "uv_lock": str(ROOT / "roles/prefect_runtime/files/uv.lock"),
        "folder": str(folder),
        "me": "root" if os.geteuid() == 0 else os.environ.get("USER", ""),
        "ansible_python_interpreter": sys.executable,
    }
    variables.write_text(json.dumps(given))
    command = [sys.executable, "-m", "ansible", "playbook", "-vvvv", "--diff", "--inventory", "localhost,", "--connection", "local"]
    settings = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_LOG_PATH": str(folder / "log"),
    }
    run = subprocess.run([*command, "--extra-vars", f"@{variables}", str(playbook)], capture_output=True, text=True, check=False, env=settings)
    output = run.stdout + run.stderr + (folder / "log").read_text()
    made = (folder / "auth_string").read_text().strip()
    hidden = {password, quote(password, safe=""), made.partition(":")[2], server.auth_string.partition(":")[2]}
    hidden |= {base64.b64encode(secret.encode()).decode() for secret in (auth_string, server.auth_string)}
    return output, hidden, [f"{number} {module}" for number, (module, _arguments) in enumerate(calls)]


def test_no_secret_is_told(told):
    output, hidden, _tasks = told
    # Spelled so that a failure does not tell them, too.
    assert [len(secret) for secret in hidden if secret in output] == []


def test_each_module_was_run(told):
    output, _hidden, tasks = told
    assert len(tasks) > 10
    assert [task for task in tasks if f"TASK [{task}]" not in output] == []
    assert "Traceback" not in output
    assert "HTTP 422: name: is refused" in output
    assert "nothing listens on http://127.0.0.1:1" in output
