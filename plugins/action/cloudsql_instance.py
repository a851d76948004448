# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The action of the module of this name: Ansible finds it by the file's.

from __future__ import annotations

from ansible_collections.selfhost.prefect.plugins.plugin_utils._gcp_action import ActionModule

__all__ = ["ActionModule"]
