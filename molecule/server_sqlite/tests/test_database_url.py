"""What the collection makes of a database's parts is what SQLAlchemy reads, of the version that was installed."""

from __future__ import annotations

import json
import shlex
import string

from ansible_collections.selfhost.prefect.plugins.module_utils._asyncpg_url import build_url

testinfra_hosts = ["ansible://prefect_server"]

READ = """
import json, sys
from sqlalchemy.engine import make_url
urls = map(make_url, json.load(sys.stdin))
print(json.dumps([[url.drivername, url.host, url.port, url.username, url.password, url.database, dict(url.query)] for url in urls]))
"""


def test_sqlalchemy_reads_the_same(host):
    # Each character in each place.
    all_parts = [
        {"host": "db.example.com", "port": 5432, "user": f"u{char}u", "password": f"{char}p{char}", "name": "prefect-db", "query": {"passfile": f"/{char}"}}
        for char in string.printable + "ä≠🦆"
    ]
    all_parts.append({"host": "2001:db8::1", "port": None, "user": "u", "password": None, "name": "n", "query": {}})
    urls = shlex.quote(json.dumps([build_url(parts) for parts in all_parts]))
    answers = json.loads(host.check_output(f"printf %s {urls} | /opt/prefect/current/bin/python -c {shlex.quote(READ)}"))
    assert answers == [["postgresql+asyncpg", *parts.values()] for parts in all_parts]
