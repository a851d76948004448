# Copyright: selfhost.prefect contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`prefect worker start` as a service: a stop lets the flow runs finish, and none stays in Running for ever.

The stock command kills its flow runs on SIGTERM and leaves them in Running (PrefectHQ/prefect#16746, #22528),
does the same once the API has been away for about a minute, and knows nothing of them after a crash. Here

- SIGTERM ends the polling. The flow runs get the drain timeout to finish; then SIGTERM, upon which Prefect's engine
  reports Crashed, and 30 s later SIGKILL, upon which the worker does. A second SIGTERM cuts the wait short.
- An outage of the API ends neither the worker nor its flow runs.
- A flow run that ended unreported, with the worker, the host or the API gone, is reported as Crashed as soon as the worker polls again.
- A flow run starts without the process that would, where that is switched on, first install its dependencies: Python and Prefect
  start once for it, and not twice, which is about a second.
- systemd learns that the worker is ready when it has polled for the first time.

Usage: prefect_worker.py --drain-timeout SECONDS worker start ... (what follows is `prefect`'s)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect.cli import app
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed
from prefect.utilities import processutils
from prefect.workers import base
from prefect.workers.process import ProcessWorker

TERMINATION_SECONDS = 30
# The label by which a flow run tells the worker that started it last.
WORKER = "prefect.worker.name"
AUTO_INSTALL = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"

critical_service_loop = base.critical_service_loop
get_and_submit_flow_runs = base.BaseWorker.get_and_submit_flow_runs
run_process_flow_run = ProcessWorker.run

# Flow runs must not speak to systemd in the worker's name.
notify_socket = os.environ.pop("NOTIFY_SOCKET", "")
drain_timeout = 0.0
loops: list[anyio.CancelScope] = []
running: set[UUID] = set()
# A file for each flow run that was begun here and is not known to be reported.
unreported = Path(os.environ["PREFECT_HOME"], "unreported-flow-runs")


def notify(message: str) -> None:
    if notify_socket:
        address = "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(message.encode(), address)


async def loop_until_drain(*args: Any, **kwargs: Any) -> None:
    """One of the worker's loops. When all have ended, the worker waits for its flow runs, and ends."""
    with anyio.CancelScope() as scope:
        loops.append(scope)
        while True:
            try:
                return await critical_service_loop(*args, **kwargs)
            except (RuntimeError, httpx.HTTPStatusError) as error:
                print(f"{error} Trying again in 10 s.", flush=True)
                await anyio.sleep(10)


async def poll(worker: base.BaseWorker[Any, Any, Any]) -> Any:
    for name in os.listdir(unreported):
        if UUID(name) not in running:
            await report_lost_run(worker, UUID(name))
            (unreported / name).unlink()
    flow_runs = await get_and_submit_flow_runs(worker)
    with contextlib.suppress(RuntimeError):
        # Raises until the worker has seen the API.
        notify(f"READY=1\nSTATUS=Polls work pool {worker.work_pool.name}")
    return flow_runs


async def report_lost_run(worker: base.BaseWorker[Any, Any, Any], flow_run_id: UUID) -> None:
    with contextlib.suppress(ObjectNotFound):
        flow_run = await worker.client.read_flow_run(flow_run_id)
        if flow_run.state_type not in (StateType.PENDING, StateType.RUNNING):
            return
        # Tried again since, and running elsewhere. Flow runs that a flow called have no worker of their own.
        if flow_run.labels.get(WORKER, worker.name) != worker.name:
            return
        await worker.client.set_flow_run_state(flow_run_id, Crashed(message="The worker, its host or the API went away while this flow run was running."))
        # Flows that it called in its own process.
        parent = {"parent_flow_run_id": {"any_": [flow_run_id]}, "deployment_id": {"is_null_": True}}
        for child in await worker.client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(parent)):
            await report_lost_run(worker, child.id)


async def run_and_record(worker: ProcessWorker, flow_run: Any, configuration: Any, *args: Any, **kwargs: Any) -> Any:
    if not getattr(configuration, "_command_configured", True) and AUTO_INSTALL not in configuration.env:
        configuration._command_configured = True
    record = unreported / str(flow_run.id)
    record.touch()
    running.add(flow_run.id)
    try:
        result = await run_process_flow_run(worker, flow_run, configuration, *args, **kwargs)
    finally:
        running.discard(flow_run.id)
    if result.status_code == 0:
        record.unlink()
    return result


def drain() -> None:
    if all(scope.cancel_called for scope in loops):
        terminate()
        return
    print(f"Draining: {len(running)} flow runs may take up to {drain_timeout:g} s to finish.", flush=True)
    notify(f"STOPPING=1\nSTATUS=Draining {len(running)} flow runs")
    for scope in loops:
        scope.cancel()
    asyncio.get_running_loop().call_later(drain_timeout, terminate)


def terminate() -> None:
    if not running:
        # Of other types than process: their flow runs go on without the worker.
        os.kill(os.getpid(), signal.SIGINT)
        return
    signal_flow_runs(signal.SIGTERM)
    asyncio.get_running_loop().call_later(TERMINATION_SECONDS, signal_flow_runs, signal.SIGKILL)


def signal_flow_runs(number: signal.Signals) -> None:
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == pid:
                    os.killpg(pid, number)
                else:
                    os.kill(pid, number)


def handle_sigterm(*_: Any, **__: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drain)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--drain-timeout", type=float, required=True)
    options, sys.argv[1:] = parser.parse_known_args()
    drain_timeout = options.drain_timeout
    unreported.mkdir(parents=True, exist_ok=True)
    base.critical_service_loop = loop_until_drain
    base.BaseWorker.get_and_submit_flow_runs = poll
    ProcessWorker.run = run_and_record
    processutils.setup_signal_handlers_worker = handle_sigterm
    app()
