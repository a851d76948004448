# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This document fragment is PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  state:
    description:
      - V(present) creates what is missing and changes what differs.
      - V(absent) deletes what is there; only what tells the objects apart has to be given.
    type: str
    choices: [present, absent]
    default: present
notes:
  - The whole list is checked before the first write, so bad input changes nothing. When the server refuses a write all the same,
    the message says what has been written and what has not.
  - Objects that the list does not name are left alone.
"""
