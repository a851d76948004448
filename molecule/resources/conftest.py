# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import testinfra
from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient


@pytest.fixture(scope="session")
def client():
    host = testinfra.get_host("ansible://molecule-resources-server")
    return PrefectClient(f"http://{host.check_output('hostname --ip-address').split()[0]}:4200/api", auth_string="tester:made-up-p@ss:word%")
