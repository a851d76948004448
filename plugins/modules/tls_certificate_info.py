#!/usr/bin/python
# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate_info
short_description: Tell whether a server can use a TLS certificate and its key
description:
  - Proves a certificate and its private key with a TLS handshake in memory, on the managed host and with its own OpenSSL, so that a role can
    refuse a bad pair before a server gets to see it.
  - Finds a missing, unreadable, malformed, encrypted, expired, not yet valid, too weak or unsuitable certificate or key, and a key that
    belongs to another certificate. Whether clients trust the issuer and the name is theirs to decide, and is not looked at.
  - Warns when the certificate expires in less than 14 days.
author: selfhost.prefect contributors (!UNKNOWN)
version_added: 0.1.0
extends_documentation_fragment:
  - selfhost.prefect._attributes
  - selfhost.prefect._attributes.info
options:
  certificate_path:
    description: File on the managed host with the certificate, followed by the intermediate ones, in PEM format.
    type: path
  certificate_content:
    description: The same as text. Exactly one of O(certificate_path) and O(certificate_content) is required.
    type: str
  private_key_path:
    description: File on the managed host with the private key, not encrypted, in PEM format.
    type: path
  private_key_content:
    description: The same as text. Exactly one of O(private_key_path) and O(private_key_content) is required.
    type: str
"""

EXAMPLES = r"""
- name: Look at the certificate of the web server
  selfhost.prefect.tls_certificate_info:
    certificate_path: /etc/ssl/prefect.example.com.crt
    private_key_path: /etc/ssl/private/prefect.example.com.key
  register: tls
  become: true

- name: Refuse a certificate that cannot be used
  ansible.builtin.assert:
    that: not tls.problem
    fail_msg: "The certificate of prefect.example.com cannot be used: {{ tls.problem }}."
"""

RETURN = r"""
problem:
  description: What is wrong, as the rest of a sentence. Empty when a server can use the pair.
  returned: success
  type: str
  sample: the certificate expired on 2026-11-01
fingerprint:
  description: SHA-256 of the certificate, V(null) if it cannot be read.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
not_after:
  description: When the certificate expires, in UTC, V(null) if it cannot be read.
  returned: success
  type: str
  sample: "2027-11-01T12:00:00Z"
days_left:
  description: Whole days until then, negative once it has expired, V(null) if it cannot be read.
  returned: success
  type: int
  sample: 344
dns_names:
  description: The host names that the certificate is good for.
  returned: success
  type: list
  elements: str
  sample: [prefect.example.com]
"""

import hashlib
import os
import ssl
import tempfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

WARN_DAYS = 14
# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN and X509_V_FLAG_NO_CHECK_TIME: the certificate vouches for itself, and the dates are judged here.
VERIFY_FLAGS = 0x80000 | 0x200000


class UnusableError(Exception):
    """What is wrong with the pair, as the rest of a sentence."""


def read_pem(what: str, path: str, marker: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        raise UnusableError(f"the {what} {path} does not exist on this host") from None
    except OSError as error:
        raise UnusableError(f"the {what} {path} cannot be read ({error.strerror})") from None
    if marker not in text:
        raise UnusableError(f"the {what} is not in PEM format, no line says {marker.strip('-')}")
    return text


def load_pair(certificate: str, private_key: str) -> ssl.SSLContext:
    """The context of a server with this pair; no exception here may carry any of the key."""
    read_pem("certificate", certificate, "-----BEGIN CERTIFICATE-----")
    if "ENCRYPTED" in read_pem("private key", private_key, "PRIVATE KEY-----"):
        raise UnusableError("the private key is encrypted, and a server starts without a password")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        server.load_cert_chain(certificate, private_key, password="")
    except ssl.SSLError as error:
        # The second is said of a key of another type.
        if error.reason in ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise UnusableError("the private key does not belong to the certificate, which has to be the first one in its file") from None
        reason = (error.reason or "malformed").replace("_", " ").lower()
        raise UnusableError(f"OpenSSL cannot load the certificate and its private key ({reason})") from None
    return server


def presented(server: ssl.SSLContext, certificate: str) -> tuple[dict[str, Any], bytes]:
    """What a client sees of the server's certificate, after a handshake in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= VERIFY_FLAGS
    client.load_verify_locations(certificate)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server)
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client_side, server_side]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
        except ssl.SSLCertVerificationError as error:
            raise UnusableError(f"clients refuse the certificate ({error.verify_message})") from None
        except ssl.SSLError as error:
            reason = (error.reason or "no reason given").replace("_", " ").lower()
            raise UnusableError(f"no TLS connection can be made with it ({reason})") from None
    return client_side.getpeercert() or {}, client_side.getpeercert(binary_form=True) or b""


def day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def examine(certificate: str, private_key: str, now: float) -> dict[str, Any]:
    result: dict[str, Any] = {"problem": "", "fingerprint": None, "not_after": None, "days_left": None, "dns_names": []}
    try:
        peer, der = presented(load_pair(certificate, private_key), certificate)
    except UnusableError as error:
        result["problem"] = str(error)
        return result
    not_before, not_after = (ssl.cert_time_to_seconds(peer[field]) for field in ("notBefore", "notAfter"))
    result["fingerprint"] = hashlib.sha256(der).hexdigest()
    result["not_after"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(not_after))
    result["days_left"] = int((not_after - now) // 86400)
    result["dns_names"] = [value for kind, value in peer.get("subjectAltName", ()) if kind == "DNS"]
    if not_after < now:
        result["problem"] = f"the certificate expired on {day(not_after)}"
    elif not_before > now:
        result["problem"] = f"the certificate is not valid before {day(not_before)}"
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "certificate_path": {"type": "path"},
            "certificate_content": {"type": "str"},
            "private_key_path": {"type": "path"},
            "private_key_content": {"type": "str", "no_log": True},
        },
        mutually_exclusive=[("certificate_path", "certificate_content"), ("private_key_path", "private_key_content")],
        required_one_of=[("certificate_path", "certificate_content"), ("private_key_path", "private_key_content")],
        supports_check_mode=True,
    )

    def path_of(what: str) -> str:
        """The file with it; OpenSSL reads a key from files only, so a text becomes one in a folder that Ansible removes."""
        content = module.params[f"{what}_content"]
        if content is None:
            return str(module.params[f"{what}_path"])
        handle, path = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        return path

    result = examine(path_of("certificate"), path_of("private_key"), time.time())
    if not result["problem"] and result["days_left"] < WARN_DAYS:
        module.warn(f"The TLS certificate expires in {result['days_left']} days, at {result['not_after']}: renew it.")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
