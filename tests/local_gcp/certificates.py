# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local cloud's certificate authority, and a certificate for each host that a client asks for."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import typing as t
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """Kept in a folder, so that a client's trust outlives a restart."""

    def __init__(self, folder: Path, name: str = "Local Google Cloud") -> None:
        self.folder = folder
        self.file = folder / "ca.crt"
        key_file = folder / "ca.key"
        if self.file.exists() and key_file.exists():
            self.certificate = x509.load_pem_x509_certificate(self.file.read_bytes())
            self.key = t.cast("ec.EllipticCurvePrivateKey", serialization.load_pem_private_key(key_file.read_bytes(), None))
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
            self.certificate = self._sign(name, self.key, authority=True)
            write_private(key_file, pem_of_key(self.key))
            self.file.write_bytes(pem(self.certificate))

    def issue(self, *names: str) -> tuple[bytes, bytes]:
        """A certificate for these names and addresses, and its key, both as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return pem(self._sign(names[0], key, names=names)), pem_of_key(key)

    def context(self, host: str) -> ssl.SSLContext:
        """What a server shows to a client that wants this host."""
        certificate, key = self.issue(host)
        file = self.folder / "server.pem"
        write_private(file, key + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        file.unlink()
        return context

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, names: t.Sequence[str] = (), authority: bool = False) -> x509.Certificate:
        now = dt.datetime.now(dt.timezone.utc)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if authority else self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=3650 if authority else 365))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if authority:
            usage = x509.KeyUsage(
                digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
            )  # fmt: skip
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative(one) for one in names]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def write_private(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
