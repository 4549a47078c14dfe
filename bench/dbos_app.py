"""The workflows of DBOS, in a process of their own: `python -m bench.dbos_app URL SCHEMA [THREADS]`.

Reads a line of JSON from its standard input for each measurement, `{"workflow": "four_steps", "runs": 500}`, and
answers with the seconds from the first start to the last end. It ends with its input.

Workflows are started by `DBOS.start_workflow` in a loop. On two processors that was faster than a queue, than
`start_workflow_async`, and than two processes with half of the runs each.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS, DBOSConfig

from .app import NAP, TEXT


@DBOS.step()
def noop() -> None:
    """Nothing."""


@DBOS.step()
async def noop_async() -> None:
    """Nothing."""


@DBOS.step()
def nap() -> None:
    time.sleep(NAP)


@DBOS.step()
def text() -> str:
    return TEXT


@DBOS.workflow()
def four_steps() -> None:
    for _ in range(4):
        noop()


@DBOS.workflow()
def twenty_steps() -> None:
    for _ in range(20):
        noop()


@DBOS.workflow()
def four_naps() -> None:
    for _ in range(4):
        nap()


@DBOS.workflow()
async def ten_at_once() -> None:
    await asyncio.gather(*(noop_async() for _ in range(10)))


@DBOS.workflow()
def one_text() -> None:
    # Not returned: DBOS would store it a second time, as the workflow's own result.
    text()


def run(workflow: Callable[[], Any], runs: int) -> None:
    """Start all, then wait for all."""
    handles = [DBOS.start_workflow(workflow) for _ in range(runs)]
    for handle in handles:
        handle.get_result()


def run_async(workflow: Callable[[], Any], runs: int) -> None:
    """The same for a workflow that is a coroutine."""

    async def main() -> None:
        handles = [await DBOS.start_workflow_async(workflow) for _ in range(runs)]
        await asyncio.gather(*(handle.get_result() for handle in handles))

    asyncio.run(main())


def main(url: str, schema: str, threads: str | None = None) -> None:
    """Answer until the input ends."""
    config = DBOSConfig(name="bench", system_database_url=url, dbos_system_schema=schema, log_level="ERROR")
    if threads:
        config["max_executor_threads"] = int(threads)
    DBOS(config=config)
    DBOS.launch()
    workflows = {each.__name__: each for each in (four_steps, twenty_steps, four_naps, ten_at_once, one_text)}
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        workflow = workflows[request["workflow"]]
        began = time.perf_counter()
        (run_async if asyncio.iscoroutinefunction(workflow) else run)(workflow, request["runs"])
        print(json.dumps(time.perf_counter() - began), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main(*sys.argv[1:])
