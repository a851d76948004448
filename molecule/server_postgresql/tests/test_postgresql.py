"""PostgreSQL takes Prefect's role over TLS, and nobody else and nothing plain."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://prefect_database"]

QUERY = """
import json, psycopg2, sys
with psycopg2.connect(**json.loads(sys.argv[1])) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[2])
    print(json.dumps(cursor.fetchone()))
"""


@pytest.fixture(autouse=True)
def ready():
    """No server is on this host."""


@pytest.fixture
def query(host):
    """Runs one query as another host would: through the network, with the certificate checked."""
    variables = host.ansible.get_variables()
    known = {
        "host": variables["inventory_hostname"],
        "dbname": variables["prefect_server_database_name"],
        "user": variables["prefect_server_database_user"],
        "password": variables["prefect_server_database_password"],
        "sslmode": "verify-full",
        "sslrootcert": "/etc/postgresql/server.crt",
    }
    return lambda sql, **parameters: host.run(shlex.join(["python3", "-c", QUERY, json.dumps(known | parameters), sql]))


def test_takes_prefect_over_tls(query):
    answer = query("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert json.loads(answer.stdout) == [True, "TLSv1.3"], answer.stderr


def test_prefect_owns_its_database_and_is_no_superuser(query):
    answer = query(
        "SELECT current_user = pg_get_userbyid(datdba), pg_encoding_to_char(encoding), current_setting('is_superuser')"
        " FROM pg_database WHERE datname = current_database()"
    )
    assert json.loads(answer.stdout) == [True, "UTF8", "off"], answer.stderr


def test_prefect_may_create_the_extension_of_its_migrations(query):
    answer = query("CREATE EXTENSION IF NOT EXISTS pg_trgm; SELECT 1")
    assert answer.rc == 0, answer.stderr


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
    ],
)
def test_refuses(query, parameters, message):
    answer = query("SELECT 1", **parameters)
    assert answer.rc != 0
    assert message in answer.stderr


def test_keys_are_for_postgresql_alone(host):
    for key in host.check_output("ls /etc/postgresql/*.key").split():
        assert (host.file(key).user, host.file(key).mode) == ("postgres", 0o600)
