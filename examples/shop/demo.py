"""Demo: a thousand real orders on two workers, one of which is killed in their midst; then the audit.

One card in twenty is declined, one courier in ten fails to answer, and whatever the killed worker was doing is lost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from rich.console import Console
from sqlalchemy import Engine, create_engine

from saga import Handle, Orchestrator, Status
from saga.dev import Stack, Worker

from ..stage import stage
from . import faults, purchases, tables
from .app import place_order
from .purchases import Order
from .report import Report, document, report, show
from .view import Counts, View, count

APP = f"{__package__}.app"
CONCURRENCY = 4
"""Processes of each worker: the one that is left keeps two cores busy."""
IN_FLIGHT = 100
"""Orders under way at a time."""
PATIENCE = 60.0
"""Seconds without progress after which the demo gives up; the audit then says what is unfinished."""
LOOK_EVERY = 0.1
"""Seconds."""


def run(*, orders: int = 1000, seed: int = 1997, json_output: bool = False) -> int:
    """Play the demo on an embedded stack of its own.

    Args:
        orders: how many of the purchases, in the order of their dates.
        seed: decides whose card is declined and whose courier does not answer.
        json_output: print one JSON document and nothing else.

    Returns:
        the exit code: 0, or 1 when the audit finds something wrong, or 130 after Ctrl-C.
    """
    console = Console(quiet=json_output, highlight=False)
    settings = {
        faults.SEED: str(seed),
        # For ten seconds after a start of Postgres no worker is declared lost, because after a failover all of them
        # seem to be. Here nothing fails over, so there is nothing to wait for.
        "SAGA_FAILOVER_GRACE": "1",
    }
    try:
        console.print("Starting Postgres, a broker and two workers …")
        with stage(**settings) as stack, shop_front() as orchestrator, engine(stack) as database:
            outcome = play(stack, orchestrator, database, purchases.first(orders), console)
            undone = longest_undone(orchestrator)
            if json_output:
                print(json.dumps({"seed": seed, **document(outcome, undone)}, indent=2))
            else:
                show(console, outcome, undone)
            return 1 if outcome.discrepancies else 0
    except KeyboardInterrupt:
        console.print("\nInterrupted; everything is stopped.")
        return 130


@contextmanager
def shop_front() -> Iterator[Orchestrator]:
    """What places the orders: a Celery app of its own, as another service would have; it needs only the definition."""
    with Celery("shop-front") as app:
        app.conf.saga_realm = "shop"  # by default only apps of one name run each other's sagas
        orchestrator = Orchestrator(app, sagas=[place_order])
        try:
            yield orchestrator
        finally:
            orchestrator.close()


@contextmanager
def engine(stack: Stack) -> Iterator[Engine]:
    """The demo's own connections to the database."""
    database = create_engine(stack.database_url)
    try:
        yield database
    finally:
        database.dispose()


def play(
    stack: Stack, orchestrator: Orchestrator, database: Engine, orders: Sequence[Order], console: Console
) -> Report:
    """Place the orders, kill a worker on the way, wait for the end, and look at the books."""
    tables.create(database, cds=sum(order.cds for order in orders))
    workers = [stack.worker(APP, name=f"worker-{number}", concurrency=CONCURRENCY) for number in (1, 2)]
    for worker in workers:
        worker.wait_ready()
    began = time.monotonic()
    with View(console, len(orders)) as view:
        for counts in placing(orchestrator, database, orders):
            view.update(counts)
            if workers[0].is_alive and 2 * counts.finished >= len(orders):
                kill(workers[0])
                view.tell_kill("worker-1")
    elapsed = time.monotonic() - began
    with database.connect() as connection:
        return report(connection, orders, elapsed)


def kill(worker: Worker) -> None:
    """SIGKILL all its processes at once, whatever they are doing."""
    for process in worker.family():
        process.kill()
    worker.kill()


def placing(orchestrator: Orchestrator, database: Engine, orders: Sequence[Order]) -> Iterator[Counts]:
    """Place the orders, some at a time, until all are finished; yields how it stands."""
    placed = 0
    counts = Counts()
    changed = time.monotonic()
    while counts.finished < len(orders) and time.monotonic() < changed + PATIENCE:
        batch = orders[placed : counts.finished + IN_FLIGHT]
        orchestrator.start_many(place_order, batch, keys=[order.key for order in batch])
        placed += len(batch)
        time.sleep(LOOK_EVERY)
        before = counts
        with database.connect() as connection:
            counts = count(connection)
        if counts.finished > before.finished:
            changed = time.monotonic()
        yield counts


def longest_undone(orchestrator: Orchestrator) -> Handle | None:
    """A compensated saga with something to tell."""
    found = orchestrator.find(saga=place_order, status=Status.COMPENSATED, limit=20)
    return max(found, key=lambda handle: len(handle.log()), default=None)
