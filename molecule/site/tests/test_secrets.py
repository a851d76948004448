"""On no host is a secret where others than root can read it."""

from __future__ import annotations

import shlex

import pytest
import testinfra

testinfra_hosts = ["ansible://molecule"]


def files_with(host, secrets, where, which=""):
    patterns = " ".join(f"-e {shlex.quote(secret)}" for secret in secrets)
    return host.run(f"find {where} -xdev -type f {which} -size -1024k -exec grep -lsF {patterns} {{}} +").stdout.split()


@pytest.fixture(scope="module")
def secrets(host):
    server = testinfra.get_host("ansible://molecule-site-server", ansible_inventory=host.backend.ansible_inventory)
    auth_string = server.check_output("cat /etc/prefect/server/auth_string")
    assert len(auth_string) > 20
    secrets = [auth_string.partition(":")[2], "made-up p@ss:w/rd%", "made-up%20p%40ss"]
    assert "/etc/prefect/server/auth_string" in files_with(server, secrets, "/etc/prefect")
    return secrets


@pytest.mark.parametrize("command", ["cat /proc/[0-9]*/cmdline", "journalctl --no-pager --quiet --output=cat"])
def test_nothing_shows_a_secret(host, secrets, command):
    output = host.run(f"{command} 2>/dev/null | tr --complement '[:print:]' ' '").stdout
    assert output
    assert [secret for secret in secrets if secret in output] == []


def test_no_file_that_others_can_read_shows_a_secret(host, secrets):
    assert files_with(host, secrets, "/etc /opt/prefect /var/lib/prefect* /var/log", "-perm /go=r") == []
    assert files_with(host, secrets, "/tmp /run ~/.ansible") == []
