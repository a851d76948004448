"""Prints, as JSON, the seconds from creation to Running of a number of flow runs. Arguments: the worker's name, how many."""

import json
import os
import sys
import time
from pathlib import Path

worker, runs = sys.argv[1], int(sys.argv[2])
for line in Path(f"/etc/prefect/worker/{worker}.env").read_text().splitlines():
    name, separator, value = line.partition("=")
    if separator and not line.startswith("#"):
        os.environ[name] = value.strip('"')

# Not the worker's own, which its user has to be able to write to.
os.environ["PREFECT_HOME"] = "/tmp/bench"
flow_file = Path("/var/lib/prefect-worker/bench_flow.py")
flow_file.write_text("from prefect import flow\n\n@flow\ndef bench():\n    pass\n")
flow_file.chmod(0o644)

# Only now: Prefect reads the environment when it is imported.
from prefect import flow
from prefect.client.orchestration import get_client

bench = flow.from_source(source=str(flow_file.parent), entrypoint=f"{flow_file.name}:bench")
deployment = bench.deploy(name="bench", work_pool_name="default", print_next_steps=False)
seconds = []
with get_client(sync_client=True) as client:
    for _ in range(runs):
        created = client.create_flow_run_from_deployment(deployment)
        while not (current := client.read_flow_run(created.id)).state.is_final():
            time.sleep(0.25)
        assert current.state.is_completed(), current.state
        seconds.append(round((current.start_time - current.created).total_seconds(), 2))
print(json.dumps(seconds))
