# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker, by its command line, and the nets that this cloud makes with it.

A subnet, or a range of Google's services, is a Docker network of its own, so that containers have the addresses that the API reports.
Between the networks of one VPC packets pass; to the outside they get only by Cloud NAT or with an external address, as at Google.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import subprocess
import threading
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What has this label is this cloud's, and goes with it.
LABEL = "selfhost-prefect.local-gcp"
IMAGE = "selfhost-prefect/local-gcp:12"
# RFC 2544: what no network of anybody's has. Here the public addresses of Cloud Run answer.
FRONT = ipaddress.IPv4Network("198.18.0.0/24")
# What systemd needs of an engine, short of --privileged (see playbooks/tasks/containers.yml).
BOOT = (
    "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    "--cgroupns=host", "--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec", "--stop-signal=SIGRTMIN+3", "--stop-timeout=60",
)  # fmt: skip
# PostgreSQL and nginx of Debian, nginx with the stock image's main configuration, and the tools for the rules of the network.
DOCKERFILE = r"""
FROM selfhost-prefect/debian:12
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql nginx-light iptables nftables openssl \
 && rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /etc/nginx/sites-enabled \
 && systemctl disable nginx postgresql \
 && useradd --system --no-create-home nginx \
 && printf '%s\n' 'user nginx;' 'worker_processes auto;' 'error_log /dev/stderr notice;' 'pid /run/nginx.pid;' \
    'events { worker_connections 1024; }' \
    'http {' '  include /etc/nginx/mime.types;' '  default_type application/octet-stream;' '  access_log /dev/stdout;' '  sendfile on;' \
    '  keepalive_timeout 65;' '  include /etc/nginx/conf.d/*.conf;' '}' >/etc/nginx/nginx.conf \
 && printf 'server { listen 80; root /usr/share/nginx/html; }\n' >/etc/nginx/conf.d/default.conf
"""


# Operations run beside one another, and two of them may need the same network.
_ONE_AT_A_TIME = threading.Lock()


class DockerError(Exception):
    """A command of Docker's failed."""


def docker(*arguments: object, content: str = "", environment: t.Mapping[str, str] | None = None, check: bool = True) -> str:
    """What a command writes; secrets go in by `content`, its standard input, or by the environment."""
    command = ["docker", *map(str, arguments)]
    done = subprocess.run(command, input=content, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})})
    if check and done.returncode:
        raise DockerError(f"docker {arguments[0]}: {done.stderr.strip()[-600:]}")
    return done.stdout


def prepare_images(*debian: str) -> None:
    """Made once: later calls find them."""
    subprocess.run([str(ROOT / "scripts/base-image"), *debian], check=True)
    recipe = hashlib.sha256(DOCKERFILE.encode()).hexdigest()[:16]
    base = docker("image", "inspect", "--format", "{{.Id}}", "selfhost-prefect/debian:12").strip()
    wanted = f"{recipe}-{base}"
    if docker("image", "inspect", "--format", '{{index .Config.Labels "recipe"}}', IMAGE, check=False).strip() != wanted:
        docker("build", "--quiet", "--label", f"recipe={wanted}", "--tag", IMAGE, "-", content=DOCKERFILE)


def exists(name: str) -> bool:
    return bool(docker("container", "inspect", name, check=False).strip("[]\n "))


def remove(*names: str) -> None:
    docker("container", "rm", "--force", "--volumes", *names, check=False)


def last_words(container: str) -> str:
    """Both of a container's outputs."""
    done = subprocess.run(["docker", "logs", "--tail=5", container], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.strip()[-400:]


def shell(container: str, script: str, content: str = "") -> str:
    return docker("exec", "--interactive", container, "sh", "-euc", script, content=content)


def is_here(image: str) -> bool:
    return bool(docker("image", "inspect", image, check=False).strip("[]\n "))


# Networks


def bridge_prefix(owner: str, network: str) -> str:
    """The bridges of a VPC have names that begin alike, so that one rule is for all of them. There are 15 characters."""
    return f"gcp{hashlib.sha256(f'{owner}/{network}'.encode()).hexdigest()[:5]}"


def make_network(owner: str, vpc: str, block: ipaddress.IPv4Network) -> str:
    """The Docker network of a block of addresses; made when it is first needed."""
    with _ONE_AT_A_TIME:
        return _make_network(owner, vpc, block)


def _make_network(owner: str, vpc: str, block: ipaddress.IPv4Network) -> str:
    name = f"local-gcp-{vpc}-{str(block).replace('/', '-')}"
    if docker("network", "ls", "--quiet", "--filter", f"name=^{name}$").strip():
        return name
    prefix = bridge_prefix(owner, vpc)
    bridge = prefix + hashlib.sha256(str(block).encode()).hexdigest()[:6]
    options = [f"com.docker.network.bridge.name={bridge}", "com.docker.network.bridge.enable_ip_masquerade=false"]
    if int(docker("version", "--format", "{{.Server.Version}}").partition(".")[0]) >= 28:
        # Since then an engine keeps other networks from a container's address, whatever the rules below say.
        options.append("com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected")
    flags = [f"--opt={option}" for option in options]
    docker("network", "create", f"--label={LABEL}={owner}", f"--subnet={block}", f"--gateway={block[1]}", *flags, name)
    # Docker keeps its networks apart; those of one VPC are one.
    rule(owner, "filter", "DOCKER-USER", "-i", f"{prefix}+", "-o", f"{prefix}+", "-j", "ACCEPT")
    return name


def rule(owner: str, table: str, chain: str, *match: str, present: bool = True) -> None:
    """A rule on the host, before all others, once; it carries the owner's name so that `clean` finds it."""
    full = [*match[:-2], "-m", "comment", "--comment", f"local-gcp:{owner}", *match[-2:]]
    there = host("iptables", "-w", "-t", table, "-C", chain, *full, check=False)
    if present and not there:
        host("iptables", "-w", "-t", table, "-I", chain, *full)
    elif there and not present:
        host("iptables", "-w", "-t", table, "-D", chain, *full)


def host(*command: str, check: bool = True) -> bool:
    """Run a command in the host's network: by a container, so that who may use Docker need not be root."""
    legacy = command[0] == "iptables" and uses_legacy()
    words = ["iptables-legacy" if legacy else command[0], *command[1:]]
    arguments = ["run", "--rm", "--network=host", "--cap-add=NET_ADMIN", "--entrypoint=", IMAGE, *words]
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise DockerError(f"{words[0]}: {done.stderr.strip()[-600:]}")
    return done.returncode == 0


_LEGACY: list[bool] = []


def uses_legacy() -> bool:
    """The kernel has two sets of tables; Docker's chains are in one of them."""
    if not _LEGACY:
        arguments = ["run", "--rm", "--network=host", "--cap-add=NET_ADMIN", "--entrypoint=", IMAGE, "iptables", "-w", "-S", "DOCKER-USER"]
        _LEGACY.append(subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode != 0)
    return _LEGACY[0]


def set_firewall(container: str, ruleset: str) -> None:
    """Load nftables rules into a container's network, from the outside: the container itself need not have nft."""
    arguments = ("run", "--rm", "--interactive", f"--network=container:{container}", "--cap-add=NET_ADMIN", "--entrypoint=", IMAGE, "nft", "-f", "-")
    docker(*arguments, content=ruleset)


def clean(owner: str) -> None:
    """Remove all that carries the owner's label: containers, networks, rules."""
    names = docker("container", "ls", "--all", "--quiet", "--filter", f"label={LABEL}={owner}").split()
    if names:
        remove(*names)
    networks = docker("network", "ls", "--quiet", "--filter", f"label={LABEL}={owner}").split()
    if networks:
        docker("network", "rm", *networks)
    if is_here(IMAGE):
        save, restore = ("iptables-legacy-save", "iptables-legacy") if uses_legacy() else ("iptables-save", "iptables")
        # iptables-save writes rules as one would give them: with -D for -A they go.
        pick = f's/^-A \\(.*local-gcp:{owner}[" ].*\\)/-D \\1/p'
        remove_each = f'while read -r line; do eval {restore} -w -t $table "$line"; done'
        host("sh", "-c", f"for table in filter nat; do {save} -t $table | sed -n '{pick}' | {remove_each}; done")


def addresses(container: str) -> list[str]:
    found = json.loads(docker("container", "inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
    return [network["IPAddress"] for network in found.values()]
