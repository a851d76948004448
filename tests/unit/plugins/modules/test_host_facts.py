# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from ansible.module_utils.facts.system.python import PythonFactCollector
from ansible_collections.selfhost.prefect.plugins.modules import host_facts
from ansible_collections.selfhost.prefect.plugins.modules.host_facts import main

# Port 8080 (1F90) on 127.0.0.1 and 443 (01BB) on all IPv6 addresses listen; 8080 has a connection, too.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 112 1 0000000000000000 20 4 30 10 -1
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 113 1
   1: 0000000000000000FFFF00000100007F:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 114 1
"""


OF_DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n'


@pytest.fixture
def listener():
    """Start to listen on a free port; several times on the same one if asked to."""
    sockets = []

    def start(family=socket.AF_INET, address="127.0.0.1", port=0):
        sockets.append(socket.socket(family))
        sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sockets[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sockets[-1].bind((address, port))
        sockets[-1].listen()
        return sockets[-1].getsockname()[1]

    yield start
    for one in sockets:
        one.close()


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """A /proc of our own. Gives a function that adds a process to it."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text(TCP)
    (tmp_path / "net/tcp6").write_text(TCP6)
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(host_facts, "PROC", str(tmp_path))

    def add(pid, *inodes, comm="program", cgroup="0::/"):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "comm").write_text(f"{comm}\n")
        (tmp_path / str(pid) / "cgroup").write_text(f"{cgroup}\n")
        (tmp_path / str(pid) / "fd/0").symlink_to("/dev/null")
        for number, inode in enumerate(inodes, 3):
            (tmp_path / str(pid) / f"fd/{number}").symlink_to(f"socket:[{inode}]")

    return add


@pytest.mark.parametrize(
    ("text", "distribution", "version"),
    [
        (OF_DEBIAN, "Debian", "12"),
        (OF_DEBIAN.replace('VERSION_ID="12"\n', ""), "Debian", "n/a"),
        ("NAME='Ubuntu'\nVERSION_ID='24.04'\nID=ubuntu\nID_LIKE=debian \n", "Ubuntu", "24.04"),
        ('NAME="Rocky Linux"\nID="rocky"\nVERSION_ID="9.4"\n', "Rocky Linux", "9.4"),
        (None, "Linux", "n/a"),
    ],
)
def test_the_distribution(run_module, tmp_path, monkeypatch, *, text, distribution, version):
    monkeypatch.setattr(host_facts, "OS_RELEASE", str(tmp_path / "os-release"))
    if text:
        (tmp_path / "os-release").write_text(text)
    result = run_module(main)
    assert (result["changed"], result["listeners"]) == (False, [])
    found = result["ansible_facts"]
    assert (found["ansible_distribution"], found["ansible_distribution_version"]) == (distribution, version)


def test_the_facts_are_those_of_setup(run_module):
    assert run_module(main)["ansible_facts"]["ansible_python"] == PythonFactCollector().collect()["python"]


def test_accounts_are_told_as_getent_does(run_module):
    found = run_module(main, users=["root", "nobody-has-this-name"])["ansible_facts"]["getent_passwd"]
    line = subprocess.run(["getent", "passwd", "root"], capture_output=True, text=True, check=True).stdout
    assert found == {"root": line.strip().split(":")[1:], "nobody-has-this-name": None}
    assert "getent_passwd" not in run_module(main)["ansible_facts"]


def test_a_free_port_has_no_listener(run_module, listener):
    used = listener()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free = other.getsockname()[1]
    assert used != free
    assert run_module(main, ports=[free])["listeners"] == []


def test_a_port_in_use_names_this_very_process(run_module, listener):
    port = listener()
    result = run_module(main, check_mode=True, ports=[1, port])
    assert result["changed"] is False
    (entry,) = result["listeners"]
    with open("/proc/self/comm") as file:
        comm = file.read().strip()
    assert (entry["port"], entry["address"], entry["pid"], entry["process"]) == (port, "127.0.0.1", os.getpid(), comm)


def test_a_port_that_is_only_bound_or_connected_is_free(run_module, listener):
    port = listener()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert run_module(main, ports=[connection.getsockname()[1]])["listeners"] == []


def test_several_sockets_of_one_program_are_one_listener(run_module, listener):
    port = listener()
    listener(port=port)
    assert len(run_module(main, ports=[port])["listeners"]) == 1


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp6"), reason="no IPv6 here")
def test_each_address_is_a_listener(run_module, listener):
    port = listener(address="0.0.0.0")
    listener(socket.AF_INET6, "::", port)
    assert [entry["address"] for entry in run_module(main, ports=[port])["listeners"]] == ["0.0.0.0", "::"]


def test_of_several_owners_the_oldest_is_named(run_module, listener):
    port = listener()
    number = os.open("/dev/null", os.O_RDONLY)
    os.close(number)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert run_module(main, ports=[port])["listeners"][0]["pid"] == os.getpid()
    finally:
        child.communicate(b"\n")


def test_addresses_are_read_in_the_byte_order_of_the_kernel(proc):
    found = [(entry["port"], entry["address"]) for entry in host_facts.listeners([443, 8080])]
    if sys.byteorder == "little":
        assert found == [(443, "::"), (443, "::ffff:127.0.0.1"), (8080, "127.0.0.1")]


def test_an_owner_that_cannot_be_seen_is_null(proc):
    proc(7, 999)
    assert host_facts.listeners([8080]) == [{"port": 8080, "address": "127.0.0.1", "pid": None, "process": None, "unit": None}]


def test_systemd_is_named_only_if_it_is_alone(proc):
    proc(1, 111, 113, comm="systemd", cgroup="0::/init.scope")
    proc(900, 111, comm="prefect", cgroup="0::/system.slice/prefect-server.service")
    first, second = (host_facts.listeners([port])[0] for port in (8080, 443))
    assert (first["process"], first["unit"]) == ("prefect", "prefect-server.service")
    assert (second["process"], second["unit"]) == ("systemd", "init.scope")


def test_a_process_that_ends_meanwhile_does_no_harm(proc, tmp_path, monkeypatch):
    proc(7, 111)
    proc(8, 111, comm="other")
    readlink = os.readlink

    def gone(path, *args, **kwargs):
        if "/7/" in str(path):
            raise FileNotFoundError
        return readlink(path, *args, **kwargs)

    monkeypatch.setattr(os, "readlink", gone)
    (tmp_path / "6").mkdir()
    assert host_facts.listeners([8080])[0]["pid"] == 8


def test_without_ipv6_there_is_no_table_of_it(proc, tmp_path):
    (tmp_path / "net/tcp6").unlink()
    assert host_facts.listeners([443]) == []


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nginx.service", "nginx.service"),
        ("0::/system.slice/system-prefect\\x2dworker.slice/prefect-worker@local.service", "prefect-worker@local.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/squatter.service", "squatter.service"),
        ("0::/system.slice/docker-4a5b.scope", "docker-4a5b.scope"),
        ("12:cpu,cpuacct:/docker/4a5b\n1:name=systemd:/docker/4a5b/system.slice/nginx.service\n0::/docker/4a5b/system.slice/nginx.service", "nginx.service"),
        ("1:name=systemd:/system.slice/nginx.service\n0::/", "nginx.service"),
        ("0::/system.slice/nginx.service/worker", "nginx.service"),
        ("0::/docker/4a5b", None),
        ("0::/not.services", None),
    ],
)
def test_the_unit_is_the_innermost_one(proc, cgroup, unit):
    proc(7, 111, cgroup=cgroup)
    assert host_facts.listeners([8080])[0]["unit"] == unit
