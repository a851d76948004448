# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One module for each of Google's services: its rules, each with the page of Google's documentation that states it."""

from __future__ import annotations

from . import artifactregistry, cloudresourcemanager, compute, iam, operations, run, secretmanager, servicenetworking, serviceusage, sqladmin, vpcaccess

__all__ = [
    "artifactregistry",
    "cloudresourcemanager",
    "compute",
    "iam",
    "operations",
    "run",
    "secretmanager",
    "servicenetworking",
    "serviceusage",
    "sqladmin",
    "vpcaccess",
]
