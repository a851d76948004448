# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This document fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  api_url:
    description:
      - Address of Prefect's API, with its C(/api), as the host that the module runs on reaches it.
      - A redirect is not followed but reported, so write the address that answers itself.
    type: str
    default: http://127.0.0.1:4200/api
  auth_string:
    description:
      - The server's auth string, C(user:password).
      - Leave it out for a server without one.
    type: str
  ca_path:
    description:
      - PEM bundle, on the host that the module runs on, of the authorities to trust for C(https).
      - Left out or empty, those that the host trusts.
    type: path
  timeout:
    description:
      - Seconds for one request.
      - A server that does not listen, breaks off, or answers 429, 502, 503 or 504 is asked again, up to four times, until these seconds have passed.
    type: int
    default: 30
attributes:
  action_group:
    description: Use C(group/selfhost.prefect.prefect) in C(module_defaults) to set the options that these modules share.
    support: full
    membership:
      - selfhost.prefect.prefect
notes:
  - The module needs nothing but Python's standard library on the host it runs on.
"""
