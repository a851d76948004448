# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The data plane: a container for each machine, database and revision that the API has made.

Each public function is the work of an operation, run beside the requests; what it raises is the operation's error.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

from . import docker as engine
from .docker import BOOT, FRONT, IMAGE, LABEL, docker, shell
from .errors import GoogleError
from .front import Backend
from .services import run as cloud_run
from .services import sqladmin
from .services.secretmanager import version_of
from .state import Json

if t.TYPE_CHECKING:
    from .cloud import LocalCloud

Operation = dict[str, Json]


# In every virtual machine: the certificates that this machine trusts, and this cloud's own.
BUNDLE = "/usr/local/share/local-gcp-ca.pem"
TRUSTED_HERE = Path("/etc/ssl/certs/ca-certificates.crt")


class Machines:
    """What the operations of this cloud have done by Docker."""

    # Virtual machines

    def instance_up(self, cloud: LocalCloud, operation: Operation, target: str) -> None:
        instance = resource(cloud, operation, target)
        name = container_name(target)
        if engine.exists(name):
            docker("start", name)
        else:
            self._boot(cloud, instance, name)
        wait_for_systemd(name)
        self._trust(cloud, name)
        self.apply_firewall(cloud, operation, target)
        self.apply_network(cloud, operation, target)

    def _boot(self, cloud: LocalCloud, instance: dict[str, Json], name: str) -> None:
        debian = "13" if "debian-13" in instance.get("_image", "") else "12"
        interface = instance["networkInterfaces"][0]
        network = subnet_network(cloud, interface["subnetwork"])
        cgroup = "/sys/fs/cgroup/unified" if debian == "13" and Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup"
        bundle = cloud.server.folder / "bundle.pem"
        bundle.write_text((TRUSTED_HERE.read_text() if TRUSTED_HERE.exists() else "") + cloud.server.authority.file.read_text())
        volumes = [f"--volume={cgroup}:/sys/fs/cgroup:rw", f"--volume={bundle.resolve()}:{BUNDLE}:ro"]
        place = [f"--network={network}", f"--ip={interface['networkIP']}", f"--hostname={instance['name']}"]
        docker("run", "--detach", f"--name={name}", label(cloud), *place, *BOOT, *volumes, f"selfhost-prefect/debian:{debian}")

    def _trust(self, cloud: LocalCloud, name: str) -> None:
        """The machine reaches Cloud Run's public addresses and trusts their certificates, as it would those of Google."""
        shell(name, "cat >/usr/local/share/ca-certificates/local-gcp.crt; update-ca-certificates >/dev/null 2>&1", cloud.server.authority.file.read_text())
        hosts = "".join(f"{FRONT[1]} {host}\n" for host in sorted(cloud.server.backends))
        shell(name, "sed '/ # local-gcp/d' /etc/hosts >/tmp/hosts; sed 's/$/ # local-gcp/' >>/tmp/hosts; cat /tmp/hosts >/etc/hosts", hosts)

    def instance_stop(self, _cloud: LocalCloud, _operation: Operation, target: str) -> None:
        docker("stop", container_name(target))

    def instance_reset(self, cloud: LocalCloud, operation: Operation, target: str) -> None:
        docker("restart", "--time=0", container_name(target))
        self.instance_up(cloud, operation, target)

    def instance_down(self, _cloud: LocalCloud, _operation: Operation, target: str) -> None:
        engine.remove(container_name(target))

    # What passes between them

    def apply_firewall(self, cloud: LocalCloud, operation: Operation, _target: str) -> None:
        """VPC, "VPC firewall rules": by priority, deny before allow; what no rule allows does not come in, and everything goes out."""
        for name, instance in running_instances(cloud, operation):
            engine.set_firewall(container_name(name), firewall(cloud, instance))

    def apply_network(self, cloud: LocalCloud, operation: Operation, _target: str) -> None:
        """Cloud NAT, "Overview": subnets of a region with it, and machines with an external address, reach the outside."""
        for name, subnet in subnets(cloud):
            prefix = engine.bridge_prefix(cloud.project, tail(subnet["network"]))
            match = ("-s", subnet["ipCidrRange"], "!", "-o", f"{prefix}+", "-j", "MASQUERADE")
            engine.rule(cloud.project, "nat", "POSTROUTING", *match, present=has_nat(cloud, name, subnet))
        for _name, instance in running_instances(cloud, operation):
            interface = instance["networkInterfaces"][0]
            if interface.get("accessConfigs"):
                prefix = engine.bridge_prefix(cloud.project, tail(interface["network"]))
                engine.rule(cloud.project, "nat", "POSTROUTING", "-s", f"{interface['networkIP']}/32", "!", "-o", f"{prefix}+", "-j", "MASQUERADE")

    # Databases

    def database_up(self, cloud: LocalCloud, operation: Operation, target: str) -> None:
        instance = resource(cloud, operation, target)
        name = container_name(target)
        address = instance["ipAddresses"][-1]["ipAddress"]
        network = network_of_address(cloud, instance, address)
        if not engine.exists(name):
            place = [f"--network={network}", f"--ip={address}", f"--hostname={instance['name']}"]
            docker("run", "--detach", f"--name={name}", label(cloud), *place, *BOOT, "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw", IMAGE)
            wait_for_systemd(name)
        certificate, key = sqladmin.authority(cloud, instance["name"]).issue(f"{cloud.project}:{instance['name']}")
        shell(name, "cat >/etc/postgresql/server.crt", certificate.decode())
        # Not before it is the server's: its key is nobody else's.
        shell(name, "umask 077; cat >/etc/postgresql/server.key; chown postgres: /etc/postgresql/server.key", key.decode())
        shell(name, "cat >/etc/postgresql/ca.crt", sqladmin.authority(cloud, instance["name"]).file.read_text())
        self._configure(name, instance)
        # "About PostgreSQL users and roles": all that the API makes belongs to this role.
        query(name, "CREATE ROLE cloudsqlsuperuser NOLOGIN CREATEDB CREATEROLE")
        password = dict(operation["changes"]).get(f"{target}/users/postgres", {}).get("_password")
        if password:
            query(name, f"ALTER ROLE postgres PASSWORD {literal(password)}")

    def _configure(self, name: str, instance: dict[str, Json]) -> None:
        settings = instance["settings"]
        flags = [f"{flag['name']} = {literal(flag['value'])}" for flag in settings.get("databaseFlags", []) if not flag["name"].startswith("cloudsql.")]
        files = {"ssl_cert_file": "server.crt", "ssl_key_file": "server.key", "ssl_ca_file": "ca.crt"}
        lines = ["listen_addresses = '*'", "ssl = on", *(f"{option} = '/etc/postgresql/{file}'" for option, file in files.items()), *flags]
        # "Configure SSL/TLS certificates".
        mode = settings["ipConfiguration"]["sslMode"]
        kind = "host" if mode == "ALLOW_UNENCRYPTED_AND_ENCRYPTED" else "hostssl"
        extra = " clientcert=verify-ca" if mode == "TRUSTED_CLIENT_CERTIFICATE_REQUIRED" else ""
        shell(name, "cat >$(echo /etc/postgresql/*/main)/conf.d/cloudsql.conf", "\n".join(lines) + "\n")
        shell(name, "cat >$(echo /etc/postgresql/*/main)/pg_hba.conf", f"local all postgres peer\n{kind} all all all scram-sha-256{extra}\n")
        shell(name, "systemctl restart postgresql; until pg_isready --quiet; do sleep 0.2; done")

    def database_change(self, cloud: LocalCloud, operation: Operation, target: str) -> None:
        self._configure(container_name(target), resource(cloud, operation, target))

    def database_down(self, _cloud: LocalCloud, _operation: Operation, target: str) -> None:
        engine.remove(container_name(target))

    def create_database(self, _cloud: LocalCloud, _operation: Operation, target: str, name: str) -> None:
        query(container_name(target), f"CREATE DATABASE {identifier(name)} OWNER cloudsqlsuperuser ENCODING 'UTF8' TEMPLATE template0")

    def drop_database(self, _cloud: LocalCloud, _operation: Operation, target: str, name: str) -> None:
        query(container_name(target), f"DROP DATABASE {identifier(name)} WITH (FORCE)")

    def database_user(self, _cloud: LocalCloud, _operation: Operation, target: str, name: str, password: str, kind: str) -> None:
        container, role = container_name(target), identifier(name)
        found = query(container, f"SELECT 1 FROM pg_roles WHERE rolname = {literal(name)}").strip()
        if not found:
            query(container, f"CREATE ROLE {role} LOGIN" + (" CREATEDB CREATEROLE IN ROLE cloudsqlsuperuser" if kind == "BUILT_IN" else ""))
        if password:
            query(container, f"ALTER ROLE {role} PASSWORD {literal(password)}")

    def drop_user(self, _cloud: LocalCloud, _operation: Operation, target: str, name: str) -> None:
        query(container_name(target), f"DROP ROLE {identifier(name)}")

    # Cloud Run

    def service_up(self, cloud: LocalCloud, operation: Operation, target: str, _latest: str) -> None:
        self._serve(cloud, resource(cloud, operation, target), target)
        for name, _instance in running_instances(cloud, operation):
            self._trust(cloud, container_name(name))

    def resume(self, cloud: LocalCloud) -> None:
        """After a restart of this cloud its containers still run; the front end is to be told of them."""
        for name, service in list(cloud.state.resources.items()):
            if name.startswith("run/") and service.get("uri") and not cloud.running(name):
                self._serve(cloud, service, name)

    def _serve(self, cloud: LocalCloud, service: dict[str, Json], target: str) -> None:
        """Start each revision that the traffic goes to, wait for its probe, and only then move the traffic."""
        shares = []
        for share in service["traffic"]:
            revision = f"{target}/revisions/{share['revision']}" if share.get("revision") else f"run/{service['latestCreatedRevision']}"
            address = self._start_revision(cloud, cloud.state.resources[revision], revision)
            shares.append((address, share.get("percent", 0)))
            if share.get("tag"):
                cloud.server.backends[f"{share['tag']}---{host_of(service['uri'])}"] = Backend(target, [(address, 100)])
        cloud.server.backends[host_of(service["uri"])] = Backend(target, shares)
        cloud.server.serve_front(make_front(cloud))

    def _start_revision(self, cloud: LocalCloud, revision: dict[str, Json], name: str) -> tuple[str, int]:
        container = container_name(name)
        main = next(one for one in revision["containers"] if one.get("ports"))
        port = main["ports"][0]["containerPort"]
        if not engine.exists(container):
            run_revision(cloud, revision, main, container, port)
        docker("start", container)
        address = engine.addresses(container)[0]
        try:
            wait_for_probe(container, address, port, main["startupProbe"])
        except GoogleError:
            words = engine.last_words(container)
            engine.remove(container)
            text = f"Revision '{tail(name)}' is not ready and cannot serve traffic. The user-provided container failed the configured startup probe checks."
            raise GoogleError(400, f"{text} Its last words: {words}") from None
        return address, port

    def service_down(self, cloud: LocalCloud, _operation: Operation, target: str) -> None:
        for host, backend in list(cloud.server.backends.items()):
            if backend.service == target:
                del cloud.server.backends[host]
        names = [container_name(name) for name in cloud.state.resources if name.startswith(f"{target}/revisions/")]
        engine.remove(*names)


# Names and places


def tail(name: str) -> str:
    return name.rpartition("/")[2]


def container_name(target: str) -> str:
    kind = "run" if target.startswith("run/") else "sql" if target.startswith("sql/") else "vm"
    return f"local-gcp-{kind}-{tail(target)}"


def label(cloud: LocalCloud) -> str:
    return f"--label={LABEL}={cloud.project}"


def host_of(url: str) -> str:
    return url.removeprefix("https://")


def resource(cloud: LocalCloud, operation: Operation, target: str) -> dict[str, Json]:
    """As it will be when the operation is done."""
    return t.cast("dict[str, Json]", dict(operation["changes"]).get(target) or cloud.state.resources[target])


def subnets(cloud: LocalCloud) -> list[tuple[str, dict[str, Json]]]:
    with cloud.lock:
        return [(name, one) for name, one in cloud.state.resources.items() if re.fullmatch(r"compute/projects/[^/]+/regions/[^/]+/subnetworks/[^/]+", name)]


def subnet_network(cloud: LocalCloud, link: str) -> str:
    name = "compute/" + link[link.index("projects/") :]
    subnet = cloud.state.resources[name]
    return engine.make_network(cloud.project, tail(subnet["network"]), ipaddress.IPv4Network(subnet["ipCidrRange"]))


def network_of_address(cloud: LocalCloud, instance: dict[str, Json], address: str) -> str:
    """The reserved range that a private address is from; a public one is of no VPC."""
    vpc = tail(instance["settings"]["ipConfiguration"].get("privateNetwork", ""))
    for name, one in cloud.state.resources.items():
        if name.startswith(f"compute/projects/{cloud.project}/global/addresses/") and one.get("purpose") == "VPC_PEERING":
            block = ipaddress.IPv4Network(f"{one['address']}/{one['prefixLength']}")
            if ipaddress.IPv4Address(address) in block:
                return engine.make_network(cloud.project, vpc, block)
    return engine.make_network(cloud.project, "public", ipaddress.IPv4Network(f"{address}/24", strict=False))


def make_front(cloud: LocalCloud) -> str:
    """Where Cloud Run's public addresses answer."""
    engine.make_network(cloud.project, "front", FRONT)
    return str(FRONT[1])


def wait_for_systemd(name: str) -> None:
    for _time in range(240):
        state = docker("exec", name, "systemctl", "is-system-running", check=False).strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.25)
    raise GoogleError(500, f"{name} does not come up: systemd says {state or 'nothing'}.")


# The firewall


def running_instances(cloud: LocalCloud, operation: Operation) -> list[tuple[str, dict[str, Json]]]:
    """The machines that are up, with what the operation is about to change."""
    with cloud.lock:
        known = {**cloud.state.resources, **{name: one for name, one in operation["changes"] if one}}
    places = r"compute/projects/[^/]+/zones/[^/]+/instances/[^/]+"
    # One that has no address yet looks to itself when it is up.
    found = [(name, one) for name, one in known.items() if re.fullmatch(places, name) and "networkIP" in one["networkInterfaces"][0]]
    state = "{{.State.Running}}"
    return [(name, one) for name, one in found if docker("container", "inspect", "--format", state, container_name(name), check=False).strip() == "true"]


def firewall(cloud: LocalCloud, instance: dict[str, Json]) -> str:
    """nftables rules for one machine."""
    network = tail(instance["networkInterfaces"][0]["network"])
    rules = [
        one for name, one in list(cloud.state.resources.items())
        if "/global/firewalls/" in name and tail(one["network"]) == network and not one["disabled"] and applies(one, instance)
    ]  # fmt: skip
    rules.sort(key=lambda one: (one["priority"], "allowed" in one))
    lines = {"INGRESS": list[str](), "EGRESS": list[str]()}
    for one in rules:
        verdict = "accept" if one.get("allowed") else "drop"
        for entry in one.get("allowed") or one["denied"]:
            lines[one["direction"]] += [f"{source} {ports} {verdict}" for source in ends(cloud, one) for ports in protocol(entry)]
    ingress, egress = "\n    ".join(lines["INGRESS"]), "\n    ".join(lines["EGRESS"])
    return f"""
table inet local_gcp
delete table inet local_gcp
table inet local_gcp {{
  chain input {{
    type filter hook input priority -10; policy drop;
    iif lo accept
    ct state established,related accept
    ip saddr 169.254.169.254 accept
    {ingress}
  }}
  chain output {{
    type filter hook output priority -10; policy accept;
    oif lo accept
    ct state established,related accept
    {egress}
  }}
}}
"""


def applies(rule: dict[str, Json], instance: dict[str, Json]) -> bool:
    tags = set(instance.get("tags", {}).get("items", []))
    accounts = {one["email"] for one in instance.get("serviceAccounts", [])}
    wanted_tags, wanted_accounts = set(rule.get("targetTags", [])), set(rule.get("targetServiceAccounts", []))
    return bool((not wanted_tags and not wanted_accounts) or wanted_tags & tags or wanted_accounts & accounts)


def ends(cloud: LocalCloud, rule: dict[str, Json]) -> list[str]:
    """The other side of a connection: ranges, and machines by their tags and accounts."""
    if rule["direction"] == "EGRESS":
        return [f"ip daddr {block}" for block in rule["destinationRanges"]]
    found = [f"ip saddr {block}" for block in rule.get("sourceRanges", [])]
    tagged = {"targetTags": rule.get("sourceTags", []), "targetServiceAccounts": rule.get("sourceServiceAccounts", [])}
    if any(tagged.values()):
        for name, one in list(cloud.state.resources.items()):
            if "/instances/" in name and name.startswith("compute/") and applies(tagged, one) and "networkIP" in one["networkInterfaces"][0]:
                found.append(f"ip saddr {one['networkInterfaces'][0]['networkIP']}")
    return found


def protocol(entry: dict[str, Json]) -> list[str]:
    name = entry["IPProtocol"]
    if name == "all":
        return [""]
    if entry.get("ports"):
        return [f"{name} dport {port}" for port in entry["ports"]]
    return [f"ip protocol {name}"]


def has_nat(cloud: LocalCloud, name: str, subnet: dict[str, Json]) -> bool:
    region = name.split("/")[4]
    for path, router in list(cloud.state.resources.items()):
        if f"/regions/{region}/routers/" in path and tail(router["network"]) == tail(subnet["network"]):
            for nat in router.get("nats", []):
                listed = [tail(one["name"]) for one in nat.get("subnetworks", [])]
                if nat["sourceSubnetworkIpRangesToNat"] != "LIST_OF_SUBNETWORKS" or tail(name) in listed:
                    return True
    return False


# SQL


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def query(container: str, statement: str) -> str:
    """As the administrator. By standard input: a password may be in it."""
    return docker(
        "exec", "--interactive", "--user=postgres", container, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
        content=statement,
    )  # fmt: skip


# Revisions


def run_revision(cloud: LocalCloud, revision: dict[str, Json], main: dict[str, Json], container: str, port: int) -> None:
    """ "Container runtime contract"."""
    image = main["image"]
    stock = re.fullmatch(r"(.*/)?nginx(:[\w.-]+)?(@sha256:[0-9a-f]+)?", image)
    if not engine.is_here(image) and not stock:
        raise GoogleError(400, f"Image '{image}' not found.")
    command = [*main.get("command", []), *main.get("args", [])]
    if not engine.is_here(image):
        # The stock image cannot be had everywhere: Debian's nginx is started as that one starts its own.
        image, command = IMAGE, command or ["nginx", "-g", "daemon off;"]
    service = revision["service"]
    environment = {"PORT": str(port), "K_SERVICE": service, "K_REVISION": tail(revision["name"]), "K_CONFIGURATION": service, **variables(cloud, main)}
    limits = main.get("resources", {}).get("limits", {})
    memory = f"--memory={int(limits.get('memory', '512Mi').rstrip('iMG')) * (1024 if 'G' in limits.get('memory', '') else 1)}m"
    place = vpc_place(cloud, revision)
    names = [f"--env={name}" for name in environment]
    mounts = [f"--volume={source}:{path}:ro" for source, path in files(cloud, revision, main)]
    docker("run", "--detach", f"--name={container}", label(cloud), memory, *place, *names, *mounts, image, *command, environment=environment)


def vpc_place(cloud: LocalCloud, revision: dict[str, Json]) -> list[str]:
    """Direct VPC egress: an address of the subnet, from its end."""
    interfaces = revision.get("vpcAccess", {}).get("networkInterfaces", [])
    if not interfaces or not interfaces[0].get("subnetwork"):
        return [f"--network={engine.make_network(cloud.project, 'front', FRONT)}"]
    region = revision["name"].split("/")[3]
    link = f"projects/{cloud.project}/regions/{region}/subnetworks/{tail(interfaces[0]['subnetwork'])}"
    network = subnet_network(cloud, link)
    block = ipaddress.IPv4Network(cloud.state.resources[f"compute/{link}"]["ipCidrRange"])
    format_ = "{{range .Containers}}{{.IPv4Address}} {{end}}"
    used = {one.partition("/")[0] for one in docker("network", "inspect", "--format", format_, network).split()}
    address = next(str(block[number]) for number in range(-3, -block.num_addresses, -1) if str(block[number]) not in used)
    return [f"--network={network}", f"--ip={address}"]


def payload(cloud: LocalCloud, reference: str, version: str) -> bytes:
    return base64.b64decode(version_of(cloud, cloud_run.secret_of(cloud, reference), version)["_data"])


def variables(cloud: LocalCloud, main: dict[str, Json]) -> dict[str, str]:
    found = {}
    for one in main.get("env", []):
        secret = (one.get("valueSource") or {}).get("secretKeyRef")
        found[one["name"]] = payload(cloud, secret["secret"], secret.get("version", "latest")).decode() if secret else one.get("value", "")
    return found


def files(cloud: LocalCloud, revision: dict[str, Json], main: dict[str, Json]) -> t.Iterator[tuple[Path, str]]:
    """Secrets as files: a mount hides what the image has there."""
    for mount in main.get("volumeMounts", []):
        [volume] = [one for one in revision["volumes"] if one["name"] == mount["name"]]
        folder = cloud.server.folder / "run" / tail(revision["name"]) / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        secret = volume.get("secret") or {}
        for item in secret.get("items", []) or ([{"path": tail(secret["secret"])}] if secret else []):
            file = folder / item["path"]
            file.touch(mode=0o600)
            file.write_bytes(payload(cloud, secret["secret"], item.get("version", "latest")))
            file.chmod(item.get("mode") or secret.get("defaultMode") or 0o444)
        yield folder.resolve(), mount["mountPath"]


def wait_for_probe(container: str, address: str, port: int, probe: dict[str, Json]) -> None:
    """ "Configure container health checks for services": so often, so far apart; a container that ends has failed."""
    check = probe.get("httpGet")
    period, timeout = probe.get("periodSeconds", 10), probe.get("timeoutSeconds", 1)
    deadline = time.monotonic() + period * probe.get("failureThreshold", 3)
    while time.monotonic() < deadline:
        target = (check or probe.get("tcpSocket") or {}).get("port", port)
        if answers(address, target, check, timeout):
            return
        if docker("container", "inspect", "--format", "{{.State.Running}}", container, check=False).strip() != "true":
            break
        time.sleep(min(period, 0.5))
    raise GoogleError(400, "the startup probe failed")


def answers(address: str, port: int, check: dict[str, Json] | None, timeout: float) -> bool:
    try:
        if check is None:
            socket.create_connection((address, port), timeout=min(timeout, 5)).close()
            return True
        headers = {one["name"]: one["value"] for one in check.get("httpHeaders", [])}
        request = urllib.request.Request(f"http://{address}:{port}{check.get('path', '/')}", headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=min(timeout, 5)) as response:
            return 200 <= response.status < 400
    except (OSError, urllib.error.URLError):
        return False
