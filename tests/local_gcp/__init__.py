# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A local Google Cloud, driven by Google's own API descriptions. See README.md."""

from __future__ import annotations

from .cloud import LocalCloud
from .errors import GoogleError

__all__ = ["GoogleError", "LocalCloud"]
