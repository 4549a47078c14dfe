"""Play: a whole run, in order: chaos, drain, audit, orphans, report."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, create_engine

from examples.shop import faults, tables
from examples.shop.demo import shop_front
from examples.stage import environment, stage
from saga.dev import Stack, Worker

from . import trace
from .audit import audit
from .background import Background
from .chaos import Chaos
from .drain import drain
from .flow import Flow
from .leftovers import MARK, leftovers
from .memory import Sample, judge, memory, sample
from .orphans import leave_behind_and_resume
from .plan import plan
from .records import read
from .recovery import recovery
from .report import Report, document, show

ROOT = Path(__file__).parents[1]
WORKERS = 4
CONCURRENCY = 2
CDS = 100_000_000
"""On the shelf: more than any run sells."""
LOOK_EVERY = 0.5
"""Seconds."""
STOPPING = 150.0
"""Seconds within which the chaos ends its last strike, which may be a restart of Postgres, or the flow its last start."""

REST = 1800.0
"""Seconds that everything but the chaos may take: far more than it should, so that only what hangs is ended by it."""
STATEMENT = "120s"
"""The longest that a statement of ours may take."""


def run(*, seconds: float, seed: int, orphans: int, keep: bool, json_output: bool) -> int:
    """Play on an embedded stack of its own, which is kept if something is wrong.

    Args:
        seconds: how long the chaos lasts.
        seed: decides what strikes when, and which cards and couriers fail.
        orphans: how many lanes to leave behind at the end; 0 leaves that out.
        keep: keep the database and the logs also if nothing is wrong.
        json_output: print one JSON document and nothing else.

    Returns:
        the exit code: 0, or 1 when something is wrong, or 130 after Ctrl-C.
    """
    console = Console(quiet=json_output, highlight=False)
    mark = uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"soak-{seed}-{mark[:8]}"
    try:
        with time_limit(seconds + REST), environment(**{MARK: mark}), bar(console) as progress:
            report = play(folder, seconds, seed, orphans, progress)
        report = conclude(report, leftovers(mark, folder), folder, keep)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        console.print("\nInterrupted; everything is stopped.")
        return 130
    except Exception:
        print(f"The run with seed {seed} broke off; its database and logs are kept in {folder}", file=sys.stderr)
        raise
    if json_output:
        print(json.dumps(document(report), indent=2, default=str))
    else:
        show(console, report)
    return 1 if report.discrepancies else 0


def conclude(report: Report, left: list[str], folder: Path, keep: bool) -> Report:
    """The report once everything is stopped. The folder is kept if something is wrong, or if it is wanted."""
    discrepancies = [*report.discrepancies, *left]
    if discrepancies or keep:
        return replace(report, discrepancies=discrepancies, folder=folder)
    shutil.rmtree(folder, ignore_errors=True)
    return report


def play(folder: Path, seconds: float, seed: int, orphans: int, progress: Progress) -> Report:
    """Have it all happen, and look at what came of it."""
    file = folder / "trace.txt"
    with (
        stage(folder, **{faults.SEED: str(seed), trace.FILE: str(file)}) as stack,
        shop_front() as orchestrator,
        connections(stack) as database,
    ):
        log_to(folder / "soak.log")
        tables.create(database, CDS)
        workers = start_workers(stack)
        grace = orchestrator.settings.failover_grace
        chaos = Chaos(stack, orchestrator, database, workers, workers[0], grace)
        flow = Flow(orchestrator, database)
        samples, problems = storm(chaos, flow, workers[0], seed, seconds, progress)

        load, began = os.getloadavg()[0], time.monotonic()
        problems += drain(database, chaos.keep_up, telling(progress, "draining", "sagas left"))
        problems += chaos.problems
        drained = time.monotonic() - began

        telling(progress, "auditing", "sagas")(len(flow.placed))
        ran = trace.read(file)
        with database.connect() as connection:
            records = read(connection)
        ended = trace.workers_of(chaos.ended, ran, records.started)
        recovered = recovery(records.losses, chaos.kills, graces=chaos.graces, hindrances=chaos.hindrances, ended=ended)
        grown = memory(samples, seconds)
        problems += audit(database, orchestrator, flow.placed, [each.attempt for each in ran], records.started)
        problems += [*recovered.problems, *judge(grown, seconds)]

        heirs = None
        if orphans:
            tell = telling(progress, "orphans", "lanes left")
            heirs = leave_behind_and_resume(stack, database, orphans, grace, ROOT, tell)
            problems += heirs.problems
    return Report(
        seed=seed,
        seconds=seconds,
        drained=drained,
        sagas=records.statuses,
        attempts=len(records.started),
        faults=dict(chaos.done),
        load=load,
        ended=len(chaos.ended),
        recovery=recovered,
        memory=grown,
        orphans=heirs,
        discrepancies=problems,
    )


def log_to(file: Path) -> None:
    """Keep what the strikes hit, and what pgsaga says in this process."""
    logging.basicConfig(filename=file, format="%(asctime)s %(message)s")
    logging.getLogger("soak").setLevel(logging.INFO)


def start_workers(stack: Stack) -> list[Worker]:
    """All the workers, ready."""
    workers = [
        stack.worker("soak.app", name=f"worker-{number}", concurrency=CONCURRENCY, cwd=ROOT)
        for number in range(1, WORKERS + 1)
    ]
    for worker in workers:
        worker.wait_ready()
    return workers


def storm(
    chaos: Chaos, flow: Flow, spared: Worker, seed: int, seconds: float, progress: Progress
) -> tuple[list[Sample], list[str]]:
    """Chaos and orders for so many seconds; returns the memory of the spared worker, and what went wrong."""
    samples: list[Sample] = []
    striking = Background("the chaos", partial(chaos.run, plan(seed, seconds)))
    ordering = Background("the flow of orders", flow.run)
    task = progress.add_task("chaos", total=seconds, what="")
    began = time.monotonic()
    try:
        striking.start()
        ordering.start()
        while (elapsed := time.monotonic() - began) < seconds and not (striking.is_broken or ordering.is_broken):
            samples += filter(None, [sample(spared, elapsed)])
            what = f"{len(flow.placed):,} orders, {sum(chaos.done.values()):,} faults"
            progress.update(task, completed=elapsed, what=what)
            time.sleep(LOOK_EVERY)
        progress.update(task, completed=seconds)
    finally:
        # Before the servers stop: a strike in its midst might start one again.
        problems = [*striking.stop(STOPPING), *ordering.stop(STOPPING)]
    return samples, problems


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a TimeoutError in the main thread, wherever it hangs, if this takes longer."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"the soak was not over after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def connections(stack: Stack) -> Iterator[Engine]:
    """Our own connections to the database: each is tried before it is used, since the server restarts."""
    url = stack.database_url
    database = create_engine(url, pool_pre_ping=True, connect_args={"options": f"-c statement_timeout={STATEMENT}"})
    try:
        yield database
    finally:
        database.dispose()


def bar(console: Console) -> Progress:
    """What is shown meanwhile."""
    columns = (TextColumn("{task.description}"), BarColumn(40), TimeElapsedColumn(), TextColumn("{task.fields[what]}"))
    return Progress(*columns, console=console, transient=True)


def telling(progress: Progress, name: str, unit: str) -> Callable[[int], None]:
    """Something that shows a number as it changes."""
    task = progress.add_task(name, total=None, what="")

    def tell(number: int) -> None:
        progress.update(task, what=f"{number:,} {unit}")

    return tell
