# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the local cloud boots: machines behind a firewall, a database, and a service behind the front end. Needs Docker.

All of it is one cloud, made once: the tests go through it in order.
"""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import time
import typing as t

import pytest
import requests
from ansible_collections.selfhost.prefect.tests.local_gcp import LocalCloud, docker
from ansible_collections.selfhost.prefect.tests.local_gcp.machines import Machines, firewall

# Whatever else boots some would have them called the same.
pytestmark = pytest.mark.xdist_group("containers")

PROJECT = "machines-test"
REGION, ZONE = "europe-west1", "europe-west1-b"
NETWORK = f"projects/{PROJECT}/global/networks/default"
COMPUTE = f"compute/compute/v1/projects/{PROJECT}"
SQL = f"sqladmin/v1/projects/{PROJECT}/instances"
RUN = f"run/v2/projects/{PROJECT}/locations/{REGION}/services"
SECRETS = f"secretmanager/v1/projects/{PROJECT}/secrets"
NGINX = """
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
server {{
  listen 8080;
  location = /nginx-health {{ return 200 "ok\\n"; }}
  location = /version {{ return 200 "{version} $http_x_forwarded_proto $host\\n"; }}
  location / {{
    proxy_pass http://10.30.0.2:4200;
    proxy_http_version 1.1;
    proxy_connect_timeout 3s;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
  }}
}}
"""
# Answers a request, and echoes after an upgrade.
SERVER = r"""
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        if b"upgrade: websocket" in head.lower():
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            self.wfile.write(b"echo " + self.rfile.readline())
        else:
            body = self.client_address[0].encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("0.0.0.0", 4200), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def cloud() -> t.Iterator[LocalCloud]:
    docker.prepare_images("12")
    docker.clean(PROJECT)
    try:
        with LocalCloud(PROJECT, machines=Machines(), operation_polls=0) as cloud:
            cloud.make_network("default", REGION, "10.30.0.0/24", peered=True)
            link = f"projects/{PROJECT}/global/networks/default"
            cloud.ask("POST", f"{COMPUTE}/regions/{REGION}/subnetworks", {"name": "run", "network": link, "ipCidrRange": "10.31.0.0/26"})
            yield cloud
            assert cloud.mistakes == []
    finally:
        docker.clean(PROJECT)


def wait(cloud: LocalCloud) -> None:
    """Until all the work is done; none of it may fail."""
    deadline = time.monotonic() + 120
    while any(operation["work"] for operation in list(cloud.state.operations.values())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cloud.settle()
    assert [operation["error"] for operation in cloud.state.operations.values() if operation["error"]] == []


def make_machine(cloud: LocalCloud, name: str, **fields: t.Any) -> None:
    disk = {"boot": True, "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"}}
    subnet = f"projects/{PROJECT}/regions/{REGION}/subnetworks/default"
    machine = {"name": name, "machineType": f"zones/{ZONE}/machineTypes/e2-medium", "disks": [disk], "networkInterfaces": [{"subnetwork": subnet}], **fields}
    cloud.ask("POST", f"{COMPUTE}/zones/{ZONE}/instances", machine)


def reaches(container: str, address: str, port: int) -> bool:
    script = f"import socket; socket.create_connection(({address!r}, {port}), timeout=2)"
    return subprocess.run(["docker", "exec", container, "python3", "-c", script], capture_output=True, check=False).returncode == 0


def serve(container: str) -> None:
    docker.docker("exec", "--detach", container, "python3", "-c", SERVER)
    deadline = time.monotonic() + 30
    while not reaches(container, "127.0.0.1", 4200):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_machines_have_the_addresses_that_the_api_reports(cloud: LocalCloud) -> None:
    make_machine(cloud, "server", tags={"items": ["server"]})
    make_machine(cloud, "worker", tags={"items": ["worker"]})
    wait(cloud)
    for name, address in (("server", "10.30.0.2"), ("worker", "10.30.0.3")):
        assert cloud.ask("GET", f"{COMPUTE}/zones/{ZONE}/instances/{name}")["networkInterfaces"][0]["networkIP"] == address
        assert docker.addresses(f"local-gcp-vm-{name}") == [address]
        assert docker.shell(f"local-gcp-vm-{name}", "hostname; systemctl is-system-running || true").split()[0] == name


def test_nothing_comes_in_that_no_rule_allows(cloud: LocalCloud) -> None:
    serve("local-gcp-vm-server")
    assert not reaches("local-gcp-vm-worker", "10.30.0.2", 4200)
    rule = {"name": "api", "network": NETWORK, "allowed": [{"IPProtocol": "tcp", "ports": ["4200"]}], "sourceTags": ["worker"], "targetTags": ["server"]}
    cloud.ask("POST", f"{COMPUTE}/global/firewalls", rule)
    wait(cloud)
    assert reaches("local-gcp-vm-worker", "10.30.0.2", 4200)
    deny = {"name": "deny", "network": NETWORK, "denied": [{"IPProtocol": "all"}], "sourceRanges": ["10.30.0.0/24"], "priority": 900}
    cloud.ask("POST", f"{COMPUTE}/global/firewalls", deny)
    wait(cloud)
    assert not reaches("local-gcp-vm-worker", "10.30.0.2", 4200)
    cloud.ask("DELETE", f"{COMPUTE}/global/firewalls/deny")
    wait(cloud)
    assert reaches("local-gcp-vm-worker", "10.30.0.2", 4200)


def test_a_machine_without_an_external_address_needs_nat(cloud: LocalCloud) -> None:
    def nat_rules() -> str:
        return docker.docker("run", "--rm", "--network=host", "--cap-add=NET_ADMIN", docker.IMAGE, "iptables-save", "-t", "nat")

    assert "10.30.0.0/24" not in nat_rules()
    nat = {"name": "nat", "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES", "natIpAllocateOption": "AUTO_ONLY"}
    cloud.ask("POST", f"{COMPUTE}/regions/{REGION}/routers", {"name": "router", "network": NETWORK, "nats": [nat]})
    wait(cloud)
    assert "10.30.0.0/24" in nat_rules()
    cloud.ask("PATCH", f"{COMPUTE}/regions/{REGION}/routers/router", {"nats": []})
    wait(cloud)
    assert "10.30.0.0/24" not in nat_rules()


def test_a_machine_stops_and_starts_with_its_firewall(cloud: LocalCloud) -> None:
    cloud.ask("POST", f"{COMPUTE}/zones/{ZONE}/instances/worker/stop")
    wait(cloud)
    assert docker.docker("container", "inspect", "--format", "{{.State.Running}}", "local-gcp-vm-worker").strip() == "false"
    cloud.ask("POST", f"{COMPUTE}/zones/{ZONE}/instances/worker/start")
    wait(cloud)
    assert docker.addresses("local-gcp-vm-worker") == ["10.30.0.3"]
    assert reaches("local-gcp-vm-worker", "10.30.0.2", 4200)
    serve("local-gcp-vm-worker")
    assert not reaches("local-gcp-vm-server", "10.30.0.3", 4200)


def psql(container: str, host: str, user: str, password: str, statement: str, *, mode: str = "verify-ca") -> subprocess.CompletedProcess[str]:
    url = f"host={host} user={user} dbname=prefect-db sslmode={mode} sslrootcert=/tmp/ca.pem"
    command = ["docker", "exec", "--env", "PGPASSWORD", container, "psql", "--no-psqlrc", "-Atc", statement, url]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin:/usr/local/bin", "PGPASSWORD": password})


def test_a_database_with_tls_and_the_users_of_the_api(cloud: LocalCloud) -> None:
    addresses = {"ipv4Enabled": False, "privateNetwork": NETWORK, "sslMode": "ENCRYPTED_ONLY"}
    flags = [{"name": "max_connections", "value": "77"}, {"name": "cloudsql.iam_authentication", "value": "on"}]
    settings = {"tier": "db-custom-2-7680", "edition": "ENTERPRISE", "ipConfiguration": addresses, "databaseFlags": flags}
    cloud.ask("POST", SQL, {"name": "db", "region": REGION, "databaseVersion": "POSTGRES_17", "settings": settings})
    wait(cloud)
    instance = cloud.ask("GET", f"{SQL}/db")
    assert (instance["state"], docker.addresses("local-gcp-sql-db")) == ("RUNNABLE", [instance["ipAddresses"][0]["ipAddress"]])
    cloud.ask("POST", f"{SQL}/db/users", {"name": "prefect", "password": "made-up's 1"})
    wait(cloud)
    cloud.ask("POST", f"{SQL}/db/databases", {"name": "prefect-db"})
    wait(cloud)
    # From another container of the network: it has psql.
    client, host = "local-gcp-sql-db", instance["ipAddresses"][0]["ipAddress"]
    docker.shell(client, "cat >/tmp/ca.pem", instance["serverCaCert"]["cert"])
    statement = "CREATE EXTENSION pg_trgm; CREATE TABLE one (two int); SHOW max_connections"
    assert psql(client, host, "prefect", "made-up's 1", statement).stdout.split()[-1] == "77"
    assert "password authentication failed" in psql(client, host, "prefect", "another", "SELECT 1").stderr
    assert "no encryption" in psql(client, host, "prefect", "made-up's 1", "SELECT 1", mode="disable").stderr
    # The default authority does not vouch for an address.
    assert "does not match host name" in psql(client, host, "prefect", "made-up's 1", "SELECT 1", mode="verify-full").stderr
    assert reaches("local-gcp-vm-server", host, 5432)
    cloud.ask("PUT", f"{SQL}/db/users?name=prefect", {"password": "another"})
    wait(cloud)
    assert psql(client, host, "prefect", "another", "SELECT 1").stdout.strip() == "1"
    cloud.ask("PATCH", f"{SQL}/db", {"settings": {"databaseFlags": [{"name": "max_connections", "value": "55"}]}})
    wait(cloud)
    assert psql(client, host, "prefect", "another", "SHOW max_connections").stdout.strip() == "55"


def service(version: int, **template: t.Any) -> dict[str, t.Any]:
    subnet = f"projects/{PROJECT}/regions/{REGION}/subnetworks/run"
    container = {
        "image": "nginx:1.28-alpine",
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}],
        "startupProbe": {"httpGet": {"path": "/nginx-health"}, "periodSeconds": 1, "failureThreshold": 8},
    }
    volume = {"name": "conf", "secret": {"secret": "conf", "defaultMode": 292, "items": [{"version": str(version), "path": "default.conf"}]}}
    return {
        "invokerIamDisabled": True,
        "template": {
            "containers": [container],
            "volumes": [volume],
            "vpcAccess": {"networkInterfaces": [{"network": NETWORK, "subnetwork": subnet}]},
            **template,
        },
    }


def add_config(cloud: LocalCloud, text: str) -> None:
    cloud.ask("POST", f"{SECRETS}/conf:addVersion", {"payload": {"data": base64.b64encode(text.encode()).decode()}})


def test_a_service_answers_at_its_url(cloud: LocalCloud) -> None:
    cloud.ask("POST", f"{SECRETS}?secretId=conf", {"replication": {"automatic": {}}})
    add_config(cloud, NGINX.format(version="one"))
    binding = {"role": "roles/secretmanager.secretAccessor", "members": [f"serviceAccount:{cloud.default_service_account}"]}
    cloud.ask("POST", f"{SECRETS}/conf:setIamPolicy", {"policy": {"bindings": [binding]}})
    cloud.ask("POST", f"{RUN}?serviceId=proxy", service(1))
    wait(cloud)
    uri = cloud.ask("GET", f"{RUN}/proxy")["uri"]
    session = requests.Session()
    session.trust_env = False
    session.proxies, session.verify = {"https": cloud.url}, cloud.ca_file
    assert session.get(f"{uri}/version", timeout=10).text == f"one https {uri.removeprefix('https://')}\n"
    # Through it to the machine: not before the firewall lets the service's subnet in.
    assert session.get(f"{uri}/api", timeout=10).status_code == 504
    rule = {"name": "run", "network": NETWORK, "allowed": [{"IPProtocol": "tcp", "ports": ["4200"]}], "sourceRanges": ["10.31.0.0/26"]}
    cloud.ask("POST", f"{COMPUTE}/global/firewalls", rule)
    wait(cloud)
    assert session.get(f"{uri}/api", timeout=10).text.startswith("10.31.0.")
    # And from inside, by its public name, with a certificate that is trusted there.
    script = f"import urllib.request; print(urllib.request.urlopen('{uri}/version', timeout=5).read())"
    assert "one https" in docker.shell("local-gcp-vm-server", f'python3 -c "{script}"')
    assert session.get(f"{uri.replace('proxy', 'other')}/", timeout=10).status_code == 404


def test_a_websocket_goes_through(cloud: LocalCloud) -> None:
    host = cloud.ask("GET", f"{RUN}/proxy")["uri"].removeprefix("https://")
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=10) as plain:
        plain.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
        assert b"200" in plain.recv(4096)
        with ssl.create_default_context(cafile=cloud.ca_file).wrap_socket(plain, server_hostname=host) as tls:
            tls.sendall(f"GET /api/events HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode())
            reply = b""
            while not reply.endswith(b"\r\n\r\n"):
                reply += tls.recv(4096)
            assert b"101 Switching Protocols" in reply
            tls.sendall(b"hello\n")
            assert tls.recv(4096) == b"echo hello\n"


def ask(cloud: LocalCloud, path: str = "/version") -> str:
    session = requests.Session()
    session.trust_env = False
    session.proxies, session.verify = {"https": cloud.url}, cloud.ca_file
    return session.get(cloud.ask("GET", f"{RUN}/proxy")["urls"][0] + path, timeout=10).text


def test_traffic_moves_when_the_new_revision_is_ready_and_back(cloud: LocalCloud) -> None:
    first = cloud.ask("GET", f"{RUN}/proxy")["latestReadyRevision"].rpartition("/")[2]
    add_config(cloud, NGINX.format(version="two"))
    cloud.ask("PATCH", f"{RUN}/proxy", service(2))
    assert "one" in ask(cloud)
    wait(cloud)
    assert "two" in ask(cloud)
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": first, "percent": 100}]
    cloud.ask("PATCH", f"{RUN}/proxy?updateMask=traffic", {"traffic": traffic})
    wait(cloud)
    assert "one" in ask(cloud)


def test_a_revision_that_does_not_start_takes_no_traffic(cloud: LocalCloud) -> None:
    add_config(cloud, "nonsense on;")
    cloud.ask("PATCH", f"{RUN}/proxy", service(3))
    deadline = time.monotonic() + 60
    while cloud.ask("GET", f"{RUN}/proxy")["reconciling"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    found = cloud.ask("GET", f"{RUN}/proxy")
    assert found["terminalCondition"]["state"] == "CONDITION_FAILED"
    assert "one" in ask(cloud)
    failed = [operation for operation in cloud.state.operations.values() if operation["error"]]
    assert "unknown directive" in failed[0]["error"]["message"]
    failed[0]["error"] = None


def test_only_who_may_call_is_let_in(cloud: LocalCloud) -> None:
    first = cloud.ask("GET", f"{RUN}/proxy")["latestReadyRevision"].rpartition("/")[2]
    traffic = [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": first, "percent": 100}]
    cloud.ask("PATCH", f"{RUN}/proxy?updateMask=invokerIamDisabled,traffic", {"invokerIamDisabled": False, "traffic": traffic})
    wait(cloud)
    assert "does not have permission" in ask(cloud)
    cloud.ask("POST", f"{RUN}/proxy:setIamPolicy", {"policy": {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}})
    assert "does not have permission" not in ask(cloud)


def test_all_of_it_goes(cloud: LocalCloud) -> None:
    cloud.ask("DELETE", f"{RUN}/proxy")
    cloud.ask("DELETE", f"{SQL}/db")
    for name in ("server", "worker"):
        cloud.ask("DELETE", f"{COMPUTE}/zones/{ZONE}/instances/{name}")
    wait(cloud)
    label = f"label={docker.LABEL}={PROJECT}"
    assert docker.docker("container", "ls", "--all", "--quiet", "--filter", label) == ""
    docker.clean(PROJECT)
    assert docker.docker("network", "ls", "--quiet", "--filter", label) == ""
    assert PROJECT not in docker.docker("run", "--rm", "--network=host", "--cap-add=NET_ADMIN", docker.IMAGE, "iptables-save")


def test_the_rules_of_a_firewall_by_themselves() -> None:
    """How they are written, without Docker: order, both directions, protocols."""
    with LocalCloud() as cloud:
        cloud.make_network(region=REGION)
        base = "compute/compute/v1/projects/example-project/global"
        link = "projects/example-project/global/networks/default"
        rules: dict[str, dict[str, t.Any]] = {
            "web": {"allowed": [{"IPProtocol": "tcp", "ports": ["80", "443"]}, {"IPProtocol": "icmp"}], "sourceRanges": ["10.0.0.0/8"]},
            "first": {"denied": [{"IPProtocol": "all"}], "priority": 1000, "sourceRanges": ["10.9.0.0/16"]},
            "off": {"allowed": [{"IPProtocol": "all"}], "disabled": True},
            "other": {"allowed": [{"IPProtocol": "all"}], "targetTags": ["other"]},
            "out": {"denied": [{"IPProtocol": "udp"}], "direction": "EGRESS", "destinationRanges": ["0.0.0.0/0"]},
        }
        for name, fields in rules.items():
            cloud.ask("POST", f"{base}/firewalls", {"name": name, "network": link, **fields})
        ruleset = firewall(cloud, {"networkInterfaces": [{"network": link}], "tags": {"items": ["x"]}})
    lines = [line.strip() for line in ruleset.splitlines()]
    assert lines.index("ip saddr 10.9.0.0/16  drop") < lines.index("ip saddr 10.0.0.0/8 tcp dport 80 accept")
    assert "ip saddr 10.0.0.0/8 ip protocol icmp accept" in lines
    assert "ip daddr 0.0.0.0/0 ip protocol udp drop" in lines
    assert not any("0.0.0.0/0" in line and "accept" in line for line in lines)
