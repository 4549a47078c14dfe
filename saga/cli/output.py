"""Output: JSON for programs, tables for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_STYLES = {
    "running": "cyan",
    "paused": "yellow",
    "compensating": "magenta",
    "completed": "green",
    "compensated": "blue",
    "stuck": "bold red",
    "abandoned": "red",
    "succeeded": "green",
    "waiting": "yellow",
    "undecided": "yellow",
    "aborted": "red",
    "unknown": "red",
    "failed": "bold red",
    "bad": "bold red",
    "warning": "yellow",
}
_WIDE = 1000


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def console() -> Console:
    """Standard output; lines are broken on a terminal only."""
    found = Console(markup=False, highlight=False, emoji=False)
    return found if found.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_WIDE)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows below their headings; the first column is never broken."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console().print(table)


def _cell(value: Any) -> Text:
    text = plain(value)
    return Text(text, style=_STYLES.get(text, ""))


def plain(value: Any) -> str:
    """A value as text that cannot drive a terminal: what others wrote into the log is shown, never obeyed."""
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else " " for letter in text)


def shortened(value: Any, limit: int = 60) -> str:
    """A JSON value in one line."""
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def moment(value: datetime | None) -> str:
    """A point in time, in this machine's time zone."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def span(seconds: float) -> str:
    """A number of seconds in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def age(since: datetime) -> str:
    """How long ago that was."""
    return span((datetime.now(UTC) - since).total_seconds())


def due(at: datetime) -> str:
    """When that is, seen from now."""
    seconds = (at - datetime.now(UTC)).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else "now"
