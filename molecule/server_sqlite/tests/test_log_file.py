"""A server that logs to a file instead of the journal."""

from __future__ import annotations

testinfra_hosts = ["molecule-server-sqlite-13"]

LOG = "/var/log/prefect-server/server.log"


def test_the_journal_is_spared(host):
    assert "GET /api/health" not in host.check_output("journalctl --no-pager --unit prefect-server")


def test_a_rotation_goes_on_in_the_same_file(host, get):
    get("/api/health")
    assert "GET /api/health" in host.file(LOG).content_string
    host.check_output("logrotate --force /etc/logrotate.d/prefect-server")
    assert "GET /api/health" in host.file(f"{LOG}.1").content_string
    assert "GET /api/health" not in host.file(LOG).content_string
    get("/api/health")
    assert "GET /api/health" in host.file(LOG).content_string


def test_others_cannot_read_it(host):
    assert host.file("/var/log/prefect-server").mode & 0o007 == 0
