"""Plan: what a step from one state to the next changes in the rows of ``work``.

The rows are a function of the state: a lane with a command has a row, free or owned, and no other lane has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.due import is_at_once
from saga.core.rows import Changes, Dispatch, Place
from saga.core.state import State
from saga.language.catalog import Catalog, watch
from saga.language.definition import Saga


def next_inline(before: Sequence[Command], after: Sequence[Command]) -> RunStep | None:
    """The attempt that the same worker may go on with: the only one that has become possible, and at once."""
    known = {command.lane: command for command in before}
    fresh = [command for command in after if not isinstance(command, Wait) and command != known.get(command.lane)]
    if len(fresh) != 1 or not isinstance(fresh[0], RunStep) or not is_at_once(fresh[0].due):
        return None
    return fresh[0]


def plan(
    catalog: Catalog,
    fingerprint: str,
    saga: Saga | None,
    state: State,
    before: Sequence[Command],
    after: Sequence[Command],
    kept: RunStep | None = None,
    token: UUID | None = None,
) -> Changes:
    """The changes that lead from the rows of one decision to those of the next.

    Args:
        before: the commands of the first decision. Lanes that have not moved may be left out here and in ``after``.
        saga: the definition, if this process has it.
        kept: the attempt that the writer goes on with itself, under ``token``.
    """
    changes = Changes(fingerprint, token, catalog.queue(None, "", False))
    old = {command.lane: command for command in before}
    new = {command.lane: command for command in after}
    changes.removed = [lane for lane in old if lane not in new]
    for lane, command in new.items():
        owned = command is kept or isinstance(command, Wait)
        was = old.get(lane)
        if command == was or (owned and isinstance(was, Wait)):
            continue
        place = place_of(catalog, saga, state, command, owned=owned)
        (changes.added if was is None else changes.moved).append(place)
    return changes


def place_of(catalog: Catalog, saga: Saga | None, state: State, command: Command, *, owned: bool = False) -> Place:
    """The row that a command stands for."""
    if isinstance(command, KeepWatch):
        default = catalog.queue(saga, "", False)
        return Place(command.lane, "", None, False, default, state.priority, command.due)
    assert isinstance(command, (RunStep, AskPolicy, Wait))
    ref = command.ref
    queue = catalog.queue(saga, ref.step, ref.undo) if saga else None
    job = saga.job(ref.step, ref.undo) if saga else None
    priority = state.priority if job is None or job.priority is None else job.priority
    place = Place(ref.lane, ref.step, None, ref.undo, queue, priority)
    if isinstance(command, AskPolicy):
        return replace(place, sent=saga is not None)
    if owned:
        assert saga is not None
        return replace(place, attempt=ref.attempt, owned=True, watch=watch(saga))
    assert isinstance(command, RunStep), "a lane that waits has an owner"
    # Who does not know the queue leaves the sending to the relay.
    return replace(place, attempt=ref.attempt, due=command.due, sent=is_at_once(command.due) and saga is not None)


def dispatches(saga_id: UUID, changes: Changes) -> list[Dispatch]:
    """The messages to send once the changes are committed."""
    return [
        Dispatch(saga_id, place.lane, place.queue, place.priority)
        for place in (*changes.added, *changes.moved)
        if place.sent and place.queue
    ]
