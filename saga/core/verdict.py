"""Verdict: what the end of an attempt means, and what follows. Pure: the retry policy's answer is passed in."""

from __future__ import annotations

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep
from saga.core.decision import watches_deadline
from saga.core.events import (
    AttemptEvent,
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    DeadlinePassed,
    Event,
)
from saga.core.outcome import Broken, Interruption, Report, Success
from saga.core.outline import Outline
from saga.core.ref import AttemptRef
from saga.core.state import State


def verdict(
    outline: Outline,
    state: State,
    ref: AttemptRef,
    ended: Success | Broken | Interruption,
    wait: float | None,
    *,
    hold: float = 0.0,
) -> AttemptEvent:
    """The event that says how an attempt ended and what follows.

    Args:
        wait: what the policy says of a failure: seconds to the next attempt; ``None`` when there is none.
        hold: the longest wait, in seconds, for which the worker would keep the lane.
    """
    if isinstance(ended, Success):
        return AttemptSucceeded(*ref, result=ended.result)
    if isinstance(ended, Interruption):
        return AttemptInterrupted(*ref, error=ended.reason)
    outcome, held = "retry", False
    if wait is None or not _goes_on(outline, state, ref):
        outcome, wait = failure_outcome(state, ref, effect=ended.effect), None
    else:
        held = 0 < wait <= hold and not state.halted
    error, *more = ended.said
    return AttemptFailed(*ref, outcome, error or "", ended.traceback, wait, held, ended.effect, *more)


def answer(
    outline: Outline, state: State, command: Command | None, wait: float | None, *, timeout: float, late: bool = False
) -> Event | None:
    """The event with which a worker that has taken a lane answers its command; ``None`` if there is nothing to say.

    Args:
        wait: the policy's answer to an attempt that did not say how it ended.
        timeout: of what is started, in seconds.
        late: the saga's own deadline kept the answer to this state out of the log.
    """
    if isinstance(command, KeepWatch) or (late and watches_deadline(state)):
        return DeadlinePassed()
    if isinstance(command, RunStep):
        return AttemptStarted(*command.ref, timeout=timeout)
    if not isinstance(command, AskPolicy):
        return None
    ref = command.ref
    track = state.track(ref.step, ref.undo)
    if track.ended == "interrupted" and not state.halted and _goes_on(outline, state, ref):
        return AttemptStarted(*ref.next, timeout=timeout)
    effect = ref.undo or not outline.step(ref.step).transactional
    return verdict(outline, state, ref, Broken(Report(track.error, track.error_type), effect), wait)


def failure_outcome(state: State, ref: AttemptRef, *, effect: bool) -> str:
    """The word for a failure that ends the track: ``failed`` for an undo, ``aborted`` or ``unknown`` for an action."""
    if ref.undo:
        return "failed"
    return "unknown" if effect or not state.steps[ref.step].certain else "aborted"


def _goes_on(outline: Outline, state: State, ref: AttemptRef) -> bool:
    """Whether the step's scope still goes the way of the attempt: in a rollback no action is tried again."""
    return ref.undo or not state.scopes[outline.step(ref.step).scope].backward
