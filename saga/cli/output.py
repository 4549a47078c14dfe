"""Output: JSON for programs, tables for people."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from saga.errors import cut

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
_GAP = 2
_NARROWEST = 6
_RECORDS = 1000
"""More rows than a page of sagas has are printed as they come, without a look at the terminal's width."""
_MANY = 200
"""Rows of a table that is printed at once."""


def print_json(value: Any) -> None:
    """Print a value as JSON, and nothing else; what could drive a terminal is escaped."""
    click.echo(_UNPRINTABLE.sub(_escaped, json.dumps(value, indent=2, ensure_ascii=False, default=str)))


_UNPRINTABLE = re.compile(r"[^\n -~]")


def _escaped(match: re.Match[str]) -> str:
    """A letter, or JSON's escape for what is none: it stands in a text, since JSON's own signs are all ASCII."""
    letter = match[0]
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]


def say(text: str, *, err: bool = False) -> None:
    """Print lines of text, of which a part may come from others."""
    click.echo(inert(text), err=err)


def inert(text: str) -> str:
    """Lines of text that cannot drive a terminal."""
    return "\n".join(plain(line) for line in text.split("\n"))


def console() -> Console:
    """Standard output; lines are broken on a terminal only."""
    found = Console(markup=False, highlight=False, emoji=False)
    return found if found.is_terminal else Console(markup=False, highlight=False, emoji=False, width=_WIDE)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows below their headings; the first column is never broken."""
    if len(rows) > _MANY:
        _print_many(columns, rows)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console().print(table)


def _print_many(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """The same for rows without end: rich takes a millisecond for each. Lines are left to the terminal to break."""
    cells = [[plain(value) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    lines = ["  ".join(_padded(text, width) for text, width in zip(row, widths, strict=True)) for row in cells]
    head = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True))
    click.echo("\n".join(line.rstrip() for line in (click.style(head.rstrip(), bold=True), *lines)))


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _padded(text: str, width: int) -> str:
    blank = " " * (width - _width(text))
    style = _STYLES.get(text)
    return (click.style(text, fg=style.split()[-1]) if style else text) + blank


def print_records(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows below their headings, one line for each; where that is too wide, the last column stands below the others.

    Then those are cut, the least important one first: they are given in the order of their importance.
    """
    if len(rows) > _RECORDS:
        _print_many(columns, rows)
        return
    out = console()
    cells = [[plain(value) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    whole = sum(widths) + _GAP * (len(widths) - 1) <= out.width
    shown = len(columns) if whole else len(columns) - 1
    widths = _cut(widths[:shown], out.width)
    _print_row(out, [Text(name, style="bold") for name in columns], widths)
    for row in cells:
        _print_row(out, [Text(cell, style=_STYLES.get(cell, "")) for cell in row], widths)
        if not whole and row[-1]:
            out.print(Padding(Text(row[-1], style="dim", overflow="fold"), (0, 0, 0, _GAP), expand=False))


def print_advice(columns: Sequence[str], rows: Sequence[tuple[str, str, str]]) -> None:
    """Print rows of a word and two texts: on a terminal the second text below the first, and no word of them is broken."""
    out = console()
    if not out.is_terminal:
        print_table(columns, rows)
        return
    indent = max(len(word) for word, _, _ in rows) + _GAP if rows else 0
    for word, what, remedy in rows:
        _print_hanging(out, Text(word.ljust(indent), style=_STYLES.get(word, "")), what)
        _print_hanging(out, Text(" " * indent), f"→ {remedy}")


def _print_hanging(out: Console, head: Text, text: str) -> None:
    """Print a text beside its head, in lines that a word is too long for rather than broken."""
    room = max(_NARROWEST, out.width - len(head))
    for line in textwrap.wrap(plain(text), room, break_long_words=False, break_on_hyphens=False):
        out.print(head + Text(line), no_wrap=True, overflow="ignore", crop=False)
        head = Text(" " * len(head))


def _cut(widths: list[int], room: int) -> list[int]:
    """Widths that fit, as far as that goes."""
    for index in reversed(range(1, len(widths))):
        excess = sum(widths) + _GAP * (len(widths) - 1) - room
        widths[index] -= max(0, min(excess, widths[index] - _NARROWEST))
    return widths


def _print_row(out: Console, cells: Sequence[Text], widths: Sequence[int]) -> None:
    line = Text()
    for cell, width in zip(cells, widths, strict=False):
        cell.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(cell).append(" " * _GAP)
    line.rstrip()
    out.print(line, no_wrap=True, overflow="crop")


def _cell(value: Any) -> Text:
    text = plain(value)
    return Text(text, style=_STYLES.get(text, ""))


def plain(value: Any) -> str:
    """A value as text that cannot drive a terminal: what others wrote into the log is shown, never obeyed."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def shortened(value: Any, limit: int = 60) -> str:
    """A JSON value in one line."""
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    return cut(text, limit)


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
