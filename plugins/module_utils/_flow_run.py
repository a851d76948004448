# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module utility is PRIVATE to the collection.

"""What is to be known of a flow run by those who wait for it."""

from __future__ import annotations

from ansible_collections.selfhost.prefect.plugins.module_utils._prefect import PrefectClient

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
POLL_SECONDS = 0.5
LOG_LINES = 20
# Log lines are sent every two seconds.
LOG_SECONDS = 3

HINTS = {
    "SCHEDULED": "no worker took it: see that a worker of this pool is online, that neither pool nor queue is paused, and that no concurrency limit is reached",
    "PENDING": "a worker took it, but its infrastructure did not start: see the worker's journal",
    "RUNNING": "it runs still: give wait_timeout more seconds, or look at the load of the worker's host",
}


def last_logs(client: PrefectClient, run_id: str) -> list[str]:
    """Give the last log lines of a run, oldest first."""
    body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_DESC", "limit": LOG_LINES}
    return [str(line["message"]).rstrip() for line in reversed(client.post("logs/filter", body))]
