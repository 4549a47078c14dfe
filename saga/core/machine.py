"""The machine: what a saga's log means, and what is to be done next. Pure: no I/O, no clock.

Rules
-----
1. ``replay`` makes a ``State`` of the entries of a log; ``decide`` reads from a state what is to be done. Both know only
   the outline and the entries, so the same log gives the same state everywhere.
2. Every step has a *track* for its action and, once it owes one, a track for its undo. Both follow ``TRANSITIONS``; an
   event that the table does not list for the track's status is a duplicate or comes too late, and changes nothing.
3. A step that fails for good is ``aborted`` when no attempt can have had an effect, else ``unknown``; an unknown one
   is undone as if it had succeeded.
4. Before the pivot a failure rolls back. The pivot rolls back only when it was definitely aborted; in doubt it is
   stuck. After the pivot a failure is stuck: there is no way back. A saga may ask a person about doubts of some steps, or
   about any failure: then it is stuck, and starts nothing new, until that person says forward or back.
5. A rollback starts nothing new and first awaits every open action; a step that waits for its retry has failed. Then
   what is owed is undone in reverse: a lane from its end, a fork's branches side by side. If a person is asked about the
   doubt of a step, neither the step nor what came before it is undone until that person says whether it happened.
6. A saga is ``compensated`` only when nothing is owed. An undo that fails for good is stuck. An operator may abandon a saga
   that is not finished: then no entry changes it any more, and what is owed stays owed.
7. Entries of independent lanes commute; only the recorded reason tells which came first.

Theory of operation
-------------------
A step goes through ``pending``, ``running`` and an end, with ``waiting`` between two attempts. After a timeout, a lost
worker or an interruption, an attempt is ``undecided``: the process that wrote this may not have the definition, so it
does not say what follows. The attempt stays so, also while the saga is paused or rolls back, until a claimer settles
it. The counts of a scope give the status of the saga without a walk over its steps. How ``decide`` comes from tracks to
commands, and why an entry moves few lanes, is told in ``decision``; the table, and what a track keeps, are in
``tracks``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from saga.core import decision
from saga.core.commands import Command
from saga.core.due import Due
from saga.core.events import (
    Abandoned,
    AttemptEvent,
    AttemptStarted,
    CancelRequested,
    CompensateRequested,
    DeadlinePassed,
    Entry,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    SagaStarted,
    StepSkipped,
)
from saga.core.outline import Outline
from saga.core.scope import OUTERMOST
from saga.core.state import FRESH, NOTHING_YET, State, Status, StepState, StepStatus, Track
from saga.core.tracks import TRANSITIONS, Trigger, concerns, evolve, followed, fresh_budget, left, moved
from saga.errors import Cause


class Defined(Protocol):
    """A saga or its outline."""

    @property
    def outline(self) -> Outline: ...


def replay(definition: Defined, entries: Iterable[Entry], state: State | None = None) -> State:
    """The state that a log amounts to.

    Args:
        definition: the saga, or the outline that is stored with the log.
        entries: the log's entries in order.
        state: go on from here, if given; it is left as it is.
    """
    outline = definition.outline
    state = beginning(outline, state)
    extend(outline, state, entries)
    return state


def beginning(outline: Outline, state: State | None = None) -> State:
    """A state to be extended: a copy of the one to go on from, or that of a log without entries."""
    return state.copy() if state else State(dict.fromkeys(outline.steps, NOTHING_YET), dict(outline.beginning))


def extend(outline: Outline, state: State, entries: Iterable[Entry]) -> None:
    """Take entries into a state that no other code has seen, and find where its lanes stand then."""
    for entry in entries:
        course = None if state.lanes is None else decision.course(outline, state, entry.event)
        _apply(outline, state, entry)
        state.seq, state.at = entry.seq, entry.at
        if course is not None:
            decision.move(outline, state, entry.event, course)
    if state.lanes is None:
        state.lanes = decision.find_lanes(outline, state)


def decide(definition: Defined, state: State) -> tuple[Command, ...]:
    """What is to be done next: at most one command for each lane, none for one that waits for others."""
    return tuple(decision.commands(definition.outline, state))


def follow(
    definition: Defined, state: State, entries: Sequence[Entry]
) -> tuple[State, Sequence[Command], Sequence[Command]]:
    """Go on by one entry or several, from a state that is left as it is.

    Returns:
        the state after them, and the commands before and after them, those of lanes that they have not moved left out.
    """
    outline = definition.outline
    after = replay(outline, entries, state)
    moved = None if after.lanes is None else after.lanes.moved
    return after, tuple(decision.commands(outline, state, moved)), tuple(decision.commands(outline, after, moved))


# --- what happened ----------------------------------------------------------------------------------------------------


def _apply(outline: Outline, state: State, entry: Entry) -> None:  # noqa: C901 - one branch for each kind of event
    event = entry.event
    if state.abandoned:
        return  # whatever comes is evidence
    if isinstance(event, AttemptEvent):
        if event.step in state.steps:
            _apply_attempt(outline, state, event, entry)
    elif isinstance(event, SagaStarted):
        _apply_start(state, event, entry.at)
    elif isinstance(event, (CancelRequested, DeadlinePassed)):
        _apply_cancel(outline, state, event)
    elif isinstance(event, CompensateRequested):
        if state.status is Status.COMPLETED and not state.past_pivot:
            state.paused = False
            _roll_back(outline, state, OUTERMOST, _words("compensation requested", event))
    elif isinstance(event, Paused):
        state.paused = not state.status.terminal
        _release_held(state)
    elif isinstance(event, Resumed):
        state.paused = False
    elif isinstance(event, RetryRequested):
        _apply_retry(outline, state)
    elif isinstance(event, StepSkipped):
        _apply_skip(outline, state, event)
    elif isinstance(event, Abandoned):
        _apply_abandon(outline, state, event)


def _apply_start(state: State, event: SagaStarted, at: datetime | None) -> None:
    if state.seq:
        return
    state.input, state.priority, state.trace = event.input, event.priority, event.trace
    state.opening, state.closing = Due.after(at, event.delay), Due.after(at, event.deadline)
    state.asks, state.ask_first = frozenset(event.asks or ()), event.ask_first


def _apply_attempt(outline: Outline, state: State, event: AttemptEvent, entry: Entry) -> None:
    if event.undo and state.steps[event.step].undo is None:
        return  # an undo that nobody owes
    track = state.track(event.step, event.undo)
    status = moved(track.status, event)
    if status is None or not concerns(track, event):
        return
    _set(outline, state, event.step, event.undo, followed(outline, track, status, event, entry))
    if isinstance(event, AttemptStarted):
        state.opening = None
    elif event.undo:
        _after_undo(state, event.step, status)
    else:
        _after_action(outline, state, event.step, status)


def _after_action(outline: Outline, state: State, name: str, status: StepStatus) -> None:
    step = outline.step(name)
    if status is StepStatus.SUCCEEDED:
        if step.pivot:
            state.past_pivot, state.cancel_reason = True, None
        return
    backward = state.scopes[step.scope].backward
    if status is StepStatus.WAITING and state.asking:
        _release_held(state)
    elif status in (StepStatus.ABORTED, StepStatus.UNKNOWN) and not backward:
        _action_failed(outline, state, name, status)
    elif status is StepStatus.UNKNOWN:
        _ask_about(outline, state, name)
    elif status is StepStatus.WAITING and backward:
        _give_up(outline, state, name)
    elif status is StepStatus.WAITING and state.cancel_reason and state.steps[name].certain:
        _roll_back(outline, state, OUTERMOST, state.cancel_reason)


def _action_failed(outline: Outline, state: State, name: str, status: StepStatus) -> None:
    step = outline.step(name)
    error = f"{name}: {state.steps[name].error}"
    if step.after_pivot:
        state.stuck_on[name, False] = error
    elif step.pivot and status is StepStatus.UNKNOWN:
        state.stuck_on[name, False] = f"pivot in doubt: {error}"
    elif status is StepStatus.UNKNOWN and step.name in state.asks:
        _ask_about(outline, state, name)
        _release_held(state)
    elif state.ask_first and not state.cancel_reason:
        state.stuck_on[name, False] = f"forward or back: {error}"
        _release_held(state)
    else:
        _roll_back(outline, state, step.scope, error, Cause.of(name, False, state.steps[name]))


def _ask_about(outline: Outline, state: State, name: str) -> None:
    """Leave it to a person whether a step of unknown outcome has happened, if its definition says so."""
    if outline.step(name).name in state.asks:
        state.stuck_on[name, False] = f"in doubt: {name}: {state.steps[name].error}"


def _after_undo(state: State, name: str, status: StepStatus) -> None:
    if status is StepStatus.FAILED:
        state.stuck_on[name, True] = f"undo of {name}: {state.track(name, True).error}"


def _apply_cancel(outline: Outline, state: State, event: CancelRequested | DeadlinePassed) -> None:
    deadline = isinstance(event, DeadlinePassed)
    reason = "the saga's deadline passed" if isinstance(event, DeadlinePassed) else _words("cancelled", event)
    if state.past_pivot or state.status is Status.COMPLETED:
        return
    if state.rolling_back:
        if not deadline:
            _did_not_happen(outline, state)
        return
    pivot = next((name for name, step in outline.steps.items() if step.pivot), None)
    if pivot and state.steps[pivot].attempts and _pivot_stands(state, pivot):
        state.cancel_reason = reason
        return
    if state.stuck_on and deadline:
        return
    cause = None if (pivot, False) in state.stuck_on else state.cause
    _did_not_happen(outline, state)
    state.stuck_on.clear()
    state.paused = False
    _roll_back(outline, state, OUTERMOST, reason, cause)


def _did_not_happen(outline: Outline, state: State) -> None:
    """What a cancel says of the steps in doubt: they had no effect, so nothing of theirs is undone."""
    for name, undo in list(state.stuck_on):
        step, defined = state.steps[name], outline.step(name)
        doubted = defined.name in state.asks or defined.pivot
        if not undo and doubted and step.status is StepStatus.UNKNOWN:
            status = TRANSITIONS[step.status, Trigger.CANCELLED_IN_DOUBT]
            _set(outline, state, name, False, evolve(_disowned(outline, state, name), status=status))
            del state.stuck_on[name, False]


def _disowned(outline: Outline, state: State, name: str) -> StepState:
    """A step that no longer owes its undo, which has not begun."""
    step = state.steps[name]
    _count(outline, state, outline.step(name).scope, owed=-_unsettled(step.undo))
    return evolve(step, undo=None)


def _pivot_stands(state: State, pivot: str) -> bool:
    """Whether the pivot, once started, may still succeed or have succeeded."""
    track = state.steps[pivot]
    return track.status is StepStatus.RUNNING or (not track.over and not track.certain)


def _roll_back(outline: Outline, state: State, scope: str, reason: str, cause: Cause | None = None) -> None:
    """Turn a scope back, with those inside it; for a cancel that waits for the pivot's outcome the whole saga."""
    if state.cancel_reason:
        scope, reason, cause = OUTERMOST, state.cancel_reason, None
    state.cancel_reason = None
    turned = {inner for inner, around in outline.scopes.items() if scope in around}
    for inner in turned:
        state.scopes[inner] = state.scopes[inner].turned_back(reason, cause)
    for name, step in list(state.steps.items()):
        if outline.step(name).scope not in turned:
            continue
        if step.status is StepStatus.WAITING:
            _give_up(outline, state, name)
        else:
            _owe(outline, state, name)


def _give_up(outline: Outline, state: State, name: str) -> None:
    step = state.steps[name]
    status = TRANSITIONS[step.status, Trigger.ROLLBACK_NO_EFFECT if step.certain else Trigger.ROLLBACK]
    _set(outline, state, name, False, evolve(step, status=status, again=None, held=False))
    if status is StepStatus.UNKNOWN:
        _ask_about(outline, state, name)


def _apply_retry(outline: Outline, state: State) -> None:
    for name, step in list(state.steps.items()):
        backward = state.scopes[outline.step(name).scope].backward
        if not backward and (step.between_attempts or (name, False) in state.stuck_on):
            _set(outline, state, name, False, fresh_budget(step))
        if step.undo and (step.undo.between_attempts or (name, True) in state.stuck_on):
            _set(outline, state, name, True, fresh_budget(step.undo))
    state.stuck_on = {
        (name, undo): words
        for (name, undo), words in state.stuck_on.items()
        if not undo and state.scopes[outline.step(name).scope].backward
    }


def _apply_skip(outline: Outline, state: State, event: StepSkipped) -> None:
    if state.stuck_on.pop((event.step, event.undo), None) is None:
        return
    track = state.track(event.step, event.undo)
    status = TRANSITIONS[track.status, Trigger.SKIPPED]
    if event.undo:
        state.skipped += (event.step,)
        _set(outline, state, event.step, True, evolve(track, status=status))
        return
    step = state.steps[event.step] if event.undo_later else _disowned(outline, state, event.step)
    step = evolve(step, status=status, result=event.result, undo_later=event.undo_later)
    _set(outline, state, event.step, False, step)
    if outline.step(event.step).pivot:
        state.past_pivot, state.cancel_reason = True, None


def _apply_abandon(outline: Outline, state: State, event: Abandoned) -> None:
    if state.status.terminal:
        return
    before = f"; before that: {state.reason}" if state.reason else ""
    state.scopes[OUTERMOST] = state.scopes[OUTERMOST]._replace(cause=state.cause)
    state.abandon_reason = _words("abandoned", event) + before
    state.stuck_on.clear()
    state.paused, state.cancel_reason, state.opening = False, None, None
    for name, step in list(state.steps.items()):
        if (step.status, Trigger.ABANDONED) in TRANSITIONS:
            safe = step.certain and (step.status is not StepStatus.RUNNING or outline.step(name).transactional)
            _set(outline, state, name, False, left(step, Trigger.ABANDONED_NO_EFFECT if safe else Trigger.ABANDONED))
        if step.undo and (step.undo.status, Trigger.ABANDONED) in TRANSITIONS:
            _set(outline, state, name, True, left(step.undo, Trigger.ABANDONED))
        if not state.past_pivot:
            _owe(outline, state, name)


def _release_held(state: State) -> None:
    for name, step in state.steps.items():
        if step.held:
            state.steps[name] = evolve(step, held=False)
        elif step.undo and step.undo.held:
            state.steps[name] = evolve(step, undo=evolve(step.undo, held=False))


# --- the counts -------------------------------------------------------------------------------------------------------


def _set(outline: Outline, state: State, name: str, undo: bool, track: Track) -> None:
    """Put a track in its place and keep the counts right."""
    old = state.steps[name]
    scope = outline.step(name).scope
    if undo:
        _count(outline, state, scope, owed=_unsettled(track) - _unsettled(old.undo))
        state.steps[name] = evolve(old, undo=track)
        return
    assert isinstance(track, StepState)
    _count(outline, state, scope, track.open - old.open, old.settled - track.settled)
    state.steps[name] = track
    if state.scopes[scope].backward:
        _owe(outline, state, name)


def _count(outline: Outline, state: State, scope: str, opened: int = 0, left: int = 0, owed: int = 0) -> None:
    """Note that so many more are open, left and owed in a scope, and so in those that it is in."""
    if opened or left or owed:
        for each in outline.scopes[scope]:
            state.scopes[each] = state.scopes[each].counted(opened, left, owed)


def _owe(outline: Outline, state: State, name: str) -> None:
    """Note the undo that a step owes now, if it owes one."""
    step = state.steps[name]
    if step.undo is None and outline.step(name).compensate and _has_effect(step):
        state.steps[name] = evolve(step, undo=FRESH)
        _count(outline, state, outline.step(name).scope, owed=1)


def _has_effect(step: StepState) -> bool:
    if step.status is StepStatus.SKIPPED:
        return step.undo_later
    return step.status is StepStatus.SUCCEEDED or step.status is StepStatus.UNKNOWN


def _words(what: str, request: Request) -> str:
    return what + (f" by {request.by}" if request.by else "") + (f": {request.reason}" if request.reason else "")


def _unsettled(undo: Track | None) -> int:
    return int(undo is not None and not undo.settled)


__all__ = ["TRANSITIONS", "Defined", "beginning", "decide", "extend", "follow", "replay"]
