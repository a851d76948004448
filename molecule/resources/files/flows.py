# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The flow of the team whose resources the scenario keeps."""

from __future__ import annotations

from prefect import flow
from prefect.blocks.system import Secret
from prefect.variables import Variable


@flow(log_prints=True)
def load(full: bool = False) -> None:
    """See that the variable and the block are there."""
    print(f"Loads {'all' if full else 'new'} rows of {Variable.get('warehouse')}, with a password of {len(Secret.load('warehouse').get())} characters.")
