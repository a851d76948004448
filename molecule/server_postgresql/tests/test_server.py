"""The server has its state in PostgreSQL, and only TLS between."""

from __future__ import annotations

import json
import shlex
import time
from urllib.parse import quote

import pytest
import testinfra

testinfra_hosts = ["ansible://prefect_server"]


@pytest.fixture
def database(host):
    [name] = host.ansible.get_variables()["groups"]["prefect_database"]
    return testinfra.get_host(f"ansible://{name}")


@pytest.fixture
def query(database):
    return lambda sql: database.check_output(f"su postgres -c {shlex.quote(f'psql --no-align --tuples-only --dbname=prefect --command={shlex.quote(sql)}')}")


def test_every_connection_is_encrypted(query):
    connections = query("SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'prefect'").splitlines()
    assert set(connections) == {"t|TLSv1.3"}


def test_the_api_works_on_the_database(get, query):
    assert get("/api/admin/version", auth=True).status == 200
    assert json.loads(get("/api/variables/name/molecule", auth=True).text)["detail"] == "Variable not found."
    assert int(query("SELECT count(*) FROM block_type")) > 0


def test_listens_for_events_of_the_database(query):
    """By a connection that the server opens besides those of its pool, and without which triggers come late."""
    # After a reboot PostgreSQL may have been the later one.
    deadline = time.monotonic() + 60
    while not query("SELECT 1 FROM pg_stat_activity WHERE usename = 'prefect' AND query ILIKE 'LISTEN %automation_changes%'"):
        assert time.monotonic() < deadline, "nothing listens"
        time.sleep(1)


def test_there_is_no_sqlite(host):
    assert host.check_output("find /var/lib/prefect-server -name '*.db*'") == ""


def test_prefect_toml(host):
    read = "import json, tomllib; print(json.dumps(tomllib.load(open('/etc/prefect/server/prefect.toml', 'rb'))))"
    variables = host.ansible.get_variables()
    [database] = variables["groups"]["prefect_database"]
    assert json.loads(host.check_output(f'python3 -c "{read}"'))["server"]["database"] == {
        "connection_url": f"postgresql+asyncpg://prefect:${{PREFECT_SERVER_DATABASE_PASSWORD}}@{database}:5432/prefect",
        "migrate_on_start": False,
        "sqlalchemy": {"connect_args": {"tls": {"enabled": True, "ca_file": variables["prefect_server_database_tls_ca_file"], "check_hostname": True}}},
    }


def test_the_password_stands_in_one_file_and_nowhere_else(host):
    password = host.ansible.get_variables()["prefect_server_database_password"]
    # As it is and as a URL has it. By a file, or grep's own command line would have it.
    host.check_output(
        f"mkdir --parents --mode=0700 /root/test && printf '%s\\n' {shlex.quote(password)} {shlex.quote(quote(password, safe=''))} > /root/test/pattern"
    )
    grep = "grep --fixed-strings --text --file=/root/test/pattern"
    assert host.run(f"{grep} --recursive --files-with-matches --no-messages /etc /opt/prefect/current/ /run /tmp /var").stdout.split() == [
        "/etc/prefect/server/secrets.env"
    ]
    for output in ("cat /proc/[0-9]*/cmdline", "journalctl --no-pager --output=export", "systemctl show prefect-server", "systemctl cat prefect-server"):
        assert host.run(f"{output} 2>/dev/null | {grep} --count").stdout.strip() == "0", output
