# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real PostgreSQL of this machine's packages, for tests."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from ansible_collections.selfhost.prefect.tests.certificate import make_certificate


def programs() -> Path | None:
    """The folder with PostgreSQL's programs, the newest; Debian keeps them out of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found = [folder for folder in folders if (folder / "initdb").exists()]
    in_path = shutil.which("initdb")
    return found[-1] if found else Path(in_path).resolve().parent if in_path else None


class PostgreSQL:
    """A cluster of its own, with TLS, that is there until close().

    It has the role `prefect`, who owns the database `prefect`, and `stranger`, who owns nothing; both have `password`.
    The database `guarded` is let into with TLS only.
    """

    def __init__(self, bin_folder: Path) -> None:
        self.bin = bin_folder
        self.password = f"p@ss:w/rd %{secrets.token_hex(8)}"
        # Not below pytest's folder, which is its owner's alone: PostgreSQL refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="prefect-postgresql-"))
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        certificate = make_certificate(self.folder)
        self.authority = certificate.path
        self.folder.chmod(0o755)
        for path in (self.folder, certificate.path, certificate.key_path):
            shutil.chown(path, self.user)
        os.chmod(certificate.key_path, 0o600)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._run("initdb", "--auth=trust", "--username=admin", "--no-sync", self.data)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "ssl": "on",
            "ssl_cert_file": certificate.path,
            "ssl_key_file": certificate.key_path,
            "max_connections": "20",
            "fsync": "off",
        }
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as stream:
            stream.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        (self.data / "pg_hba.conf").write_text(
            "local all admin trust\n"
            "local all all scram-sha-256\n"
            "hostssl guarded all 127.0.0.1/32 scram-sha-256\n"
            "hostnossl guarded all 127.0.0.1/32 reject\n"
            "host all all 127.0.0.1/32 scram-sha-256\n"
        )
        self._run("pg_ctl", "--pgdata", self.data, "--log", self.folder / "log", "--wait", "start")
        for role in ("prefect", "stranger", "limited"):
            self.sql(f"create role {role} login password '{self.password}' connection limit {0 if role == 'limited' else -1}")
        for database in ("prefect", "guarded"):
            self.sql(f"create database {database} owner prefect")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def sql(self, statement: str) -> None:
        """Run a statement as the superuser."""
        self._run("psql", "--quiet", "--host", self.folder, "--port", str(self.port), "--username=admin", "--dbname=postgres", "--command", statement)

    def close(self) -> None:
        self._run("pg_ctl", "--pgdata", self.data, "--mode=immediate", "--wait", "stop")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: object) -> None:
        become = {"user": self.user} if os.geteuid() == 0 else {}
        # pg_ctl hands its output on to the server, which would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            command = [str(self.bin / program), *map(str, arguments)]
            status = subprocess.run(command, cwd="/", stdout=output, stderr=output, check=False, **become).returncode
            output.seek(0)
            assert status == 0, output.read()
