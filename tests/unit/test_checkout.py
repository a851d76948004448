# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a checkout has beside the collection: its scripts, with stubs in place of the programs that they call, its inventory and its ansible.cfg."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Machine:
    """A copy of the scripts, all the programs that they find, and what they called those for that are written here."""

    def __init__(self, folder: Path) -> None:
        self.scripts = shutil.copytree(ROOT / "scripts", folder / "scripts")
        self.programs = folder / "programs"
        self.calls = folder / "calls"
        self.programs.mkdir()
        self.calls.touch()
        # No rm and no setsid: nothing here may come as far as to start an engine.
        for name in ("bash", "cat", "chmod", "cut", "dirname", "env", "flock", "mkdir", "sha256sum"):
            (self.programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")

    def has(self, name: str, *lines: str) -> None:
        program = self.programs / name
        program.write_text("\n".join(["#!/bin/bash", f'echo "{name} $*" >>"{self.calls}"', *lines, ""]))
        program.chmod(0o755)

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / "bash"), str(self.scripts / script), *arguments]
        return subprocess.run(command, env={"PATH": str(self.programs), **environment}, capture_output=True, text=True, check=False, timeout=30)

    def installed(self) -> list[str]:
        """The packages of each installation."""
        installations = [line.split() for line in self.calls.read_text().splitlines() if line.startswith("apt-get install")]
        return [word for words in installations for word in words[2:] if not word.startswith("-")]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def debian(machine):
    """Root on Debian, where installing docker.io brings an engine that answers, and the client where it is no package of its own."""
    machine.has("id", "echo 0")
    machine.has("apt-cache", "exit 100")
    machine.has("apt-get", f'[ "$1" = update ] || {{ echo "#!/bin/bash" >"{machine.programs}/docker"; chmod +x "{machine.programs}/docker"; }}')
    return machine


def test_an_engine_that_answers_is_taken(machine):
    machine.has("docker")
    result = machine.run("docker-engine")
    assert (result.returncode, result.stderr) == (0, "")
    assert machine.calls.read_text() == "docker version --format {{.Server.Version}}\n"


def test_who_is_not_root_is_told_what_to_do(debian):
    debian.has("id", '[ "$1" = -un ] && echo alice || echo 1000')
    result = debian.run("docker-engine")
    assert result.returncode == 1
    assert "no Docker engine answers for alice. Start Docker, or add yourself to the group docker, or run this as root." in result.stderr
    assert debian.installed() == []


@pytest.mark.parametrize("there", [(), ("docker",), ("dockerd",)])
def test_without_apt_nothing_is_installed(machine, there):
    machine.has("id", "echo 0")
    for name in there:
        machine.has(name, "exit 1")
    result = machine.run("docker-engine")
    assert result.returncode == 1
    assert "this is neither Debian nor Ubuntu. Install its engine and its client" in result.stderr


@pytest.mark.parametrize("there", [None, "docker", "dockerd"])
@pytest.mark.parametrize(("has_client", "client"), [("exit 100", []), ("exit 0", ["docker-cli"])], ids=["debian-12", "debian-13"])
def test_what_is_missing_is_installed(debian, there, has_client, client):
    if there:
        debian.has(there, "exit 1")
    debian.has("apt-cache", has_client)
    result = debian.run("docker-engine")
    assert result.returncode == 0, result.stderr
    assert debian.installed() == ["docker.io", "iptables", "ca-certificates", *client]
    # A client of Docker's own would be removed for docker.io, and an upgrade restarts an engine with all its containers.
    assert "--no-remove" in debian.calls.read_text()
    assert "--no-upgrade" in debian.calls.read_text()


@pytest.mark.parametrize(("step", "message"), [("update", "the package lists could not be fetched"), ("install", "docker.io could not be installed")])
def test_what_apt_says_is_shown(debian, step, message):
    debian.has("apt-get", f'[ "$1" != {step} ] || {{ echo "E: a reason" >&2; exit 100; }}')
    result = debian.run("docker-engine")
    assert result.returncode == 1
    assert "E: a reason" in result.stderr
    assert f"docker-engine: {message}: see the lines above." in result.stderr


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_the_demo_refuses_what_is_no_port(machine, port):
    result = machine.run("demo", "up", DEMO_PORT=port)
    assert result.returncode == 1
    assert f"DEMO_PORT is '{port}', which is no port: give a number from 1 to 65535." in result.stderr


def test_the_demo_refuses_a_port_that_is_taken(machine):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = machine.run("demo", "up", DEMO_PORT=str(port))
    assert result.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken: set DEMO_PORT to a free one, for example DEMO_PORT={port + 1} make demo." in result.stderr


@pytest.mark.parametrize(("given", "port"), [({}, "8080"), ({"DEMO_PORT": ""}, "8080"), ({"DEMO_PORT": "81"}, "81")])
def test_the_demo_is_where_it_says(given, port):
    """Its inventory reads the port as its script does."""
    variables = "{{ prefect_public_url }} {{ container_published_ports | first }}"
    command = [sys.executable, "-m", "ansible", "adhoc", "--inventory", str(ROOT / "inventory/demo"), "--module-name", "ansible.builtin.debug"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **given}
    run = subprocess.run([*command, "--args", f"msg='{variables}'", "proxy"], env=environment, capture_output=True, text=True, check=False)
    assert f"http://127.0.0.1:{port} 127.0.0.1:{port}:80" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize("failing", ["playbooks/postgresql.yml", "site.yml"])
def test_the_demo_is_complete_when_both_of_its_halves_are(machine, failing):
    machine.has("docker", '[ "$1" != image ] || sha256sum <scripts/base-image | cut --characters=1-16')
    machine.has("id", "echo 0")
    machine.has("debootstrap")
    machine.has("ansible-playbook", f'[[ " $* " != *" {failing} "* ]] || {{ echo "{failing} has failed"; exit 2; }}')
    result = machine.run("demo", "up", DEMO_PORT="4")
    assert result.returncode == 1
    assert f"{failing} has failed" in result.stdout
    assert "demo: the demo is not complete: see above." in result.stderr
    assert "Prefect is up" not in result.stdout


def test_there_is_no_login_without_a_demo(machine):
    machine.has("docker", "echo Error: No such container >&2; exit 1")
    result = machine.run("demo", "auth")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "demo: there is no demo to log in to: make demo makes one.\n"


def test_the_one_machine_uses_its_own_python(tmp_path):
    for minor in range(8, 15):
        shim = tmp_path / f"python3.{minor}"
        shim.write_text("#!/bin/sh\nexit 127\n")
        shim.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "ansible", "adhoc", "--inventory", str(ROOT / "inventory/single"), "--extra-vars", "ansible_become=false"]
    run = subprocess.run([*command, "--module-name", "ansible.builtin.ping", "prefect"], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_checkout_asks_who_a_host_is():
    """The hosts' keys are checked, as they are with the collection installed elsewhere."""
    command = [sys.executable, "-m", "ansible", "config", "dump", "--only-changed", "--format", "json"]
    environment = {"PATH": os.environ["PATH"], "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"}
    changed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "DEFAULT_FORKS" in changed
    assert "HOST_KEY_CHECKING" not in changed


@pytest.fixture
def bench(tmp_path, monkeypatch):
    # Its code would be kept beside the scripts.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("bench", str(ROOT / "scripts/bench"))
    spec = importlib.util.spec_from_loader("bench", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REPORT", tmp_path / "bench.json")
    # No engine, no image and no containers are needed for figures that are made up.
    monkeypatch.setattr(module, "run", lambda command, **_options: "")
    monkeypatch.setattr(module.os, "environ", dict(os.environ))
    return module


@pytest.mark.parametrize(
    ("target", "said", "missed"),
    [
        ({"most": 2}, "<= 2 s", False),
        ({"most": 1.9}, "<= 1.9 s", True),
        ({"times": 0.5, "compared": [3, 5, 4]}, "<= 0.5 times by hand", False),
        ({"times": 0.4, "compared": [3, 5, 4]}, "<= 0.4 times by hand", True),
        ({"most": 1.9, "compared": [400]}, "<= 1.9 s", True),
        ({}, "none", False),
    ],
)
def test_the_bench_holds_the_median_to_its_target(bench, capsys, target, said, missed):
    entry = bench.figure("rollout", "s", [1, 9, 2], **target)
    assert (entry["median"], entry["target"], entry["missed"]) == (2, said, missed)
    assert capsys.readouterr().out.rstrip().endswith(f"target: {said}{', MISSED' if missed else ''}")


def test_the_bench_fails_for_a_miss_and_keeps_the_other_figures(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure_rollout", lambda: [bench.figure("cold", "s", [5], most=9), bench.figure("noop", "s", [5], most=9)])
    monkeypatch.setattr(bench, "measure_growth", lambda: [bench.figure("noop", "s", [11], most=9)])
    monkeypatch.setattr(sys, "argv", ["bench", "rollout"])
    bench.main()
    monkeypatch.setattr(sys, "argv", ["bench", "growth"])
    with pytest.raises(SystemExit, match=r"^bench: over the target: noop\.$"):
        bench.main()
    figures = json.loads((bench.REPORT).read_text())["figures"]
    assert [(entry["name"], entry["median"]) for entry in figures] == [("cold", 5), ("noop", 11)]
