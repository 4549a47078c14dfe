"""View: what goes on in the shop while the demo runs."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Connection, text

from saga.errors import counted


@dataclass(frozen=True)
class Counts:
    """What the log says so far.

    Attributes:
        refused: cards that were declined.
        undoing: sagas that are being rolled back.
        undone: those that have been.
        retries: attempts that were not the first.
        lost: attempts that ended with a killed worker.
    """

    completed: int = 0
    refused: int = 0
    undoing: int = 0
    undone: int = 0
    retries: int = 0
    lost: int = 0

    @property
    def finished(self) -> int:
        """Orders that have come to their end."""
        return self.completed + self.undone


COUNTS = text("""
    SELECT completed, refused, undoing, undone, retries, lost
    FROM (
        SELECT count(*) FILTER (WHERE status = 'completed') AS completed,
               count(*) FILTER (WHERE status = 'compensating') AS undoing,
               count(*) FILTER (WHERE status = 'compensated') AS undone
        FROM saga.instance
    ) AS sagas, (
        SELECT count(*) FILTER (WHERE kind = 'step_failed' AND data ->> 'outcome' = 'aborted') AS refused,
               count(*) FILTER (WHERE kind IN ('step_started', 'compensation_started') AND attempt > 1) AS retries,
               count(*) FILTER (WHERE kind = 'attempt_lost') AS lost
        FROM saga.log
    ) AS entries
""")


def count(connection: Connection) -> Counts:
    """Read the log."""
    return Counts(*connection.execute(COUNTS).one())


class View:
    """A bar and the counts, drawn anew as they change; on what is no terminal they are printed once, at the end."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("orders"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self._task = self._progress.add_task("orders", total=total)
        self._counts = Counts()
        self._killed = 0
        self._live = Live(self._draw(), console=console, auto_refresh=False)

    def update(self, counts: Counts) -> None:
        """Show these counts."""
        self._counts = counts
        self._progress.update(self._task, completed=counts.finished)
        self._live.update(self._draw(), refresh=True)

    def tell_kill(self, name: str) -> None:
        """Say that a worker was killed."""
        self._killed += 1
        self._console.print(
            f"[red]kill -9[/] {name} and its processes, after {counted(self._counts.finished, 'order')}"
        )

    def _draw(self) -> Group:
        counts = self._counts
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        for name, number, style in (
            ("completed", counts.completed, "green"),
            ("refused", counts.refused, "yellow"),
            ("undoing", counts.undoing, "yellow"),
            ("undone", counts.undone, "yellow"),
            ("tried again", counts.retries, "cyan"),
            ("killed", self._killed, "red"),
            ("lost with it", counts.lost, "red"),
        ):
            table.add_column(name, footer=f"[{style}]{number}[/]" if number else "0", justify="right", no_wrap=True)
        table.show_footer = True
        return Group(self._progress, table)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
