"""Tracks: how the track of an action or an undo moves: the table of transitions, and what a track keeps of each event.

The part of the machine that looks at one track and nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from saga.core.due import Due
from saga.core.events import (
    OUTCOMES,
    AttemptEvent,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    Entry,
    Event,
)
from saga.core.outline import Outline
from saga.core.state import StepStatus, Track
from saga.errors import StepTimeout, WorkerLost

_P, _R, _W, _U = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.WAITING, StepStatus.UNDECIDED


class Trigger(StrEnum):
    """What moves a track: the outcomes of failures by their words, the other events, and what an operator does."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    RETRY = "retry"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    LOST = "lost"
    INTERRUPTED = "interrupted"
    ROLLBACK = "rollback"
    ROLLBACK_NO_EFFECT = "rollback, no effect"
    RETRY_REQUESTED = "retry requested"
    SKIPPED = "skipped"
    CANCELLED_IN_DOUBT = "cancelled in doubt"
    ABANDONED = "abandoned"
    ABANDONED_NO_EFFECT = "abandoned, no effect"


TRANSITIONS: dict[tuple[StepStatus, Trigger], StepStatus] = {
    (_P, Trigger.STARTED): _R,
    (_W, Trigger.STARTED): _R,
    (_R, Trigger.SUCCEEDED): StepStatus.SUCCEEDED,
    (_R, Trigger.RETRY): _W,
    (_R, Trigger.ABORTED): StepStatus.ABORTED,
    (_R, Trigger.UNKNOWN): StepStatus.UNKNOWN,
    (_R, Trigger.FAILED): StepStatus.FAILED,
    (_R, Trigger.TIMED_OUT): _U,
    (_R, Trigger.LOST): _U,
    (_R, Trigger.INTERRUPTED): _U,
    (_U, Trigger.STARTED): _R,
    (_U, Trigger.RETRY): _W,
    (_U, Trigger.ABORTED): StepStatus.ABORTED,
    (_U, Trigger.UNKNOWN): StepStatus.UNKNOWN,
    (_U, Trigger.FAILED): StepStatus.FAILED,
    (_W, Trigger.LOST): _W,
    (_W, Trigger.TIMED_OUT): _W,
    (_W, Trigger.INTERRUPTED): _W,
    (_W, Trigger.ROLLBACK): StepStatus.UNKNOWN,
    (_W, Trigger.ROLLBACK_NO_EFFECT): StepStatus.ABORTED,
    (_W, Trigger.RETRY_REQUESTED): _W,
    (_U, Trigger.RETRY_REQUESTED): _W,
    (StepStatus.ABORTED, Trigger.RETRY_REQUESTED): _W,
    (StepStatus.UNKNOWN, Trigger.RETRY_REQUESTED): _W,
    (StepStatus.FAILED, Trigger.RETRY_REQUESTED): _W,
    (StepStatus.ABORTED, Trigger.SKIPPED): StepStatus.SKIPPED,
    (StepStatus.UNKNOWN, Trigger.SKIPPED): StepStatus.SKIPPED,
    (StepStatus.FAILED, Trigger.SKIPPED): StepStatus.SKIPPED,
    (StepStatus.UNKNOWN, Trigger.CANCELLED_IN_DOUBT): StepStatus.ABORTED,
    (_R, Trigger.ABANDONED): StepStatus.UNKNOWN,
    (_W, Trigger.ABANDONED): StepStatus.UNKNOWN,
    (_U, Trigger.ABANDONED): StepStatus.UNKNOWN,
    (_R, Trigger.ABANDONED_NO_EFFECT): StepStatus.ABORTED,
    (_W, Trigger.ABANDONED_NO_EFFECT): StepStatus.ABORTED,
    (_U, Trigger.ABANDONED_NO_EFFECT): StepStatus.ABORTED,
}
"""Status and what happens, to the next status. A waiting track loses its hold that way; only
after an interruption does an undecided one start again without its policy. Skips and requested retries reach ended tracks only where stuck."""

_T = TypeVar("_T", bound=Track)


_TRIGGERS: dict[type[Event], Trigger] = {
    AttemptStarted: Trigger.STARTED,
    AttemptSucceeded: Trigger.SUCCEEDED,
    AttemptTimedOut: Trigger.TIMED_OUT,
    AttemptLost: Trigger.LOST,
    AttemptInterrupted: Trigger.INTERRUPTED,
}
_OUTCOMES: dict[str, Trigger] = {outcome: Trigger(outcome) for outcome in OUTCOMES}


def moved(status: StepStatus, event: AttemptEvent) -> StepStatus | None:
    """The status to which an event brings a track; ``None`` where the table does not list it: it changes nothing."""
    trigger = _OUTCOMES[event.outcome] if isinstance(event, AttemptFailed) else _TRIGGERS.get(type(event))
    return TRANSITIONS.get((status, trigger)) if trigger else None


def concerns(track: Track, event: AttemptEvent) -> bool:
    """Whether the event is about the attempt that the track stands at."""
    if isinstance(event, AttemptStarted):
        after_interruption = track.status is not StepStatus.UNDECIDED or track.ended == "interrupted"
        return event.attempt == track.attempts + 1 and after_interruption
    if track.status is StepStatus.WAITING and not track.held:
        return False
    return event.attempt == track.attempts


def followed(outline: Outline, track: _T, status: StepStatus, event: AttemptEvent, entry: Entry) -> _T:
    """A track after an event about the attempt that it stands at."""
    at = entry.at
    if isinstance(event, AttemptStarted):
        deadline = None if at is None or event.timeout is None else at + timedelta(seconds=event.timeout)
        return evolve(track, status=status, attempts=event.attempt, deadline=deadline, began=track.began or at,
                       again=None, held=False, worker=entry.worker)  # fmt: skip
    if isinstance(event, AttemptSucceeded):
        # What an earlier attempt failed of stays in the log.
        return evolve(track, status=status, result=event.result, deadline=None, worker=None, error=None,
                      error_type=None, code=None, details=None)  # fmt: skip
    safe = outline.step(event.step).transactional and not event.undo
    if isinstance(event, AttemptFailed):
        certain = track.certain and not event.effect
        return evolve(track, status=status, again=Due.after(at, event.wait), held=event.held, certain=certain, deadline=None,
                       **_failure(track, event))  # fmt: skip
    if track.status is StepStatus.WAITING:
        return evolve(track, held=False)
    ended = _TRIGGERS[type(event)]
    error, error_type = (event.error, None) if isinstance(event, AttemptInterrupted) else _ended(ended, track)
    return evolve(
        track,
        status=status,
        ended=ended.value,
        error=error or "the attempt was interrupted",
        error_type=error_type,
        code=None,
        details=None,
        certain=track.certain and safe,
        losses=track.losses + (ended is Trigger.LOST),
        uncounted=track.uncounted + (ended is Trigger.INTERRUPTED),
        deadline=None,
    )


def _ended(how: Trigger, track: Track) -> tuple[str, str]:
    """What the log says of an attempt that did not tell how it ended, and the exception that retry policies see."""
    if how is Trigger.LOST:
        return f"the worker was lost (worker {track.worker})", WorkerLost.__name__
    return "the attempt timed out", StepTimeout.__name__


def _failure(track: Track, event: AttemptFailed) -> dict[str, Any]:
    """What a track keeps of the failure. A failure without a text leaves what the track knew of the attempt before."""
    known = event if event.error else track
    return {"error": known.error, "error_type": known.error_type, "code": known.code, "details": known.details}


def fresh_budget(track: _T) -> _T:
    """A track that starts to count its attempts anew."""
    status = TRANSITIONS[track.status, Trigger.RETRY_REQUESTED]
    return evolve(track, status=status, uncounted=track.attempts, losses=0, began=None, again=None)


def left(track: _T, how: Trigger) -> _T:
    """A track that is given up. If an attempt of it runs, nobody will know how it ends."""
    status = TRANSITIONS[track.status, how]
    changes: dict[str, Any] = {"again": None, "held": False, "deadline": None}
    if track.status is _R:
        changes |= {"error": "it was abandoned while it ran", "error_type": None, "code": None, "details": None}
    return evolve(track, status=status, **changes)


def evolve(track: _T, **changes: Any) -> _T:
    """``dataclasses.replace`` for tracks, ten times as fast: it is called for every entry of every log."""
    new = object.__new__(type(track))
    new.__dict__.update(track.__dict__)
    new.__dict__.update(changes)
    return new
