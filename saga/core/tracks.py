"""Tracks: how the track of an action or an undo moves: the table of transitions, and what a track keeps of each event.

The part of the machine that looks at one track and nothing else.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

from saga.core.due import Due
from saga.core.events import (
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

TRANSITIONS: dict[tuple[StepStatus, str], StepStatus] = {
    (_P, "started"): _R,
    (_W, "started"): _R,
    (_R, "succeeded"): StepStatus.SUCCEEDED,
    (_R, "retry"): _W,
    (_R, "aborted"): StepStatus.ABORTED,
    (_R, "unknown"): StepStatus.UNKNOWN,
    (_R, "failed"): StepStatus.FAILED,
    (_R, "timed out"): _U,
    (_R, "lost"): _U,
    (_R, "interrupted"): _U,
    (_U, "started"): _R,
    (_U, "retry"): _W,
    (_U, "aborted"): StepStatus.ABORTED,
    (_U, "unknown"): StepStatus.UNKNOWN,
    (_U, "failed"): StepStatus.FAILED,
    (_W, "lost"): _W,
    (_W, "timed out"): _W,
    (_W, "interrupted"): _W,
    (_W, "rollback"): StepStatus.UNKNOWN,
    (_W, "rollback, no effect"): StepStatus.ABORTED,
    (_W, "retry requested"): _W,
    (_U, "retry requested"): _W,
    (StepStatus.ABORTED, "retry requested"): _W,
    (StepStatus.UNKNOWN, "retry requested"): _W,
    (StepStatus.FAILED, "retry requested"): _W,
    (StepStatus.ABORTED, "skipped"): StepStatus.SKIPPED,
    (StepStatus.UNKNOWN, "skipped"): StepStatus.SKIPPED,
    (StepStatus.FAILED, "skipped"): StepStatus.SKIPPED,
    (StepStatus.UNKNOWN, "cancelled in doubt"): StepStatus.ABORTED,
    (_R, "abandoned"): StepStatus.UNKNOWN,
    (_W, "abandoned"): StepStatus.UNKNOWN,
    (_U, "abandoned"): StepStatus.UNKNOWN,
    (_R, "abandoned, no effect"): StepStatus.ABORTED,
    (_W, "abandoned, no effect"): StepStatus.ABORTED,
    (_U, "abandoned, no effect"): StepStatus.ABORTED,
}
"""Status and what happens, to the next status. A waiting track loses its hold that way; only
after an interruption does an undecided one start again without its policy. Skips and requested retries reach ended tracks only where stuck."""

_T = TypeVar("_T", bound=Track)


_TRIGGERS: dict[type[Event], str] = {
    AttemptStarted: "started",
    AttemptSucceeded: "succeeded",
    AttemptTimedOut: "timed out",
    AttemptLost: "lost",
    AttemptInterrupted: "interrupted",
}


def trigger(event: AttemptEvent) -> str:
    """What an event is to the table of transitions."""
    return event.outcome if isinstance(event, AttemptFailed) else _TRIGGERS.get(type(event), "")


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
    safe = outline.steps[event.step].transactional and not event.undo
    if isinstance(event, AttemptFailed):
        certain = track.certain and not event.effect
        return evolve(track, status=status, again=Due.after(at, event.wait), held=event.held, certain=certain, deadline=None,
                       **_failure(track, event))  # fmt: skip
    if track.status is StepStatus.WAITING:
        return evolve(track, held=False)
    ended = trigger(event)
    error, error_type = (event.error, None) if isinstance(event, AttemptInterrupted) else _ended(ended, track)
    return evolve(
        track,
        status=status,
        ended=ended,
        error=error or "the attempt was interrupted",
        error_type=error_type,
        code=None,
        details=None,
        certain=track.certain and safe,
        losses=track.losses + (ended == "lost"),
        uncounted=track.uncounted + (ended == "interrupted"),
        deadline=None,
    )


def _ended(how: str, track: Track) -> tuple[str, str]:
    """What is said of an attempt that ended without a word, and the exception that retry policies see."""
    if how == "lost":
        return f"the worker was lost (worker {track.worker})", WorkerLost.__name__
    return "the attempt timed out", StepTimeout.__name__


def _failure(track: Track, event: AttemptFailed) -> dict[str, Any]:
    """What a track keeps of the failure; one without a word leaves what was known of the attempt before."""
    known = event if event.error else track
    return {"error": known.error, "error_type": known.error_type, "code": known.code, "details": known.details}


def fresh_budget(track: _T) -> _T:
    """A track that starts to count its attempts anew."""
    status = TRANSITIONS[track.status, "retry requested"]
    return evolve(track, status=status, uncounted=track.attempts, losses=0, began=None, again=None)


def left(track: _T, how: str) -> _T:
    """A track that nobody goes on with: of an attempt that runs, nobody will know how it ends."""
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
