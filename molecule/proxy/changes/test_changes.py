# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What another run of the role, and what fails around them, does to proxies that serve. Each test leaves them as they were."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

WEBSOCKETS = ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled", "work_pools/some%20pool/workers/connect"]


@pytest.fixture(autouse=True)
def _as_before(proxies):
    """Each test begins and ends with the scenario's own configuration, served."""
    files = "etc/nginx etc/ssl/prefect.crt etc/ssl/private/prefect.key"
    for proxy in proxies:
        proxy.host.check_output(f"tar --create --file /root/before.tar --directory / {files}")
    yield
    for proxy in proxies:
        proxy.host.check_output(f"cd / && rm -rf {files} && tar --extract --file /root/before.tar && systemctl restart nginx")
    assert all(proxy.fetch("/api/version").status == 200 for proxy in proxies)


@pytest.fixture(scope="module", autouse=True)
def waiting(proxies):
    """Answers of an upstream that is silent for more than a minute, through a second nginx with the same site. They come while the other tests run."""
    silent = (Path(__file__).parents[1] / "silent_server.py").read_text()
    nginx = "daemon off; user www-data; pid /run/patient.pid; events {} http { include /root/patient.site; }"
    sites = "s/molecule-proxy-server:4299/127.0.0.1:4301/; s/molecule-proxy-server:4200/127.0.0.1:4302/; /listen/ s/:80/:8080/; /listen/ s/:443/:8443/"
    for proxy in proxies:
        proxy.host.check_output("printf %%s %s > /root/silent.py && systemd-run --unit silent python3 /root/silent.py", silent)
        proxy.host.check_output("printf %%s %s > /root/patient.conf && sed %s /etc/nginx/conf.d/prefect.conf > /root/patient.site", nginx, sites)
        proxy.host.check_output("systemd-run --unit patient nginx -c /root/patient.conf")
        proxy.host.check_output("timeout 10 sh -c 'until ss -Hltn | grep -q :4302 && ss -Hltn | grep -q :8443; do sleep 0.1; done'")

    def ask(proxy, method, path, body=None, **headers):
        connection, began = proxy.connect(8443, timeout=100), time.monotonic()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, connection.sock.recv(5) if answer.status == 101 else answer.read(), time.monotonic() - began

    with ThreadPoolExecutor(8) as threads:
        # These first, as an upstream that has failed is left out for some seconds.
        answers = {"unreachable": list(threads.map(lambda proxy: ask(proxy, "GET", "/at-once"), proxies))}
        yield answers | {
            "slow": [threads.submit(ask, proxy, "GET", "/") for proxy in proxies],
            "socket": [threads.submit(ask, proxy, "GET", "/", Upgrade="websocket", Connection="Upgrade") for proxy in proxies],
            "reading late": [threads.submit(ask, proxy, "POST", "/", bytes(16 * 1024**2)) for proxy in proxies],
        }
    for proxy in proxies:
        proxy.host.check_output("systemctl stop patient silent")


def test_a_dry_run_shows_the_change_and_makes_none(apply, proxies):
    before = [proxy.state() for proxy in proxies]
    done = apply("--check", nginx_proxy_client_max_body_size="99m")
    assert not done.failed
    assert "+ client_max_body_size 99m;" in done.text
    assert [proxy.state() for proxy in proxies] == before


def test_a_proxy_without_tls_and_with_open_paths(apply, proxies):
    done = apply(nginx_proxy_tls_certificate="", nginx_proxy_tls_key="", nginx_proxy_closed_paths=[], nginx_proxy_trusted_proxies=["0.0.0.0/0"])
    assert not done.failed, done.output
    for proxy in proxies:
        for path in WEBSOCKETS:
            proxy.open_socket(path, tls=False)
        assert proxy.fetch("/api/version", tls=False).status == 200
        assert proxy.fetch("/docs", tls=False, auth=None).status == 200
        assert proxy.fetch("/openapi.json", tls=False, auth=None).status == 200
        assert proxy.fetch("/api/metrics", tls=False, auth=None).status == 401
        assert proxy.fetch("/api/metrics", tls=False).status == 200
        with pytest.raises(ConnectionRefusedError):
            proxy.fetch("/api/version")
        # The front end is trusted here: it says how the client came, and from where.
        answer = proxy.fetch("/nginx-health", tls=False, X_Forwarded_Proto="https")
        assert answer.headers["Strict-Transport-Security"] == "max-age=600"
        proxy.fetch("/api/version", tls=False, X_Forwarded_For="203.0.113.9", User_Agent="honest")
        assert "203.0.113.9" in proxy.host.check_output("grep honest /var/log/nginx/access.log | tail -n 1")


def test_fewer_addresses_are_listened_on_at_once(apply, proxies):
    """nginx refuses in silence to go from all addresses to some in a reload."""
    assert not apply(nginx_proxy_listen_addresses=["127.0.0.1"]).failed
    for proxy in proxies:
        listening = proxy.host.check_output("ss -Hltn '( sport = :80 or sport = :443 )'")
        assert "127.0.0.1:80" in listening
        assert "0.0.0.0:80" not in listening
        assert "[::]:80" not in listening


def test_a_renewed_certificate_is_served(apply, proxies):
    for proxy in proxies:
        proxy.host.check_output("cp /etc/ssl/renewed.crt /etc/ssl/prefect.crt; cp /etc/ssl/private/renewed.key /etc/ssl/private/prefect.key")
    done = apply()
    assert not done.failed
    assert done.changed
    for proxy in proxies:
        assert proxy.served_certificate() == proxy.host.file("/etc/ssl/renewed.crt").content_string
    assert not apply().changed


def test_a_certificate_from_the_controller_is_written(apply, proxies):
    def content(name):
        return {
            "nginx_proxy_tls_certificate_content": proxies[0].host.file(f"/etc/ssl/{name}.crt").content_string,
            "nginx_proxy_tls_key_content": proxies[0].host.file(f"/etc/ssl/private/{name}.key").content_string,
        }

    before = [proxy.state() for proxy in proxies]
    assert "the certificate expired on 2021-01-01" in apply(**content("expired")).text
    assert [proxy.state() for proxy in proxies] == before
    done = apply("-vvv", **content("renewed"))
    assert not done.failed
    assert content("renewed")["nginx_proxy_tls_key_content"].splitlines()[1] not in done.output
    for proxy in proxies:
        assert proxy.served_certificate() == content("renewed")["nginx_proxy_tls_certificate_content"]
        assert proxy.host.file("/etc/ssl/private/prefect.key").mode == 0o600


def test_a_run_that_was_interrupted_before_anything_was_tested_is_finished(apply, proxies):
    """What the distribution brings is there as ever, and nginx refuses its second default server."""
    for proxy in proxies:
        proxy.host.check_output("ln -s /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default")
        proxy.host.check_output("sed -i '/worker_rlimit_nofile/d; s/worker_connections 4096/worker_connections 768/' /etc/nginx/nginx.conf")
        proxy.host.check_output("systemctl disable --now nginx && rm -r /etc/systemd/system/nginx.service.d && systemctl daemon-reload")
        assert "duplicate default server" in proxy.host.run("nginx -t").stderr
    assert apply("--check").changed
    done = apply()
    assert not done.failed, done.output
    for proxy in proxies:
        assert not proxy.host.file("/etc/nginx/sites-enabled/default").exists
        assert "worker_connections 4096;" in proxy.host.file("/etc/nginx/nginx.conf").content_string
        assert proxy.host.file("/etc/nginx/nginx.conf").mode == 0o644
        shown = proxy.host.check_output("systemctl show --property DropInPaths,NeedDaemonReload,UnitFileState nginx")
        assert "/etc/systemd/system/nginx.service.d/prefect.conf" in shown
        assert "NeedDaemonReload=no" in shown
        assert "UnitFileState=enabled" in shown
        assert proxy.fetch("/api/version").status == 200
    assert not apply().changed


def test_a_run_that_was_interrupted_before_it_reloaded_is_finished(apply, proxies):
    site = "/etc/nginx/conf.d/prefect.conf"
    for proxy in proxies:
        proxy.host.check_output(f"cp {site} /root/wanted && sed -i 's/ok.n\"/old\"/' {site} && systemctl reload nginx && sleep 1 && cp /root/wanted {site}")
        proxy.host.check_output("rm -f /etc/systemd/system/nginx.service.d/prefect.conf && systemctl daemon-reload")
        assert proxy.fetch("/nginx-health").body == b"old"
    assert apply("--check").changed
    assert all(proxy.fetch("/nginx-health").body == b"old" for proxy in proxies)
    assert not apply().failed
    for proxy in proxies:
        assert proxy.fetch("/nginx-health").body == b"ok\n"
        assert "nginx.service.d/prefect.conf" in proxy.host.check_output("systemctl show --property DropInPaths nginx")
    assert not apply().changed


def test_nginx_survives_a_server_that_is_down(proxies, server):
    server.check_output("systemctl stop prefect-server")
    try:
        for proxy in proxies:
            assert proxy.fetch("/api/version").status == 502
            assert proxy.fetch("/nginx-health").status == 200
    finally:
        server.check_output("systemctl start prefect-server")
    assert all(proxy.is_ready() for proxy in proxies)


def test_a_server_that_cannot_be_reached_costs_seconds(waiting):
    for status, body, seconds in waiting["unreachable"]:
        assert (status, body) == (200, b"there")
        assert 2 < seconds < 10


@pytest.mark.parametrize(
    ("what", "answer"),
    [("slow", (200, b"there")), ("socket", (101, b"there")), ("reading late", (200, b"16777216"))],
)
def test_a_server_may_be_silent_for_longer_than_a_minute(waiting, what, answer):
    for waited in waiting[what]:
        status, body, seconds = waited.result()
        assert (status, body) == answer
        assert seconds > 60


def test_nginx_is_started_again_when_it_dies(proxies):
    for proxy in proxies:
        proxy.host.check_output("pkill --signal KILL nginx")
    time.sleep(5)
    assert all(proxy.is_ready(20) for proxy in proxies)
