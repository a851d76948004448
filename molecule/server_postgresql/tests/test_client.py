"""The host of the Prefect server can check the database's certificate."""

from __future__ import annotations

import shlex

testinfra_hosts = ["ansible://prefect_server"]

# PostgreSQL's SSLRequest, then TLS as strict as Python can be.
HANDSHAKE = """
import socket, ssl, sys
connection = socket.create_connection((sys.argv[1], 5432), timeout=10)
connection.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
assert connection.recv(1) == b"S", "PostgreSQL offers no TLS"
context = ssl.create_default_context(cafile=sys.argv[2])
context.verify_flags |= ssl.VERIFY_X509_STRICT
print(context.wrap_socket(connection, server_hostname=sys.argv[1]).version())
"""


def handshake(host, authority):
    [database] = host.ansible.get_variables()["groups"]["prefect_database"]
    return host.run(shlex.join(["python3", "-c", HANDSHAKE, database, authority]))


def test_trusts_the_database(host):
    answer = handshake(host, host.ansible.get_variables()["prefect_server_database_tls_ca_file"])
    assert answer.stdout.strip() == "TLSv1.3", answer.stderr


def test_trusts_no_other_authority_for_it(host):
    assert "CERTIFICATE_VERIFY_FAILED" in handshake(host, "/etc/ssl/certs/ca-certificates.crt").stderr
