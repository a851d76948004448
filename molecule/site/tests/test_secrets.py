"""On no host is a secret where others than root can read it."""

from __future__ import annotations

import pytest
import testinfra

testinfra_hosts = ["ansible://molecule"]


@pytest.fixture(scope="module")
def secrets(host):
    server = testinfra.get_host("ansible://molecule-site-server", ansible_inventory=host.backend.ansible_inventory)
    auth_string = server.check_output("cat /etc/prefect/server/auth_string")
    assert len(auth_string) > 20
    return [auth_string.partition(":")[2], "made-up p@ss:w/rd%", "made-up%20p%40ss"]


@pytest.mark.parametrize(
    "command",
    [
        "cat /proc/[0-9]*/cmdline",
        "journalctl --no-pager --quiet --output=cat",
        "find /etc /opt/prefect /var/lib/prefect* /var/log -xdev -type f -perm /go=r -size -1024k -exec cat {} +",
        "find /tmp /run ~/.ansible -xdev -type f -size -1024k -exec cat {} +",
    ],
)
def test_nothing_shows_a_secret(host, secrets, command):
    output = host.run(f"{command} 2>/dev/null | tr --complement '[:print:]' ' '").stdout
    assert output or "/tmp" in command
    assert [secret for secret in secrets if secret in output] == []
