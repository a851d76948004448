# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people, workers and their tools meet at the proxy."""

from __future__ import annotations

import base64
import gzip
import json
import re
import ssl
from pathlib import Path

import pytest
import yaml
from ansible_collections.selfhost.prefect.plugins.module_utils._websocket import WebSocketError

testinfra_hosts = ["ansible://nginx_proxy"]

ROOT = Path(__file__).parents[3]
AUTH = "tester:made-up-p@ss:word%"
WEBSOCKETS = ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled", "work_pools/some%20pool/workers/connect"]


@pytest.fixture(scope="module")
def asset(proxy):
    """One of the UI's scripts."""
    return re.search(r'src="(/v2/assets/[^"]+\.js)"', proxy.fetch("/v2/", Accept="text/html").body.decode())[1]


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_every_websocket_opens(proxy, path):
    proxy.open_socket(path)


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_no_websocket_opens_with_a_wrong_auth_string(proxy, path):
    with pytest.raises(WebSocketError) as error:
        proxy.open_socket(path, auth="tester:wrong")
    assert error.value.code == 1008


def test_the_api_asks_for_the_auth_string(proxy):
    assert proxy.fetch("/api/version", auth=None).status == 401
    assert proxy.fetch("/api/version", auth="tester:wrong").status == 401
    assert proxy.fetch("/api/version").status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/docs/", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/api/docs", "/api/redoc", "/api/openapi.json", "/api/metrics"),
        *("//docs", "/%64ocs", "/v2/../docs", "/api//metrics", "/api/metrics/", "/docs?x=1"),
    ],
)
def test_documentation_and_metrics_are_closed(proxy, path):
    answer = proxy.fetch(path)
    assert answer.status == 404
    assert answer.headers["Server"] == "nginx"
    assert b"nginx" in answer.body


@pytest.mark.parametrize("tls", [True, False])
def test_the_proxy_answers_for_its_own_health(proxy, tls):
    answer = proxy.fetch("/nginx-health", tls=tls, auth=None)
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_http_is_redirected_to_https(proxy):
    answer = proxy.fetch("/api/flows/filter?a=b", "POST", tls=False, body="{}")
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://{proxy.name}/api/flows/filter?a=b"


def test_the_challenge_of_a_certificate_authority_is_answered_by_http(proxy):
    (example,) = re.findall(r"```yaml\n(nginx_proxy_extra_directives: \|\n  location [^`]*)```", (ROOT / "docs/proxy.md").read_text())
    assert yaml.safe_load(example)["nginx_proxy_extra_directives"] == proxy.host.ansible.get_variables()["nginx_proxy_extra_directives"]
    proxy.host.check_output("mkdir --parents /var/www/html/.well-known/acme-challenge && echo proof > /var/www/html/.well-known/acme-challenge/token")
    answer = proxy.fetch("/.well-known/acme-challenge/token", tls=False, auth=None)
    assert (answer.status, answer.body) == (200, b"proof\n")
    assert proxy.fetch("/.well-known/other", tls=False).status == 308


@pytest.mark.parametrize(("path", "target"), [("/v2", "/v2/"), ("/api/flows", "/api/flows/")])
def test_redirects_of_prefect_stay_where_the_client_is(proxy, path, target):
    """Behind a port that is published under another number neither scheme nor port would be right."""
    answer = proxy.fetch(path, Host="127.0.0.1:8080")
    assert (answer.status, answer.headers["Location"]) == (307, target)


def test_http_2_is_spoken(proxy):
    with proxy.handshake() as connection:
        assert connection.selected_alpn_protocol() == "h2"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        frame = connection.recv(9)
    assert frame[3] == 4, "the server begins with a SETTINGS frame"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_current_tls_is_spoken(proxy, version):
    with proxy.handshake(version) as connection:
        assert connection.version() == version.name.replace("_", ".")


def test_old_ciphers_are_refused(proxy):
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"), proxy.handshake(ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA384"):
        pass


def test_pages_of_the_ui_are_always_asked_for(proxy):
    for path in ("/v2/", "/v2/dashboard", "/"):
        answer = proxy.fetch(path, Accept="text/html", auth=None)
        assert answer.status in (200, 307)
        if answer.status == 200:
            assert answer.headers["Cache-Control"] == "no-cache"
            assert b"<html" in answer.body


def test_files_of_the_ui_are_compressed_and_cached_for_good(proxy, asset):
    plain = proxy.fetch(asset, auth=None)
    assert plain.headers["Content-Encoding"] is None
    packed = proxy.fetch(asset, auth=None, Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    # nginx compressed it, not the one process that has the API to serve.
    assert packed.headers["ETag"].startswith("W/")
    assert packed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert "Accept-Encoding" in ", ".join(packed.headers.get_all("Vary"))
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) < len(plain.body) / 2


def test_nothing_that_is_no_file_of_the_ui_is_cached_for_good(proxy):
    assert proxy.fetch("/v2/assets/gone-12345678.js").headers["Cache-Control"] is None
    assert proxy.fetch("/v2/assets/gone-12345678.js", Accept="text/html").headers["Cache-Control"] in (None, "no-cache")
    assert proxy.fetch("/api/version").headers["Cache-Control"] is None


def test_answers_of_the_api_are_compressed(proxy):
    answer = proxy.fetch("/api/admin/settings", Accept_Encoding="gzip")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "server" in json.loads(gzip.decompress(answer.body))


@pytest.mark.parametrize("path", ["/v2/", "/api/version", "/docs", "/nginx-health"])
def test_security_headers_are_on_every_answer(proxy, path):
    headers = proxy.fetch(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Strict-Transport-Security"] == "max-age=600"


def test_hsts_is_promised_by_https_alone(proxy):
    assert proxy.fetch("/nginx-health", tls=False, X_Forwarded_Proto="https").headers["Strict-Transport-Security"] is None


def test_every_name_leads_to_prefect(proxy):
    assert proxy.fetch("/api/health", Host="anything.example").body == b"true"


def test_large_batches_get_through(proxy):
    # A few long ones, since it is the rows that take the server its time.
    logs = [{"name": "x", "level": 20, "message": "m" * 10_000, "timestamp": "2026-01-01T00:00:00Z"}] * 400
    body = json.dumps(logs)
    assert len(body) > 4_000_000
    assert proxy.fetch("/api/logs/", "POST", body=body, Content_Type="application/json").status == 201


def test_bodies_without_measure_do_not(proxy):
    assert proxy.fetch("/api/logs/", "POST", body=None, Content_Length=str(64 * 1024**2)).status == 413


def test_a_dead_server_is_passed_over(proxy):
    """The first server of the list does not exist, and a failure takes it out for 5 seconds only."""
    for dummy in range(30):
        assert proxy.fetch("/api/version").status == 200
        assert proxy.fetch("/api/work_pools/filter", "POST", body="{}", Content_Type="application/json").status == 200


def test_connections_to_the_server_are_used_again(proxy):
    def connections():
        return set(re.findall(r":(\d+)\s+\S+:4200", proxy.host.check_output("ss --no-header --tcp --numeric --all 'dport = :4200'")))

    proxy.fetch("/api/version")
    before = connections()
    for dummy in range(30):
        assert proxy.fetch("/api/version").status == 200
    # Each worker process of nginx has connections of its own.
    assert len(connections() - before) <= int(proxy.host.check_output("nproc"))


def test_a_client_cannot_lie_about_its_address(proxy):
    proxy.fetch("/api/version?lie", X_Forwarded_For="203.0.113.9", User_Agent="liar")
    line = proxy.host.check_output("grep liar /var/log/nginx/access.log | tail -n 1")
    assert "203.0.113.9" not in line
    assert "/api/version" in line


def test_no_secret_is_in_a_log(proxy):
    proxy.fetch("/api/version?token=in-the-query", Referer="https://x.example/?token=in-the-referer")
    proxy.fetch("/api/version", auth="tester:wrong-one")
    proxy.fetch("/nothing-there")
    logs = proxy.host.check_output("cat /var/log/nginx/*.log; journalctl --no-pager -u nginx")
    assert '"GET /nothing-there HTTP/1.1" 404' in logs
    for secret in (AUTH, "made-up", "wrong-one", "tester", "in-the-query", "in-the-referer", base64.b64encode(AUTH.encode()).decode()):
        assert secret not in logs


def test_nginx_holds_more_websockets_than_the_distribution_lets_it(host):
    """By its default, 380 for a worker process."""
    assert "worker_connections 4096;" in host.check_output("nginx -T 2>/dev/null")
    assert "8192" in host.check_output("grep 'Max open files' /proc/$(pgrep --full 'nginx: worker' | head -n 1)/limits")


def test_the_configuration_is_free_of_warnings(host):
    tested = host.run("nginx -t")
    assert tested.rc == 0
    assert "warn" not in tested.stderr


def test_the_key_is_for_root_alone(host):
    assert host.file("/etc/ssl/private/prefect.key").mode == 0o600
