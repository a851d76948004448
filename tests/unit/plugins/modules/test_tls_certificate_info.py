# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime as dt
import hashlib
import os

import pytest
from ansible_collections.selfhost.prefect.plugins.modules import tls_certificate_info
from ansible_collections.selfhost.prefect.plugins.modules.tls_certificate_info import main
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = dt.datetime.now(dt.timezone.utc)
PEM = serialization.Encoding.PEM


class Pair:
    """A certificate and its key, self-signed unless there is an issuer."""

    def __init__(self, folder, *, days=(-1, 100), key=None, usage=None, issuer=None, authority=False):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority" if authority else "unit test")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name if issuer else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + dt.timedelta(days=days[0]))
            .not_valid_after(NOW + dt.timedelta(days=days[1], hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")]), critical=False)
        )
        if authority:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(PEM).decode()
        self.key_pem = self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        stem = folder / os.urandom(4).hex()
        self.path, self.key_path = f"{stem}.crt", f"{stem}.key"
        stem.with_suffix(".crt").write_text(self.pem)
        stem.with_suffix(".key").write_text(self.key_pem)


@pytest.fixture
def make(tmp_path):
    return lambda **options: Pair(tmp_path, **options)


@pytest.fixture
def look(run_module):
    def run(certificate, key=None):
        return run_module(main, certificate_path=certificate.path, private_key_path=(key or certificate).key_path)

    return run


def test_a_good_pair_is_described(look, make):
    pair = make()
    result = look(pair)
    assert result["changed"] is False
    assert result["problem"] == ""
    assert result["fingerprint"] == hashlib.sha256(pair.certificate.public_bytes(serialization.Encoding.DER)).hexdigest()
    assert result["not_after"] == pair.certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert result["days_left"] == 100
    assert result["dns_names"] == ["a.example", "b.example"]
    assert "expires in" not in result["_output"]


def test_texts_are_as_good_as_files(run_module, make):
    pair = make()
    result = run_module(main, check_mode=True, certificate_content=pair.pem, private_key_content=pair.key_pem)
    assert (result["problem"], result["days_left"]) == ("", 100)
    assert pair.key_pem.splitlines()[1] not in result["_output"]


def test_a_mixture_of_both_is_fine(run_module, make):
    pair = make()
    assert run_module(main, certificate_path=pair.path, private_key_content=pair.key_pem)["problem"] == ""


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())], ids=["RSA", "P-384"])
def test_any_usual_key_will_do(look, make, key):
    assert look(make(key=key))["problem"] == ""


def test_a_chain_is_read_from_its_first_certificate(look, make):
    authority = make(authority=True, days=(-10, -5))
    pair = make(issuer=authority, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    with open(pair.path, "a") as file:
        file.write(authority.pem)
    result = look(pair)
    assert (result["problem"], result["days_left"]) == ("", 100)


def test_a_chain_in_the_wrong_order_is_refused(look, make):
    authority = make(authority=True)
    pair = make(issuer=authority)
    with open(pair.path, "w") as file:
        file.write(authority.pem + pair.pem)
    assert look(pair)["problem"] == "the private key does not belong to the certificate, which has to be the first one in its file"


def test_an_issuer_that_is_not_in_the_file_is_no_problem(look, make):
    assert look(make(issuer=make(authority=True)))["problem"] == ""


def test_an_expired_certificate_is_refused(look, make):
    result = look(make(days=(-20, -10)))
    assert result["problem"] == f"the certificate expired on {result['not_after'][:10]}"
    assert result["days_left"] == -10
    assert "expires in" not in result["_output"]


def test_a_certificate_of_the_future_is_refused(look, make):
    day = (NOW + dt.timedelta(days=5)).strftime("%Y-%m-%d")
    assert look(make(days=(5, 10)))["problem"] == f"the certificate is not valid before {day}"


def test_a_certificate_that_expires_soon_is_used_with_a_warning(look, make):
    # First: Ansible's warnings are the process's.
    assert "expires in" not in look(make(days=(-80, 14)))["_output"]
    result = look(make(days=(-80, 13)))
    assert result["problem"] == ""
    assert f"The TLS certificate expires in 13 days, at {result['not_after']}: renew it." in result["_output"]


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)], ids=["same type", "other type"])
def test_the_key_of_another_certificate_is_refused(look, make, key):
    assert look(make(), make(key=key))["problem"] == "the private key does not belong to the certificate, which has to be the first one in its file"


def test_a_certificate_for_clients_is_refused(look, make):
    assert look(make(usage=ExtendedKeyUsageOID.CLIENT_AUTH))["problem"].startswith("clients refuse the certificate (")


def test_a_weak_key_is_refused(look, make):
    weak = rsa.generate_private_key(65537, 1024)
    assert look(make(key=weak))["problem"] == "OpenSSL cannot load the certificate and its private key (ee key too small)"


def test_an_encrypted_key_is_refused(look, make):
    pair = make()
    with open(pair.key_path, "wb") as file:
        file.write(pair.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"made up")))
    assert look(pair)["problem"] == "the private key is encrypted, and a server starts without a password"


@pytest.mark.parametrize(("what", "attribute"), [("certificate", "path"), ("private key", "key_path")])
def test_a_missing_file_is_named(look, make, what, attribute):
    pair = make()
    path = getattr(pair, attribute)
    os.remove(path)
    result = look(pair)
    assert result["problem"] == f"the {what} {path} does not exist on this host"
    assert (result["fingerprint"], result["not_after"], result["days_left"], result["dns_names"]) == (None, None, None, [])


def test_a_file_that_cannot_be_read_is_named(look, make):
    pair = make()
    os.remove(pair.path)
    os.mkdir(pair.path)
    assert look(pair)["problem"] == f"the certificate {pair.path} cannot be read (Is a directory)"


def test_a_file_of_another_kind_is_told(look, make):
    pair = make()
    pair.path, pair.key_path = pair.key_path, pair.path
    assert look(pair)["problem"] == "the certificate is not in PEM format, no line says BEGIN CERTIFICATE"
    pair.path = pair.key_path
    assert look(pair)["problem"] == "the private key is not in PEM format, no line says PRIVATE KEY"


def test_a_mangled_file_is_told_without_its_content(look, make):
    pair = make()
    with open(pair.key_path) as file:
        mangled = file.read().replace("M", "!")
    with open(pair.key_path, "w") as file:
        file.write(mangled)
    result = look(pair)
    assert result["problem"].startswith("OpenSSL cannot load the certificate and its private key (")
    assert mangled.splitlines()[1] not in result["_output"]


def test_a_handshake_that_fails_for_another_reason_is_told(make, monkeypatch):
    pair = make()
    server = tls_certificate_info.load_pair(pair.path, pair.key_path)
    server.minimum_version = tls_certificate_info.ssl.TLSVersion.TLSv1_2
    server.maximum_version = tls_certificate_info.ssl.TLSVersion.TLSv1_2
    server.set_ciphers("aRSA")
    monkeypatch.setattr(tls_certificate_info, "load_pair", lambda *_: server)
    assert tls_certificate_info.examine(pair.path, pair.key_path, 0)["problem"] == "no TLS connection can be made with it (no shared cipher)"


@pytest.mark.parametrize(
    "arguments",
    [
        {"certificate_path": "/x"},
        {"private_key_path": "/x"},
        {"certificate_path": "/x", "certificate_content": "x", "private_key_path": "/x"},
    ],
)
def test_exactly_one_of_each_is_needed(run_module, arguments):
    assert run_module(main, **arguments)["failed"] is True
