"""Report: what came of a run, and how it is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import orphans as orphan
from .memory import Memory
from .orphans import Orphans
from .plan import Fault
from .recovery import TARGET_MAX, TARGET_P50, Figures, Recovery

SHOWN = 20
"""Discrepancies that are shown; the JSON document has them all."""


@dataclass(frozen=True)
class Report:
    """What came of a run.

    Attributes:
        seed: the same seed makes the same plan.
        seconds: how long the chaos lasted.
        drained: seconds from its end until nothing was left to do.
        sagas: how many there are of each status.
        attempts: how often a step or an undo was begun.
        faults: how often each was injected.
        load: processes that wanted to run at a time, in the last minute of the chaos. Where they are many more than the
            processors, the figures in seconds are as much those of the machine.
        ended: how many workers ended by themselves after a restart of the broker, and were started again.
        orphans: `None` where none were asked for.
        discrepancies: all that is wrong, in words.
        folder: where the database and the logs are kept, if they are.
    """

    seed: int
    seconds: float
    drained: float
    sagas: Mapping[str, int]
    attempts: int
    faults: Mapping[Fault, int]
    load: float
    ended: int
    recovery: Recovery
    memory: Memory
    orphans: Orphans | None
    discrepancies: list[str]
    folder: Path | None = None


def document(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    return asdict(report) | {
        "faults": {fault.name.lower(): report.faults.get(fault, 0) for fault in Fault},
        "folder": report.folder and str(report.folder),
    }


def show(console: Console, report: Report) -> None:
    """Print the report."""
    table = Table(show_header=False, box=None)
    for label, value in _rows(report):
        table.add_row(f"[dim]{label}[/]", value)
    console.print(table)
    console.print(_verdict(report))


def _rows(report: Report) -> list[tuple[str, str]]:
    recovery = report.recovery
    return [
        ("seed", str(report.seed)),
        ("sagas", ", ".join(f"{count:,} {status}" for status, count in sorted(report.sagas.items()))),
        ("attempts", f"{report.attempts:,}"),
        ("load of the machine", f"{report.load:.1f} on {os.cpu_count()} processors"),
        *((fault, f"{report.faults.get(fault, 0):,}") for fault in Fault if fault is not Fault.RESUME),
        ("workers that ended by themselves", f"{report.ended:,}"),
        (
            "kill to next attempt",
            f"{_figures(recovery.prompt)} (target: p50 {TARGET_P50:g} s, max {TARGET_MAX:g} s)",
        ),
        ("… in a failover grace", _figures(recovery.in_grace)),
        ("… with the broker or a worker away", _figures(recovery.hindered)),
        ("… after a wait of its retry", _figures(recovery.after_wait)),
        ("drained after", f"{report.drained:.1f} s"),
        ("memory of a pool process", _memory(report.memory)),
        *([("orphans", _orphans(report.orphans))] if report.orphans else []),
    ]


def _figures(figures: Figures) -> str:
    if figures.p50 is None or figures.p99 is None or figures.max is None:
        return "none"
    return f"p50 {figures.p50:.2f} s, p99 {figures.p99:.2f} s, max {figures.max:.2f} s, of {figures.count:,}"


def _memory(memory: Memory) -> str:
    if memory.first_mb is None or memory.last_mb is None:
        return "not seen"
    return f"{memory.first_mb:.0f} MB in the first third, {memory.last_mb:.0f} MB in the last"


def _orphans(found: Orphans) -> str:
    if found.from_start is None or found.from_ready is None:
        return f"none of {found.count:,} taken up"
    return (
        f"{found.resumed:,} taken up {found.from_start:.1f} s after the worker's start, {found.from_ready:.1f} s after "
        f"it was ready, at a load of {found.load:.1f} (target: {orphan.TARGET:g} s, goal: {orphan.GOAL:g} s)"
    )


def _verdict(report: Report) -> str:
    kept = f"\nThe database and the logs are kept in {report.folder}" if report.folder else ""
    if not report.discrepancies:
        return f"[bold green]Soak passed:[/] nothing is missing, double, left over or half done.{kept}"
    shown = "".join(f"\n  {escape(problem)}" for problem in report.discrepancies[:SHOWN])
    more = len(report.discrepancies) - SHOWN
    rest = f"\n  and {more} more" if more > 0 else ""
    wrong = f"{len(report.discrepancies)} discrepancies with seed {report.seed}"
    return f"[bold red]Soak failed:[/] {wrong}{shown}{rest}{kept}"
