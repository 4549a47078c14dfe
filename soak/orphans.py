"""Orphans: how long one worker takes to go on with the lanes that many dead workers have left behind.

An orphan is a lane that was claimed, by a process that has died since. Its message is gone: the dead had received it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, text

from saga.dev import Stack

from .claimer import Claimant
from .noop_app import QUEUE, orchestrator, orphan

T = TypeVar("T")

CLAIMERS = 8
"""As many as four workers with two pool processes each."""
CHUNK = 1000
"""Sagas that are started at a time."""
PATIENCE = 60.0
"""Seconds in which nothing happens, after which the rest is given up."""
LOOK_EVERY = 0.5
"""Seconds."""
LIMIT_TO_CLAIM = 300.0
"""Seconds."""
TARGET = 20.0
GOAL = 12.0
"""Seconds from the worker's start to the last of the next attempts."""

NOW = text("SELECT clock_timestamp()")
AGE = text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8")
OWNED = text("SELECT count(*), count(DISTINCT worker) FROM saga.work WHERE queue = :queue AND worker IS NOT NULL")
RESUMED = text("""
    SELECT count(*), max(at) FROM saga.log
    WHERE kind = 'step_started' AND attempt = 2 AND saga_id IN (SELECT id FROM saga.instance WHERE name = 'orphan')
""")
LEFT = text("SELECT count(*) FROM saga.work WHERE queue = :queue")
COMPLETED = text("SELECT count(*) FROM saga.instance WHERE name = 'orphan' AND status = 'completed'")


@dataclass(frozen=True)
class Orphans:
    """How it went.

    Attributes:
        count: the lanes that were left behind.
        owners: the dead workers that had claimed them.
        resumed: the lanes of which a next attempt started.
        completed: the sagas that were completed at last.
        from_start: seconds from the start of the worker's process to the last of the next attempts; `None` if there
            was none.
        from_ready: the same from the moment when the worker was ready.
        load: processes that wanted to run at a time, over the last minute of it.
    """

    count: int
    owners: int
    resumed: int
    completed: int
    from_start: float | None
    from_ready: float | None
    load: float

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        return [
            f"orphans: {found} of {self.count} lanes {what}"
            for found, what in ((self.resumed, "were taken up again"), (self.completed, "came to their end"))
            if found != self.count
        ]


def leave_behind_and_resume(
    stack: Stack, database: Engine, count: int, grace: float, root: Path, show: Callable[[int], None]
) -> Orphans:
    """Make orphans, start one worker, and watch it.

    Args:
        grace: `saga_failover_grace`, in seconds: nobody is declared lost so soon after a start of Postgres.
        root: the folder from which `soak` is imported.
        show: takes how many lanes are left, at each look.
    """
    for worker in stack.workers:
        worker.kill()
    start(stack, count)
    owned, owners = claim_and_die(stack, database, root)
    _wait(lambda: _ask(database, lambda connection: connection.scalar(AGE)) > grace)
    began = _now(database)
    worker = stack.worker("soak.noop_app", cwd=root, name="heir", concurrency=2, queues=[QUEUE])
    worker.wait_ready()
    ready = _now(database)
    watch(database, show)
    resumed, last = _ask(database, lambda connection: connection.execute(RESUMED).tuples().one())
    return Orphans(
        count=owned,
        owners=owners,
        resumed=resumed,
        completed=_ask(database, lambda connection: connection.scalar(COMPLETED)) or 0,
        from_start=(last - began).total_seconds() if last else None,
        from_ready=(last - ready).total_seconds() if last else None,
        load=os.getloadavg()[0],
    )


def start(stack: Stack, count: int) -> None:
    """Start the sagas, and have their messages received by nobody who is still alive."""
    for begin in range(0, count, CHUNK):
        orchestrator.start_many(orphan, [{}] * min(CHUNK, count - begin))
        orchestrator.publisher.flush()
    orchestrator.close()
    stack.broker.flush()


def claim_and_die(stack: Stack, database: Engine, root: Path) -> tuple[int, int]:
    """Have every lane claimed, and kill those who did; returns how many lanes have how many dead owners."""
    claimers = [
        Claimant(part, CLAIMERS, log=stack.folder / "workers" / f"claimer-{part}.log", cwd=root)
        for part in range(CLAIMERS)
    ]
    try:
        for claimer in claimers:
            claimer.spawn()
        for claimer in claimers:
            claimer.wait_ready(LIMIT_TO_CLAIM)
    finally:
        for claimer in claimers:
            claimer.kill()
    owned, owners = _ask(database, lambda connection: connection.execute(OWNED, {"queue": QUEUE}).tuples().one())
    return owned, owners


def watch(database: Engine, show: Callable[[int], None]) -> None:
    """Wait until nothing is left to do, or nothing happens any more. It costs the worker next to nothing."""
    before = -1
    changed = time.monotonic()
    while time.monotonic() < changed + PATIENCE:
        left = _ask(database, lambda connection: connection.scalar(LEFT, {"queue": QUEUE})) or 0
        show(left)
        if not left:
            return
        if left != before:
            before, changed = left, time.monotonic()
        time.sleep(LOOK_EVERY)


def _now(database: Engine) -> datetime:
    now: datetime = _ask(database, lambda connection: connection.execute(NOW).scalar_one())
    return now


def _ask(database: Engine, question: Callable[[Connection], T]) -> T:
    with database.connect() as connection:
        return question(connection)


def _wait(question: Callable[[], bool]) -> None:
    """Wait until it is so, for a limited time."""
    deadline = time.monotonic() + PATIENCE
    while not question() and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
