"""The server keeps its state in PostgreSQL, over TLS, and stays up when that goes away for a while."""

from __future__ import annotations

import json
import time

import pytest
import testinfra

testinfra_hosts = ["ansible://prefect_server"]

READY = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:4200/api/ready', timeout=10).status)"
CONNECTIONS = "SELECT json_agg(ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = 'prefect'"


@pytest.fixture
def database(host):
    return testinfra.get_host("ansible://molecule-server-postgresql-database", ansible_inventory=host.backend.ansible_inventory)


def wait_until_ready(host, seconds=60):
    deadline = time.monotonic() + seconds
    while host.run(f'python3 -c "{READY}"').stdout.strip() != "200":
        assert time.monotonic() < deadline, f"not ready after {seconds} s"
        time.sleep(1)


def test_every_connection_is_encrypted(host, database):
    wait_until_ready(host)
    answer = database.check_output(f'runuser -u postgres -- psql --dbname=prefect --tuples-only --no-align --command="{CONNECTIONS}"')
    encrypted = json.loads(answer)
    assert encrypted
    assert all(encrypted)


def test_the_password_is_in_no_file_that_others_read(host):
    assert "${PREFECT_SERVER_DATABASE_PASSWORD}" in host.file("/etc/prefect/server/prefect.toml").content_string
    assert host.file("/etc/prefect/server/secrets.env").mode == 0o600
    assert "made-up" not in host.check_output(
        "cat /etc/prefect/server/prefect.toml /etc/systemd/system/prefect-server.service /proc/[0-9]*/cmdline | tr '\\000' ' '"
    )


def test_no_sqlite_database_is_made(host):
    assert not host.file("/var/lib/prefect-server/prefect.db").exists


def test_outlives_a_restart_of_the_database(host, database):
    wait_until_ready(host)
    pid = host.check_output("systemctl show --property=MainPID --value prefect-server")
    database.check_output("systemctl restart postgresql")
    wait_until_ready(host)
    assert host.check_output("systemctl show --property=MainPID --value prefect-server") == pid
