"""``log`` and ``replay``: what happened to one saga, and what that amounted to at each moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from saga.cli.context import Context, pass_context
from saga.cli.naming import find_saga
from saga.cli.output import json_option, moment, print_json, print_records, shortened
from saga.cli.shapes import entry_json, state_json
from saga.core.events import AttemptEvent, Entry
from saga.core.state import State, StepState
from saga.engine.draft import Instance


@click.command("log")
@click.argument("id")
@json_option
@pass_context
def log_command(context: Context, id: str, as_json: bool) -> None:
    """Print a saga's log, entry by entry."""
    entries = find_saga(context.orchestrator, id).log()
    if as_json:
        print_json([entry_json(entry) for entry in entries])
        return
    rows = [
        (entry.seq, moment(entry.at), entry.kind, entry.step, entry.attempt, entry.worker, _said(entry))
        for entry in entries
    ]
    print_records(("seq", "at", "what", "step", "attempt", "worker", "data"), rows)


def _said(entry: Entry) -> str:
    data = {name: value for name, value in entry.data.items() if name != "traceback"}
    return shortened(data, 120) if data else ""


@click.command("replay")
@click.argument("id")
@click.option("--until", type=click.IntRange(min=1), metavar="SEQ", help="Stop after this entry.")
@json_option
@pass_context
def replay_command(context: Context, id: str, until: int | None, as_json: bool) -> None:
    """Replay a saga's log, entry by entry.

    Shows its status after each entry, and what the entry changed. With --json, prints the state after the last entry.
    """
    orchestrator = context.orchestrator
    handle = find_saga(orchestrator, id)
    entries = [entry for entry in handle.log() if until is None or entry.seq <= until]
    instance = orchestrator.engine.instance(handle.id)
    if as_json:
        print_json(state_json(handle.id, instance.replay(entries)))
        return
    print_records(("seq", "at", "what", "step", "status", "changed"), list(_moments(instance, entries)))


def _moments(instance: Instance, entries: Sequence[Entry]) -> Iterator[tuple[Any, ...]]:
    before = instance.replay([])
    for entry in entries:
        after = instance.replay([entry], before)
        changes = "; ".join(_changes(before, after, _concerned(entry, before, after)))
        yield entry.seq, moment(entry.at), entry.kind, entry.step, after.status, changes
        before = after


def _concerned(entry: Entry, before: State, after: State) -> Iterable[str]:
    """The steps that an entry may have changed: where the saga goes on as it did, the one that it is about."""
    event = entry.event
    if isinstance(event, AttemptEvent) and event.step in after.steps and before.rolling_back == after.rolling_back:
        return [event.step]
    return after.steps


def _changes(before: State, after: State, steps: Iterable[str]) -> Iterator[str]:
    """What one entry made of a state, in words."""
    for name in steps:
        yield from _step_changes(name, before.steps[name], after.steps[name])
    for word in ("paused", "rolling_back", "past_pivot"):
        if getattr(before, word) != getattr(after, word):
            yield f"{'' if getattr(after, word) else 'no longer '}{word.replace('_', ' ').replace('past ', 'past the ')}"
    if after.cancel_reason and not before.cancel_reason:
        yield f"{after.cancel_reason}; it waits for the pivot"
    if after.reason and after.reason != before.reason:
        yield f"reason: {after.reason}"


def _step_changes(name: str, before: StepState, after: StepState) -> Iterator[str]:
    if before.status is not after.status:
        yield f"{name}: {before.status} → {after.status}"
    if after.undo and not before.undo:
        yield f"undo of {name} is owed"
    elif after.undo and before.undo and before.undo.status is not after.undo.status:
        yield f"undo of {name}: {before.undo.status} → {after.undo.status}"
