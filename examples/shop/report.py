"""Report: what came of the demo, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, text

from saga import Handle
from saga.errors import counted

from .audit import Check, checks, read
from .purchases import Order
from .story import story


@dataclass(frozen=True)
class Report:
    """What came of the demo.

    Attributes:
        attempts: how often a step or an undo was begun.
        retries: how many of these were not the first.
        lost_attempts: how many ended with the killed worker.
        dollars: what the completed orders are worth.
        elapsed: seconds from the first order to the last saga's end.
        checks: what the audit looked at.
        discrepancies: what it found wrong.
    """

    orders: int
    completed: int
    compensated: int
    attempts: int
    retries: int
    lost_attempts: int
    dollars: Decimal
    elapsed: float
    orders_per_second: float
    checks: list[Check]
    discrepancies: list[str]


COUNTS = text("""
    SELECT count(*) FILTER (WHERE kind IN ('step_started', 'compensation_started')),
           count(*) FILTER (WHERE kind IN ('step_started', 'compensation_started') AND attempt > 1),
           count(*) FILTER (WHERE kind = 'attempt_lost'),
           (SELECT count(*) FROM saga.instance WHERE status = 'completed'),
           (SELECT count(*) FROM saga.instance WHERE status = 'compensated'),
           (SELECT coalesce(sum(paid), 0) FROM shop.orders)
    FROM saga.log
""")


def report(connection: Connection, orders: Sequence[Order], elapsed: float) -> Report:
    """Count what the log tells, and audit the books."""
    checked = checks(read(connection, orders))
    attempts, retries, lost, completed, compensated, dollars = connection.execute(COUNTS).one()
    return Report(
        orders=len(orders),
        completed=completed,
        compensated=compensated,
        attempts=attempts,
        retries=retries,
        lost_attempts=lost,
        dollars=dollars,
        elapsed=round(elapsed, 2),
        orders_per_second=round((completed + compensated) / elapsed, 1),
        checks=checked,
        discrepancies=[problem for each in checked for problem in each.problems],
    )


def document(report: Report, undone: Handle | None) -> dict[str, Any]:
    """The report as JSON, with one saga that was undone."""
    figures = asdict(report) | {"dollars": str(report.dollars)}
    return figures | {"undone": undone and _saga_document(undone)}


def _saga_document(handle: Handle) -> dict[str, Any]:
    state = handle.replay()
    return {
        "id": str(handle.id),
        "key": handle.key,
        "status": state.status,
        "reason": state.reason,
        "steps": {name: {"action": step.status, "undo": step.undo and step.undo.status} for name, step in state.steps.items()},
        "log": [
            {"seq": entry.seq, "at": entry.at and entry.at.isoformat(), "kind": entry.kind, "step": entry.step, "attempt": entry.attempt,
             "worker": entry.worker, **entry.data}
            for entry in handle.log()
        ],
    }  # fmt: skip


def show(console: Console, report: Report, undone: Handle | None) -> None:
    """Print the report: the figures, the audit, and the story of one saga that was undone."""
    console.print()
    console.print(_summary(report))
    console.print()
    console.print(_audit(report))
    console.print(_verdict(report))
    if undone is not None:
        console.print()
        console.print(story(undone))
    console.print(NEXT)


NEXT = """
[dim]Next[/]
  saga demo --seed 7         the same orders, other bad luck
  saga demo --help           fewer orders, or all of it as JSON
  saga dev -A yourapp        the same servers for an app of your own"""


def _audit(report: Report) -> Table:
    table = Table("the audit", "looked at", "found", box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for check in report.checks:
        found = f"[red]{len(check.problems)} wrong[/]" if check.problems else "[green]✔[/]"
        table.add_row(check.claim, f"{check.examined:,}", found)
    return table


def _summary(report: Report) -> Table:
    table = Table(show_header=False, box=None)
    for label, value in (
        ("completed", f"{counted(report.completed, 'order')}, ${report.dollars:,}"),
        ("compensated", counted(report.compensated, "order")),
        ("attempts", f"{report.attempts:,}, of which {counted(report.retries, 'retry', 'retries')}"),
        ("lost with the worker", counted(report.lost_attempts, "attempt")),
        ("time", f"{report.elapsed:.1f} s, {report.orders_per_second:.0f} orders/s"),
    ):
        table.add_row(f"[dim]{label}[/]", value)
    return table


def _verdict(report: Report) -> str:
    if not report.discrepancies:
        return "[bold green]Audit passed:[/] nothing is missing, double or half done; the sums are right."
    shown = "".join(f"\n  {problem}" for problem in report.discrepancies[:20])
    return f"[bold red]Audit failed:[/] {len(report.discrepancies)} discrepancies{shown}"
