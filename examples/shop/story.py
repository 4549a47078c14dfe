"""Story: what became of one order, a line for each thing that happened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from saga import Handle
from saga.core.events import Entry

Line = tuple[str, str]
"""A mark, and what happened."""

OUTCOMES = {
    "retry": ("[yellow]↻[/]", "failed, and is tried again: {error}"),
    "aborted": ("[red]✘[/]", "is refused, so it did nothing: {error}"),
    "unknown": ("[red]✘[/]", "may have happened or not: {error}"),
    "failed": ("[red]✘[/]", "cannot be undone: {error}"),
}
HAPPENED = {
    "saga_started": ("●", "The order comes in."),
    "step_succeeded": ("[green]✔[/]", "{step} is done."),
    "compensation_succeeded": ("[cyan]↶[/]", "{step} is undone."),
    "attempt_lost": ("[red]☠[/]", "{step}: its worker was killed."),
    "attempt_timed_out": ("[red]✘[/]", "{step} took too long."),
}


def story(handle: Handle) -> Table:
    """The log of a saga, told."""
    entries = handle.log()
    table = Table(
        title=f"{handle.key} is {handle.status}", title_justify="left", title_style="bold", show_header=False, box=None
    )
    table.add_column(justify="right", style="dim", no_wrap=True)
    for since, (mark, words) in told(entries):
        table.add_row(f"{since * 1000:.0f} ms", mark, words)
    table.add_row("", "[green]●[/]", "Nothing is left of it: no money is taken, no CD is gone, no parcel is booked.")
    return table


def told(entries: Sequence[Entry]) -> Iterator[tuple[float, Line]]:
    """Each thing worth telling, with the seconds since the start."""
    start = entries[0].at
    undoing = False
    for entry in entries:
        since = (entry.at - start).total_seconds() if entry.at and start else 0.0
        if entry.kind == "compensation_started" and not undoing:
            undoing = True
            yield since, ("[cyan]↶[/]", "What was done is undone, in reverse:")
        if line := _line(entry):
            yield since, line


def _line(entry: Entry) -> Line | None:
    if entry.kind in ("step_failed", "compensation_failed"):
        mark, words = OUTCOMES[entry.data.get("outcome", "unknown")]
        words = f"{{step}} {words}"
    elif entry.kind in HAPPENED:
        mark, words = HAPPENED[entry.kind]
    else:
        return None
    return mark, words.format(step=entry.step, error=escape(str(entry.data.get("error", ""))))
